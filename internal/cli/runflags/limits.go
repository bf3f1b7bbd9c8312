package runflags

import (
	"math"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// limits is how much of memory, CPU time and processes the container may use. A number of 0
// means what it does for Docker: as if the flag were not there.
type limits struct {
	memory, memorySwap, reservation, swappiness, pids string
	cpus, period, quota, shares, cpuset, mems         string
	rtPeriod, rtRuntime                               string
	oomKillDisable                                    bool
}

func (f *limits) bind(g group) {
	g.text(&f.memory, "memory", "m", "Allow `SIZE` of memory, at least 6m")
	g.text(&f.memorySwap, "memory-swap", "", "Allow `SIZE` of memory and swap together, -1 for any (default: twice --memory)")
	g.text(&f.reservation, "memory-reservation", "", "Leave it `SIZE` of memory when memory runs short")
	g.text(&f.swappiness, "memory-swappiness", "", "How readily it is swapped out: `NUMBER` from 0 to 100 (cgroup v1 only)")
	g.yesNo(&f.oomKillDisable, "oom-kill-disable", "", false, "Let it hang rather than kill it when its memory is used up (cgroup v1 only)")
	g.text(&f.cpus, "cpus", "", "Allow the time of `NUMBER` CPUs, such as 1.5")
	g.text(&f.period, "cpu-period", "", "`MICROSECONDS` in which --cpu-quota is counted (default 100000)")
	g.text(&f.quota, "cpu-quota", "", "Allow `MICROSECONDS` of CPU time in each --cpu-period")
	g.text(&f.shares, "cpu-shares", "c", "`WEIGHT` against others that want the CPU, 2 to 262144 (default 1024)")
	g.text(&f.cpuset, "cpuset-cpus", "", "Run on the CPUs in `LIST` only: 0-3,7")
	g.text(&f.mems, "cpuset-mems", "", "Use memory of the nodes in `LIST` only: 0,1")
	g.text(&f.rtPeriod, "cpu-rt-period", "", "`MICROSECONDS` in which --cpu-rt-runtime is counted (cgroup v1 only)")
	g.text(&f.rtRuntime, "cpu-rt-runtime", "", "Allow `MICROSECONDS` of realtime scheduling in each --cpu-rt-period (cgroup v1 only)")
	g.text(&f.pids, "pids-limit", "", "Allow `NUMBER` processes and threads, -1 for any")
}

func (f *limits) fill(c *spec.Container) error {
	if err := f.fillMemory(&c.Resources.Memory); err != nil {
		return err
	}
	if err := f.fillCPU(&c.Resources.CPU); err != nil {
		return err
	}
	if f.pids != "" {
		n, err := values.Int("pids-limit", f.pids, -1, math.MaxInt64)
		if err != nil {
			return err
		}
		if n == 0 {
			n = -1
		}
		c.Resources.Pids.Limit = &n
	}
	return nil
}

func (f *limits) fillMemory(m *spec.Memory) error {
	const least = 6 << 20 // Docker's bound: below it the start of most programs fails
	var err error
	if m.Limit, err = values.Size("memory", f.memory); err != nil {
		return err
	}
	if m.Limit > 0 && m.Limit < least {
		return values.Bad("memory", f.memory, "less than 6 MiB, in which no container starts", "give it at least 6m")
	}
	if m.Reservation, err = values.Size("memory-reservation", f.reservation); err != nil {
		return err
	}
	if m.Limit > 0 && m.Reservation > m.Limit {
		return values.Bad("memory-reservation", f.reservation, "more than --memory "+f.memory, "reserve less than the limit")
	}
	if err := f.fillSwap(m); err != nil {
		return err
	}
	m.DisableOOMKiller = f.oomKillDisable
	if f.swappiness == "" || f.swappiness == "-1" {
		return nil
	}
	n, err := values.Int("memory-swappiness", f.swappiness, 0, 100)
	value := uint64(n)
	m.Swappiness = &value
	return err
}

// fillSwap: without --memory-swap a container may swap as much as it may use memory.
func (f *limits) fillSwap(m *spec.Memory) error {
	if f.memorySwap == "-1" {
		m.Swap = -1
		return nil
	}
	swap, err := values.Size("memory-swap", f.memorySwap)
	switch {
	case err != nil:
		return err
	case swap == 0:
		if m.Swap = 2 * m.Limit; m.Limit > math.MaxInt64/2 {
			m.Swap = -1
		}
	case m.Limit == 0:
		return errs.Newf(errs.Invalid, "", "--memory-swap without --memory", "it counts memory and swap together").
			WithHint("add --memory; equal sizes mean no swap")
	case swap < m.Limit:
		return values.Bad("memory-swap", f.memorySwap, "less than --memory "+f.memory, "it counts memory and swap together; equal sizes mean no swap")
	default:
		m.Swap = swap
	}
	return nil
}

func (f *limits) fillCPU(c *spec.CPU) error {
	period, err := readAmount("cpu-period", f.period, 1000, 1000000)
	if err != nil {
		return err
	}
	c.Period = uint64(period)
	if c.Quota, err = readAmount("cpu-quota", f.quota, 1000, math.MaxInt64); err != nil {
		return err
	}
	if f.cpus != "" {
		if c.Period != 0 || c.Quota != 0 {
			return values.Conflict("--cpus", "--cpu-period and --cpu-quota", "it stands for both")
		}
		if c.Quota, c.Period, err = parseCPUs(f.cpus); err != nil {
			return err
		}
	}
	shares, err := readAmount("cpu-shares", f.shares, 2, 262144)
	if err != nil {
		return err
	}
	c.Shares = uint64(shares)
	rt, err := readAmount("cpu-rt-period", f.rtPeriod, 1, math.MaxInt32)
	if err != nil {
		return err
	}
	c.RealtimePeriod = uint64(rt)
	if c.RealtimeRuntime, err = readAmount("cpu-rt-runtime", f.rtRuntime, 1, math.MaxInt32); err != nil {
		return err
	}
	for _, l := range []struct {
		flag, text string
		to         *string
	}{{"cpuset-cpus", f.cpuset, &c.Cpus}, {"cpuset-mems", f.mems, &c.Mems}} {
		if l.text != "" && !values.IsList(l.text) {
			return values.Bad(l.flag, l.text, "not a list", "write numbers and ranges: 0-3,7")
		}
		*l.to = l.text
	}
	return nil
}

// readAmount reads a number from lo to hi, or 0 or -1 for none.
func readAmount(flag, s string, lo, hi int64) (int64, error) {
	if s == "0" || s == "-1" && flag == "cpu-quota" {
		return 0, nil
	}
	return values.Int(flag, s, lo, hi)
}

// parseCPUs turns a number of CPUs into time in each 100 ms. The kernel wants at least 1 ms,
// a hundredth of a CPU.
func parseCPUs(s string) (quota int64, period uint64, err error) {
	const hint = "write a number of at least 0.01, such as 1.5"
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.ContainsAny(s, "xXpPiInN_") {
		return 0, 0, values.Bad("cpus", s, "not a number", hint)
	}
	if n == 0 {
		return 0, 0, nil
	}
	if n < 0.01 || n > 1<<20 {
		return 0, 0, values.Bad("cpus", s, "out of range", hint)
	}
	return int64(math.Round(n * 100000)), 100000, nil
}
