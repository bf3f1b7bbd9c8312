package show

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/oci"
)

// screen is what a terminal of some size shows of what was written to it: as much of it as
// a display of progress may use. What scrolled out at the top is kept.
type screen struct {
	t          *testing.T
	wide, high int
	lines      []string // all, the visible ones last
	row, col   int      // of lines
}

func (s *screen) write(text string) {
	for len(text) > 0 {
		c := text[0]
		text = text[1:]
		switch c {
		case '\r':
			s.col = 0
		case '\n':
			s.row, s.col = s.row+1, 0
			for len(s.lines) <= s.row {
				s.lines = append(s.lines, "")
			}
		case 0x1b:
			n, rest := 0, text[1:]
			for rest[0] >= '0' && rest[0] <= '9' {
				n, rest = n*10+int(rest[0]-'0'), rest[1:]
			}
			switch rest[0] {
			case 'A':
				if s.row -= n; s.row < max(0, len(s.lines)-s.high) {
					s.t.Fatalf("the cursor goes above the screen: %d of %d lines", s.row, len(s.lines))
				}
			case 'K':
				s.lines[s.row] = s.lines[s.row][:s.col]
			case 'J':
				s.lines[s.row] = s.lines[s.row][:s.col]
				s.lines = s.lines[:s.row+1]
			default:
				s.t.Fatalf("an unknown sequence: %q", rest)
			}
			text = rest[1:]
		default:
			s.lines[s.row] = s.lines[s.row][:s.col] + string(c)
			if s.col++; s.col >= s.wide { // notes may be longer than a line, layers never
				if strings.Contains(s.lines[s.row], ": Pull") {
					s.t.Fatalf("the line does not fit: %q", s.lines[s.row])
				}
				text = "\n" + text
			}
		}
	}
}

// terminal is a pseudo-terminal and the screen of what is written to it.
func terminal(t *testing.T, wide, high int) (out *os.File, read func() *screen) {
	t.Helper()
	master, slave := openPTY(t)
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(high), Col: uint16(wide)}); err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, wide: wide, high: high, lines: []string{""}}
	all := make(chan string)
	go func() {
		var b strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			b.Write(buf[:n])
			if err != nil {
				all <- b.String()
				return
			}
		}
	}()
	return slave, func() *screen {
		slave.Close()
		s.write(<-all)
		return s
	}
}

func layerName(i int) oci.Digest { return oci.FromBytes([]byte{byte(i)}) }

// The display keeps to the terminal, whatever its size, and in the end tells of each layer.
func TestProgressOnTerminals(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {40, 8}, {24, 4}, {200, 60}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			out, read := terminal(t, size[0], size[1])
			p := NewProgress(out, "Pulling")
			const layers = 12
			p.Tell(engine.ImageEvent{Stage: engine.ImageAbsent, Name: "app:1"})
			p.Tell(engine.ImageEvent{Stage: engine.ImagePulling, Name: "a/b:1"})
			at := [layers]int64{}
			for i := range layers {
				p.Tell(engine.ImageEvent{Stage: engine.LayerWaiting, Layer: layerName(i), Total: 1000})
			}
			for left := layers * 10; left > 0; {
				i := rand.IntN(layers)
				if at[i] == 1000 {
					continue
				}
				left--
				at[i] += 100
				p.Tell(engine.ImageEvent{Stage: engine.LayerFetching, Layer: layerName(i), Done: at[i], Total: 1000})
				if at[i] == 1000 {
					p.Tell(engine.ImageEvent{Stage: engine.LayerComplete, Layer: layerName(i)})
				}
				p.mu.Lock()
				p.draw()
				p.mu.Unlock()
			}
			p.Tell(engine.ImageEvent{Stage: engine.ImageArrived})
			p.Tell(engine.ImageEvent{Stage: engine.ImagePulling, Name: "c/d:1"})
			p.Close()
			p.Tell(engine.ImageEvent{Stage: engine.ImagePulling, Name: "too late"})
			s := read()
			text := strings.Join(s.lines, "\n")
			shown := strings.Count(text, ": Pull comp")
			if want := min(layers, size[1]-2); shown != want || shown < layers && !strings.Contains(text, fmt.Sprintf("%d more layers", layers-shown)) {
				t.Errorf("%d layers are shown:\n%s", shown, text)
			}
			if !strings.Contains(text, "a/b:1\n") || !strings.HasSuffix(text, "Pulling c/d:1\n") {
				t.Errorf("the screen is\n%s", text)
			}
		})
	}
}

func TestProgressWithoutTerminal(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := NewProgress(f, "Pulling")
	one, two := layerName(1), layerName(2)
	for _, ev := range []engine.ImageEvent{
		{Stage: engine.ImagePulling, Name: "a\x1b[2Jb"},
		{Stage: engine.LayerPresent, Layer: one},
		{Stage: engine.LayerWaiting, Layer: two, Total: 10},
		{Stage: engine.LayerFetching, Layer: two, Done: 5, Total: 10},
		{Stage: engine.ImageRetrying, Layer: two, Err: errors.New("cut off")},
		{Stage: engine.LayerFetching, Layer: two, Done: 10, Total: 10},
		{Stage: engine.ImageRetrying, Name: "manifest x", Err: errors.New("busy")},
		{Stage: engine.LayerComplete, Layer: two},
		{Stage: engine.ImageArrived},
	} {
		p.Tell(ev)
	}
	p.Close()
	got, err := os.ReadFile(f.Name())
	want := "Pulling a?[2Jb\n" + one.Short() + ": Already exists\n" + two.Short() + ": Pulling fs layer\n" +
		two.Short() + ": Retrying: cut off\nRetrying manifest x: busy\n" + two.Short() + ": Pull complete\n"
	if err != nil || string(got) != want {
		t.Errorf("wrote %v\n%s", err, got)
	}
}

func TestProgressBar(t *testing.T) {
	l := line{id: "0123456789ab", state: "Pulling", at: 25_000_000, total: 100_000_000}
	for width, want := range map[int]string{
		60: "0123456789ab: Pulling [======>                  ] 25MB/100MB",
		40: "0123456789ab: Pulling 25MB/100MB",
		20: "0123456789ab: Pullin",
	} {
		if got := l.text(width); got != want {
			t.Errorf("in %d columns: %q", width, got)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 999: "999B", 1000: "1kB", 1234: "1.23kB", 123_456_789: "123MB", 1_500_000_000: "1.5GB", 999_499: "999kB", 999_999: "1MB"} {
		if got := Size(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

func TestAge(t *testing.T) {
	day := 24 * time.Hour
	for d, want := range map[time.Duration]string{-time.Hour: "Less than a second", time.Second: "1 second", 59 * time.Second: "59 seconds",
		time.Minute: "About a minute", 30 * time.Minute: "30 minutes", time.Hour: "About an hour", 5 * time.Hour: "5 hours",
		3 * day: "3 days", 15 * day: "2 weeks", 70 * day: "2 months", 800 * day: "2 years"} {
		if got := Age(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

// openPTY opens a terminal: the side that a user or we read, and the side that programs have.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
