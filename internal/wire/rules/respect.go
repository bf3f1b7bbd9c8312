package rules

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/wiring"
)

// A published port that respects the host's rules is open to whom these let in, as if a process of the
// host listened there. What decides is the first packet of a connection: it is left as it is, and so
// passes all that others have in the hook input. Who comes through to the end of that is led to the
// container, and what follows goes there at once and never sees input.
//
// No rule in input can change the destination. So the packet begins anew: a copy goes through the loop,
// and comes in by that as the first of its connection; the packet itself is dropped, and with it conntrack
// forgets that it has been there. Connections of the host's own processes are led in output, like those to
// other published ports.

// family is what the two families do not have in common. dup is known in tables of one family only (Linux
// 4.3), so there are two tables.
type family struct {
	name, suffix string
	number       byte
	address      kind
	destination  field
	gateway      string // of copies
}

func respectFamilies(facts Facts) []family {
	all := []family{
		{"ip", "4", unix.NFPROTO_IPV4, ip4(), ipDst(), wiring.LoopGateway4},
		{"ip6", "6", unix.NFPROTO_IPV6, ip6(), ip6Dst(), wiring.LoopGateway6},
	}
	if !facts.IPv6 {
		return all[:1]
	}
	return all
}

// Priorities in the hook input, after others' filters, and in forward, before them.
const (
	afterOthers  = 1000
	beforeOthers = raw
)

// respect is the table of a family, without elements.
func respect(f family, facts Facts) Table {
	asked := f.suffix + "asked"
	one, any, askOne, ask := "one"+asked, "any"+asked, "askOne"+f.suffix, "ask"+f.suffix
	again := is(iifname(), quoted(facts.Loop.In), name16(facts.Loop.In)...)
	take := []term{markWith(facts.Loop.Mark), copyTo(f.gateway, facts), drop()}
	t := Table{Family: f.name, Name: facts.Name, Sets: []Set{
		{Name: "internal", Of: []kind{ifname()}},
		{Name: ask, Of: []kind{protocols(), service()}},
		{Name: askOne, Of: []kind{f.address, protocols(), service()}},
		{Name: any, Of: []kind{protocols(), service()}, To: []kind{f.address, service()}},
		{Name: one, Of: []kind{f.address, protocols(), service()}, To: []kind{f.address, service()}},
	}}
	published := Chain{Name: "published", Rules: []Rule{
		{lead(f.number, one, f.destination, l4proto(), thDport())},
		{lead(f.number, any, l4proto(), thDport())},
	}}
	if f.number == unix.NFPROTO_IPV6 {
		published.Rules = append([]Rule{{is(ip6Dst(), "::1", append(make([]byte, 15), 1)...), back()}}, published.Rules...)
	}
	t.Chains = []Chain{
		published,
		{Name: "prerouting", Hook: "prerouting", Type: "nat", Priority: destination, Rules: []Rule{{again, forUs(), jump("published")}}},
		{Name: "output", Hook: "output", Type: "nat", Priority: destination, Rules: []Rule{{forUs(), jump("published")}}},
		{Name: "input", Hook: "input", Type: "filter", Priority: afterOthers, Rules: []Rule{
			{is(iifname(), `"lo"`, name16("lo")...), back()},
			{beginning(), forUs(), jump("take")},
		}},
		{Name: "take", Rules: []Rule{
			// What an internal network may not reach it does not reach by way of the loop.
			{in("internal", iifname()), back()},
			append(Rule{in(askOne, f.destination, l4proto(), thDport())}, take...),
			append(Rule{in(ask, l4proto(), thDport())}, take...),
		}},
		{Name: "forward", Hook: "forward", Type: "filter", Priority: beforeOthers, Rules: []Rule{{again, markWith(0)}}},
	}
	if f.number == unix.NFPROTO_IPV4 {
		// dup forbids to fragment copies. One that came in fragments goes on in fragments.
		t.Chains = append(t.Chains, Chain{Name: "loop", Hook: "prerouting", Type: "filter", Priority: raw, Rules: []Rule{{again, mayFragment()}}})
	}
	return t
}

// beginning holds for the first packet of a connection.
func beginning() term { return connection("ct state new", expr.CtKeySTATE, expr.CtStateBitNEW) }

func markWith(n uint32) term {
	return term{"meta mark set " + hexadecimal(uint64(n)), []expr.Any{
		&expr.Immediate{Register: firstRegister, Data: binary.NativeEndian.AppendUint32(nil, n)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: firstRegister},
	}}
}

// copyTo sends a copy into the loop.
func copyTo(gateway string, facts Facts) term {
	const device = firstRegister + 4
	return term{"dup to " + gateway + " device " + quoted(facts.Loop.Out), []expr.Any{
		&expr.Immediate{Register: firstRegister, Data: netip.MustParseAddr(gateway).AsSlice()},
		&expr.Immediate{Register: device, Data: binary.NativeEndian.AppendUint32(nil, uint32(facts.Index))},
		&expr.Dup{RegAddr: firstRegister, RegDev: device, IsRegDevSet: true},
	}}
}

func mayFragment() term {
	return term{"ip frag-off set 0", []expr.Any{
		&expr.Immediate{Register: firstRegister, Data: []byte{0, 0}},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: firstRegister, Base: expr.PayloadBaseNetworkHeader,
			Offset: 6, Len: 2, CsumType: expr.CsumTypeInet, CsumOffset: 10},
	}}
}
