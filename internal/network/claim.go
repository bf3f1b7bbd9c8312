package network

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/hostnet"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Names is who answers a container's questions for names.
type Names struct {
	Wanted   bool     // a resolver of the container's own, at wiring.ResolverIP
	Upstream []string // the addresses of servers that it asks; none: the host's
}

// Claim decides how a container is connected for a start, claims what that takes and writes it down.
// The caller has the container's lock; ports are those that Hold got. After an error nothing is
// claimed.
func Claim(d Dirs, c *spec.Container, ports []spec.Port, n Names) (*wiring.Document, error) {
	if slices.ContainsFunc(c.Networking.Attachments, onDefault) && !there(d.file(spec.DefaultNetwork)) {
		if _, err := Default(d); err != nil { // it takes the lock that we share below
			return nil, err
		}
	}
	unlock, err := d.lockNetworks(disk.Shared) // no network goes until we are on it
	if err != nil {
		return nil, errs.Wrap("connect container", c.Name, err)
	}
	defer unlock()
	if there(d.doc(c.ID)) {
		return nil, errs.Wrap("connect container", c.Name, connected())
	}
	b := newBuilder(d, c)
	err = b.build(ports, n)
	if err == nil {
		err = b.publish()
	}
	if err != nil {
		b.giveBack()
		return nil, errs.Wrap("connect container", c.Name, err)
	}
	return b.doc, nil
}

// Likely is the document that Claim would write now. Nothing is touched: the addresses may be
// others then, and ports that have yet to be found are 0.
func Likely(d Dirs, c *spec.Container, ports []spec.Port, n Names) (*wiring.Document, error) {
	b := newBuilder(d, c)
	b.dry = true
	return b.doc, errs.Wrap("connect container", c.Name, b.build(ports, n))
}

func onDefault(a spec.Attachment) bool { return a.Network == spec.DefaultNetwork }

// builder makes a document.
type builder struct {
	claims
	c    *spec.Container
	doc  *wiring.Document
	nets []Network // of each link
}

func newBuilder(d Dirs, c *spec.Container) *builder {
	return &builder{
		claims: claims{dirs: d, id: c.ID, name: c.Name}, c: c,
		doc: &wiring.Document{Version: wiring.Version, Start: random(16), ID: c.ID, Name: c.Name},
	}
}

func (b *builder) build(ports []spec.Port, n Names) error {
	if err := cni.Mixed(b.c.Networking.Attachments); err != nil {
		return err
	}
	for _, a := range b.c.Networking.Attachments {
		if err := b.attach(a); err != nil {
			return errs.Wrap("connect to network", a.Network, err)
		}
	}
	routes(b.doc.Links, b.nets)
	var err error
	if b.doc.Plugged() {
		err = b.leadPlugged(ports)
	} else {
		b.doc.Ports, err = b.forwards(ports)
	}
	if err != nil {
		return err
	}
	b.doc.Resolver, err = b.resolver(n)
	return err
}

// attach adds a link.
func (b *builder) attach(a spec.Attachment) error {
	if slices.ContainsFunc(b.doc.Links, func(l wiring.Link) bool { return l.Network == a.Network }) {
		return refuse("the container is on it already", "it has one interface on each network")
	}
	if cni.Is(a.Network) {
		return b.plug(a)
	}
	n, err := b.network(a.Network)
	if err != nil {
		return err
	}
	set, err := n.settings()
	if err != nil {
		return err
	}
	l := wiring.Link{Network: n.Name, Driver: n.Driver, MTU: set.mtu, Rate: rateOf(b.c, a)}
	if l.Interface, err = b.interfaceName(a); err != nil {
		return err
	}
	if err := b.addresses(&l, n, a); err != nil {
		return err
	}
	if err := b.hardware(&l, n, a); err != nil {
		return err
	}
	if l.Names, err = b.namesOn(n, a); err != nil {
		return err
	}
	if n.Driver == wiring.Bridge {
		l.HostSide, l.VLAN, l.Switch = wiring.PairPrefix(b.dirs.Run)+random(8), set.vlan, n.bridge(set)
	} else {
		p := set.link()
		l.Parent = &p
	}
	b.doc.Links, b.nets = append(b.doc.Links, l), append(b.nets, n)
	return nil
}

