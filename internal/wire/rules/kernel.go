package rules

import (
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/wiring"
)

// Conn is a socket to the kernel's nftables, in the network namespace in which it was opened.
// Who has deleted something keeps it open for Rest after that: when the socket is closed before the
// kernel has freed what was deleted, it waits for that, and all others' transactions with it.
type Conn struct{ c *nftables.Conn }

// RestMillis is how long the kernel takes to free what was deleted, and more: a few grace periods.
const RestMillis = 100

// Elements in a message: the length of the list is a number of 16 bits (struct nlattr).
const elementsOfMessage = 400

// Open opens a socket. ns is a descriptor of a network namespace, or 0 for the caller's.
func Open(ns int) (*Conn, error) {
	// A batch is one datagram, and each of its messages is answered with one.
	room := func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(8<<20), c.SetReadBuffer(4<<20))
	}
	c, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(ns), nftables.WithSockOptions(room))
	if err != nil {
		return nil, errs.Wrap("open", "nftables", err)
	}
	return &Conn{c}, nil
}

// Close closes the socket.
func (c *Conn) Close() { _ = c.c.CloseLasting() }

// Make makes the host have the content, and no other content of those tables, in one
// transaction.
func (c *Conn) Make(content Content) error {
	for _, t := range content {
		// A table is deleted only if it is there, and it is there after it was added.
		c.c.AddTable(t.table())
		c.c.DelTable(t.table())
	}
	for _, t := range content {
		if err := c.create(t); err != nil {
			return err
		}
	}
	return c.flush("make tables of nftables")
}

func (c *Conn) create(t Table) error {
	table := c.c.AddTable(t.table())
	for _, s := range t.Sets {
		set := s.set(table)
		if err := c.c.AddSet(set, nil); err != nil {
			return errs.Wrap("describe set", s.Name, err)
		}
		if err := c.elements(c.c.SetAddElements, set, s.Elements); err != nil {
			return err
		}
	}
	accept := nftables.ChainPolicyAccept
	for _, ch := range t.Chains {
		chain := &nftables.Chain{Table: table, Name: ch.Name}
		if ch.Hook != "" {
			chain.Type, chain.Hooknum, chain.Policy = nftables.ChainType(ch.Type), hook(ch.Hook), &accept
			chain.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(ch.Priority))
		}
		c.c.AddChain(chain)
		for _, r := range ch.Rules {
			c.c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.code()})
		}
	}
	return nil
}

// Add adds the elements of one document to tables that are there. An error of kind NotFound or
// Exists says that they are not as the documents before it say: Make makes them so.
func (c *Conn) Add(d *wiring.Document, facts Facts) error {
	for _, t := range Of([]*wiring.Document{d}, elementsOnly(facts)) {
		for _, s := range t.Sets {
			if err := c.elements(c.c.SetAddElements, s.set(t.table()), s.Elements); err != nil {
				return err
			}
		}
	}
	return c.flush("add to tables of nftables")
}

// Remove takes away what a document has by itself. What it has in common with others of its
// networks stays until the next Make. Errors are as those of Add.
func (c *Conn) Remove(d *wiring.Document, facts Facts) error {
	for _, t := range Of([]*wiring.Document{d}, elementsOnly(facts)) {
		for _, s := range t.Sets {
			if common(s.Name) {
				continue
			}
			if err := c.elements(c.c.SetDeleteElements, s.set(t.table()), s.Elements); err != nil {
				return err
			}
		}
	}
	return c.flush("remove from tables of nftables")
}

// elementsOnly leaves out what documents do not say.
func elementsOnly(f Facts) Facts { return Facts{Name: f.Name, IPv6: f.IPv6} }

// common are the sets of what bridges are.
func common(set string) bool {
	return set == "bridges" || set == "same" || set == "internal" || set == "isolated"
}

// Delete takes the tables away, if they are there.
func (c *Conn) Delete(facts Facts) error {
	for _, t := range []Table{{Family: "inet", Name: facts.Name}, {Family: "bridge", Name: facts.Name}} {
		c.c.AddTable(t.table())
		c.c.DelTable(t.table())
	}
	return c.flush("delete tables of nftables")
}

// Present reports whether the host has both tables, and in them the chains: somebody may have
// flushed either of them.
func (c *Conn) Present(facts Facts) (bool, error) {
	chains, err := c.c.ListChains()
	if err != nil {
		return false, errs.Wrap("list", "chains of nftables", err)
	}
	there := map[string]bool{}
	for _, ch := range chains {
		there[string(rune(ch.Table.Family))+ch.Table.Name+"/"+ch.Name] = true
	}
	for _, t := range Of(nil, facts) {
		for _, ch := range t.Chains {
			table := t.table()
			if !there[string(rune(table.Family))+table.Name+"/"+ch.Name] {
				return false, nil
			}
			rules, err := c.c.GetRules(table, &nftables.Chain{Table: table, Name: ch.Name})
			if err != nil || len(rules) != len(ch.Rules) {
				return false, nil
			}
		}
	}
	return true, nil
}

