package netflags

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
)

// Write says a container's network by flags: flag is called for each, in their order.
func Write(c *spec.Container, flag func(name, value string)) {
	n := &c.Networking
	list := func(name string, texts []string) {
		for _, s := range texts {
			flag(name, s)
		}
	}
	on := c.Namespaces.Net.Mode == spec.Private && len(n.Attachments) > 0
	for _, a := range n.Attachments {
		if text := AttachmentText(a); text != spec.DefaultNetwork || len(n.Attachments) > 1 { // else it is so without a word
			flag("network", text)
		}
	}
	switch {
	case c.Namespaces.Net.Mode != spec.Private:
		flag("network", modeText(c.Namespaces.Net))
	case !on: // it was disconnected from all
		flag("network", string(spec.None))
	}
	if o := rateOptions(n.Rate); on && len(o) > 0 {
		flag("network-opt", strings.Join(o, ","))
	}
	if on {
		writePorts(n, flag)
	}
	for _, s := range n.Expose {
		flag("expose", s.String())
	}
	list("dns", n.DNS)
	list("dns-search", n.DNSSearch)
	list("dns-option", n.DNSOptions)
	for _, h := range n.Hosts {
		flag("add-host", h.Name+"="+h.IP)
	}
}

func writePorts(n *spec.Networking, flag func(name, value string)) {
	for _, p := range n.Ports {
		flag("publish", PublishText(p))
	}
	if n.PublishAll {
		flag("publish-all", "true")
	}
}

// AttachmentText writes an attachment as it stands after --network.
func AttachmentText(a spec.Attachment) string {
	var options []string
	add := func(key, value string) {
		if value != "" {
			options = append(options, key+"="+value)
		}
	}
	for _, name := range a.Aliases {
		add("alias", name)
	}
	add("ip", ipText(a.IP4))
	add("ip6", ipText(a.IP6))
	add("mac", a.MAC)
	add("interface-name", a.Interface)
	options = append(options, rateOptions(a.Rate)...)
	if len(options) == 0 {
		return a.Network
	}
	return a.Network + ":" + strings.Join(options, ",")
}

func ipText(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.String()
}

// PublishText writes a port as it stands after --publish.
func PublishText(p spec.Port) string {
	to := p.Service.String()
	host := ""
	if p.HostPort != 0 {
		host = strconv.Itoa(int(p.HostPort))
	}
	if p.HostEnd != 0 {
		host += "-" + strconv.Itoa(int(p.HostEnd))
	}
	switch {
	case p.HostIP.Is6():
		return "[" + p.HostIP.String() + "]:" + host + ":" + to
	case p.HostIP.IsValid():
		return p.HostIP.String() + ":" + host + ":" + to
	case host != "":
		return host + ":" + to
	}
	return to
}
