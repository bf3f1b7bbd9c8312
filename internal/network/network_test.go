package network_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/hostnet"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

func dirs(t *testing.T) network.Dirs {
	t.Helper()
	return network.Dirs{Root: filepath.Join(t.TempDir(), "root"), Run: filepath.Join(t.TempDir(), "run")}
}

// apart runs a test in a network namespace of its own, with nothing but a loopback that is down. Its thread ends with it.
func apart(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace: ", err)
	}
}

func prefixes(text ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// mentions fails unless err has the kind, and says each of the words.
func mentions(t *testing.T, err error, kind errs.Kind, words ...string) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Fatalf("%v: of kind %v, want %v", err, errs.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+" hint: "+errs.HintOf(err), w) {
			t.Errorf("%q (hint %q) does not mention %q", err, errs.HintOf(err), w)
		}
	}
}

func TestCreate(t *testing.T) {
	apart(t)
	d := dirs(t)
	n, err := network.Create(d, network.Request{Name: "blue", IPv6: true, Labels: map[string]string{"a": "b"}, Options: map[string]string{
		"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.enable_icc": "false", "firewall": "respect", "vlan": "7"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Subnets) != 2 || n.Subnets[0].Subnet.Bits() != 24 || n.Subnets[0].Gateway != n.Subnets[0].Subnet.Addr().Next() {
		t.Errorf("subnets %v", n.Subnets)
	}
	if p := n.Subnets[1].Subnet; p.Bits() != 64 || p.Addr().As16()[0] != 0xfd {
		t.Errorf("no ULA: %v", p)
	}
	if want := map[string]string{"mtu": "1400", "isolate": "true", "firewall": "respect", "vlan": "7"}; !reflect.DeepEqual(n.Options, want) {
		t.Errorf("options %v, want %v", n.Options, want)
	}
	if n.Bridge != "ct-"+n.ID[:10] {
		t.Errorf("bridge %q", n.Bridge)
	}
	for _, ref := range []string{"blue", n.ID, n.ID[:5]} {
		if found, err := network.Find(d, ref); err != nil || !reflect.DeepEqual(found, n) {
			t.Errorf("find %s: %v, %v; want %v", ref, found, err, n)
		}
	}
	if next, err := network.Create(d, network.Request{Name: "next"}); err != nil || next.Subnets[0].Subnet.Overlaps(n.Subnets[0].Subnet) {
		t.Errorf("the next one: %v, %v", next.Subnets, err)
	}
	_, err = network.Create(d, network.Request{Name: "blue"})
	mentions(t, err, errs.Exists, "blue", "network rm blue")
	_, err = network.Find(d, "red")
	mentions(t, err, errs.NotFound, "red", "network ls")
	_, err = network.Find(d, "../networks/blue")
	mentions(t, err, errs.NotFound)
	if all, err := network.List(d); err != nil || len(all) != 2 || all[0].Name != "blue" {
		t.Errorf("list: %v, %v", all, err)
	}
	if err := network.Remove(d, n.ID[:8]); err != nil {
		t.Error(err)
	}
	mentions(t, network.Remove(d, "blue"), errs.NotFound)
	if _, err := network.Default(d); err != nil {
		t.Error(err)
	}
	mentions(t, network.Remove(d, "bridge"), errs.Invalid)
}

func TestCreateRefuses(t *testing.T) {
	apart(t)
	d := dirs(t)
	if _, err := network.Create(d, network.Request{Name: "taken", Subnets: prefixes("10.9.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	lan := func(r network.Request) network.Request {
		r.Driver, r.Options = wiring.Macvlan, map[string]string{"parent": "lo"}
		return r
	}
	if _, err := network.Create(d, lan(network.Request{Name: "lan", Subnets: prefixes("192.168.1.0/24")})); err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	for what, c := range map[string]struct {
		r     network.Request
		kind  errs.Kind
		words []string
	}{
		"no name":        {network.Request{}, errs.Invalid, nil},
		"a slash":        {network.Request{Name: "a/b"}, errs.Invalid, nil},
		"a word":         {network.Request{Name: "host"}, errs.Invalid, []string{"--network host"}},
		"the default":    {network.Request{Name: "bridge"}, errs.Exists, nil},
		"driver":         {network.Request{Name: "n", Driver: "overlay"}, errs.Invalid, []string{"overlay", "macvlan"}},
		"option":         {network.Request{Name: "n", Options: map[string]string{"com.docker.network.bridge.gateway_mode_ipv4": "routed"}}, errs.Invalid, []string{"gateway_mode_ipv4", "isolate, mtu, vlan"}},
		"other's option": {network.Request{Name: "n", Options: map[string]string{"parent": "eth0"}}, errs.Invalid, []string{"parent"}},
		"mtu":            {network.Request{Name: "n", Options: map[string]string{"mtu": "65536"}}, errs.Invalid, []string{"mtu=65536", "65535"}},
		"mtu for IPv6":   {network.Request{Name: "n", IPv6: true, Options: map[string]string{"mtu": "1279"}}, errs.Invalid, []string{"1280"}},
		"vlan":           {network.Request{Name: "n", Options: map[string]string{"vlan": "4095"}}, errs.Invalid, nil},
		"firewall":       {network.Request{Name: "n", Options: map[string]string{"firewall": "on"}}, errs.Invalid, []string{"respect"}},
		"bridge name":    {network.Request{Name: "n", Options: map[string]string{"com.docker.network.bridge.name": "a name much too long"}}, errs.Invalid, nil},
		"host bits":      {network.Request{Name: "n", Subnets: prefixes("10.1.2.3/24")}, errs.Invalid, []string{"10.1.2.0/24"}},
		"too small":      {network.Request{Name: "n", Subnets: prefixes("10.1.2.0/31")}, errs.Invalid, nil},
		"loopback":       {network.Request{Name: "n", Subnets: prefixes("127.1.0.0/16")}, errs.Invalid, nil},
		"multicast":      {network.Request{Name: "n", Subnets: prefixes("ff02::/64")}, errs.Invalid, nil},
		"mapped":         {network.Request{Name: "n", Subnets: prefixes("::ffff:10.0.0.0/112")}, errs.Invalid, nil},
		"two":            {network.Request{Name: "n", Subnets: prefixes("10.1.0.0/24", "10.2.0.0/24")}, errs.Invalid, nil},
		"gateway":        {network.Request{Name: "n", Subnets: prefixes("10.1.0.0/24"), Gateways: []netip.Addr{addr("10.1.1.1")}}, errs.Invalid, []string{"10.1.1.1"}},
		"broadcast":      {network.Request{Name: "n", Subnets: prefixes("10.1.0.0/24"), Gateways: []netip.Addr{addr("10.1.0.255")}}, errs.Invalid, nil},
		"range":          {network.Request{Name: "n", Subnets: prefixes("10.1.0.0/24"), Ranges: prefixes("10.2.0.0/25")}, errs.Invalid, nil},
		"wide range":     {network.Request{Name: "n", Subnets: prefixes("10.1.0.0/24"), Ranges: prefixes("10.1.0.0/16")}, errs.Invalid, nil},
		"overlap":        {network.Request{Name: "n", Subnets: prefixes("10.9.8.0/24")}, errs.Exists, []string{"taken"}},
		"same wire":      {lan(network.Request{Name: "n", Subnets: prefixes("192.168.1.128/25")}), errs.Exists, []string{"lan"}},
		"no parent":      {network.Request{Name: "n", Driver: wiring.Ipvlan, Subnets: prefixes("10.1.0.0/24")}, errs.Invalid, []string{"parent=eth0"}},
		"its mode":       {network.Request{Name: "n", Driver: wiring.Ipvlan, Options: map[string]string{"parent": "lo", "macvlan_mode": "vepa"}}, errs.Invalid, []string{"macvlan_mode"}},
		"missing parent": {network.Request{Name: "n", Driver: wiring.Macvlan, Subnets: prefixes("10.1.0.0/24"), Options: map[string]string{"parent": "eth7"}}, errs.NotFound, []string{"eth7"}},
		"no subnet":      {lan(network.Request{Name: "n"}), errs.Invalid, []string{"--subnet"}},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := network.Create(d, c.r)
			mentions(t, err, c.kind, c.words...)
			if errs.HintOf(err) == "" && what != "no name" {
				t.Logf("no hint: %v", err)
			}
		})
	}
	if all, err := network.List(d); err != nil || len(all) != 2 {
		t.Errorf("%d networks, %v", len(all), err)
	}
}

// TestDefaultRace has many make the default network at once, while others make and remove one of their own.
func TestRaces(t *testing.T) {
	apart(t)
	d := dirs(t)
	var wait sync.WaitGroup
	ids := make([]string, 50)
	var made, removed sync.Map
	for i := range ids {
		wait.Go(func() {
			n, err := network.Default(d)
			if err != nil {
				t.Error(err)
			}
			ids[i] = n.ID
		})
		wait.Go(func() {
			n, err := network.Create(d, network.Request{Name: fmt.Sprint("n", i%10)})
			switch {
			case err == nil:
				made.Store(n.ID, true)
			case !errs.Is(err, errs.Exists):
				t.Error(err)
			}
		})
		wait.Go(func() {
			n, err := network.Find(d, fmt.Sprint("n", i%10))
			if err != nil {
				return
			}
			if err := network.Remove(d, n.Name); err == nil {
				removed.Store(i, true)
			} else if !errs.Is(err, errs.NotFound) {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if u := slices.Compact(slices.Clone(ids)); len(u) != 1 {
		t.Errorf("%d default networks", len(u))
	}
	count := func(m *sync.Map) (n int) { m.Range(func(any, any) bool { n++; return true }); return n }
	all, err := network.List(d)
	if err != nil || len(all)-1 != count(&made)-count(&removed) {
		t.Errorf("%d networks, made %d, removed %d, %v", len(all), count(&made), count(&removed), err)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Subnets[0].Subnet.Overlaps(b.Subnets[0].Subnet) {
				t.Errorf("%s and %s overlap", a.Name, b.Name)
			}
		}
	}
}

func FuzzFile(f *testing.F) {
	good, _ := json.Marshal(network.Network{Version: 1, Name: "fuzz", ID: strings.Repeat("0a", 32), Created: time.Unix(1, 0), Driver: wiring.Bridge, Bridge: "ct-0",
		Subnets: []network.Subnet{{Subnet: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.1"), Range: netip.MustParsePrefix("10.1.0.128/25")}}})
	f.Add(good)
	for _, change := range [][2]string{
		{`"version":1`, `"version":2`}, {`"fuzz"`, `"../x"`}, {`10.1.0.0/24`, `10.1.0.0/33`}, {`10.1.0.0/24`, `0.0.0.0/0`}, {`"gateway":"10.1.0.1",`, ``},
		{`10.1.0.1"`, `fe80::1%eth0"`}, {`10.1.0.128/25`, `::/0`}, {`"ct-0"`, `"../../etc"`}, {`bridge"`, `cni"`}, {`"subnets":[`, `"subnets":[null,`}, {`{`, `[`},
		{`"created":`, `"options":{"mtu":"-1"},"created":`}} {
		f.Add([]byte(strings.Replace(string(good), change[0], change[1], 1)))
	}
	d := network.Dirs{Root: f.TempDir(), Run: f.TempDir()}
	if err := os.Mkdir(filepath.Join(d.Root, "networks"), 0o700); err != nil {
		f.Fatal(err)
	}
	c := &spec.Container{ID: "f", Name: "f", Networking: spec.Networking{Attachments: []spec.Attachment{{Network: "fuzz"}}}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(d.Root, "networks/fuzz.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := network.Find(d, "fuzz")
		if err != nil {
			if k := errs.KindOf(err); k != errs.Corrupt && k != errs.Unsupported {
				t.Errorf("%v is of kind %v", err, k)
			}
			return
		}
		doc, err := network.Likely(d, c, nil, network.Names{})
		if err != nil {
			return
		}
		for _, l := range doc.Links {
			for i, a := range l.Addresses {
				if !n.Subnets[i].Subnet.Contains(a.Addr()) || a.Addr() == n.Subnets[i].Gateway {
					t.Errorf("%v of %+v", a, n.Subnets[i])
				}
			}
		}
	})
}

func TestHostile(t *testing.T) {
	d := dirs(t)
	put := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put(d.Root+"/networks/a.json", `{"version":1,"name":"b"}`)
	put(d.Root+"/networks/v.json", `{"version":2,"name":"v"}`)
	put(d.Root+"/networks/.tmp-1", `no`)
	put(d.Root+"/networks/notes", `no`)
	_, err := network.Find(d, "a")
	mentions(t, err, errs.Corrupt, "a.json")
	_, err = network.Find(d, "v")
	mentions(t, err, errs.Unsupported, "newer Corten")
	all, err := network.List(d)
	if len(all) != 0 || err == nil {
		t.Errorf("list: %v, %v", all, err)
	}
	put(d.Run+"/net/wired/"+strings.Repeat("1", 64), `{"version":1,"id":"2"}`)
	put(d.Run+"/net/wired/"+strings.Repeat("3", 64), `{`)
	docs, err := network.Documents(d)
	if len(docs) != 0 || err == nil {
		t.Errorf("documents: %v, %v", docs, err)
	}
	if err := network.Forget(d, spec.ContainerID(strings.Repeat("3", 64))); err != nil {
		t.Error(err)
	}
	if _, ok, err := network.Document(d, spec.ContainerID(strings.Repeat("3", 64))); ok || err != nil {
		t.Errorf("a document is left: %v", err)
	}
	mentions(t, network.Forget(d, "../../x"), errs.Invalid)
	mentions(t, network.Forget(d, ""), errs.Invalid)
}

// TestRoutes sees that subnets keep clear of what the host reaches already.
func TestRoutes(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no ip")
	}
	apart(t)
	for _, args := range []string{
		"link add lan type bridge", "link set lan up", "link add ct-0123456789 type bridge", "link set ct-0123456789 up",
		"addr add 10.134.1.9/23 dev lan", "addr add 10.133.7.1/24 dev lan", "addr add fd00:9::1/64 dev lan nodad", "addr add 10.77.0.1/24 dev ct-0123456789",
		"route add 10.140.0.0/14 via 10.134.1.1", "route add 172.30.5.0/24 via 10.134.1.1",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v: %s", args, err, out)
		}
	}
	d := dirs(t)
	routes, err := hostnet.Routes()
	if err != nil {
		t.Fatal(err)
	}
	if def, user := network.Usual(routes); def.String() != "10.136.0.0/16" || user.String() != "10.134.2.0/24" {
		t.Errorf("the first free ones: %v, %v", def, user)
	}
	for subnet, ok := range map[string]bool{
		"10.134.1.0/24":    false, // part of the host's own
		"172.16.0.0/12":    false, // all around one
		"172.30.0.0/16":    false, // a route to a part of it
		"172.30.5.0/24":    false,
		"fd00:9::/56":      false,
		"10.141.1.0/24":    true, // a part of what a router reaches
		"10.77.0.0/24":     true, // of a bridge of ours that goes
		"192.168.200.0/24": true,
	} {
		_, err := network.Create(d, network.Request{Name: "b", Subnets: prefixes(subnet)})
		if ok && err != nil {
			t.Errorf("%s: %v", subnet, err)
		}
		if !ok {
			mentions(t, err, errs.Exists, subnet, "the host's route", "by lan")
		}
		_ = network.Remove(d, "b")
	}
	lan := map[string]string{"parent": "lan"}
	create(t, d, network.Request{Name: "c", Driver: wiring.Macvlan, Subnets: prefixes("10.134.0.0/23"), Options: lan}) // that of its parent
}
