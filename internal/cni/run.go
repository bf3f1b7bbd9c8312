package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Verb is what plugins are executed for.
type Verb string

// The verbs of the specification that are used.
const (
	Add Verb = "ADD"
	Del Verb = "DEL"
)

// Task is what corten-cni reads from its standard input.
type Task struct {
	Verb      Verb             `json:"verb"`
	ID        spec.ContainerID `json:"id"`
	Namespace string           `json:"namespace"` // its path; empty: it is gone
	Cache     string           `json:"cache"`     // the folder for what plugins answered, which they are told again at the end
	Link      wiring.Link      `json:"link"`
	Ports     []wiring.Forward `json:"ports,omitempty"` // only for the link that they lead to
	DNS       []netip.Addr     `json:"dns,omitempty"`   // the servers that the user names
	Timeout   time.Duration    `json:"timeout"`
}

// Done is what it writes to its standard output.
type Done struct {
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Gateways  []netip.Addr   `json:"gateways,omitempty"`
	MAC       string         `json:"mac,omitempty"`
	DNS       []netip.Addr   `json:"dns,omitempty"`
	Failure   *errs.Parts    `json:"failure,omitempty"` // then nothing else
}

// grace is what corten-cni has beside its plugins' time to say that that is over.
const grace = time.Second

// Run has the plugins of a link executed. The process has held open as long as it lives, and its plugins with
// it: a lock, which is so not let go before they are done even if we are killed.
func Run(t Task, held *os.File) (Done, error) {
	var d Done
	program, err := programs.Find("corten-cni")
	if err != nil {
		return d, err
	}
	input, err := json.Marshal(t)
	if err != nil {
		return d, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.Timeout+grace)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Stdin, cmd.ExtraFiles = bytes.NewReader(input), []*os.File{held}
	output, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(output, &d)
	}
	if err != nil {
		return d, errs.Wrap("execute", program, err)
	}
	if f := d.Failure; f != nil {
		return Done{}, f.Whole()
	}
	return d, nil
}

// Apply writes what plugins say of a link into its document. Servers of names that they know are asked by the
// container's own, unless the user has named others.
func (done Done) Apply(d *wiring.Document, link int) {
	l := &d.Links[link]
	l.Addresses, l.Gateways, l.MAC = done.Addresses, done.Gateways, done.MAC
	if r := d.Resolver; r != nil && len(r.Upstream) == 0 {
		r.Upstream = done.DNS
	}
	if i, err := portLink(d.Links); err != nil || i != link {
		return
	}
	d.Ports = slices.DeleteFunc(d.Ports, func(f wiring.Forward) bool { return !address(l, f.HostIP.Is6()).IsValid() })
	for i := range d.Ports {
		d.Ports[i].To = address(l, d.Ports[i].HostIP.Is6())
	}
}

func address(l *wiring.Link, v6 bool) netip.Addr {
	for _, a := range l.Addresses {
		if a.Addr().Is6() == v6 {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// PortsOf is the published ports that the plugins of a link are told of.
func PortsOf(d *wiring.Document, link int) []wiring.Forward {
	if i, err := portLink(d.Links); err == nil && i == link {
		return d.Ports
	}
	return nil
}
