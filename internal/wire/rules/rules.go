// Package rules says in nftables how the host treats what containers send and get.
//
// Content is made of all documents by a pure function and prints as nft(8) would list it. It is two
// tables, of the families inet and bridge (and two more for published ports that respect the host's rules), in which nearly all is fixed: what differs from
// container to container are elements of sets and maps. So the tables appear whole, with the first
// container; another one adds its elements to them and takes them away again, each in a
// transaction of a few messages; and the tables go with the last. Nothing else on the host is
// touched, and a look at the documents makes the same tables again when somebody has flushed them.
//
// That the interface of arrival is known in postrouting needs Linux 5.7. It is not known of what a
// bridge passes on by itself, which these tables see too where br_netfilter is loaded.
package rules

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Facts are what the rules depend on besides the documents.
type Facts struct {
	Name  string // of the tables: standing.Table
	Pairs string // how the names of our pairs begin: wiring.PairPrefix
	IPv6  bool   // the kernel has it

	// Interfaces that were there when we, for the containers, made the host forward packets of one
	// family or both. What goes from one of them to another is dropped: the host is no router because of us.
	Quiet          []string
	Quiet4, Quiet6 bool

	Loop  wiring.Loop // by which published ports respect the host's rules
	Index int         // of its interface Out
	// Respect has the tables for that though no document asks for them.
	Respect bool
}

// Element is a key of a set, or a key and what it is mapped to.
type Element struct {
	Key, Value []byte
	words      string
}

// Set is a set, or a map if it has a To.
type Set struct {
	Name     string
	Of, To   []kind
	Like     []field // what Of is of, if its names do not say how long they are
	Elements []Element
}

// Chain is a list of rules; one without a Hook is for others to jump to.
type Chain struct {
	Name     string
	Hook     string // prerouting, input, forward, output, postrouting
	Type     string // filter, nat
	Priority int32
	Rules    []Rule
}

// Table is sets and chains of a family.
type Table struct {
	Family string // inet, bridge, ip, ip6
	Name   string
	Sets   []Set
	Chains []Chain
}

// Content is the tables.
type Content []Table

// Of is what the host should have for these documents. What a later one says of a port or
// an address goes before what an earlier one said: that one's container is gone if a later one could
// take it.
func Of(documents []*wiring.Document, facts Facts) Content {
	c := Content{inet(facts), bridge(facts)}
	if facts.Respect || wiring.Respects(documents) {
		for _, f := range respectFamilies(facts) {
			c = append(c, respect(f, facts))
		}
	}
	for _, name := range facts.Quiet {
		c.put("quiet", Element{Key: name16(name), words: quoted(name)})
	}
	for _, d := range documents {
		c.document(d)
	}
	return c
}

// put adds an element to the set of that name, or replaces what has its key. A set that
// is not there is of a family that the kernel does not have.
func (c Content) put(set string, e Element) {
	for t := range c {
		for s := range c[t].Sets {
			if x := &c[t].Sets[s]; x.Name == set {
				x.add(e)
			}
		}
	}
}

// add keeps the elements in the order of their keys.
func (s *Set) add(e Element) {
	i, there := slices.BinarySearchFunc(s.Elements, e, func(a, b Element) int { return bytes.Compare(a.Key, b.Key) })
	if there {
		s.Elements[i] = e
		return
	}
	s.Elements = slices.Insert(s.Elements, i, e)
}

func (c Content) document(d *wiring.Document) {
	for _, l := range d.Links {
		if l.Driver == wiring.Bridge && l.Switch != nil {
			c.bridge(l.Switch)
			c.link(&l)
		}
	}
	for _, f := range d.Ports {
		c.forward(f)
	}
}

// bridge puts in what is so as long as the bridge has containers.
func (c Content) bridge(s *wiring.Switch) {
	name := name16(s.Name)
	one := Element{Key: name, words: quoted(s.Name)}
	c.put("bridges", one)
	c.put("same", Element{Key: slices.Concat(name, name), words: quoted(s.Name) + " . " + quoted(s.Name)})
	if s.Internal {
		c.put("internal", one)
	}
	if s.Isolate {
		c.put("isolated", one)
	}
}

