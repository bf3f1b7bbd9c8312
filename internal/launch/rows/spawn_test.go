package rows

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BenchmarkSpawn compares the ways to make a process that executes at once: the stub with
// our memory shared (what Start does), the stub with a copy of it, and the Go runtime's own
// fork, which shares memory too and stops the thread until the exec.
func BenchmarkSpawn(b *testing.B) {
	const program = "/bin/true"
	if _, err := os.Stat(program); err != nil {
		b.Skip("needs " + program)
	}
	ballast := make([]byte, 64<<20) // a process of some size: page tables to copy
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	stub := func(b *testing.B, flags uint64) {
		for b.Loop() {
			t := New(8)
			argv, envp := t.Texts([]string{program}), t.Texts(nil)
			t.Call(unix.SYS_RT_SIGPROCMASK, t.Num(unix.SIG_SETMASK), t.Bytes(make([]byte, 8)), Zero, t.Num(8))
			t.Call(unix.SYS_EXECVE, t.Text(program), argv, envp)
			args := &cloneArgs{flags: flags, exitSignal: uint64(unix.SIGCHLD)}
			runtime.LockOSThread()
			var all, old unix.Sigset_t
			for i := range all.Val {
				all.Val[i] = ^all.Val[i]
			}
			_ = unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old)
			pid := spawn(args, unsafe.Sizeof(*args), &t.Rows[0], uintptr(len(t.Rows)), &t.Out)
			_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
			runtime.UnlockOSThread()
			if pid < 0 {
				b.Fatal(unix.Errno(-pid))
			}
			_, _ = unix.Wait4(pid, nil, 0, nil)
			runtime.KeepAlive(t)
		}
	}
	b.Run("shared", func(b *testing.B) { stub(b, unix.CLONE_VM|unix.CLONE_CLEAR_SIGHAND) })
	b.Run("copied", func(b *testing.B) { stub(b, unix.CLONE_CLEAR_SIGHAND) })
	b.Run("runtime", func(b *testing.B) {
		for b.Loop() {
			pid, err := syscall.ForkExec(program, []string{program}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
			if err != nil {
				b.Fatal(err)
			}
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	})
	runtime.KeepAlive(ballast)
}
