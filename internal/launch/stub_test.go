package launch

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
		"row_nr":         unsafe.Offsetof(row{}.nr),
		"row_args":       unsafe.Offsetof(row{}.args),
		"row_out":        unsafe.Offsetof(row{}.out),
		"row_allow":      unsafe.Offsetof(row{}.allow),
		"row_skip":       unsafe.Offsetof(row{}.skip),
		"row_fork":       unsafe.Offsetof(row{}.fork),
		"row_size":       unsafe.Sizeof(row{}),
		"outcome_row":    unsafe.Offsetof(outcome{}.row),
		"outcome_errno":  unsafe.Offsetof(outcome{}.errno),
		"outcome_last":   unsafe.Offsetof(outcome{}.last),
		"outcome_eacces": unsafe.Offsetof(outcome{}.eacces),
		"outcome_failed": unsafe.Offsetof(outcome{}.failed),
		"outcome_size":   unsafe.Sizeof(outcome{}),
		"SYS_clone3":     435, // the same everywhere: it came late
	}
	if next := unsafe.Offsetof(table{}.kinOut) - unsafe.Offsetof(table{}.out); next != want["outcome_size"] {
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
func (t *table) walk(tb testing.TB) Status {
	tb.Helper()
	b, err := t.start(0, -1)
	if err != nil {
		tb.Fatal(err)
	}
	b.apart()
	t.kinApart()
	p := &Process{PID: b.pid, pidfd: os.NewFile(uintptr(b.pidfd), "pidfd")}
	defer p.Close()
	st, err := p.Wait()
	if err != nil {
		tb.Fatal(err)
	}
	return st
}

// quit is a row that ends the process with a status.
func (t *table) quit(status slot) { t.call(unix.SYS_EXIT_GROUP, status) }

// TestResults hands what one row returns to the next ones, by the slot.
func TestResults(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	x := newTable(20)
	in := x.unset(0) // filled in later
	x.call(unix.SYS_WRITE, in, x.text("one,"), x.num(4))
	dup := x.result(x.call(unix.SYS_FCNTL, in, x.num(unix.F_DUPFD_CLOEXEC), x.num(100)))
	x.call(unix.SYS_WRITE, dup, x.bytes([]byte("two,")), x.num(4))
	again := x.unset(^uintptr(0))
	x.resultIn(x.call(unix.SYS_WRITE, dup, point(x, &[3]byte{'t', 'h', 'r'}), x.num(3)), again)
	x.call(unix.SYS_CLOSE, dup)
	x.quit(again) // 3 bytes
	x.slots[in] = w.Fd()
	if st := x.walk(t); st.Code != 3 || st.Signal != 0 {
		t.Errorf("status %+v", st)
	}
	if x.slots[dup] < 100 {
		t.Errorf("the copy is %d", x.slots[dup])
	}
	buf := make([]byte, 100)
	if n, _ := r.Read(buf); string(buf[:n]) != "one,two,thr" {
		t.Errorf("wrote %q", buf[:n])
	}
}

// TestSixArguments: the last ones take other registers.
func TestSixArguments(t *testing.T) {
	x := newTable(20)
	// An anonymous mapping: each of the six counts, the last two as -1 and 0.
	addr := x.result(x.call(unix.SYS_MMAP, zero, x.num(4096), x.num(unix.PROT_READ|unix.PROT_WRITE),
		x.num(unix.MAP_PRIVATE|unix.MAP_ANONYMOUS), x.num(^uintptr(0)), zero))
	x.call(unix.SYS_MUNMAP, addr, x.num(4096))
	// And a wrong sixth one, which only a file notices.
	x.call(unix.SYS_MMAP, zero, x.num(4096), x.num(unix.PROT_READ), x.num(unix.MAP_PRIVATE|unix.MAP_ANONYMOUS),
		x.num(^uintptr(0)), x.num(1)).allow(0, unix.EINVAL)
	x.quit(x.num(9))
	if st := x.walk(t); st.Code != 9 || x.out.errno != 0 {
		t.Errorf("status %+v, row %d failed with %d", st, x.out.row, x.out.errno)
	}
	if unix.Errno(x.out.last) != unix.EINVAL {
		t.Errorf("the sixth argument went by: %d", x.out.last)
	}
}

// TestTolerated tries each lane of allow, what is skipped, and what is not tolerated.
func TestTolerated(t *testing.T) {
	// A row that fails with EBADF.
	fails := func(x *table) rowRef { return x.call(unix.SYS_CLOSE, x.num(^uintptr(0))) }
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
			x := newTable(20)
			x.call(unix.SYS_GETPID)
			fails(x).allow(test.skip, test.allow...)
			for i := range 3 {
				x.quit(x.num(uintptr(i + 1)))
			}
			st := x.walk(t)
			if st.Code != test.want {
				t.Errorf("status %+v", st)
			}
			errno, last := unix.Errno(x.out.errno), unix.Errno(x.out.last)
			if test.want == 127 && (x.out.row != 1 || errno != unix.EBADF || last != 0) {
				t.Errorf("fatal: row %d, %v, tolerated %v", x.out.row, errno, last)
			}
			if test.want != 127 && (errno != 0 || last != unix.EBADF || x.out.row != uintptr(2+test.skip)) {
				t.Errorf("tolerated: row %d, %v, tolerated %v", x.out.row, errno, last)
			}
		})
	}
}

