// Package wire makes interfaces and what belongs to them: bridges on the host, pairs of which one end is
// in a container, addresses, routes, rates, and the host's settings for forwarding.
//
// All of it may be done twice: what is there already is no error, and what is gone need not be
// removed. A bridge is made for the first container of a network, and is ours if its hardware address says so.
// A pair goes when the container's namespace goes, by itself, so nobody removes it and waits for that.
package wire

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Host is the network namespace of this process: sockets to the kernel for what is in it.
type Host struct {
	run   string // whose bridges they are
	own   *os.File
	links *netlink.Handle
	raw   map[int]*nl.SocketHandle // for messages that the library does not make
}

// Open opens the sockets. run is the run folder, by which bridges are known as ours.
func Open(run string) (*Host, error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, errs.Wrap("open", "network namespace", err)
	}
	h := &Host{run: run, own: own}
	if h.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err == nil {
		h.raw, err = rawSockets()
	}
	if err != nil {
		h.Close()
		return nil, errs.Wrap("open", "rtnetlink", err)
	}
	return h, nil
}

func rawSockets() (map[int]*nl.SocketHandle, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE) // to no group: it is only a socket
	if err != nil {
		return nil, err
	}
	_ = s.SetExtAck(true) // errors in words, since Linux 4.12
	return map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}, nil
}

// Close closes them.
func (h *Host) Close() {
	_ = h.own.Close()
	if h.links != nil {
		h.links.Close()
	}
	for _, s := range h.raw {
		s.Close()
	}
}

// whole lists again what changed while the kernel listed it (NLM_F_DUMP_INTR, netlink(7)).
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 100 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// HasIPv6 reports whether the kernel has IPv6 and it is not switched off for all interfaces.
func HasIPv6() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && len(b) > 0 && b[0] == '0'
}

// Inside is the network namespace of a container.
type Inside struct {
	ns    *os.File
	own   *os.File
	links *netlink.Handle
}

// Enter opens the namespace of a process, which has to be another than ours.
func (h *Host) Enter(pid int) (*Inside, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/ns/net"
	ns, err := os.Open(path)
	if err != nil {
		return nil, errs.Wrap("open", "network namespace of container", err)
	}
	return h.EnterFile(ns)
}

// EnterFile takes a namespace that is open, and closes it with what it returns.
func (h *Host) EnterFile(ns *os.File) (*Inside, error) {
	var ours, theirs unix.Stat_t
	err := errors.Join(unix.Fstat(int(h.own.Fd()), &ours), unix.Fstat(int(ns.Fd()), &theirs))
	if err == nil && ours.Ino == theirs.Ino && ours.Dev == theirs.Dev {
		err = errs.Newf(errs.Invalid, "enter", "network namespace of container", "it is the host's")
	}
	if err != nil {
		ns.Close()
		return nil, err
	}
	in := &Inside{ns: ns, own: h.own}
	err = in.Do(func() (err error) {
		in.links, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		ns.Close()
		return nil, errs.Wrap("open", "rtnetlink", err)
	}
	return in, nil
}

// FD is a descriptor of the namespace.
func (in *Inside) FD() int { return int(in.ns.Fd()) }

// Close closes it.
func (in *Inside) Close() {
	in.links.Close()
	_ = in.ns.Close()
}

// Do calls f on a thread that is in the namespace. A thread that cannot come back ends the process: it
// would go on in a network that is not its own.
func (in *Inside) Do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setns(in.FD(), unix.CLONE_NEWNET); err != nil {
		return errs.Wrap("enter", "network namespace of container", err)
	}
	err := f()
	if unix.Setns(int(in.own.Fd()), unix.CLONE_NEWNET) != nil {
		os.Exit(1)
	}
	return err
}

// Prepare gives a new namespace what is usual for containers: a process without privileges may listen
// at ports below 1024, and may ping; link-local addresses can be used at once. The loopback interface, which has
// the number 1 in each, is up, so that sockets can be bound there.
func (in *Inside) Prepare() error {
	loopback := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: 1}}
	if err := in.links.LinkSetUp(loopback); err != nil {
		return errs.Wrap("set up", "loopback interface", err)
	}
	return in.Do(func() error {
		err := errors.Join(
			set("net/ipv4/ip_unprivileged_port_start", "0"),
			set("net/ipv4/ping_group_range", "0 2147483647"))
		if HasIPv6() {
			// Nobody else has an address that is made from the hardware's.
			err = errors.Join(err, set("net/ipv6/conf/default/accept_dad", "0"))
		}
		return err
	})
}

// set writes a setting of the kernel, in the namespace of the thread.
func set(name, value string) error {
	f, err := os.OpenFile("/proc/sys/"+name, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(value)
		f.Close()
	}
	return errs.Wrap("set", name, err)
}

func setting(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return string(b)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// missing reports whether an error says that an interface is not there.
func missing(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, unix.ENODEV)
}
