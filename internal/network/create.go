package network

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/hostnet"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Create makes a network, which outlasts a power cut once it is there.
func Create(d Dirs, r Request) (Network, error) {
	if r.Name == spec.DefaultNetwork {
		return Network{}, errs.Newf(errs.Exists, "create network", r.Name, "it is made when it is first needed").WithHint("choose another name")
	}
	n, err := create(d, r, d.pools(userPools))
	return n, errs.Wrap("create network", r.Name, err)
}

// Default returns the network of containers that name none, and makes it when it is first needed.
func Default(d Dirs) (Network, error) {
	n, err := load(d, spec.DefaultNetwork)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	n, err = create(d, defaultRequest(d), d.pools(defaultPools))
	if errs.Is(err, errs.Exists) { // somebody was faster
		return load(d, spec.DefaultNetwork)
	}
	return n, errs.Wrap("make network", spec.DefaultNetwork, err)
}

func defaultRequest(d Dirs) Request {
	return Request{Name: spec.DefaultNetwork, id: d.defaultID(), IPv6: hostnet.HasIPv6(), Options: map[string]string{dockerBridgeName: DefaultBridge(d)}}
}

// defaultID is the id of the default network: it is shown before that was made.
func (d Dirs) defaultID() string {
	sum := sha256.Sum256([]byte(spec.DefaultNetwork + "\x00" + d.Root + "\x00" + d.Run))
	return hex.EncodeToString(sum[:])
}

// DefaultBridge is the interface of the default network.
func DefaultBridge(d Dirs) string {
	if d.aside() {
		return "ct-" + strconv.FormatUint(uint64(d.sum()), 16)
	}
	return "corten0"
}

// aside reports whether these are other folders than the usual. Their containers share the host's
// network with those of the usual ones, and know nothing of them.
func (d Dirs) aside() bool { return d.Root != "/var/lib/corten" || d.Run != "/run/corten" }

func (d Dirs) pools(usual []pool) []pool {
	if d.aside() {
		return slices.Concat(asidePools, usual)
	}
	return usual
}

// sum is different for different folders, as a rule.
func (d Dirs) sum() uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(d.Root + "\x00" + d.Run))
	return h.Sum32()
}

// LikelyDefault is what Default would make now.
func LikelyDefault(d Dirs) (Network, error) {
	r := defaultRequest(d)
	n, err := r.network()
	if err == nil {
		err = complete(d, &n, r.IPv6, d.pools(defaultPools))
	}
	return n, err
}

// create makes a network; an IPv4 subnet is taken from pools if the request has none.
func create(d Dirs, r Request, pools []pool) (Network, error) {
	n, err := r.network()
	if err != nil {
		return Network{}, err
	}
	unlock, err := d.lockNetworks(disk.Exclusive)
	if err != nil {
		return Network{}, err
	}
	defer unlock()
	if _, err := load(d, n.Name); !errors.Is(err, fs.ErrNotExist) {
		return Network{}, errs.Newf(errs.Exists, "", "", "there is a network of that name").
			WithHint("choose another name, or corten network rm " + n.Name)
	}
	if err := complete(d, &n, r.IPv6, pools); err != nil {
		return Network{}, err
	}
	b, err := json.Marshal(n)
	if err != nil {
		return Network{}, err
	}
	return n, disk.Claim(d.file(n.Name), append(b, '\n'), 0o600, disk.Durable)
}

// complete sees to it that a network has its subnets, and that nothing else uses them.
func complete(d Dirs, n *Network, ipv6 bool, pools []pool) error {
	all, err := List(d)
	if err != nil {
		return err
	}
	host, err := hostnet.Routes()
	if err != nil {
		return err
	}
	for _, s := range n.Subnets {
		if err := n.clash(s.Subnet, all, host); err != nil {
			return err
		}
	}
	if n.Driver != wiring.Bridge {
		return n.check()
	}
	if !n.has(false) {
		from := uint32(0)
		if d.aside() {
			from = d.sum()
		}
		p, ok := choose(pools, from, all, host)
		if !ok {
			return errs.Newf(errs.NoSpace, "", "", "every private subnet overlaps with a route of the host or with another network").
				WithHint("say which to use: corten network create --subnet 10.9.8.0/24 " + n.Name)
		}
		n.Subnets = slices.Insert(n.Subnets, 0, Subnet{Subnet: p})
	}
	if ipv6 && !n.has(true) {
		n.Subnets = append(n.Subnets, Subnet{Subnet: chooseULA(all, host)})
	}
	for i := range n.Subnets {
		if s := &n.Subnets[i]; !s.Gateway.IsValid() {
			s.Gateway = s.Subnet.Addr().Next()
		}
	}
	return n.check()
}

