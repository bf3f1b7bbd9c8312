// Package probe finds out what this host can do for containers, by doing it.
//
// Versions say little about a kernel that a distribution built, patched and confined: so a
// feature is tried. Each try is real and small. It happens in a child that executes nothing,
// on a thread that ends with it, in mounts that no path leads to, in a network namespace or a
// cgroup of its own, or on files in a folder of its own beside Corten's state; all of it is
// gone before All returns. What may stay is a module that the kernel loaded because it was
// asked for.
//
// An answer is yes, no or unknown. It is unknown where the question could not be put, above
// all because the caller is not root, and never a guess.
package probe

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"
)

// Answer is what came of a probe.
type Answer uint8

// The three answers.
const (
	Unknown Answer = iota
	No
	Yes
)

func (a Answer) String() string {
	switch a {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "unknown"
}

// MarshalText writes "yes", "no" or "unknown".
func (a Answer) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Env says where Corten's state is.
type Env struct {
	Root string // what stays
	Run  string // what a reboot forgets
}

// Result is the answer about one feature.
type Result struct {
	Group   string // "mounts": for reading only
	Name    string // "overlay"; stable
	Answer  Answer
	Detail  string `json:",omitempty"` // what was found, or why not
	Instead string `json:",omitempty"` // what does the same here, though the answer is no
	Use     string // what Corten does with it
	Lost    string // what is lost without it
	Get     string // how to get it; versions are those of the kernel it came with
	Needed  bool   // run without flags does not work without it, or what is there instead
	Later   bool   // nothing in Corten uses it yet
}

// Missing reports whether the feature and what could replace it are both absent.
func (r Result) Missing() bool { return r.Answer == No && r.Instead == "" }

// feature is one line of a table: what there is to say and how to find out.
type feature struct {
	name   string
	use    string
	lost   string
	get    string
	weight weight
	try    func(*host) finding
}

// weight says how much a feature matters.
type weight uint8

const (
	used   weight = iota // something is lost without it
	needed               // run does not work without it
	later                // nothing uses it yet
)

// finding is what a try came to.
type finding struct {
	answer  Answer
	detail  string
	instead string
}

// group is a table with its heading.
type group struct {
	name     string
	features []feature
}

func groups() []group {
	return []group{
		{"namespaces", namespaces()},
		{"processes", processes()},
		{"mounts", mounts()},
		{"storage", storage()},
		{"security", security()},
		{"limits", limits()},
		{"networking", networking()},
		{"terminals", terminals()},
		{"others", others()},
		{"user", user()},
	}
}

// All tries everything, the groups at the same time. Once ctx is done, what was not yet
// tried is unknown.
func All(ctx context.Context, env Env) []Result {
	h := newHost(env)
	defer h.close()
	tables := groups()
	answers := make([][]Result, len(tables))
	var wg sync.WaitGroup
	for i, g := range tables {
		wg.Go(func() { answers[i] = g.try(ctx, h) })
	}
	wg.Wait()
	var all []Result
	for _, a := range answers {
		all = append(all, a...)
	}
	return all
}

func (g group) try(ctx context.Context, h *host) []Result {
	out := make([]Result, 0, len(g.features))
	for _, f := range g.features {
		got := unknown("given up")
		if ctx.Err() == nil {
			got = f.try(h)
		}
		out = append(out, Result{
			Group: g.name, Name: f.name, Answer: got.answer, Detail: got.detail, Instead: got.instead,
			Use: f.use, Lost: f.lost, Get: f.get, Needed: f.weight == needed, Later: f.weight == later,
		})
	}
	return out
}

func yes(detail string) finding  { return finding{answer: Yes, detail: detail} }
func no(why string) finding      { return finding{answer: No, detail: why} }
func unknown(why string) finding { return finding{detail: why} }
func (f finding) or(s string) finding {
	if f.answer == No {
		f.instead = s
	}
	return f
}

// judge makes an answer of how a system call went that anybody may make. Being short of
// something now says nothing about the kernel.
func judge(err error) finding {
	switch errno(err) {
	case 0:
		if err == nil {
			return yes("")
		}
		return unknown(err.Error())
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EINTR, unix.EAGAIN, unix.EROFS:
		return unknown(words(err))
	}
	return no(words(err))
}

// OnlyRoot is why nobody else is told.
const OnlyRoot = "only root can tell"

// judge is for calls that root alone may make: to others a refusal says nothing.
func (h *host) judge(err error) finding {
	if e := errno(err); !h.root && (e == unix.EPERM || e == unix.EACCES) {
		return unknown(OnlyRoot)
	}
	return judge(err)
}

// unready is the answer where a probe could not be prepared.
func unready(err error) finding { return unknown("nothing to try it on: " + words(err)) }
