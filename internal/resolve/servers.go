package resolve

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

const (
	maxServers = 4
	maxTries   = 3
	second     = int64(1e9)      // ns
	patience   = 2 * second      // with one server
	loss       = 7 * second / 10 // after which the only server is asked again, once: who asks us may wait no longer than patience
	grudge     = 30 * second     // for which one that did not answer is not asked first
	lookEvery  = second          // at the files, while there are questions
	dnsPort    = 53
)

// server is one to ask.
type server struct {
	family int
	at     unix.Sockaddr
}

// servers are those to ask for what is not ours.
type servers struct {
	list   []server
	given  bool // by the Config
	self   bool // 127.0.0.11 is ourselves
	paths  [2][]byte
	stamps [2]stamp
	due    int64 // when to look at the files
	first  int   // the one to ask first
	until  int64 // when that is the first of the list again
}

// newServers knows where the host says whom it asks. The second file is systemd's, with the servers
// behind its own at 127.0.0.53: they are asked if that one does not answer.
func newServers() servers {
	return servers{paths: [2][]byte{[]byte("/etc/resolv.conf\x00"), []byte("/run/systemd/resolve/resolv.conf\x00")}}
}

// order takes the servers that a Config names.
func (v *servers) order(c Config) {
	v.list, v.first, v.due = nil, 0, 0
	v.stamps = [2]stamp{}
	v.given = len(c.Upstream) > 0
	for _, text := range c.Upstream {
		v.add([]byte(text))
	}
}

// add adds a server whose address can be read.
func (v *servers) add(text []byte) {
	if len(v.list) == maxServers {
		return
	}
	text, zone, _ := bytes.Cut(text, []byte{'%'})
	if a, ok := parse4(text); ok {
		if a != address || !v.self {
			v.list = append(v.list, server{unix.AF_INET, &unix.SockaddrInet4{Port: dnsPort, Addr: a}})
		}
	} else if a, ok := parse6(text); ok {
		v.list = append(v.list, server{unix.AF_INET6, &unix.SockaddrInet6{Port: dnsPort, Addr: a, ZoneId: zoneOf(string(zone))}})
	}
}

// zoneOf is the number of an interface; 0: there is none.
func zoneOf(name string) uint32 {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request) != nil {
		return 0
	}
	return request.Uint32()
}

// stamp tells whether a file is another one than it was.
type stamp struct {
	inode     uint64
	size      int64
	sec, nsec int64
}

// look reads the host's files if they have changed. scratch is memory to do that in.
func (v *servers) look(now int64, scratch []byte) {
	if v.given || now < v.due {
		return
	}
	v.due = now + lookEvery
	stamps := [2]stamp{stampOf(v.paths[0]), stampOf(v.paths[1])}
	if stamps == v.stamps {
		return
	}
	v.list, v.first, v.stamps = nil, 0, stamps
	if others := v.read(v.paths[0], scratch); !others && len(v.list) > 0 {
		v.read(v.paths[1], scratch)
	}
}

func stampOf(path []byte) stamp {
	fd, err := kernel.OpenPath(path, unix.O_PATH)
	if err != nil {
		return stamp{}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return stamp{}
	}
	return stamp{st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec}
}

// read adds the servers of a file as resolv.conf(5) describes it, and reports whether there are
// others than systemd's own.
func (v *servers) read(path, scratch []byte) (others bool) {
	fd, err := kernel.OpenPath(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, scratch)
	if err != nil {
		return false
	}
	for line := range bytes.Lines(scratch[:n]) {
		if words := bytes.Fields(line); len(words) > 1 && string(words[0]) == "nameserver" {
			v.add(words[1])
			others = others || string(words[1]) != "127.0.0.53"
		}
	}
	return others
}

// pick is the server to ask next, for a question that was asked in tries, last of the given one.
func (v *servers) pick(now int64, tries, last int) int {
	if tries > 0 {
		return (last + 1) % len(v.list)
	}
	if now >= v.until {
		v.first = 0
	}
	return v.first % len(v.list)
}

// blame has a server that did not answer not asked first for a while.
func (v *servers) blame(now int64, n int) {
	if len(v.list) > 1 && n == v.first {
		v.first, v.until = (n+1)%len(v.list), now+grudge
	}
}

// tries is how often a question may be asked.
func (v *servers) tries() int {
	if len(v.list) == 0 {
		return 0
	}
	return maxTries
}

// others reports whether a question that was asked in tries has servers left that it was not asked of.
func (v *servers) others(tries int) bool { return tries < min(len(v.list), maxTries) }

// ourselves reports whether 127.0.0.11 would be the server with this socket: if that is in the
// network of this thread (SO_NETNS_COOKIE, Linux 5.14).
func ourselves(udp int) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	here, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return true
	}
	there, err := unix.GetsockoptUint64(udp, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return err != nil || here == there
}
