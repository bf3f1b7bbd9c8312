package keeper

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// slowDisk puts the log on a file system that can be made to stand still.
func (w *world) slowDisk() (stop, goOn func()) {
	w.t.Helper()
	image := filepath.Join(w.run, "disk")
	w.must(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20))
	dir := filepath.Dir(w.log)
	for _, args := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			w.t.Skipf("%v: %v: %s", args, err, out)
		}
	}
	w.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	d, err := os.Open(dir)
	w.must(err)
	frozen := false
	stop = func() {
		w.must(unix.IoctlSetInt(int(d.Fd()), 0xc0045877, 0)) // FIFREEZE
		frozen = true
	}
	goOn = func() {
		if frozen {
			frozen = false
			w.must(unix.IoctlSetInt(int(d.Fd()), 0xc0045878, 0)) // FITHAW
		}
	}
	w.t.Cleanup(func() { goOn(); _ = d.Close() })
	return stop, goOn
}

// A disk that stands still: who may not wait does not, and loses lines that are counted.
func TestSlowDiskNonBlocking(t *testing.T) {
	w := newWorld(t)
	stop, goOn := w.slowDisk()
	w.orders.Log = LogOrders{NonBlocking: true, Buffer: 200 << 10}
	w.begin("sh", "-c", "echo 1; read x; seq 2 600000; read x; seq 600001 600100; exit 4")
	w.keep()
	w.until("the log begins", func() bool { return string(w.logged()[0]) == "1\n" })
	stop()
	_, err := w.stdin.WriteString("x\n")
	w.must(err)
	w.until("lines are dropped", func() bool { return w.counters().DroppedLines > 400000 })
	goOn()
	w.until("the log is written", func() bool { return len(w.logged()[0]) > 100<<10 && w.counters().BlockedTotal > 0 })
	_, err = w.stdin.WriteString("x\n")
	w.must(err)
	_ = w.command.Wait()
	w.finish()
	w.checkSeq(600100, w.counters().DroppedLines)
}

// Who may wait waits, and loses nothing.
func TestSlowDiskBlocking(t *testing.T) {
	w := newWorld(t)
	stop, goOn := w.slowDisk()
	w.begin("sh", "-c", "echo 1; read x; seq 2 600000; exit 4")
	w.keep()
	w.until("the log begins", func() bool { return string(w.logged()[0]) == "1\n" })
	stop()
	_, err := w.stdin.WriteString("x\n")
	w.must(err)
	w.until("the keeper waits for the disk", func() bool {
		threads, _ := filepath.Glob("/proc/" + itoa(w.keeper.Process.Pid) + "/task/*/stat")
		for _, path := range threads {
			if b, _ := os.ReadFile(path); bytes.Contains(b, []byte(") D ")) {
				return true
			}
		}
		return false
	})
	goOn()
	_ = w.command.Wait()
	w.finish()
	w.checkSeq(600000, 0)
}
