package escape_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Everything of the host's root that a container can read must be readable for all users of
// the host, by the modes of the file and of every directory above it.
func TestHostShowsOnlyWhatIsPublic(t *testing.T) {
	w := newWorld(t)
	out := output(t, w.tool(nil, "walk"))
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) < 1000 {
		t.Fatalf("only %d files and directories seen", len(lines))
	}
	dirs := map[string]bool{"/": true} // open to others, all the way
	var open func(dir string) bool
	open = func(dir string) bool {
		is, known := dirs[dir]
		if !known {
			var st unix.Stat_t
			is = unix.Lstat(dir, &st) == nil && st.Mode&0o001 != 0 && open(filepath.Dir(dir))
			dirs[dir] = is
		}
		return is
	}
	files := 0
	for i, l := range lines[:len(lines)-1] {
		kind, path, _ := strings.Cut(l, " ")
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue // gone, or made by the mask
		}
		if kind == "d" {
			if entries, err := os.ReadDir(path); err == nil && len(entries) == 0 {
				continue // nothing to see
			}
			// The mask shows hidden directories as empty ones.
			if st.Mode&0o004 == 0 || !open(filepath.Dir(path)) {
				// The walk comes to what is in a directory right after it.
				if next := lines[i+1]; strings.HasPrefix(next[2:], path+"/") {
					t.Errorf("%s is closed to others on the host (%o), and %s can be seen", path, st.Mode, next)
				}
			}
			continue
		}
		files++
		if st.Mode&unix.S_IFMT == unix.S_IFREG && (st.Mode&0o004 == 0 || !open(filepath.Dir(path))) {
			t.Errorf("%s can be read, on the host its mode is %o", path, st.Mode)
		}
	}
	for _, hidden := range []string{"f /etc/shadow", "f " + filepath.Join(w.outside, "secret"), "d " + w.dir, "f /etc/ssh"} {
		if i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, hidden) }); i >= 0 {
			t.Errorf("%s can be seen", lines[i])
		}
	}
	t.Logf("%d files, %d directories", files, len(lines)-files)
}

// public makes a folder of the host that containers see, with things to probe in it.
func (w *world) public(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/srv", "corten-escape-")
	if err != nil {
		t.Skip("needs to write to /srv: ", err)
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Chmod(dir, 0o777))
	for _, d := range []string{"open", "closed"} {
		must(t, os.Mkdir(at(d), 0o755))
	}
	for _, prog := range []string{"program", "setuid", "setgid", "capable"} {
		must(t, copyFile(at(prog), filepath.Join(bin, "attack"), 0o755))
	}
	for name, mode := range map[string]os.FileMode{"secret": 0o600, "group": 0o640, "public": 0o666, "closed/open": 0o644, "open/old": 0o666} {
		must(t, os.WriteFile(at(name), []byte("of the host"), 0o600))
		must(t, os.Chmod(at(name), mode))
	}
	must(t, os.Chmod(at("open"), 0o777))
	must(t, os.Chmod(at("closed"), 0o700))
	must(t, os.Chmod(at("setuid"), 0o755|os.ModeSetuid))
	must(t, os.Chmod(at("setgid"), 0o755|os.ModeSetgid))
	must(t, unix.Setxattr(at("capable"), "security.capability", []byte(dacReadSearch), 0))
	must(t, unix.Mkfifo(at("fifo"), 0o666))
	must(t, os.Chmod(at("fifo"), 0o666))
	must(t, unix.Mknod(at("disk"), unix.S_IFBLK|0o666, int(w.node)))
	must(t, os.Chmod(at("disk"), 0o666))
	return dir
}

// dacReadSearch is a security.capability attribute, version 2: effective, permitted
// cap_dac_override and cap_dac_read_search (1, 2).
const dacReadSearch = "\x01\x00\x00\x02" + "\x06\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// snapshot is what must stay of a folder: names, modes, owners, content and times, but for
// the time of the last reading of what root's own programs read.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		sum := ""
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf("%x", sha256.Sum256(content))
		}
		fmt.Fprintf(&b, "%s %o %d:%d %d %v %v %s\n", path, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim, st.Ctim, sum)
		return nil
	}))
	return b.String()
}

// probed is a folder of the host, with a socket and a fifo on which somebody listens.
func (w *world) probed(t *testing.T) string {
	t.Helper()
	dir := w.public(t)
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	must(t, os.Chmod(filepath.Join(dir, "socket"), 0o777))
	fifo, err := os.OpenFile(filepath.Join(dir, "fifo"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	must(t, err)
	t.Cleanup(func() { fifo.Close() })
	return dir
}

// probing runs a probe; while it waits, meanwhile is called.
func probing(t *testing.T, cmd *exec.Cmd, meanwhile func()) string {
	t.Helper()
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = cmd.Stdout
	must(t, cmd.Start())
	var text strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		text.WriteString(lines.Text() + "\n")
	}
	meanwhile()
	in.Close()
	_ = cmd.Wait()
	return text.String()
}

// A container on the host's root probes files, set-user-id programs, a socket, a fifo, a
// device and a lock of the host, as root and as another user.
func TestHostIsNotReachedByFiles(t *testing.T) {
	w := newWorld(t)
	dir := w.probed(t)
	for name, flags := range map[string][]string{
		"root":                 nil,
		"root with all powers": {"--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges=false"},
		"user":                 {"--user", "1000:1000", "--security-opt", "no-new-privileges=false"},
	} {
		t.Run(name, func(t *testing.T) {
			before := snapshot(t, dir)
			cmd := w.tool(append([]string{"-i"}, flags...), "probe", dir)
			out := probing(t, cmd, func() {
				f, err := os.Open(filepath.Join(dir, "public"))
				must(t, err)
				defer f.Close()
				if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
					t.Errorf("the container keeps the host from locking its file: %v", err)
				}
			})
			for line := range strings.Lines(out) {
				if strings.HasPrefix(line, "through:") && !strings.Contains(line, "lock public") {
					t.Errorf("%s", line)
				}
			}
			if !strings.Contains(out, "held: read secret") || strings.Contains(out, "1000 by setuid: 0") {
				t.Errorf("the probe says:\n%s", out)
			}
			if after := snapshot(t, dir); after != before {
				t.Errorf("the host's files were\n%s\nand are\n%s", before, after)
			}
		})
	}
}

// The same as a user of the host gets through with what the host leaves open.
func TestHostIsReachedByItsUsers(t *testing.T) {
	w := newWorld(t)
	dir := w.probed(t)
	before := snapshot(t, dir)
	cmd := exec.Command(filepath.Join(dir, "program"), "tool", "probe", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out := probing(t, cmd, func() {})
	for _, want := range []string{"through: read secret by setuid", "through: read secret by capable", "through: connect to socket",
		"through: write fifo", "through: open disk", "euid: 1000 by setuid: 0"} {
		if !strings.Contains(out, want) {
			t.Errorf("on the host there is no %q, so it proves nothing:\n%s", want, out)
		}
	}
	if snapshot(t, dir) == before {
		t.Error("the probe changes nothing even on the host")
	}
}
