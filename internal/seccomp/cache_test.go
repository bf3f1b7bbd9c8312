package seccomp

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func sample() *spec.Seccomp {
	p := Default([]string{"CAP_SYS_CHROOT"})
	p.Syscalls = append(p.Syscalls, spec.SeccompRule{Names: []string{"raed\nline"}, Action: spec.ActAllow})
	return p
}

func TestCached(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	want, err := Compile(sample(), AMD64)
	if err != nil || len(want.Warnings) != 1 {
		t.Fatal(want.Warnings, err)
	}
	for range 3 {
		got, err := Cached(dir, sample(), AMD64)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, %v", got, err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	path := filepath.Join(dir, files[0].Name())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(profileKey(sample(), AMD64))
	if p, ok := decode(whole, key); !ok || !reflect.DeepEqual(p, want) {
		t.Fatal("the file is not the program")
	}
	// A file of which a byte is wrong or missing is made again.
	for _, broken := range [][]byte{nil, whole[:len(whole)-1], whole[:headerSize], append([]byte("x"), whole[1:]...),
		append(append([]byte{}, whole...), 0), append(whole[:500:500], append([]byte{whole[500] ^ 1}, whole[501:]...)...)} {
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Cached(dir, sample(), AMD64)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, %v", got, err)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(whole) {
			t.Fatalf("%d bytes, %v", len(now), err)
		}
	}
}

// A program is taken from no file that others could have written, and from no file of
// another profile.
func TestCacheIsNotTrustedBlindly(t *testing.T) {
	dir := t.TempDir()
	open := &spec.Seccomp{DefaultAction: spec.ActAllow}
	openKey := sha256.Sum256(profileKey(open, AMD64))
	strictKey := sha256.Sum256(profileKey(sample(), AMD64))
	openProg, err := Compile(open, AMD64)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%x", strictKey))
	check := func(what string) {
		t.Helper()
		got, err := Cached(dir, sample(), AMD64)
		if err != nil || len(got.Insns) == len(openProg.Insns) {
			t.Errorf("%s: %d instructions, %v", what, len(got.Insns), err)
		}
		os.RemoveAll(path)
	}
	write := func(key [32]byte, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, encode(&openProg, key), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(openKey, 0o600)
	check("another profile's file")
	write(strictKey, 0o620)
	check("a file that the group can write")
	write(strictKey, 0o600)
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 1234, 1234); err != nil {
			t.Fatal(err)
		}
		check("somebody else's file")
		write(strictKey, 0o600)
	}
	if err := os.Rename(path, path+".real"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path+".real", path); err != nil {
		t.Fatal(err)
	}
	check("a symbolic link")
}

func TestCacheInvalid(t *testing.T) {
	dir := t.TempDir()
	if _, err := Cached(dir, &spec.Seccomp{}, AMD64); !errs.Is(err, errs.Invalid) {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Fatal(files, err)
	}
	// Without a place for files it is Compile.
	if p, err := Cached("/proc/none", sample(), AMD64); err != nil || len(p.Insns) == 0 {
		t.Fatal(err)
	}
}

