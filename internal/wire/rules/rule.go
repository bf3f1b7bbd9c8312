package rules

import (
	"encoding/binary"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// kind is a type of nftables that keys and values are of.
type kind struct{ nftables.SetDatatype }

func kinds(ks []kind) string {
	var names []string
	for _, k := range ks {
		names = append(names, k.Name)
	}
	return strings.Join(names, " . ")
}

// Rule is terms; one that does not hold ends it.
type Rule []term

// term is a part of a rule: in the words of nft(8), and as what the kernel executes.
type term struct {
	words string
	code  []expr.Any
}

func (r Rule) String() string {
	var words []string
	for _, t := range r {
		words = append(words, t.words)
	}
	return strings.Join(words, " ")
}

func (r Rule) code() []expr.Any {
	var out []expr.Any
	for _, t := range r {
		out = append(out, t.code...)
	}
	return out
}

// firstRegister is the first of sixteen registers of 32 bits.
const firstRegister = unix.NFT_REG32_00

// field is something that a packet has.
type field struct {
	words string
	size  uint32
	load  func(register uint32) expr.Any
}

func meta(words string, key expr.MetaKey, size uint32) field {
	return field{words, size, func(r uint32) expr.Any { return &expr.Meta{Key: key, Register: r} }}
}

func payload(words string, base expr.PayloadBase, offset, size uint32) field {
	return field{words, size, func(r uint32) expr.Any {
		return &expr.Payload{DestRegister: r, Base: base, Offset: offset, Len: size}
	}}
}

func iifname() field  { return meta("iifname", expr.MetaKeyIIFNAME, 16) }
func oifname() field  { return meta("oifname", expr.MetaKeyOIFNAME, 16) }
func l4proto() field  { return meta("meta l4proto", expr.MetaKeyL4PROTO, 1) }
func nfproto() field  { return meta("meta nfproto", expr.MetaKeyNFPROTO, 1) }
func thDport() field  { return payload("th dport", expr.PayloadBaseTransportHeader, 2, 2) }
func etherSrc() field { return payload("ether saddr", expr.PayloadBaseLLHeader, 6, 6) }

// etherType is that of the frame as it was sent: with a VLAN's tag it is that of the tag, though
// the kernel has taken the tag off.
func etherType() field { return payload("ether type", expr.PayloadBaseLLHeader, 12, 2) }
func arpEther() field  { return payload("arp saddr ether", expr.PayloadBaseNetworkHeader, 8, 6) }
func arpIP() field     { return payload("arp saddr ip", expr.PayloadBaseNetworkHeader, 14, 4) }
func ipSrc() field     { return payload("ip saddr", expr.PayloadBaseNetworkHeader, 12, 4) }
func ipDst() field     { return payload("ip daddr", expr.PayloadBaseNetworkHeader, 16, 4) }
func ip6Src() field    { return payload("ip6 saddr", expr.PayloadBaseNetworkHeader, 8, 16) }
func ip6Dst() field    { return payload("ip6 daddr", expr.PayloadBaseNetworkHeader, 24, 16) }
func icmp6Type() field { return payload("icmpv6 type", expr.PayloadBaseTransportHeader, 0, 1) }

// icmp6Target is the address that a neighbour solicitation or advertisement is about (RFC 4861, 4.3), in
// halves. Later than 1.0.6, nft(8) has a name for the whole, and with the name a type: a set of that
// is one that the older cannot read, and a set without is one that the newer cannot. Halves have no name.
func icmp6Target() []field {
	return []field{payload("@th,64,64", expr.PayloadBaseTransportHeader, 8, 8), payload("@th,128,64", expr.PayloadBaseTransportHeader, 16, 8)}
}

// likeness is how nft(8) remembers in a set which fields its keys are like, where that is more than their
// types say: expressions of its own, by the numbers that it has for their kinds (its
// netlink_udata.h, and enum expr_types in expression.h).
func likeness(fields []field) []byte {
	const concatenation, aMeta, aPayload = 13, 9, 7
	expression := func(kind uint32, of []byte) []byte {
		return userdata.Append(userdata.AppendUint32(nil, 0, kind), 1, of)
	}
	numbers := func(list ...uint32) (b []byte) {
		for i, n := range list {
			b = userdata.AppendUint32(b, userdata.Type(i), n)
		}
		return b
	}
	var all []byte
	for i, f := range fields {
		var e []byte
		switch x := f.load(firstRegister).(type) {
		case *expr.Meta:
			e = expression(aMeta, numbers(uint32(x.Key)))
		case *expr.Payload: // of no protocol and field that has a name; its bases count from 1, and it counts bits
			e = expression(aPayload, numbers(0, 0, uint32(x.Base)+1, 8*x.Offset, 8*x.Len))
		}
		all = userdata.Append(all, userdata.Type(i), e)
	}
	return expression(concatenation, all)
}

// load puts fields next to each other in registers, as they are in a key.
func load(fields []field) (words string, code []expr.Any) {
	var names []string
	r := uint32(firstRegister)
	for _, f := range fields {
		names = append(names, f.words)
		code = append(code, f.load(r))
		r += (f.size + 3) / 4
	}
	return strings.Join(names, " . "), code
}

// in holds if the fields are in a set.
func in(set string, fields ...field) term {
	words, code := load(fields)
	return term{words + " @" + set, append(code, &expr.Lookup{SourceRegister: firstRegister, SetName: set})}
}

// notIn holds if they are not.
func notIn(set string, fields ...field) term {
	words, code := load(fields)
	return term{words + " != @" + set, append(code, &expr.Lookup{SourceRegister: firstRegister, SetName: set, Invert: true})}
}

// is holds if a field has a value.
func is(f field, words string, value ...byte) term {
	_, code := load([]field{f})
	return term{f.words + " " + words, append(code, &expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: value})}
}

