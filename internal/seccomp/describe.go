package seccomp

import (
	"fmt"
	"io"
	"strings"
)

// Describe prints the default profile for people: each group of calls with its reason,
// and what the container's own user namespace changes about it.
func Describe(w io.Writer) error {
	p := printer{w: w}
	p.text("", fmt.Sprintf("The default seccomp profile, version %d.", DefaultVersion))
	p.line("")
	p.text("", "A system call that is not listed as allowed answers EPERM; one that is newer than all that are listed answers "+
		"ENOSYS. Calls by another ABI than the native one (32-bit x86 and x32 on amd64, 32-bit ARM on arm64) kill the "+
		"process, unless that ABI is opened.")
	p.groups("ALLOWED TO ALL", allowed[:])
	p.line("\nALLOWED TO ALL, IN PART")
	for i := range limits {
		p.limit(&limits[i])
	}
	p.groups("ALLOWED WITH A CAPABILITY", forCaps[:])
	p.groups("ALLOWED IF A 32-BIT ABI IS OPENED", forms32[:])
	p.groups("WITHHELD FROM ALL", withheld[:])
	return p.err
}

// printer writes lines until the first error, which it keeps.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s+"\n")
	}
}

func (p *printer) groups(title string, groups []group) {
	p.line("\n" + title)
	for i := range groups {
		g := &groups[i]
		head := "\n  " + g.title
		if g.caps != "" {
			head += " (" + strings.ReplaceAll(g.caps, " ", " or ") + ")"
		}
		p.line(head)
		p.text("    ", g.why)
		if g.inNS != "" {
			p.text("    ", "Own user namespace: "+g.inNS)
		}
		p.text("      ", g.names)
	}
}

func (p *printer) limit(l *limit) {
	head := "\n  " + l.names
	switch {
	case l.unless != "":
		head += " (without " + l.unless + ")"
	case l.with != "":
		head += " (with " + l.with + ")"
	}
	p.line(head)
	p.text("    ", l.why)
	p.text("    ", "Own user namespace: "+l.inNS)
	words := make([]string, 0, len(l.when))
	for _, k := range l.when {
		words = append(words, k.words)
	}
	p.text("      ", strings.Join(words, ", "))
}

// text prints s in lines of at most 100 characters, each after indent.
func (p *printer) text(indent, s string) {
	line := indent
	for word := range strings.FieldsSeq(s) {
		if len(line)+1+len(word) > 100 {
			p.line(line)
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	p.line(line)
}
