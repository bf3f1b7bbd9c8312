package rows

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestStubOffsets compares the layouts of Go and of the assembly, for all machines: they
// have the same word size.
func TestStubOffsets(t *testing.T) {
	want := map[string]uintptr{
		"row_nr":         unsafe.Offsetof(Row{}.Nr),
		"row_args":       unsafe.Offsetof(Row{}.Args),
		"row_out":        unsafe.Offsetof(Row{}.Out),
		"row_allow":      unsafe.Offsetof(Row{}.Allow),
		"row_skip":       unsafe.Offsetof(Row{}.Skip),
		"row_fork":       unsafe.Offsetof(Row{}.Fork),
		"row_size":       unsafe.Sizeof(Row{}),
		"outcome_row":    unsafe.Offsetof(Outcome{}.Row),
		"outcome_errno":  unsafe.Offsetof(Outcome{}.Errno),
		"outcome_last":   unsafe.Offsetof(Outcome{}.Last),
		"outcome_eacces": unsafe.Offsetof(Outcome{}.Eacces),
		"outcome_failed": unsafe.Offsetof(Outcome{}.Failed),
		"outcome_size":   unsafe.Sizeof(Outcome{}),
		"SYS_clone3":     435, // the same everywhere: it came late
	}
	if next := unsafe.Offsetof(Table{}.KinOut) - unsafe.Offsetof(Table{}.Out); next != want["outcome_size"] {
		t.Errorf("the second outcome is %d bytes after the first", next)
	}
	stubs, err := filepath.Glob("stub_*.s")
	if err != nil || len(stubs) != 2 {
		t.Fatalf("stubs %v, %v", stubs, err)
	}
	for _, stub := range stubs {
		f, err := os.Open(stub)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		seen := map[string]bool{}
		for s := bufio.NewScanner(f); s.Scan(); {
			fields := strings.Fields(s.Text())
			if len(fields) != 3 || fields[0] != "#define" {
				continue
			}
			n, err := strconv.ParseUint(fields[2], 0, 64)
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := want[fields[1]]; ok && uintptr(n) != v {
				t.Errorf("%s: %s is %d, in Go %d", stub, fields[1], n, v)
			}
			seen[fields[1]] = true
		}
		for name := range want {
			if !seen[name] {
				t.Errorf("%s does not say %s", stub, name)
			}
		}
	}
}

// walk has a process walk the rows of a table, without namespaces, and returns its status.
func (t *Table) walk(tb testing.TB) unix.WaitStatus {
	tb.Helper()
	b, err := t.Start(0, -1)
	if err != nil {
		tb.Fatal(err)
	}
	b.Apart()
	t.KinApart()
	return reap(tb, b)
}

// reap waits for the end of a process.
func reap(tb testing.TB, b Born) (st unix.WaitStatus) {
	tb.Helper()
	defer unix.Close(b.PIDFD)
	for {
		if _, err := unix.Wait4(b.PID, &st, 0, nil); err == nil {
			return st
		} else if err != unix.EINTR {
			tb.Fatal(err)
		}
	}
}

// quit is a row that ends the process with a status.
func (t *Table) quit(status Slot) { t.Call(unix.SYS_EXIT_GROUP, status) }

// TestResults hands what one row returns to the next ones, by the slot.
func TestResults(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	x := New(20)
	in := x.Unset(0) // filled in later
	x.Call(unix.SYS_WRITE, in, x.Text("one,"), x.Num(4))
	dup := x.Result(x.Call(unix.SYS_FCNTL, in, x.Num(unix.F_DUPFD_CLOEXEC), x.Num(100)))
	x.Call(unix.SYS_WRITE, dup, x.Bytes([]byte("two,")), x.Num(4))
	again := x.Unset(^uintptr(0))
	x.ResultIn(x.Call(unix.SYS_WRITE, dup, Point(x, &[3]byte{'t', 'h', 'r'}), x.Num(3)), again)
	x.Call(unix.SYS_CLOSE, dup)
	x.quit(again) // 3 bytes
	x.Slots[in] = w.Fd()
	if st := x.walk(t); st.ExitStatus() != 3 {
		t.Errorf("status %#x", st)
	}
	if x.Slots[dup] < 100 {
		t.Errorf("the copy is %d", x.Slots[dup])
	}
	buf := make([]byte, 100)
	if n, _ := r.Read(buf); string(buf[:n]) != "one,two,thr" {
		t.Errorf("wrote %q", buf[:n])
	}
}

