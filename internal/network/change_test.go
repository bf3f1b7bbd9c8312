package network_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

func TestChange(t *testing.T) {
	apart(t)
	d := dirs(t)
	create(t, d, network.Request{Name: "dark", Subnets: prefixes("10.1.1.0/24"), Internal: true})
	create(t, d, network.Request{Name: "blue", Subnets: prefixes("10.1.2.0/24")})
	create(t, d, network.Request{Name: "red", Subnets: prefixes("10.1.3.0/24")})
	c := box(t, d, "web", spec.Attachment{Network: "dark"}, spec.Attachment{Network: "blue"})
	ports := []spec.Port{{Service: spec.Service{Protocol: spec.TCP, Port: 80}, HostPort: 8080}}
	first, err := network.Claim(d, c, ports, network.Names{Wanted: true})
	if err != nil {
		t.Fatal(err)
	}
	held := func(n string) []string { // who is on a network, by claims and names
		var out []string
		for path := range tree(t, filepath.Join(d.Run, "net/on", n)) {
			if !strings.HasPrefix(path, "next") {
				out = append(out, path)
			}
		}
		slices.Sort(out)
		return out
	}

	red := spec.Attachment{Network: "red", Aliases: []string{"alias"}, Rate: spec.Rate{In: 1}}
	doc, err := network.Extend(d, c, red)
	if err != nil {
		t.Fatal(err)
	}
	l := doc.Links[2]
	if l.Interface != "eth2" || !slices.Equal(l.Addresses, prefixes("10.1.3.2/24")) || l.Gateways != nil || doc.Start != first.Start || !slices.Contains(doc.Resolver.Networks, "red") || l.Rate.In != 1 {
		t.Errorf("the new link: %+v, resolver %+v", l, doc.Resolver)
	}
	if !reflect.DeepEqual(doc.Links[:2], first.Links) || !reflect.DeepEqual(doc.Ports, first.Ports) {
		t.Error("the other links are not what they were")
	}
	if read, _, err := network.Document(d, c.ID); err != nil || !reflect.DeepEqual(read, doc) {
		t.Errorf("the document: %+v, %v", read, err)
	}
	if docs, err := network.Documents(d); err != nil || len(docs) != 1 {
		t.Errorf("%d documents, %v", len(docs), err)
	}
	_, err = network.Extend(d, c, red)
	mentions(t, err, errs.Invalid, "already")
	if err := network.Settle(d, c.ID); err != nil {
		t.Error(err)
	}
	if got := held("red"); len(got) != 4 {
		t.Errorf("after it is settled: %v", got)
	}

	if doc, err = network.Shrink(d, c.ID, "blue"); err != nil {
		t.Fatal(err)
	}
	if got := doc.Links[1]; got.Network != "red" || !slices.Equal(got.Gateways, []netip.Addr{netip.MustParseAddr("10.1.3.1")}) || doc.Ports[0].To.String() != "10.1.3.2" {
		t.Errorf("without blue: %+v, ports %v", got, doc.Ports)
	}
	if got := held("blue"); !slices.Equal(got, []string{"at/10.1.2.2"}) {
		t.Errorf("its address is the container's until it is settled, its names are not: %v", got)
	}
	if err := network.Settle(d, c.ID); err != nil || len(held("blue")) != 0 {
		t.Errorf("settled: %v, %v", held("blue"), err)
	}
	if doc, err = network.Shrink(d, c.ID, "red"); err != nil || len(doc.Ports) != 0 || !doc.Resolver.Alone {
		t.Errorf("with no way out: %+v, %v", doc, err)
	}
	_, err = network.Shrink(d, c.ID, "red")
	mentions(t, err, errs.NotFound, "red")

	c.Networking.Rate = spec.Rate{Out: 9}
	if doc, err = network.Rates(d, c); err != nil || doc.Links[0].Rate.Out != 9 {
		t.Errorf("rates: %+v, %v", doc, err)
	}
	if err := network.Forget(d, c.ID); err != nil {
		t.Error(err)
	}
	left(t, d, c.ID)
	if len(held("red")) != 0 {
		t.Errorf("left: %v", held("red"))
	}
	_, err = network.Extend(d, c, red)
	mentions(t, err, errs.NotFound, "start it first")
	if len(held("red")) != 0 {
		t.Errorf("left: %v", held("red"))
	}
	if err := network.Settle(d, c.ID); err != nil {
		t.Error(err)
	}
}

