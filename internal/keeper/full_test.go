package keeper

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/logs/records"
)

// fill puts the log on a file system of its own, and fills it but for some bytes.
func (w *world) fill(size, free int) (giveBack func()) {
	w.t.Helper()
	dir := filepath.Dir(w.log)
	w.must(unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)))
	w.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	fat := filepath.Join(dir, "fat")
	w.must(os.WriteFile(fat, make([]byte, size-free), 0o600))
	return func() { w.must(os.Remove(fat)) }
}

func (w *world) counters() Counters {
	w.t.Helper()
	c, err := ReadCounters(w.folder)
	w.must(err)
	return c
}

// On a full disk a container that is to wait waits, and nothing is lost.
func TestFullDiskBlocking(t *testing.T) {
	w := newWorld(t)
	giveBack := w.fill(64<<20, 100<<10)
	w.orders.Log.Size = 0
	w.begin("sh", "-c", "seq 1 600000; exit 4") // 4 MB
	w.keep()
	w.until("it says that it is blocked", func() bool { return w.counters().BlockedSince != 0 })
	if c := w.counters(); !strings.Contains(c.LogError, "no space left") {
		t.Errorf("the error is %q", c.LogError)
	}
	w.kill() // the next one finds the log as it is
	w.keep()
	w.until("it is blocked again", func() bool { c := w.counters(); return c.BlockedSince != 0 && c.BlockedTotal != 0 })
	if s := readStat(w.orders.PID); s == nil || s[0] == "Z" {
		t.Error("the container did not wait")
	}
	giveBack()
	_ = w.command.Wait()
	w.finish()
	if c := w.counters(); c.BlockedSince != 0 || c.BlockedTotal == 0 || c.DroppedLines != 0 {
		t.Errorf("counters: %+v", c)
	}
	w.checkSeq(600000, 0)
}

// One that is not to wait loses whole lines, which are counted.
func TestFullDiskNonBlocking(t *testing.T) {
	w := newWorld(t)
	giveBack := w.fill(64<<20, 100<<10)
	w.orders.Log = LogOrders{NonBlocking: true, Buffer: 200 << 10}
	w.begin("sh", "-c", "seq 1 600000; read x; seq 600001 600100; exit 4")
	w.keep()
	w.until("lines are dropped", func() bool { return w.counters().DroppedLines > 400000 })
	giveBack()
	w.until("the log is written", func() bool { return w.counters().BlockedSince == 0 })
	_, err := w.stdin.WriteString("x\n")
	w.must(err)
	_ = w.command.Wait()
	w.finish()
	w.checkSeq(600100, w.counters().DroppedLines)
}

// checkSeq expects the numbers from 1 to last, in order, but for those that were dropped.
func (w *world) checkSeq(last, dropped int64) {
	w.t.Helper()
	lines := strings.Fields(string(w.logged()[0]))
	if int64(len(lines))+dropped != last {
		w.t.Errorf("%d lines are logged and %d dropped, of %d", len(lines), dropped, last)
	}
	before := int64(0)
	for _, l := range lines {
		n, err := number(l)
		if err != nil || n <= before || dropped == 0 && n != before+1 {
			w.t.Fatalf("%q comes after %d", l, before)
		}
		before = n
	}
	if before != last {
		w.t.Errorf("the last line is %d, not %d", before, last)
	}
}

// A log that stays impossible to write does not keep a container from ending.
func TestFullDiskAtTheEnd(t *testing.T) {
	w := newWorld(t)
	w.fill(1<<20, 0)
	w.orders.Log.NonBlocking = true
	w.begin("sh", "-c", "seq 1 1000; exit 4")
	w.keep()
	_ = w.command.Wait()
	w.finish()
	if c := w.counters(); c.DroppedLines != 1000 || c.BlockedSince == 0 {
		t.Errorf("counters: %+v", c)
	}
}

// What the spool has no room for keeps nobody waiting for ever, either.
func TestFullDiskAtTheEndOfMuch(t *testing.T) {
	w := newWorld(t)
	w.fill(64<<20, 100<<10)
	w.orders.Log.Size = 0
	w.begin("sh", "-c", "exec seq 1 600000") // 4 MB
	w.keep()
	w.until("it says that it is blocked", func() bool { return w.counters().BlockedSince != 0 })
	w.must(w.command.Process.Kill())
	_ = w.command.Wait()
	w.finish()
	if c := w.counters(); c.DroppedLines == 0 {
		t.Errorf("counters: %+v", c)
	}
}

func TestLogOff(t *testing.T) {
	w := newWorld(t)
	w.orders.Log.Off = true
	w.begin("sh", "-c", "seq 1 600000; exit 4")
	w.keep()
	_ = w.command.Wait()
	w.finish()
	if list, _ := logs.Files(w.log); len(list) != 0 {
		t.Errorf("there is a log: %v", list)
	}
}

