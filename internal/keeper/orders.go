package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

// The files by which an engine and a keeper speak, FORMATS.md, "keep": lines of a name and a
// value, so that a keeper needs no more to read them than it needs anyway.

// version is of all three; a reader refuses a higher one.
const version = 1

// Orders is what a keeper has to know about its container.
type Orders struct {
	ID, Root, Run string
	Corten        string // the program that comes after the keeper
	PID           int    // of PID 1, as the host sees it
	Start         uint64 // when that began, clock ticks since the boot
	Terminal      bool
	Init          bool // PID 1 is corten-init
	Guard         int  // the descriptor of PID 1 at which its guards begin

	Log    LogOrders
	Health HealthOrders
	Notify NotifyOrders
}

// LogOrders is what to keep of the output.
type LogOrders struct {
	Size        int64 // bytes of a file; 0: no limit
	Files       int
	Compress    bool
	NonBlocking bool
	Buffer      int64 // bytes that NonBlocking holds before it drops lines
	Off         bool
}

// HealthOrders is when to check the container's health; an Interval of 0: never.
type HealthOrders struct {
	Interval, StartPeriod, StartInterval time.Duration
}

// NotifyOrders is who tells systemd that the container is ready.
type NotifyOrders struct {
	Who    string // "container", "keeper" or empty
	Socket string // where systemd listens
}

// Write publishes the orders in the folder of a keeper.
func (o Orders) Write(dir string) error {
	return write(dir, "orders", []pair{
		{"id", o.ID}, {"root", o.Root}, {"run", o.Run}, {"corten", o.Corten},
		{"pid", strconv.Itoa(o.PID)}, {"start", strconv.FormatUint(o.Start, 10)},
		{"terminal", bit(o.Terminal)}, {"init", bit(o.Init)}, {"guard", strconv.Itoa(o.Guard)},
		{"log-size", num(o.Log.Size)}, {"log-files", strconv.Itoa(o.Log.Files)}, {"log-compress", bit(o.Log.Compress)},
		{"log-mode", mode(o.Log.NonBlocking)}, {"log-buffer", num(o.Log.Buffer)}, {"log-off", bit(o.Log.Off)},
		{"health", num(int64(o.Health.Interval))}, {"health-start", num(int64(o.Health.StartPeriod))},
		{"health-start-interval", num(int64(o.Health.StartInterval))},
		{"notify", o.Notify.Who}, {"notify-socket", o.Notify.Socket},
	})
}

// ReadOrders reads what Write has written.
func ReadOrders(dir string) (Orders, error) {
	f, err := read(dir, "orders")
	if err != nil {
		return Orders{}, err
	}
	return Orders{
		ID: f.text("id"), Root: f.text("root"), Run: f.text("run"), Corten: f.text("corten"),
		PID: int(f.num("pid")), Start: uint64(f.num("start")), Terminal: f.bit("terminal"), Init: f.bit("init"), Guard: int(f.num("guard")),
		Log: LogOrders{Size: f.num("log-size"), Files: int(f.num("log-files")), Compress: f.bit("log-compress"),
			NonBlocking: f.text("log-mode") == "non-blocking", Buffer: f.num("log-buffer"), Off: f.bit("log-off")},
		Health: HealthOrders{Interval: f.duration("health"), StartPeriod: f.duration("health-start"), StartInterval: f.duration("health-start-interval")},
		Notify: NotifyOrders{Who: f.text("notify"), Socket: f.text("notify-socket")},
	}, nil
}

// Ended is how a container ended.
type Ended struct {
	Status  int // 0-255; 128+n for signal n
	Signal  int // 0 if it exited by itself
	Time    time.Time
	Unknown bool // nobody knows; Status is 255 then
}

// Write publishes the end. The log is complete before.
func (e Ended) Write(dir string) error {
	return write(dir, "ended", []pair{{"status", strconv.Itoa(e.Status)}, {"signal", strconv.Itoa(e.Signal)},
		{"time", num(e.Time.UnixNano())}, {"unknown", bit(e.Unknown)}})
}

// ReadEnded reads what Write has written.
func ReadEnded(dir string) (Ended, error) {
	f, err := read(dir, "ended")
	if err != nil {
		return Ended{}, err
	}
	return Ended{Status: int(f.num("status")), Signal: int(f.num("signal")), Time: time.Unix(0, f.num("time")), Unknown: f.bit("unknown")}, nil
}

// WriteRest says when the next start is due.
func WriteRest(dir string, until time.Time) error {
	return write(dir, "rest", []pair{{"until", num(until.UnixNano())}})
}

// ReadRest reads what WriteRest has written.
func ReadRest(dir string) (time.Time, error) {
	f, err := read(dir, "rest")
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(0, f.num("until")), nil
}

type pair struct{ name, value string }

// write publishes a file whole. The folder is forgotten by a reboot: nothing is synced.
func write(dir, name string, pairs []pair) error {
	b := []byte("corten " + name + " " + strconv.Itoa(version) + "\n")
	for _, p := range pairs {
		b = append(b, p.name...)
		b = append(b, ' ')
		b = append(b, p.value...)
		b = append(b, '\n')
	}
	path := filepath.Join(dir, name)
	err := os.WriteFile(path+".new", b, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	return errs.Wrap("write", path, err)
}

// file is the lines of one of the files, by name.
type file map[string]string

func read(dir, name string) (file, error) {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, errs.Wrap("read", path, err)
	}
	head, rest, _ := strings.Cut(string(b), "\n")
	v, ok := strings.CutPrefix(head, "corten "+name+" ")
	if n, err := strconv.Atoi(v); !ok || err != nil || n > version {
		return nil, errs.New(errs.Unsupported, "read", path, errors.New("not of a version that this keeper knows: "+strconv.Quote(head)))
	}
	f := file{}
	for line := range strings.Lines(rest) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		f[k] = v
	}
	return f, nil
}

func (f file) text(name string) string { return f[name] }
func (f file) bit(name string) bool    { return f[name] == "1" }
func (f file) num(name string) int64 {
	n, _ := strconv.ParseInt(f[name], 10, 64)
	return n
}
func (f file) duration(name string) time.Duration { return time.Duration(f.num(name)) }

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func num(n int64) string { return strconv.FormatInt(n, 10) }

func mode(nonBlocking bool) string {
	if nonBlocking {
		return "non-blocking"
	}
	return "blocking"
}
