package netflags

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// parse reads flags of networks.
func parse(args ...string) (*spec.Container, string, error) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	var f Flags
	f.Bind(fs, nil)
	if err := fs.Parse(args); err != nil {
		return nil, "", err
	}
	c := &spec.Container{}
	warning, err := f.Fill(c)
	return c, warning, err
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func TestNetworks(t *testing.T) {
	on := func(list ...spec.Attachment) []spec.Attachment { return list }
	for args, want := range map[string]struct {
		net spec.Namespace
		on  []spec.Attachment
	}{
		"":                            {on: on(spec.Attachment{Network: "bridge"})},
		"--network bridge":            {on: on(spec.Attachment{Network: "bridge"})},
		"--net default":               {on: on(spec.Attachment{Network: "bridge"})},
		"--network none":              {net: spec.Namespace{Mode: spec.None}},
		"--network host":              {net: spec.Namespace{Mode: spec.Host}},
		"--network name=host":         {net: spec.Namespace{Mode: spec.Host}},
		"--network container:web":     {net: spec.Namespace{Mode: spec.Of, Path: "web"}},
		"--network ns:/run//netns/a":  {net: spec.Namespace{Mode: spec.Path, Path: "/run/netns/a"}},
		"--network lab":               {on: on(spec.Attachment{Network: "lab"})},
		"--network lab:":              {on: on(spec.Attachment{Network: "lab"})},
		"--network pasta":             {on: on(spec.Attachment{Network: "pasta"})}, // which connects ordinary users
		"--network name=lab":          {on: on(spec.Attachment{Network: "lab"})},
		"--network lab --network b.c": {on: on(spec.Attachment{Network: "lab"}, spec.Attachment{Network: "b.c"})},
		"--network lab --net bridge":  {on: on(spec.Attachment{Network: "lab"}, spec.Attachment{Network: "bridge"})},
		"--network lab:alias=web,alias=www,ip=10.0.0.5,mac=02:00:00:00:00:0A,interface_name=eth1": {
			on: on(spec.Attachment{Network: "lab", Aliases: []string{"web", "www"}, IP4: ip("10.0.0.5"), MAC: "02:00:00:00:00:0a", Interface: "eth1"})},
		"--network lab:ip=10.0.0.5,ip=fd00::5": {on: on(spec.Attachment{Network: "lab", IP4: ip("10.0.0.5"), IP6: ip("fd00::5")})},
		"--network alias=a,name=lab,ip=10.0.0.5,ip6=fd00::5,mac-address=0200.0000.0001,driver-opt=com.docker.network.endpoint.ifname=x0": {
			on: on(spec.Attachment{Network: "lab", Aliases: []string{"a"}, IP4: ip("10.0.0.5"), IP6: ip("fd00::5"), MAC: "02:00:00:00:00:01", Interface: "x0"})},
		"--network lab:rate-in=10mbit,rate-out=1mbps,burst=32k": {
			on: on(spec.Attachment{Network: "lab", Rate: spec.Rate{In: 10e6, Out: 8e6, Burst: 32 << 10}})},
		"--network lab --ip 10.0.0.5 --ip6 fd00::5 --mac-address 02-00-00-00-00-01 --network-alias a --net-alias b --net-alias a": {
			on: on(spec.Attachment{Network: "lab", IP4: ip("10.0.0.5"), IP6: ip("fd00::5"), MAC: "02:00:00:00:00:01", Aliases: []string{"a", "b"}})},
		"--ip 10.0.0.5": {on: on(spec.Attachment{Network: "bridge", IP4: ip("10.0.0.5")})},
	} {
		c, warning, err := parse(strings.Fields(args)...)
		if err != nil || warning != "" {
			t.Errorf("%s: %v, %s", args, err, warning)
			continue
		}
		equal(t, args, want.net, c.Namespaces.Net)
		equal(t, args, want.on, c.Networking.Attachments)
	}
}

// With the host's network a port has no effect, and Docker only says so.
func TestPortsOfTheHost(t *testing.T) {
	c, warning, err := parse("--network", "host", "-p", "80:80", "-P", "--dns", "9.9.9.9", "--add-host", "a:1.2.3.4")
	if err != nil || !strings.Contains(warning, "--network host") || len(c.Networking.Ports) > 0 || c.Networking.PublishAll {
		t.Errorf("%v, %q, %+v", err, warning, c.Networking)
	}
}

