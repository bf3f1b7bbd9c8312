package keeper

import (
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel"
)

// small is in the environment of a keeper: with one processor Go makes fewer threads.
const small = "GOMAXPROCS=1"

// isSmall says whether the program was executed as Become does it.
func isSmall() bool { return slices.Contains(syscall.Environ(), small) }

// environ is the environment for others: without what is for keepers.
func environ() []string {
	return slices.DeleteFunc(syscall.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "GOMAXPROCS=")
	})
}

// Become executes a keeper in place of the calling program, which has the descriptors at
// their numbers. It returns only if that is not possible. Signals for keepers that come before
// it catches them do not end it: what they tell it to look at, it looks at then.
func Become(program string, args ...string) error {
	_ = kernel.IgnoreSignals(unix.SIGHUP, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2)
	err := syscall.Exec(program, append([]string{"corten-keeper"}, args...), append(environ(), small))
	return errs.Wrap("execute", program, err)
}

// openSignals makes the pipe that signals are read from. Those that would end a Go program
// are caught, too: nobody ends a keeper by mistake.
func openSignals() (int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return -1, errs.Wrap("make a pipe for", "signals", err)
	}
	fd := high(p[0])
	settle(p[1], kernel.SignalFD)
	return fd, catchSignals()
}

func catchSignals() error {
	return kernel.CatchSignals(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
}

// readSignal returns the next signal that has come; 0 if there is none.
func readSignal(fd int) unix.Signal {
	var b [8]byte
	if n, err := retry(func() (int, error) { return unix.Read(fd, b[:]) }); err != nil || n < len(b) {
		return 0
	}
	return unix.Signal(b[0])
}

// all are the descriptors that have numbers.
func all() (fds []int) {
	for fd := lockFD; fd <= portsFD; fd++ {
		fds = append(fds, fd)
	}
	return fds
}

// inherit keeps the given descriptors, of those that have numbers, for the next program.
func inherit(fds ...int) {
	for fd := lockFD; fd <= portsFD; fd++ {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	}
	for _, fd := range fds {
		if fd >= 0 {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		}
	}
}

// reserve takes the numbers of what a keeper inherits, for a program that will be one: Go's
// poller would else have one of them there, and the program ends when that is overwritten.
func reserve() {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for n := pidFD; n <= portsFD; n++ {
		if n != fd {
			_ = unix.Dup3(fd, n, 0)
		}
	}
	inherit(all()...)
}

// hand executes corten in place, with the lock: what comes next is its work.
func (o Orders) hand(verb string) error {
	inherit(lockFD)
	if verb == "start" {
		reserve()
	}
	err := syscall.Exec(o.Corten, o.command(verb, o.ID), environ())
	return errs.Wrap("execute", o.Corten, err)
}

// command is corten's command line for one of its verbs for keepers.
func (o Orders) command(verb string, args ...string) []string {
	return append([]string{"corten", "--root", o.Root, "--run", o.Run, "keep", verb}, args...)
}

// program is where the keeper's own program is now.
func (o Orders) program() string {
	if o.Keeper != "" {
		return o.Keeper
	}
	return o.Corten[:strings.LastIndexByte(o.Corten, '/')+1] + "corten-keeper"
}

// anew executes a keeper's program in its place, with the lock and the given descriptors.
// Until that catches signals, the one that asks for this does nothing.
func anew(program string, args []string, fds ...int) {
	inherit(append(fds, lockFD)...)
	_ = Become(program, args...)
	inherit() // there may be no program just now: this one goes on
	_ = catchSignals()
}

// child is a command that runs beside the keeper.
type child struct {
	pid   int
	pidfd int // -1: none runs
	runs  int // how many have run
}

// enough children have run for the keeper to execute itself anew: each leaves some KiB of
// garbage, and what takes collecting it would stay larger than the keeper is.
const enough = 64

// start runs a program with no descriptor but /dev/null, in a process group of its own.
func (c *child) start(program string, args []string) error {
	fd := -1
	attr := &syscall.ProcAttr{Dir: "/", Env: environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{PidFD: &fd, Setpgid: true}}
	pid, err := syscall.ForkExec(program, args, attr)
	if err != nil {
		return errs.Wrap("execute", program, err)
	}
	c.pid, c.pidfd, c.runs = pid, fd, c.runs+1
	return nil
}

// reap is for when the pidfd says that the child has ended.
func (c *child) reap() {
	_, _ = retry(func() (int, error) { return unix.Wait4(c.pid, nil, 0, nil) })
	unix.Close(c.pidfd)
	c.pidfd = -1
}

// quiet puts /dev/null in the place of what the starter had as stdio: its terminal or pipe
// would else not be let go.
func quiet() {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for n := range 3 {
		_ = unix.Dup3(fd, n, 0)
	}
	if fd > 2 {
		unix.Close(fd)
	}
	_ = unix.Chdir("/")
	_, _ = unix.Setsid() // refused if it leads a session already
}

// say puts a last word where the starter may see it.
func say(id string, err error) {
	_, _ = unix.Write(2, []byte("corten-keeper: error: container "+id+": "+err.Error()+"\n"))
}
