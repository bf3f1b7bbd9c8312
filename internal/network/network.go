// Package network keeps the networks that containers are on: what they are, who is on them with
// which address and name, and which ports of the host lead to whom.
//
// A network is a file, networks/NAME.json below the root folder, which outlives the machine. That a
// container is on it lasts as long as the container runs, and is below the run folder: a symbolic
// link for its address, one for each of its names, and a document (package wiring) which says all of
// it. They are claimed for a start (Claim), become true on the host by corten-net (Attendant), and go
// when that has disconnected the container (Forget). This package itself touches no interface and
// no rule.
//
// An address is claimed by making a link under its name: the kernel lets one of all those who try
// succeed. To take one away has two steps, a look at whose it is and the removal, so whoever does that
// has the lock on the folder of documents. LIFECYCLE.md says what is left when somebody is killed.
package network

import (
	"net/netip"
	"time"

	"github.com/cortenhq/corten/internal/wiring"
)

// Dirs are the two state folders.
type Dirs struct {
	Root string // networks/
	Run  string // net/; also active/, which says whose containers somebody looks after
}

// Version is the format of a network's file. A reader refuses a higher one.
const Version = 1

// Network is what networks/NAME.json says.
type Network struct {
	Version  int               `json:"version"`
	Name     string            `json:"name"`
	ID       string            `json:"id"` // 64 hexadecimal digits
	Created  time.Time         `json:"created"`
	Labels   map[string]string `json:"labels,omitempty"`
	Driver   wiring.Driver     `json:"driver"`
	Subnets  []Subnet          `json:"subnets,omitempty"` // at most one of each family
	Bridge   string            `json:"bridge,omitempty"`  // the interface on the host
	Internal bool              `json:"internal,omitempty"`
	Options  map[string]string `json:"options,omitempty"` // see Option
}

// Subnet is the addresses of one family.
type Subnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"` // of the way out; on a bridge the host's own address
	Range   netip.Prefix `json:"range,omitzero"`   // the part that addresses are taken from; zero: all
}

// Request is what a user says about a network to be made.
type Request struct {
	Name     string
	Driver   wiring.Driver  // "": bridge
	Subnets  []netip.Prefix // none: one that is free
	Gateways []netip.Addr   // each of one of the subnets
	Ranges   []netip.Prefix // likewise
	IPv6     bool           // also IPv6, with a subnet of our choice unless there is one
	Internal bool           // no way out
	Labels   map[string]string
	Options  map[string]string
}
