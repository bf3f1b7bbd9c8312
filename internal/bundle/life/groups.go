package life

import (
	"context"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/bundle"
	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/cgroup/scope"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/systemd"
)

// groups is how a container gets its control groups.
type groups struct {
	cgroup.Plan
	host  cgroup.Host
	owner func(cgroup.Group) error // gives the group to the container's root, if it may have it

	// With --systemd-cgroup systemd makes them, around stand, which ends when the container's process
	// has been born in them.
	scope   scope.Scope
	manager *systemd.Manager
	more    []systemd.Property
	stand   *launch.StandIn
}

// planGroups plans the control groups. The container joins all that count or limit something: whoever
// drives this command reads them, and may limit later.
func planGroups(b *bundle.Bundle, place record.Place, req Request) (g *groups, err error) {
	g = &groups{host: detect(), owner: ownerOf(b.Spec)}
	r := cgroup.Request{Resources: b.Spec.Resources, Account: true, Ready: true, Every: true}
	if r.Parent, r.ID = groupName(b.Groups, place); req.Systemd {
		if err := g.ask(b.Groups, place, b.Annotations); err != nil {
			return g, err
		}
		top, err := g.manager.Group()
		if err != nil {
			return g, err
		}
		if nest.Owner() >= 0 {
			if err := scope.Enter(g.manager, top); err != nil {
				return g, err
			}
			g.host = detect().Below(top)
		}
		r.Parent, r.ID = g.scope.Parent(top), g.scope.Unit
	}
	g.Plan, err = cgroup.New(g.host, r)
	if err == nil && req.Rootless && !g.Allowed() && !limited(r.Resources) {
		g.host = cgroup.Host{}
		r.Resources.Devices = nil // whoever may make no groups cannot open devices
		g.Plan, err = cgroup.New(g.host, r)
	}
	return g, err
}

// detect finds the control groups of the host. Root of a user's namespace may filter no devices.
func detect() cgroup.Host {
	host := cgroup.Detect()
	host.Root = host.Root && nest.Owner() < 0
	return host
}

// limited reports whether limits are asked for that take a group.
func limited(r spec.Resources) bool {
	r.Devices = nil
	return !reflect.ValueOf(r).IsZero()
}

// ask connects to systemd, and finds out what to ask for.
func (g *groups) ask(path string, place record.Place, annotations map[string]string) (err error) {
	_, name := groupName("", place)
	if g.scope, err = scope.Parse(path, name, nest.Owner() >= 0); err != nil {
		return err
	}
	if g.more, err = scope.Annotated(annotations); err != nil {
		return err
	}
	g.manager, err = manager()
	return err
}

// manager connects to the systemd that makes scopes for us: the host's for its root, else the user's.
func manager() (*systemd.Manager, error) {
	if user := nest.Owner(); user >= 0 {
		return systemd.User(user)
	}
	return systemd.System()
}

// make makes them. What is not made yet may be another's, and is not ours to destroy: so the container
// has them when they are there.
func (g *groups) make(c *Container) (err error) {
	if g.manager != nil {
		if g.stand, err = launch.NewStandIn(g.Enter); err != nil {
			return err
		}
		if err := g.scope.Start(g.manager, g.stand.PID, g.Plan, g.more); err != nil {
			return err
		}
		c.State.Groups, c.State.Scope = g.Group, g.scope.Unit
		if err := c.Place.Save(c.State); err != nil {
			return err
		}
	}
	if g.stand != nil {
		if err := g.stand.Enter(g.Join); err != nil {
			return err
		}
		if err := g.Guard(); err != nil {
			return err
		}
		return g.owner(g.Group)
	}
	if err := g.Make(); err != nil {
		return err
	}
	c.State.Groups = g.Group
	if err := c.Place.Save(c.State); err != nil {
		return err
	}
	return g.owner(g.Group)
}

// ownerOf says who is given the group of v2 (config-linux.md, "Cgroup ownership"): root of a container with a
// cgroup namespace of its own, which it sees so that it can be written.
func ownerOf(c *spec.Container) func(cgroup.Group) error {
	sees := slices.ContainsFunc(c.Mounts, func(m spec.Mount) bool {
		return (m.Type == "cgroup" || m.Type == "cgroup2") && !slices.Contains(m.Options, "ro")
	})
	ns := c.Namespaces
	uid, okU := hostID(ns.User.UIDMap)
	gid, okG := hostID(ns.User.GIDMap)
	if !sees || !ns.Cgroup.New() || !okU || !okG {
		return func(cgroup.Group) error { return nil }
	}
	return func(g cgroup.Group) error { return g.Delegate(uid, gid) }
}

