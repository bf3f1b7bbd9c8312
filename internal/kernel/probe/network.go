package probe

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

func networking() []feature {
	return []feature{
		{"nftables", "translates addresses and filters between containers", "containers have no networks but none and host; iptables-legacy does not do",
			"CONFIG_NF_TABLES_INET, CONFIG_NF_TABLES_BRIDGE, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET (Linux 5.7); modules nf_tables, nft_chain_nat", needed, made("nf_tables")},
		{"veth", "connects a container's network to the host's", "containers have no networks but none and host",
			"CONFIG_VETH, module veth", needed, made("veth")},
		{"bridge", "connects containers with each other", "containers have no networks but none and host",
			"CONFIG_BRIDGE, module bridge", needed, made("bridge")},
		{"macvlan", "gives a container an address in the host's own network", "macvlan networks are refused",
			"CONFIG_MACVLAN, module macvlan", used, made("macvlan")},
		{"ipvlan", "does so with the host's hardware address", "ipvlan networks are refused",
			"CONFIG_IPVLAN, module ipvlan", used, made("ipvlan")},
		{"vxlan", "connects networks of several hosts", "overlay networks are refused",
			"CONFIG_VXLAN, module vxlan", later, made("vxlan")},
		{"tun", "connects the network of an ordinary user's container", "containers of ordinary users have no networks but none and host",
			"CONFIG_TUN, module tun, a device file /dev/net/tun", later, tun},
		{"IPv6", "gives containers IPv6 addresses", "containers have IPv4 only",
			"CONFIG_IPV6; sysctl net.ipv6.conf.all.disable_ipv6=0", used, ipv6},
		{"forwarding", "lets packets of containers out of the machine", "networks of containers end at this machine",
			"sysctl net.ipv4.ip_forward=1", used, forwarding},
	}
}

// network is what came of trying, by module, in a network namespace of which there is one
// for all: to make one takes the kernel longer than all the rest.
type network struct {
	err error // there was no namespace
	got map[string]error
}

func tryNetwork() network {
	return apart(func() network {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return network{err: err}
		}
		got := tryLinks()
		got["nf_tables"], got["tun"] = tryNftables(), tryTun()
		return network{got: got}
	})
}

// made answers what came of trying. Who may not try, finds at least modules that are loaded.
func made(module string) func(*host) finding {
	return func(h *host) finding {
		n := h.network()
		if n.err == nil {
			return h.judge(n.got[module])
		}
		if _, err := os.Stat("/sys/module/" + module); err == nil {
			return yes("loaded")
		}
		return h.judge(n.err)
	}
}

// Numbers of the links that are made. macvlan and ipvlan each need one below them.
const (
	vethIndex = 100 + iota
	bridgeIndex
	macvlanIndex
	ipvlanIndex
	vxlanIndex
)

// tryLinks makes a link of each kind. A kernel without a kind says EOPNOTSUPP.
func tryLinks() map[string]error {
	got := map[string]error{}
	s, err := dial(unix.NETLINK_ROUTE)
	defer s.close()
	try := func(kind string, index, below int, data []byte) {
		if err == nil {
			got[kind] = s.ask(newLink(kind, index, below, data), 1)
		} else {
			got[kind] = err
		}
	}
	try("veth", vethIndex, 0, nil)
	try("bridge", bridgeIndex, 0, nil)
	below := [2]int{vethIndex, bridgeIndex}
	switch {
	case got["veth"] != nil:
		below[0] = bridgeIndex
	case got["bridge"] != nil:
		below[1] = vethIndex
	}
	try("macvlan", macvlanIndex, below[0], nil)
	try("ipvlan", ipvlanIndex, below[1], nil)
	try("vxlan", vxlanIndex, 0, attr(nil, unix.IFLA_VXLAN_ID, []byte{1, 0, 0, 0}))
	return got
}

