package rules

import (
	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Priorities of chains, as nft(8) calls them.
const (
	raw         = -300
	bridgeFirst = -300 // dstnat of the family bridge: before a bridge looks at a frame
	destination = -100
	beforeOther = -5 // of a filter: others' are at 0
	source      = 100
)

func ifname() kind    { return kind{nftables.TypeIFName} }
func ether() kind     { return kind{nftables.TypeEtherAddr} }
func ip4() kind       { return kind{nftables.TypeIPAddr} }
func ip6() kind       { return kind{nftables.TypeIP6Addr} }
func protocols() kind { return kind{nftables.TypeInetProto} }
func service() kind   { return kind{nftables.TypeInetService} }

// half is half of an IPv6 address.
func half() kind {
	k := nftables.TypeInteger
	k.Bytes = 8
	return kind{k}
}

// inet is the table that decides what is led where, without elements.
func inet(facts Facts) Table {
	t := Table{Family: "inet", Name: facts.Name, Sets: []Set{
		{Name: "bridges", Of: []kind{ifname()}},        // ours
		{Name: "same", Of: []kind{ifname(), ifname()}}, // each of them, twice: from it to itself
		{Name: "internal", Of: []kind{ifname()}},       // those without a way out
		{Name: "isolated", Of: []kind{ifname()}},       // those whose containers do not reach each other
		{Name: "home4", Of: []kind{ifname(), ip4()}},   // who is on which bridge
		{Name: "any4", Of: []kind{protocols(), service()}, To: []kind{ip4(), service()}},
		{Name: "one4", Of: []kind{ip4(), protocols(), service()}, To: []kind{ip4(), service()}},
	}}
	if facts.IPv6 {
		t.Sets = append(t.Sets,
			Set{Name: "home6", Of: []kind{ifname(), ip6()}},
			Set{Name: "any6", Of: []kind{protocols(), service()}, To: []kind{ip6(), service()}},
			Set{Name: "one6", Of: []kind{ip6(), protocols(), service()}, To: []kind{ip6(), service()}})
	}
	lead := []Rule{{forUs(), jump("published")}}
	t.Chains = []Chain{
		{Name: "published", Rules: publishedRules(facts)},
		// The host's own services at 127.0.0.1 stay its own, though packets of that address may
		// pass our bridges (route_localnet) on their way to published ports.
		{Name: "loopback", Hook: "prerouting", Type: "filter", Priority: raw, Rules: []Rule{
			{of4(), begins(ipDst(), "127.0.0.0/8", []byte{255, 0, 0, 0}, []byte{127, 0, 0, 0}), in("bridges", iifname()), drop()}, // the cheap look first
		}},
		{Name: "prerouting", Hook: "prerouting", Type: "nat", Priority: destination, Rules: lead},
		{Name: "output", Hook: "output", Type: "nat", Priority: destination, Rules: lead},
		{Name: "postrouting", Hook: "postrouting", Type: "nat", Priority: source, Rules: sourceRules(facts)},
		{Name: "forward", Hook: "forward", Type: "filter", Priority: beforeOther, Rules: forwardRules(facts)},
	}
	if facts.Quiet4 || facts.Quiet6 {
		t.Sets = append(t.Sets, Set{Name: "quiet", Of: []kind{ifname()}})
	}
	return t
}

// publishedRules lead to containers: what is said of one address before what is said of all.
func publishedRules(facts Facts) []Rule {
	rules := []Rule{
		{of4(), lead(unix.NFPROTO_IPV4, "one4", ipDst(), l4proto(), thDport())},
		{of4(), lead(unix.NFPROTO_IPV4, "any4", l4proto(), thDport())},
	}
	if facts.IPv6 {
		rules = append(rules,
			// A packet from ::1 leaves the host, but no answer to it comes back to there: it has no
			// route_localnet. What is led from there is led by a process.
			Rule{of6(), is(ip6Dst(), "::1", append(make([]byte, 15), 1)...), back()},
			Rule{of6(), lead(unix.NFPROTO_IPV6, "one6", ip6Dst(), l4proto(), thDport())},
			Rule{of6(), lead(unix.NFPROTO_IPV6, "any6", l4proto(), thDport())})
	}
	return rules
}

// sourceRules change who a connection is from.
func sourceRules(facts Facts) []Rule {
	rules := []Rule{
		// To the world with the host's address.
		{in("bridges", iifname()), notIn("bridges", oifname()), masquerade()},
		// To a port published by a neighbour, or by oneself: the answer has to come back by the host.
		{of4(), in("home4", oifname(), ipSrc()), published(), masquerade()},
		// From the host's 127.0.0.1 to a published port.
		{in("bridges", oifname()), of4(), begins(ipSrc(), "127.0.0.0/8", []byte{255, 0, 0, 0}, []byte{127, 0, 0, 0}), masquerade()},
	}
	if facts.IPv6 {
		rules = append(rules, Rule{of6(), in("home6", oifname(), ip6Src()), published(), masquerade()})
	}
	return rules
}

// forwardRules keep networks apart.
func forwardRules(facts Facts) []Rule {
	rules := []Rule{
		{known(), accept()},
		{in("same", iifname(), oifname()), notIn("isolated", iifname()), accept()},
		{in("internal", iifname()), drop()},
		{in("internal", oifname()), drop()},
		{in("bridges", oifname()), published(), accept()},
		{in("bridges", oifname()), drop()},
		{in("bridges", iifname()), astray(), drop()},
	}
	if facts.Quiet4 {
		rules = append(rules, Rule{of4(), in("quiet", iifname()), in("quiet", oifname()), drop()})
	}
	if facts.Quiet6 {
		rules = append(rules, Rule{of6(), in("quiet", iifname()), in("quiet", oifname()), drop()})
	}
	return rules
}

// Types of ICMPv6 (RFC 4861, RFC 3810).
const (
	routerAdvertisement    = 134
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
	redirect               = 137
	listenerReport         = 143
)

// bridge is the table that lets containers send only what is theirs, without elements.
func bridge(facts Facts) Table {
	t := Table{Family: "bridge", Name: facts.Name, Sets: []Set{
		{Name: "ports", Of: []kind{ifname()}}, // the host's ends of pairs
		{Name: "from4", Of: []kind{ifname(), ether(), ip4()}},
	}}
	if facts.IPv6 {
		t.Sets = append(t.Sets, Set{Name: "from6", Of: []kind{ifname(), ether(), ip6()}},
			Set{Name: "targets", Of: []kind{ifname(), half(), half()}, Like: target()})
	}
	guard := Chain{Name: "guard", Rules: []Rule{
		{is(etherType(), "ip", 0x08, 0x00), is(ipSrc(), "0.0.0.0", 0, 0, 0, 0), drop()},
		{is(etherType(), "ip", 0x08, 0x00), in("from4", iifname(), etherSrc(), ipSrc()), accept()},
		{is(etherType(), "arp", 0x08, 0x06), in("from4", iifname(), etherSrc(), arpIP()), in("from4", iifname(), arpEther(), arpIP()), accept()},
	}}
	if facts.IPv6 {
		guard.Rules = append(guard.Rules, Rule{is(etherType(), "ip6", 0x86, 0xdd), in("from6", iifname(), etherSrc(), ip6Src()), goTo("six")})
	}
	guard.Rules = append(guard.Rules, Rule{drop()})
	if facts.IPv6 {
		t.Chains = append(t.Chains, Chain{Name: "six", Rules: sixRules()})
	}
	// What nearly all packets are is looked up once; the guard says the same of it.
	first := []Rule{{is(etherType(), "ip", 0x08, 0x00), isNot(ipSrc(), "0.0.0.0", 0, 0, 0, 0), in("from4", iifname(), etherSrc(), ipSrc()), accept()}}
	if facts.IPv6 {
		first = append(first, Rule{is(etherType(), "ip6", 0x86, 0xdd), isNot(l4proto(), "ipv6-icmp", unix.IPPROTO_ICMPV6),
			isNot(ip6Src(), "::", make([]byte, 16)...), in("from6", iifname(), etherSrc(), ip6Src()), accept()})
	}
	t.Chains = append(t.Chains, guard, Chain{Name: "prerouting", Hook: "prerouting", Type: "filter", Priority: bridgeFirst, Rules: append(first,
		Rule{in("ports", iifname()), goTo("guard")},
		// A pair of a container that has ended, whose network another one is still in.
		Rule{starts(iifname(), facts.Pairs), drop()})})
	return t
}

// target is what a message about a neighbour is about, and from where it came.
func target() []field { return append([]field{iifname()}, icmp6Target()...) }

// sixRules are of packets of IPv6 whose sender, with its hardware address, is one of the container's: nobody advertises what is not
// his, and who has no address yet asks only whether it is taken, and for groups.
func sixRules() []Rule {
	icmp := is(l4proto(), "ipv6-icmp", unix.IPPROTO_ICMPV6)
	six, nobody := is(etherType(), "ip6", 0x86, 0xdd), is(ip6Src(), "::", make([]byte, 16)...)
	return []Rule{
		{icmp, is(icmp6Type(), "nd-router-advert", routerAdvertisement), drop()},
		{icmp, is(icmp6Type(), "nd-redirect", redirect), drop()},
		{icmp, is(icmp6Type(), "nd-neighbor-advert", neighbourAdvertisement), notIn("targets", target()...), drop()},
		{six, nobody, icmp, is(icmp6Type(), "nd-neighbor-solicit", neighbourSolicitation), in("targets", target()...), accept()},
		{six, nobody, icmp, is(icmp6Type(), "mld2-listener-report", listenerReport), accept()},
		{six, nobody, drop()},
		{accept()},
	}
}
