package networks

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func TestPortsText(t *testing.T) {
	at := func(host string, hostPort, port uint16, p spec.Protocol) engine.Forward {
		return engine.Forward{Service: spec.Service{Protocol: p, Port: port}, HostIP: netip.MustParseAddr(host), HostPort: hostPort}
	}
	both := func(hostPort, port uint16) []engine.Forward {
		return []engine.Forward{at("0.0.0.0", hostPort, port, spec.TCP), at("::", hostPort, port, spec.TCP)}
	}
	join := func(lists ...[]engine.Forward) (out []engine.Forward) {
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	tcp := func(ports ...uint16) (out []spec.Service) {
		for _, p := range ports {
			out = append(out, spec.Service{Protocol: spec.TCP, Port: p})
		}
		return out
	}
	for want, x := range map[string]struct {
		ports  []engine.Forward
		expose []spec.Service
	}{
		"":                             {},
		"80/tcp":                       {expose: tcp(80)},
		"80-82/tcp, 90/tcp":            {expose: tcp(80, 81, 82, 90)},
		"0.0.0.0:8080->80/tcp":         {ports: []engine.Forward{at("0.0.0.0", 8080, 80, spec.TCP)}},
		"53/tcp, 127.0.0.1:53->53/udp": {[]engine.Forward{at("127.0.0.1", 53, 53, spec.UDP)}, tcp(53)},
		"0.0.0.0:80->80/tcp, 81/tcp":   {[]engine.Forward{at("0.0.0.0", 80, 80, spec.TCP)}, tcp(80, 81)},
		"0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp":                                 {both(8080, 80), tcp(443)},
		"0.0.0.0:8000-8002->80-82/tcp, [::]:8000-8002->80-82/tcp":                          {join(both(8001, 81), both(8000, 80), both(8002, 82)), tcp(80)},
		"0.0.0.0:8000->80/tcp, [::]:8000->80/tcp, 0.0.0.0:8002->81/tcp, [::]:8002->81/tcp": {ports: join(both(8000, 80), both(8002, 81))},
		"0.0.0.0:8000->80/tcp, 0.0.0.0:8001->80/tcp":                                       {ports: []engine.Forward{at("0.0.0.0", 8001, 80, spec.TCP), at("0.0.0.0", 8000, 80, spec.TCP)}},
	} {
		if got := PortsText(&engine.Wiring{Ports: x.ports}, x.expose); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := PortsText(nil, tcp(80)); got != "80/tcp" {
		t.Error(got)
	}
}

func TestFilter(t *testing.T) {
	now := time.Now()
	all := []engine.Network{
		{Name: "bridge", ID: "ab12", Driver: "bridge", Created: now.Add(-time.Hour)},
		{Name: "lab", ID: "cd34", Driver: "bridge", Created: now.Add(-time.Hour), Labels: map[string]string{"tier": "db"}},
		{Name: "lan", ID: "ab56", Driver: "macvlan", Created: now},
	}
	for filters, want := range map[string]string{
		"": "bridge lab lan", "name=la": "lab lan", "name=^lab$ name=lan": "lab lan", "id=ab": "bridge lan", "driver=macvlan": "lan",
		"label=tier": "lab", "label=tier=db": "lab", "label=tier=web": "", "label!=tier": "bridge lan", "type=builtin": "bridge", "type=custom": "lab lan",
		"dangling=false": "bridge lab", "dangling=true": "lan", "driver=bridge dangling=1": "", "until=30m": "bridge lab",
	} {
		pass, err := parseFilter(strings.Fields(filters), listFilters+", until")
		if err != nil {
			t.Errorf("%s: %v", filters, err)
			continue
		}
		var got []string
		for _, n := range all {
			if pass(n, n.Name == "lab") {
				got = append(got, n.Name)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", filters, s, want)
		}
	}
	for _, bad := range []string{"name", "name=", "name=[", "colour=red", "and=x", "type=odd", "dangling=maybe", "until=soon"} {
		if _, err := parseFilter([]string{bad}, listFilters+", until"); errs.HintOf(err) == "" {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := parseFilter([]string{"name=x"}, pruneFilters); err == nil {
		t.Error("prune takes a name")
	}
}
