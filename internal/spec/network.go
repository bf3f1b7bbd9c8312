package spec

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Networking is how a container with a network of its own is connected, and what of it can be
// reached from outside.
type Networking struct {
	Attachments []Attachment `json:"attachments,omitempty"` // one for each interface, in their order
	Ports       []Port       `json:"ports,omitempty"`
	PublishAll  bool         `json:"publishAll,omitempty"` // each of Expose gets a port of the host that is free
	Expose      []Service    `json:"expose,omitempty"`     // the user's and, after Complete, the image's
	DNS         []string     `json:"dns,omitempty"`        // addresses; none: the host's
	DNSSearch   []string     `json:"dnsSearch,omitempty"`  // none: the host's; ".": no domains
	DNSOptions  []string     `json:"dnsOptions,omitempty"` // of resolv.conf(5)
	Hosts       []HostEntry  `json:"hosts,omitempty"`      // more lines of /etc/hosts
	Rate        Rate         `json:"rate,omitzero"`        // of each interface that says no other
	Devices     []NetDevice  `json:"netDevices,omitempty"` // interfaces of the host that the container gets
}

// NetDevice is an interface of the host that is moved into the container.
type NetDevice struct {
	Host string `json:"host"`           // its name there
	Name string `json:"name,omitempty"` // its name in the container; empty: the same, with %d at its end: with a number that is free
}

// Inside is its name in the container.
func (d NetDevice) Inside() string { return first(d.Name, d.Host) }

// Template reports whether the kernel finds a number for the name.
func (d NetDevice) Template() bool { return strings.HasSuffix(d.Name, "%d") }

// DefaultNetwork is the network of a container whose user names none.
const DefaultNetwork = "bridge"

// Attachment connects a container to a network, through an interface of its own.
type Attachment struct {
	Network   string     `json:"network"`             // its name
	Interface string     `json:"interface,omitempty"` // empty: eth0, eth1, ...
	IP4       netip.Addr `json:"ip4,omitzero"`        // zero: one that is free
	IP6       netip.Addr `json:"ip6,omitzero"`
	MAC       string     `json:"mac,omitempty"`     // empty: made from the address
	Aliases   []string   `json:"aliases,omitempty"` // more names on this network
	Rate      Rate       `json:"rate,omitzero"`
}

// Rate limits what passes an interface; zero: nothing does.
type Rate struct {
	In    uint64 `json:"in,omitempty"`    // to the container, bits per second
	Out   uint64 `json:"out,omitempty"`   // from the container, bits per second
	Burst uint64 `json:"burst,omitempty"` // bytes; 0: what passes in 20 ms, at least 64 KiB
}

// RateText writes bits per second as tc(8) reads them, in the largest unit that holds them whole.
func RateText(n uint64) string {
	for _, u := range [...]struct {
		bits uint64
		name string
	}{{1e9, "gbit"}, {1e6, "mbit"}, {1e3, "kbit"}} {
		if n != 0 && n%u.bits == 0 {
			return strconv.FormatUint(n/u.bits, 10) + u.name
		}
	}
	return strconv.FormatUint(n, 10) + "bit"
}

// Protocol is what ports are of.
type Protocol string

// Protocols with ports.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// Service is a port in the container.
type Service struct {
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
}

// String is "80/tcp".
func (s Service) String() string { return strconv.Itoa(int(s.Port)) + "/" + string(s.Protocol) }

// SortServices sorts a list by ports, and names each once.
func SortServices(list []Service) []Service {
	slices.SortFunc(list, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return slices.Compact(list)
}

// Port publishes a port of the container at one of the host.
type Port struct {
	Service
	HostIP   netip.Addr `json:"hostIP,omitzero"` // zero: every address of the host
	HostPort uint16     `json:"hostPort,omitempty"`
	HostEnd  uint16     `json:"hostEnd,omitempty"` // the last of a range of which one free port is taken; 0: HostPort is it. Both 0: any free port
}

// HostEntry is a line of /etc/hosts.
type HostEntry struct {
	Name string `json:"name"`
	IP   string `json:"ip"` // an address, or HostGateway
}

// HostGateway in place of an address is the host's, as the container reaches it.
const HostGateway = "host-gateway"

// Connected reports whether the container has a network namespace that networks are connected to.
func (c *Container) Connected() bool { return c.Namespaces.Net.Mode == Private }
