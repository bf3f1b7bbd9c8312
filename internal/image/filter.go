package image

import (
	"path"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/spec"
)

// Filter says which images are wanted: all that every part lets through. The zero value
// wants all.
type Filter struct {
	References []string // patterns of path.Match, of which one must match the name
	Dangling   *bool    // without a name
	Labels     []string // NAME or NAME=VALUE
	Before     string   // made before this image
	Since      string   // made after this image
	Until      time.Time
}

// ParseFilter reads what people write after --filter, "NAME=VALUE" each.
func ParseFilter(list []string, now time.Time) (Filter, error) {
	var f Filter
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		bad := func(why, hint string) (Filter, error) {
			return f, errs.Newf(errs.Invalid, "read filter", text, why).WithHint(hint)
		}
		if !ok {
			return bad("it has no value", "write --filter NAME=VALUE")
		}
		switch name {
		case "reference":
			f.References = append(f.References, value)
		case "label":
			f.Labels = append(f.Labels, value)
		case "before":
			f.Before = value
		case "since":
			f.Since = value
		case "dangling":
			yes := value == "true" || value == "1"
			if !yes && value != "false" && value != "0" {
				return bad("neither true nor false", "write dangling=true or dangling=false")
			}
			f.Dangling = &yes
		case "until":
			if d, err := time.ParseDuration(value); err == nil {
				f.Until = now.Add(-d)
			} else if f.Until, err = time.Parse(time.RFC3339, value); err != nil {
				return bad("neither a duration nor a time", "write until=24h, or a time as 2006-01-02T15:04:05Z")
			}
		default:
			return bad("an unknown filter", "there are before, dangling, label, reference, since and until")
		}
	}
	return f, nil
}

// pass compiles a filter: the function says whether an image, with a name or without, gets
// through.
func (l *Library) pass(f Filter) (func(oci.Ref, Image) bool, error) {
	for _, p := range f.References {
		if _, err := path.Match(p, ""); err != nil {
			return nil, errs.New(errs.Invalid, "read filter", "reference="+p, err)
		}
	}
	before, after := f.Until, time.Time{}
	if f.Before != "" {
		x, err := l.Find(f.Before, nil)
		if err != nil {
			return nil, err
		}
		if before.IsZero() || x.Created.Before(before) {
			before = x.Created
		}
	}
	if f.Since != "" {
		x, err := l.Find(f.Since, nil)
		if err != nil {
			return nil, err
		}
		after = x.Created
	}
	return func(ref oci.Ref, x Image) bool {
		return (f.Dangling == nil || *f.Dangling == (x.Ref == "")) &&
			(len(f.References) == 0 || x.Ref != "" && matches(f.References, ref)) &&
			(before.IsZero() || x.Created.Before(before)) &&
			(f.Since == "" || x.Created.After(after)) &&
			spec.HasLabels(x.Config.Labels, f.Labels)
	}, nil
}

// matches reports whether a pattern matches a name as Docker's do: its short or its full
// form, with the tag or without.
func matches(patterns []string, ref oci.Ref) bool {
	bare := ref
	bare.Tag, bare.Digest = "", ""
	for _, p := range patterns {
		for _, name := range []string{ref.Familiar(), bare.Familiar(), ref.String(), bare.String()} {
			if ok, _ := path.Match(p, name); ok {
				return true
			}
		}
	}
	return false
}
