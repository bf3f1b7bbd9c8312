package rules

import (
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/wiring"
)

// Conn is a socket to the kernel's nftables, in the network namespace in which it was opened.
// Who has deleted something keeps it open for RestMillis after that: when the socket is closed before
// the kernel has freed what was deleted, it waits for that, and all others' transactions with it.
type Conn struct{ fd int } // -1: the kernel has no nftables. Then there is nothing to delete, and Make and Add say what is missing

// RestMillis is how long the kernel takes to free what was deleted, and more: a few grace periods.
const RestMillis = 100

// Open opens a socket in the namespace of the calling thread.
func Open() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return &Conn{-1}, nil
	}
	if err != nil {
		return nil, errs.Wrap("open", "nftables", err)
	}
	// A batch is one datagram: with the elements of a thousand containers it has half a MiB. Only
	// who may not do so here fails, and his transactions do too.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1) // an error does not repeat its message
	return &Conn{fd}, nil
}

// Close closes the socket.
func (c *Conn) Close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
	}
}

// Make makes the host have the content, and nothing else in tables of that name, in one
// transaction.
func (c *Conn) Make(content Content, facts Facts) error {
	b := newBatch()
	b.none(c, facts)
	for _, t := range content {
		b.create(t)
	}
	err := c.commit("make tables of nftables", b)
	if errors.Is(err, unix.ENOENT) { // everything that a rule names is in the batch: it is something of the kernel's
		err = errs.New(errs.Unsupported, "", "", err).WithHint(needed)
	}
	return err
}

// needed is what rules take of the kernel.
const needed = "it takes nftables of the kernel (CONFIG_NF_TABLES_INET, CONFIG_NF_TABLES_BRIDGE, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET; modprobe nf_tables), and " +
	"iptables-legacy is not enough: see corten doctor; --network none and --network host work without"

// lacking says what to do where the kernel has no nftables: without netfilter's sockets there is no such
// protocol, without nf_tables what is asked there is not supported, without tables for a family that is not.
func lacking(op string, err error) error {
	for _, e := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT} {
		if errors.Is(err, e) {
			return errs.New(errs.Unsupported, op, "", err).WithHint(needed)
		}
	}
	return errs.Wrap(op, "", err)
}

// Add adds the elements of one document to tables that are there. An error of kind NotFound or
// Exists says that they are not as the documents before it say: Make makes them so.
func (c *Conn) Add(d *wiring.Document, facts Facts) error {
	b := newBatch()
	for _, t := range Of([]*wiring.Document{d}, elementsOnly(facts)) {
		for _, s := range t.Sets {
			b.elements(unix.NFT_MSG_NEWSETELEM, t, s)
		}
	}
	return c.commit("add to tables of nftables", b)
}

// Remove takes away what a document has by itself. What it has in common with others of its
// networks stays until the next Make. Errors are as those of Add.
func (c *Conn) Remove(d *wiring.Document, facts Facts) error {
	b := newBatch()
	for _, t := range Of([]*wiring.Document{d}, elementsOnly(facts)) {
		for _, s := range t.Sets {
			if !common(s.Name) {
				b.elements(unix.NFT_MSG_DELSETELEM, t, s)
			}
		}
	}
	return unlessLacking(c.commit("remove from tables of nftables", b))
}

// elementsOnly leaves out what documents do not say.
func elementsOnly(f Facts) Facts { return Facts{Name: f.Name, IPv6: f.IPv6, Loop: f.Loop} }

// common are the sets of what bridges are.
func common(set string) bool {
	return set == "bridges" || set == "same" || set == "internal" || set == "isolated"
}

// Delete takes the tables away, if they are there.
func (c *Conn) Delete(facts Facts) error {
	b := newBatch()
	b.none(c, facts)
	return unlessLacking(c.commit("delete tables of nftables", b))
}

// unlessLacking is of what a kernel without nftables has done already: a container that could not be
// connected there is disconnected all the same.
func unlessLacking(err error) error {
	if errs.Is(err, errs.Unsupported) {
		return nil
	}
	return err
}

// Present reports whether the host, in whose namespace the calling thread is, has both tables with
// all their chains and rules: somebody may have flushed a part.
func Present(facts Facts) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, errs.Wrap("open", "nftables", err)
	}
	chains, err := c.ListChains()
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
			rules, err := c.GetRules(table, &nftables.Chain{Table: table, Name: ch.Name})
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
	b := newBatch()
	b.create(Table{Family: "ip", Name: "corten", Chains: []Chain{
		{Name: "names", Hook: "output", Type: "filter", Priority: raw, Rules: nameRules(at)},
	}})
	return c.commit("make table of nftables for name server", b)
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

func (t Table) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamily(t.family()), Name: t.Name}
}

func (t Table) family() byte {
	switch t.Family {
	case "bridge":
		return unix.NFPROTO_BRIDGE
	case "ip":
		return unix.NFPROTO_IPV4
	case "ip6":
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_INET
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

func hook(name string) uint32 {
	switch name {
	case "prerouting":
		return unix.NF_INET_PRE_ROUTING
	case "input":
		return unix.NF_INET_LOCAL_IN
	case "forward":
		return unix.NF_INET_FORWARD
	case "output":
		return unix.NF_INET_LOCAL_OUT
	}
	return unix.NF_INET_POST_ROUTING
}
