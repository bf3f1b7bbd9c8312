package netflags

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

const networkHint = "write --network NAME, or NAME:alias=web,ip=10.0.0.5; none, host, container:NAME and ns:PATH are not networks but stand there too"

// networksOf reads every --network. Without one the container is on the default network.
func networksOf(texts []string) (net spec.Namespace, list []spec.Attachment, err error) {
	if len(texts) == 0 {
		return net, []spec.Attachment{{Network: spec.DefaultNetwork}}, nil
	}
	for _, s := range texts {
		name, options, err := split(s)
		if err != nil {
			return net, nil, err
		}
		ns, is, err := modeOf(s, name)
		if err != nil {
			return net, nil, err
		}
		if is {
			if len(options) > 0 {
				return net, nil, values.Bad("network", s, "no network, so it has no options", "leave them out")
			}
			if net = ns; len(texts) > 1 {
				return net, nil, values.Conflict("--network "+modeText(net), "another --network", "the container has one network namespace")
			}
			return net, nil, nil
		}
		a, err := attachment(s, name, options)
		if err != nil {
			return net, nil, err
		}
		for _, o := range list {
			if o.Network == a.Network {
				return net, nil, values.Bad("network", s, "the network is named twice", "leave one of them out")
			}
			if o.Interface != "" && o.Interface == a.Interface {
				return net, nil, values.Bad("network", s, "another interface has that name", "give each another one")
			}
		}
		list = append(list, a)
	}
	return net, list, nil
}

// split takes a --network apart, in Docker's form (name=NET,KEY=VALUE,...) or Podman's
// (NET:KEY=VALUE,...).
func split(s string) (name string, options []string, err error) {
	equal, colon := strings.IndexByte(s, '='), strings.IndexByte(s, ':')
	if equal < 0 || colon >= 0 && colon < equal {
		return splitShort(s)
	}
	for _, o := range strings.Split(s, ",") {
		key, value, ok := strings.Cut(o, "=")
		switch {
		case !ok:
			return "", nil, values.Bad("network", s, o+" has no value", "write name=NETWORK,KEY=VALUE,...")
		case strings.EqualFold(strings.TrimSpace(key), "name"):
			name = strings.TrimSpace(value)
		default:
			options = append(options, o)
		}
	}
	if name == "" {
		return "", nil, values.Bad("network", s, "the network is not named", "write name=NETWORK,KEY=VALUE,...")
	}
	return name, options, nil
}

func splitShort(s string) (name string, options []string, err error) {
	kind, rest, ok := strings.Cut(s, ":")
	switch kind {
	case "container", "ns", "pod":
		return s, nil, nil
	case "cni":
		name, text, more := strings.Cut(rest, ":")
		if more {
			options = strings.Split(text, ",")
		}
		return "cni:" + name, options, nil
	}
	if ok && rest != "" {
		options = strings.Split(rest, ",")
	}
	return kind, options, nil
}

// modeOf is the namespace that a word after --network stands for, if it is not a network's name.
func modeOf(s, name string) (ns spec.Namespace, is bool, err error) {
	kind, rest, _ := strings.Cut(name, ":")
	switch kind {
	case "none", "host":
		return spec.Namespace{Mode: spec.NSMode(kind)}, true, nil
	case "container":
		if rest == "" {
			return ns, false, values.Bad("network", s, "the container is not named", "write container:NAME")
		}
		return spec.Namespace{Mode: spec.Of, Path: rest}, true, nil
	case "ns":
		if !path.IsAbs(rest) {
			return ns, false, values.Bad("network", s, "not an absolute path", "write ns:/run/netns/NAME or ns:/proc/PID/ns/net")
		}
		return spec.Namespace{Mode: spec.Path, Path: path.Clean(rest)}, true, nil
	case "pod":
		return ns, false, values.NotBuilt("--network "+name, "use a network of the kinds that corten network create makes")
	}
	return ns, false, nil
}

