package events

import (
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Filter says which events are wanted: all that every part lets through. Of a part with
// several values one has to fit, but for labels, of which all have to. The zero value wants
// all.
type Filter struct {
	Types      []string
	Actions    []string
	Containers []string // names, ids, or beginnings of ids
	Images     []string // names, with or without their tag, or ids
	Volumes    []string
	Networks   []string // names, or ids
	Labels     []string // NAME or NAME=VALUE
}

// ParseFilter reads what people write after --filter, "NAME=VALUE" each.
func ParseFilter(list []string) (Filter, error) {
	const hint = "there are container, event, image, label, network, type and volume"
	var f Filter
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || value == "" {
			return f, errs.Newf(errs.Invalid, "read filter", text, "it has no value").WithHint("write --filter NAME=VALUE")
		}
		switch name {
		case "type":
			f.Types = append(f.Types, value)
		case "event":
			f.Actions = append(f.Actions, value)
		case "container":
			f.Containers = append(f.Containers, strings.TrimPrefix(value, "/"))
		case "image":
			f.Images = append(f.Images, value)
		case "volume":
			f.Volumes = append(f.Volumes, value)
		case "network":
			f.Networks = append(f.Networks, value)
		case "label":
			f.Labels = append(f.Labels, value)
		case "daemon", "scope", "plugin", "node", "service", "secret", "config":
			return f, errs.Newf(errs.Unsupported, "read filter", text, "nothing of that kind has events").WithHint(hint)
		default:
			return f, errs.Newf(errs.Invalid, "read filter", text, "an unknown filter").WithHint(hint)
		}
	}
	return f, nil
}

// Match reports whether an event gets through.
func (f *Filter) Match(e *Event) bool {
	action, _, _ := strings.Cut(e.Action, ":") // of "exec_start: sh -c date"
	return fits(f.Types, e.Type) && fits(f.Actions, action) &&
		(f.Containers == nil || e.Type == TypeContainer && slices.ContainsFunc(f.Containers, func(c string) bool {
			return c == e.Attributes["name"] || strings.HasPrefix(e.ID, c)
		})) &&
		(f.Images == nil || slices.ContainsFunc(f.Images, e.ofImage)) &&
		(f.Volumes == nil || e.Type == TypeVolume && slices.Contains(f.Volumes, e.ID)) &&
		(f.Networks == nil || e.Type == TypeNetwork && (slices.Contains(f.Networks, e.ID) || slices.Contains(f.Networks, e.Attributes["name"]))) &&
		spec.HasLabels(e.Attributes, f.Labels)
}

func fits(wanted []string, s string) bool { return wanted == nil || slices.Contains(wanted, s) }

// ofImage reports whether the event is about an image, or about a container made of it.
func (e *Event) ofImage(name string) bool {
	var named string
	switch e.Type {
	case TypeImage:
		named = e.Attributes["name"]
		if e.ID == name || withoutTag(e.ID) == name {
			return true
		}
	case TypeContainer:
		named = e.Attributes["image"]
	}
	return named != "" && (named == name || withoutTag(named) == name)
}

// withoutTag is the name of an image without its digest and tag. A colon before the last
// slash is that of a port.
func withoutTag(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}
