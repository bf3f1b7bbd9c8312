package keeper

import (
	"slices"

	"golang.org/x/sys/unix"

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
	every    int64           // between two looks, ns
}

const (
	// lookEvery is how long rules may be gone, in ns, more or less: keepers that were started at
	// once do not look at once.
	lookEvery = 10 * second
	// lookSeldom is between two looks when making the rules has not helped.
	lookSeldom = 320 * second
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
		n.lookDue = now + max(n.every, lookEvery)*3/4 + n.jitter()
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
	if there, err := standing.Look(); there || err != nil {
		n.every = lookEvery
		return
	}
	n.every = min(max(n.every, lookEvery/2)*2, lookSeldom)
	if n.restore.start(k.orders.Net, []string{"corten-net", "restore", k.orders.Root, k.orders.Run}) == nil {
		_ = k.watch(n.restore.pidfd, tagRestore, unix.EPOLLIN)
	}
}

// jitter is up to half of the time between two looks.
func (n *network) jitter() int64 {
	var dice [1]byte
	_, _ = unix.Getrandom(dice[:], 0)
	return max(n.every, lookEvery) / 512 * int64(dice[0])
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
