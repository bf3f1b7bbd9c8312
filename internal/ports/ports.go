// Package ports keeps ports of the host for containers that publish them. Rules lead connections to the
// container before the host looks for a socket; but without a socket another program could have the
// same port and would wonder. So a port is held by a socket that is bound and does not listen, by
// whoever looks after the container, and is let go by the kernel when that ends, however it does.
//
// The kernel has no way from ::1 of the host to a container. What comes there is heard at the same
// sockets (Hear), and copied by a process.
package ports

import (
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Held is ports of the host that nobody else can have. Nobody listens there: who connects is refused,
// unless rules lead the connection to a container before it comes so far.
type Held struct {
	Files []*os.File  // sockets: the ports are held until the last copies of them are closed
	Ports []spec.Port // each with its port of the host
}

// Close lets go of this process's copies.
func (h *Held) Close() {
	for _, f := range h.Files {
		_ = f.Close()
	}
	h.Files = nil
}

// Hold takes the host's ports that a container publishes; of each of expose, too, if all are wanted. A port that
// is to be any free one, or one of a range, is found.
func Hold(ports []spec.Port, expose []spec.Service, all bool) (*Held, error) {
	ports = slices.Clone(ports)
	if all {
		for _, s := range expose {
			if !slices.ContainsFunc(ports, func(p spec.Port) bool { return p.Service == s }) {
				ports = append(ports, spec.Port{Service: s})
			}
		}
	}
	if err := twice(ports); err != nil {
		return nil, err
	}
	// What is said exactly comes first: what is only to be free shall not be in its way.
	slices.SortStableFunc(ports, func(a, b spec.Port) int { return rank(a) - rank(b) })
	h := &Held{}
	for _, p := range ports {
		if slices.Contains(h.Ports, p) { // said twice
			continue
		}
		if err := h.hold(p); err != nil {
			h.Close()
			return nil, err
		}
	}
	return h, nil
}

func rank(p spec.Port) int {
	switch {
	case p.HostPort == 0:
		return 2
	case p.HostEnd > p.HostPort:
		return 1
	}
	return 0
}

// twice reports a port of the host that is to lead to two of the container.
func twice(ports []spec.Port) error {
	for i, p := range ports {
		for _, o := range ports[:i] {
			if rank(p) == 0 && rank(o) == 0 && p.HostPort == o.HostPort && p.HostIP == o.HostIP && p.Protocol == o.Protocol && p.Port != o.Port {
				return errs.Newf(errs.Invalid, "publish", place(p), "it cannot lead to both "+o.Service.String()+" and "+p.Service.String()).
					WithHint("give one of them another port of the host")
			}
		}
	}
	return nil
}

// anyTries is how often we ask the kernel for a free port: one that is free in one family may be taken in the other.
const anyTries = 64

// hold takes one port, and adds it as it was found.
func (h *Held) hold(p spec.Port) error {
	low, high := int(p.HostPort), int(max(p.HostPort, p.HostEnd))
	if low == 0 {
		high = anyTries - 1
	}
	for n := low; n <= high; n++ {
		try := p
		if try.HostEnd = 0; p.HostPort != 0 {
			try.HostPort = uint16(n)
		}
		files, port, err := bindAll(try)
		if err == nil {
			try.HostPort = port
			h.Files, h.Ports = append(h.Files, files...), append(h.Ports, try)
			return nil
		}
		if err != unix.EADDRINUSE {
			return refused(try, err)
		}
	}
	switch {
	case low == 0:
		return errs.Newf(errs.NoSpace, "publish", p.Service.String(), "no port of the host is free").WithHint("say which to use: -p 8080:" + strconv.Itoa(int(p.Port)))
	case high > low:
		return errs.Newf(errs.Busy, "publish", place(p)+"-"+strconv.Itoa(high)+"/"+string(p.Protocol), "each of these ports of the host is taken").
			WithHint("choose a larger range, or leave it out for any that is free")
	}
	return taken(p)
}

// place is the host's end of a published port: 127.0.0.1:8080/tcp.
func place(p spec.Port) string {
	ip := "*"
	if p.HostIP.IsValid() {
		ip = p.HostIP.String()
	}
	if p.HostIP.Is6() {
		ip = "[" + ip + "]"
	}
	text := ip + ":" + strconv.Itoa(int(p.HostPort))
	if p.HostEnd == 0 {
		text += "/" + string(p.Protocol)
	}
	return text
}

func taken(p spec.Port) error {
	return errs.Newf(errs.Busy, "publish", place(p), "that port of the host is taken").WithHint(whoHas(p) + " shows by whom; corten ps shows what containers publish")
}

// whoHas is the command that shows who has a port.
func whoHas(p spec.Port) string {
	letter := "t"
	switch p.Protocol {
	case spec.UDP:
		letter = "u"
	case spec.SCTP:
		letter = "S"
	}
	return "ss -" + letter + "lnp sport = :" + strconv.Itoa(int(p.HostPort))
}

func refused(p spec.Port, err error) error {
	switch err {
	case unix.EADDRNOTAVAIL:
		return errs.Newf(errs.Invalid, "publish", place(p), "the host has no such address").WithHint("ip address lists them")
	case unix.EACCES, unix.EPERM:
		return errs.New(errs.Denied, "publish", place(p), err).WithHint("ports below net.ipv4.ip_unprivileged_port_start are for root")
	}
	return errs.Wrap("publish", place(p), err)
}

// bindAll binds a port in each family that it is to be published in: for every address in both, if
// the kernel has IPv6. With port 0 the first finds one that is free.
func bindAll(p spec.Port) (files []*os.File, port uint16, err error) {
	ips := []netip.Addr{p.HostIP.Unmap()}
	if !p.HostIP.IsValid() {
		ips = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	port = p.HostPort
	for _, ip := range ips {
		var fd int
		fd, port, err = bind(p.Protocol, netip.AddrPortFrom(ip, port))
		switch {
		case err == nil:
			files = append(files, os.NewFile(uintptr(fd), place(p)))
			continue
		case err == unix.EPROTONOSUPPORT && p.Protocol == spec.SCTP: // nobody on this host can have the port
			err = nil
			continue
		case err == unix.EAFNOSUPPORT && ip.Is6() && !p.HostIP.IsValid():
			err = nil
			continue
		}
		for _, f := range files {
			f.Close()
		}
		return nil, 0, err
	}
	return files, port, nil
}

// bind makes a socket that has a port of one address to itself.
func bind(proto spec.Protocol, at netip.AddrPort) (fd int, port uint16, err error) {
	fd, err = bindOnce(proto, at, false)
	if err == unix.EADDRINUSE && proto == spec.TCP {
		// Connections of a server that has ended, some of which last a minute (TIME_WAIT), keep the port from who
		// wants it alone. Servers share it with those (SO_REUSEADDR), and so do we: with nobody who listens.
		fd, err = bindOnce(proto, at, true)
	}
	if err != nil {
		return -1, at.Port(), err
	}
	if at.Port() != 0 {
		return fd, at.Port(), nil
	}
	sa, err := unix.Getsockname(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fd, uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return fd, uint16(sa.Port), nil
	}
	unix.Close(fd)
	return -1, 0, err
}

// bindOnce binds a socket. To share the port with what is left of connections, it listens for an
// instant: only then the kernel compares it with all who have the port, and lets nobody share it
// who comes later. It hears nothing meanwhile.
func bindOnce(proto spec.Protocol, at netip.AddrPort, share bool) (fd int, err error) {
	family, sa := unix.AF_INET, sockaddr(at)
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	kind, number := unix.SOCK_STREAM, unix.IPPROTO_TCP
	switch proto {
	case spec.UDP:
		kind, number = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case spec.SCTP:
		number = unix.IPPROTO_SCTP
	}
	fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, number)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fd, err
		}
	}
	if proto == spec.UDP || share {
		// Of TCP an ordinary user may not (EPERM): who connects in the moment in which it listens is turned away.
		if err := deafen(fd); err != nil && (proto == spec.UDP || err != unix.EPERM) {
			return fd, err
		}
	}
	if !share {
		return fd, unix.Bind(fd, sa)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fd, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fd, err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return fd, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
		return fd, err
	}
	return fd, unix.Shutdown(fd, unix.SHUT_RD) // it is bound as before, and no longer listens
}

