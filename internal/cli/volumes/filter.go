package volumes

import (
	"regexp"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// parseFilter reads --filter, "NAME=VALUE" each, to a test of volumes. Of several names one has
// to fit, of all else everything.
func parseFilter(list []string) (func(v engine.Volume, used bool) bool, error) {
	var (
		names []*regexp.Regexp
		tests []func(engine.Volume, bool) bool
	)
	for _, text := range list {
		name, value, _ := strings.Cut(text, "=")
		bad := func(why, hint string) error {
			return errs.Newf(errs.Invalid, "read filter", text, why).WithHint(hint)
		}
		if value == "" {
			return nil, bad("it has no value", "write --filter NAME=VALUE")
		}
		switch name {
		case "name":
			p, err := regexp.Compile(value)
			if err != nil {
				return nil, errs.New(errs.Invalid, "read filter", text, err).WithHint("write a part of the name, or a regular expression")
			}
			names = append(names, p)
		case "label", "label!":
			key, want, exact := strings.Cut(value, "=")
			tests = append(tests, func(v engine.Volume, _ bool) bool {
				have, ok := v.Labels[key]
				return (ok && (!exact || have == want)) == (name == "label")
			})
		case "dangling":
			yes := value == "true" || value == "1"
			if !yes && value != "false" && value != "0" {
				return nil, bad("neither true nor false", "write dangling=true or dangling=false")
			}
			tests = append(tests, func(_ engine.Volume, used bool) bool { return used != yes })
		case "driver":
			tests = append(tests, func(engine.Volume, bool) bool { return value == "local" })
		default:
			return nil, bad("an unknown filter", "there are dangling, driver, label, label! and name")
		}
	}
	return func(v engine.Volume, used bool) bool {
		if len(names) > 0 && !slices.ContainsFunc(names, func(p *regexp.Regexp) bool { return p.MatchString(v.Name) }) {
			return false
		}
		return !slices.ContainsFunc(tests, func(test func(engine.Volume, bool) bool) bool { return !test(v, used) })
	}, nil
}