// TestSixArguments: the last ones take other registers.
func TestSixArguments(t *testing.T) {
	x := New(20)
	// An anonymous mapping: each of the six counts, the last two as -1 and 0.
	addr := x.Result(x.Call(unix.SYS_MMAP, Zero, x.Num(4096), x.Num(unix.PROT_READ|unix.PROT_WRITE),
		x.Num(unix.MAP_PRIVATE|unix.MAP_ANONYMOUS), x.Num(^uintptr(0)), Zero))
	x.Call(unix.SYS_MUNMAP, addr, x.Num(4096))
	// And a wrong sixth one, which only a file notices.
	x.Call(unix.SYS_MMAP, Zero, x.Num(4096), x.Num(unix.PROT_READ), x.Num(unix.MAP_PRIVATE|unix.MAP_ANONYMOUS),
		x.Num(^uintptr(0)), x.Num(1)).Tolerate(0, unix.EINVAL)
	x.quit(x.Num(9))
	if st := x.walk(t); st.ExitStatus() != 9 || x.Out.Errno != 0 {
		t.Errorf("status %#x, row %d failed with %d", st, x.Out.Row, x.Out.Errno)
	}
	if unix.Errno(x.Out.Last) != unix.EINVAL {
		t.Errorf("the sixth argument went by: %d", x.Out.Last)
	}
}

// TestTolerated tries each lane of allow, what is skipped, and what is not tolerated.
func TestTolerated(t *testing.T) {
	// A row that fails with EBADF.
	fails := func(x *Table) *Row { return x.Call(unix.SYS_CLOSE, x.Num(^uintptr(0))) }
	const e1, e2, e3, e4 = unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ENAMETOOLONG
	for name, test := range map[string]struct {
		allow []unix.Errno
		skip  int
		want  int // the status; 127: it is fatal
	}{
		"none":       {nil, 0, 127},
		"first":      {[]unix.Errno{unix.EBADF}, 0, 1},
		"second":     {[]unix.Errno{e1, unix.EBADF}, 0, 1},
		"third":      {[]unix.Errno{e1, e2, unix.EBADF}, 0, 1},
		"fourth":     {[]unix.Errno{e1, e2, e3, unix.EBADF}, 0, 1},
		"others":     {[]unix.Errno{e1, e2, e3, e4}, 0, 127},
		"skip one":   {[]unix.Errno{unix.EBADF}, 1, 2},
		"skip two":   {[]unix.Errno{unix.EBADF}, 2, 3},
		"skip them":  {[]unix.Errno{e1}, 1, 127},
		"no failure": {[]unix.Errno{0}, 0, 127},
	} {
		t.Run(name, func(t *testing.T) {
			x := New(20)
			x.Call(unix.SYS_GETPID)
			fails(x).Tolerate(test.skip, test.allow...)
			for i := range 3 {
				x.quit(x.Num(uintptr(i + 1)))
			}
			st := x.walk(t)
			if st.ExitStatus() != test.want {
				t.Errorf("status %#x", st)
			}
			errno, last := unix.Errno(x.Out.Errno), unix.Errno(x.Out.Last)
			if test.want == 127 && (x.Out.Row != 1 || errno != unix.EBADF || last != 0) {
				t.Errorf("fatal: row %d, %v, tolerated %v", x.Out.Row, errno, last)
			}
			if test.want != 127 && (errno != 0 || last != unix.EBADF || x.Out.Row != uintptr(2+test.skip)) {
				t.Errorf("tolerated: row %d, %v, tolerated %v", x.Out.Row, errno, last)
			}
		})
	}
}

// TestSucceeds does not skip after a row that succeeds.
func TestSucceeds(t *testing.T) {
	x := New(20)
	x.Call(unix.SYS_GETPID).Tolerate(1, unix.EBADF)
	x.quit(x.Num(1))
	x.quit(x.Num(2))
	if st := x.walk(t); st.ExitStatus() != 1 || x.Out.Last != 0 {
		t.Errorf("status %#x, tolerated %d", st, x.Out.Last)
	}
}