// newLink is a message that makes a link, rtnetlink(7), with an acknowledgement.
func newLink(kind string, index, below int, data []byte) []byte {
	b := header(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	info := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(info[4:], uint32(index))
	b = append(b, info...)
	b = attr(b, unix.IFLA_IFNAME, []byte("p"+kind+"\x00"))
	if below != 0 {
		b = attr(b, unix.IFLA_LINK, binary.NativeEndian.AppendUint32(nil, uint32(below)))
	}
	about := attr(nil, unix.IFLA_INFO_KIND, []byte(kind))
	if data != nil {
		about = attr(about, unix.IFLA_INFO_DATA, data)
	}
	return finish(attr(b, unix.IFLA_LINKINFO, about))
}

// tryNftables makes a table and in it a chain that translates addresses, and a table for bridges.
func tryNftables() error {
	const (
		subsystem = unix.NFNL_SUBSYS_NFTABLES
		inet      = unix.NFPROTO_INET
		flags     = unix.NLM_F_REQUEST | unix.NLM_F_ACK | unix.NLM_F_CREATE
		nested    = unix.NLA_F_NESTED
	)
	s, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer s.close()
	message := func(kind, flags int, family byte, resource uint16) []byte {
		b := append(header(kind, flags), family, 0)
		return binary.BigEndian.AppendUint16(b, resource)
	}
	number := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	name := []byte("probe\x00")

	batch := finish(message(unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, 0, subsystem))
	table := message(subsystem<<8|unix.NFT_MSG_NEWTABLE, flags, inet, 0)
	batch = append(batch, finish(attr(table, unix.NFTA_TABLE_NAME, name))...)
	table = message(subsystem<<8|unix.NFT_MSG_NEWTABLE, flags, unix.NFPROTO_BRIDGE, 0)
	batch = append(batch, finish(attr(table, unix.NFTA_TABLE_NAME, name))...)
	chain := message(subsystem<<8|unix.NFT_MSG_NEWCHAIN, flags, inet, 0)
	chain = attr(chain, unix.NFTA_CHAIN_TABLE, name)
	chain = attr(chain, unix.NFTA_CHAIN_NAME, name)
	hook := attr(nil, unix.NFTA_HOOK_HOOKNUM, number(unix.NF_INET_POST_ROUTING))
	hook = attr(hook, unix.NFTA_HOOK_PRIORITY, number(100)) // NF_IP_PRI_NAT_SRC
	chain = attr(chain, unix.NFTA_CHAIN_HOOK|nested, hook)
	chain = attr(chain, unix.NFTA_CHAIN_TYPE, []byte("nat\x00"))
	batch = append(batch, finish(chain)...)
	batch = append(batch, finish(message(unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, 0, subsystem))...)
	return s.ask(batch, 3)
}

// tryTun makes a tun device. It is in the network namespace of who opened the file.
func tryTun() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("ptun")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
}

// tun, for who may not make network namespaces, is being able to open the device: it is
// used inside one.
func tun(h *host) finding {
	if n := h.network(); n.err == nil && n.got["tun"] != unix.ENOENT {
		return h.judge(n.got["tun"])
	}
	return device("/dev/net/tun")
}

func ipv6(*host) finding {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return judge(err)
	}
	unix.Close(fd)
	s, err := line("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return no("switched off since boot (ipv6.disable=1)")
	case err != nil:
		return unknown(words(err))
	case s != "0":
		return no("switched off" + sysctls("net.ipv6.conf.all.disable_ipv6"))
	}
	return yes("")
}

func forwarding(*host) finding {
	s, err := line("/proc/sys/net/ipv4/ip_forward")
	switch {
	case err != nil:
		return unknown(words(err))
	case s == "0":
		return no("switched off" + sysctls("net.ipv4.ip_forward")).or("it is switched on while containers are on networks")
	}
	return yes("")
}

// Netlink messages, netlink(7).

// netlink is a socket on which requests are made and acknowledged one after the other.
type netlink int

func dial(protocol int) (netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, err
	}
	// The kernel answers while it is asked; the limit is for kernels that do not.
	limit := unix.Timeval{Usec: 200_000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return netlink(fd), nil
}

func (s netlink) close() {
	if s >= 0 {
		unix.Close(int(s))
	}
}

// ask sends messages and waits for the first error or this many acknowledgements.
func (s netlink) ask(messages []byte, acks int) error {
	if err := unix.Sendto(int(s), messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 8192)
	for acks > 0 {
		n, _, err := unix.Recvfrom(int(s), buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return unix.EBADMSG
			}
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 {
				if e := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); e != 0 {
					return unix.Errno(-e)
				}
				acks--
			}
			b = b[min(len(b), align(size)):]
		}
	}
	return nil
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// header is struct nlmsghdr, whose length finish fills in.
func header(kind, flags int) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, 256)
	binary.NativeEndian.PutUint16(b[4:], uint16(kind))
	binary.NativeEndian.PutUint16(b[6:], uint16(flags))
	return b
}

func finish(b []byte) []byte {
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// attr appends an attribute, padded.
func attr(b []byte, kind int, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, uint16(kind))
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}