// network is what the request says by itself.
func (r Request) network() (Network, error) {
	n := Network{Version: Version, Name: r.Name, ID: newID(), Created: time.Now().UTC(), Labels: maps.Clone(r.Labels), Driver: r.Driver, Internal: r.Internal}
	if r.id != "" {
		n.ID = r.id
	}
	if n.Driver == "" {
		n.Driver = wiring.Bridge
	}
	if !validName(n.Name) {
		return n, refuse("want letters, digits, '_', '.' and '-', the first a letter or digit, at most 128", "choose another name")
	}
	if slices.Contains([]string{"host", "none", "container", "default", "cni", "pasta", "slirp4netns"}, n.Name) {
		return n, refuse("--network "+n.Name+" means something else", "choose another name")
	}
	switch n.Driver {
	case wiring.Bridge, wiring.Macvlan, wiring.Ipvlan:
	default:
		return n, refuse("there is no driver "+string(n.Driver), "there are bridge, macvlan and ipvlan")
	}
	if (r.IPv6 || slices.ContainsFunc(r.Subnets, netipIs6)) && !hostnet.HasIPv6() {
		return n, errs.Newf(errs.Unsupported, "", "", "this kernel has no IPv6").WithHint("leave --ipv6 and IPv6 subnets out, or start the machine without ipv6.disable=1")
	}
	if err := n.setOptions(r.Options); err != nil {
		return n, err
	}
	if n.Driver == wiring.Bridge && n.Bridge == "" {
		n.Bridge = "ct-" + n.ID[:10]
	}
	err := r.subnets(&n)
	return n, err
}

func netipIs6(p netip.Prefix) bool { return p.Addr().Is6() }

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	return hex.EncodeToString(b[:])
}

// subnets puts subnets, gateways and ranges together.
func (r Request) subnets(n *Network) error {
	for _, p := range r.Subnets {
		if !p.IsValid() || p != p.Masked() {
			return refuse("the subnet "+p.String()+" has bits set beyond its length", "write "+p.Masked().String())
		}
		n.Subnets = append(n.Subnets, Subnet{Subnet: p})
	}
	slices.SortStableFunc(n.Subnets, func(a, b Subnet) int { return a.Subnet.Addr().BitLen() - b.Subnet.Addr().BitLen() })
	for _, g := range r.Gateways {
		s := n.around(g)
		if s == nil || s.Gateway.IsValid() {
			return refuse("no subnet for the gateway "+g.String(), "write the --subnet that it is in; each has one gateway")
		}
		s.Gateway = g
	}
	for _, p := range r.Ranges {
		s := n.around(p.Addr())
		if s == nil || s.Range.IsValid() {
			return refuse("no subnet for the range "+p.String(), "write the --subnet that it is in; each has one range")
		}
		s.Range = p.Masked()
	}
	if n.Driver == wiring.Bridge {
		return n.check()
	}
	if len(n.Subnets) == 0 {
		return refuse("it needs the subnet of its parent's network", "write it: --subnet 192.168.1.0/24 --gateway 192.168.1.1")
	}
	set, err := n.settings()
	if err != nil {
		return err
	}
	if !hostnet.Exists(set.parent) && !hostnet.Exists(set.link().Name) {
		return errs.Newf(errs.NotFound, "", "", "there is no interface "+set.parent).WithHint("ip link lists them")
	}
	for i := range n.Subnets { // as Docker: the first address is the router's, if there is one
		if s := &n.Subnets[i]; !s.Gateway.IsValid() && !n.Internal && !strings.HasPrefix(set.mode, "l3") {
			s.Gateway = s.Subnet.Addr().Next()
		}
	}
	return n.check()
}

// around is the subnet that an address is in.
func (n *Network) around(a netip.Addr) *Subnet {
	for i := range n.Subnets {
		if n.Subnets[i].Subnet.Contains(a) {
			return &n.Subnets[i]
		}
	}
	return nil
}

// has reports whether the network has a subnet of IPv6, or of IPv4.
func (n *Network) has(v6 bool) bool {
	return slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Subnet.Addr().Is6() == v6 })
}

// refuse is an error about what a user said.
func refuse(text, hint string) error { return errs.Newf(errs.Invalid, "", "", text).WithHint(hint) }