// network finds one by its name; the default one may still have to be made.
func (b *builder) network(name string) (Network, error) {
	if !validName(name) {
		return Network{}, noNetwork(name)
	}
	n, err := load(b.dirs, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	if b.dry && name == spec.DefaultNetwork {
		return LikelyDefault(b.dirs)
	}
	return n, noNetwork(name)
}

// bridge is the switch of a network, which all of its links say the same of.
func (n *Network) bridge(set settings) *wiring.Switch {
	s := &wiring.Switch{Name: n.Bridge, Internal: n.Internal, Isolate: set.isolate, VLANs: set.vlan != 0, Respect: set.respect}
	for _, f := range n.families() {
		if f.Gateway.IsValid() {
			s.Addresses = append(s.Addresses, netip.PrefixFrom(f.Gateway, f.Subnet.Bits()))
		}
	}
	return s
}

func rateOf(c *spec.Container, a spec.Attachment) spec.Rate {
	if a.Rate != (spec.Rate{}) {
		return a.Rate
	}
	return c.Networking.Rate
}

// interfaceName is the one that the user wants, or the first ethN that no other has or wants.
func (b *builder) interfaceName(a spec.Attachment) (string, error) {
	name := a.Interface
	has := func(name string) bool {
		return slices.ContainsFunc(b.doc.Links, func(l wiring.Link) bool { return l.Interface == name })
	}
	if name == "" {
		for i := 0; name == "" || has(name) || b.wanted(name); i++ {
			name = "eth" + strconv.Itoa(i)
		}
		return name, nil
	}
	if !validInterface(name) || name == "lo" {
		return "", refuse(strconv.Quote(name)+" cannot be the name of an interface", "want at most 15 letters and digits, and not lo")
	}
	if has(name) {
		return "", refuse("two interfaces are to be named "+name, "give each another name")
	}
	return name, nil
}

func (b *builder) wanted(name string) bool {
	return slices.ContainsFunc(b.c.Networking.Attachments, func(a spec.Attachment) bool { return a.Interface == name })
}

func (b *builder) addresses(l *wiring.Link, n Network, a spec.Attachment) error {
	if a.IP4.IsValid() && !n.has(false) {
		return refuse("it has no IPv4", "leave "+a.IP4.String()+" out")
	}
	if a.IP6.IsValid() && (!n.has(true) || !hostnet.HasIPv6()) {
		return refuse("it has no IPv6", "leave "+a.IP6.String()+" out, or make a network with --ipv6")
	}
	for _, s := range n.families() {
		want := a.IP4
		if s.Subnet.Addr().Is6() {
			want = a.IP6
		}
		addr, err := b.address(n.Name, s, want)
		if err != nil {
			return err
		}
		l.Addresses = append(l.Addresses, netip.PrefixFrom(addr, s.Subnet.Bits()))
	}
	return nil
}

// hardware gives a link its hardware address: the one that the user wants, or one made from its
// first address.
func (b *builder) hardware(l *wiring.Link, n Network, a spec.Attachment) error {
	switch {
	case n.Driver == wiring.Ipvlan && a.MAC != "":
		return refuse("an ipvlan interface has its parent's hardware address", "leave "+a.MAC+" out, or use a macvlan network")
	case n.Driver == wiring.Ipvlan:
		return nil
	case a.MAC == "" && len(l.Addresses) > 0:
		l.MAC = wiring.HardwareOf(l.Addresses[0].Addr())
		return nil
	case a.MAC == "":
		return nil // the kernel makes one up
	}
	mac, ok := wiring.ParseHardware(a.MAC)
	if !ok {
		return refuse(strconv.Quote(a.MAC)+" is not the hardware address of one machine", "want six bytes, the first one even: 02:42:0a:85:00:02")
	}
	others, err := Members(b.dirs, n.Name)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(others, func(m Member) bool { return m.MAC == mac && m.ID != b.id }); i >= 0 {
		return errs.Newf(errs.Busy, "", "", mac+" is the container "+others[i].Name+"'s").WithHint("choose another, or leave it to Corten")
	}
	l.MAC = mac
	return nil
}

// namesOn is the names by which others on a network find the container, as Docker has them: its name, its
// aliases, the short id and the host name. On the default network there are none.
func (b *builder) namesOn(n Network, a spec.Attachment) ([]string, error) {
	if n.Name == spec.DefaultNetwork {
		if len(a.Aliases) > 0 {
			return nil, refuse("there are no names on it, and so no aliases", "make a network: corten network create NAME")
		}
		return nil, nil
	}
	var out []string
	for i, name := range slices.Concat(a.Aliases, []string{b.c.Name, b.c.ID.Short(), b.c.Namespaces.Hostname}) {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if validHost(name) {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		} else if i < len(a.Aliases) {
			return nil, refuse(strconv.Quote(a.Aliases[i])+" cannot be a name in the network", "want letters, digits, '-', '_' and '.', at most 253")
		}
	}
	return out, nil
}

// validHost reports whether a name can be asked for (RFC 1035, section 2.3.4, and the underscore
// that containers' names may have). It becomes the name of a folder.
func validHost(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}

// firstPort is where the resolver's port may be, above those that the kernel gives to programs
// (ip_local_port_range).
const firstPort = 61000

func (b *builder) resolver(n Names) (*wiring.Resolver, error) {
	if !n.Wanted {
		return nil, nil
	}
	var port [2]byte
	_, _ = rand.Read(port[:]) // never fails, crypto/rand
	r := &wiring.Resolver{Port: firstPort + binary.NativeEndian.Uint16(port[:])%4096}
	for _, text := range n.Upstream {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, refuse("the server of names "+strconv.Quote(text)+" is no address", "want one such as 192.0.2.53 or 2001:db8::53")
		}
		r.Upstream = append(r.Upstream, a)
	}
	know(r, b.nets)
	return r, nil
}

// publish writes the document, and then the names: whoever finds one is told of an address that
// somebody will disconnect.
func (b *builder) publish() error {
	if err := writeNew(b.dirs, b.doc); err != nil {
		return err
	}
	b.made = append(b.made, b.dirs.doc(b.id))
	for _, l := range b.doc.Links {
		if err := b.publishNames(l); err != nil {
			return err
		}
	}
	return nil
}

// publishNames makes the links by which a link's names lead to its addresses.
func (b *builder) publishNames(l wiring.Link) error {
	var text []string
	for _, a := range l.Addresses {
		text = append(text, a.Addr().String())
	}
	if len(text) == 0 {
		return nil
	}
	for _, name := range l.Names {
		path := filepath.Join(b.dirs.names(l.Network), name, string(b.id))
		err := b.link(strings.Join(text, " "), path)
		if errors.Is(err, fs.ErrExist) { // of a start of ours that somebody undid by halves
			_ = unix.Unlink(path)
			err = b.link(strings.Join(text, " "), path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
