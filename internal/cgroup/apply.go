package cgroup

import (
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Apply writes the plan's limits to a group that exists. A value that the kernel refuses may
// be at odds with an old one that a later write replaces (memory above memory and swap
// together, a quota above the period): it is tried once more after the others. If a limit
// fails in the end, those before it stay as written.
func (p Plan) Apply() error {
	if err := p.handDown(); err != nil {
		return err
	}
	var again []Write
	for _, w := range p.Writes {
		err := w.do()
		switch {
		case err == unix.EINVAL || err == unix.EBUSY:
			again = append(again, w)
		case err != nil:
			return w.failed(err)
		}
	}
	for _, w := range again {
		if err := w.do(); err != nil {
			return w.failed(err)
		}
	}
	return nil
}

// do writes; its error is as the kernel gave it.
func (w Write) do() error {
	value := w.Value
	if w.Inherit {
		old, err := readFile(w.File)
		if err != nil || strings.TrimSpace(old) != "" {
			return err
		}
		above := path.Join(path.Dir(path.Dir(w.File)), path.Base(w.File))
		if value, err = readFile(above); err != nil {
			return err
		}
	}
	if w.Atop != "" {
		if err := w.check(); err != nil {
			return err
		}
	}
	err := writeFile(w.File, value)
	if err == unix.ENOENT || err == unix.EOPNOTSUPP {
		switch {
		case w.Else != nil:
			return w.Else.do()
		case w.Optional:
			return nil
		}
	}
	return err
}

// check refuses a limit below what is in use, as v1 does itself; v2 would kill to get there.
func (w Write) check() error {
	used, err := readNumber(w.Atop)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseInt(w.Value, 10, 64); err == nil && n < used {
		return errs.Newf(errs.Busy, w.Why, "", size(used)+" are in use").WithHint("choose a higher limit")
	}
	return nil
}

// failed says what a failed write means to the user.
func (w Write) failed(err error) error {
	if known := (*errs.Error)(nil); errors.As(err, &known) {
		return err
	}
	e := errs.New(errs.KindOf(err), w.Why, "", &os.PathError{Op: "write " + strconv.Quote(w.Value) + " to", Path: w.File, Err: err})
	switch err {
	case unix.ENOENT, unix.EOPNOTSUPP:
		e.Kind = errs.Unsupported
		e.Hint = "leave the limit out, or use a kernel that has it"
		if strings.Contains(w.File, "memsw") || strings.Contains(w.File, "swap") {
			e.Hint = "leave the swap limit out, or boot with swapaccount=1"
		}
	case unix.EINVAL, unix.ERANGE, unix.EOVERFLOW:
		e.Kind = errs.Invalid
		e.Hint = "the kernel takes no such value: it may be out of range, or go beyond what the group above has"
		if strings.HasSuffix(w.File, "memory.limit_in_bytes") {
			e.Hint = "memory cannot be above memory and swap together: set both"
		}
	case unix.EBUSY:
		e.Hint = "more than that is in use: choose a higher limit"
	case unix.ENODEV, unix.ENXIO:
		e.Kind = errs.NotFound
		e.Hint = "there is no such block device; a partition has to be named by its disk"
	}
	return e
}

// caller is the group to which handDown moves processes out of the way.
const caller = "corten-caller"

// handDown enables controllers for the groups below those of p.Enable. Once the last of them
// has them all, so do the others, and a start has nothing to do but see that. To change it
// costs the same wait as a slow move (see the package comment).
func (p Plan) handDown() error {
	if len(p.Enable) == 0 {
		return nil
	}
	last := p.Enable[len(p.Enable)-1]
	if now, err := readFile(last.File); err == nil && handsDown(now, last.Value) {
		return nil
	}
	for _, w := range p.Enable {
		err := writeFile(w.File, w.Value)
		if err == unix.EBUSY {
			err = vacate(path.Dir(w.File))
			if err == nil {
				err = writeFile(w.File, w.Value)
			}
		}
		if err == nil {
			continue
		}
		dir := path.Dir(w.File)
		switch err {
		case unix.ENOENT, unix.EINVAL:
			return errs.Newf(errs.Unsupported, "hand down controllers in", dir, "the group does not have all of "+w.Value).
				WithHint("leave the limits out, or choose another parent group")
		case unix.EBUSY:
			return errs.Newf(errs.Busy, "hand down controllers in", dir, "processes are in the group itself, which cgroup v2 does not allow").
				WithHint("choose another parent group, or move them to a group of their own below it")
		}
		return errs.New(errs.KindOf(err), "hand down controllers in", dir, err)
	}
	return nil
}

// handsDown reports whether the controllers of "+a +b" are all in "a b c".
func handsDown(now, want string) bool {
	have := strings.Fields(now)
	for w := range strings.SplitSeq(want, " ") {
		if !slices.Contains(have, w[1:]) {
			return false
		}
	}
	return true
}

// vacate moves the processes of the caller's own group to a new one below it. But for the
// root, a v2 group may have processes or hand controllers down, not both, and its own group is
// where a delegated scope or a container leaves the caller. A group that is not the caller's
// is left as it is.
func vacate(dir string) error {
	own := strconv.Itoa(os.Getpid())
	for range 10 { // they may be forking meanwhile
		text, err := readFile(dir + "/cgroup.procs")
		if err != nil {
			return err
		}
		pids := strings.Fields(text)
		if len(pids) == 0 {
			return nil
		}
		if own != "" && !slices.Contains(pids, own) {
			return unix.EBUSY
		}
		own = "" // it has moved, and leads the others
		if err := makeParents(path.Join(dir, caller)); err != nil {
			return err
		}
		for _, pid := range pids {
			if err := writeFile(path.Join(dir, caller, "cgroup.procs"), pid); err != nil && err != unix.ESRCH {
				return err
			}
		}
	}
	return unix.EBUSY
}