// TestSucceeds does not skip after a row that succeeds.
func TestSucceeds(t *testing.T) {
	x := newTable(20)
	x.call(unix.SYS_GETPID).allow(1, unix.EBADF)
	x.quit(x.num(1))
	x.quit(x.num(2))
	if st := x.walk(t); st.Code != 1 || x.out.last != 0 {
		t.Errorf("status %+v, tolerated %d", st, x.out.last)
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
		x := newTable(20)
		argv := x.texts([]string{"x"})
		for _, p := range paths {
			x.call(unix.SYS_EXECVE, x.text(p), argv, x.texts(nil)).allow(0, unix.ENOENT, unix.EACCES)
		}
		st := x.walk(t)
		if st.Code != 127 || x.out.row != uintptr(len(paths)) || x.out.errno != 0 {
			t.Errorf("%v: status %+v, row %d, error %d", paths, st, x.out.row, x.out.errno)
		}
		if there := slices.Contains(paths, file); (x.out.eacces == 1) != there {
			t.Errorf("%v: denied %d", paths, x.out.eacces)
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
	x := newTable(20)
	found := x.result(x.call(unix.SYS_EPOLL_PWAIT, x.num(uintptr(ep)), point(x, new(unix.EpollEvent)), x.num(1), x.num(^uintptr(0))))
	x.quit(found)
	b, err := x.start(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{PID: b.pid, pidfd: os.NewFile(uintptr(b.pidfd), "pidfd")}
	defer p.Close()
	for range 20 {
		for _, s := range []struct {
			sig   unix.Signal
			state byte
		}{{unix.SIGSTOP, 'T'}, {unix.SIGCONT, 'S'}} {
			if err := p.Signal(s.sig); err != nil {
				t.Fatal(err)
			}
			waitState(t, b.pid, s.state)
		}
	}
	if _, err := unix.Write(ev, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	b.apart()
	if st, err := p.Wait(); err != nil || st.Code != 1 || x.out.errno != 0 {
		t.Errorf("status %+v, %v, row %d failed with %v", st, err, x.out.row, unix.Errno(x.out.errno))
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
	x := newTable(20)
	mask := new(uint64)
	x.call(unix.SYS_RT_SIGPROCMASK, zero, zero, point(x, mask), x.num(8))
	x.call(unix.SYS_KILL, x.result(x.call(unix.SYS_GETPID)), x.num(uintptr(unix.SIGTERM)))
	x.quit(x.num(5))
	if st := x.walk(t); st.Code != 5 {
		t.Errorf("status %+v", st)
	}
	if want := ^uint64(0) &^ (1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1)); *mask != want {
		t.Errorf("blocked are %#x", *mask)
	}
}

// TestKilled: who dies on the way has no error to tell.
func TestKilled(t *testing.T) {
	x := newTable(20)
	x.call(unix.SYS_KILL, x.result(x.call(unix.SYS_GETPID)), x.num(uintptr(unix.SIGKILL)))
	x.quit(x.num(5))
	if st := x.walk(t); st.Signal != unix.SIGKILL || x.out.errno != 0 || x.out.row != 1 {
		t.Errorf("status %+v, row %d, error %d", st, x.out.row, x.out.errno)
	}
}

// TestGrowth says when a table is too small, and moves nothing meanwhile.
func TestGrowth(t *testing.T) {
	for _, rows := range []int{1, 2, 3} {
		x := newTable(rows)
		first := x.address(zero)
		for range 3 {
			x.call(unix.SYS_GETPID).allow(0, unix.EBADF)
		}
		if x.spent != (rows < 3) || x.address(zero) != first || len(x.rows) != rows {
			t.Errorf("room for %d: spent %v, %d rows", rows, x.spent, len(x.rows))
		}
	}
	x := newTable(2)
	for range 2*perRow - 1 {
		x.num(1)
	}
	if x.spent {
		t.Error("spent too early")
	}
	if s := x.num(1); !x.spent || s != zero {
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
				x := newTable(4)
				x.quit(x.num(uintptr(i)))
				if st := x.walk(t); st.Code != i {
					t.Errorf("status %+v, want %d", st, i)
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
			x := newTable(20)
			x.kin = &kin{alive: 1}
			alive := point(x, &x.kin.alive)
			words := &[2]uint64{}
			mark := func(who int) {
				if slices.Contains(test.fails, who) {
					x.call(unix.SYS_CLOSE, x.num(^uintptr(0)))
				}
				// The signal mask: a number that tells that it came here.
				x.call(unix.SYS_RT_SIGPROCMASK, zero, zero, point(x, &words[who]), x.num(8))
				x.quit(x.num(uintptr(who + 1)))
			}
			fork := x.call(unix.SYS_CLONE, x.num(unix.CLONE_VM|unix.CLONE_PARENT_SETTID|unix.CLONE_CHILD_CLEARTID|uintptr(unix.SIGCHLD)),
				zero, point(x, &x.kin.pid), alive, alive)
			first := len(x.rows)
			// The first waits for the second, whose status is in the second byte.
			status := x.unset(0)
			x.call(unix.SYS_WAIT4, x.num(^uintptr(0)), x.unset(x.address(status)))
			mark(0)
			fork.r.fork = uintptr(len(x.rows) - first)
			second := len(x.rows)
			mark(1)
			st := x.walk(t)
			want := [2]int{1, 2}
			for i := range want {
				if test.want[i] != 0 {
					want[i] = 127
				}
			}
			if st.Code != want[0] || x.slots[status]>>8 != uintptr(want[1]) {
				t.Errorf("status %+v and %#x, want %v", st, x.slots[status], want)
			}
			for i, out := range []*outcome{&x.out, &x.kinOut} {
				if errno := unix.Errno(out.errno); errno != test.want[i] || (words[i] == 0) != (errno != 0) {
					t.Errorf("process %d: row %d, %v, mask %#x", i, out.row, errno, words[i])
				}
			}
			if x.out.row < uintptr(first) || x.out.row >= uintptr(second) || x.kinOut.row < uintptr(second) {
				t.Errorf("they came to rows %d and %d", x.out.row, x.kinOut.row)
			}
			if x.kin.pid == 0 || x.kin.alive != 0 {
				t.Errorf("the second: %+v", *x.kin)
			}
		})
	}
}

// TestForkFails: the one that could not be made is not waited for.
func TestForkFails(t *testing.T) {
	x := newTable(20)
	x.kin = &kin{alive: 1}
	// A thread without the handlers of its maker (EINVAL, clone(2)).
	x.call(unix.SYS_CLONE, x.num(unix.CLONE_THREAD)).r.fork = 1
	x.quit(x.num(1))
	x.quit(x.num(2))
	if st := x.walk(t); st.Code != 127 || unix.Errno(x.out.errno) != unix.EINVAL || x.kin.alive != 1 {
		t.Errorf("status %+v, %+v", st, x.out)
	}
}
