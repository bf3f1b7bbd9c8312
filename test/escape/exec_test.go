package escape_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/oci"
)

// resident starts a container that runs one of the attacker's tools and is ready when that has
// said its first word. The returned function ends it and returns the rest of what it says.
func (w *world) resident(t *testing.T, name string, flags []string, base string, args ...string) (end func() string) {
	t.Helper()
	cmd := w.run(append([]string{"--name", name}, flags...), base, append([]string{"/attack/attack", "tool"}, args...)...)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("the container said %q: %v", line, err)
	}
	// It is written down for others when it has run for a moment.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if w.exec(name, "true").Run() == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing can be executed in it: %s", output(t, w.exec(name, "true")))
		}
	}
	ended := false
	end = func() string {
		if ended {
			return ""
		}
		ended = true
		_ = cmd.Process.Signal(unix.SIGTERM)
		rest, _ := io.ReadAll(r)
		_ = cmd.Wait()
		return string(rest)
	}
	t.Cleanup(func() { end() })
	return end
}

// exec is corten exec of one of the attacker's tools.
func (w *world) exec(name string, tool ...string) *exec.Cmd {
	return w.execWith(nil, name, tool...)
}

func (w *world) execWith(flags []string, name string, tool ...string) *exec.Cmd {
	args := append(append([]string{"exec"}, flags...), name, "/attack/attack", "tool")
	return w.corten(append(args, tool...)...)
}

const (
	typed = "a password that was typed on the host"
	kept  = "a password in the environment of the host"
)

// A process on its way into a container shares the memory of one of the host. Somebody inside
// who looks at every new process must not get at that, nor at its files, its program, its
// command line, or the host's mounts and network.
func TestExecIsNotSeen(t *testing.T) {
	for _, m := range []mode{plain, unfiltered, loose, user} {
		t.Run(m.String(), func(t *testing.T) {
			w := newWorld(t)
			end := w.resident(t, "haunted", flags[m], "host", "haunt")
			for i := range 150 {
				flags := [][]string{{"-e", "PASSWORD=" + typed}, {"-u", "0"}, {"-d"}}[i%3]
				cmd := w.execWith(flags, "haunted", "true")
				cmd.Env = append(cmd.Env, "SECRET="+kept)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("exec: %v: %s", err, out)
				}
			}
			out := end()
			t.Log(out)
			if strings.Contains(out, "through") {
				t.Error("the attacker got at what is the host's")
			}
			if !strings.Contains(out, "met ") || strings.Contains(out, "met 0 ") {
				t.Error("it never met a process before its exec: the test proves nothing")
			}
		})
	}
}

// haunt tries on every new process what would show or change what is the host's, until it is
// asked to end. Before its exec a process is called corten.
func haunt() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	fmt.Println("haunting")
	own := map[string]string{}
	for _, f := range []string{"mountinfo", "net/dev"} {
		b, _ := os.ReadFile("/proc/self/" + f)
		own[f] = string(b)
	}
	runtime.LockOSThread() // who traces is a thread
	met, found := 0, map[string]int{}
	for len(stop) == 0 {
		b, err := os.ReadFile("/proc/loadavg") // its last word is the number that was given last
		if err != nil {
			return err
		}
		words := strings.Fields(string(b))
		last, _ := strconv.Atoi(words[len(words)-1])
		for pid := last; pid < last+4; pid++ { // numbers are given in turn
			met += look(pid, own, found)
		}
	}
	fmt.Printf("met %d before their exec\n", met)
	for what, n := range found {
		fmt.Printf("through: %s, %d times\n", what, n)
	}
	return nil
}

// stay waits until it is asked to end.
func stay() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	fmt.Println("ready")
	<-stop
	return nil
}

// look attacks one process as long as it is called corten, and returns how often it was.
func look(pid int, own map[string]string, found map[string]int) (met int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	early := func() bool {
		b, err := os.ReadFile(dir + "comm")
		return err == nil && string(b) == "corten\n"
	}
	for early() {
		met = 1
		for what, try := range tries(pid, dir, own) {
			// What succeeds after the exec is about a process of the container.
			if try() == nil && early() {
				found[what]++
			}
		}
	}
	return met
}

