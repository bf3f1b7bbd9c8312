package kernel

import "golang.org/x/sys/unix"

// SignalFD is the descriptor that CatchSignals has signals written to.
const SignalFD = 13

// CatchSignals has the number of each signal that comes written to descriptor SignalFD, in 8
// bytes. That should be a pipe which does not block: what it has no room for is lost.
//
// It is for programs that wait for descriptors and must stay small. Package os/signal takes
// a goroutine and two threads, and signalfd(2) takes that every thread has the signals
// blocked, which Go's runtime does not allow for those that end a program. The handler is
// not the runtime's: it makes one system call and knows nothing of Go. A program that is
// executed later has the default actions again.
func CatchSignals(signals ...unix.Signal) error {
	for _, s := range signals {
		handler, restorer := handlers()
		if err := setAction(s, handler, restorer); err != nil {
			return err
		}
	}
	return nil
}

// IgnoreSignals ignores signals, also for programs that are executed later. Those of Go
// leave it at that for SIGHUP and SIGINT, until they catch them.
func IgnoreSignals(signals ...unix.Signal) error {
	for _, s := range signals {
		if err := setAction(s, 1, 0); err != nil { // SIG_IGN
			return err
		}
	}
	return nil
}
