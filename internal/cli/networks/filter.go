package networks

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// The filters of verbs, in their words.
const (
	listFilters  = "dangling, driver, id, label, label!, name and type"
	pruneFilters = "label, label! and until"
)

// filter says which networks are wanted. Of several names or ids one has to fit, of all else
// everything.
type filter struct {
	names, ids []*regexp.Regexp
	tests      []func(n engine.Network, used bool) bool
}

// parseFilter reads --filter, "NAME=VALUE" each, of those that a verb knows.
func parseFilter(list []string, known string) (func(n engine.Network, used bool) bool, error) {
	var f filter
	for _, text := range list {
		name, value, _ := strings.Cut(text, "=")
		switch {
		case value == "":
			return nil, badFilter(text, "it has no value", "write --filter NAME=VALUE")
		case !slices.Contains(strings.FieldsFunc(known, func(r rune) bool { return r == ' ' || r == ',' }), name) || name == "and":
			return nil, badFilter(text, "an unknown filter", "there are "+known)
		}
		if err := f.add(text, name, value); err != nil {
			return nil, err
		}
	}
	return f.pass, nil
}

func badFilter(text, why, hint string) error {
	return errs.Newf(errs.Invalid, "read filter", text, why).WithHint(hint)
}

func (f *filter) add(text, name, value string) error {
	test := func(t func(n engine.Network, used bool) bool) { f.tests = append(f.tests, t) }
	switch name {
	case "name", "id":
		p, err := regexp.Compile(value)
		if err != nil {
			return errs.New(errs.Invalid, "read filter", text, err).WithHint("write a part of it, or a regular expression")
		}
		if name == "id" {
			f.ids = append(f.ids, p)
		} else {
			f.names = append(f.names, p)
		}
	case "label", "label!":
		key, want, exact := strings.Cut(value, "=")
		test(func(n engine.Network, _ bool) bool {
			have, ok := n.Labels[key]
			return (ok && (!exact || have == want)) == (name == "label")
		})
	case "driver":
		test(func(n engine.Network, _ bool) bool { return string(n.Driver) == value })
	case "type":
		if value != "custom" && value != "builtin" {
			return badFilter(text, "no such type", "write type=custom or type=builtin")
		}
		test(func(n engine.Network, _ bool) bool { return (n.Name == engine.DefaultNetwork) == (value == "builtin") })
	case "dangling":
		yes := value == "true" || value == "1"
		if !yes && value != "false" && value != "0" {
			return badFilter(text, "neither true nor false", "write dangling=true or dangling=false")
		}
		test(func(n engine.Network, used bool) bool { return (used || n.Name == engine.DefaultNetwork) != yes }) // which is to stay
	case "until":
		at, err := values.When("filter", value, time.Now())
		if err != nil {
			return err
		}
		test(func(n engine.Network, _ bool) bool { return n.Created.Before(at) })
	}
	return nil
}

func (f *filter) pass(n engine.Network, used bool) bool {
	match := func(list []*regexp.Regexp, s string) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(p *regexp.Regexp) bool { return p.MatchString(s) })
	}
	return match(f.names, n.Name) && match(f.ids, n.ID) &&
		!slices.ContainsFunc(f.tests, func(test func(engine.Network, bool) bool) bool { return !test(n, used) })
}