// starts holds if a name has a beginning.
func starts(f field, with string) term { return is(f, `"`+with+`*"`, []byte(with)...) }

// isNot holds if it has another.
func isNot(f field, words string, value ...byte) term {
	_, code := load([]field{f})
	return term{f.words + " != " + words, append(code, &expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: value})}
}

// begins holds if the first bits of a field are those of value, and mask says which.
func begins(f field, words string, mask, value []byte) term {
	_, code := load([]field{f})
	zero := make([]byte, len(mask))
	return term{f.words + " " + words, append(code,
		&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: uint32(len(mask)), Mask: mask, Xor: zero},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: value})}
}

// of4 and of6 are needed before a packet is looked into as one of the family, in tables of both.
func of4() term { return is(nfproto(), "ipv4", unix.NFPROTO_IPV4) }
func of6() term { return is(nfproto(), "ipv6", unix.NFPROTO_IPV6) }

func connection(words string, key expr.CtKey, bits uint32) term {
	return term{words, []expr.Any{
		&expr.Ct{Key: key, Register: firstRegister},
		&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: 4,
			Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: make([]byte, 4)},
	}}
}

// known holds for what belongs to a connection that has been let through.
func known() term {
	return connection("ct state established,related", expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// astray holds for what belongs to no connection and does not begin one. It would leave the host
// with the address of the container.
func astray() term { return connection("ct state invalid", expr.CtKeySTATE, expr.CtStateBitINVALID) }

// published holds for connections to a published port: bit 5 of a connection's status is IPS_DST_NAT.
func published() term { return connection("ct status dnat", expr.CtKeySTATUS, 1<<5) }

// forUs holds if the packet's destination is an address of the host.
func forUs() term {
	return term{"fib daddr type local", []expr.Any{
		&expr.Fib{Register: firstRegister, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}}
}

func verdict(words string, kind expr.VerdictKind, chain string) term {
	return term{strings.TrimSpace(words + " " + chain), []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}}
}

func accept() term            { return verdict("accept", expr.VerdictAccept, "") }
func drop() term              { return verdict("drop", expr.VerdictDrop, "") }
func back() term              { return verdict("return", expr.VerdictReturn, "") }
func jump(chain string) term  { return verdict("jump", expr.VerdictJump, chain) }
func goTo(chain string) term  { return verdict("goto", expr.VerdictGoto, chain) }
func masquerade() term        { return term{"masquerade", []expr.Any{&expr.Masq{}}} }
func withoutConnection() term { return term{"notrack", []expr.Any{&expr.Notrack{}}} }

// lead sends a connection to what a map has for the fields: an address and a port.
func lead(family byte, m string, fields ...field) term {
	words, code := load(fields)
	name, size := "ip", uint32(1)
	if family == unix.NFPROTO_IPV6 {
		name, size = "ip6", 4
	}
	return term{"dnat " + name + " to " + words + " map @" + m, append(code,
		&expr.Lookup{SourceRegister: firstRegister, DestRegister: firstRegister, IsDestRegSet: true, SetName: m},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegAddrMin: firstRegister, RegProtoMin: firstRegister + size})}
}
