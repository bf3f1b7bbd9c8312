package runflags

import (
	"testing"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Rates that are not named stay, and each interface has those of the flags.
func TestUpdateRates(t *testing.T) {
	change := func(c *spec.Container, args ...string) error {
		fs := pflag.NewFlagSet("update", pflag.ContinueOnError)
		u := BindUpdate(fs)
		if err := fs.Parse(args); err != nil {
			return err
		}
		do, err := u.Change()
		if err != nil {
			return err
		}
		return do(c)
	}
	c := &spec.Container{Networking: spec.Networking{Rate: spec.Rate{In: 1e6, Out: 2e6},
		Attachments: []spec.Attachment{{Network: "a"}, {Network: "b", Rate: spec.Rate{In: 3e6, Burst: 1 << 20}}}}}
	if err := change(c, "--network-opt", "rate-in=5mbit", "--network-opt", "rate-out=0"); err != nil {
		t.Fatal(err)
	}
	if n := c.Networking; n.Rate != (spec.Rate{In: 5e6}) || n.Attachments[0].Rate != (spec.Rate{}) || n.Attachments[1].Rate != (spec.Rate{In: 5e6, Burst: 1 << 20}) {
		t.Errorf("%+v", n)
	}
	c.Namespaces.Net.Mode = spec.None
	if err := change(c, "--network-opt", "rate-in=5mbit"); errs.HintOf(err) == "" {
		t.Error(err)
	}
	if err := change(c, "--pids-limit", "7"); err != nil {
		t.Error(err)
	}
	if err := change(c, "--network-opt", "rate=5mbit"); errs.HintOf(err) == "" {
		t.Error(err)
	}
}