func TestDefaultCached(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for _, host := range hosts {
		for _, abis := range [][]spec.SeccompArch{nil, {spec.ArchX86}} {
			for _, caps := range [][]string{nil, {"CAP_CHOWN", "CAP_SYS_ADMIN"}, {"CAP_SYS_ADMIN"}, strings.Fields(askedCaps)} {
				want, err := Compile(Default(caps, abis...), host)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					got, err := DefaultCached(dir, caps, host, abis...)
					if err != nil || !reflect.DeepEqual(got, want) {
						t.Fatal(host, caps, err)
					}
				}
				seen[string(defaultKey(caps, host, abis))] = true
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 12 || len(seen) != 12 {
		t.Fatalf("%d files and %d keys for 12 different programs, %v", len(files), len(seen), err)
	}
	if key := string(defaultKey([]string{"CAP_KILL", "CAP_BPF"}, ARM64, []spec.SeccompArch{spec.ArchARM})); key !=
		"corten seccomp program\nformat 1\nhost arm64\ndefault profile 1\ncap CAP_BPF\narch \"SCMP_ARCH_ARM\"\n" {
		t.Fatal(key)
	}
}

// Every part of a profile that the program depends on is in its key.
func TestProfileKey(t *testing.T) {
	one, two := uint(1), uint(2)
	rule := func(r spec.SeccompRule) spec.Seccomp {
		return spec.Seccomp{DefaultAction: spec.ActAllow, Syscalls: []spec.SeccompRule{r}}
	}
	keys := map[string]int{}
	profiles := []spec.Seccomp{
		{}, {DefaultAction: spec.ActAllow}, {DefaultAction: spec.ActErrno, DefaultErrnoRet: &one},
		{DefaultAction: spec.ActErrno, DefaultErrnoRet: &two}, {DefaultAction: spec.ActErrno},
		{Flags: []spec.SeccompFlag{}}, {Flags: []spec.SeccompFlag{spec.FlagLog}}, {Architectures: []spec.SeccompArch{spec.ArchX86}},
		rule(spec.SeccompRule{}), rule(spec.SeccompRule{Action: spec.ActTrace}), rule(spec.SeccompRule{Action: spec.ActTrace, ErrnoRet: &one}),
		rule(spec.SeccompRule{Names: []string{"a", "b"}}), rule(spec.SeccompRule{Names: []string{"a\"\nname \"b"}}),
		rule(spec.SeccompRule{Args: []spec.SeccompArg{{Index: 1}}}), rule(spec.SeccompRule{Args: []spec.SeccompArg{{Value: 1}}}),
		rule(spec.SeccompRule{Args: []spec.SeccompArg{{ValueTwo: 1}}}), rule(spec.SeccompRule{Args: []spec.SeccompArg{{Op: spec.OpLess}}}),
	}
	for i := range profiles {
		for _, host := range hosts {
			keys[string(profileKey(&profiles[i], host))]++
		}
	}
	if len(keys) != 2*len(profiles) {
		t.Fatalf("%d keys for %d", len(keys), 2*len(profiles))
	}
}

// Many at a time, from nothing and over broken files: all get the program.
func TestCacheConcurrently(t *testing.T) {
	dir := t.TempDir()
	want, err := Compile(Default(nil), Host)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256(defaultKey(nil, Host, nil))))
	for range 50 {
		os.WriteFile(path, []byte("broken"), 0o600)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if got, err := DefaultCached(dir, nil, Host); err != nil || !reflect.DeepEqual(got, want) {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
}

// The golden file guards the versions in the keys: a compiler or a default profile that
// came out differently under the same version would meet the old programs in the caches of
// hosts.
func TestVersions(t *testing.T) {
	var b strings.Builder
	docker, err := os.ReadFile("testdata/docker.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts {
		user, err := spec.ParseSeccomp(docker, spec.SeccompHost{Arch: host.String(), Kernel: "6.1.0"})
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range []*spec.Seccomp{Default(nil), Default(strings.Fields(askedCaps), spec.ArchX86, spec.ArchARM), user} {
			prog, err := Compile(p, host)
			if err != nil {
				t.Fatal(err)
			}
			version := fmt.Sprintf("format %d default %d", formatVersion, DefaultVersion)
			if i == 2 {
				version = fmt.Sprintf("format %d", formatVersion)
			}
			fmt.Fprintf(&b, "%s %s profile %d: %d instructions, %x\n", version, host, i, len(prog.Insns), sha256.Sum256(encode(&prog, [32]byte{})))
		}
	}
	t.Log("raise DefaultVersion if the profile changed or formatVersion if the compiler did, then -update")
	golden(t, "testdata/versions.txt", []byte(b.String()))
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(Default(nil), Host); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	dir, p := b.TempDir(), Default(nil)
	for b.Loop() {
		if _, err := Cached(dir, p, Host); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDefaultCached(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		if _, err := DefaultCached(dir, nil, Host); err != nil {
			b.Fatal(err)
		}
	}
}
