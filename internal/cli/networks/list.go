package networks

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// List lists networks.
func List(sh *shell.Shell) *cobra.Command {
	quiet, noTrunc, filters, format := false, false, []string(nil), ""
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List networks",
		Long: `List networks: those that corten network create has made, and as cni:NAME those that the host has for plugins of the Container Network
Interface. Files in /etc/cni/net.d say what these are, or in the folder CORTEN_CNI_CONF; their plugins are programs in /opt/cni/bin, /usr/lib/cni
and /usr/libexec/cni, or in the folders of the list CORTEN_CNI_BIN.`,
		Args:              declare.Args(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	fs.BoolVarP(&quiet, "quiet", "q", false, "Show ids only")
	fs.BoolVar(&noTrunc, "no-trunc", false, "Do not shorten ids")
	fs.StringArrayVarP(&filters, "filter", "f", nil, "Show only what `NAME=VALUE` lets through: "+strings.ReplaceAll(listFilters, " and", ","))
	fs.StringVar(&format, "format", "", "Print as `FORMAT`: table, table TEMPLATE, json, or a Go template such as {{.Name}}")
	cmd.RunE = func(*cobra.Command, []string) error {
		pass, err := parseFilter(filters, listFilters)
		if err != nil {
			return err
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		list, used, err := eng.Networks()
		var lines []any
		for _, n := range list {
			if pass(n, len(used[n.Name]) > 0) {
				lines = append(lines, newLine(n, noTrunc))
			}
		}
		if perr := printList(sh, lines, quiet, format); perr != nil {
			return perr
		}
		return sh.SayButLast(err)
	}
	return cmd
}

// line is a network in the list; its names are Docker's, for templates.
type line struct {
	CreatedAt string
	Driver    string
	ID        string
	IPv4      string
	IPv6      string
	Internal  string
	Labels    string
	Name      string
	Scope     string
}

func newLine(n engine.Network, noTrunc bool) line {
	l := line{n.Created.Local().Format("2006-01-02 15:04:05.999999999 -0700 MST"), string(n.Driver), n.ID,
		strconv.FormatBool(has(n, netip.Addr.Is4)), strconv.FormatBool(has(n, netip.Addr.Is6)), strconv.FormatBool(n.Internal), "", n.Name, "local"}
	if !noTrunc {
		l.ID = n.ID[:min(12, len(n.ID))]
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(n.Labels)) {
		labels = append(labels, name+"="+n.Labels[name])
	}
	l.Labels = strings.Join(labels, ",")
	return l
}

// has reports whether a network has addresses of a family.
func has(n engine.Network, family func(netip.Addr) bool) bool {
	for _, s := range n.Subnets {
		if family(s.Subnet.Addr()) {
			return true
		}
	}
	return false
}

func printList(sh *shell.Shell, lines []any, quiet bool, format string) error {
	if !quiet && format != "" && format != "table" {
		return sh.FormatTable(format, map[string]string{"CreatedAt": "CREATED AT", "Driver": "DRIVER", "ID": "NETWORK ID", "IPv4": "IPV4", "IPv6": "IPV6",
			"Internal": "INTERNAL", "Labels": "LABELS", "Name": "NAME", "Scope": "SCOPE"}, lines...)
	}
	w := shell.NewTable(sh.Stdout)
	if !quiet {
		fmt.Fprintln(w, "NETWORK ID\tNAME\tDRIVER\tSCOPE")
	}
	for _, x := range lines {
		l := x.(line)
		if quiet {
			fmt.Fprintln(w, l.ID)
			continue
		}
		fmt.Fprintln(w, strings.Join([]string{l.ID, l.Name, l.Driver, l.Scope}, "\t"))
	}
	return w.Flush()
}

// Inspect shows networks.
func Inspect(sh *shell.Shell) *cobra.Command {
	format, verbose := "", false
	cmd := &cobra.Command{
		Use:               "inspect [flags] NETWORK...",
		Short:             "Show all that is known of networks",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: Complete(sh, -1),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.IPAM.Config}}")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "")
	cmd.Flags().Lookup("verbose").Hidden = true // there is nothing more to say
	cmd.RunE = func(_ *cobra.Command, args []string) error { return sh.Inspect(args, format, Find) }
	return cmd
}

// Find describes the network of a name.
func Find(eng *engine.Engine, name string) (any, error) {
	n, err := eng.Network(name)
	if err != nil {
		return nil, err
	}
	members, err := eng.NetworkMembers(n)
	return newDocument(n, members), err
}

// document is a network in the form of Docker's inspect.
type document struct {
	Name    string
	ID      string `json:"Id"`
	Created time.Time
	Scope   string
	Driver  string
	familiesDoc
	IPAM     ipamDoc
	Internal bool
	swarmDoc
	Containers map[string]memberDoc
	Options    map[string]string
	Labels     map[string]string
}

type familiesDoc struct{ EnableIPv4, EnableIPv6 bool }

// swarmDoc is what no network of one host is.
type swarmDoc struct {
	Attachable, Ingress bool
	ConfigFrom          struct{ Network string }
	ConfigOnly          bool
}

type ipamDoc struct {
	Driver  string
	Options map[string]string
	Config  []subnetDoc
}

type subnetDoc struct {
	Subnet  string
	IPRange string `json:",omitempty"`
	Gateway string `json:",omitempty"`
}

type memberDoc struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
	Interface   string // in the container
}

func newDocument(n engine.Network, members []engine.NetworkMember) document {
	d := document{Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: string(n.Driver),
		familiesDoc: familiesDoc{has(n, netip.Addr.Is4), has(n, netip.Addr.Is6)}, IPAM: ipamDoc{Driver: "default", Config: []subnetDoc{}},
		Internal: n.Internal, Containers: map[string]memberDoc{}, Options: map[string]string{}, Labels: map[string]string{}}
	maps.Copy(d.Options, n.Options)
	maps.Copy(d.Labels, n.Labels)
	if n.Bridge != "" {
		d.Options["com.docker.network.bridge.name"] = n.Bridge
	}
	for _, s := range n.Subnets {
		x := subnetDoc{Subnet: s.Subnet.String()}
		if s.Range.IsValid() {
			x.IPRange = s.Range.String()
		}
		if s.Gateway.IsValid() {
			x.Gateway = s.Gateway.String()
		}
		d.IPAM.Config = append(d.IPAM.Config, x)
	}
	for _, m := range members {
		x := memberDoc{Name: m.Name, MacAddress: m.MAC, Interface: m.Interface}
		for _, a := range m.Addresses {
			if a.Addr().Is4() {
				x.IPv4Address = a.String()
			} else {
				x.IPv6Address = a.String()
			}
		}
		d.Containers[string(m.ID)] = x
	}
	return d
}
