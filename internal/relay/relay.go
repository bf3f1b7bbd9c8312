// Package relay copies between a process of a container and those who started it, and logs what
// passes. It begins with the process and ends when all that this wrote has been copied.
package relay

import (
	"io"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// Relay stands between a container without a terminal of its own and the terminal of its
// user. A descriptor of that terminal would let the container read what the user types and
// change the terminal's modes, so it gets pipes and we copy; we do the same where the output
// is logged, or goes to systemd's journal. What is none of these is handed over as it is, and
// costs nothing.
type Relay struct {
	theirs  []*os.File // the container's ends
	ours    []*os.File
	outputs sync.WaitGroup
	copies  []func()
}

// New makes pipes for those of our descriptors that are terminals or lead to the journal, and for all
// output if there is a log. It adds the process's ends to files and has the plan use them.
func New(p spec.Process, pl *plan.Plan, files map[plan.Handle]*os.File, log *Transcript) (*Relay, error) {
	r := &Relay{}
	if p.Terminal {
		return r, nil
	}
	std := plan.Stdio{NoStdin: !p.Stdin}
	if p.Stdin && isTerminal(os.Stdin) {
		if err := r.pipe(files, "stdin", true, func(_, w *os.File) { _, _ = io.Copy(w, os.Stdin); w.Close() }); err != nil {
			return nil, err
		}
		std.In = "stdin"
	}
	for _, o := range []struct {
		f    *os.File
		name plan.Handle
		to   *plan.Handle
		s    logs.Stream
	}{{os.Stdout, "stdout", &std.Out, logs.Stdout}, {os.Stderr, "stderr", &std.Err, logs.Stderr}} {
		if log == nil && !isTerminal(o.f) && !isJournal(o.f) {
			continue
		}
		r.outputs.Add(1)
		err := r.pipe(files, o.name, false, func(rd, _ *os.File) {
			defer r.outputs.Done()
			_, _ = io.Copy(log.Tee(o.f, o.s), rd)
		})
		if err != nil {
			return nil, err
		}
		*o.to = o.name
	}
	pl.UseStdio(std)
	return r, nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// isJournal reports whether f leads to systemd's journal, as JOURNAL_STREAM says it: DEVICE:INODE
// (systemd.exec(5)). The journal looks at who writes, and would not take the lines of a process
// outside of the service's control group for the service's.
func isJournal(f *os.File) bool {
	stream := os.Getenv("JOURNAL_STREAM")
	if stream == "" {
		return false
	}
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return err == nil && stream == strconv.FormatUint(uint64(st.Dev), 10)+":"+strconv.FormatUint(st.Ino, 10)
}

// pipe makes one pipe; the copy runs once the container is started.
func (r *Relay) pipe(files map[plan.Handle]*os.File, name plan.Handle, in bool, copy func(rd, w *os.File)) error {
	rd, w, err := os.Pipe()
	if err != nil {
		return errs.Wrap("make pipe for", string(name), err)
	}
	theirs, ours := w, rd
	if in {
		theirs, ours = rd, w
	}
	files[name] = theirs
	r.theirs, r.ours = append(r.theirs, theirs), append(r.ours, ours)
	r.copies = append(r.copies, func() { copy(rd, w) })
	return nil
}

// Started closes the process's ends and begins to copy. It is to be called whether the process came to
// be or not: the copies then end at once.
func (r *Relay) Started() {
	for _, f := range r.theirs {
		f.Close()
	}
	for _, c := range r.copies {
		go c()
	}
}

// Wait waits until all that was written has been copied, which is when nobody has the other ends any
// more.
func (r *Relay) Wait() {
	r.outputs.Wait()
	for _, f := range r.ours {
		f.Close()
	}
}