// tries is what is tried on a process; nil is success.
func tries(pid int, dir string, own map[string]string) map[string]func() error {
	opens := func(name string, flags int) func() error {
		return func() error {
			fd, err := unix.Open(dir+name, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
	}
	lists := func(name string) func() error { return func() error { _, err := os.ReadDir(dir + name); return err } }
	links := func(name string) func() error { return func() error { _, err := os.Readlink(dir + name); return err } }
	differs := func(name string) func() error {
		return func() error {
			b, err := os.ReadFile(dir + name)
			if err != nil || string(b) == own[name] || len(b) == 0 {
				return errors.New("the same")
			}
			return nil
		}
	}
	return map[string]func() error{
		"read its memory":          opens("mem", unix.O_RDONLY),
		"write its memory":         opens("mem", unix.O_RDWR),
		"read its environment":     contains(dir+"environ", kept),
		"read its command line":    contains(dir+"cmdline", typed),
		"name its program":         links("exe"),
		"write its program":        opens("exe", unix.O_WRONLY),
		"list its descriptors":     lists("fd"),
		"list what it maps":        lists("map_files"),
		"read its maps":            contains(dir+"maps", "corten"),
		"reach its root":           lists("root"),
		"reach its folder":         links("cwd"),
		"see mounts of the host":   differs("mountinfo"),
		"see networks of the host": differs("net/dev"),
		"trace it":                 func() error { return seize(pid) },
		"copy from its memory": func() error {
			b := make([]byte, 8)
			_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &b[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
			return err
		},
		"take its descriptors": func() error {
			p, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(p)
			fd, err := unix.PidfdGetfd(p, 0, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		},
		"join its namespaces": func() error {
			fd, err := unix.Open(dir+"ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		},
	}
}

func contains(file, words string) func() error {
	return func() error {
		b, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(b), words) {
			err = errors.New("not in it")
		}
		return err
	}
}

// seize traces a process and lets go of it.
func seize(pid int) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); errno != 0 {
		return errno
	}
	_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_INTERRUPT, uintptr(pid), 0, 0, 0, 0)
	_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
	_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(pid), 0, 0, 0, 0)
	return nil
}

// What exec starts is held as the container's first process is.
func TestExecAttempts(t *testing.T) {
	w := newWorld(t)
	w.victim(t)
	keyring(t)
	for _, m := range []mode{plain, user, unfiltered, caps, loose} {
		t.Run(m.String(), func(t *testing.T) {
			w.resident(t, "home-"+m.String(), flags[m], "host", "stay")
			var names []string
			for _, a := range attempts() {
				if a.holds&m != 0 {
					names = append(names, a.name)
				}
			}
			args := append([]string{"exec", "home-" + m.String(), "/attack/attack", "attack"}, names...)
			got := verdicts(t, output(t, w.corten(args...)))
			for _, n := range names {
				if v, ok := got[n]; !ok || v.word == "through" {
					t.Errorf("%s: %v %s", n, v.word, v.why)
				}
			}
			t.Logf("%d attempts", len(names))
		})
	}
}

// What a container has in the place of its passwd may not keep exec waiting, nor have it read
// what is the host's.
func TestExecReadsNoTraps(t *testing.T) {
	w := newWorld(t)
	img := w.load(t, "traps", oci.Config{})
	w.resident(t, "trapped", nil, img, "stay")
	for _, trap := range []string{"fifo", "folder", "link to a fifo", "link to the host", "magic link", "loop", "missing", "large", "garbage"} {
		t.Run(trap, func(t *testing.T) {
			output(t, w.exec("trapped", "trap", trap))
			for _, u := range []string{"0", "1000:1000"} {
				output(t, brief(t, w.execWith([]string{"-u", u}, "trapped", "true")))
			}
			out, err := brief(t, w.execWith([]string{"-u", "daemon"}, "trapped", "true")).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "corten: error:") {
				t.Errorf("a user that is not there: %v: %s", err, out)
			}
			output(t, w.execWith([]string{"-u", "0"}, "trapped", "trap", "restore"))
		})
	}
}