// fixture is a pump without FIFOs: what is in its spools was put there.
func fixture(t *testing.T, folder string) *pump {
	t.Helper()
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	streams := [2]*stream{{name: logs.Stdout, source: null, spool: -1}, {name: logs.Stderr, source: -1, spool: -1}}
	p, err := openPump(folder, folder+"/log", LogOrders{Size: 500}, streams)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A pump may be gone after any of its steps: the next one makes of what is there the same log
// as if nothing had happened. The steps are made by hand here, as turn makes them.
func TestRecoveryAtEachStep(t *testing.T) {
	spool := []byte(strings.Repeat("a line of some length\n", 40) + "the beginning of a line")
	for at := range 40 {
		for _, torn := range []int{0, 1, 200, 1 << 20} {
			folder := t.TempDir()
			if err := os.WriteFile(folder+"/out.spool", spool, 0o600); err != nil {
				t.Fatal(err)
			}
			p := fixture(t, folder)
			s := p.streams[0]
			for range at {
				if p.batch(s, spool[s.from:], false) == 0 {
					break
				}
			}
			// The step that is not finished: the journal is written, of the log a part.
			e := entry{kind: writing, batch: batch{stream: s.name, from: s.from, time: 1e18, at: p.log.Position()}}
			out, used := records.Format(nil, spool[s.from:], e.time, s.name, int(max(p.log.Room(), 100)), false)
			if e.to = s.from + int64(used); used > 0 && torn < 1<<20 {
				if err := p.note(e); err != nil {
					t.Fatal(err)
				}
				f, err := os.OpenFile(folder+"/log/"+logs.Name(e.at.File), os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt(out[:min(torn, len(out))], e.at.Offset); err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			again := fixture(t, folder)
			again.drain(again.streams[0], true)
			if got := content(t, folder+"/log"); !bytes.Equal(got, spool) {
				t.Fatalf("killed after %d batches, %d bytes of the next: got %q", at, torn, got)
			}
			again.empty(again.streams[0])
			if st, err := os.Stat(folder + "/out.spool"); err != nil || st.Size() != int64(len(spool)) {
				t.Fatal("a small spool was erased", err)
			}
		}
	}
}

func content(t *testing.T, folder string) (all []byte) {
	t.Helper()
	list, err := logs.Files(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		b, err := os.ReadFile(filepath.Join(folder, logs.Name(f.N)))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			r, ok := logs.Parse(line)
			if !ok {
				t.Fatalf("%s: %q is no record", logs.Name(f.N), line)
			}
			if all = append(all, r.Content...); !r.Partial {
				all = append(all, '\n')
			}
		}
	}
	return all
}

// A spool is being erased: whoever comes next erases it, whether that had begun or not.
func TestRecoveryOfErasing(t *testing.T) {
	for _, begun := range []bool{false, true} {
		folder := t.TempDir()
		spool := bytes.Repeat([]byte("x\n"), 5000)
		if err := os.WriteFile(folder+"/out.spool", spool, 0o600); err != nil {
			t.Fatal(err)
		}
		p := fixture(t, folder)
		p.drain(p.streams[0], true)
		if err := p.note(entry{kind: erasing}); err != nil {
			t.Fatal(err)
		}
		if begun {
			if err := os.Truncate(folder+"/out.spool", 0); err != nil {
				t.Fatal(err)
			}
		}
		p = fixture(t, folder)
		if s := p.streams[0]; s.from != 0 || s.taken != 0 || p.last.kind != nothing {
			t.Errorf("begun %v: from %d, taken %d, journal %v", begun, s.from, s.taken, p.last)
		}
		if got := content(t, folder+"/log"); !bytes.Equal(got, spool) {
			t.Errorf("begun %v: %d bytes are logged, not %d", begun, len(got), len(spool))
		}
	}
}

// A journal entry that is torn anywhere does not count.
func TestJournalTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	first := entry{kind: writing, batch: batch{stream: 1, from: 1, to: 2, time: 3, at: logs.Position{File: 4, Offset: 5}}, done: [2]int64{6, 7}, dropping: [2]bool{false, true}}
	second := first
	second.from = 99
	for _, e := range []entry{first, second} {
		if err := j.write(&e); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range entryLen {
		b := bytes.Clone(whole)
		b[n] ^= 0x40 // the second entry is in the first place
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, e, err := openJournal(path); err != nil || e != first {
			t.Fatalf("byte %d torn: %+v, %v", n, e, err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, e, err := openJournal(path); err != nil || e != second {
		t.Fatalf("%+v, %v", e, err)
	}
}

// What a keeper does all the time takes nothing from the heap: it would grow to megabytes
// before anything is collected.
func TestNoGarbage(t *testing.T) {
	folder := t.TempDir()
	if err := unix.Mkfifo(folder+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(folder+"/fifo", os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	p := fixture(t, folder)
	p.log.SetLimits(logs.Limits{})
	s := p.streams[0]
	s.source = int(fifo.Fd())
	lines := bytes.Repeat([]byte("a line of some length\n"), 1000)
	if n := testing.AllocsPerRun(500, func() {
		if _, err := unix.Write(s.source, lines); err != nil {
			t.Fatal(err)
		}
		s.ready = true
		for p.turn() == 0 {
		}
	}); n != 0 {
		t.Errorf("%v allocations for %d bytes", n, len(lines))
	}
	if want := bytes.Repeat(lines, 501); !bytes.Equal(content(t, folder+"/log"), want) {
		t.Error("the log is not what was written")
	}
}
