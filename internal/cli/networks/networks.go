// Package networks is the verbs about networks, and port, which tells where a container can be
// reached.
package networks

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// creation is the flags of network create.
type creation struct {
	driver                    string
	subnets, gateways, ranges []string
	options, labels           []string
	ipv6, internal, ignore    bool
}

// absent is a flag of Docker's or Podman's that is not there.
type absent struct {
	name  string
	yesNo bool
	hint  string
}

// declareAbsent declares flags, so that they can be refused by name.
func declareAbsent(fs *pflag.FlagSet, list []absent) {
	for _, a := range list {
		if a.yesNo {
			fs.Bool(a.name, false, a.hint)
		} else {
			fs.StringArray(a.name, nil, a.hint)
		}
		fs.Lookup(a.name).Hidden = true
	}
}

func refuseAbsent(fs *pflag.FlagSet, list []absent) error {
	for _, a := range list {
		if fs.Changed(a.name) {
			return shell.Misused(values.NotBuilt("--"+a.name, a.hint))
		}
	}
	return nil
}

func absentOfCreate() []absent {
	return []absent{
		{"attachable", true, "leave it out: containers can be put on every network"},
		{"ingress", true, "leave it out: Corten has no swarm"},
		{"scope", false, "leave it out: every network is of this host"},
		{"config-from", false, "write the flags themselves"},
		{"config-only", true, "write the flags themselves"},
		{"ipam-driver", false, "leave it out, and choose addresses with --subnet, --gateway and --ip-range"},
		{"ipam-opt", false, "leave it out, and choose addresses with --subnet, --gateway and --ip-range"},
		{"aux-address", false, "have --ip-range leave out the addresses that are taken"},
		{"dns", false, "give containers their servers: corten run --dns"},
		{"route", false, "leave it out"},
		{"disable-dns", true, "leave it out"},
	}
}

