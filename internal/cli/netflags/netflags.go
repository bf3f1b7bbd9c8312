// Package netflags translates the flags of run and create that are about networks, which are
// Docker's and Podman's in name and meaning, to spec.Networking, and back.
//
// Flags are bound and filled like the groups of package runflags. Write is the inverse of Fill:
// what it writes is read as what it was written of. What each flag takes is a file: attach.go
// (--network), ports.go (--publish, --expose), rate.go (--network-opt), names.go (--dns,
// --add-host).
package netflags

import (
	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

// Flags is what was written of networks on the command line of run or create.
type Flags struct {
	networks, options           []string
	end                         endpoint
	dns, search, dnsOpts, hosts []string
	ports, expose               []string
	publishAll                  bool
}

// Bind adds the flags to a set; note is the annotations of each.
func (f *Flags) Bind(set *pflag.FlagSet, note map[string][]string) {
	list := func(p *[]string, name, short, usage string) {
		set.VarPF(values.Repeated(p), name, short, usage).Annotations = note
	}
	same := func(p *[]string, name, as string) {
		list(p, name, "", set.Lookup(as).Usage)
		set.Lookup(name).Hidden = true
	}
	list(&f.networks, "network", "", "Connect it to `NETWORK`, after which options may stand: lab:alias=www,ip=10.9.0.5 (also ip6, mac, "+
		"interface-name, rate-in, rate-out, burst); cni:NAME is one of /etc/cni/net.d; or none, host, container:NAME, ns:PATH (repeatable; default bridge)")
	same(&f.networks, "net", "network")
	list(&f.options, "network-opt", "", "Limit what passes each interface: `KEY=VALUE,...`, as in rate-in=10mbit,rate-out=10mbit,burst=64k (repeatable)")
	list(&f.ports, "publish", "p", "Lead a port of the host to the container: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, or ranges of ports (repeatable)")
	set.BoolVarP(&f.publishAll, "publish-all", "P", false, "Lead free ports of the host to each port that --expose or the image names")
	list(&f.expose, "expose", "", "Name a port that the container serves: `PORT[-LAST][/PROTOCOL]` (repeatable)")
	set.StringVar(&f.end.ip, "ip", "", "Have the IPv4 `ADDRESS` on the network")
	set.StringVar(&f.end.ip6, "ip6", "", "Have the IPv6 `ADDRESS` on the network")
	set.StringVar(&f.end.mac, "mac-address", "", "Have the hardware `ADDRESS` on the network")
	list(&f.end.aliases, "network-alias", "", "Be found by `NAME` too by others on the network (repeatable)")
	same(&f.end.aliases, "net-alias", "network-alias")
	list(&f.dns, "dns", "", "Ask the name server at `ADDRESS` (repeatable; default: the host's)")
	list(&f.search, "dns-search", "", "Complete names with `DOMAIN`; . for none (repeatable; default: the host's)")
	list(&f.dnsOpts, "dns-option", "", "Set the `OPTION` of resolv.conf(5) (repeatable)")
	same(&f.dnsOpts, "dns-opt", "dns-option")
	list(&f.hosts, "add-host", "", "Add `NAME=ADDRESS` to /etc/hosts; host-gateway is the host's address (repeatable)")
	for _, name := range []string{"publish-all", "ip", "ip6", "mac-address"} {
		set.Lookup(name).Annotations = note
	}
}

// Fill reads the flags into a container. The warning is of something that has no effect.
func (f *Flags) Fill(c *spec.Container) (warning string, err error) {
	n := &c.Networking
	if c.Namespaces.Net, n.Attachments, err = networksOf(f.networks); err != nil {
		return "", err
	}
	if warning, err = f.fits(c.Namespaces.Net); err != nil {
		return "", err
	}
	if err := f.end.overOne(n.Attachments); err != nil {
		return "", err
	}
	limit, err := Rates("network-opt", f.options)
	if err != nil {
		return "", err
	}
	limit(&n.Rate)
	if warning == "" {
		if n.Ports, err = portsOf(f.ports); err != nil {
			return "", err
		}
		n.PublishAll = f.publishAll
	}
	if n.Expose, err = exposed(f.expose); err != nil {
		return "", err
	}
	if n.DNS, err = servers(f.dns); err != nil {
		return "", err
	}
	if n.DNSSearch, err = domains(f.search); err != nil {
		return "", err
	}
	if n.DNSOptions, err = dnsOptions(f.dnsOpts); err != nil {
		return "", err
	}
	n.Hosts, err = hostsOf(f.hosts)
	return warning, err
}

// fits refuses flags that make no sense with the network namespace that the container has, as
// Docker does, which however takes ports of a container with no network.
func (f *Flags) fits(net spec.Namespace) (warning string, err error) {
	const own, resolver, ports = 1, 2, 4 // what a flag is about
	var not int
	var why string
	switch net.Mode {
	case spec.Private:
		return "", nil
	case spec.Host:
		not, why = own, "the host's network stays as it is"
	case spec.None:
		not, why = own|ports, "the container has no network"
	case spec.Path:
		not, why = own|ports, "that network stays as it is"
	case spec.Of:
		not, why = own|ports|resolver, "it has the other container's network as it is"
	}
	for _, x := range []struct {
		flag  string
		about int
		given bool
	}{
		{"--network-opt", own, len(f.options) > 0}, {"--ip", own, f.end.ip != ""}, {"--ip6", own, f.end.ip6 != ""},
		{"--mac-address", own, f.end.mac != ""}, {"--network-alias", own, len(f.end.aliases) > 0},
		{"--publish", ports, len(f.ports) > 0}, {"--publish-all", ports, f.publishAll},
		{"--expose", resolver, len(f.expose) > 0}, {"--dns", resolver, len(f.dns) > 0}, {"--dns-search", resolver, len(f.search) > 0},
		{"--dns-option", resolver, len(f.dnsOpts) > 0}, {"--add-host", resolver, len(f.hosts) > 0},
	} {
		if x.given && x.about&not != 0 {
			return "", values.Conflict("--network "+modeText(net), x.flag, why)
		}
	}
	if net.Mode == spec.Host && (len(f.ports) > 0 || f.publishAll) {
		warning = "ports are not published with --network host: they are the host's own"
	}
	return warning, nil
}
