package container

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Filter says which containers are wanted: all that every part lets through. Of a part with
// several values one has to fit, but for labels, of which all have to. The zero value wants
// those that run.
type Filter struct {
	All       bool
	Last      int // at most so many, the youngest; 0: any number. Those that do not run count too
	IDs       []string
	Names     []string // regular expressions
	Labels    []string // NAME or NAME=VALUE
	Exited    []int    // with one of these exit codes
	States    []string
	Ancestors []string // names of images
	Before    string   // made before this container
	Since     string   // made after this container
	Volumes   []string // names, or places in the container
	Health    []string
	NetworkFilter

	Whole    bool                  // with all of their descriptions, rather than outlines
	Descends func(spec.Image) bool // whether an image is one of Ancestors, or made of it
}

const filterHint = "there are ancestor, before, exited, expose, health, id, label, name, network, publish, since, status and volume"

// ParseFilter reads what people write after --filter, "NAME=VALUE" each.
func ParseFilter(list []string) (Filter, error) {
	var f Filter
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		bad := func(why, hint string) (Filter, error) {
			return f, errs.Newf(errs.Invalid, "read filter", text, why).WithHint(hint)
		}
		if !ok || value == "" {
			return bad("it has no value", "write --filter NAME=VALUE")
		}
		if to := f.list(name); to != nil {
			*to = append(*to, value)
			continue
		}
		switch name {
		case "exited":
			n, err := strconv.Atoi(value)
			if err != nil {
				return bad("not an exit code", "write exited=0")
			}
			f.Exited = append(f.Exited, n)
		case "before":
			f.Before = value
		case "since":
			f.Since = value
		case "publish", "expose":
			if !f.addPorts(name == "publish", value) {
				return bad("not a port", "write "+name+"=80, 8000-8010 or 53/udp")
			}
		case "is-task":
			return f, errs.Newf(errs.Unsupported, "read filter", text, "Corten has no swarm").WithHint(filterHint)
		default:
			return bad("an unknown filter", filterHint)
		}
	}
	for _, s := range f.States {
		if !slices.Contains([]string{"created", "running", "paused", "restarting", "removing", "exited", "dead"}, s) {
			return f, errs.Newf(errs.Invalid, "read filter", "status="+s, "no such state").
				WithHint("the states are created, running, paused, restarting and exited")
		}
	}
	for _, s := range f.Health {
		if !slices.Contains([]string{"none", "starting", "healthy", "unhealthy"}, s) {
			return f, errs.Newf(errs.Invalid, "read filter", "health="+s, "no such health").
				WithHint("write none, starting, healthy or unhealthy")
		}
	}
	return f, nil
}

// list is the part that a name stands for, if it takes any text.
func (f *Filter) list(name string) *[]string {
	switch name {
	case "id":
		return &f.IDs
	case "name":
		return &f.Names
	case "label":
		return &f.Labels
	case "status":
		return &f.States
	case "ancestor":
		return &f.Ancestors
	case "volume":
		return &f.Volumes
	case "health":
		return &f.Health
	case "network":
		return &f.Networks
	}
	return nil
}

