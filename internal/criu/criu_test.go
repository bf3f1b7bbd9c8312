package criu

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/spec"
)

// A request as criu's own parser has it: criu_req with criu_opts.
func TestRequest(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	r := Request{Type: Dump, Of: Of{PID: 300}, Images: dir, Log: "l", External: []string{"mnt[/a]:m0"}, Allow: Allow{LeaveRunning: true, TCP: true},
		Talk: Talk{Stage: func(string, int, *os.File) error { return nil }}}
	numbers, texts := map[uint64]uint64{}, map[uint64]string{}
	err = fields(r.message(), func(f, n uint64, _ int, text []byte) {
		if f == 1 && n != uint64(Dump) || f > 2 {
			t.Errorf("field %d is %d", f, n)
		}
		if f == 2 {
			_ = fields(text, func(f, n uint64, kind int, text []byte) {
				if kind == 0 {
					numbers[f] = n
				} else {
					texts[f] = string(text)
				}
			})
		}
	})
	if err != nil || numbers[1] != uint64(dir.Fd()) || numbers[2] != 300 || numbers[3] != 1 || numbers[5] != 1 || numbers[12] != 1 || texts[10] != "l" || texts[37] != "mnt[/a]:m0" {
		t.Errorf("%v, %v, %v", err, numbers, texts)
	}
	if _, there := numbers[26]; there {
		t.Error("a dump is no sibling")
	}
}

func TestAnswer(t *testing.T) {
	var in, m message
	in.text(1, "post-dump")
	in.number(2, 77)
	m.number(1, int64(notify))
	m.flag(2, true)
	m.part(5, in)
	a, err := read(m)
	if err != nil || a.kind != notify || !a.good || a.stage != "post-dump" || a.pid != 77 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := read([]byte{0x2a, 0x7f, 1}); err == nil {
		t.Error("a field that is longer than its message was read")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{8, 6, 16, 1})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = read(b) })
}

func TestDivide(t *testing.T) {
	mounts := []Mount{
		{At: "/", Type: "overlay"}, {At: "/dev", Type: "tmpfs", Root: "/"}, {At: "/dev/shm", Type: "tmpfs", Root: "/"}, {At: "/proc", Type: "proc"},
		{At: "/proc/keys", Type: "tmpfs", Root: "/null"}, {At: "/sys/firmware", Type: "tmpfs", Root: "/"}, {At: "/sys/firmware", Type: "tmpfs", Root: "/"},
		{At: "/sys/fs/cgroup/cpu", Type: "cgroup", Groups: "cpu,cpuacct"}, {At: "/d", Type: "ext4", Root: "/x"}, {At: "/d/below", Type: "ext4"},
		{At: "/d/own", Type: "tmpfs", Root: "/"}, {At: "/d/own/sub", Type: "tmpfs", Root: "/"}, {At: "/mine", Type: "tmpfs", Root: "/"},
	}
	got := Divide(mounts, []string{"/dev", "/d"}, []string{"/proc/keys", "/sys/firmware"}, []string{"/proc", "/dev/shm", "/d/own"})
	want := []Foreign{{At: "/dev", Kind: Shown}, {At: "/proc/keys", Kind: Device}, {At: "/sys/firmware", Kind: Empty},
		{At: "/sys/fs/cgroup/cpu", Kind: Group, Groups: "cpu,cpuacct"}, {At: "/d", Kind: Shown}, {At: "/d/below", Kind: Shown}}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if list := External(got[:2]); !slices.Equal(list, []string{"mnt[/dev]:m0", "mnt[/proc/keys]:m1"}) {
		t.Error(list)
	}
}

func TestMounts(t *testing.T) {
	list, err := Mounts(os.Getpid())
	if err != nil || len(list) == 0 || !slices.ContainsFunc(list, func(m Mount) bool { return m.At == "/" }) {
		t.Errorf("%v, %v", list, err)
	}
	if got := unescape(`/a\040b\134c\0`); got != `/a b\c\0` {
		t.Errorf("%q", got)
	}
	if got := controllers("rw,name=systemd"); got != "name=systemd" {
		t.Error(got)
	}
}

func TestIsKey(t *testing.T) {
	for key, want := range map[string]bool{"file[1b:2f]": true, "pipe:[4711]": true, "file[1b]:/x]": false, "net[1]": false, "file[": false, "": false} {
		if IsKey(key) != want {
			t.Errorf("%q: %t", key, !want)
		}
	}
}

// image writes an image of criu.
func image(t *testing.T, name string, magic uint32, entries ...message) string {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, commonMagic)
	b = binary.LittleEndian.AppendUint32(b, magic)
	for _, e := range entries {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(e))), e...)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMapUsers(t *testing.T) {
	dir := image(t, "userns-14.img", usernsMagic, userNS([]spec.IDMap{{Host: 1 << 30, Size: 65536}}, nil))
	maps := []spec.IDMap{{Host: 100000, Size: 65536}}
	there, err := MapUsers(dir, maps, maps)
	b, _ := os.ReadFile(filepath.Join(dir, "userns-14.img"))
	entries, eerr := entriesOf(b, usernsMagic)
	if !there || err != nil || eerr != nil || len(entries) != 1 || !bytes.Equal(entries[0], userNS(maps, maps)) {
		t.Errorf("%t, %v, %v, %x", there, err, eerr, b)
	}
	if there, err := MapUsers(t.TempDir(), maps, maps); there || err != nil {
		t.Errorf("%t, %v", there, err)
	}
	if _, err := MapUsers(image(t, "userns-1.img", mountsMagic), maps, maps); err == nil {
		t.Error("an image of mounts was taken for one of users")
	}
}

func TestDetach(t *testing.T) {
	var own, given message
	own.number(2, 5)
	own.number(sharedField, 3)
	own.text(mountpointField, "/own")
	own.flag(deletedField, true)
	given.number(2, 6)
	given.number(masterField, 4)
	given.flag(deletedField, true)
	given.text(externalField, "m0")
	dir := image(t, "mountpoints-13.img", mountsMagic, own, given)
	if err := Detach(dir); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "mountpoints-13.img"))
	entries, err := entriesOf(b, mountsMagic)
	var want message
	want.number(2, 6)
	want.text(externalField, "m0")
	if err != nil || len(entries) != 2 || !bytes.Equal(entries[0], own) || !bytes.Equal(entries[1], want) {
		t.Errorf("%v, %x", err, entries)
	}
}

func FuzzImage(f *testing.F) {
	f.Add([]byte("\x19CVT\x06IGU\x02\x00\x00\x00\x0a\x00"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		entries, err := entriesOf(b, usernsMagic)
		if err != nil {
			return
		}
		for _, e := range entries {
			_, _ = without(e, deletedField)
		}
	})
}

// What is open of the host: of this process, which has no mounts of its own, everything.
func TestOpened(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := Opened([]int{os.Getpid()}, nil)
	at := slices.IndexFunc(list, func(o Open) bool { return o.FD == int(f.Fd()) })
	if err != nil || at < 0 || !list[at].External() || !IsKey(list[at].Key) || list[at].Path != f.Name() {
		t.Errorf("%v, %v", list, err)
	}
	if !slices.ContainsFunc(list, func(o Open) bool { return o.FD < 0 && strings.HasSuffix(o.Path, ".test") }) {
		t.Errorf("no program in %v", list)
	}
}