// LeadNames makes that the name server at a port of wiring.ResolverIP is asked at port 53, in the
// namespace in which the socket was opened. The container may use port 53 of all its addresses
// itself. Ports are changed without conntrack, so that nobody there pays for it.
func (c *Conn) LeadNames(at uint16) error {
	t := Table{Family: "ip", Name: "corten"}
	table := c.c.AddTable(t.table())
	accept := nftables.ChainPolicyAccept
	chain := c.c.AddChain(&nftables.Chain{Table: table, Name: "names", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput,
		Priority: nftables.ChainPriorityRef(raw), Policy: &accept})
	for _, r := range nameRules(at) {
		c.c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.code()})
	}
	return c.flush("make table of nftables for name server")
}

// nameRules are the two ways of two protocols. They are all in output: what a process sends to
// an address of its own host passes there once in each direction.
func nameRules(at uint16) []Rule {
	server := netip.MustParseAddr(wiring.ResolverIP).AsSlice()
	var rules []Rule
	for _, p := range []struct {
		words    string
		number   byte
		checksum uint32 // where it is in the header
	}{{"tcp", unix.IPPROTO_TCP, 16}, {"udp", unix.IPPROTO_UDP, 6}} {
		rules = append(rules,
			Rule{is(ipDst(), wiring.ResolverIP, server...), is(l4proto(), p.words, p.number), is(thDport(), "53", 0, 53),
				setPort("dport", 2, p.checksum, at), withoutConnection()},
			Rule{is(ipSrc(), wiring.ResolverIP, server...), is(l4proto(), p.words, p.number), is(thSport(), decimal(at), byte(at>>8), byte(at)),
				setPort("sport", 0, p.checksum, 53), withoutConnection()})
	}
	return rules
}

func thSport() field { return payload("th sport", expr.PayloadBaseTransportHeader, 0, 2) }

func setPort(words string, offset, checksum uint32, n uint16) term {
	return term{"th " + words + " set " + decimal(n), []expr.Any{
		&expr.Immediate{Register: firstRegister, Data: []byte{byte(n >> 8), byte(n)}},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: firstRegister, Base: expr.PayloadBaseTransportHeader,
			Offset: offset, Len: 2, CsumType: expr.CsumTypeInet, CsumOffset: checksum},
	}}
}

func (c *Conn) elements(act func(*nftables.Set, []nftables.SetElement) error, s *nftables.Set, all []Element) error {
	for len(all) > 0 {
		n := min(len(all), elementsOfMessage)
		list := make([]nftables.SetElement, n)
		for i, e := range all[:n] {
			list[i] = nftables.SetElement{Key: e.Key, Val: e.Value}
		}
		if err := act(s, list); err != nil {
			return errs.Wrap("describe elements of", s.Name, err)
		}
		all = all[n:]
	}
	return nil
}

func (c *Conn) flush(op string) error { return errs.Wrap(op, "", c.c.Flush()) }

func (t Table) table() *nftables.Table {
	family := nftables.TableFamilyINet
	switch t.Family {
	case "bridge":
		family = nftables.TableFamilyBridge
	case "ip":
		family = nftables.TableFamilyIPv4
	}
	return &nftables.Table{Family: family, Name: t.Name}
}

func (s Set) set(t *nftables.Table) *nftables.Set {
	out := &nftables.Set{Table: t, Name: s.Name, KeyType: joined(s.Of)}
	if len(s.Of) == 1 {
		out.KeyByteOrder = binaryutil.NativeEndian // how nft(8) prints names
	}
	if s.To != nil {
		out.IsMap, out.DataType = true, joined(s.To)
	}
	return out
}

func joined(ks []kind) nftables.SetDatatype {
	if len(ks) == 1 {
		return ks[0].SetDatatype
	}
	types := make([]nftables.SetDatatype, len(ks))
	for i, k := range ks {
		types[i] = k.SetDatatype
	}
	return nftables.MustConcatSetType(types...)
}

func hook(name string) *nftables.ChainHook {
	switch name {
	case "prerouting":
		return nftables.ChainHookPrerouting
	case "forward":
		return nftables.ChainHookForward
	case "output":
		return nftables.ChainHookOutput
	}
	return nftables.ChainHookPostrouting
}
