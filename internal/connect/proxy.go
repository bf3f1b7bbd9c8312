package connect

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/callers"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// The kernel has no way from ::1 of the host to a container: a packet from there that is led elsewhere has no way back. So what
// comes to a published port of [::1] is copied, by a process. Of a container in the foreground that is the one which tends it. A
// keeper starts one when somebody comes (mode proxy), which ends when nobody has been there for a while: until then the sockets, in the
// keeper's box of ports, take connections and datagrams without anybody.

const (
	proxyIdle = 10 * time.Second // without anybody, until it ends
	quietUDP  = 60 * time.Second // until nobody expects an answer of UDP any more
	dialTime  = 10 * time.Second
	mostUDP   = 256 // senders to one port at once
)

// proxy copies between [::1] and a container.
type proxy struct {
	mu      sync.Mutex
	ports   []io.Closer
	serves  int       // connections, and senders of UDP
	quiet   time.Time // since when there are none
	forward func(p spec.Protocol, port uint16) (netip.AddrPort, bool)
}

// proxy is for a keeper's box: until nobody has been there for a while.
func (w *work) proxy() error {
	p := w.openProxy()
	if p == nil {
		return errs.Newf(errs.Invalid, "answer at", "[::1]", "there are no sockets")
	}
	for {
		time.Sleep(proxyIdle / 10)
		p.mu.Lock() // and nobody is accepted any more
		if p.serves == 0 && time.Since(p.quiet) > proxyIdle {
			return nil
		}
		p.mu.Unlock()
	}
}

// openProxy serves the sockets in the box; nil: there is no box, or nothing in it.
func (w *work) openProxy() *proxy {
	p := &proxy{quiet: time.Now(), forward: w.forward}
	for _, fd := range callers.Sockets(w.box) {
		_ = unix.SetNonblock(fd, true) // of all who have it: nobody else reads there
		f := os.NewFile(uintptr(fd), "port")
		if kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); kind != unix.SOCK_DGRAM {
			p.ports = append(p.ports, f)
			go p.connections(f)
			continue
		}
		c, err := net.FilePacketConn(f)
		_ = f.Close()
		if err == nil {
			p.ports = append(p.ports, c)
			go p.datagrams(c.(*net.UDPConn))
		}
	}
	if p.ports == nil {
		return nil
	}
	return p
}

// close lets go of the ports. What has come is copied to its end, as long as this process is there.
func (p *proxy) close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.ports {
		_ = c.Close()
	}
}

// forward is where in the container a port of the host leads to: what is said of [::1] goes before what is said of every
// address.
func (w *work) forward(proto spec.Protocol, port uint16) (to netip.AddrPort, ok bool) {
	doc, there, err := network.Document(w.dirs, w.id)
	if err != nil || !there {
		return to, false
	}
	best := 0
	for _, f := range doc.Ports {
		if f.Protocol == proto && f.HostPort == port {
			if n := rank(f); n > best {
				best, to = n, netip.AddrPortFrom(f.To, f.Port)
			}
		}
	}
	return to, best > 0
}

func rank(f wiring.Forward) int {
	switch f.HostIP {
	case netip.IPv6Loopback():
		return 3
	case netip.IPv6Unspecified():
		return 2
	case netip.IPv4Unspecified(): // it has no address of IPv6
		return 1
	}
	return 0
}

// end is for a connection that nobody needs any more.
func (p *proxy) end(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = c.Close()
	p.serves--
	p.quiet = time.Now()
}

// connections accepts connections until the socket is closed.
func (p *proxy) connections(l *os.File) {
	raw, err := l.SyscallConn()
	for err == nil {
		var aerr error
		err = raw.Read(func(at uintptr) bool {
			aerr = p.accept(int(at))
			return aerr != unix.EAGAIN
		})
		if aerr == unix.EMFILE || aerr == unix.ENFILE || aerr == unix.ENOMEM || aerr == unix.ENOBUFS {
			time.Sleep(100 * time.Millisecond) // some end meanwhile
		}
	}
}

func (p *proxy) accept(at int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	fd, _, err := unix.Accept4(at, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	// What is left of it when it has ended (TIME_WAIT) keeps nobody from the port who shares it so.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	p.serves++
	go p.connection(c.(*net.TCPConn))
	return nil
}

// connection copies one, in both directions; the kernel moves the pages (splice(2)).
func (p *proxy) connection(near *net.TCPConn) {
	defer p.end(near)
	at := near.LocalAddr().(*net.TCPAddr).AddrPort()
	to, ok := p.forward(spec.TCP, at.Port())
	if !ok || !at.Addr().IsLoopback() { // to the host's other addresses rules lead
		_ = near.SetLinger(0)
		return
	}
	d, err := net.DialTimeout("tcp", to.String(), dialTime)
	if err != nil {
		_ = near.SetLinger(0) // refused
		return
	}
	far := d.(*net.TCPConn)
	defer far.Close()
	var both sync.WaitGroup
	half := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			_ = to.SetLinger(0) // so does the other side see it
			_ = to.Close()
			_ = from.Close()
			return
		}
		_ = to.CloseWrite()
	}
	both.Go(func() { half(far, near) })
	both.Go(func() { half(near, far) })
	both.Wait()
}

// datagrams copies those of one port until its socket is closed. Each sender has a socket to the container.
func (p *proxy) datagrams(near *net.UDPConn) {
	port := uint16(near.LocalAddr().(*net.UDPAddr).Port)
	var mu sync.Mutex
	senders := map[netip.AddrPort]*net.UDPConn{}
	b := make([]byte, 64<<10)
	for {
		n, from, err := near.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		mu.Lock()
		far := senders[from]
		if far == nil && len(senders) < mostUDP {
			if far = p.sender(port); far != nil {
				senders[from] = far
				go func() {
					answers(near, far, from)
					mu.Lock()
					delete(senders, from)
					mu.Unlock()
					p.end(far)
				}()
			}
		}
		mu.Unlock()
		if far != nil {
			_ = far.SetReadDeadline(time.Now().Add(quietUDP))
			_, _ = far.Write(b[:n])
		}
	}
}

// sender makes a socket to the container, for who has sent something; nil: nothing leads there.
func (p *proxy) sender(port uint16) *net.UDPConn {
	to, ok := p.forward(spec.UDP, port)
	if !ok {
		return nil
	}
	c, err := net.Dial("udp", to.String())
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serves++
	return c.(*net.UDPConn)
}

// answers copies what the container sends to one sender, until it is quiet for long.
func answers(near, far *net.UDPConn, to netip.AddrPort) {
	b := make([]byte, 64<<10)
	for {
		n, err := far.Read(b)
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return
		}
		if err == nil {
			_ = far.SetReadDeadline(time.Now().Add(quietUDP))
			_, _ = near.WriteToUDPAddrPort(b[:n], to)
		}
	}
}
