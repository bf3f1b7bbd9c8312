package network

import (
	"net/netip"

	"github.com/cortenhq/corten/internal/hostnet"
)

// Settle is what Change does once corten-net has done its part.
var Settle = settle

// Usual is the subnets that the default network and another one have in the usual folders.
func Usual(host []hostnet.Route) (def, user netip.Prefix) {
	def, _ = choose(defaultPools, 0, nil, host)
	user, _ = choose(userPools, 0, nil, host)
	return def, user
}
