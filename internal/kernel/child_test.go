package kernel

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestChild(t *testing.T) {
	tests := []struct {
		name string
		spec ChildSpec
		want error
	}{
		{"plain", ChildSpec{}, nil},
		{"clear handlers", ChildSpec{Flags: unix.CLONE_CLEAR_SIGHAND}, nil},
		{"in a namespace", ChildSpec{Flags: unix.CLONE_NEWUSER, Unshare: unix.CLONE_NEWUTS}, nil},
		{"refused there", ChildSpec{Unshare: unix.CLONE_VFORK}, unix.EINVAL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := StartChild(tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Wait(); err != tt.want {
				t.Fatalf("Wait: %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := StartChild(ChildSpec{Flags: unix.CLONE_THREAD}); err != unix.EINVAL {
		t.Errorf("flags that do not go together: %v", err)
	}
}

// TestHeldChild looks at one while it waits: it is in its namespace, holds no descriptor of
// ours, and is gone when it is closed.
func TestHeldChild(t *testing.T) {
	c, err := StartChild(ChildSpec{Flags: unix.CLONE_NEWUTS, Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.Readlink("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err := os.Readlink(c.Proc("ns/uts")); err != nil || theirs == ours {
		t.Errorf("its namespace is %s, ours %s: %v", theirs, ours, err)
	}
	// It closes what it has once it runs: when it waits in read, it has.
	for !reading(t, c) {
	}
	fds, err := os.ReadDir(c.Proc("fd"))
	if err != nil || len(fds) != 1 || fds[0].Name() != "0" {
		t.Errorf("its descriptors: %v, %v", fds, err)
	}
	pid := c.PID
	c.Close()
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("after Close: %v", err)
	}
}

// reading reports whether the child sleeps in read(0, ...).
func reading(t *testing.T, c *Child) bool {
	b, err := os.ReadFile(c.Proc("syscall"))
	if err != nil {
		t.Skip(err)
	}
	return strings.HasPrefix(string(b), strconv.Itoa(unix.SYS_READ)+" 0x0 ")
}

// TestManyChildren makes them while the runtime is busy.
func TestManyChildren(t *testing.T) {
	done := make(chan error)
	for range 8 {
		go func() {
			for range 20 {
				_ = make([]byte, 1<<16)
				c, err := StartChild(ChildSpec{Flags: unix.CLONE_NEWIPC})
				if err == nil {
					err = c.Wait()
					c.Close()
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestSameFile(t *testing.T) {
	a, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := unix.FcntlInt(a.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(b)
	other, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for fd, want := range map[int]bool{b: true, int(other.Fd()): false} {
		if got, err := SameFile(int(a.Fd()), fd); err != nil || got != want {
			t.Errorf("SameFile(%d, %d) = %v, %v", a.Fd(), fd, got, err)
		}
	}
}

func TestStatMount(t *testing.T) {
	n, id, err := ListMounts()
	if err == unix.ENOSYS {
		t.Skip("listmount: Linux 6.8")
	}
	if err != nil || n == 0 {
		t.Fatalf("ListMounts = %d, %v", n, err)
	}
	if err := StatMount(id); err != nil {
		t.Error(err)
	}
	if err := StatMount(1<<63 - 1); err != unix.ENOENT {
		t.Errorf("a mount that there is not: %v", err)
	}
}
