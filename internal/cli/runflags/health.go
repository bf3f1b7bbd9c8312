package runflags

import (
	"math"
	"time"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

// health is how it is found out whether the container does what it should.
type health struct {
	cmd, interval, timeout, startPeriod, startInterval string
	retries, onFailure                                 string
	off                                                bool
}

func (f *health) bind(g group) {
	g.text(&f.cmd, "health-cmd", "", "Check with `COMMAND`, a line for the container's shell; it is well if that ends with 0")
	g.text(&f.interval, "health-interval", "", "`TIME` between checks (default 30s)")
	g.text(&f.timeout, "health-timeout", "", "`TIME` after which a check has failed (default 30s)")
	g.text(&f.startPeriod, "health-start-period", "", "`TIME` in which failures do not count, since it has just been started (default 0s)")
	g.text(&f.startInterval, "health-start-interval", "", "`TIME` between checks in that period (default 5s)")
	g.text(&f.retries, "health-retries", "", "`NUMBER` of failures in a row that make it unhealthy (default 3)")
	g.text(&f.onFailure, "health-on-failure", "", "What to do when it is unhealthy: `ACTION` is none, kill, restart or stop (default none)")
	g.yesNo(&f.off, "no-healthcheck", "", false, "Do not check, whatever the image says")
}

// fill says only what the user said: the image adds the rest.
func (f *health) fill(c *spec.Container, set *pflag.FlagSet) error {
	given := ""
	for _, name := range [...]string{"health-cmd", "health-interval", "health-timeout", "health-start-period",
		"health-start-interval", "health-retries", "health-on-failure"} {
		if set.Changed(name) {
			given = "--" + name
		}
	}
	switch {
	case f.off && given != "":
		return values.Conflict("--no-healthcheck", given, "they say the opposite")
	case f.off:
		c.Life.Health = &spec.Health{Off: true}
		return nil
	case given == "":
		return nil
	}
	h := &spec.Health{}
	c.Life.Health = h
	if f.cmd != "" {
		h.Test = []string{"CMD-SHELL", f.cmd}
	}
	for _, l := range []struct {
		flag, text string
		to         *time.Duration
	}{
		{"health-interval", f.interval, &h.Interval},
		{"health-timeout", f.timeout, &h.Timeout},
		{"health-start-period", f.startPeriod, &h.StartPeriod},
		{"health-start-interval", f.startInterval, &h.StartInterval},
	} {
		var err error
		if *l.to, err = values.Time(l.flag, l.text); err != nil {
			return err
		}
	}
	n, err := values.Int("health-retries", f.retries, 0, math.MaxInt32)
	if err != nil {
		return err
	}
	h.Retries = int(n)
	switch f.onFailure {
	case "", "none":
	case "kill", "restart", "stop":
		h.OnFailure = f.onFailure
	default:
		return values.Bad("health-on-failure", f.onFailure, "no such action", "write none, kill, restart or stop")
	}
	return nil
}
