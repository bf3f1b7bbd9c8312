package network

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/hostnet"
	"github.com/cortenhq/corten/internal/wiring"
)

// Names of options by which Docker knows what has another name or place here.
const (
	dockerBridgeName = "com.docker.network.bridge.name"
	dockerTalk       = "com.docker.network.bridge.enable_icc"
)

// settings are the options of a network, read.
type settings struct {
	mtu     int
	vlan    int
	isolate bool
	respect bool
	parent  string
	mode    string
}

// option is one that a user can write, for the drivers that have it.
type option struct {
	name    string
	docker  string // as Docker writes it; empty: likewise
	drivers string
	read    func(value string, s *settings) bool
	want    string
}

// options are in the order of their names.
var options = []option{
	{"firewall", "", "bridge", readFirewall, "default or respect"},
	{"isolate", "", "bridge", func(v string, s *settings) bool { return readBool(v, &s.isolate) }, "true or false"},
	{"mode", "macvlan_mode", "macvlan", func(v string, s *settings) bool {
		return readWord(v, &s.mode, "bridge", "private", "vepa", "passthru")
	}, "bridge, private, vepa or passthru"},
	{"mode", "ipvlan_mode", "ipvlan", func(v string, s *settings) bool { return readWord(v, &s.mode, "l2", "l3", "l3s") }, "l2, l3 or l3s"},
	{"mtu", "com.docker.network.driver.mtu", "bridge macvlan ipvlan", func(v string, s *settings) bool { return readNumber(v, &s.mtu, 68, 65535) }, "68 to 65535"},
	{"parent", "", "macvlan ipvlan", func(v string, s *settings) bool { s.parent = v; return validInterface(v) }, "an interface of the host"},
	{"vlan", "", "bridge macvlan ipvlan", func(v string, s *settings) bool { return readNumber(v, &s.vlan, 1, 4094) }, "1 to 4094"},
}

func readNumber(v string, to *int, low, high int) bool {
	n, err := strconv.Atoi(v)
	*to = n
	return err == nil && n >= low && n <= high
}

func readBool(v string, to *bool) bool {
	b, err := strconv.ParseBool(v)
	*to = b
	return err == nil
}

func readWord(v string, to *string, words ...string) bool {
	*to = v
	return slices.Contains(words, v)
}

func readFirewall(v string, s *settings) bool {
	s.respect = v == "respect"
	return s.respect || v == "default"
}

// optionOf finds an option of the network's driver.
func (n *Network) optionOf(name string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool {
		return (name == o.name || name == o.docker && name != "") && slices.Contains(strings.Fields(o.drivers), string(n.Driver))
	})
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

// setOptions takes the options that a user wrote, and gives them the names that we know them by.
func (n *Network) setOptions(said map[string]string) error {
	set := map[string]string{}
	for name, value := range said {
		if n.Driver == wiring.Bridge && name == dockerBridgeName {
			n.Bridge = value
			continue
		}
		if n.Driver == wiring.Bridge && name == dockerTalk {
			talk, err := strconv.ParseBool(value)
			if err != nil {
				return refuse("--opt "+name+"="+value+": want true or false", "")
			}
			name, value = "isolate", strconv.FormatBool(!talk)
		}
		o, ok := n.optionOf(name)
		if !ok {
			return errs.Newf(errs.Invalid, "", "", "the driver "+string(n.Driver)+" has no option "+name).WithHint("it has " + n.optionNames())
		}
		if was, twice := set[o.name]; twice && was != value {
			return refuse("the option "+o.name+" is said twice", "")
		}
		set[o.name] = value
	}
	if len(set) > 0 {
		n.Options = set
	}
	_, err := n.settings()
	return err
}

func (n *Network) optionNames() string {
	var names []string
	for _, o := range options {
		if slices.Contains(strings.Fields(o.drivers), string(n.Driver)) {
			names = append(names, o.name)
		}
	}
	return strings.Join(names, ", ")
}

// settings reads the options.
func (n *Network) settings() (settings, error) {
	var s settings
	for name, value := range n.Options {
		o, ok := n.optionOf(name)
		if !ok || name != o.name {
			return s, refuse("the driver "+string(n.Driver)+" has no option "+strconv.Quote(name), "it has "+n.optionNames())
		}
		if !o.read(value, &s) {
			return s, refuse("--opt "+name+"="+value+": want "+o.want, "")
		}
	}
	switch n.Driver {
	case wiring.Bridge:
		return s, nil
	case wiring.Macvlan:
		if s.mode == "" {
			s.mode = "bridge"
		}
	case wiring.Ipvlan:
		if s.mode == "" {
			s.mode = "l2"
		}
	}
	if s.parent == "" {
		return s, refuse("it needs an interface of the host to be on", "name it: --opt parent=eth0")
	}
	return s, nil
}

// link is the parent as corten-net is to find or make it. As Docker has it, eth0.50 is VLAN 50 of
// eth0 if there is no interface of that name.
func (s settings) link() wiring.Parent {
	p := wiring.Parent{Name: s.parent, VLAN: s.vlan, Mode: s.mode}
	i := strings.LastIndexByte(s.parent, '.')
	if i <= 0 || s.vlan != 0 || hostnet.Exists(s.parent) {
		return p
	}
	if id := 0; readNumber(s.parent[i+1:], &id, 1, 4094) {
		p.Name, p.VLAN = s.parent[:i], id
	}
	return p
}
