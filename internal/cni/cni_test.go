package cni_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// here is folders with configurations by their files' names, and with plugins.
func here(t *testing.T, configs map[string]string, plugins ...string) cni.Where {
	t.Helper()
	w := cni.Where{Configs: t.TempDir(), Programs: []string{t.TempDir(), t.TempDir()}}
	for name, text := range configs {
		if err := os.WriteFile(filepath.Join(w.Configs, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range plugins {
		if err := os.WriteFile(filepath.Join(w.Programs[i%2], name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

const (
	list   = `{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}, "capabilities": {"ips": true}}, {"type": "portmap", "capabilities": {"portMappings": true, "mac": false}}]}`
	single = `{"cniVersion": "0.4.0", "name": "one", "type": "ptp", "mtu": 1400}`
)

func TestList(t *testing.T) {
	w := here(t, map[string]string{"20-b.conflist": list, "10-a.conf": single, "30-again.json": `{"name": "lab", "type": "other"}`,
		"notes.txt": "no configuration", "40-bad.conf": "{", "50-empty.conf": `{"name": "x"}`, "60-path.conf": `{"name": "x", "type": "../bin/sh"}`,
		"70-ipam.conf": `{"name": "x", "type": "a", "ipam": {"type": "/bin/sh"}}`})
	all, err := w.List()
	var got []string
	for _, c := range all {
		got = append(got, c.Network()+" "+strings.Join(c.Types(), ","))
	}
	if want := []string{"cni:one ptp", "cni:lab bridge,portmap"}; !slices.Equal(got, want) {
		t.Errorf("networks %q, want %q", got, want)
	}
	for _, file := range []string{"40-bad.conf", "50-empty.conf", "60-path.conf", "70-ipam.conf"} {
		if err == nil || !strings.Contains(err.Error(), filepath.Join(w.Configs, file)) {
			t.Errorf("%v does not name %s", err, file)
		}
	}
	if all, err := (cni.Where{Configs: "/nonexistent"}).List(); len(all) > 0 || err != nil {
		t.Errorf("no folder: %v, %v", all, err)
	}
}

func TestLink(t *testing.T) {
	w := here(t, map[string]string{"lab.conflist": list, "one.conf": single}, "bridge", "host-local", "portmap")
	l, err := w.Link(spec.Attachment{Network: "cni:lab", IP4: netip.MustParseAddr("10.1.2.3")}, spec.Rate{})
	if err != nil {
		t.Fatal(err)
	}
	p := l.Plugins
	if l.Driver != wiring.CNI || l.Network != "cni:lab" || p.File != filepath.Join(w.Configs, "lab.conflist") || !slices.Equal(p.Types, []string{"bridge", "portmap"}) ||
		!slices.Equal(p.Path, w.Programs) || len(p.IPs) != 1 {
		t.Errorf("link %+v of %+v", l, p)
	}
	for _, x := range []struct {
		a    spec.Attachment
		rate spec.Rate
		kind errs.Kind
		says string
	}{
		{spec.Attachment{Network: "cni:two"}, spec.Rate{}, errs.NotFound, "no file in " + w.Configs},
		{spec.Attachment{Network: "cni:one"}, spec.Rate{}, errs.NotFound, "find plugin: ptp: " + filepath.Join(w.Configs, "one.conf")},
		{spec.Attachment{Network: "cni:lab", MAC: "02:00:00:00:00:01"}, spec.Rate{}, errs.Unsupported, "hardware address"},
		{spec.Attachment{Network: "cni:lab"}, spec.Rate{In: 1}, errs.Unsupported, "rate"},
	} {
		_, err := w.Link(x.a, x.rate)
		if !errs.Is(err, x.kind) || errs.HintOf(err) == "" || !strings.Contains(strings.ReplaceAll(err.Error(), "plugin ptp", "plugin: ptp"), x.says) {
			t.Errorf("%+v: %v (hint %q)", x.a, err, errs.HintOf(err))
		}
	}
}

// A configuration of a single plugin becomes a list, as plugins of a list are told of one another.
func TestSingleIsAList(t *testing.T) {
	w := here(t, map[string]string{"one.conf": single}, "ptp")
	l, err := w.Link(spec.Attachment{Network: "cni:one"}, spec.Rate{})
	var got struct {
		Name, CNIVersion string
		Plugins          []struct {
			Type string
			MTU  int
		}
	}
	if err == nil {
		err = json.Unmarshal(l.Plugins.Config, &got)
	}
	if err != nil || got.Name != "one" || got.CNIVersion != "0.4.0" || len(got.Plugins) != 1 || got.Plugins[0].Type != "ptp" || got.Plugins[0].MTU != 1400 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPorts(t *testing.T) {
	w := here(t, map[string]string{"lab.conflist": list, "one.conf": single}, "bridge", "host-local", "portmap", "ptp")
	link := func(network string) wiring.Link {
		l, err := w.Link(spec.Attachment{Network: network}, spec.Rate{})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	port := spec.Port{Service: spec.Service{Protocol: spec.TCP, Port: 80}, HostPort: 8080}
	if _, err := cni.Forwards([]wiring.Link{link("cni:one")}, []spec.Port{port}, nil); !errs.Is(err, errs.Unsupported) || errs.HintOf(err) == "" {
		t.Errorf("ports without a plugin for them: %v", err)
	}
	d := &wiring.Document{Name: "web", Links: []wiring.Link{link("cni:one"), link("cni:lab")}}
	var err error
	if d.Ports, err = cni.Forwards(d.Links, []spec.Port{port}, nil); err != nil || len(d.Ports) != 2 {
		t.Fatalf("forwards %v, %v", d.Ports, err)
	}
	if len(cni.PortsOf(d, 0)) != 0 || len(cni.PortsOf(d, 1)) != 2 {
		t.Error("plugins of another link are told of the ports")
	}
	cni.Done{Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}}.Apply(d, 0)
	cni.Done{Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/24")}}.Apply(d, 1)
	if len(d.Ports) != 1 || d.Ports[0].To != netip.MustParseAddr("10.1.2.3") {
		t.Errorf("with an address of IPv4: %v", d.Ports)
	}
	local := port
	local.HostIP = netip.MustParseAddr("127.0.0.1")
	if _, err := cni.Forwards(d.Links, []spec.Port{local}, []*wiring.Document{d}); !errs.Is(err, errs.Busy) || !strings.Contains(err.Error(), "web") {
		t.Errorf("a port that another container has: %v", err)
	}
	local.Protocol = spec.UDP
	if _, err := cni.Forwards(d.Links, []spec.Port{local}, []*wiring.Document{d}); err != nil {
		t.Errorf("the same number of another protocol: %v", err)
	}
}

func TestLeftovers(t *testing.T) {
	run, id := t.TempDir(), spec.ContainerID("0a")
	if l, err := cni.LeftOf(run, id); l != nil || l.Err() != nil || err != nil {
		t.Errorf("nothing is left: %v, %v", l, err)
	}
	if _, some := cni.Tried(run); some {
		t.Error("something is left before anything was")
	}
	if err := (cni.Leftover{Document: &wiring.Document{ID: id, Name: "web"}, Reason: "it would not"}).Keep(run); err != nil {
		t.Fatal(err)
	}
	l, err := cni.LeftOf(run, id)
	if err != nil || l == nil || !strings.Contains(l.Err().Error(), "it would not") || errs.HintOf(l.Err()) == "" {
		t.Errorf("left is %+v, %v", l, err)
	}
	if _, some := cni.Tried(run); !some || len(cni.Leftovers(run)) != 1 {
		t.Error("what is left is not listed")
	}
	for range 2 {
		if err := cni.Forget(run, id); err != nil {
			t.Error(err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, text := range []string{list, single, "{}", "[]", `{"name":"a","plugins":[null]}`, `{"name":"a","type":"b","capabilities":null,"ipam":null}`, `{"name":"a","plugins":[{"type":""}]}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := cni.Parse(text)
		if err != nil {
			return
		}
		if c.Name == "" || len(c.Types()) == 0 {
			t.Errorf("a network without name or plugins: %+v", c)
		}
		for _, p := range c.Types() {
			if p == "" || filepath.Base(p) != p || p == ".." {
				t.Errorf("a plugin %q is no program's name", p)
			}
		}
	})
}