// Create makes a network.
func Create(sh *shell.Shell) *cobra.Command {
	f := creation{}
	cmd := &cobra.Command{
		Use:   "create [flags] NETWORK",
		Short: "Make a network",
		Long: `Make a network that containers can be put on, and print its id.

Containers on one network reach each other, by name too. What of them the world reaches, run -p says. A bridge
is a network of this host's own; macvlan and ipvlan put containers into the network of one of its interfaces.

Published ports are open whatever the host's firewall says of its input, as Docker's are. With
-o firewall=respect they are open to whom it would let in to a program of the host at that port:
"ufw allow 8080/tcp" opens 8080, "ufw deny 8080/tcp" closes it.`,
		Example: "  corten network create lab\n  corten network create --subnet 10.9.0.0/24 --ipv6 --internal db\n" +
			"  corten network create -d macvlan --subnet 192.168.1.0/24 --gateway 192.168.1.1 -o parent=eth0 lan",
		Args:              declare.Args(1, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	list := func(p *[]string, name, short, usage string) { fs.VarPF(values.Repeated(p), name, short, usage) }
	fs.StringVarP(&f.driver, "driver", "d", "bridge", "Make it with `DRIVER`: bridge, macvlan or ipvlan")
	list(&f.subnets, "subnet", "", "Take addresses of `ADDRESS/LENGTH`, of which there may be one of IPv4 and one of IPv6 (default: one that is free)")
	list(&f.gateways, "gateway", "", "Have `ADDRESS` lead out of the subnet that it is in (default: the first)")
	list(&f.ranges, "ip-range", "", "Give containers addresses of `ADDRESS/LENGTH` only, a part of a subnet")
	fs.BoolVar(&f.ipv6, "ipv6", false, "Have IPv6 too, with a subnet made up if --subnet names none")
	fs.BoolVar(&f.internal, "internal", false, "Let no container out to the world")
	list(&f.options, "opt", "o", "Set `KEY=VALUE` of the driver: mtu, vlan; of a bridge isolate, firewall (default or respect); of the others parent, mode (repeatable)")
	list(&f.labels, "label", "", "Attach `KEY[=VALUE]` to the network (repeatable)")
	fs.BoolVar(&f.ignore, "ignore", false, "Do not mind if there is one of that name")
	declareAbsent(fs, absentOfCreate())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := refuseAbsent(cmd.Flags(), absentOfCreate()); err != nil {
			return err
		}
		req, err := f.request(args[0])
		if err != nil {
			return shell.Misused(err)
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		n, err := eng.CreateNetwork(req)
		if f.ignore && errs.Is(err, errs.Exists) {
			n, err = eng.Network(args[0])
		}
		if err == nil {
			fmt.Fprintln(sh.Stdout, n.ID)
		}
		return err
	}
	return cmd
}

func (f *creation) request(name string) (engine.NetworkRequest, error) {
	r := engine.NetworkRequest{Name: name, Driver: engine.NetworkDriver(f.driver), IPv6: f.ipv6, Internal: f.internal}
	var err error
	if r.Subnets, err = prefixes("subnet", f.subnets); err != nil {
		return r, err
	}
	if r.Ranges, err = prefixes("ip-range", f.ranges); err != nil {
		return r, err
	}
	for _, s := range f.gateways {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return r, values.Bad("gateway", s, "not an address", "write one of the subnet: 10.9.0.1")
		}
		r.Gateways = append(r.Gateways, ip)
	}
	if r.Labels, err = pairs("label", f.labels); err != nil {
		return r, err
	}
	if r.Options, err = pairs("opt", f.options); err != nil {
		return r, err
	}
	return r, nil
}

func prefixes(flag string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		for s := range strings.SplitSeq(text, ",") {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return nil, values.Bad(flag, s, "not an address and a length", "write 10.9.0.0/24 or fd00:9::/64")
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// pairs reads KEY[=VALUE] each.
func pairs(flag string, texts []string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	set := make(map[string]string, len(texts))
	for _, s := range texts {
		key, value, ok := strings.Cut(s, "=")
		if key == "" || !ok && flag == "opt" {
			return nil, values.Bad(flag, s, "not a name and a value", "write --"+flag+" KEY=VALUE")
		}
		set[key] = value
	}
	return set, nil
}

// Remove removes networks.
func Remove(sh *shell.Shell) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:               "rm [flags] NETWORK...",
		Aliases:           []string{"remove"},
		Short:             "Remove networks that no container uses",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: Complete(sh, -1),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not mind networks that are not there")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		var all []error
		for _, name := range args {
			err := eng.RemoveNetwork(name)
			if err != nil && (!force || !errs.Is(err, errs.NotFound)) {
				all = append(all, err)
				continue
			}
			fmt.Fprintln(sh.Stdout, name)
		}
		return sh.SayButLast(errors.Join(all...))
	}
	return cmd
}

// Prune removes networks that nobody uses.
func Prune(sh *shell.Shell) *cobra.Command {
	force, filters := false, []string(nil)
	cmd := &cobra.Command{
		Use:               "prune [flags]",
		Short:             "Remove networks that no container uses",
		Args:              declare.Args(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	fs.BoolVarP(&force, "force", "f", false, "Do not ask")
	fs.StringArrayVar(&filters, "filter", nil, "Remove only what `NAME=VALUE` lets through: label, label!, until")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		pass, err := parseFilter(filters, pruneFilters)
		if err != nil {
			return err
		}
		if !force && !sh.Confirm("This will remove all networks that no container uses.") {
			return nil
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		list, used, err := eng.Networks()
		r := sh.Reclaiming("Deleted Networks:", err)
		for _, n := range list {
			if n.Name == engine.DefaultNetwork || n.Driver == engine.CNI || len(used[n.Name]) > 0 || !pass(n, false) {
				continue
			}
			r.Removed(n.Name, 0, eng.RemoveNetwork(n.Name))
		}
		return r.EndUnsized(eng.PruneBridges(cmd.Context()))
	}
	return cmd
}

// Complete completes names of networks, of the first arguments; a negative most is any number.
func Complete(sh *shell.Shell, most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(names(sh, begun), func(n string) bool { return slices.Contains(args, n) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// CompleteFlag completes what follows --network: words, and names of networks.
func CompleteFlag(sh *shell.Shell, words []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		list := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.HasPrefix(w, begun) })
		list = append(list, names(sh, begun)...)
		slices.Sort(list)
		return slices.Compact(list), cobra.ShellCompDirectiveNoFileComp
	}
}

func names(sh *shell.Shell, begun string) []string {
	eng, err := sh.Engine()
	if err != nil {
		return nil
	}
	var out []string
	list, _, _ := eng.Networks()
	for _, n := range list {
		if strings.HasPrefix(n.Name, begun) {
			out = append(out, n.Name)
		}
	}
	return out
}
