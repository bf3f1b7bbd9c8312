package oci

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/errs"
)

// terminal is that of a container, copied from and to ours.
type terminal struct {
	master *os.File // nil: there is none
	before *term.State
	copied chan struct{}
}

func newTerminal(master *os.File) *terminal {
	return &terminal{master: master, copied: make(chan struct{})}
}

// copy begins to copy. Our own terminal, if there is one, hands on every key.
func (t *terminal) copy() (err error) {
	if t.master == nil {
		close(t.copied)
		return nil
	}
	t.resize()
	if term.IsTerminal(0) {
		if t.before, err = term.MakeRaw(0); err != nil {
			return errs.Wrap("use terminal", "", err)
		}
	}
	go func() { _, _ = io.Copy(t.master, os.Stdin) }()
	go func() {
		_, _ = io.Copy(os.Stdout, t.master) // it ends with EIO
		close(t.copied)
	}()
	return nil
}

// resize gives the container's terminal the size of ours.
func (t *terminal) resize() {
	if t.master == nil {
		return
	}
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// lastWords is how long to wait for what a process left in a terminal that others may have open.
const lastWords = 200 * time.Millisecond

func (t *terminal) end() {
	if t.master == nil {
		return
	}
	select {
	case <-t.copied:
	case <-time.After(lastWords):
	}
	if t.before != nil {
		_ = term.Restore(0, t.before)
	}
}
