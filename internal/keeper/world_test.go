package keeper

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/logs"
)

// The test program is also the keeper, the corten that it hands on to, and what runs in the
// container: its name says which.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "corten-keeper":
		a := os.Args[1:]
		if a[0] == "rest" {
			_ = Rest(a[1], a[2], a[3], a)
		} else {
			_ = Keep(a[0], a[1], a[2], a)
		}
		os.Exit(1)
	case "corten":
		corten()
	case "corten-net":
		cortenNet()
	case "writer":
		writer()
	case "starter":
		starter()
	default:
		os.Exit(m.Run())
	}
}

// corten writes down what it was called for, and compresses as it should.
func corten() {
	a := os.Args[5:] // corten --root ROOT --run RUN keep VERB ARG
	f, err := os.OpenFile(filepath.Join(os.Args[4], "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		os.Exit(1)
	}
	_, _ = f.WriteString(strings.Join(a, " ") + "\n")
	os.Exit(0)
}

// world is a container without a container: FIFOs, a process that writes to them, and keepers
// that come and go. The test holds the FIFOs open, as corten-init does.
type world struct {
	t             *testing.T
	root, run, id string
	folder, log   string
	orders        Orders
	guards        []*os.File
	command       *exec.Cmd
	keeper        *exec.Cmd
	stdin         *os.File
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{t: t, root: filepath.Join(dir, "root"), run: filepath.Join(dir, "run"), id: "c1"}
	w.folder, w.log = Folder(w.run, w.id), LogFolder(w.root, w.id)
	w.must(os.MkdirAll(filepath.Dir(w.log), 0o700), os.MkdirAll(w.folder, 0o700))
	for _, name := range []string{"corten", "corten-keeper", "writer", "starter"} {
		w.must(os.Symlink("/proc/self/exe", filepath.Join(dir, name)))
	}
	exe, err := os.Executable()
	w.must(err)
	for _, name := range []string{"corten", "corten-keeper", "writer", "starter"} {
		w.must(os.Remove(filepath.Join(dir, name)), os.Symlink(exe, filepath.Join(dir, name)))
	}
	for _, name := range []string{StdinName, StdoutName, StderrName} {
		path := filepath.Join(w.folder, name)
		w.must(unix.Mkfifo(path, 0o600))
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		w.must(err)
		w.guards = append(w.guards, f)
	}
	w.orders = Orders{ID: w.id, Root: w.root, Run: w.run, Corten: filepath.Join(dir, "corten"), Keeper: filepath.Join(dir, "corten-keeper"),
		Log: LogOrders{Size: 16 << 20}}
	t.Cleanup(w.end)
	return w
}

func (w *world) must(list ...error) {
	w.t.Helper()
	for _, err := range list {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// begin starts what is in the container.
func (w *world) begin(name string, args ...string) {
	w.t.Helper()
	c := exec.Command(name, args...)
	if name == "writer" {
		c = exec.Command(filepath.Join(filepath.Dir(w.root), "writer"), args...)
	}
	open := func(name string, flags int) *os.File {
		fd, err := unix.Open(filepath.Join(w.folder, name), flags|unix.O_CLOEXEC, 0)
		w.must(err)
		return os.NewFile(uintptr(fd), name)
	}
	in, out, err := open(StdinName, unix.O_RDWR), open(StdoutName, unix.O_WRONLY), open(StderrName, unix.O_WRONLY)
	c.Stdin, c.Stdout, c.Stderr = w.guards[0], out, err
	_ = unix.SetNonblock(int(w.guards[0].Fd()), false)
	w.must(c.Start(), out.Close(), err.Close())
	w.stdin = in // until a keeper holds it
	w.command = c
	w.orders.PID, w.orders.Start = c.Process.Pid, startOf(c.Process.Pid)
	w.must(w.orders.Write(w.folder))
}

func startOf(pid int) uint64 {
	n, _ := strconv.ParseUint(readStat(pid)[19], 10, 64)
	return n
}

// keep starts a keeper, as one that adopts.
func (w *world) keep() {
	w.t.Helper()
	w.keeper = w.program()
	w.must(w.keeper.Start())
}

func (w *world) program() *exec.Cmd {
	c := exec.Command(w.orders.Keeper, w.root, w.run, w.id)
	c.Env = append(environ(), small)
	c.Stderr = os.Stderr
	lock, err := os.OpenFile(filepath.Join(w.run, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	w.must(err)
	w.t.Cleanup(func() { _ = lock.Close() })
	c.ExtraFiles = []*os.File{lock}
	return c
}

func (w *world) kill() {
	_ = w.keeper.Process.Kill()
	_ = w.keeper.Wait()
}

func (w *world) end() {
	for _, c := range []*exec.Cmd{w.keeper, w.command} {
		if c != nil && c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
	for _, f := range append(w.guards, w.stdin) {
		if f != nil {
			_ = f.Close()
		}
	}
}

// finish waits until the keeper has handed on, and returns what it found.
func (w *world) finish() Ended {
	w.t.Helper()
	if err := w.keeper.Wait(); err != nil {
		w.t.Fatalf("the keeper: %v", err)
	}
	e, err := ReadEnded(w.folder)
	w.must(err)
	return e
}

// until waits for something to become true.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("it did not happen: %s", what)
		}
	}
}

// logged is what each stream wrote, put together from the records.
func (w *world) logged() (out [2][]byte) {
	w.t.Helper()
	list, err := logs.Files(w.log)
	if errors.Is(err, fs.ErrNotExist) {
		return out
	}
	w.must(err)
	for _, f := range list {
		b, err := os.ReadFile(filepath.Join(w.log, logs.Name(f.N)))
		w.must(err)
		for line := range bytes.Lines(b) {
			if line[len(line)-1] != '\n' {
				continue // is being written
			}
			r, ok := logs.Parse(line)
			if !ok {
				w.t.Fatalf("%s has a line that is no record: %.100q", logs.Name(f.N), line)
			}
			out[r.Stream] = append(out[r.Stream], r.Content...)
			if !r.Partial {
				out[r.Stream] = append(out[r.Stream], '\n')
			}
		}
	}
	return out
}

// calls are the verbs that corten was called for.
func (w *world) calls() string {
	b, _ := os.ReadFile(filepath.Join(w.run, "calls"))
	return string(b)
}

// source makes the same bytes whenever it is asked: lines of all lengths, many of them short.
type source struct {
	r    *rand.Rand
	n    int
	name byte
}

func newSource(name byte) *source {
	return &source{r: rand.New(rand.NewPCG(7, uint64(name))), name: name}
}

func (s *source) line(dst []byte) []byte {
	s.n++
	dst = append(dst, s.name, ' ')
	dst = strconv.AppendInt(dst, int64(s.n), 10)
	n := s.r.IntN(200)
	switch s.r.IntN(200) {
	case 0:
		n = logs.MaxContent - 3 + s.r.IntN(6) - len(strconv.Itoa(s.n))
	case 1:
		n = s.r.IntN(5 * logs.MaxContent)
	}
	for range n {
		dst = append(dst, byte(' '+1+s.n%90))
	}
	return append(dst, '\n')
}

// writer writes lines to both streams, in pieces, until the file that it is told of is there.
// With a number it writes so many.
func writer() {
	out, err := newSource('o'), newSource('e')
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	most, _ := strconv.Atoi(os.Args[2])
	for i := 0; most == 0 || i < most; i++ {
		if _, e := os.Stat(os.Args[1]); e == nil {
			break
		}
		var b []byte
		for range 1 + r.IntN(20) {
			b = out.line(b)
		}
		for len(b) > 0 {
			n := min(len(b), 1+r.IntN(30000))
			if _, e := os.Stdout.Write(b[:n]); e != nil {
				os.Exit(9)
			}
			b = b[n:]
		}
		if _, e := os.Stderr.Write(err.line(nil)); e != nil {
			os.Exit(9)
		}
	}
	_, _ = os.Stdout.WriteString("last words")
	os.Exit(5)
}

// checkWriter compares the log with what the writer must have written.
func (w *world) checkWriter() {
	w.t.Helper()
	got := w.logged()
	text, ok := bytes.CutSuffix(got[0], []byte("last words"))
	if !ok {
		w.t.Errorf("stdout ends with %q", got[0][max(0, len(got[0])-50):])
	}
	for i, b := range [][]byte{text, got[1]} {
		s := newSource("oe"[i])
		for off := 0; off < len(b); {
			want := s.line(nil)
			if !bytes.HasPrefix(b[off:], want) {
				w.t.Fatalf("stream %d, line %d, at %d of %d: got %.80q, want %.80q", i, s.n, off, len(b), b[off:min(off+80, len(b))], want)
			}
			off += len(want)
		}
		if len(b) == 0 {
			w.t.Errorf("stream %d has nothing", i)
		}
	}
}

// starter starts a command as its child and becomes its keeper, as corten keep start does.
func starter() {
	root, run, id := os.Args[1], os.Args[2], os.Args[3]
	folder := Folder(run, id)
	fail := func(err error) {
		if err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
	}
	o, err := ReadOrders(folder)
	fail(err)
	var fds [3]int
	for i, name := range []string{StdinName, StdoutName, StderrName} {
		fds[i], err = unix.Open(filepath.Join(folder, name), unix.O_RDWR|unix.O_CLOEXEC, 0)
		fail(err)
	}
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", os.Args[4]}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{uintptr(fds[0]), uintptr(fds[1]), uintptr(fds[2])}})
	fail(err)
	o.PID, o.Start = pid, startOf(pid)
	fail(o.Write(folder))
	fail(Become(o.Keeper, root, run, id))
}

func itoa(n int) string { return strconv.Itoa(n) }
