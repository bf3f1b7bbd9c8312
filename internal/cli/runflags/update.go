package runflags

import (
	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/netflags"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

// Update is the flags of update: what can be changed of a container that exists.
type Update struct {
	set     *pflag.FlagSet
	limits  limits
	disk    blockIO
	restart string
	rates   []string
}

// BindUpdate adds the flags of update to fs.
func BindUpdate(fs *pflag.FlagSet) *Update {
	u := &Update{set: fs}
	fs.SortFlags = false
	fs.StringVar(&u.restart, "restart", "", "When to start it again: `POLICY` is no, on-failure[:TIMES], always or unless-stopped")
	in(fs, "Network").list(&u.rates, "network-opt", "", "Limit what passes each interface: `KEY=VALUE,...`, as in rate-in=10mbit,rate-out=0,burst=64k; 0 is no limit (repeatable)")
	u.limits.bind(in(fs, "Limits"))
	u.disk.bind(in(fs, "Block devices"))
	return u
}

// Empty reports whether nothing is to be changed.
func (u *Update) Empty() bool { return u.set.NFlag() == 0 }

// Change returns what the flags change in a description. A limit that is not named stays.
func (u *Update) Change() (func(*spec.Container) error, error) {
	var said spec.Container
	if err := u.limits.fill(&said); err != nil {
		return nil, err
	}
	if err := u.disk.fill(&said); err != nil {
		return nil, err
	}
	restart, err := values.Restart(u.restart)
	if err != nil {
		return nil, err
	}
	limit, err := netflags.Rates("network-opt", u.rates)
	if err != nil {
		return nil, err
	}
	return func(c *spec.Container) error {
		if err := u.limitNetworks(c, limit); err != nil {
			return err
		}
		if u.restart != "" {
			if c.Life.Remove && restart.Policy != spec.RestartNo {
				return values.Bad("restart", u.restart, "the container is removed when it ends (--rm)", "leave --restart out")
			}
			c.Life.Restart = restart
		}
		u.merge(&c.Resources, &said.Resources)
		return nil
	}, nil
}

// limitNetworks changes the rate of all interfaces, also of those that have one of their own.
func (u *Update) limitNetworks(c *spec.Container, limit func(*spec.Rate)) error {
	if len(u.rates) == 0 {
		return nil
	}
	if !c.Connected() {
		return values.Bad("network-opt", u.rates[0], "the container is on no network", "leave --network-opt out")
	}
	limit(&c.Networking.Rate)
	for i := range c.Networking.Attachments {
		if own := &c.Networking.Attachments[i].Rate; *own != (spec.Rate{}) {
			limit(own)
		}
	}
	return nil
}

func (u *Update) merge(to, said *spec.Resources) {
	for _, f := range []struct {
		flag string
		copy func()
	}{
		{"memory", func() { to.Memory.Limit, to.Memory.Swap = said.Memory.Limit, said.Memory.Swap }},
		{"memory-swap", func() { to.Memory.Swap = said.Memory.Swap }},
		{"memory-reservation", func() { to.Memory.Reservation = said.Memory.Reservation }},
		{"memory-swappiness", func() { to.Memory.Swappiness = said.Memory.Swappiness }},
		{"oom-kill-disable", func() { to.Memory.DisableOOMKiller = said.Memory.DisableOOMKiller }},
		{"cpus", func() { to.CPU.Quota, to.CPU.Period = said.CPU.Quota, said.CPU.Period }},
		{"cpu-period", func() { to.CPU.Period = said.CPU.Period }},
		{"cpu-quota", func() { to.CPU.Quota = said.CPU.Quota }},
		{"cpu-shares", func() { to.CPU.Shares = said.CPU.Shares }},
		{"cpuset-cpus", func() { to.CPU.Cpus = said.CPU.Cpus }},
		{"cpuset-mems", func() { to.CPU.Mems = said.CPU.Mems }},
		{"cpu-rt-period", func() { to.CPU.RealtimePeriod = said.CPU.RealtimePeriod }},
		{"cpu-rt-runtime", func() { to.CPU.RealtimeRuntime = said.CPU.RealtimeRuntime }},
		{"pids-limit", func() { to.Pids = said.Pids }},
		{"blkio-weight", func() { to.BlockIO.Weight = said.BlockIO.Weight }},
		{"blkio-weight-device", func() { to.BlockIO.WeightDevice = said.BlockIO.WeightDevice }},
		{"device-read-bps", func() { to.BlockIO.ReadBps = said.BlockIO.ReadBps }},
		{"device-write-bps", func() { to.BlockIO.WriteBps = said.BlockIO.WriteBps }},
		{"device-read-iops", func() { to.BlockIO.ReadIOPS = said.BlockIO.ReadIOPS }},
		{"device-write-iops", func() { to.BlockIO.WriteIOPS = said.BlockIO.WriteIOPS }},
	} {
		if u.set.Changed(f.flag) {
			f.copy()
		}
	}
}
