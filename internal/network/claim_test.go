package network_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// box is a container that somebody looks after.
func box(t testing.TB, d network.Dirs, name string, on ...spec.Attachment) *spec.Container {
	t.Helper()
	c := &spec.Container{ID: container.NewID(), Name: name, Networking: spec.Networking{Attachments: on}}
	lookAfter(t, d, c)
	return c
}

func lookAfter(t testing.TB, d network.Dirs, c *spec.Container) {
	t.Helper()
	path := active(d, c.ID)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func active(d network.Dirs, id spec.ContainerID) string {
	return filepath.Join(d.Run, "active", string(id))
}

func create(t testing.TB, d network.Dirs, r network.Request) network.Network {
	t.Helper()
	n, err := network.Create(d, r)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func claim(t testing.TB, d network.Dirs, c *spec.Container) *wiring.Document {
	t.Helper()
	doc, err := network.Claim(d, c, nil, network.Names{})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// tree is every name and link below a folder.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		to, _ := os.Readlink(path)
		rel, err := filepath.Rel(dir, path)
		out[rel] = to
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

// left fails if anything of a container is in the folder of what a reboot forgets.
func left(t testing.TB, d network.Dirs, id spec.ContainerID) {
	t.Helper()
	for path, to := range tree(t, filepath.Join(d.Run, "net")) {
		if strings.Contains(path, string(id)) || strings.Contains(to, string(id)) {
			t.Errorf("left: %s -> %s", path, to)
		}
	}
}

func TestClaim(t *testing.T) {
	apart(t)
	d := dirs(t)
	create(t, d, network.Request{Name: "blue", Subnets: prefixes("10.1.2.0/24", "fd00:1::/64"), Options: map[string]string{"mtu": "1400", "firewall": "respect"}})
	create(t, d, network.Request{Name: "dark", Subnets: prefixes("10.1.3.0/24"), Internal: true})
	addr := netip.MustParseAddr
	c := box(t, d, "Web.1", spec.Attachment{Network: "dark", Interface: "eth1"},
		spec.Attachment{Network: "blue", IP6: addr("fd00:1::99"), Aliases: []string{"WWW", "www"}, Rate: spec.Rate{In: 5}}, spec.Attachment{Network: "bridge", MAC: "AA-bb-cc-dd-ee-0f"})
	c.Namespaces.Hostname, c.Networking.Rate = "web", spec.Rate{Out: 7}
	ports := []spec.Port{{Service: spec.Service{Protocol: spec.TCP, Port: 80}, HostPort: 8080}, {Service: spec.Service{Protocol: spec.UDP, Port: 53}, HostPort: 53, HostIP: addr("127.0.0.1")}}
	names := network.Names{Wanted: true, Upstream: []string{"192.0.2.53"}}

	before := tree(t, d.Root)
	likely, err := network.Likely(d, c, ports, names)
	if err != nil {
		t.Fatal(err)
	}
	if after := tree(t, d.Root); !reflect.DeepEqual(before, after) || len(tree(t, filepath.Join(d.Run, "net"))) != 0 {
		t.Errorf("what would be likely touched something: %v", after)
	}
	doc, err := network.Claim(d, c, ports, names)
	if err != nil {
		t.Fatal(err)
	}
	checkTwin(t, likely, doc)
	read, ok, err := network.Document(d, c.ID)
	if err != nil || !ok || !reflect.DeepEqual(read, doc) {
		t.Errorf("the document says %+v, %v; want %+v", read, err, doc)
	}
	dark, blue, bridge := doc.Links[0], doc.Links[1], doc.Links[2]
	if dark.Interface != "eth1" || blue.Interface != "eth0" || bridge.Interface != "eth2" {
		t.Errorf("interfaces %s, %s, %s", dark.Interface, blue.Interface, bridge.Interface)
	}
	if dark.Gateways != nil || !slices.Equal(blue.Gateways, []netip.Addr{addr("10.1.2.1"), addr("fd00:1::1")}) || bridge.Gateways != nil {
		t.Errorf("gateways %v, %v, %v", dark.Gateways, blue.Gateways, bridge.Gateways)
	}
	if !slices.Equal(blue.Addresses, prefixes("10.1.2.2/24", "fd00:1::99/64")) || blue.MAC != "02:42:0a:01:02:02" || bridge.MAC != "aa:bb:cc:dd:ee:0f" {
		t.Errorf("addresses %v, %s, %s", blue.Addresses, blue.MAC, bridge.MAC)
	}
	if !slices.Equal(blue.Switch.Addresses, prefixes("10.1.2.1/24", "fd00:1::1/64")) || !blue.Switch.Respect || !dark.Switch.Internal || blue.MTU != 1400 || !strings.HasPrefix(bridge.Switch.Name, "ct-") {
		t.Errorf("switches %+v, %+v, %+v", dark.Switch, blue.Switch, bridge.Switch)
	}
	if blue.Rate != (spec.Rate{In: 5}) || dark.Rate != (spec.Rate{Out: 7}) {
		t.Errorf("rates %v, %v", blue.Rate, dark.Rate)
	}
	if len(blue.HostSide) != 13 || blue.HostSide == dark.HostSide || !strings.HasPrefix(blue.HostSide, "ct") {
		t.Errorf("pairs %s, %s", blue.HostSide, dark.HostSide)
	}
	if !slices.Equal(blue.Names, []string{"www", "web.1", c.ID.Short(), "web"}) || bridge.Names != nil {
		t.Errorf("names %v, %v", blue.Names, bridge.Names)
	}
	tcp, udp := ports[0].Service, ports[1].Service
	want := []wiring.Forward{
		{Service: tcp, HostIP: addr("0.0.0.0"), HostPort: 8080, To: addr("10.1.2.2"), Respect: true},
		{Service: tcp, HostIP: addr("::"), HostPort: 8080, To: addr("fd00:1::99"), Respect: true},
		{Service: udp, HostIP: addr("127.0.0.1"), HostPort: 53, To: addr("10.1.2.2"), Respect: true},
	}
	if !reflect.DeepEqual(doc.Ports, want) {
		t.Errorf("ports lead to %v, want %v", doc.Ports, want)
	}
	if r := doc.Resolver; !slices.Equal(r.Networks, []string{"dark", "blue"}) || !slices.Equal(r.Upstream, []netip.Addr{addr("192.0.2.53")}) || r.Alone || r.Port < 61000 {
		t.Errorf("resolver %+v", r)
	}
	for _, name := range blue.Names {
		to, err := os.Readlink(filepath.Join(d.Run, "net/on/blue/names", name, string(c.ID)))
		if err != nil || to != "10.1.2.2 fd00:1::99" {
			t.Errorf("%s leads to %q, %v", name, to, err)
		}
	}
	if to, err := os.Readlink(filepath.Join(d.Run, "net/on/blue/at/fd00:1::99")); err != nil || to != string(c.ID)+" Web.1" {
		t.Errorf("the claim is %q's, %v", to, err)
	}
	members, err := network.Members(d, "blue")
	if err != nil || len(members) != 1 || members[0].Name != "Web.1" || members[0].MAC != blue.MAC {
		t.Errorf("members %+v, %v", members, err)
	}
	mentions(t, network.Remove(d, "blue"), errs.Busy, "Web.1", "network disconnect blue Web.1")
	if _, err := network.Claim(d, c, nil, names); !errs.Is(err, errs.Busy) {
		t.Errorf("claimed twice: %v", err)
	}
	if read, _, _ := network.Document(d, c.ID); !reflect.DeepEqual(read, doc) || len(tree(t, filepath.Join(d.Run, "net/on/blue/at"))) != 2 {
		t.Error("what could not be claimed again took something along")
	}
	for range 2 {
		if err := network.Forget(d, c.ID); err != nil {
			t.Error(err)
		}
		left(t, d, c.ID)
	}
	if err := network.Remove(d, "blue"); err != nil {
		t.Error(err)
	}
	if there := tree(t, filepath.Join(d.Run, "net/on/blue")); len(there) != 0 {
		t.Errorf("left of the network: %v", there)
	}
}

// checkTwin compares what was likely with what came.
func checkTwin(t *testing.T, likely, doc *wiring.Document) {
	t.Helper()
	for i := range likely.Links {
		a, b := likely.Links[i], doc.Links[i]
		for j := range a.Addresses { // of the ULA only the length is foreseeable
			if a.Network == spec.DefaultNetwork && a.Addresses[j].Addr().Is6() {
				continue
			}
			if a.Addresses[j] != b.Addresses[j] {
				t.Errorf("%v was likely, and is %v", a.Addresses[j], b.Addresses[j])
			}
		}
		if a.Interface != b.Interface || a.MAC != b.MAC || len(a.Addresses) != len(b.Addresses) {
			t.Errorf("%+v was likely, and is %+v", a, b)
		}
	}
	if !reflect.DeepEqual(likely.Ports, doc.Ports) {
		t.Errorf("%+v were likely, and are %+v", likely.Ports, doc.Ports)
	}
}

func TestClaimRefuses(t *testing.T) {
	apart(t)
	d := dirs(t)
	create(t, d, network.Request{Name: "blue", Subnets: prefixes("10.1.2.0/29")})
	create(t, d, network.Request{Name: "dark", Subnets: prefixes("10.1.3.0/24"), Internal: true})
	create(t, d, network.Request{Name: "flat", Driver: wiring.Ipvlan, Subnets: prefixes("10.1.4.0/24"), Options: map[string]string{"parent": "lo"}})
	addr := netip.MustParseAddr
	first := claim(t, d, box(t, d, "first", spec.Attachment{Network: "blue", MAC: "02:00:00:00:00:01"}))
	at := func(text string) spec.Attachment { return spec.Attachment{Network: "blue", IP4: addr(text)} }
	port := []spec.Port{{Service: spec.Service{Protocol: spec.TCP, Port: 80}, HostPort: 8080}}
	port6 := []spec.Port{{Service: port[0].Service, HostPort: 8080, HostIP: addr("::1")}}
	before := tree(t, filepath.Join(d.Run, "net"))
	for what, c := range map[string]struct {
		kind  errs.Kind
		word  string
		ports []spec.Port
		last  spec.Attachment
	}{
		"no network":    {errs.NotFound, "network ls", nil, spec.Attachment{Network: "red"}},
		"no name":       {errs.NotFound, "", nil, spec.Attachment{Network: "../blue"}},
		"twice":         {errs.Invalid, "already", nil, spec.Attachment{Network: "dark"}},
		"outside":       {errs.Invalid, "10.1.2.0/29", nil, at("10.1.3.1")},
		"gateway":       {errs.Invalid, "gateway", nil, at("10.1.2.1")},
		"network":       {errs.Invalid, "10.1.2.1", nil, at("10.1.2.0")},
		"broadcast":     {errs.Invalid, "broadcast", nil, at("10.1.2.7")},
		"taken":         {errs.Busy, "first", nil, spec.Attachment{Network: "blue", IP4: first.Links[0].Addresses[0].Addr()}},
		"taken MAC":     {errs.Busy, "first", nil, spec.Attachment{Network: "blue", MAC: "020000000001"}},
		"group MAC":     {errs.Invalid, "01:00", nil, spec.Attachment{Network: "blue", MAC: "01:00:00:00:00:01"}},
		"short MAC":     {errs.Invalid, "", nil, spec.Attachment{Network: "blue", MAC: "02:00:00:00:01"}},
		"no IPv6":       {errs.Invalid, "fd00::1", nil, spec.Attachment{Network: "blue", IP6: addr("fd00::1")}},
		"interface":     {errs.Invalid, "a/b", nil, spec.Attachment{Network: "blue", Interface: "a/b"}},
		"two of a name": {errs.Invalid, "eth0", nil, spec.Attachment{Network: "blue", Interface: "eth0"}},
		"alias":         {errs.Invalid, "a b", nil, spec.Attachment{Network: "blue", Aliases: []string{"a b"}}},
		"path":          {errs.Invalid, "..", nil, spec.Attachment{Network: "blue", Aliases: []string{"../../x"}}},
		"default alias": {errs.Invalid, "network create", nil, spec.Attachment{Network: "bridge", Aliases: []string{"a"}}},
		"ipvlan MAC":    {errs.Invalid, "macvlan", nil, spec.Attachment{Network: "flat", MAC: "02:00:00:00:00:02"}},
		"no way in":     {errs.Invalid, "80/tcp", port, spec.Attachment{Network: "flat"}},
		"no way for ::": {errs.Invalid, "::1", port6, spec.Attachment{Network: "blue"}},
	} {
		t.Run(what, func(t *testing.T) {
			dark := spec.Attachment{Network: "dark"}
			if what == "two of a name" {
				dark.Interface = "eth0"
			}
			b := box(t, d, "second", dark, c.last)
			_, err := network.Claim(d, b, c.ports, network.Names{})
			mentions(t, err, c.kind, "second", c.word)
			_, err = network.Likely(d, b, c.ports, network.Names{})
			mentions(t, err, c.kind, "second", c.word)
			left(t, d, b.ID)
		})
	}
	after := tree(t, filepath.Join(d.Run, "net"))
	for _, m := range []map[string]string{before, after} {
		for path := range m {
			if strings.HasPrefix(filepath.Base(path), "next") {
				delete(m, path)
			}
		}
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("left: %v, before: %v", after, before)
	}
}

func TestParents(t *testing.T) {
	apart(t)
	d := dirs(t)
	lan := map[string]string{"parent": "lo.50"} // there is none: VLAN 50 of lo
	create(t, d, network.Request{Name: "lan", Driver: wiring.Macvlan, Subnets: prefixes("10.1.0.0/24"), Options: lan})
	create(t, d, network.Request{Name: "flat", Driver: wiring.Ipvlan, Subnets: prefixes("10.2.0.0/24", "fd00:2::/64"), Options: map[string]string{"parent": "lo", "ipvlan_mode": "l3"}})
	doc := claim(t, d, box(t, d, "a", spec.Attachment{Network: "lan"}))
	if l := doc.Links[0]; *l.Parent != (wiring.Parent{Name: "lo", VLAN: 50, Mode: "bridge"}) || l.Switch != nil || l.HostSide != "" || !slices.Equal(l.Gateways, []netip.Addr{netip.MustParseAddr("10.1.0.1")}) || l.MAC == "" {
		t.Errorf("macvlan: %+v of %+v", l, l.Parent)
	}
	doc = claim(t, d, box(t, d, "b", spec.Attachment{Network: "flat"}))
	if l := doc.Links[0]; *l.Parent != (wiring.Parent{Name: "lo", Mode: "l3"}) || !slices.Equal(l.Gateways, []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}) || l.MAC != "" {
		t.Errorf("ipvlan: %+v of %+v", l, l.Parent)
	}
	if a := doc.Links[0].Addresses; !slices.Equal(a, prefixes("10.2.0.1/24", "fd00:2::1/64")) {
		t.Errorf("without a gateway: %v", a)
	}
}

// TestAnother has a container start anew before who tended it before comes to forget it.
func TestAnother(t *testing.T) {
	apart(t)
	d := dirs(t)
	create(t, d, network.Request{Name: "blue"})
	c := box(t, d, "web", spec.Attachment{Network: "blue"})
	old := claim(t, d, c)
	if err := network.Forget(d, c.ID); err != nil {
		t.Fatal(err)
	}
	now := claim(t, d, c)
	if err := network.ForgetStart(d, old); err != nil {
		t.Fatal(err)
	}
	if read, ok, err := network.Document(d, c.ID); !ok || err != nil || read.Start != now.Start {
		t.Errorf("the new start was forgotten: %v", err)
	}
	if err := network.ForgetStart(d, now); err != nil {
		t.Fatal(err)
	}
	left(t, d, c.ID)
	if err := network.ForgetStart(d, now); err != nil {
		t.Error(err)
	}
}

// TestStale leaves claims of starts that were killed.
func TestStale(t *testing.T) {
	apart(t)
	d := dirs(t)
	create(t, d, network.Request{Name: "blue", Subnets: prefixes("10.1.2.0/29")}) // room for 5
	stale := func(ip string, ofLive bool) *spec.Container {
		c := box(t, d, "dead", spec.Attachment{Network: "blue", IP4: netip.MustParseAddr(ip)})
		claim(t, d, c)
		if err := os.Remove(filepath.Join(d.Run, "net/wired", string(c.ID))); err != nil {
			t.Fatal(err)
		}
		if !ofLive {
			if err := os.Remove(active(d, c.ID)); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	stale("10.1.2.3", false)
	living := stale("10.1.2.5", true)
	if doc := claim(t, d, box(t, d, "a", spec.Attachment{Network: "blue", IP4: netip.MustParseAddr("10.1.2.3")})); doc.Links[0].Addresses[0].String() != "10.1.2.3/29" {
		t.Errorf("the dead one's address: %v", doc.Links[0].Addresses)
	}
	_, err := network.Claim(d, box(t, d, "b", spec.Attachment{Network: "blue", IP4: netip.MustParseAddr("10.1.2.5")}), nil, network.Names{})
	mentions(t, err, errs.Busy, "dead")
	stale("10.1.2.4", false)
	for i := range 3 {
		claim(t, d, box(t, d, fmt.Sprint("c", i), spec.Attachment{Network: "blue"}))
	}
	_, err = network.Claim(d, box(t, d, "d", spec.Attachment{Network: "blue"}), nil, network.Names{})
	mentions(t, err, errs.NoSpace, "10.1.2.0/29", "blue")
	if doc := claim(t, d, living); doc.Links[0].Addresses[0].String() != "10.1.2.5/29" { // its own, of a start that was killed
		t.Errorf("its own address: %v", doc.Links[0].Addresses)
	}
}

// lease is the model of one network: who has which address.
type lease struct {
	t      *rapid.T
	d      network.Dirs
	subnet network.Subnet
	live   map[netip.Addr]*spec.Container
	rested []netip.Addr // free ones, those that have been so for longest first
	outer  testing.TB
}

func (m *lease) take(want netip.Addr) {
	c := box(m.outer, m.d, "c", spec.Attachment{Network: "n", IP4: want})
	doc, err := network.Claim(m.d, c, nil, network.Names{})
	if want.IsValid() && m.live[want] != nil {
		if !errs.Is(err, errs.Busy) {
			m.t.Fatalf("a taken address: %v", err)
		}
		return
	}
	if !want.IsValid() && len(m.rested) == 0 {
		if !errs.Is(err, errs.NoSpace) {
			m.t.Fatalf("no address is left: %v", err)
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	a := doc.Links[0].Addresses[0].Addr()
	switch p := m.subnet.Subnet; {
	case m.live[a] != nil:
		m.t.Fatalf("%v was given twice", a)
	case want.IsValid() && a != want:
		m.t.Fatalf("%v, and %v was wanted", a, want)
	case !want.IsValid() && m.subnet.Range.IsValid() && !m.subnet.Range.Contains(a), !p.Contains(a), a == p.Addr(), a == m.subnet.Gateway, !p.Contains(a.Next()):
		m.t.Fatalf("%v of %+v", a, m.subnet)
	}
	m.live[a] = c
	m.rested = slices.DeleteFunc(m.rested, func(r netip.Addr) bool { return r == a })
}

// TestAddresses claims and lets go in any order, and compares with a model.
func TestAddresses(t *testing.T) {
	apart(t)
	rapid.Check(t, func(rt *rapid.T) {
		d := network.Dirs{Root: t.TempDir(), Run: t.TempDir()}
		bits := rapid.IntRange(26, 30).Draw(rt, "bits")
		p := netip.PrefixFrom(netip.MustParseAddr("10.1.2.128"), bits).Masked()
		r := network.Request{Name: "n", Subnets: []netip.Prefix{p}}
		if rapid.Bool().Draw(rt, "ranged") {
			r.Ranges = []netip.Prefix{netip.PrefixFrom(p.Addr(), rapid.IntRange(bits, 31).Draw(rt, "range"))}
		}
		n := create(t, d, r)
		m := &lease{t: rt, d: d, subnet: n.Subnets[0], live: map[netip.Addr]*spec.Container{}, outer: t}
		pool := p
		if n.Subnets[0].Range.IsValid() {
			pool = n.Subnets[0].Range
		}
		var all []netip.Addr
		for a := p.Addr().Next(); p.Contains(a.Next()); a = a.Next() {
			if a != n.Subnets[0].Gateway {
				all = append(all, a)
				if pool.Contains(a) {
					m.rested = append(m.rested, a)
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"claim": func(rt *rapid.T) { m.t = rt; m.take(netip.Addr{}) },
			"claim one": func(rt *rapid.T) {
				m.t = rt
				if len(all) == 0 {
					rt.Skip("no address")
				}
				m.take(rapid.SampledFrom(all).Draw(rt, "address"))
			},
			"forget": func(rt *rapid.T) {
				for a, c := range m.live {
					if err := network.Forget(d, c.ID); err != nil {
						rt.Fatal(err)
					}
					left(t, d, c.ID)
					delete(m.live, a)
					if pool.Contains(a) {
						m.rested = append(m.rested, a)
					}
					return
				}
			},
			"": func(rt *rapid.T) {
				docs, err := network.Documents(d)
				if err != nil || len(docs) != len(m.live) || len(tree(t, filepath.Join(d.Run, "net/on/n/at"))) != len(m.live) {
					rt.Fatalf("%d documents, %v; want %d", len(docs), err, len(m.live))
				}
			},
		})
	})
}

// TestRest sees that an address which was let go is the last to be given again.
func TestRest(t *testing.T) {
	apart(t)
	for _, subnet := range []string{"10.1.2.0/27", "fd00:1::/123"} {
		d := dirs(t)
		create(t, d, network.Request{Name: "n", Subnets: prefixes(subnet)})
		at := func(doc *wiring.Document) netip.Addr {
			return doc.Links[0].Addresses[len(doc.Links[0].Addresses)-1].Addr()
		}
		c := box(t, d, "c", spec.Attachment{Network: "n"})
		released := at(claim(t, d, c))
		if err := network.Forget(d, c.ID); err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			doc := claim(t, d, box(t, d, "d", spec.Attachment{Network: "n"}))
			if at(doc) != released {
				continue
			}
			if want := 32 - 3 - 1; i < want { // without the network, the gateway, what was let go and, in IPv4, the broadcast address
				t.Errorf("%v was given again after %d others, want %d", released, i, want)
			}
			break
		}
	}
}

// TestTurnover claims and forgets in many goroutines on few addresses: nobody has one that another still has.
func TestTurnover(t *testing.T) {
	apart(t)
	d := dirs(t)
	create(t, d, network.Request{Name: "n", Subnets: prefixes("10.1.2.0/28")})
	var mu sync.Mutex
	has := map[netip.Addr]spec.ContainerID{}
	var wait sync.WaitGroup
	for i := range 24 {
		wait.Go(func() {
			c := box(t, d, fmt.Sprint("c", i), spec.Attachment{Network: "n", Aliases: []string{"all"}})
			for range 40 {
				doc, err := network.Claim(d, c, nil, network.Names{})
				if errs.Is(err, errs.NoSpace) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				a := doc.Links[0].Addresses[0].Addr()
				mu.Lock()
				if other, taken := has[a]; taken {
					t.Errorf("%v is %s's and %s's", a, other.Short(), c.ID.Short())
				}
				has[a] = c.ID
				mu.Unlock()
				mu.Lock()
				delete(has, a)
				mu.Unlock()
				if err := network.Forget(d, c.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	for path := range tree(t, filepath.Join(d.Run, "net")) {
		if !strings.HasPrefix(filepath.Base(path), "next") {
			t.Errorf("left: %s", path)
		}
	}
}
