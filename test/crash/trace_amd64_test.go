package crash_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// canTrace says that this machine's registers are known below.
const canTrace = true

// call is a system call that a traced process is about to make.
type call struct {
	pid   int
	nr    int
	args  [6]uint64
	child bool // by the process that will be the container's, before its first exec

	role    string // what the process executes, of one that keeps a container; empty: the command
	process int
}

func (c call) String() string {
	who := "command"
	if c.role != "" {
		who = c.role
	}
	if c.child {
		who = "child"
	}
	return fmt.Sprintf("%s, call %d(%#x, %#x, %#x)", who, c.nr, c.args[0], c.args[1], c.args[2])
}

// verdict is what becomes of a call.
type verdict struct {
	killCommand bool          // SIGKILL to the command, before the call is made
	killCaller  bool          // SIGKILL to the process that makes it
	letGo       bool          // and all others are let go
	fail        syscall.Errno // not made, but answered with this error
}

// tracer runs a command and has judge decide about each of its system calls: by the
// command's threads and by the container's process up to its exec. Once the command is
// killed everything is let go.
type tracer struct {
	t     testing.TB
	judge func(call) verdict
	main  int
	known map[int]*tracee
	state syscall.WaitStatus // how the command ended
	ended bool
	loose bool // let go of every process that stops
	keeps bool // go on with those that keep the container, until they have ended

	halted bool // what the command has left was stopped
}

type tracee struct {
	child   bool
	role    string
	process int
	inside  bool // a call was entered and not left
	pending syscall.Errno
}

const tracing = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
	unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

// trace runs cmd to its end and returns how it ended. Nobody else may wait for processes
// meanwhile on this thread.
func trace(t testing.TB, cmd *exec.Cmd, judge func(call) verdict) syscall.WaitStatus {
	t.Helper()
	return (&tracer{t: t, judge: judge}).run(cmd)
}

// traceKept does so with the processes that keep the container, too.
func traceKept(t testing.TB, cmd *exec.Cmd, judge func(call) verdict) syscall.WaitStatus {
	t.Helper()
	return (&tracer{t: t, judge: judge, keeps: true}).run(cmd)
}

func (x *tracer) run(cmd *exec.Cmd) syscall.WaitStatus {
	t := x.t
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x.main, x.known = cmd.Process.Pid, map[int]*tracee{cmd.Process.Pid: {process: cmd.Process.Pid}}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(x.main, &ws, unix.WALL, nil); err != nil || !ws.Stopped() {
		t.Fatalf("traced command does not stop: %v %v", ws, err)
	}
	if err := unix.PtraceSetOptions(x.main, tracing); err != nil {
		t.Fatal(err)
	}
	x.resume(x.main, 0)
	watch := time.AfterFunc(2*patience, x.hangs)
	defer watch.Stop()
	for !x.ended || len(x.known) > 0 { // else all have ended or are let go
		pid, err := syscall.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			break
		}
		x.event(pid, ws)
	}
	for { // threads that were made and killed before they were known
		pid, err := syscall.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD|unix.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			break
		}
		x.event(pid, ws)
	}
	_ = cmd.Process.Release()
	return x.state
}

