package keeper

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Folder is the folder of a kept container below RUN.
func Folder(run, id string) string { return run + "/keep/" + id }

// The names of files in the folder that more than one program knows.
const (
	StdinName    = "stdin"
	StdoutName   = "stdout"
	StderrName   = "stderr"
	ExitName     = "exit"
	OrdersName   = "orders"
	EndedName    = "ended"
	RestName     = "rest"
	StopName     = "stop"
	CountersName = "counters"
	NotifyName   = "notify"
)

// Orders are what a keeper has to know: the file orders.
type Orders struct {
	ID, Root, Run string
	Corten        string // the program for what comes next
	Keeper        string // the keeper's own program, for when it is asked to execute itself anew
	PID           int    // of PID 1, as the host sees it
	Start         uint64 // when it began: field 22 of /proc/PID/stat
	Terminal      bool
	Guard         int  // the descriptor by which PID 1 holds the master of its terminal
	Init          bool // PID 1 is corten-init
	Log           LogOrders
	Health        HealthOrders
	Notify        NotifyOrders
	Net           string // the program corten-net, if the container needs the host's rules
	Resolver      ResolverOrders
}

// LogOrders are the part of orders that is about the log.
type LogOrders struct {
	Off         bool
	Size        int64 // of a file, bytes; 0: no limit
	Files       int   // 0: no limit
	Compress    bool
	NonBlocking bool
	Buffer      int64 // bytes that NonBlocking holds before it drops lines
}

// HealthOrders say when to probe, in ns.
type HealthOrders struct {
	Interval      int64 // 0: never
	StartPeriod   int64
	StartInterval int64
}

// NotifyOrders say who tells a service manager that the container is ready.
type NotifyOrders struct {
	Mode   string // "container", "keeper", or "" for nobody
	Socket string // as NOTIFY_SOCKET says it: a path, or @ and an abstract name
}

// ResolverOrders say how to answer a container's questions for names.
type ResolverOrders struct {
	Port     uint16   // at which the sockets are; 0: nobody answers
	Networks []string // whose names are known
	Upstream []string // addresses of servers that are asked for others; none: the host's
	Alone    bool     // nobody is asked
}

// Ended is how a container ended: the file ended.
type Ended struct {
	Status  int   // 0-255, 128 and the signal
	Signal  int   // 0: none, or nobody knows
	Time    int64 // ns since 1970
	Unknown bool  // nobody knows how it ended; the status is 255 then
}

// version is the first line's number of each of the files.
const version = 1

// text is what the files are made of: NAME VALUE lines.
type text struct{ b strings.Builder }

func newText(title string) *text {
	t := new(text)
	t.b.WriteString("corten " + title + " " + strconv.Itoa(version) + "\n")
	return t
}

func (t *text) str(name, value string) {
	if value != "" {
		t.b.WriteString(name + " " + value + "\n")
	}
}

func (t *text) num(name string, value int64) { t.str(name, strconv.FormatInt(value, 10)) }

func (t *text) flag(name string, value bool) {
	if value {
		t.str(name, "1")
	} else {
		t.str(name, "0")
	}
}

func (o Orders) encode() string {
	t := newText(OrdersName)
	t.str("id", o.ID)
	t.str("root", o.Root)
	t.str("run", o.Run)
	t.str("corten", o.Corten)
	t.str("keeper", o.Keeper)
	t.num("pid", int64(o.PID))
	t.str("start", strconv.FormatUint(o.Start, 10))
	t.flag("terminal", o.Terminal)
	if o.Terminal {
		t.num("guard", int64(o.Guard))
	}
	t.flag("init", o.Init)
	mode := "blocking"
	if o.Log.NonBlocking {
		mode = "non-blocking"
	}
	t.num("log-size", o.Log.Size)
	t.num("log-files", int64(o.Log.Files))
	t.flag("log-compress", o.Log.Compress)
	t.str("log-mode", mode)
	t.num("log-buffer", o.Log.Buffer)
	t.flag("log-off", o.Log.Off)
	t.num("health", o.Health.Interval)
	t.num("health-start", o.Health.StartPeriod)
	t.num("health-start-interval", o.Health.StartInterval)
	t.str("notify", o.Notify.Mode)
	t.str("notify-socket", o.Notify.Socket)
	t.str("net", o.Net)
	if o.Resolver.Port != 0 {
		t.num("resolver-port", int64(o.Resolver.Port))
		for _, n := range o.Resolver.Networks {
			t.str("resolver-network", n)
		}
		for _, a := range o.Resolver.Upstream {
			t.str("resolver-upstream", a)
		}
		t.flag("resolver-alone", o.Resolver.Alone)
	}
	return t.b.String()
}

// Write publishes the orders in folder, which is there.
func (o Orders) Write(folder string) error {
	for _, s := range slices.Concat([]string{o.ID, o.Root, o.Run, o.Corten, o.Keeper, o.Notify.Mode, o.Notify.Socket, o.Net}, o.Resolver.Networks, o.Resolver.Upstream) {
		if strings.ContainsAny(s, "\n\x00") {
			return errs.Newf(errs.Invalid, "write orders of container", o.ID, "a name has a line break")
		}
	}
	return publish(folder, OrdersName, o.encode())
}

// ReadOrders reads the orders in folder.
func ReadOrders(folder string) (Orders, error) {
	var o Orders
	err := parse(folder, OrdersName, func(name, value string) error {
		for _, set := range []func(*Orders, string, string) error{(*Orders).set, (*Orders).setLog, (*Orders).setNet} {
			if err := set(&o, name, value); err != errNoSuchName {
				return err
			}
		}
		return nil // of a later version that this one can do without
	})
	return o, err
}