// TestEnd comes to the end of the table, as when every exec is tolerated, and remembers a
// file that was there.
func TestEnd(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, paths := range [][]string{{dir + "/none"}, {dir + "/none", file}, {file, dir + "/none"}} {
		x := New(20)
		argv := x.Texts([]string{"x"})
		for _, p := range paths {
			x.Call(unix.SYS_EXECVE, x.Text(p), argv, x.Texts(nil)).Tolerate(0, unix.ENOENT, unix.EACCES)
		}
		st := x.walk(t)
		if st.ExitStatus() != 127 || x.Out.Row != uintptr(len(paths)) || x.Out.Errno != 0 {
			t.Errorf("%v: status %#x, row %d, error %d", paths, st, x.Out.Row, x.Out.Errno)
		}
		if there := slices.Contains(paths, file); (x.Out.Eacces == 1) != there {
			t.Errorf("%v: denied %d", paths, x.Out.Eacces)
		}
	}
}

// TestInterrupted stops a process in a call that the kernel does not take up again by
// itself when it goes on (signal(7)): the stub repeats it.
func TestInterrupted(t *testing.T) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ep)
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ev)
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ev, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		t.Fatal(err)
	}
	x := New(20)
	found := x.Result(x.Call(unix.SYS_EPOLL_PWAIT, x.Num(uintptr(ep)), Point(x, new(unix.EpollEvent)), x.Num(1), x.Num(^uintptr(0))))
	x.quit(found)
	b, err := x.Start(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for _, s := range []struct {
			sig   unix.Signal
			state byte
		}{{unix.SIGSTOP, 'T'}, {unix.SIGCONT, 'S'}} {
			if err := unix.PidfdSendSignal(b.PIDFD, s.sig, nil, 0); err != nil {
				t.Fatal(err)
			}
			waitState(t, b.PID, s.state)
		}
	}
	if _, err := unix.Write(ev, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	b.Apart()
	if st := reap(t, b); st.ExitStatus() != 1 || x.Out.Errno != 0 {
		t.Errorf("status %#x, row %d failed with %v", st, x.Out.Row, unix.Errno(x.Out.Errno))
	}
}

func waitState(t *testing.T, pid int, want byte) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && rest[0] == want {
			return
		}
	}
	t.Fatalf("process %d does not come to state %c", pid, want)
}

// TestSignalsBlocked: nothing of ours can run in the child, and a handler least of all.
func TestSignalsBlocked(t *testing.T) {
	x := New(20)
	mask := new(uint64)
	x.Call(unix.SYS_RT_SIGPROCMASK, Zero, Zero, Point(x, mask), x.Num(8))
	x.Call(unix.SYS_KILL, x.Result(x.Call(unix.SYS_GETPID)), x.Num(uintptr(unix.SIGTERM)))
	x.quit(x.Num(5))
	if st := x.walk(t); st.ExitStatus() != 5 {
		t.Errorf("status %#x", st)
	}
	if want := ^uint64(0) &^ (1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1)); *mask != want {
		t.Errorf("blocked are %#x", *mask)
	}
}

// TestKilled: who dies on the way has no error to tell.
func TestKilled(t *testing.T) {
	x := New(20)
	x.Call(unix.SYS_KILL, x.Result(x.Call(unix.SYS_GETPID)), x.Num(uintptr(unix.SIGKILL)))
	x.quit(x.Num(5))
	if st := x.walk(t); st.Signal() != unix.SIGKILL || x.Out.Errno != 0 || x.Out.Row != 1 {
		t.Errorf("status %#x, row %d, error %d", st, x.Out.Row, x.Out.Errno)
	}
}

// TestGrowth says when a table is too small, and moves nothing meanwhile.
func TestGrowth(t *testing.T) {
	for _, rows := range []int{1, 2, 3} {
		x := New(rows)
		first := x.Address(Zero)
		for range 3 {
			x.Call(unix.SYS_GETPID).Tolerate(0, unix.EBADF)
		}
		if x.Spent != (rows < 3) || x.Address(Zero) != first || len(x.Rows) != rows {
			t.Errorf("room for %d: spent %v, %d rows", rows, x.Spent, len(x.Rows))
		}
	}
	x := New(2)
	for range 2*perRow - 1 {
		x.Num(1)
	}
	if x.Spent {
		t.Error("spent too early")
	}
	if s := x.Num(1); !x.Spent || s != Zero {
		t.Errorf("slot %d beyond the last", s)
	}
}

