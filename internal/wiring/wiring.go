// Package wiring is how one container is connected, when all of it is decided: interfaces,
// addresses, routes, published ports, who answers its questions for names.
//
// A Document is made for a start by package network, which claims its addresses, and stays in
// RUN/net/wired/ID as long as the container is connected. corten-net makes it true, and with all
// the documents that are there it makes the host's rules anew whenever somebody has removed them.
// It says everything: who has it asks nobody.
package wiring

import (
	"encoding/json"
	"net/netip"

	"github.com/cortenhq/corten/internal/spec"
)

// Version is the format of a document. A reader refuses a higher one.
const Version = 1

// Document is how a container is connected.
type Document struct {
	Version  int              `json:"version"`
	Start    string           `json:"start"` // another one for each start: who tended an earlier one leaves this one alone
	ID       spec.ContainerID `json:"id"`
	Name     string           `json:"name"`
	Links    []Link           `json:"links"`
	Ports    []Forward        `json:"ports,omitempty"`
	Resolver *Resolver        `json:"resolver,omitempty"` // nil: it asks the host's servers itself
}

// Driver is how a network is made.
type Driver string

// The drivers.
const (
	Bridge  Driver = "bridge"  // a switch on this host, and routes and translation to the world
	Macvlan Driver = "macvlan" // an address of its own in the network of one of the host's interfaces
	Ipvlan  Driver = "ipvlan"  // the same, with that interface's hardware address
	CNI     Driver = "cni"     // plugins of the Container Network Interface
)

// Link is one interface of the container.
type Link struct {
	Network   string         `json:"network"`
	Driver    Driver         `json:"driver"`
	Interface string         `json:"interface"`          // in the container: eth0
	HostSide  string         `json:"hostSide,omitempty"` // Bridge: the other end of the pair, on the host; new for each start
	MAC       string         `json:"mac,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"` // with the length of their subnet
	Gateways  []netip.Addr   `json:"gateways,omitempty"`  // the default routes by this link; at most one of each family. 0.0.0.0 or ::: by the link itself, to no gateway
	Names     []string       `json:"names,omitempty"`     // by which others on the network find it
	MTU       int            `json:"mtu,omitempty"`       // 0: the kernel's, or the parent's
	Switch    *Switch        `json:"switch,omitempty"`    // Bridge
	Parent    *Parent        `json:"parent,omitempty"`    // Macvlan, Ipvlan
	VLAN      int            `json:"vlan,omitempty"`      // Bridge: the VLAN of its port; 0: none
	Plugins   *Plugins       `json:"plugins,omitempty"`   // CNI. Addresses, gateways and MAC are what they answer: before, there are none
	Rate      spec.Rate      `json:"rate,omitzero"`
}

// PairPrefix begins the names of all pairs of a run folder's containers, on the host: 5 characters, which with
// 8 more are unlike any that somebody would choose. So a pair is known as ours, and whose it is no more when no document names it.
func PairPrefix(run string) string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	n := sum(run)
	return "ct" + string([]byte{letters[n&31], letters[n>>5&31], letters[n>>10&31]})
}

// Switch is the bridge of a network. All links of a network say the same of it.
type Switch struct {
	Name      string         `json:"name"`      // the interface on the host
	Addresses []netip.Prefix `json:"addresses"` // the gateways', with the length of their subnet
	Internal  bool           `json:"internal,omitempty"`
	Isolate   bool           `json:"isolate,omitempty"` // its containers do not reach each other either
	VLANs     bool           `json:"vlans,omitempty"`   // ports have VLANs
	Respect   bool           `json:"respect,omitempty"` // published ports obey the host's own rules for input
}

// Parent is the interface of the host that a macvlan or ipvlan link is put on.
type Parent struct {
	Name string `json:"name"`
	VLAN int    `json:"vlan,omitempty"` // of an interface made over Name for it; 0: Name itself
	Mode string `json:"mode,omitempty"` // bridge, private, vepa, passthru; l2, l3, l3s
}

// Plugins are programs that make a link, and what they are told. Nothing of it is looked up again: who
// changes or removes the configuration does not keep a container from being taken off its network.
type Plugins struct {
	Config json.RawMessage `json:"config"`        // a list of configurations (CNI specification, section 1)
	File   string          `json:"file"`          // where it was
	Types  []string        `json:"types"`         // the plugins, in the order in which they are executed
	Path   []string        `json:"path"`          // the folders with their programs
	IPs    []netip.Addr    `json:"ips,omitempty"` // the addresses that the user wants
	MAC    string          `json:"mac,omitempty"` // likewise
}

// Plugged reports whether plugins connect the container. Then Corten makes no interface and no rule for
// it.
func (d *Document) Plugged() bool { return len(d.Links) > 0 && d.Links[0].Plugins != nil }

// Forward leads a port of the host to the container.
type Forward struct {
	spec.Service
	HostIP   netip.Addr `json:"hostIP"` // 0.0.0.0 and :: are every address of their family
	HostPort uint16     `json:"hostPort"`
	To       netip.Addr `json:"to"` // of the same family
	Respect  bool       `json:"respect,omitempty"`
}

// Resolver is the server of names at ResolverIP in the container.
type Resolver struct {
	Port     uint16       `json:"port"`     // at which it listens, behind port 53
	Networks []string     `json:"networks"` // whose names it knows
	Upstream []netip.Addr `json:"upstream,omitempty"`
	Alone    bool         `json:"alone,omitempty"` // nothing is asked upstream: all networks are internal
}

// ResolverIP is the address at which a container finds its server of names.
const ResolverIP = "127.0.0.11"
