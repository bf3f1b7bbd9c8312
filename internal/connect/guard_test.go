package connect_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// frame is one of Ethernet to everybody.
func frame(from string, kind uint16, payload ...[]byte) []byte {
	src, _ := net.ParseMAC(from)
	b := append(bytes.Repeat([]byte{0xff}, 6), src...)
	b = binary.BigEndian.AppendUint16(b, kind)
	return append(b, bytes.Join(payload, nil)...)
}

func arp(mac, ip string) []byte {
	hw, _ := net.ParseMAC(mac)
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(append(b, hw...), addr(ip)...)
	return append(append(append(b, make([]byte, 6)...), 10, 200, 1, 77), make([]byte, 8)...)
}

func addr(ip string) []byte { return netip.MustParseAddr(ip).AsSlice() }

func ip4(from string) []byte {
	b := []byte{0x45, 0, 0, 48, 0, 0, 0, 0, 64, 17, 0, 0}
	b = append(append(b, addr(from)...), 10, 200, 1, 255)
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum&0xffff+sum>>16))
	return append(b, make([]byte, 28)...)
}

// icmp6 is a message of ICMPv6 with a target, as those of neighbour discovery have it.
func icmp6(from string, kind byte, target string) []byte {
	b := []byte{0x60, 0, 0, 0, 0, 32, 58, 255}
	b = append(append(b, addr(from)...), addr("ff02::1")...)
	b = append(append(b, kind, 0, 0, 0, 0, 0, 0, 0), addr(target)...)
	return append(b, make([]byte, 8)...)
}

// What a container sends under another's name does not arrive.
func TestSpoofing(t *testing.T) {
	l := newLab(t)
	net1 := bridge("ct-f", 1)
	bad, near := l.newBox(link(net1, 2)), l.newBox(link(net1, 3))
	bad.up()
	near.up()
	const mac, other = "02:42:0a:c8:01:02", "02:42:0a:c8:01:03"
	const local = "fe80::42:aff:fec8:102"
	cases := []struct {
		name    string
		passes  bool
		content []byte
	}{
		{"own ARP", true, frame(mac, 0x806, arp(mac, "10.200.1.2"))},
		{"ARP of a question whether an address is taken", true, frame(mac, 0x806, arp(mac, "0.0.0.0"))},
		{"own IPv4", true, frame(mac, 0x800, ip4("10.200.1.2"))},
		{"own IPv6", true, frame(mac, 0x86dd, icmp6("fd00:1::2", 135, "fd00:1::3"))},
		{"own link-local address", true, frame(mac, 0x86dd, icmp6(local, 135, "fd00:1::3"))},
		{"own advertisement", true, frame(mac, 0x86dd, icmp6("fd00:1::2", 136, "fd00:1::2"))},
		{"question whether one's own address is taken", true, frame(mac, 0x86dd, icmp6("::", 135, "fd00:1::2"))},

		{"hardware address of another", false, frame(other, 0x806, arp(other, "10.200.1.2"))},
		{"ARP with another's address", false, frame(mac, 0x806, arp(mac, "10.200.1.3"))},
		{"ARP with the gateway's address", false, frame(mac, 0x806, arp(mac, "10.200.1.1"))},
		{"ARP with another's hardware address", false, frame(mac, 0x806, arp(other, "10.200.1.2"))},
		{"IPv4 of another", false, frame(mac, 0x800, ip4("10.200.1.3"))},
		{"IPv4 of nobody", false, frame(mac, 0x800, ip4("0.0.0.0"))},
		{"IPv6 of another", false, frame(mac, 0x86dd, icmp6("fd00:1::3", 135, "fd00:1::2"))},
		{"advertisement of another's address", false, frame(mac, 0x86dd, icmp6("fd00:1::2", 136, "fd00:1::3"))},
		{"question whether another's address is taken", false, frame(mac, 0x86dd, icmp6("::", 135, "fd00:1::3"))},
		{"advertisement by nobody", false, frame(mac, 0x86dd, icmp6("::", 136, "fd00:1::2"))},
		{"advertisement of a router", false, frame(mac, 0x86dd, icmp6(local, 134, "::"))},
		{"redirection", false, frame(mac, 0x86dd, icmp6(local, 137, "fd00:1::3"))},
		{"tag of a VLAN", false, frame(mac, 0x8100, []byte{0, 1, 8, 0}, ip4("10.200.1.2"))},
		{"tag of a VLAN with 0 for none", false, frame(mac, 0x8100, []byte{0, 0, 8, 0}, ip4("10.200.1.3"))},
		{"another protocol", false, frame(mac, 0x88cc, make([]byte, 50))},
	}
	from, to := bad.packets(), near.packets()
	defer unix.Close(from)
	defer unix.Close(to)
	for i, c := range cases {
		if err := unix.Sendto(from, mark(c.content, i), 0, nil); err != nil {
			t.Fatal(c.name, err)
		}
	}
	// They stay in their order, so when the last one is there, all are.
	last := len(cases)
	if err := unix.Sendto(from, mark(cases[0].content, last), 0, nil); err != nil {
		t.Fatal(err)
	}
	arrived := make([]bool, last+1)
	for b := make([]byte, 2000); !arrived[last]; {
		n, _, err := unix.Recvfrom(to, b, 0)
		if err != nil {
			t.Fatal("the last frame does not arrive: ", err)
		}
		var i int
		if _, err := fmt.Sscanf(string(b[max(0, n-8):n]), "case %03d", &i); err == nil {
			arrived[i] = true
		}
	}
	for i, c := range cases {
		if arrived[i] != c.passes {
			t.Errorf("%s: arrived %v", c.name, arrived[i])
		}
	}
}

// mark puts a number at the end of a frame, where nobody looks at it.
func mark(b []byte, i int) []byte {
	return append(bytes.Clone(b[:len(b)-8]), fmt.Sprintf("case %03d", i)...)
}

// packets is a socket for frames of eth0.
func (p *place) packets() (fd int) {
	p.t.Helper()
	var err error
	p.in(func() {
		var i *net.Interface
		if i, err = net.InterfaceByName("eth0"); err != nil {
			return
		}
		all := uint16(unix.ETH_P_ALL)<<8 | unix.ETH_P_ALL>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 3})
	return fd
}