// resolve finds what the filter refers to, and says which views get through.
func (f Filter) resolve(dirs Dirs) (func(View) bool, error) {
	var before, since time.Time
	for _, r := range []struct {
		ref string
		to  *time.Time
	}{{f.Before, &before}, {f.Since, &since}} {
		if r.ref == "" {
			continue
		}
		id, err := Find(dirs, r.ref)
		if err != nil {
			return nil, err
		}
		s, err := Load(dirs, id)
		if err != nil {
			return nil, err
		}
		*r.to = s.Spec.Created
	}
	names, err := patterns("name", f.Names)
	if err != nil {
		return nil, err
	}
	ids, err := patterns("id", f.IDs)
	if err != nil {
		return nil, err
	}
	all := f.All || f.Last > 0 || len(f.States) > 0
	return func(v View) bool {
		c, st := v.Spec, v.State
		return (all || st.Alive()) &&
			(ids == nil || anyMatch(ids, string(c.ID))) &&
			(names == nil || anyMatch(names, c.Name) || anyMatch(names, "/"+c.Name)) &&
			(len(f.Exited) == 0 || st.Status == Exited && slices.Contains(f.Exited, st.ExitCode)) &&
			(len(f.States) == 0 || slices.Contains(f.States, v.Word())) &&
			(len(f.Health) == 0 || slices.Contains(f.Health, string(v.Health))) &&
			(before.IsZero() || c.Created.Before(before)) &&
			(since.IsZero() || c.Created.After(since)) &&
			(len(f.Ancestors) == 0 || slices.Contains(f.Ancestors, c.Image.Name) || f.Descends != nil && f.Descends(c.Image)) &&
			spec.HasLabels(c.Labels, f.Labels) &&
			f.NetworkFilter.pass(c) &&
			(len(f.Volumes) == 0 || slices.ContainsFunc(c.Mounts, func(m spec.Mount) bool {
				return slices.Contains(f.Volumes, m.Source) || slices.Contains(f.Volumes, m.Target)
			}))
	}, nil
}

// onNetwork reports whether a container is to be on a network.
func onNetwork(c *spec.Container, name string) bool {
	if m := c.Namespaces.Net.Mode; m != spec.Private {
		return name == string(m)
	}
	return slices.ContainsFunc(c.Networking.Attachments, func(a spec.Attachment) bool { return a.Network == name })
}

// NetworkFilter wants containers that are to be on some network, and that publish one of some of
// their ports, or name one of some.
type NetworkFilter struct {
	Networks        []string // names; host and none too, for which Whole is needed
	publish, expose []portRange
}

type portRange struct {
	protocol    spec.Protocol
	first, last uint16
}

// addPorts reads PORT[-LAST][/PROTOCOL].
func (f *NetworkFilter) addPorts(publish bool, text string) bool {
	text, protocol, given := strings.Cut(text, "/")
	first, last, isRange := strings.Cut(text, "-")
	if !given {
		protocol = string(spec.TCP)
	}
	if !isRange {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	r := portRange{spec.Protocol(protocol), uint16(a), uint16(b)}
	if publish {
		f.publish = append(f.publish, r)
	} else {
		f.expose = append(f.expose, r)
	}
	known := r.protocol == spec.TCP || r.protocol == spec.UDP || r.protocol == spec.SCTP
	return err1 == nil && err2 == nil && a <= b && known
}

func (f *NetworkFilter) pass(c *spec.Container) bool {
	n := &c.Networking
	in := func(list []portRange) func(spec.Service) bool {
		return func(s spec.Service) bool {
			return slices.ContainsFunc(list, func(r portRange) bool { return s.Protocol == r.protocol && r.first <= s.Port && s.Port <= r.last })
		}
	}
	published := in(f.publish)
	return (f.Networks == nil || slices.ContainsFunc(f.Networks, func(name string) bool { return onNetwork(c, name) })) &&
		(f.publish == nil || slices.ContainsFunc(n.Ports, func(p spec.Port) bool { return published(p.Service) }) ||
			n.PublishAll && slices.ContainsFunc(n.Expose, published)) &&
		(f.expose == nil || slices.ContainsFunc(n.Expose, in(f.expose)))
}

func patterns(part string, texts []string) ([]*regexp.Regexp, error) {
	var list []*regexp.Regexp
	for _, t := range texts {
		p, err := regexp.Compile(t)
		if err != nil {
			return nil, errs.New(errs.Invalid, "read filter", part+"="+t, err).WithHint("write a part of it, or a regular expression")
		}
		list = append(list, p)
	}
	return list, nil
}

func anyMatch(list []*regexp.Regexp, s string) bool {
	return slices.ContainsFunc(list, func(p *regexp.Regexp) bool { return p.MatchString(s) })
}
