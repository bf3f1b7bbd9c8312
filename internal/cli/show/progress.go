package show

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/engine"
)

// Progress shows how far the layers of an image have come: on a terminal as a line for
// each, redrawn in place; else as a line for each change of state. It goes to stderr.
type Progress struct {
	out  *os.File // nil: nothing is shown
	verb string   // "Pulling"
	tty  bool

	mu    sync.Mutex
	lines []*line // in the order in which the layers were met
	drawn int     // lines of the terminal that the last drawing took
	dirty bool
	stop  chan struct{} // ends the drawing; nil: it has not begun
}

// line is one layer.
type line struct {
	id    string
	state string
	at    int64 // bytes
	total int64
	over  bool
}

// redraw is the pause between two drawings.
const redraw = 100 * time.Millisecond

// NewProgress shows on out what the verb, such as "Pulling", does; nothing if out is nil.
func NewProgress(out *os.File, verb string) *Progress { return &Progress{out: out, verb: verb} }

// begin is called with the first event: most commands that could pull have nothing to.
func (p *Progress) begin() {
	if p.stop != nil {
		return
	}
	p.stop = make(chan struct{})
	if p.tty = term.IsTerminal(int(p.out.Fd())); !p.tty {
		return
	}
	stop := p.stop
	go func() {
		tick := time.NewTicker(redraw)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.mu.Lock()
				p.draw()
				p.mu.Unlock()
			case <-stop:
				return
			}
		}
	}()
}

// Close shows the last state. Nothing is drawn after it.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle()
	if p.stop != nil {
		close(p.stop)
		p.stop = nil
	}
	p.out = nil
}

// settle leaves the lines as they are for good.
func (p *Progress) settle() {
	p.draw()
	p.lines, p.drawn = nil, 0
}

// Tell takes an event. It may be called from several goroutines.
func (p *Progress) Tell(ev engine.ImageEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil {
		return
	}
	p.begin()
	switch {
	case ev.Stage == engine.ImageAbsent:
		p.note("Unable to find image '" + ev.Name + "' locally")
	case ev.Stage == engine.ImagePulling:
		p.note(p.verb + " " + ev.Name)
	case ev.Stage == engine.ImageArrived:
		p.settle()
	case ev.Layer == "":
		p.note(fmt.Sprintf("Retrying %s: %v", ev.Name, ev.Err))
	default:
		p.tellLayer(ev)
	}
}

func (p *Progress) tellLayer(ev engine.ImageEvent) {
	l := p.layer(ev.Layer.Short())
	l.at, l.total, p.dirty = ev.Done, max(l.total, ev.Total), true
	switch ev.Stage {
	case engine.LayerWaiting:
		p.state(l, "Pulling fs layer")
	case engine.LayerPresent:
		l.over = true
		p.state(l, "Already exists")
	case engine.LayerFetching:
		l.state = "Pulling"
	case engine.LayerComplete:
		l.over = true
		p.state(l, "Pull complete")
	case engine.ImageRetrying:
		p.state(l, fmt.Sprintf("Retrying: %v", ev.Err))
	}
}

func (p *Progress) layer(id string) *line {
	for _, l := range p.lines {
		if l.id == id {
			return l
		}
	}
	l := &line{id: id}
	p.lines = append(p.lines, l)
	return l
}

// state changes a layer's state, which without a terminal is a line of its own.
func (p *Progress) state(l *line, text string) {
	l.state = Printable(text)
	if !p.tty {
		fmt.Fprintln(p.out, l.id+": "+l.state)
	}
}

// note writes a line that stays, below the lines that were drawn so far.
func (p *Progress) note(text string) {
	p.settle()
	fmt.Fprintln(p.out, Printable(text))
}

func (p *Progress) draw() {
	if !p.tty || !p.dirty {
		return
	}
	p.dirty = false
	width, height, err := term.GetSize(int(p.out.Fd()))
	if err != nil || width < 20 || height < 3 {
		width, height = 80, 24
	}
	show := p.visible(height - 2)
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn) // cursor up, ECMA-48 CUU
	}
	for _, l := range show {
		b.WriteString("\r\x1b[K" + l.text(width-1) + "\n") // erase to the end of the line, EL
	}
	if n := len(p.lines) - len(show); n > 0 {
		fmt.Fprintf(&b, "\r\x1b[K%d more layers\n", n)
	}
	b.WriteString("\x1b[J") // erase what a longer list left below, ED
	p.drawn = strings.Count(b.String(), "\n")
	_, _ = p.out.WriteString(b.String())
}

// visible is the layers that there is room for. Finished ones are left out first.
func (p *Progress) visible(room int) []*line {
	var show []*line
	excess := len(p.lines) - room
	for _, l := range p.lines {
		if l.over && excess > 0 {
			excess--
			continue
		}
		show = append(show, l)
	}
	return show[:min(len(show), room)]
}

// text is one line of at most width columns: "2d456493238d: Pulling [====>    ] 12MB/96MB".
func (l *line) text(width int) string {
	s := l.id + ": " + l.state
	if !l.over && l.at > 0 && l.total > 0 {
		numbers := " " + Size(l.at) + "/" + Size(l.total)
		if room := min(50, width-len(s)-len(numbers)-3); room >= 10 {
			full := int(int64(room) * min(l.at, l.total) / l.total)
			bar := strings.Repeat("=", full)
			if full < room {
				bar += ">"
			}
			s += fmt.Sprintf(" [%-*s]", room, bar)
		}
		s += numbers
	}
	return s[:min(len(s), width)]
}
