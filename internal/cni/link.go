package cni

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Capabilities that plugins have by convention (CONVENTIONS.md of the specification).
const (
	CanPorts     = "portMappings"
	CanIPs       = "ips"
	CanMAC       = "mac"
	CanBandwidth = "bandwidth"
	CanAliases   = "aliases"
	CanDNS       = "dns"
)

// Link is what is known of a link before its plugins are executed. It has no interface's name yet.
func (w Where) Link(a spec.Attachment, rate spec.Rate) (wiring.Link, error) {
	c, err := w.Find(a.Network)
	if err == nil {
		err = c.programs(w.Programs)
	}
	if err != nil {
		return wiring.Link{}, err
	}
	p := &wiring.Plugins{Config: c.text, File: c.File, Types: c.Types(), Path: w.Programs, MAC: a.MAC}
	for _, ip := range []netip.Addr{a.IP4, a.IP6} {
		if ip.IsValid() {
			p.IPs = append(p.IPs, ip)
		}
	}
	for _, x := range []struct {
		wanted           bool
		capability, what string
	}{
		{len(p.IPs) > 0, CanIPs, "an address of the user's choice"}, {p.MAC != "", CanMAC, "a hardware address of the user's choice"},
		{rate != spec.Rate{}, CanBandwidth, "a limit of the rate"},
	} {
		if x.wanted && !c.Can(x.capability) {
			return wiring.Link{}, unable(c.File, x.what, x.capability)
		}
	}
	return wiring.Link{Network: a.Network, Driver: wiring.CNI, Plugins: p, Rate: rate}, nil
}

func unable(file, what, capability string) error {
	return errs.Newf(errs.Unsupported, "", "", "no plugin of "+file+" takes "+what).
		WithHint(`a plugin that can do it says so there: "capabilities": {"` + capability + `": true}`)
}

// Mixed refuses networks of plugins beside others: those make routes and rules for all of a container of which we know
// nothing before.
func Mixed(list []spec.Attachment) error {
	for _, a := range list {
		if Is(a.Network) != Is(list[0].Network) {
			return errs.Newf(errs.Unsupported, "", "", "networks of CNI and others do not go together: both would make the container's routes and rules for its ports").
				WithHint("name only networks of one kind; a list of plugins can have more than one interface made")
		}
	}
	return nil
}

// Forwards is published ports for the first link whose plugins take them. Where they lead is known
// when the container has an address (Done.Apply). Others are the documents of other containers: no
// process has these ports open, and plugins do not ask each other.
func Forwards(links []wiring.Link, ports []spec.Port, others []*wiring.Document) ([]wiring.Forward, error) {
	if len(ports) == 0 {
		return nil, nil
	}
	if _, err := portLink(links); err != nil {
		return nil, err
	}
	var out []wiring.Forward
	for _, p := range ports {
		ips := []netip.Addr{p.HostIP.Unmap()}
		if !p.HostIP.IsValid() {
			ips = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		}
		for _, ip := range ips {
			out = append(out, wiring.Forward{Service: p.Service, HostIP: ip, HostPort: p.HostPort})
		}
	}
	return out, Free(out, others)
}

// Free refuses ports that plugins lead to another container.
func Free(ports []wiring.Forward, others []*wiring.Document) error {
	for _, d := range others {
		for _, o := range d.Ports {
			if i := slices.IndexFunc(ports, func(p wiring.Forward) bool { return clash(p, o) }); i >= 0 && d.Plugged() {
				return errs.Newf(errs.Busy, "publish port", strconv.Itoa(int(o.HostPort))+"/"+string(o.Protocol), "it leads to the container "+d.Name).
					WithHint("choose another, or stop that container")
			}
		}
	}
	return nil
}

// Some reports whether plugins connect a container now.
func Some(run string) bool {
	f, err := os.Open(filepath.Join(run, "net/cni/ns"))
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) > 0
}

func clash(a, b wiring.Forward) bool {
	return a.Protocol == b.Protocol && a.HostPort == b.HostPort && a.HostIP.Is6() == b.HostIP.Is6() && a.HostPort != 0 &&
		(a.HostIP == b.HostIP || a.HostIP.IsUnspecified() || b.HostIP.IsUnspecified())
}

// portLink is the link that ports lead to.
func portLink(links []wiring.Link) (int, error) {
	file := ""
	for i, l := range links {
		c, err := parse(l.Plugins.Config)
		if err == nil && c.Can(CanPorts) {
			return i, nil
		}
		file = l.Plugins.File
	}
	return -1, unable(file, "published ports", CanPorts)
}