// modeText writes a namespace as it stands after --network.
func modeText(ns spec.Namespace) string {
	switch ns.Mode {
	case spec.Of:
		return "container:" + ns.Path
	case spec.Path:
		return "ns:" + ns.Path
	}
	return string(ns.Mode)
}

// attachment reads the options of one network.
func attachment(s, name string, options []string) (a spec.Attachment, err error) {
	if name == "default" { // Docker's word
		name = spec.DefaultNetwork
	}
	a.Network = name
	if !ValidName(strings.TrimPrefix(name, "cni:")) {
		return a, values.Bad("network", s, "not a network's name", networkHint)
	}
	for _, o := range options {
		if err := set(&a, s, o); err != nil {
			return a, err
		}
	}
	return a, aliasesFit(a)
}

// set reads one option of a network into an attachment.
func set(a *spec.Attachment, s, option string) error {
	key, value, _ := strings.Cut(option, "=")
	key = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(key)), "_", "-") // Docker writes one, Podman the other
	value = strings.TrimSpace(value)
	if value == "" {
		return values.Bad("network", s, option+" has no value", "write NETWORK:KEY=VALUE,...")
	}
	switch key {
	case "alias":
		if !slices.Contains(a.Aliases, value) {
			a.Aliases = append(a.Aliases, value)
		}
	case "ip", "ip6":
		ip, err := address("network", value)
		if err != nil {
			return err
		}
		return setIP(a, "network", value, ip, key == "ip6")
	case "mac", "mac-address":
		var err error
		a.MAC, err = hardware("network", value)
		return err
	case "interface-name":
		a.Interface = value
	case "driver-opt":
		name, ok := strings.CutPrefix(value, "com.docker.network.endpoint.ifname=")
		if !ok {
			return values.NotBuilt("--network driver-opt="+value, "there is com.docker.network.endpoint.ifname, the interface's name")
		}
		a.Interface = name
	case "rate-in", "rate-out", "burst":
		limit, err := Rates("network", []string{key + "=" + value})
		if err != nil {
			return err
		}
		limit(&a.Rate)
	case "gw-priority":
		return values.NotBuilt("--network "+key, "name the network first that leads to the world")
	case "link-local-ip", "host-interface-name":
		return values.NotBuilt("--network "+key, "leave it out")
	default:
		return values.Bad("network", s, "unknown option "+key, "there are alias, ip, ip6, mac, interface-name, rate-in, rate-out and burst")
	}
	if a.Interface != "" && !validInterface(a.Interface) {
		return values.Bad("network", s, "not an interface's name", "write up to 15 letters, digits, - and _: eth1")
	}
	return nil
}

// setIP gives an attachment an address. Podman's ip may be one of IPv6 as well.
func setIP(a *spec.Attachment, flag, text string, ip netip.Addr, six bool) error {
	switch {
	case six && ip.Is4():
		return values.Bad(flag, text, "not an IPv6 address", "write one of IPv6, as in fd00::5")
	case ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() || ip.IsLinkLocalUnicast():
		return values.Bad(flag, text, "not an address that one container can have", "write one of the network's subnet")
	case ip.Is4():
		a.IP4 = ip
	default:
		a.IP6 = ip
	}
	return nil
}

// aliasesFit refuses names that nobody could look up.
func aliasesFit(a spec.Attachment) error {
	for _, name := range a.Aliases {
		if !validHost(name) {
			return values.Bad("network", name, "not a name that can be looked up", "use letters, digits, - and _, with dots between")
		}
	}
	if len(a.Aliases) > 0 && a.Network == spec.DefaultNetwork {
		return values.Bad("network", a.Network, "nobody looks up names on the default network", "make one with corten network create NAME, and use --network NAME")
	}
	return nil
}

// ValidName reports whether a network may be called s.
func ValidName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 200
}

// validInterface is the kernel's rule (dev_valid_name, IFNAMSIZ), and no name that sysctl(8) or
// an alias would read as two.
func validInterface(s string) bool {
	return len(s) <= 15 && s != "lo" && ValidName(s)
}

