package crash_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// poor is a machine that lacks something, and what the command says about it: the beginning
// of the error, and of the hint.
type poor struct {
	name  string
	setup string // a shell script in a mount namespace of its own; $root and $run are the state folders, $bin has the programs
	with  string // what starts the command, such as prlimit
	flags string
	error string // empty: it runs all the same
	hint  string
}

func poors() []poor {
	const bounded = "setpriv --bounding-set="
	const lacks, all = "this process lacks ", ": run it with all of root's capabilities"
	const mask = "mount ROOT/platforms/host/mask-KEY.erofs (EROFS) read-only: the mask over the host's sensitive places: "
	const nested = "this is root of a user namespace, not of the machine: run it outside, or allow the outer container more"
	const elsewhere = "choose another place with --root or --run"
	const readOnly = "it is mounted read-only: " + elsewhere
	const mount = "mount -t cgroup2 cgroup2 /sys/fs/cgroup; ip netns exec NAME mounts a /sys without them, and nsenter --net=/run/netns/NAME leaves the host's where it is"
	const descriptors = "allow more open files: ulimit -n 1024"
	return []poor{
		{"no init", "mkdir $root/bin; cp $bin/corten $root/bin; bin=$root/bin", "", "",
			"find corten-init: it is neither beside ROOT/bin/corten nor in ../libexec/corten", "run make install, or keep the programs of bin/ together"},
		{"read-only root", "mount --bind $root $root; mount -o remount,ro,bind $root", "", "", "make mask of the host: mkdir ROOT/platforms: read-only file system", readOnly},
		{"read-only run", "mount --bind $run $run; mount -o remount,ro,bind $run", "", "", "lock container ID: mkdir RUN/active: read-only file system", readOnly},
		{"run is a file", "rm -rf $run; touch $run", "", "", "lock container ID: not a directory", elsewhere},
		{"root is a file", "rm -rf $root; touch $root", "", "", "make mask of the host: mkdir ROOT: not a directory", elsewhere},
		{"no control groups", "mount -t tmpfs none /sys/fs/cgroup", "", "", "filter devices: no control groups are mounted", mount},
		{"no control groups for a limit", "mount -t tmpfs none /sys/fs/cgroup", "", "--memory 64m", "limit memory: no control groups are mounted", mount},
		{"no proc", "mount -t tmpfs none /proc", "", "", "make mask of the host: ", "there is no /proc: mount -t proc proc /proc"},
		{"no sys", "mount -t tmpfs none /sys", "", "", "filter devices: no control groups are mounted", mount},
		{"the sys of ip netns exec", "mount -t sysfs name /sys", "", "", "filter devices: no control groups are mounted", mount},
		{"no dev", "mount -t tmpfs none /dev", "", "", "", ""},
		{"20 descriptors", "", "prlimit --nofile=20:20", "", "", descriptors},
		{"14 descriptors", "", "prlimit --nofile=14:14", "", "", descriptors},
		{"no processes", "", "prlimit --nproc=1:1 " + bounded + "-sys_admin,-sys_resource", "", mask + "operation not permitted", lacks + "CAP_SYS_ADMIN" + all},
		{"no CAP_SYS_ADMIN", "", bounded + "-sys_admin", "", mask + "operation not permitted", lacks + "CAP_SYS_ADMIN" + all},
		{"no CAP_SETUID", "", bounded + "-setuid", "", "map users 0-65535 to host NUMBER-NUMBER and groups 0-65535 to host NUMBER-NUMBER: operation not permitted", lacks + "CAP_SETUID" + all},
		{"no CAP_MKNOD", "", bounded + "-mknod", "", "make a tmpfs for /dev, owned by NUMBER:NUMBER, with the devices null zero full random urandom tty: make device /dev/null: operation not permitted", lacks + "CAP_MKNOD" + all},
		{"no CAP_DAC_OVERRIDE", "", bounded + "-dac_override", "", `lay the writable layer "layer" over mask, host (overlay)`, lacks + "CAP_DAC_OVERRIDE" + all},
		{"no capability", "", bounded + "-all", "", "make the control groups GROUPS/corten/ID: filter devices: operation not permitted", "the caller needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, on the host"},
		{"no user namespaces", "", "unshare -Urm sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"' sh", "", mask, nested},
		{"a user namespace", "", "unshare -Urm", "", mask, nested},
		{"nobody", "", "setpriv --reuid 65534 --regid 65534 --clear-groups", "", "make root for the host's programs: mkdir ", "ordinary users may not do that: see corten doctor, or run it as root"},
	}
}

// TestPoorMachine has the command say what the machine lacks, and what to do.
func TestPoorMachine(t *testing.T) {
	w := newWorld(t)
	for _, p := range poors() {
		t.Run(p.name, func(t *testing.T) {
			w := w.fresh(t)
			cmd := exec.Command("unshare", "-m", "sh", "-c",
				fmt.Sprintf("%s\nexec %s $bin/corten --root $root --run $run run --rm --network none %s host true", p.setup, p.with, p.flags))
			cmd.Env = append(os.Environ(), "root="+w.root, "run="+w.run, "bin="+os.Getenv(inside))
			said := w.listen(cmd)
			_ = cmd.Run()
			code, text := cmd.ProcessState.ExitCode(), tidy(w, said())
			if p.hint == "" {
				if code != 0 {
					t.Errorf("status %d\n%s", code, text)
				}
			} else if !strings.HasPrefix(text, "corten: error: "+p.error) || !strings.HasSuffix(text, "\ncorten: hint: "+p.hint+"\n") || code != 125 {
				t.Errorf("status %d, said:\n%swant:\ncorten: error: %s\ncorten: hint: %s", code, text, p.error, p.hint)
			}
			w.ends()
			w.clean("at once")
		})
	}
}

// fresh is another pair of folders.
func (w *world) fresh(t *testing.T) *world {
	x := *w
	x.t = t
	dir := t.TempDir()
	x.root, x.run = filepath.Join(dir, "root"), filepath.Join(dir, "run")
	for _, d := range []string{x.root, x.run} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &x
}

// tidy leaves out what is different each time.
func tidy(w *world, text string) string {
	text = strings.NewReplacer(w.root, "ROOT", w.run, "RUN", os.Getenv(inside), "BIN", v2(), "GROUPS").Replace(text)
	text = regexp.MustCompile(`(?m)^corten: warning: .*\n`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(text, "ID")
	text = regexp.MustCompile(`container [0-9a-f]{12}`).ReplaceAllString(text, "container ID")
	text = regexp.MustCompile(`mask-[0-9a-f]+`).ReplaceAllString(text, "mask-KEY")
	return regexp.MustCompile(`[0-9]{10}`).ReplaceAllString(text, "NUMBER")
}

// TestFullDisk fills the disk up to less and less of what a container needs. Whatever it is
// that does not fit any more, the command says so, and when there is room again nothing is
// left and all works.
func TestFullDisk(t *testing.T) {
	for _, disk := range []struct{ name, mount, needs string }{
		{"tmpfs", "mount -t tmpfs -o size=4m,nr_inodes=100000 none $dir", "mount"},
		{"ext4", "truncate -s 16M $dir.img && mkfs.ext4 -q -O ^has_journal $dir.img && mount -o loop $dir.img $dir", "mkfs.ext4"},
	} {
		t.Run(disk.name, func(t *testing.T) {
			if _, err := exec.LookPath(disk.needs); err != nil {
				t.Skip("needs " + disk.needs)
			}
			dir := filepath.Join(t.TempDir(), "disk")
			shell(t, "dir="+dir+"; mkdir $dir; "+disk.mount)
			t.Cleanup(func() { shell(t, "umount "+dir) })
			w := newWorld(t)
			w.root, w.run = filepath.Join(dir, "root"), filepath.Join(dir, "run")
			w.sweep()
			failed := 0
			for free := int64(0); free <= 96<<10; free += 4 << 10 {
				failed += w.crowded(dir, fmt.Sprint(free), func() { fill(t, filepath.Join(dir, "filler"), free) })
			}
			if failed == 0 {
				t.Error("everything fits on a full disk")
			}
			if disk.name != "tmpfs" {
				return
			}
			failed = 0
			for files := range 30 {
				failed += w.crowded(dir, fmt.Sprintf("files%d", files), func() { limitFiles(t, dir, files) })
			}
			if failed == 0 {
				t.Error("everything fits where no file does")
			}
		})
	}
}

// crowded runs containers after fill, makes room, and reports how many did not run.
func (w *world) crowded(dir, name string, fill func()) (failed int) {
	w.t.Helper()
	fill()
	for _, flags := range [][]string{{"--rm"}, {"--name", "kept" + name}, {"--rm", "-v", "volume" + name + ":/srv/a", "-v", "/srv/b"}} {
		cmd := w.corten(append(append([]string{"run"}, flags...), "host", "true")...)
		said := w.listen(cmd)
		_ = cmd.Run()
		code, text := cmd.ProcessState.ExitCode(), said()
		if code != 0 {
			failed++
		}
		if code != 0 && (code != 125 || !strings.HasPrefix(text, "corten: error: ") || !strings.Contains(text, "\ncorten: hint: free some space")) {
			w.t.Errorf("%s, %v: status %d\n%s", name, flags, code, text)
		}
	}
	w.ends()
	shell(w.t, fmt.Sprintf("rm -f %s/filler; if findmnt -n -t tmpfs %[1]s >/dev/null; then mount -o remount,nr_inodes=100000 %[1]s; fi", dir))
	w.sweep()
	if _, err := os.Lstat(filepath.Join(w.root, "names", "kept"+name)); err == nil {
		w.kept = append(w.kept, "kept"+name)
	}
	w.clean("with "+name+" free", w.kept...)
	return failed
}

// fill writes a file until the disk is full, and gives back some bytes.
func fill(t *testing.T, path string, free int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for block := make([]byte, 4096); err == nil; {
		var n int
		n, err = f.Write(block)
		size += int64(n)
	}
	if err := f.Truncate(max(0, size-free)); err != nil {
		t.Fatal(err)
	}
}

// limitFiles allows a tmpfs only so many files more.
func limitFiles(t *testing.T, dir string, more int) {
	t.Helper()
	var st unix.Statfs_t
	shell(t, fmt.Sprintf("mount -o remount,nr_inodes=100000 %s", dir))
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	shell(t, fmt.Sprintf("mount -o remount,nr_inodes=%d %s", int(st.Files-st.Ffree)+more, dir))
}

func shell(t testing.TB, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}
