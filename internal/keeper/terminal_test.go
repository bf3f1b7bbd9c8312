package keeper

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// beginTerminal starts a command with a terminal, whose master it holds as descriptor 3.
func (w *world) beginTerminal(script string) (master *os.File) {
	w.t.Helper()
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		w.t.Skipf("this host has no terminals: %v", err)
	}
	w.must(unix.IoctlSetPointerInt(m, unix.TIOCSPTLCK, 0))
	peer, err := kernel.OpenPeer(m)
	w.must(err)
	tio, err := unix.IoctlGetTermios(peer, unix.TCGETS)
	w.must(err)
	tio.Oflag &^= unix.OPOST // lines end as they were written
	w.must(unix.IoctlSetTermios(peer, unix.TCSETS, tio))
	side := os.NewFile(uintptr(peer), "terminal")
	master = os.NewFile(uintptr(m), "master")
	w.guards = append(w.guards, master)
	c := exec.Command("sh", "-c", script)
	c.Stdin, c.Stdout, c.Stderr, c.ExtraFiles = side, side, side, []*os.File{master}
	w.must(c.Start(), side.Close())
	w.command = c
	w.orders.PID, w.orders.Start = c.Process.Pid, startOf(c.Process.Pid)
	w.orders.Terminal, w.orders.Guard = true, 3
	w.must(w.orders.Write(w.folder))
	return master
}

// Of a terminal, too, nothing is lost and nothing doubled by killed keepers.
func TestTerminalOfKilledKeepers(t *testing.T) {
	w := newWorld(t)
	enough := filepath.Join(w.run, "enough")
	w.beginTerminal("i=0; while [ ! -e " + enough + " ]; do i=$((i+1)); echo $i; done; i=$((i+1)); echo $i; printf end")
	for range 60 {
		w.keep()
		time.Sleep(time.Duration(rand.IntN(int(25 * time.Millisecond))))
		w.kill()
	}
	w.keep()
	w.until("a keeper has the terminal", w.catches) // of a process that is gone there is none
	w.must(os.WriteFile(enough, nil, 0o600))
	_ = w.command.Wait()
	w.finish()
	text, ok := strings.CutSuffix(string(w.logged()[0]), "end")
	if !ok {
		t.Errorf("the end is missing")
	}
	lines := strings.Fields(text)
	if len(lines) < 1000 {
		t.Errorf("only %d lines", len(lines))
	}
	for i, l := range lines {
		if l != strconv.Itoa(i+1) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
}

// More than the window of a terminal's spool, and lines that are longer.
func TestTerminalLongLines(t *testing.T) {
	w := newWorld(t)
	w.beginTerminal("head -c 300000 /dev/zero | tr '\\0' a; echo; seq 1 50000")
	w.keep()
	_ = w.command.Wait()
	w.finish()
	first, rest, _ := strings.Cut(string(w.logged()[0]), "\n")
	if first != strings.Repeat("a", 300000) {
		t.Errorf("the long line has %d bytes", len(first))
	}
	if n := len(strings.Fields(rest)); n != 50000 {
		t.Errorf("%d lines follow", n)
	}
}