// TestManyAtOnce makes processes from several threads: each has its own table.
func TestManyAtOnce(t *testing.T) {
	done := make(chan bool)
	const threads, rounds = 4, 50
	for i := range threads {
		go func() {
			for range rounds {
				x := New(4)
				x.quit(x.Num(uintptr(i)))
				if st := x.walk(t); st.ExitStatus() != i {
					t.Errorf("status %#x, want %d", st, i)
				}
			}
			done <- true
		}()
	}
	for range threads {
		<-done
	}
}

// TestFork has a process make another, which goes on further down the table: each has an
// outcome of its own, and both are waited for.
func TestFork(t *testing.T) {
	for name, test := range map[string]struct {
		fails []int // processes whose row fails, first and second
		want  [2]unix.Errno
	}{
		"both end well":    {nil, [2]unix.Errno{}},
		"the first fails":  {[]int{0}, [2]unix.Errno{unix.EBADF, 0}},
		"the second fails": {[]int{1}, [2]unix.Errno{0, unix.EBADF}},
		"both fail":        {[]int{0, 1}, [2]unix.Errno{unix.EBADF, unix.EBADF}},
	} {
		t.Run(name, func(t *testing.T) {
			x := New(20)
			x.Kin = &Kin{Alive: 1}
			alive := Point(x, &x.Kin.Alive)
			words := &[2]uint64{}
			mark := func(who int) {
				if slices.Contains(test.fails, who) {
					x.Call(unix.SYS_CLOSE, x.Num(^uintptr(0)))
				}
				// The signal mask: a number that tells that it came here.
				x.Call(unix.SYS_RT_SIGPROCMASK, Zero, Zero, Point(x, &words[who]), x.Num(8))
				x.quit(x.Num(uintptr(who + 1)))
			}
			fork := x.Call(unix.SYS_CLONE, x.Num(unix.CLONE_VM|unix.CLONE_PARENT_SETTID|unix.CLONE_CHILD_CLEARTID|uintptr(unix.SIGCHLD)),
				Zero, Point(x, &x.Kin.PID), alive, alive)
			first := len(x.Rows)
			// The first waits for the second, whose status is in the second byte.
			status := x.Unset(0)
			x.Call(unix.SYS_WAIT4, x.Num(^uintptr(0)), x.Unset(x.Address(status)))
			mark(0)
			fork.Fork = uintptr(len(x.Rows) - first)
			second := len(x.Rows)
			mark(1)
			st := x.walk(t)
			want := [2]int{1, 2}
			for i := range want {
				if test.want[i] != 0 {
					want[i] = 127
				}
			}
			if st.ExitStatus() != want[0] || x.Slots[status]>>8 != uintptr(want[1]) {
				t.Errorf("status %#x and %#x, want %v", st, x.Slots[status], want)
			}
			for i, out := range []*Outcome{&x.Out, &x.KinOut} {
				if errno := unix.Errno(out.Errno); errno != test.want[i] || (words[i] == 0) != (errno != 0) {
					t.Errorf("process %d: row %d, %v, mask %#x", i, out.Row, errno, words[i])
				}
			}
			if x.Out.Row < uintptr(first) || x.Out.Row >= uintptr(second) || x.KinOut.Row < uintptr(second) {
				t.Errorf("they came to rows %d and %d", x.Out.Row, x.KinOut.Row)
			}
			if x.Kin.PID == 0 || x.Kin.Alive != 0 {
				t.Errorf("the second: %+v", *x.Kin)
			}
		})
	}
}

// TestForkFails: the one that could not be made is not waited for.
func TestForkFails(t *testing.T) {
	x := New(20)
	x.Kin = &Kin{Alive: 1}
	// A thread without the handlers of its maker (EINVAL, clone(2)).
	x.Call(unix.SYS_CLONE, x.Num(unix.CLONE_THREAD)).Fork = 1
	x.quit(x.Num(1))
	x.quit(x.Num(2))
	if st := x.walk(t); st.ExitStatus() != 127 || unix.Errno(x.Out.Errno) != unix.EINVAL || x.Kin.Alive != 1 {
		t.Errorf("status %#x, %+v", st, x.Out)
	}
}
