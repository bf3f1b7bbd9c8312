package launch

import (
	"maps"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/plan"
)

// Waiting is a process that has done all of its plan but the exec, and waits at plan.Hold. It ends
// with this process until Known is called. After that it goes on whatever becomes of this process:
// the memory that it shares stays, the kernel sees to that, as long as it is used.
type Waiting struct {
	*Process
	h     *host
	plan  plan.Plan
	known *os.File
}

// Hold executes a plan of package bundled up to the point where the process waits. On an error
// nothing is left running or mounted.
func Hold(p plan.Plan, env Env) (*Waiting, error) {
	files := maps.Clone(env.Files)
	if files == nil {
		files = map[plan.Handle]*os.File{}
	}
	ready, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errs.Wrap("make eventfd", "", err)
	}
	files[plan.HeldReady] = os.NewFile(uintptr(ready), "ready")
	defer files[plan.HeldReady].Close()
	rd, known, err := os.Pipe()
	if err != nil {
		return nil, errs.Wrap("make pipe", "", err)
	}
	files[plan.HeldKnown] = rd
	defer rd.Close()
	env.Files = files
	h, err := begin(p, env)
	if h != nil {
		defer h.closeAll()
	}
	if err != nil {
		_ = known.Close()
		return nil, err
	}
	if nest.Inside() {
		// The user's next command, which starts the container, has to find our user namespace by it. Until then it
		// has our memory; it is alone in the container, and we are about to end.
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
		nest.Register(h.proc.PID)
	}
	h.closeShared()
	return &Waiting{Process: h.process(), h: h, plan: p, known: known}, nil
}

// held waits until the process waits at bundled.AwaitHooks or plan.Hold, or has ended.
func (h *host) held(p plan.Plan) error {
	fds := []unix.PollFd{{Fd: int32(h.env.Files[plan.HeldReady].Fd()), Events: unix.POLLIN}, {Fd: int32(h.proc.PIDFD), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err == nil {
			break
		} else if err != unix.EINTR {
			return err
		}
	}
	if fds[0].Revents != 0 {
		_, err := unix.Read(int(fds[0].Fd), make([]byte, 8))
		return err
	}
	h.proc.Apart()
	return h.lost(p)
}

// lost says why the process has ended on its way.
func (h *host) lost(p plan.Plan) error {
	if err := h.failure(p); err != nil {
		return &died{err}
	}
	return &died{errs.Newf(errs.Other, "start process", "", "it was killed on its way")}
}

// died is an error that quotes its own step.
type died struct{ error }

func (e *died) Unwrap() error { return e.error }

// Known lets the process live on by itself.
func (w *Waiting) Known() error {
	_, err := w.known.Write([]byte{0})
	return errs.Wrap("release process", "", err)
}

// Begun waits, after the process has been told to start, until it has executed its command, and says
// why it could not.
func (w *Waiting) Begun() error {
	w.h.proc.Apart()
	w.h.takeScore()
	return w.h.failure(w.plan)
}

// Abandon ends the process.
func (w *Waiting) Abandon() {
	_ = w.Signal(unix.SIGKILL)
	_, _ = w.Wait()
	w.h.takeScore()
	_ = w.Close()
}
