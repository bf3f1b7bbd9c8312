package kernel

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMonitor calms the monitor and rouses it, and sees that no other thread changes.
func TestMonitor(t *testing.T) {
	slacks := func() map[string]string {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, thread := range threads {
			raw, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
			if err != nil {
				t.Skip(err)
			}
			found[thread.Name()] = strings.TrimSpace(string(raw))
		}
		return found
	}
	calmed := func() (n int) {
		for thread, ns := range slacks() {
			if ns == strconv.Itoa(calm) {
				n++
				if thread == strconv.Itoa(os.Getpid()) {
					t.Error("the main thread is calm")
				}
			}
		}
		return n
	}
	CalmMonitor()
	if n := calmed(); n == 0 {
		t.Skip("no thread changed: it takes CAP_SYS_NICE")
	} else if n != 1 {
		t.Errorf("%d threads are calm", n)
	}
	RouseMonitor()
	if n := calmed(); n != 0 {
		t.Errorf("%d threads are still calm", n)
	}
}

func TestShedCalm(t *testing.T) {
	slack := func() int {
		ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends
		was := slack()
		for _, c := range []struct{ have, want int }{{calm, was}, {1234, 1234}} {
			if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(c.have), 0, 0, 0); err != nil {
				t.Error(err)
			}
			if err := ShedCalm(); err != nil {
				t.Error(err)
			}
			if got := slack(); got != c.want {
				t.Errorf("of %d ns of slack %d are left, want %d", c.have, got, c.want)
			}
		}
	}()
	<-done
}