// endpoint is the flags about the one network that a container is put on: those of run, and of
// network connect.
type endpoint struct {
	ip, ip6, mac string
	aliases      []string
}

// overOne puts the flags of run on the network, of which there has to be one.
func (e *endpoint) overOne(list []spec.Attachment) error {
	flag := e.given()
	if flag == "" {
		return nil
	}
	if len(list) != 1 {
		return values.Conflict(flag, "several networks", "it is not said which is meant; write --network NETWORK:KEY=VALUE")
	}
	return e.over(&list[0])
}

func (e *endpoint) given() string {
	switch {
	case e.ip != "":
		return "--ip"
	case e.ip6 != "":
		return "--ip6"
	case e.mac != "":
		return "--mac-address"
	case len(e.aliases) > 0:
		return "--network-alias"
	}
	return ""
}

// over puts the flags on an attachment. What that says already is not said again.
func (e *endpoint) over(a *spec.Attachment) error {
	for _, x := range []struct {
		flag, value string
		six         bool
		have        netip.Addr
	}{{"ip", e.ip, false, a.IP4}, {"ip6", e.ip6, true, a.IP6}} {
		if x.value == "" {
			continue
		}
		ip, err := address(x.flag, x.value)
		switch {
		case err != nil:
			return err
		case x.have.IsValid():
			return values.Conflict("--"+x.flag, "--network "+a.Network+":"+x.flag+"=", "both give the address")
		case !x.six && !ip.Is4():
			return values.Bad(x.flag, x.value, "not an IPv4 address", "use --ip6 for one of IPv6")
		}
		if err := setIP(a, x.flag, x.value, ip, x.six); err != nil {
			return err
		}
	}
	if e.mac != "" {
		mac, err := hardware("mac-address", e.mac)
		if err != nil {
			return err
		}
		if a.MAC != "" {
			return values.Conflict("--mac-address", "--network "+a.Network+":mac=", "both give the address")
		}
		a.MAC = mac
	}
	if len(e.aliases) > 0 && len(a.Aliases) > 0 {
		return values.Conflict("--network-alias", "--network "+a.Network+":alias=", "both give names")
	}
	for _, name := range e.aliases {
		if !slices.Contains(a.Aliases, name) {
			a.Aliases = append(a.Aliases, name)
		}
	}
	return aliasesFit(*a)
}

// Connect is the flags of network connect.
type Connect struct {
	end                   endpoint
	driverOptions, limits []string
}

// Bind adds the flags to a set.
func (f *Connect) Bind(set *pflag.FlagSet) {
	set.StringVar(&f.end.ip, "ip", "", "Have the IPv4 `ADDRESS` there")
	set.StringVar(&f.end.ip6, "ip6", "", "Have the IPv6 `ADDRESS` there")
	set.StringVar(&f.end.mac, "mac-address", "", "Have the hardware `ADDRESS` there")
	set.Var(values.Repeated(&f.end.aliases), "alias", "Be found by `NAME` too by others there (repeatable)")
	set.Var(values.Repeated(&f.limits), "network-opt", "Limit what passes the interface: `KEY=VALUE,...`, as in rate-in=10mbit,rate-out=10mbit,burst=64k (repeatable)")
	set.Var(values.Repeated(&f.driverOptions), "driver-opt", "Set `KEY=VALUE` of the driver: com.docker.network.endpoint.ifname, the interface's name")
}

// Attachment is what the flags say of being on a network.
func (f *Connect) Attachment(name string) (spec.Attachment, error) {
	var options []string
	for _, o := range f.driverOptions {
		options = append(options, "driver-opt="+o)
	}
	a, err := attachment(name, name, options)
	if err != nil {
		return a, err
	}
	limit, err := Rates("network-opt", f.limits)
	if err != nil {
		return a, err
	}
	limit(&a.Rate)
	return a, f.end.over(&a)
}
