package escape_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asUser is a command as an ordinary user of the host.
func asUser(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	return cmd
}

// started is a container that sleeps: its launcher, and its first process on the host.
func (w *world) started(t *testing.T, flags ...string) (launcher *exec.Cmd, pid int) {
	t.Helper()
	cmd := w.tool(append([]string{"-i"}, flags...), "wait")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q %v", line, err)
	}
	for _, p := range children(cmd.Process.Pid) {
		return cmd, p
	}
	t.Fatal("the launcher has no child")
	return nil, 0
}

func children(pid int) []int {
	var out []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, w := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(w); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// What the host sees of a container's processes: nothing of the host is open in them, and
// they hold nothing that they were not given.
func TestProcessesSeenFromTheHost(t *testing.T) {
	w := newWorld(t)
	for _, flags := range [][]string{nil, {"--no-init"}, {"--user", "1000"}} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			_, first := w.started(t, flags...)
			init := !slices.Contains(flags, "--no-init")
			for _, pid := range append(children(first), first) {
				fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
				must(t, err)
				for _, fd := range fds {
					if fd.Name() == "3" && pid == first && init {
						continue // the pipe by which it reports to the launcher
					}
					to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
					if !slices.Contains([]string{"0", "1", "2"}, fd.Name()) && !strings.HasPrefix(to, "anon_inode:[event") {
						t.Errorf("process %d has descriptor %s: %s", pid, fd.Name(), to)
					}
				}
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				must(t, err)
				for name, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "CapBnd": "00000000800425fb"} {
					if got := field(string(status), name); got != want {
						t.Errorf("process %d has %s %s, want %s", pid, name, got, want)
					}
				}
				if uid, _ := strconv.Atoi(strings.Fields(field(string(status), "Uid"))[0]); uid < 1<<30 {
					t.Errorf("process %d is user %d of the host", pid, uid)
				}
				environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
				must(t, err)
				if bytes.Contains(environ, []byte("CORTEN_ESCAPE_SECRET")) {
					t.Errorf("process %d has the launcher's environment", pid)
				}
				for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
					a, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
					b, err2 := os.Readlink("/proc/self/ns/" + ns)
					if err1 != nil || err2 != nil || a == b {
						t.Errorf("process %d is in the host's %s namespace: %s %v %v", pid, ns, a, err1, err2)
					}
				}
			}
			w.mountsFromItsRoot(t, first)
		})
	}
}

// mountsFromItsRoot enters the container's mount namespace from the host and looks at it
// from the namespace's own root, which may be below the one that the container has.
func (w *world) mountsFromItsRoot(t *testing.T, pid int) {
	t.Helper()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	must(t, err)
	defer ns.Close()
	want, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	must(t, err)
	got := make(chan string)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		defer close(got)
		if unix.Unshare(unix.CLONE_FS) != nil || unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS) != nil {
			return
		}
		if b, err := os.ReadFile("/proc/thread-self/mountinfo"); err == nil {
			got <- string(b)
			return
		}
		// /proc there knows nothing of us: look whether the host is in sight.
		if _, err := os.Stat(filepath.Join(w.outside, "secret")); err == nil {
			got <- "the host's files"
		}
	}()
	if s, ok := <-got; ok && s != string(want) {
		t.Errorf("from the root of its mount namespace there is\n%s\nand in the container\n%s", s, want)
	}
}

func field(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// A launcher that is killed, at any moment of a start, leaves no process behind: neither
// one that waits with the host's privileges, nor a container without a keeper.
func TestKilledLauncherLeavesNothing(t *testing.T) {
	w := newWorld(t)
	begin := time.Now()
	output(t, w.tool(nil, "true"))
	usual := time.Since(begin)
	rounds := 100
	if testing.Short() {
		rounds = 15
	}
	for i := range rounds {
		word := fmt.Sprintf("corten-escape-%d-%d", os.Getpid(), i)
		cmd := w.tool(nil, "sleep", word)
		must(t, cmd.Start())
		time.Sleep(time.Duration(rand.Int64N(int64(usual)))) // where in the start it dies is for chance
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		deadline := time.Now().Add(5 * time.Second)
		for left := named(word); len(left) > 0; left = named(word) {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: these processes are left: %v", i, left)
			}
			time.Sleep(time.Millisecond) // the kernel ends them meanwhile
		}
	}
	output(t, w.tool(nil, "true")) // sweeps
}

// named is the processes that have a word in their command line.
func named(word string) []string {
	var out []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		b, err := os.ReadFile(d + "/cmdline")
		if err == nil && bytes.Contains(b, []byte(word)) {
			status, _ := os.ReadFile(d + "/status")
			out = append(out, d+": "+field(string(status), "State")+" "+field(string(status), "Uid"))
		}
	}
	return out
}

// Limits hold what they are told to, and the host goes on.
func TestLimits(t *testing.T) {
	w := newWorld(t)
	number := func(flags []string, args ...string) int {
		t.Helper()
		out := output(t, w.tool(flags, args...))
		n, err := strconv.Atoi(strings.TrimSpace(out))
		must(t, err)
		return n
	}
	if n := number([]string{"--pids-limit", "60"}, "fork"); n == 0 || n >= 60 {
		t.Errorf("%d processes with a limit of 60", n)
	}
	if n := number([]string{"--shm-size", "8m"}, "fill", "/dev/shm"); n != 8 {
		t.Errorf("%d MiB in a /dev/shm of 8", n)
	}
	if n := number(nil, "fill", "/dev"); n > 64 {
		t.Errorf("%d MiB in /dev", n)
	}
	cmd := w.tool([]string{"--memory", "64m"}, "hog")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "out of memory") {
		t.Errorf("a hog of memory: %v: %s", err, out)
	}
}

// What a container mounts is not seen on the host while it is mounted.
func TestMountsStayInside(t *testing.T) {
	w := newWorld(t)
	cmd := w.tool([]string{"-i", "--userns", "host", "--privileged", "--cap-drop", "SYS_RESOURCE"}, "mount")
	out := probing(t, cmd, func() {
		b, err := os.ReadFile("/proc/self/mountinfo")
		must(t, err)
		if bytes.Contains(b, []byte(markMount)) {
			t.Error("a mount of the container shows on the host")
		}
		if entries, err := os.ReadDir(filepath.Join(w.attack, "nodes")); err != nil || len(entries) == 0 {
			t.Errorf("the folder that it mounted over is empty on the host: %v", err)
		}
	})
	if out != "" {
		t.Errorf("mount: %s", out)
	}
}

// mountAndWait mounts wherever a mount could show on the host.
func mountAndWait() error {
	for _, target := range []string{"/tmp", "/attack/nodes", "/usr"} {
		if err := unix.Mount(markMount, target, "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	return waitForEnd()
}

// waitForEnd says that it is ready and waits for the end of stdin.
func waitForEnd() error {
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return nil
}