// link puts in who may send what from the host's end of a pair.
func (c Content) link(l *wiring.Link) {
	name, mac := name16(l.HostSide), l.MAC
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return // nothing may be sent: who makes the interface reports it
	}
	c.put("ports", Element{Key: name, words: quoted(l.HostSide)})
	bind := func(a netip.Addr) {
		set := "from4"
		if a.Is6() {
			set = "from6"
		}
		c.put(set, Element{
			Key:   slices.Concat(name, padded(hw), a.AsSlice()),
			words: quoted(l.HostSide) + " . " + hw.String() + " . " + a.String(),
		})
	}
	own := func(a netip.Addr) {
		if a.Is6() {
			b := a.AsSlice()
			first, rest := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
			c.put("targets", Element{Key: slices.Concat(name, b), words: quoted(l.HostSide) + " . " + hexadecimal(first) + " . " + hexadecimal(rest)})
		}
		bind(a)
	}
	for _, a := range l.Addresses {
		set := "home4"
		if a.Addr().Is6() {
			set = "home6"
		}
		c.put(set, Element{Key: slices.Concat(name16(l.Switch.Name), a.Addr().AsSlice()), words: quoted(l.Switch.Name) + " . " + a.Addr().String()})
	}
	// The unspecified addresses are those of who asks whether an address is taken.
	bind(netip.IPv4Unspecified())
	bind(netip.IPv6Unspecified())
	own(linkLocal(hw))
	for _, a := range l.Addresses {
		own(a.Addr())
	}
}

// linkLocal is the address that an interface gives itself (RFC 4291, appendix A).
func linkLocal(hw net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: hw[0] ^ 2, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]})
}

// forward puts in a published port.
func (c Content) forward(f wiring.Forward) {
	to, at := f.To.Unmap(), f.HostIP.Unmap()
	family := "4"
	if to.Is6() {
		family = "6"
	}
	e := Element{
		Key:   slices.Concat(padded([]byte{protocol(f.Protocol)}), port(f.HostPort)),
		Value: slices.Concat(to.AsSlice(), port(f.Port)),
		words: string(f.Protocol) + " . " + decimal(f.HostPort),
	}
	set, ask := "any"+family, "ask"+family
	if !at.IsUnspecified() {
		set, ask = "one"+family, "askOne"+family
		e.Key, e.words = slices.Concat(at.AsSlice(), e.Key), at.String()+" . "+e.words
	}
	if f.Respect {
		c.put(ask, Element{Key: e.Key, words: e.words})
		set += "asked"
	}
	e.words += " : " + to.String() + " . " + decimal(f.Port)
	c.put(set, e)
}

func protocol(p spec.Protocol) byte {
	switch p {
	case spec.UDP:
		return 17
	case spec.SCTP:
		return 132
	}
	return 6
}

// Elements are kept as the kernel has them in its registers: each part fills words of 32 bits.
func padded(b []byte) []byte {
	return append(slices.Clip(b), make([]byte, -len(b)&3)...)
}

func port(n uint16) []byte { return padded(binary.BigEndian.AppendUint16(nil, n)) }

func name16(s string) []byte { return append([]byte(s), make([]byte, max(0, 16-len(s)))...) }

func quoted(s string) string { return `"` + s + `"` }

func hexadecimal(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }

func decimal(n uint16) string { return strconv.Itoa(int(n)) }

// String is what nft(8) reads.
func (c Content) String() string {
	var b strings.Builder
	for _, t := range c {
		b.WriteString("table " + t.Family + " " + t.Name + " {\n")
		for _, s := range t.Sets {
			s.print(&b)
		}
		for _, ch := range t.Chains {
			b.WriteString("\tchain " + ch.Name + " {\n")
			if ch.Hook != "" {
				b.WriteString("\t\ttype " + ch.Type + " hook " + ch.Hook + " priority " + strconv.Itoa(int(ch.Priority)) + "; policy accept;\n")
			}
			for _, r := range ch.Rules {
				b.WriteString("\t\t" + r.String() + "\n")
			}
			b.WriteString("\t}\n")
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func (s Set) print(b *strings.Builder) {
	what := "set"
	if s.To != nil {
		what = "map"
	}
	b.WriteString("\t" + what + " " + s.Name + " {\n\t\t")
	if s.Like != nil {
		words, _ := load(s.Like)
		b.WriteString("typeof " + words)
	} else {
		b.WriteString("type " + kinds(s.Of))
	}
	if s.To != nil {
		b.WriteString(" : " + kinds(s.To))
	}
	b.WriteString("\n")
	var words []string
	for _, e := range s.Elements {
		words = append(words, e.words)
	}
	slices.SortFunc(words, cmp.Compare)
	if words != nil {
		b.WriteString("\t\telements = { " + strings.Join(words, ",\n\t\t\t     ") + " }\n")
	}
	b.WriteString("\t}\n")
}
