package attend

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/shell"
)

// watch receives the signals that are meant for the container.
//
// Before the container runs there is nobody to pass them to: the first that asks for an end
// cancels what is going on, a second ends the command on the spot; others do to the command
// what they do to any program. Once it runs, every signal is its own to answer.
type watch struct {
	signals chan os.Signal
	proxy   bool
	lazy    bool // most signals are received only once the container has run for a while
	cancel  context.CancelFunc

	mu      sync.Mutex
	asked   unix.Signal       // the signal that asked for an end before the start
	held    []unix.Signal     // what waits for the start
	deliver func(unix.Signal) // nil before the start
}

// soon is when signals begin to be received. Asking for one costs the Go runtime four
// switches of threads, for all of them a millisecond of a start that takes five. Until then a
// signal ends the command, and the container with it, as it would end any program that has
// not had the time to ask for it either.
const soon = 10 * time.Millisecond

// watchSignals begins to receive. Without a proxy signals do to the command what they do to
// any program, unless it has a terminal to put in order first: then none may be missed, and
// people do not see a millisecond.
func watchSignals(proxy, terminal bool) *watch {
	w := &watch{signals: make(chan os.Signal, 64), proxy: proxy, lazy: proxy && !terminal, cancel: func() {}}
	switch {
	case proxy && terminal:
		signal.Notify(w.signals, forwarded()...)
	case proxy:
		time.AfterFunc(soon, func() {
			signal.Notify(w.signals, heeded(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)...)
		})
	case terminal:
		signal.Notify(w.signals, heeded(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGCONT)...)
	}
	if terminal {
		signal.Notify(w.signals, unix.SIGWINCH, unix.SIGPIPE)
	}
	return w
}

// forwarded is every signal but those that cannot be caught, that are about the process
// itself (a fault, a child, a broken pipe, Go's own SIGURG), or by which a shell keeps a
// background job from the terminal.
func forwarded() []os.Signal {
	var all []unix.Signal
	for s := unix.Signal(1); s <= 64; s++ {
		switch s {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG, unix.SIGWINCH, unix.SIGTTIN, unix.SIGTTOU,
			unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGPROF, 32, 33:
			continue // 32 and 33 belong to the C library
		}
		all = append(all, s)
	}
	return heeded(all...)
}

// heeded leaves out what was ignored when we began, as nohup(1) has it: it stays ignored.
func heeded(list ...unix.Signal) []os.Signal {
	var out []os.Signal
	for _, s := range list {
		if !signal.Ignored(s) {
			out = append(out, s)
		}
	}
	return out
}

// until is ctx, canceled by the first signal that asks for an end.
func (w *watch) until(ctx context.Context) context.Context {
	ctx, w.cancel = context.WithCancel(ctx)
	go func() {
		for s := range w.signals {
			w.take(s.(unix.Signal))
		}
	}()
	return ctx
}

func (w *watch) take(s unix.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deliver != nil {
		w.deliver(s)
		return
	}
	switch s {
	case unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT:
		if w.asked != 0 {
			dieOf(s)
		}
		w.asked = s
		w.cancel()
	}
	w.held = append(w.held, s)
}

// started hands over to deliver, which gets what waited first. It is called for one signal
// at a time.
func (w *watch) started(deliver func(unix.Signal)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.held {
		deliver(s)
	}
	w.held, w.deliver = nil, deliver
	if w.lazy {
		time.AfterFunc(soon, func() { signal.Notify(w.signals, forwarded()...) })
	}
}

// over has the signals that still come ignored. When it returns none is being answered.
func (w *watch) over() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deliver = func(unix.Signal) {}
}

// endedBy is the signal that kept the container from starting, or 0.
func (w *watch) endedBy() unix.Signal {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

// dieOf ends this process as the signal would have.
func dieOf(s unix.Signal) {
	signal.Reset(s)
	_ = unix.Kill(unix.Getpid(), s)
	time.Sleep(time.Second) // another thread may be the one that takes it
	os.Exit(shell.ExitSignal + int(s))
}
