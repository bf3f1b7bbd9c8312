// Package systemd has systemd make control groups: scopes, which are units that somebody else's
// processes are in. It asks by D-Bus, of which it speaks as much as that takes: a library would cost
// every start of the programs that link it some tenths of a millisecond.
//
// A scope is there as long as a process is in it; when the last is gone systemd removes it, also if it
// failed. Nothing is kept in memory: whoever knows its name changes and stops it.
package systemd

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Property is one of a unit's, as org.freedesktop.systemd1(5) has it. A value is a bool, byte, int32,
// uint32, int64, uint64, float64, string, []byte, []uint32 or []string: the type has to be that of the
// property.
type Property struct {
	Name  string
	Value any
}

// Manager is a connection to the host's systemd, or to that of one user.
type Manager struct {
	fd     int
	serial uint32
	bus    bool              // a bus is between us
	ended  map[string]string // jobs that ended, by their path, to how
}

const (
	name   = "org.freedesktop.systemd1"
	object = path("/org/freedesktop/systemd1")
	iface  = "org.freedesktop.systemd1.Manager"
	busIs  = "org.freedesktop.DBus"
)

// patience is how long systemd may take for an answer, or a job.
const patience = 30 * time.Second

// Hint says what to do without systemd.
const Hint = "have your engine use the driver cgroupfs for control groups"

// System connects to the host's systemd: by its own socket, which is root's, or by the system bus.
func System() (*Manager, error) {
	return connect("systemd", socket{"/run/systemd/private", false},
		socket{unixPath(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), "/run/dbus/system_bus_socket"), true})
}

// User connects to a user's systemd. uid is his number on the host.
func User(uid int) (*Manager, error) {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = "/run/user/" + strconv.Itoa(uid)
	}
	return connect("the user's systemd", socket{dir + "/systemd/private", false},
		socket{unixPath(os.Getenv("DBUS_SESSION_BUS_ADDRESS"), dir+"/bus"), true})
}

// unixPath is the socket of a bus address ("unix:path=/run/bus,guid=..."), or else another.
func unixPath(address, other string) string {
	for a := range strings.SplitSeq(address, ";") {
		rest, ok := strings.CutPrefix(a, "unix:")
		if !ok {
			continue
		}
		for pair := range strings.SplitSeq(rest, ",") {
			key, value, _ := strings.Cut(pair, "=")
			switch key {
			case "path":
				return unescape(value)
			case "abstract":
				return "@" + unescape(value)
			}
		}
	}
	return other
}

// unescape reads "%20".
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

type socket struct {
	file string
	bus  bool
}

// connect takes the first socket that answers.
func connect(who string, sockets ...socket) (*Manager, error) {
	var first error
	for _, s := range sockets {
		m, err := dial(s)
		if err == nil {
			return m, nil
		}
		if first == nil {
			first = errs.New(errs.KindOf(err), "connect to "+who, s.file, err).WithHint(Hint)
		}
	}
	return nil, first
}

func dial(s socket) (*Manager, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	m := &Manager{fd: fd, bus: s.bus, ended: map[string]string{}}
	wait := unix.NsecToTimeval(int64(patience))
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait)
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: s.file})
	}
	if err == nil {
		err = m.greet()
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// greet says who we are: the kernel tells the other side, also if we are another user in a namespace of
// our own. A bus gives us a name, and hands on to us the ends of jobs.
func (m *Manager) greet() error {
	if err := m.write([]byte("\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")); err != nil {
		return err
	}
	var line []byte
	for len(line) < 1024 {
		var b [1]byte // what comes after the line is a message
		if err := m.read(b[:]); err != nil {
			return err
		}
		if line = append(line, b[0]); !bytes.HasSuffix(line, []byte("\r\n")) {
			continue
		}
		switch {
		case bytes.HasPrefix(line, []byte("OK")):
			if !m.bus {
				return nil
			}
			if _, err := m.ask(busIs, "/org/freedesktop/DBus", busIs, "Hello"); err != nil {
				return err
			}
			_, err := m.ask(busIs, "/org/freedesktop/DBus", busIs, "AddMatch",
				"type='signal',sender='"+name+"',interface='"+iface+"',member='JobRemoved'")
			return err
		case !bytes.HasPrefix(line, []byte("DATA")):
			return errs.Newf(errs.Denied, "", "", strings.TrimSpace(string(line)))
		}
		line = nil
	}
	return errWire
}

// Close ends the connection.
func (m *Manager) Close() { _ = unix.Close(m.fd) }

func (m *Manager) write(b []byte) error {
	for len(b) > 0 {
		n, err := unix.SendmsgN(m.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err != nil && err != unix.EINTR {
			return late(err)
		}
		b = b[max(n, 0):]
	}
	return nil
}

func (m *Manager) read(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Read(m.fd, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return late(err)
		case n == 0:
			return errs.Newf(errs.Other, "", "", "it hung up")
		default:
			b = b[n:]
		}
	}
	return nil
}

func late(err error) error {
	if err == unix.EAGAIN {
		return errs.Newf(errs.Busy, "", "", "it did not answer within "+patience.String())
	}
	return err
}

// next reads a message.
func (m *Manager) next() (message, error) {
	head := make([]byte, fixed)
	if err := m.read(head); err != nil {
		return message{}, err
	}
	n, err := size(head)
	if err != nil {
		return message{}, err
	}
	all := append(head, make([]byte, n-fixed)...)
	if err := m.read(all[fixed:]); err != nil {
		return message{}, err
	}
	got, err := decode(all)
	if got.kind == kindSignal && got.member == "JobRemoved" && len(got.texts) == 3 { // job, unit, result
		m.ended[got.texts[0]] = got.texts[2]
	}
	return got, err
}

// Fault is an error that systemd answered with.
type Fault struct{ Name, Text string }

func (f *Fault) Error() string { return f.Text }

// ask calls a method and returns the texts of its answer.
func (m *Manager) ask(to string, on path, iface, method string, args ...any) ([]string, error) {
	m.serial++
	if err := m.write(call(m.serial, to, on, iface, method, args)); err != nil {
		return nil, err
	}
	for {
		got, err := m.next()
		switch {
		case err != nil:
			return nil, err
		case got.reply != m.serial:
		case got.kind == kindError:
			return nil, &Fault{got.fault, strings.Join(got.texts, " ")}
		case got.kind == kindReturn:
			return got.texts, nil
		}
	}
}

// finish waits for the end of a job, and says how it ended.
func (m *Manager) finish(job string) (string, error) {
	for {
		if how, ok := m.ended[job]; ok {
			return how, nil
		}
		if _, err := m.next(); err != nil {
			return "", err
		}
	}
}
