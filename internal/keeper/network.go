package keeper

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/callers"
	"github.com/cortenhq/corten/internal/resolve"
	"github.com/cortenhq/corten/internal/wire/standing"
)

// network is what a keeper does for a container that is connected: it answers its questions for
// names, has the host's rules made again if somebody has removed them, and the published ports of [::1] answered.
type network struct {
	names    *resolve.Server // nil: there is none
	ready    bool            // it has something to do
	namesDue int64           // or has then; ns by the monotonic clock
	rounds   standing.Rounds
	restore  child // makes the rules
	callers  callers.Watch
}

// namesAgain is when to try again what did not succeed, in ns.
const namesAgain = 10 * second

// openNames opens the server of names, if there is to be one, with the sockets that were passed or
// with new ones in the container's network. The container may have taken the port meanwhile: then
// it is tried again.
func (k *keep) openNames() {
	r, n := k.orders.Resolver, &k.network
	if r.Port == 0 || k.proc.pidfd < 0 || resolve.Place(k.proc.pidfd, r.Port, udpFD, tcpFD) != nil {
		return
	}
	if s, err := resolve.New(k.resolveConfig(), udpFD, tcpFD); err == nil {
		n.names, n.ready = s, true
		_ = k.watch(s.FD(), tagNames, unix.EPOLLIN)
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
	if k.orders.Resolver.Port != 0 && (n.names != nil || k.ended == nil) {
		if n.ready || now >= n.namesDue {
			n.ready = false
			n.namesDue = k.answer(now)
		}
		next = n.namesDue
	}
	if k.orders.Net == "" || k.ended != nil {
		return next
	}
	poll, due := n.callers.Turn(now)
	_ = k.watch(poll, tagCallers, unix.EPOLLIN)
	if next = min(next, due); n.restore.pidfd >= 0 {
		return next
	}
	gone, due := n.rounds.Turn(now)
	if gone && n.restore.start(k.orders.Net, []string{"corten-net", "restore", k.orders.Root, k.orders.Run}) == nil {
		_ = k.watch(n.restore.pidfd, tagRestore, unix.EPOLLIN)
	}
	return min(next, due)
}

// answer answers what was asked, and returns when it wants to be called again.
func (k *keep) answer(now int64) (next int64) {
	if k.network.names == nil {
		k.openNames()
	}
	if k.network.names == nil {
		return now + namesAgain
	}
	return k.network.names.Turn(now)
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
