package connect

import (
	"errors"
	"net/netip"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/resolve"
	"github.com/cortenhq/corten/internal/wiring"
)

// tend connects the container, answers its questions for names, and disconnects it when who started us
// ends, or says so.
func (w *work) tend() error {
	names, err := w.connect()
	var loopback *proxy
	if w.doc != nil && err == nil {
		loopback = w.openProxy()
	}
	if w.box >= 0 {
		_ = unix.Close(w.box)
	}
	if err != nil || w.doc == nil {
		return err
	}
	if names == nil {
		w.connected()
		err = w.peer.end()
	} else if err = w.peer.ok(); err == nil {
		w.connected()
		err = w.serve(names)
	}
	loopback.close() // the ports are free when it has been said that all is done
	if derr := w.disconnect(); derr != nil {
		return errors.Join(err, derr)
	}
	if err != nil {
		return err
	}
	return w.peer.ok()
}

// serve answers for names until the socket ends.
func (w *work) serve(names *sockets) error {
	defer names.Close()
	server, err := resolve.New(w.resolver(), names.udp, names.tcp)
	if err != nil {
		return err
	}
	defer server.Close()
	changes, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return errs.Wrap("watch", "document", err)
	}
	defer unix.Close(changes)
	w.watch(changes)
	next := server.Turn(now())
	for {
		// Without a peer this is a trial by hand, which a signal ends: poll(2) leaves out a negative one.
		fds := []unix.PollFd{{Fd: int32(w.peer.fd), Events: unix.POLLIN}, {Fd: int32(server.FD()), Events: unix.POLLIN}, {Fd: int32(changes), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, until(next)); err != nil && !errors.Is(err, unix.EINTR) {
			return errs.Wrap("wait", "for questions", err)
		}
		if fds[0].Revents != 0 {
			if b, err := w.peer.receive(); err != nil || len(b) == 0 {
				return err
			}
		}
		if fds[2].Revents != 0 && w.again(changes) {
			server.Order(w.resolver())
		}
		next = server.Turn(now())
	}
}

// watch has changes tell when the document is replaced: it is one inode for each version.
func (w *work) watch(changes int) {
	_, _ = unix.InotifyAddWatch(changes, filepath.Join(w.file("wired"), string(w.id)), unix.IN_ATTRIB|unix.IN_DELETE_SELF)
}

// again reads the document again, and reports whether that is of the same start.
func (w *work) again(changes int) bool {
	b := make([]byte, 4096)
	for {
		if n, err := unix.Read(changes, b); n <= 0 || err != nil {
			break
		}
	}
	w.watch(changes)
	had := w.doc
	err := w.read()
	if err != nil || w.doc == nil || w.doc.Start != had.Start || w.doc.Resolver == nil {
		w.doc = had
		return false
	}
	return true
}

func (w *work) resolver() resolve.Config { return config(w.file(""), w.doc.Resolver) }

func config(folder string, r *wiring.Resolver) resolve.Config {
	return resolve.Config{Folder: folder, Networks: r.Networks, Upstream: words(r.Upstream), Alone: r.Alone}
}

func words(addresses []netip.Addr) []string {
	var out []string
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return out
}

// now is of a monotonic clock, in ns.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// until is the time to wait, in ms as poll(2) has it; what is less than one is one.
func until(next int64) int {
	if next == resolve.Never {
		return -1
	}
	return int(min(max(0, (next-now()+999_999)/1_000_000), 1<<30))
}