// TestKilledChange has a change end between its claims and the document.
func TestKilledChange(t *testing.T) {
	apart(t)
	for _, end := range []func(network.Dirs, spec.ContainerID) error{network.Forget, func(d network.Dirs, id spec.ContainerID) error {
		if err := network.Settle(d, id); err != nil {
			return err
		}
		_, err := network.Shrink(d, id, "blue")
		return err
	}} {
		d := dirs(t)
		create(t, d, network.Request{Name: "blue"})
		create(t, d, network.Request{Name: "red"})
		c := box(t, d, "web", spec.Attachment{Network: "blue"})
		claim(t, d, c)
		before, err := os.ReadFile(filepath.Join(d.Run, "net/wired", string(c.ID)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := network.Extend(d, c, spec.Attachment{Network: "red"}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.Run, "net/wired", string(c.ID)), before, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := end(d, c.ID); err != nil {
			t.Fatal(err)
		}
		for path := range tree(t, filepath.Join(d.Run, "net/on/red")) {
			if !strings.HasPrefix(path, "next") {
				t.Errorf("left: %s", path)
			}
		}
	}
}

func BenchmarkClaim(b *testing.B) {
	run, err := os.MkdirTemp("/dev/shm", "claim") // a tmpfs, as /run is
	if err != nil {
		b.Skip(err)
	}
	defer os.RemoveAll(run)
	d := network.Dirs{Root: b.TempDir(), Run: run}
	if _, err := network.Default(d); err != nil {
		b.Fatal(err)
	}
	c := box(b, d, "web", spec.Attachment{Network: "bridge"})
	ports := []spec.Port{{Service: spec.Service{Protocol: spec.TCP, Port: 80}, HostPort: 8080}}
	var doc *wiring.Document
	b.Run("claim", func(b *testing.B) {
		for b.Loop() {
			if doc, err = network.Claim(d, c, ports, network.Names{}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := network.ForgetStart(d, doc); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("both", func(b *testing.B) {
		for b.Loop() {
			if doc, err = network.Claim(d, c, ports, network.Names{}); err != nil {
				b.Fatal(err)
			}
			if err := network.ForgetStart(d, doc); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestRename(t *testing.T) {
	apart(t)
	d := dirs(t)
	create(t, d, network.Request{Name: "blue", Subnets: prefixes("10.1.2.0/24")})
	c := box(t, d, "web", spec.Attachment{Network: "blue", Aliases: []string{"site"}})
	if err := network.Rename(d, c); err != nil {
		t.Error("one that is not connected: ", err)
	}
	first, err := network.Claim(d, c, nil, network.Names{Wanted: true})
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, d.Run)
	c.Name = "shop"
	for range 2 {
		if err := network.Rename(d, c); err != nil {
			t.Fatal(err)
		}
	}
	doc, _, err := network.Document(d, c.ID)
	if err != nil || doc.Name != "shop" || !slices.Contains(doc.Links[0].Names, "shop") || slices.Contains(doc.Links[0].Names, "web") || doc.Start != first.Start {
		t.Errorf("%+v, %v", doc, err)
	}
	now := tree(t, d.Run)
	names := func(of string) string { return filepath.Join("net/on/blue/names", of, string(c.ID)) }
	if now[names("shop")] != "10.1.2.2" || now[names("site")] != "10.1.2.2" || now[names("web")] != "" || len(now) != len(before) {
		t.Errorf("%v", now)
	}
	if got := now["net/on/blue/at/10.1.2.2"]; got != string(c.ID)+" shop" {
		t.Errorf("the claim: %q", got)
	}
	if err := network.Forget(d, c.ID); err != nil {
		t.Fatal(err)
	}
	for path := range tree(t, filepath.Join(d.Run, "net")) {
		if !strings.HasPrefix(path, "on/blue/next") {
			t.Errorf("left: %s", path)
		}
	}
}
