package keeper

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/resolve"
	"github.com/cortenhq/corten/internal/wire/standing"
)

// network is what a keeper does for a container that is connected: it answers its questions for
// names, and has the host's rules made again if somebody has removed them.
type network struct {
	names    *resolve.Server // nil: there is none
	ready    bool            // it has something to do
	namesDue int64           // or has then; ns by the monotonic clock
	busyTill int64           // how long the keeper waits for it with executing itself anew; 0: it does not
	restore  child           // makes the rules
	lookDue  int64           // when to look for them
	fails    int             // how often they were made, and were gone at the next look
	wired    []byte          // the folder of documents, with a 0 after it
}

const (
	// lookEvery is between two looks of a keeper for the host's rules, in ns, and at most lookMost.
	// Any keeper has them made again for all: where more containers are connected each looks as much
	// seldomer, so that together they look once in lookShare.
	lookEvery = 10 * second
	lookMost  = 120 * second
	lookShare = 1 * second
	// namesPatience is how long questions may keep a keeper from executing itself anew, in ns.
	namesPatience = 5 * second
)

// openNames opens the server of names, if there is to be one, with the sockets that were passed or
// with new ones in the container's network. The container may have taken the port meanwhile: then
// it is tried again at each look.
func (k *keep) openNames() {
	r := k.orders.Resolver
	if r.Port == 0 || k.proc.pidfd < 0 {
		return
	}
	if !resolve.Listening(udpFD, tcpFD, r.Port) {
		udp, tcp, err := resolve.ListenIn(k.proc.pidfd, r.Port)
		if err != nil {
			hold(udpFD, tcpFD)
			return
		}
		settle(udp, udpFD)
		settle(tcp, tcpFD)
	}
	_ = unix.SetNonblock(udpFD, true)
	_ = unix.SetNonblock(tcpFD, true)
	s, err := resolve.New(k.resolveConfig(), udpFD, tcpFD)
	if err != nil {
		return
	}
	k.network.names, k.network.ready = s, true
	_ = k.watch(s.FD(), tagNames, unix.EPOLLIN)
}

// hold keeps the numbers of descriptors that may still come from being given to others.
func hold(numbers ...int) {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for _, n := range numbers {
		if n != fd {
			_ = unix.Dup3(fd, n, unix.O_CLOEXEC)
		}
	}
	if !slices.Contains(numbers, fd) {
		unix.Close(fd)
	}
}

func (k *keep) resolveConfig() resolve.Config {
	r := k.orders.Resolver
	return resolve.Config{Folder: k.orders.Run + "/net", Networks: r.Networks, Upstream: r.Upstream, Alone: r.Alone}
}

// connect does what there is to do for the network, and returns when it wants to be called again.
func (k *keep) connect(now int64) (next int64) {
	n := &k.network
	next = never
	if n.names != nil {
		if n.ready || now >= n.namesDue {
			n.ready = false
			n.namesDue = n.names.Turn(now)
		}
		next = n.namesDue
	}
	if k.ended != nil || n.restore.pidfd >= 0 || k.orders.Net == "" && (n.names != nil || k.orders.Resolver.Port == 0) {
		return next
	}
	if now >= n.lookDue {
		if n.lookDue != 0 { // else the keeper has only begun
			k.look()
		}
		n.lookDue = now + n.pause()
	}
	return min(next, n.lookDue)
}

// look looks whether all is as it should be.
func (k *keep) look() {
	n := &k.network
	if n.names == nil {
		k.openNames()
	}
	if k.orders.Net == "" {
		return
	}
	if there, err := standing.Look(k.orders.Run); there || err != nil {
		n.fails = 0
		return
	}
	n.fails++
	if n.restore.start(k.orders.Net, []string{"corten-net", "restore", k.orders.Root, k.orders.Run}) == nil {
		_ = k.watch(n.restore.pidfd, tagRestore, unix.EPOLLIN)
	}
}

// pause is how long to wait until the next look: not the same for keepers that were started at
// once, and longer when making the rules has not helped.
func (n *network) pause() int64 {
	every := min(max(lookEvery, lookShare*int64(n.count()))<<min(n.fails/2, 8), lookMost)
	var dice [1]byte
	_, _ = unix.Getrandom(dice[:], 0)
	return every*3/4 + every/512*int64(dice[0])
}

// count is about how many containers are connected, as far as that matters.
func (n *network) count() (count int) {
	dir, err := kernel.OpenPath(n.wired, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return 0
	}
	defer unix.Close(dir)
	var b [2048]byte
	for count < int(lookMost/lookShare) {
		m, err := unix.ReadDirent(dir, b[:])
		if err != nil || m <= 0 {
			break
		}
		for e := b[:m]; len(e) > 18; count++ {
			e = e[binary.NativeEndian.Uint16(e[16:]):] // d_reclen, getdents64(2)
		}
	}
	return count
}

// busy reports whether to wait for questions that were passed on. Who asks more and more does not
// keep the keeper what it is.
func (n *network) busy(now int64) bool {
	if n.names == nil || !n.names.Busy() {
		n.busyTill = 0
		return false
	}
	if n.busyTill == 0 {
		n.busyTill = now + namesPatience
	}
	return now < n.busyTill
}

// reconnect follows orders that have changed. The sockets stay what they were at the start.
func (k *keep) reconnect(old Orders) {
	k.orders.Resolver.Port = old.Resolver.Port
	a, b := old.Resolver, k.orders.Resolver
	if a.Alone == b.Alone && slices.Equal(a.Networks, b.Networks) && slices.Equal(a.Upstream, b.Upstream) {
		return
	}
	if k.network.names != nil {
		k.network.names.Order(k.resolveConfig())
	}
}
