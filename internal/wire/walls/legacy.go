package walls

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// Tables of iptables-legacy are read by options of raw sockets (linux/netfilter_ipv4/ip_tables.h, and the same
// for ip6). Asking for a table makes it, so only those are read that are there.

// old is what is not the same for IPv4 and IPv6: sizes in bytes.
type old struct {
	family       string
	names        string // of the tables that are there
	domain       int
	level        int
	targetOffset int // in struct ipt_entry, of the offset of the target
}

const (
	getInfo    = 64 // IPT_SO_GET_INFO
	getEntries = 65
	infoSize   = 84 // struct ipt_getinfo: a name, a mask, 5 entries of hooks, 5 underflows, a number, a size
	headSize   = 40 // struct ipt_get_entries without its entries
	policyDrop = -1 // NF_DROP as a verdict of a target
)

// legacy is walls of iptables-legacy. What cannot be read is none.
func legacy(bridge string) (found []Wall) {
	for _, o := range []old{
		{"ip", "/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.IPPROTO_IP, 88},
		{"ip6", "/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6, 140},
	} {
		b, err := os.ReadFile(o.names)
		if err != nil || !slices.Contains(strings.Fields(string(b)), "filter") {
			continue
		}
		entries, policy := o.filter()
		if policy != policyDrop || bytes.Contains(entries, []byte(bridge+"\x00")) {
			continue
		}
		w := Wall{Family: o.family, Table: "filter", Chain: "FORWARD", Legacy: true}
		switch {
		case bytes.Contains(entries, []byte("DOCKER-USER\x00")):
			w.Owner = Docker
		case bytes.Contains(entries, []byte("ufw-before-forward\x00")), bytes.Contains(entries, []byte("ufw6-before-forward\x00")):
			w.Owner = UFW
		}
		found = append(found, w)
	}
	return found
}

// filter reads the table filter, and the policy of its chain FORWARD; 0: it is not known.
func (o old) filter() (entries []byte, policy int32) {
	fd, err := unix.Socket(o.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, 0
	}
	defer unix.Close(fd)
	info := make([]byte, infoSize)
	copy(info, "filter")
	if _, err := kernel.SocketOption(fd, o.level, getInfo, info); err != nil {
		return nil, 0
	}
	number := func(b []byte, at int) int {
		if at < 0 || at+4 > len(b) {
			return 0
		}
		return int(binary.NativeEndian.Uint32(b[at:]))
	}
	underflow, size := number(info, 32+4+5*4+unix.NF_INET_FORWARD*4), number(info, 80)
	all := make([]byte, headSize+size)
	copy(all, "filter")
	binary.NativeEndian.PutUint32(all[32:], uint32(size))
	if _, err := kernel.SocketOption(fd, o.level, getEntries, all); err != nil {
		return nil, 0
	}
	entries = all[headSize:]
	// The entry of the policy is where what no rule decides comes to. Its target begins with a header of 32 bytes.
	at := underflow + o.targetOffset
	if at+2 > len(entries) {
		return entries, 0
	}
	target := underflow + int(binary.NativeEndian.Uint16(entries[at:]))
	return entries, int32(number(entries, target+32))
}
