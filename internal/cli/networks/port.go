package networks

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/netflags"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Port lists the ports of the host that lead to a container.
func Port(sh *shell.Shell) *cobra.Command {
	return &cobra.Command{
		Use: "port CONTAINER [PORT[/PROTOCOL]]",
		Long: `List the ports of the host that lead to a container, or to one port of it.

With --network host a container's ports are the host's own, and none are listed.`,
		Args:              declare.Args(1, 2),
		ValidArgsFunction: declare.Containers(sh, 1, engine.ContainerRunning),
		RunE: func(_ *cobra.Command, args []string) error {
			eng, err := sh.Engine()
			if err != nil {
				return err
			}
			c, err := eng.Container(args[0])
			if err != nil {
				return err
			}
			w, err := eng.Wiring(c.Spec.ID)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				for _, f := range forwards(w) {
					fmt.Fprintln(sh.Stdout, f.Service.String()+" -> "+hostSide(f).String())
				}
				return nil
			}
			return portOf(sh, w, c.Spec, args[1])
		},
	}
}

func portOf(sh *shell.Shell, w *engine.Wiring, c *spec.Container, text string) error {
	want, ok := netflags.ParseService(text)
	if !ok {
		return shell.Misused(errs.Newf(errs.Invalid, "find port", strconv.Quote(text), "not a port").WithHint("write 80, or 53/udp"))
	}
	found := false
	for _, f := range forwards(w) {
		if f.Service == want {
			fmt.Fprintln(sh.Stdout, hostSide(f))
			found = true
		}
	}
	if found {
		return nil
	}
	hint := "corten port " + c.Name + " lists those that there are"
	if len(forwards(w)) == 0 {
		hint = "publish it when the container is made: corten run -p " + strconv.Itoa(int(want.Port))
	}
	return errs.Newf(errs.NotFound, "find port", want.String(), "no port of the host leads there in container "+c.Name).WithHint(hint)
}

// forwards is the published ports in the order of those in the container.
func forwards(w *engine.Wiring) []engine.Forward {
	if w == nil {
		return nil
	}
	list := slices.Clone(w.Ports)
	slices.SortStableFunc(list, func(a, b engine.Forward) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), a.HostIP.Compare(b.HostIP), cmp.Compare(a.HostPort, b.HostPort))
	})
	return list
}

func hostSide(f engine.Forward) netip.AddrPort { return netip.AddrPortFrom(f.HostIP, f.HostPort) }

// run is ports of the container that follow each other, and where they can be reached.
type run struct {
	protocol    spec.Protocol
	first, last uint16
	host        netip.Addr // zero: nowhere
	begin       uint16     // the port of the host that leads to the first; those to the others follow it
}

// PortsText says in Docker's words which ports of a running container can be reached where, and
// which are only named: "0.0.0.0:8080-8082->80-82/tcp, 443/tcp".
func PortsText(w *engine.Wiring, expose []spec.Service) string {
	var runs []run
	add := func(r run) {
		for i := range runs {
			o := &runs[i]
			if o.protocol == r.protocol && o.host == r.host && o.last+1 == r.first && (r.begin == 0 && o.begin == 0 || o.begin != 0 && o.begin+(o.last-o.first)+1 == r.begin) {
				o.last = r.first
				return
			}
		}
		runs = append(runs, r)
	}
	list := forwards(w)
	for _, f := range list {
		add(run{f.Protocol, f.Port, f.Port, f.HostIP, f.HostPort})
	}
	for _, e := range expose {
		if !slices.ContainsFunc(list, func(f engine.Forward) bool { return f.Service == e }) {
			add(run{protocol: e.Protocol, first: e.Port, last: e.Port})
		}
	}
	slices.SortStableFunc(runs, func(a, b run) int { return cmp.Or(cmp.Compare(a.first, b.first), a.host.Compare(b.host)) })
	words := make([]string, len(runs))
	for i, r := range runs {
		words[i] = r.String()
	}
	return strings.Join(words, ", ")
}

func (r run) String() string {
	text := span(r.first, r.last) + "/" + string(r.protocol)
	if !r.host.IsValid() {
		return text
	}
	host := r.host.String()
	if r.host.Is6() {
		host = "[" + host + "]"
	}
	return host + ":" + span(r.begin, r.begin+(r.last-r.first)) + "->" + text
}

func span(first, last uint16) string {
	if first == last {
		return strconv.Itoa(int(first))
	}
	return strconv.Itoa(int(first)) + "-" + strconv.Itoa(int(last))
}
