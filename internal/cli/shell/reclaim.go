package shell

import (
	"errors"
	"fmt"

	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/errs"
)

// Reclaim tells what a prune removes, one thing after the other, and how much space that makes.
type Reclaim struct {
	sh       *Shell
	title    string // over the first name; empty once that is printed
	freed    int64  // bytes
	problems []error
}

// Reclaiming begins a Reclaim. A problem that there is already is told in the end.
func (s *Shell) Reclaiming(title string, problem error) *Reclaim {
	return &Reclaim{sh: s, title: title + "\n", problems: []error{problem}}
}

// Removed tells of one removal, which came to err. What was taken into use meanwhile, or removed by
// somebody else, is no problem.
func (r *Reclaim) Removed(name string, size int64, err error) {
	switch {
	case errs.Is(err, errs.Busy) || errs.Is(err, errs.NotFound):
	case err != nil:
		r.problems = append(r.problems, err)
	default:
		fmt.Fprintln(r.sh.Stdout, r.title+name)
		r.freed, r.title = r.freed+size, ""
	}
}

// End prints the sum. It returns what could not be removed.
func (r *Reclaim) End() error {
	r.gap()
	fmt.Fprintln(r.sh.Stdout, "Total reclaimed space: "+show.Size(r.freed))
	return r.sh.SayButLast(errors.Join(r.problems...))
}

// EndUnsized is End for what takes no space. The problem is one that came after the removals.
func (r *Reclaim) EndUnsized(problem error) error {
	r.gap()
	return r.sh.SayButLast(errors.Join(append(r.problems, problem)...))
}

// gap sets off what follows names.
func (r *Reclaim) gap() {
	if r.title == "" {
		fmt.Fprintln(r.sh.Stdout)
	}
}
