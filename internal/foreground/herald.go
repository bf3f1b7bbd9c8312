package foreground

import (
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/spec"
)

// herald passes on what a container says to the service manager of the process that runs it,
// since systemd listens only to processes of the service.
type herald struct {
	socket *os.File
	to     string      // NOTIFY_SOCKET
	over   atomic.Bool // what is there is all there is
	done   chan struct{}
}

// newHerald begins to listen for a container in the foreground; nil if there is nobody to tell.
func newHerald(d *draft.Draft) (*herald, error) {
	socket, err := d.Listen()
	if socket == nil {
		return nil, err
	}
	return &herald{socket: socket, to: d.Site.Notify, done: make(chan struct{})}, nil
}

// start passes on until end.
func (h *herald) start() {
	if h == nil {
		return
	}
	fd := int(h.socket.Fd())
	go func() {
		defer close(h.done)
		b := make([]byte, 4096) // systemd takes no more
		for {
			// Descriptors that come along are dropped by the kernel.
			n, _, err := unix.Recvfrom(fd, b, unix.MSG_TRUNC)
			switch {
			case err == unix.EINTR:
			case err != nil || n == 0 && h.over.Load():
				return
			case n > 0 && n <= len(b):
				keeper.Notify(h.to, keeper.Allowed(string(b[:n])))
			}
		}
	}()
}

// end passes on what has come so far, and removes the socket.
func (h *herald) end(dir string) {
	if h == nil {
		return
	}
	h.over.Store(true)
	_ = unix.Shutdown(int(h.socket.Fd()), unix.SHUT_RD) // a read then ends with what is there
	<-h.done
	_ = h.socket.Close()
	_ = os.RemoveAll(dir)
}

// ready tells the service manager that the command runs, if that is for us to tell.
func ready(d *draft.Draft) {
	if d.Spec.Life.Notify == spec.NotifyKeeper && d.Site.Notify != "" {
		keeper.Notify(d.Site.Notify, "READY=1")
	}
}
