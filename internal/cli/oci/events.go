package oci

import (
	"encoding/json"
	"time"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/bundle/life"
	"github.com/cortenhq/corten/internal/errs"
)

func eventsFlags(f *pflag.FlagSet) {
	f.Bool("stats", false, "print once what it uses, and end")
	f.Duration("interval", 5*time.Second, "how often what it uses is printed")
}

// events prints a line of JSON for each event, as runc does.
func events(c *command, f *pflag.FlagSet, args []string) error {
	interval, _ := f.GetDuration("interval")
	if interval <= 0 {
		return errs.Newf(errs.Invalid, "use --interval", interval.String(), "it is not above zero").WithHint("5s is as good as any")
	}
	out := json.NewEncoder(c.stdout)
	if once, _ := f.GetBool("stats"); once {
		e, err := life.Stats(c.root, args[0])
		if err != nil {
			return err
		}
		return out.Encode(e)
	}
	return life.Events(c.ctx, c.root, args[0], interval, func(e life.Event) error { return out.Encode(e) })
}
