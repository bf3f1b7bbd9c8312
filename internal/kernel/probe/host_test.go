package probe

import (
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The answers about this host, checked against other ways of knowing: what the kernel says
// it was built with, what it lists, and what other programs bring about.

// kernelConfig is what this kernel was built with, or a skipped test.
func kernelConfig(t *testing.T) map[string]bool {
	t.Helper()
	var r io.ReadCloser
	f, err := os.Open("/proc/config.gz")
	if err == nil {
		r, err = gzip.NewReader(f)
	}
	if err != nil {
		var uts unix.Utsname
		if err := unix.Uname(&uts); err != nil {
			t.Fatal(err)
		}
		if r, err = os.Open("/boot/config-" + unix.ByteSliceToString(uts.Release[:])); err != nil {
			t.Skip("this kernel's configuration is not to be found")
		}
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for l := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(l), "="); ok && (value == "y" || value == "m") {
			set[strings.TrimPrefix(name, "CONFIG_")] = true
		}
	}
	return set
}

// needRoot is for tests of what only root is told.
func needRoot(t *testing.T) {
	t.Helper()
	if !capable() {
		t.Skip("root only")
	}
}

// TestAgainstConfig: a feature is there if and only if the kernel has its options. Those
// that also depend on the host's set-up are left out, or only tested where there is no option.
func TestAgainstConfig(t *testing.T) {
	needRoot(t)
	config := kernelConfig(t)
	all := byName(All(t.Context(), envOf(t.TempDir())))
	for name, options := range map[string]string{
		"user namespace":    "USER_NS",
		"pid namespace":     "PID_NS",
		"network namespace": "NET_NS",
		"ipc namespace":     "IPC_NS",
		"uts namespace":     "UTS_NS",
		"time namespace":    "TIME_NS",
		"cgroup namespace":  "CGROUPS",
		"overlay":           "OVERLAY_FS",
		"seccomp":           "SECCOMP_FILTER",
		"keyrings":          "KEYS",
		"device filter":     "CGROUP_BPF",
		"nftables":          "NF_TABLES_INET NFT_NAT",
		"veth":              "VETH",
		"bridge":            "BRIDGE",
		"macvlan":           "MACVLAN",
		"ipvlan":            "IPVLAN",
		"vxlan":             "VXLAN",
		"tun":               "TUN",
		"devpts instances":  "UNIX98_PTYS",
		"FUSE":              "FUSE_FS",
		"userfaultfd":       "USERFAULTFD",
		"EROFS from a file": "EROFS_FS EROFS_FS_BACKED_BY_FILE",

		"EROFS from a loop device": "EROFS_FS BLK_DEV_LOOP",
	} {
		want := Yes
		for o := range strings.FieldsSeq(options) {
			if !config[o] {
				want = No
			}
		}
		if r := all[name]; r.Answer != want {
			t.Errorf("%s: %v (%s), but the options %s say %v", name, r.Answer, r.Detail, options, want)
		}
	}
	for name, option := range map[string]string{
		"fs-verity": "FS_VERITY", "project quotas": "QUOTA", "Landlock": "SECURITY_LANDLOCK", "AppArmor": "SECURITY_APPARMOR",
		"SELinux": "SECURITY_SELINUX", "Yama": "SECURITY_YAMA", "BPF LSM": "BPF_LSM", "PSI": "PSI", "checkpoint": "CHECKPOINT_RESTORE",
		"binfmt_misc": "BINFMT_MISC", "io_uring": "IO_URING", "IPv6": "IPV6",
	} {
		if r := all[name]; !config[option] && r.Answer != No {
			t.Errorf("%s: %v (%s) without CONFIG_%s", name, r.Answer, r.Detail, option)
		}
	}
}

// TestAgainstFiles compares with what the kernel lists in files that the probes do not read.
func TestAgainstFiles(t *testing.T) {
	all := byName(All(t.Context(), envOf(t.TempDir())))
	lists, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		t.Skip(err)
	}
	_, inet6 := os.Stat("/proc/net/if_inet6")
	_, seccompFile := os.Stat("/proc/sys/kernel/seccomp/actions_avail")
	v2 := strings.Contains(string(mounts), " cgroup2 ")
	v1 := strings.Contains(string(mounts), " cgroup ")
	symbol := func(s string) bool { return strings.Contains(string(symbols), " "+s+"\n") }
	call := func(s string) bool { return symbol("__x64_sys_"+s) || symbol("__arm64_sys_"+s) }
	for name, want := range map[string]bool{
		"overlay":        strings.Contains(string(lists), "\toverlay\n"),
		"seccomp":        seccompFile == nil,
		"control groups": v1 || v2,
		"cgroup.kill":    v2 && symbol("cgroup_kill_write"),
		"clone3":         call("clone3"),
		"close_range":    call("close_range"),
		"openat2":        call("openat2"),
		"statmount":      call("statmount"),
		"Landlock":       call("landlock_create_ruleset"),
		"checkpoint":     call("kcmp") && installed("criu"),
		"newuidmap":      installed("newuidmap"),
	} {
		if r := all[name]; r.Answer != Unknown && (r.Answer == Yes) != want {
			t.Errorf("%s: %v (%s), want %v", name, r.Answer, r.Detail, want)
		}
	}
	if r := all["IPv6"]; r.Answer == Yes && inet6 != nil {
		t.Errorf("IPv6: %v, but %v", r.Answer, inet6)
	}
	if r := all["control groups"]; v1 && v2 && !strings.HasPrefix(r.Detail, "hybrid") {
		t.Errorf("control groups: %s", r.Detail)
	}
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// agrees runs a program in namespaces of its own and compares its success with the answer.
func agrees(t *testing.T, r Result, flags uintptr, program string, args ...string) {
	t.Helper()
	if !installed(program) {
		t.Skip(program + " is not installed")
	}
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: flags}
	out, err := cmd.CombinedOutput()
	if (err == nil) != (r.Answer == Yes) {
		t.Errorf("%s: %v (%s), but %s %v: %v %s", r.Name, r.Answer, r.Detail, program, args, err, out)
	}
}

