package kept

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/draft"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/keeper"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// Reconnect tells the keeper of a container that it is connected in another way. One in the foreground
// has none: who tends it sees by itself.
func Reconnect(dirs container.Dirs, id spec.ContainerID) error {
	dir := container.KeepDir(dirs, id)
	o, err := keeper.ReadOrders(dir)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	doc, _, err := network.Document(draft.NetDirs(dirs), id)
	if err != nil {
		return err
	}
	orderConnection(&o, doc)
	if err := o.Write(dir); err != nil {
		return err
	}
	SignalKeeper(dirs, id, unix.SIGUSR2) // read the orders again
	return nil
}

// orderConnection tells a keeper what a document means for it: to look after the host's rules, and
// to answer for names.
func orderConnection(o *keeper.Orders, doc *wiring.Document) {
	o.Net, o.Resolver = "", keeper.ResolverOrders{}
	if doc == nil {
		return
	}
	if slices.ContainsFunc(doc.Links, func(l wiring.Link) bool { return l.Driver == wiring.Bridge }) {
		o.Net, _ = programs.Find("corten-net") // without it the rules were not made either
	}
	if r := doc.Resolver; r != nil {
		o.Resolver = keeper.ResolverOrders{Port: r.Port, Networks: r.Networks, Alone: r.Alone}
		for _, a := range r.Upstream {
			o.Resolver.Upstream = append(o.Resolver.Upstream, a.String())
		}
	}
}
