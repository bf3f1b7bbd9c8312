package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run of the benchmark: what all scopes share.
type bench struct {
	options
	dir     string       // on a real file system; removed by the outer stage
	memlock bool         // this host lets crun and runc lock memory for device rules (BPF) on cgroup v2
	dropped bool         // the page cache can be dropped
	serial  atomic.Int64 // makes names unique
	log     *os.File     // what the commands wrote to stderr
	env     []string     // for the peers' commands
	aside   []int        // processes of the benchmark itself, whose memory is no peer's
}

// scope is a part of a run: one benchmark, or one peer's turn in it. What was set up in it
// ends with it. It is a testimage.T.
type scope struct {
	*bench
	undo []func()
}

// stopped is what Fatalf and Skipf panic with.
type stopped string

// within runs f in a scope and returns why it did not come to its end, or nil.
func (r *bench) within(f func(*scope)) (err error) {
	s := &scope{bench: r}
	defer func() {
		if p := recover(); p != nil {
			why, ok := p.(stopped)
			if !ok {
				panic(p)
			}
			err = errors.New(string(why))
		}
		for _, u := range slices.Backward(s.undo) {
			u()
		}
	}()
	f(s)
	return nil
}

func (s *scope) Helper()                           {}
func (s *scope) Fatalf(format string, args ...any) { panic(stopped(fmt.Sprintf(format, args...))) }
func (s *scope) Skipf(format string, args ...any)  { panic(stopped(fmt.Sprintf(format, args...))) }
func (s *scope) Cleanup(f func())                  { s.undo = append(s.undo, f) }

// TempDir makes a folder that goes with the scope.
func (s *scope) TempDir() string {
	dir := filepath.Join(s.dir, fmt.Sprint(s.serial.Add(1)))
	s.must(os.Mkdir(dir, 0o755))
	s.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *scope) must(err error) {
	if err != nil {
		s.Fatalf("%v", err)
	}
}

func (s *scope) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// innerStage measures and reports.
func innerStage(o options, dir string) (int, error) {
	r := &bench{options: o, dir: dir, aside: []int{1, os.Getpid()}}
	r.memlock = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}) == nil
	r.dropped = unix.Access(cacheControl, unix.W_OK) == nil // not tried: programs would be read again, in smaller pieces
	home, tmp := filepath.Join(dir, "home"), filepath.Join(dir, "tmp")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Mkdir(tmp, 0o755)); err != nil {
		return 1, err
	}
	r.env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home, "TMPDIR=" + tmp, "LC_ALL=C.UTF-8"}
	var err error
	if r.log, err = os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return 1, err
	}
	rep := report{Host: describe(r)}
	fmt.Print(rep.Host.text())
	failed := false
	for _, b := range benchmarks() {
		if !o.which.MatchString(b.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "bench: running", b.name)
		err := r.within(func(s *scope) {
			for _, t := range b.run(s) {
				rep.Tables = append(rep.Tables, t)
				fmt.Print(t.text())
			}
		})
		if err != nil {
			failed = true
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", b.name, err)
		}
	}
	if len(rep.Tables) == 0 {
		return 1, errors.New("nothing measured: the benchmarks are " + names(benchmarks()))
	}
	if err := rep.write(o); err != nil {
		return 1, err
	}
	if failed {
		return 1, nil
	}
	return 0, nil
}

// exec runs a command to its end and returns the time from before fork to after wait. An
// error carries what the command wrote to stderr.
func (r *bench) exec(argv []string) (time.Duration, error) {
	cmd := r.command(argv)
	from, _ := r.log.Seek(0, io.SeekEnd)
	begin := time.Now()
	err := cmd.Run()
	wall := time.Since(begin)
	return wall, r.explain(argv, from, err)
}

func (r *bench) command(argv []string) *exec.Cmd {
	name, user := strings.TrimPrefix(argv[0], userPrefix), 0
	if name != argv[0] {
		id, rest, _ := strings.Cut(name, ":")
		user, _ = strconv.Atoi(id)
		name = rest
	}
	cmd := exec.Command(name, argv[1:]...)
	cmd.Env, cmd.Stderr, cmd.Dir = r.env, r.log, r.dir
	if user != 0 {
		r.as(cmd, user)
	}
	return cmd
}

// explain adds the last lines of the log after offset from to err.
func (r *bench) explain(argv []string, from int64, err error) error {
	if err == nil {
		return nil
	}
	st, _ := r.log.Stat()
	text := make([]byte, max(0, st.Size()-from))
	n, _ := r.log.ReadAt(text, from)
	lines := strings.Split(strings.TrimSpace(string(text[:n])), "\n")
	return fmt.Errorf("%s: %w: %s", argv[0], err, strings.Join(lines[max(0, len(lines)-2):], "; "))
}

// dropCaches empties the page cache of what is clean, after all is made clean.
func dropCaches() error {
	syscall.Sync()
	return os.WriteFile(cacheControl, []byte("3"), 0)
}

// cacheControl takes what is to be dropped, proc_sys_vm(5).
const cacheControl = "/proc/sys/vm/drop_caches"

// build compiles one of the small programs in testdata and returns its path.
func (s *scope) build(name string) string {
	out := filepath.Join(s.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./bench/testdata/"+name)
	cmd.Dir, cmd.Env = s.module, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("build %s: %v: %s", name, err, text)
	}
	return out
}
