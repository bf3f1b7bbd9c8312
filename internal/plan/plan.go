// Package plan is what starting a container asks of the kernel, before anything is asked.
//
// A plan is two ordered lists of steps: what the host side does, and what the new process does
// to itself up to its exec. Packages decide and bundled make one from a container's description,
// the steps that make its root and the facts of the host. It prints in words (corten run
// --plan); package launch executes it; an error at run time quotes the words of its step.
package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/cortenhq/corten/internal/errs"
)

// Step is one thing to do. Its String is what the user reads, in the imperative.
type Step interface {
	Kind() string // "map-ids": stable, for --plan=json and for tests
	String() string
}

// Handle names a descriptor that one step opens and later steps use.
type Handle string

// Plan is what will be done, in order.
//
// Host steps run in the process that launches. The step Clone makes the new process, which
// then waits; the steps after it may use its namespaces; Release lets it go. Child steps are
// what the process does to itself, from its first instruction to its exec.
type Plan struct {
	Host     []Step
	Child    []Step
	Warnings []string // what was asked for and has no effect here, and why
}

// UseStdio has the command take other descriptors than this process's own, unless it has a terminal.
func (p *Plan) UseStdio(std Stdio) {
	for i, step := range p.Child {
		if s, ok := step.(Stdio); ok && !s.Terminal {
			p.Child[i] = std
		}
	}
}

// Print writes the plan in words, one step a line, numbered.
func (p Plan) Print(w io.Writer) error {
	n := 0
	section := func(title string, steps []Step) error {
		if _, err := fmt.Fprintf(w, "%s\n", title); err != nil {
			return err
		}
		for _, s := range steps {
			n++
			if _, err := fmt.Fprintf(w, "%4d  %s\n", n, plainly(s)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := section("on the host:", p.Host); err != nil {
		return err
	}
	if err := section("in the new process:", p.Child); err != nil {
		return err
	}
	for _, s := range p.Warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", s); err != nil {
			return err
		}
	}
	return nil
}

// plainly is a step's words with nothing in them that a terminal obeys: an image chooses
// some of them, and must not write lines of the plan.
func plainly(s Step) string {
	lines := false // some say what they do line by line
	switch s.(type) {
	case MakeGroups, Connect:
		lines = true
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !(lines && r == '\n') {
			return '?'
		}
		return r
	}, s.String())
}

// jsonStep is one step of --plan=json.
type jsonStep struct {
	Step   string `json:"step"`
	Words  string `json:"words"`
	Detail Step   `json:"detail,omitempty"`
}

// MarshalJSON writes {"host": [...], "child": [...], "warnings": [...]}, each step with its
// kind, its words and its fields.
func (p Plan) MarshalJSON() ([]byte, error) {
	list := func(steps []Step) []jsonStep {
		out := make([]jsonStep, 0, len(steps))
		for _, s := range steps {
			out = append(out, jsonStep{s.Kind(), s.String(), s})
		}
		return out
	}
	return json.Marshal(struct {
		Host     []jsonStep `json:"host"`
		Child    []jsonStep `json:"child"`
		Warnings []string   `json:"warnings,omitempty"`
	}{list(p.Host), list(p.Child), p.Warnings})
}

// Check finds a step that uses a handle before a step has opened it: a bug in whoever
// composed the plan, found before the kernel would find it as a strange errno.
//
// given are handles that the launcher opens itself.
func (p Plan) Check(given ...Handle) error {
	open := map[Handle]bool{}
	for _, h := range given {
		open[h] = true
	}
	for _, steps := range [][]Step{p.Host, p.Child} {
		for _, s := range steps {
			if u, ok := s.(needer); ok {
				for _, h := range u.uses() {
					if h != "" && !open[h] {
						return errs.Newf(errs.Internal, "check plan", s.String(), "handle "+string(h)+" is not open yet")
					}
				}
			}
			if o, ok := s.(opener); ok {
				for _, h := range o.opens() {
					open[h] = true
				}
			}
		}
	}
	return nil
}

// opener and needer are the steps that open handles and that use them.
type (
	opener interface{ opens() []Handle }
	needer interface{ uses() []Handle }
)
