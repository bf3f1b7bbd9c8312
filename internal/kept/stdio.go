package kept

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/checkpoint"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// stdio is the container's ends of its FIFOs, and what its PID 1 holds of the other ends so
// that a keeper may die: LIFECYCLE.md.
type stdio struct {
	dir    string
	files  map[plan.Handle]*os.File
	std    plan.Stdio
	guards []plan.Handle
}

func (s *stdio) close() {
	for _, f := range s.files {
		_ = f.Close()
	}
}

// openIO makes what a kept container reads from and writes to.
func (l *launched) openIO() (*stdio, error) {
	s := &stdio{dir: l.dir, files: map[plan.Handle]*os.File{}}
	if err := s.open(l.d.Spec.Process, !l.d.Spec.Life.NoInit); err != nil {
		s.close()
		return nil, errs.Wrap("open stdio of container", l.d.Spec.Name, err)
	}
	return s, nil
}

func (s *stdio) open(p spec.Process, init bool) error {
	if init {
		// Its status is in a file that outlives whoever would read a pipe.
		f, err := os.OpenFile(filepath.Join(s.dir, "exit"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		s.files[plan.Report] = f
	}
	if p.Terminal {
		if init {
			s.guards = append(s.guards, plan.Master)
		}
		return nil
	}
	s.std = plan.Stdio{NoStdin: !p.Stdin, Out: "stdout", Err: "stderr"}
	for _, name := range []plan.Handle{"stdout", "stderr"} {
		if err := s.output(name, init); err != nil {
			return err
		}
	}
	if p.Stdin {
		s.std.In = "stdin"
		return s.input(p.StdinOnce)
	}
	return nil
}

// output makes a FIFO to write to. There has to be a reader at all times, else a writer gets
// SIGPIPE: PID 1, if that is ours; else the container's own descriptor is open both ways. What
// is in a FIFO that nobody has open is gone: our next program inherits the guard.
func (s *stdio) output(name plan.Handle, init bool) error {
	path := filepath.Join(s.dir, string(name))
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return err
	}
	guard, err := openFIFO(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	s.files["guard-"+name] = guard
	mode := unix.O_RDWR
	if init {
		s.guards = append(s.guards, "guard-"+name)
		mode = unix.O_WRONLY
	}
	s.files[name], err = openFIFO(path, mode)
	return err
}

// input makes the FIFO that stdin is. One that is to end with the input of whoever is attached
// ends when nobody has it open to write any more: the keeper has, and until then we do. One that
// never ends the container has open both ways, and so needs nobody.
func (s *stdio) input(once bool) error {
	path := filepath.Join(s.dir, "stdin")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return err
	}
	hold, err := openFIFO(path, unix.O_RDWR)
	if err != nil {
		return err
	}
	if !once {
		s.files["stdin"] = hold
		return nil
	}
	s.files["stdin-hold"] = hold // of no handle in the plan: it lives until our next program has its own
	s.files["stdin"], err = openFIFO(path, unix.O_RDONLY)
	return err
}

func openFIFO(path string, mode int) (*os.File, error) {
	for {
		fd, err := unix.Open(path, mode|unix.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}

// shared is what processes of a checkpoint have in the place of what they had then.
func (s *stdio) shared() map[string]*os.File {
	files := map[string]*os.File{}
	for role, name := range map[string]plan.Handle{checkpoint.Stdin: "stdin", checkpoint.Stdout: "stdout", checkpoint.Stderr: "stderr", checkpoint.Report: plan.Report} {
		if f := s.files[name]; f != nil {
			files[role] = f
		}
	}
	return files
}
