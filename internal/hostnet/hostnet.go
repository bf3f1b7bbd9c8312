// Package hostnet is what the network namespace of this thread has already: its interfaces, its routes,
// whether there is IPv6. It reads; it changes nothing.
package hostnet

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
)

// Route is one of the host's.
type Route struct {
	To     netip.Prefix
	Dev    string
	Routed bool // by a gateway
}

// HasIPv6 reports whether the kernel has IPv6. The file is of this thread's network namespace.
func HasIPv6() bool { return unix.Access("/proc/thread-self/net/if_inet6", unix.F_OK) == nil }

// Routes reads the host's routes, but for default ones and those of every interface alike.
func Routes() ([]Route, error) {
	b4, err := disk.Read("/proc/thread-self/net/route")
	if err != nil {
		return nil, errs.Wrap("read", "the host's routes", err)
	}
	b6, err := disk.Read("/proc/thread-self/net/ipv6_route")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap("read", "the host's routes", err)
	}
	return append(parseRoutes(string(b4), parseRoute4), parseRoutes(string(b6), parseRoute6)...), nil
}

func parseRoutes(text string, parse func([]string) (Route, bool)) []Route {
	var out []Route
	for line := range strings.Lines(text) {
		r, ok := parse(strings.Fields(line))
		if a := r.To.Addr(); ok && r.To.Bits() > 0 && !a.IsMulticast() && !a.IsLinkLocalUnicast() && !a.IsLoopback() {
			out = append(out, r)
		}
	}
	return out
}

// parseRoute4 reads a line of /proc/net/route: interface, destination, gateway, flags, three
// counters, mask. Addresses are numbers in the machine's byte order. The head of the table is no route.
func parseRoute4(f []string) (Route, bool) {
	if len(f) < 8 {
		return Route{}, false
	}
	to, err1 := strconv.ParseUint(f[1], 16, 32)
	mask, err2 := strconv.ParseUint(f[7], 16, 32)
	if err1 != nil || err2 != nil {
		return Route{}, false
	}
	var a, m [4]byte
	binary.NativeEndian.PutUint32(a[:], uint32(to))
	binary.NativeEndian.PutUint32(m[:], uint32(mask))
	bits := 0
	for v := binary.BigEndian.Uint32(m[:]); v&0x80000000 != 0; v <<= 1 {
		bits++
	}
	return Route{netip.PrefixFrom(netip.AddrFrom4(a), bits), f[0], f[2] != "00000000"}, true
}

// parseRoute6 reads a line of /proc/net/ipv6_route: destination, its length, source, its length,
// next hop, three counters, flags, interface.
func parseRoute6(f []string) (Route, bool) {
	if len(f) < 10 {
		return Route{}, false
	}
	b, err1 := hex.DecodeString(f[0])
	bits, err2 := strconv.ParseUint(f[1], 16, 8)
	a, ok := netip.AddrFromSlice(b)
	if err1 != nil || err2 != nil || !ok || !a.Is6() || bits > 128 {
		return Route{}, false
	}
	return Route{netip.PrefixFrom(a, int(bits)), f[9], strings.Trim(f[4], "0") != ""}, true
}

// Exists reports whether the host has an interface of that name. It asks the kernel and not /sys,
// which may have been mounted in another network namespace.
func Exists(name string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	return err == nil && unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r) == nil
}