func (o *Orders) set(name, value string) (err error) {
	switch name {
	case "id":
		o.ID = value
	case "root":
		o.Root = value
	case "run":
		o.Run = value
	case "corten":
		o.Corten = value
	case "keeper":
		o.Keeper = value
	case "pid":
		o.PID, err = strconv.Atoi(value)
	case "start":
		o.Start, err = strconv.ParseUint(value, 10, 64)
	case "terminal":
		o.Terminal = value == "1"
	case "guard":
		o.Guard, err = strconv.Atoi(value)
	case "init":
		o.Init = value == "1"
	case "notify":
		o.Notify.Mode = value
	case "notify-socket":
		o.Notify.Socket = value
	default:
		return errNoSuchName
	}
	return err
}

func (o *Orders) setLog(name, value string) (err error) {
	switch name {
	case "log-size":
		o.Log.Size, err = number(value)
	case "log-files":
		o.Log.Files, err = strconv.Atoi(value)
	case "log-compress":
		o.Log.Compress = value == "1"
	case "log-mode":
		o.Log.NonBlocking = value == "non-blocking"
	case "log-buffer":
		o.Log.Buffer, err = number(value)
	case "log-off":
		o.Log.Off = value == "1"
	case "health":
		o.Health.Interval, err = number(value)
	case "health-start":
		o.Health.StartPeriod, err = number(value)
	case "health-start-interval":
		o.Health.StartInterval, err = number(value)
	default:
		return errNoSuchName
	}
	return err
}

func (o *Orders) setNet(name, value string) (err error) {
	r := &o.Resolver
	switch name {
	case "net":
		o.Net = value
	case "resolver-port":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 16)
		r.Port = uint16(n)
	case "resolver-network":
		r.Networks = append(r.Networks, value)
	case "resolver-upstream":
		r.Upstream = append(r.Upstream, value)
	case "resolver-alone":
		r.Alone = value == "1"
	default:
		return errNoSuchName
	}
	return err
}

func number(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

// Write publishes how the container ended.
func (e Ended) Write(folder string) error {
	t := newText(EndedName)
	t.num("status", int64(e.Status))
	t.num("signal", int64(e.Signal))
	t.num("time", e.Time)
	t.flag("unknown", e.Unknown)
	return publish(folder, EndedName, t.b.String())
}

// ReadEnded reads how the container ended; an error of kind NotFound: it has not.
func ReadEnded(folder string) (Ended, error) {
	var e Ended
	err := parse(folder, EndedName, func(name, value string) (err error) {
		switch name {
		case "status":
			e.Status, err = strconv.Atoi(value)
		case "signal":
			e.Signal, err = strconv.Atoi(value)
		case "time":
			e.Time, err = number(value)
		case "unknown":
			e.Unknown = value == "1"
		}
		return err
	})
	return e, err
}

// WriteRest says when the next start is due, in ns since 1970.
func WriteRest(folder string, until int64) error {
	t := newText(RestName)
	t.num("until", until)
	return publish(folder, RestName, t.b.String())
}

// ReadRest reads when the next start is due.
func ReadRest(folder string) (until int64, err error) {
	err = parse(folder, RestName, func(name, value string) (err error) {
		if name == "until" {
			until, err = number(value)
		}
		return err
	})
	return until, err
}

// errNoSuchName is told apart from values that cannot be read.
const errNoSuchName = unix.ENODATA

// parse calls line with each line of a file but the first, which it checks.
func parse(folder, name string, line func(name, value string) error) error {
	b, err := readFile(folder + "/" + name)
	if err != nil {
		return errs.Wrap("read", folder+"/"+name, err)
	}
	title, rest, whole := strings.Cut(string(b), "\n")
	word, found := strings.CutPrefix(title, "corten "+name+" ")
	n, err := strconv.Atoi(word)
	if err != nil || !found || !whole || n < 1 {
		return errs.Newf(errs.Corrupt, "read", folder+"/"+name, "it does not begin with corten "+name)
	}
	if n > version {
		return errs.Newf(errs.Unsupported, "read", folder+"/"+name, "it was written by a newer Corten").
			WithHint("use that version, or a newer one")
	}
	for l := range strings.Lines(rest) {
		key, value, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		if err := line(key, value); err != nil {
			return errs.New(errs.Corrupt, "read", folder+"/"+name+": "+key, err)
		}
	}
	return nil
}

// maxText bounds what is read of a file, in bytes: each is some hundreds.
const maxText = 64 << 10

func readFile(path string) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 2048)
	for len(b) < maxText {
		n, err := retry(func() (int, error) { return unix.Read(fd, b[len(b):cap(b)]) })
		if err != nil || n == 0 {
			return b, err
		}
		if b = b[:len(b)+n]; len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
	return nil, unix.EFBIG
}

// publish makes a file that is seen whole or not at all. One process at a time does this
// for a name; none of it has to outlast the machine.
func publish(folder, name, content string) error {
	path := folder + "/" + name
	err := writeFile(path+".new", content)
	if err == nil {
		err = unix.Rename(path+".new", path)
	}
	return errs.Wrap("write", path, err)
}

func writeFile(path, content string) error {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for b := []byte(content); len(b) > 0; {
		n, err := retry(func() (int, error) { return unix.Write(fd, b) })
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// retry makes a system call again when a signal came in its way.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