// Hear has what comes to [::1] be heard, where that is published: connections wait at the socket to be accepted, and datagrams
// to be read, by somebody who has the sockets. It returns these, and Box puts them first.
func (h *Held) Hear() ([]*os.File, error) {
	var hear, deaf []*os.File
	for _, f := range h.Files {
		kind, err := hear6(int(f.Fd()))
		if err != nil {
			return nil, errs.Wrap("listen at", "[::1] for "+f.Name(), err)
		}
		if kind {
			hear = append(hear, f)
		} else {
			deaf = append(deaf, f)
		}
	}
	h.Files = append(hear, deaf...)
	return hear, nil
}

// waiting is how many connections may wait to be accepted; the kernel takes less if net.core.somaxconn says so.
const waiting = 4096

// hear6 has a socket hear what comes to ::1. It is false for one that nothing for that can come to.
func hear6(fd int) (bool, error) {
	sa, err := unix.Getsockname(fd)
	at, ok := sa.(*unix.SockaddrInet6)
	if err != nil || !ok || at.Addr != [16]byte{} && at.Addr != [16]byte{15: 1} {
		return false, err
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return false, err
	}
	if kind == unix.SOCK_DGRAM {
		return true, hearLoopback(fd)
	}
	number, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || number != unix.IPPROTO_TCP {
		return false, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) // of bindOnce
	// Sharing is for what is left of connections, as there.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Listen(fd, waiting)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
	}
	return true, err
}

// hearLoopback has a socket of UDP drop all but what is for ::1: the destination is the bytes from 24 on in the header of
// IPv6 (RFC 8200, section 3).
func hearLoopback(fd int) error {
	const network = 0xfff00000 // SKF_NET_OFF
	var code []unix.SockFilter
	for i := range uint32(4) {
		code = append(code, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: network + 24 + 4*i},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: i / 3, Jf: uint8(7 - 2*i)})
	}
	code = append(code, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
}

// deafen has a socket drop all that comes: of UDP, what no rule leads to the container would else
// wait there for a reader.
func deafen(fd int) error {
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	return &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
}

// perMessage is how many descriptors one message may carry: SCM_MAX_FD, unix(7).
const perMessage = 253

// Box puts all sockets into one file that holds the ports as long as it is open: they lie in the queue
// of a socket, which nobody reads. nil: there are none.
func (h *Held) Box() (*os.File, error) {
	if len(h.Files) == 0 {
		return nil, nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errs.Wrap("make socket for", "published ports", err)
	}
	defer unix.Close(pair[1])
	box := os.NewFile(uintptr(pair[0]), "ports")
	for list := range slices.Chunk(h.Files, perMessage) {
		var fds []int
		for _, f := range list {
			fds = append(fds, int(f.Fd()))
		}
		if err := unix.Sendmsg(pair[1], []byte{0}, unix.UnixRights(fds...), nil, 0); err != nil {
			_ = box.Close()
			return nil, errs.Wrap("hold", "published ports", err)
		}
	}
	return box, nil
}