// hangs ends all that does not end by itself.
func (x *tracer) hangs() {
	list, _ := os.ReadDir("/proc")
	for _, e := range list {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		status, _ := os.ReadFile("/proc/" + e.Name() + "/status")
		call, _ := os.ReadFile("/proc/" + e.Name() + "/syscall")
		x.t.Errorf("hangs: %s\n%s%s", bytes.ReplaceAll(line, []byte{0}, []byte{' '}), status, call)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// stopRest stops what the command has left, so that it can be let go: a container that was created makes
// no call before it is started.
func (x *tracer) stopRest() {
	x.halted = true
	for pid := range x.known {
		_ = unix.Kill(pid, unix.SIGSTOP)
	}
}

// event answers one stop or end of a tracee.
func (x *tracer) event(pid int, ws syscall.WaitStatus) {
	if ws.Exited() || ws.Signaled() {
		delete(x.known, pid)
		if pid == x.main {
			x.state, x.ended, x.loose = ws, true, x.loose || !x.keeps
			if x.loose {
				x.stopRest()
			}
		}
		return
	}
	p := x.known[pid]
	if p == nil { // its first stop may come before its parent's event
		p = &tracee{}
		x.known[pid] = p
	}
	switch sig := ws.StopSignal(); {
	case sig == syscall.SIGTRAP|0x80:
		x.syscall(pid, p)
	case sig == syscall.SIGTRAP && ws.TrapCause() > 0:
		x.born(pid, p, ws.TrapCause())
	case sig == syscall.SIGSTOP && !p.inside:
		x.resume(pid, 0) // the first stop of a new tracee
	default:
		x.resume(pid, int(sig))
	}
}

// born answers a fork, clone or exec.
func (x *tracer) born(pid int, p *tracee, cause int) {
	switch cause {
	case unix.PTRACE_EVENT_EXEC:
		if role := keeps(pid); x.keeps && role != "" {
			if n, err := unix.PtraceGetEventMsg(pid); err == nil && int(n) != pid {
				delete(x.known, int(n)) // the thread that called it goes by the process's number now
			}
			p.child, p.role, p.process, p.inside = false, role, pid, true
			break
		}
		if p.child {
			_ = syscall.PtraceDetach(pid) // from here on it is the container
			delete(x.known, pid)
			return
		}
	case unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK, unix.PTRACE_EVENT_CLONE:
		if n, err := unix.PtraceGetEventMsg(pid); err == nil {
			q := x.known[int(n)]
			if q == nil {
				q = &tracee{}
				x.known[int(n)] = q
			}
			q.child = p.child || cause != unix.PTRACE_EVENT_CLONE
			if q.role, q.process = p.role, p.process; q.child {
				q.process = int(n)
			}
		}
	}
	x.resume(pid, 0)
}

// keeps is what a process executes, if it keeps or connects a container.
func keeps(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	args := strings.Split(string(b), "\x00")
	if i := slices.Index(args, "keep"); i > 0 && i+1 < len(args) {
		return "keep " + args[i+1]
	}
	if args[0] == "corten-net" && len(args) > 1 {
		return "net " + args[1]
	}
	if filepath.Base(args[0]) != "corten-keeper" {
		return ""
	}
	if args[1] == "rest" {
		return "rest"
	}
	return "keeper"
}

// syscall answers a stop at the entry to a call or the return from it.
func (x *tracer) syscall(pid int, p *tracee) {
	p.inside = !p.inside
	if x.loose {
		x.resume(pid, 0)
		return
	}
	var r syscall.PtraceRegs
	if syscall.PtraceGetRegs(pid, &r) != nil {
		return // killed meanwhile
	}
	if !p.inside {
		if p.pending != 0 {
			r.Rax = -uint64(p.pending)
			p.pending = 0
			_ = syscall.PtraceSetRegs(pid, &r)
		}
		x.resume(pid, 0)
		return
	}
	v := x.judge(call{pid, int(int64(r.Orig_rax)), [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}, p.child, p.role, p.process})
	switch {
	case v.killCommand:
		x.loose = true
		_ = unix.Kill(x.main, unix.SIGKILL)
	case v.killCaller:
		x.loose = x.loose || v.letGo
		_ = unix.Kill(pid, unix.SIGKILL)
	case v.fail != 0:
		p.pending = v.fail
		r.Orig_rax = ^uint64(0) // no such call
		_ = syscall.PtraceSetRegs(pid, &r)
	}
	x.resume(pid, 0)
}

// resume lets a tracee go on to its next call, or for good once the command is killed.
func (x *tracer) resume(pid, sig int) {
	if x.loose {
		_ = syscall.PtraceDetach(pid)
		delete(x.known, pid)
		if x.halted { // it may have stopped for something else
			_ = unix.Kill(pid, unix.SIGCONT)
		}
		return
	}
	_ = syscall.PtraceSyscall(pid, sig)
}