func TestPublish(t *testing.T) {
	tcp := func(host, inside uint16) spec.Port {
		return spec.Port{Service: spec.Service{Protocol: spec.TCP, Port: inside}, HostPort: host}
	}
	at := func(p spec.Port, host string, of spec.Protocol) spec.Port {
		if host != "" {
			p.HostIP = ip(host)
		}
		p.Protocol = of
		return p
	}
	end := func(p spec.Port, last uint16) spec.Port { p.HostEnd = last; return p }
	for text, want := range map[string][]spec.Port{
		"80":                                    {tcp(0, 80)},
		"80/":                                   {tcp(0, 80)},
		":80":                                   {tcp(0, 80)},
		"0:80":                                  {tcp(0, 80)},
		"8080:80":                               {tcp(8080, 80)},
		"8080:80/TCP":                           {tcp(8080, 80)},
		"53:53/udp":                             {at(tcp(53, 53), "", spec.UDP)},
		"9:9/sctp":                              {at(tcp(9, 9), "", spec.SCTP)},
		"127.0.0.1:8080:80":                     {at(tcp(8080, 80), "127.0.0.1", spec.TCP)},
		"127.0.0.1::80":                         {at(tcp(0, 80), "127.0.0.1", spec.TCP)},
		"0.0.0.0:8080:80":                       {at(tcp(8080, 80), "0.0.0.0", spec.TCP)},
		"[::1]:8080:80/udp":                     {at(tcp(8080, 80), "::1", spec.UDP)},
		"[::]::80":                              {at(tcp(0, 80), "::", spec.TCP)},
		"::1:8080:80":                           {at(tcp(8080, 80), "::1", spec.TCP)},
		"fd00::7:8080:80":                       {at(tcp(8080, 80), "fd00::7", spec.TCP)},
		"[::ffff:10.0.0.1]:80:80":               {at(tcp(80, 80), "10.0.0.1", spec.TCP)},
		"80-82":                                 {tcp(0, 80), tcp(0, 81), tcp(0, 82)},
		"8000-8002:80-82":                       {tcp(8000, 80), tcp(8001, 81), tcp(8002, 82)},
		"65534-65535:65534-65535":               {tcp(65534, 65534), tcp(65535, 65535)},
		"8000-8009:80":                          {end(tcp(8000, 80), 8009)},
		"8000-8000:80":                          {tcp(8000, 80)},
		"127.0.0.1:8000-8001:80-81/udp":         {at(tcp(8000, 80), "127.0.0.1", spec.UDP), at(tcp(8001, 81), "127.0.0.1", spec.UDP)},
		"published=8080,target=80":              {tcp(8080, 80)},
		"target=80,published=8080,protocol=udp": {at(tcp(8080, 80), "", spec.UDP)},
		"target=80,published=8000-8001,mode=host": {end(tcp(8000, 80), 8001)},
		"target=80": {tcp(0, 80)},
	} {
		got, err := ParsePublish(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		equal(t, text, want, got)
	}
}

// One port of the host at two addresses is two ports.
func TestPublishTwice(t *testing.T) {
	for args, fits := range map[string]bool{
		"-p 80:80 -p 80:80/udp":                   true,
		"-p 127.0.0.1:80:80 -p 127.0.0.2:80:80":   true,
		"-p 0.0.0.0:80:80 -p [::]:80:80":          true,
		"-p 80 -p 80":                             true,
		"-p 8000-8010:80 -p 8000-8010:81":         true,
		"-p 80:80 -p 80:80":                       false,
		"-p 80:80 -p [::1]:80:81":                 false,
		"-p 0.0.0.0:80:80 -p 127.0.0.1:80:80":     false,
		"-p 8000-8001:80-81 -p 8001:90":           false,
		"-p 127.0.0.1:80:80 -p 127.0.0.1:80:8080": false,
	} {
		if _, _, err := parse(strings.Fields(args)...); (err == nil) != fits {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// What is read is written as what reads the same.
func FuzzPublish(f *testing.F) {
	for _, s := range []string{"80", "8080:80", "127.0.0.1:8080:80/udp", "[::1]:8000-8002:80-82/sctp", "fd00::1::80", "published=80,target=81",
		"1-65535", "[::", "]:1:2", "0-0:1", "80:80:80:80", "=", "/", "[]:1:1", "1.2.3.4:5-6:7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParsePublish(s)
		if err != nil {
			return
		}
		if len(list) == 0 || len(list) > 1<<16 {
			t.Fatalf("%q: %d ports", s, len(list))
		}
		for _, p := range list[:min(len(list), 8)] {
			again, err := ParsePublish(PublishText(p))
			if err != nil || !slices.Equal(again, []spec.Port{p}) {
				t.Errorf("%q: %+v was written as %s and read as %+v, %v", s, p, PublishText(p), again, err)
			}
			if p.Service.Port == 0 || p.HostEnd != 0 && p.HostEnd <= p.HostPort {
				t.Errorf("%q: %+v", s, p)
			}
		}
	})
}

func TestExpose(t *testing.T) {
	c, _, err := parse("--expose", "80", "--expose", "53/udp", "--expose", "79-81/tcp", "--expose", "80/")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "ports", []spec.Service{{Protocol: spec.UDP, Port: 53}, {Protocol: spec.TCP, Port: 79}, {Protocol: spec.TCP, Port: 80},
		{Protocol: spec.TCP, Port: 81}}, c.Networking.Expose)
}

func TestRates(t *testing.T) {
	for text, want := range map[string]uint64{
		"10mbit": 10e6, "1gbit": 1e9, "1.5Mbit": 15e5, "64kbit": 64000, "8000": 8000, "8000bit": 8000, "1tbit": 1e12, "1mibit": 1 << 20, "1kibit": 1024,
		"1kbps": 8000, "1mbps": 8e6, "1gbps": 8e9, "1000bps": 8000, "1mibps": 8 << 20, "0": 0, "0mbit": 0,
	} {
		got, ok := ParseRate(text)
		if !ok || got != want {
			t.Errorf("%s: %d, %v", text, got, ok)
		}
		if again, ok := ParseRate(spec.RateText(got)); !ok || again != got {
			t.Errorf("%d is written %s, which is %d", got, spec.RateText(got), again)
		}
	}
	for _, bad := range []string{"", "mbit", "10mb", "10m", "-1mbit", "1e3mbit", "1 mbit", "999", "0.5kbit", "9999tbit", "1..5mbit", "10kmbit", "infbit"} {
		if n, ok := ParseRate(bad); ok {
			t.Errorf("%q: %d", bad, n)
		}
	}
	limit, err := Rates("network-opt", []string{"rate-in=1mbit,burst=1k", "rate-in=0"})
	if err != nil {
		t.Fatal(err)
	}
	r := spec.Rate{In: 5, Out: 6, Burst: 7}
	limit(&r)
	equal(t, "a change", spec.Rate{Out: 6, Burst: 1024}, r)
}

func TestHosts(t *testing.T) {
	for text, want := range map[string][]spec.HostEntry{
		"a:1.2.3.4":        {{Name: "a", IP: "1.2.3.4"}},
		"a=1.2.3.4":        {{Name: "a", IP: "1.2.3.4"}},
		"a:::1":            {{Name: "a", IP: "::1"}},
		"a=::1":            {{Name: "a", IP: "::1"}},
		"a:[::1]":          {{Name: "a", IP: "::1"}},
		"a=[fd00::0:1]":    {{Name: "a", IP: "fd00::0:1"}},
		"a=[1.2.3.4]":      {{Name: "a", IP: "1.2.3.4"}},
		"a.b:host-gateway": {{Name: "a.b", IP: "host-gateway"}},
		"a;b=5.6.7.8":      {{Name: "a", IP: "5.6.7.8"}, {Name: "b", IP: "5.6.7.8"}},
	} {
		got, err := hostsOf([]string{text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		equal(t, text, want, got)
	}
	for _, bad := range []string{"", "a", ":1.2.3.4", "a:b:1.2.3.4", "a b:1.2.3.4", "a:fe80::1%eth0", "a=", "a:Host-Gateway", "a\nb=1.2.3.4", "#=1.2.3.4", ";=1.2.3.4"} {
		if got, err := hostsOf([]string{bad}); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func TestDNS(t *testing.T) {
	c, _, err := parse("--dns", "9.9.9.9", "--dns", "2620:fe:0::fe", "--dns-search", "a.org", "--dns-search", "_x.b.", "--dns-opt", "ndots:2", "--dns-option", "edns0")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "dns", spec.Networking{Attachments: []spec.Attachment{{Network: "bridge"}}, DNS: []string{"9.9.9.9", "2620:fe::fe"},
		DNSSearch: []string{"a.org", "_x.b."}, DNSOptions: []string{"ndots:2", "edns0"}}, c.Networking)
}

func TestConnect(t *testing.T) {
	attachment := func(name string, args ...string) (spec.Attachment, error) {
		fs := pflag.NewFlagSet("connect", pflag.ContinueOnError)
		var f Connect
		f.Bind(fs)
		if err := fs.Parse(args); err != nil {
			return spec.Attachment{}, err
		}
		return f.Attachment(name)
	}
	got, err := attachment("lab", "--ip", "10.0.0.5", "--ip6", "fd00::5", "--mac-address", "02:00:00:00:00:01", "--alias", "a", "--alias", "b",
		"--network-opt", "rate-in=1mbit", "--driver-opt", "com.docker.network.endpoint.ifname=x0")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "all flags", spec.Attachment{Network: "lab", IP4: ip("10.0.0.5"), IP6: ip("fd00::5"), MAC: "02:00:00:00:00:01", Aliases: []string{"a", "b"},
		Interface: "x0", Rate: spec.Rate{In: 1e6}}, got)
	for _, bad := range [][]string{{"a/b"}, {"lab", "--ip", "fd00::5"}, {"lab", "--ip6", "10.0.0.5"}, {"lab", "--driver-opt", "x=y"}, {"lab", "--alias", "-"},
		{"lab", "--network-opt", "rate=1"}, {"bridge", "--alias", "a"}, {"lab", "--mac-address", "1"}} {
		if a, err := attachment(bad[0], bad[1:]...); errs.HintOf(err) == "" {
			t.Errorf("%q: %+v, %v", bad, a, err)
		}
	}
}