// TestAgainstPrograms has other programs do the same: mount(8), ip(8), nft(8), mkfs.erofs.
func TestAgainstPrograms(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	all := byName(All(t.Context(), envOf(dir)))
	for _, d := range []string{"tree", "lower", "upper", "work", "mnt"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mnt := dir + "/mnt"
	t.Run("overlay", func(t *testing.T) {
		agrees(t, all["overlay"], unix.CLONE_NEWNS, "mount", "-t", "overlay", "none", "-o", "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work", mnt)
	})
	t.Run("EROFS", func(t *testing.T) {
		if out, err := exec.Command("mkfs.erofs", dir+"/image", dir+"/tree").CombinedOutput(); err != nil {
			t.Skipf("mkfs.erofs: %v %s", err, out)
		}
		agrees(t, all["EROFS from a loop device"], unix.CLONE_NEWNS, "mount", "-t", "erofs", "-o", "loop,ro", dir+"/image", mnt)
	})
	for kind, args := range map[string][]string{"veth": nil, "bridge": nil, "vxlan": {"id", "7", "dstport", "4789"}} {
		t.Run(kind, func(t *testing.T) {
			agrees(t, all[kind], unix.CLONE_NEWNET, "ip", append([]string{"link", "add", "probe0", "type", kind}, args...)...)
		})
	}
	t.Run("nftables", func(t *testing.T) {
		agrees(t, all["nftables"], unix.CLONE_NEWNET, "nft", "add table inet probe; add chain inet probe c { type nat hook postrouting priority 100; }")
	})
	t.Run("unshare", func(t *testing.T) {
		for name, flag := range map[string]string{"mount namespace": "-m", "pid namespace": "-pf", "network namespace": "-n", "ipc namespace": "-i",
			"uts namespace": "-u", "cgroup namespace": "-C", "user namespace": "-U", "time namespace": "-T"} {
			agrees(t, all[name], 0, "unshare", flag, "true")
		}
	})
}

// TestErofsImage has another program judge the image that is tried.
func TestErofsImage(t *testing.T) {
	if !installed("fsck.erofs") {
		t.Skip("fsck.erofs is not installed")
	}
	path := t.TempDir() + "/image"
	if err := os.WriteFile(path, erofsImage(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("fsck.erofs", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestOtherFileSystem asks about a state folder on tmpfs, which has no extents to share and
// no disk.
func TestOtherFileSystem(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "corten-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	all := byName(All(t.Context(), envOf(dir)))
	for name, want := range map[string]Answer{"state folder": Yes, "reflink": No, "fs-verity": No, "O_TMPFILE": Yes, "discard": Unknown} {
		if r := all[name]; r.Answer != want {
			t.Errorf("%s: %v (%s), want %v", name, r.Answer, r.Detail, want)
		}
	}
	if d := all["state folder"].Detail; !strings.HasSuffix(d, " on tmpfs") {
		t.Error(d)
	}
}

// TestProcIsNoPlace: nothing can be kept in /proc, and nothing is said about features that
// could not be tried there.
func TestProcIsNoPlace(t *testing.T) {
	all := byName(All(t.Context(), Env{Root: "/proc/self/corten", Run: "/proc/self/corten"}))
	if r := all["state folder"]; r.Answer == Yes {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"reflink", "O_TMPFILE", "fs-verity", "idmapped mounts", "overlay on detached layers", "EROFS from a file"} {
		if r := all[name]; r.Answer != Unknown {
			t.Errorf("%s: %v (%s)", name, r.Answer, r.Detail)
		}
	}
}

func TestModules(t *testing.T) {
	active, err := Modules()
	if err != nil {
		t.Skip(err)
	}
	if got := slices.Contains(active, "apparmor"); got != (AppArmor() == Yes) {
		t.Errorf("AppArmor is %v, the modules are %v", AppArmor(), active)
	}
	if got := slices.Contains(active, "selinux"); got != (SELinux() == Yes) {
		t.Errorf("SELinux is %v, the modules are %v", SELinux(), active)
	}
	if moduleName(100) != "capability" || moduleName(109) != "bpf" || moduleName(99) != "99" || moduleName(1000) != "1000" {
		t.Error("numbers of modules are named wrongly")
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 10: "1.5 MiB", 1 << 40: "1.0 TiB", 1<<64 - 1: "16.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
}

// TestMountTable compares the file system of a folder with what stat(1) calls it.
func TestMountTable(t *testing.T) {
	h := newHost(Env{})
	for dir, want := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev/shm": "tmpfs"} {
		m, err := h.mountOf(dir)
		if err != nil || m.fstype != want {
			t.Errorf("%s: %+v, %v", dir, m, err)
		}
	}
	if !hasOption("rw,discard,x=1", "x") || hasOption("rw,discard", "disc") {
		t.Error("options are read wrongly")
	}
}

func BenchmarkAll(b *testing.B) {
	env := envOf(b.TempDir())
	for b.Loop() {
		All(b.Context(), env)
	}
}