// hostID is what id 0 of a map is outside.
func hostID(list []spec.IDMap) (int, bool) {
	for _, m := range list {
		if m.Container == 0 && m.Size > 0 {
			return int(m.Host), true
		}
	}
	return 0, false
}

// sweepGroups removes the groups of a creation that was cut short before it wrote down that it made them:
// those of the names that it would have made, as long as they are empty. A scope ends with its last process.
func sweepGroups(place record.Place, s *record.State) {
	text, err := place.Description()
	if err != nil {
		return
	}
	b, err := bundle.Parse(s.Bundle, text, held())
	if err != nil || len(s.Groups) > 0 {
		return
	}
	g, err := planGroups(b, place, Request{})
	if err != nil {
		return
	}
	for _, dir := range slices.Backward(g.Group) {
		_ = os.Remove(dir)
	}
}

// close gives back what making them took.
func (g *groups) close() {
	if g.stand != nil {
		g.stand.End()
	}
	if g.manager != nil {
		g.manager.Close()
	}
}

// show plans what the container sees of them.
func (g *groups) show(c *spec.Container, in *bundled.Input) {
	in.Groups = plan.Groups{Make: plan.MakeGroups{Dirs: g.Group, Writes: g.Words()}, V2: g.V2, Enter: g.Enter}
	switch {
	case len(g.host.V1) == 0 && g.host.V2.Mount != "":
		in.Groups.Mount = []plan.MountFS{{Type: "cgroup2", Source: "cgroup"}}
	case c.Namespaces.Cgroup.Mode == spec.Private:
		// Only those that the container is part of: of others it would see the host's.
		var names [][]string
		for _, h := range g.host.Hierarchies() {
			if slices.ContainsFunc(g.Group, func(dir string) bool { return strings.HasPrefix(dir, h.Mount+"/") }) {
				names = append(names, h.Controllers)
			}
		}
		in.Groups.Mount = bundled.GroupViews(names, g.V2 != "")
	default:
		for _, dir := range g.Group {
			in.Binds = append(in.Binds, plan.File{Source: plan.Source{Path: dir}, Target: hierarchy(g.host, dir), What: "its control group"})
		}
	}
}

// hierarchy is the name of the hierarchy that a group is in.
func hierarchy(host cgroup.Host, dir string) string {
	for _, h := range host.Hierarchies() {
		if strings.HasPrefix(dir, h.Mount+"/") {
			return h.Name()
		}
	}
	return "unified"
}

// groupName splits a cgroupsPath (config-linux.md, "Cgroups Path"). Without one the name tells
// containers of one id apart that are of different folders.
func groupName(path string, place record.Place) (parent, name string) {
	if path == "" {
		h := fnv.New32a()
		_, _ = h.Write([]byte(place.Dir()))
		return "", place.ID + "-" + strconv.FormatUint(uint64(h.Sum32()), 16)
	}
	parent, name = filepath.Split(filepath.Clean(path))
	if parent != "/" {
		parent = filepath.Clean(parent)
	}
	if parent == "." {
		parent = ""
	}
	return parent, name
}

// destroyTime is how long processes may take to die.
const destroyTime = 10 * time.Second

// destroy ends all processes of a container's groups and removes them. Of a scope systemd removes what it has
// made when it is empty; that it has forgotten it is waited for, so that the name is free. Its class in
// resctrl goes too.
func destroy(ctx context.Context, s *record.State) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), destroyTime)
	defer cancel()
	if s.Scope == "" {
		return errors.Join(s.Groups.Destroy(ctx), s.Share.Remove(), unmountRoot(s))
	}
	err := s.Groups.Kill(ctx)
	if err == nil {
		err = stop(s.Scope)
	}
	return errors.Join(err, s.Groups.Remove(ctx), s.Share.Remove(), unmountRoot(s))
}

// reach has this process be where it may make others in a container's scope, which a user's session is not.
func reach(s *record.State) error {
	if s.Scope == "" || nest.Owner() < 0 {
		return nil
	}
	m, err := manager()
	if err != nil {
		return err
	}
	defer m.Close()
	top, err := m.Group()
	if err != nil {
		return err
	}
	return scope.Enter(m, top)
}

func stop(unit string) error {
	m, err := manager()
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Stop(unit)
}