// brief kills a command that waits for what does not come.
func brief(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	timer := time.AfterFunc(20*time.Second, func() {
		t.Errorf("%v waits", cmd.Args)
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	t.Cleanup(func() { timer.Stop() })
	return cmd
}

// trap puts something else in the place of /etc/passwd.
func trap(what string) error {
	const file = "/etc/passwd"
	if err := os.RemoveAll(file); err != nil {
		return err
	}
	switch what {
	case "fifo":
		return unix.Mkfifo(file, 0o666)
	case "folder":
		return os.Mkdir(file, 0o755)
	case "link to a fifo":
		_ = unix.Mkfifo("/etc/fifo", 0o666)
		return os.Symlink("/etc/fifo", file)
	case "link to the host":
		return os.Symlink(strings.Repeat("../", 30)+"usr/share/base-passwd/passwd.master", file)
	case "magic link":
		return os.Symlink("/proc/self/fd/0", file)
	case "loop":
		return os.Symlink("passwd", file)
	case "large":
		return os.WriteFile(file, make([]byte, 8<<20), 0o644)
	case "garbage":
		return os.WriteFile(file, []byte(strings.Repeat("x:\x00::::\n", 1000)), 0o644)
	case "restore":
		return os.WriteFile(file, []byte("root:x:0:0::/:/bin/sh\n"), 0o644)
	}
	return nil
}

// A container with all capabilities can put anything in the place of /dev/pts. Nothing of it
// may be taken for a terminal, or opened at all.
func TestExecTakesNoForeignTerminal(t *testing.T) {
	w := newWorld(t)
	w.resident(t, "faker", flags[loose], "host", "stay")
	output(t, brief(t, w.execWith([]string{"-t"}, "faker", "true"))) // as long as it is the real one
	for _, fake := range []string{"fifo", "file", "link", "folder", "null", "nothing"} {
		t.Run(fake, func(t *testing.T) {
			output(t, w.execWith([]string{"--privileged"}, "faker", "fakepts", fake))
			out, err := brief(t, w.execWith([]string{"-t"}, "faker", "true")).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "corten: error: open a terminal") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// fakePTS puts something in the place of /dev/pts/ptmx, in the mount namespace that the
// container's first process is in too.
func fakePTS(what string) error {
	file := "/dev/pts/ptmx"
	_ = unix.Unmount(file, unix.MNT_DETACH)
	for unix.Unmount("/dev/pts", unix.MNT_DETACH) == nil {
	}
	if err := os.RemoveAll(file); err != nil {
		return err
	}
	if err := os.MkdirAll("/dev/pts", 0o755); err != nil {
		return err
	}
	switch what {
	case "fifo":
		return unix.Mkfifo(file, 0o666)
	case "file":
		return os.WriteFile(file, nil, 0o666)
	case "link":
		return os.Symlink("/proc/1/fd/0", file)
	case "folder":
		return os.Mkdir(file, 0o755)
	case "null":
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			return err
		}
		return unix.Mount("/dev/null", file, "", unix.MS_BIND, "")
	case "nothing":
	}
	return nil
}

// A container that ends while others are entering it takes them with it, and nobody waits.
func TestExecIntoTheDying(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		name := "dying" + strconv.Itoa(i)
		end := w.resident(t, name, nil, "host", "stay")
		done := make(chan error, 8)
		for range cap(done) {
			go func() {
				out, err := w.exec(name, "sleep").CombinedOutput()
				if err == nil || strings.Contains(string(out), "panic") {
					done <- fmt.Errorf("%v: %s", err, out)
				}
				done <- nil
			}()
		}
		for range i {
			runtime.Gosched()
		}
		time.Sleep(time.Duration(i) * time.Millisecond) // at another moment each time
		end()
		for range cap(done) {
			select {
			case err := <-done:
				must(t, err)
			case <-time.After(20 * time.Second):
				t.Fatal("somebody waits for a container that is gone")
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(w.dir, "run/active/*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
