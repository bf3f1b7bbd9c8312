package launch

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/launch/detached"
	"github.com/cortenhq/corten/internal/plan"
)

// StartAttached is Start as it goes before Linux 6.15: the overlay's parts are attached for
// it, and so is the mount that files are made in.
func StartAttached(p plan.Plan, env Env) (*Process, error) {
	h := &host{fds: map[plan.Handle]int{}, release: -1, self: -1, stdio: stdioOf(p, env), env: env}
	defer h.closeAll()
	if err := h.prepare(p); err != nil {
		return nil, err
	}
	for _, s := range p.Host {
		if err := h.runAttached(s); err != nil {
			h.abandon()
			return nil, err
		}
	}
	h.proc.Apart()
	h.c.KinApart()
	proc := &Process{PID: h.proc.PID, pidfd: os.NewFile(uintptr(h.proc.PIDFD), "pidfd")}
	return proc, h.failure(p)
}

func (h *host) runAttached(s plan.Step) error {
	switch s := s.(type) {
	case plan.Overlay:
		parts, err := h.isolate(s)
		if err != nil {
			return err
		}
		fd, err := h.overlayAttached(s, parts)
		if err != nil {
			return err
		}
		h.put(s.As, fd)
	case plan.MakeFile:
		if err := h.run(s); err != nil {
			return err
		}
		_ = unix.Close(h.fd(s.As))
		fd, err := detached.CloneAttached(h.fd(s.In), s.Name)
		if err != nil {
			return err
		}
		h.put(s.As, fd)
	default:
		return h.run(s)
	}
	return nil
}
