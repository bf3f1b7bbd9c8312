package counts

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// tick is nanoseconds of the unit of cpuacct.stat: USER_HZ is 100 on every architecture that Go knows.
const tick = 1e9 / 100

func (g reader) cpu(c *CPU) {
	stat := table(g.all("cpu.stat")) // a hybrid has one in v1 that counts throttling, and one in v2 that counts time
	c.Throttling = Throttling{stat["nr_periods"], stat["nr_throttled"], stat["throttled_time"] + 1000*stat["throttled_usec"]}
	c.Usage.Total = 1000 * stat["usage_usec"]
	c.Usage.User = 1000 * stat["user_usec"]
	c.Usage.Kernel = 1000 * stat["system_usec"]
	c.Pressure = g.pressure("cpu.pressure")
	v1 := g.text("cpuacct.usage")
	if v1 == "" {
		return
	}
	acct := table(g.text("cpuacct.stat"))
	c.Usage.Total = number(strings.TrimSpace(v1))
	c.Usage.User, c.Usage.Kernel = tick*acct["user"], tick*acct["system"]
	for _, word := range strings.Fields(g.text("cpuacct.usage_percpu")) {
		c.Usage.PerCPU = append(c.Usage.PerCPU, number(word))
	}
	lines(g.text("cpuacct.usage_all"), func(w []string) { // "cpu user system", and a line for each
		if len(w) == 3 && w[0] != "cpu" {
			c.Usage.PerCPUUser = append(c.Usage.PerCPUUser, number(w[1]))
			c.Usage.PerCPUKernel = append(c.Usage.PerCPUKernel, number(w[2]))
		}
	})
}

func (g reader) cpuset(c *CPUSet) {
	if g.text("cpuset.memory_migrate") == "" { // of v2 runc says nothing
		return
	}
	c.CPUs, c.Mems = list(g.text("cpuset.cpus")), list(g.text("cpuset.mems"))
	for _, x := range []struct {
		to   *uint64
		file string
	}{
		{&c.CPUExclusive, "cpu_exclusive"}, {&c.MemHardwall, "mem_hardwall"}, {&c.MemExclusive, "mem_exclusive"},
		{&c.MemoryMigrate, "memory_migrate"}, {&c.MemorySpreadPage, "memory_spread_page"}, {&c.MemorySpreadSlab, "memory_spread_slab"},
		{&c.MemoryPressure, "memory_pressure"}, {&c.LoadBalance, "sched_load_balance"},
	} {
		*x.to = g.number("cpuset." + x.file)
	}
	c.RelaxDomain, _ = strconv.ParseInt(strings.TrimSpace(g.text("cpuset.sched_relax_domain_level")), 10, 64)
}

// list reads "0-2,7".
func list(text string) (all []uint16) {
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		from, to, span := strings.Cut(part, "-")
		if !span {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil {
			return all
		}
		for n := first; n <= last; n++ {
			all = append(all, uint16(n))
		}
	}
	return all
}

func (g reader) memory(m *Memory) {
	if text := g.text("memory.stat"); text != "" {
		m.Raw = table(text)
	}
	m.Pressure = g.pressure("memory.pressure")
	if g.text("memory.current") == "" {
		m.Cache = m.Raw["cache"]
		m.Usage, m.Swap = g.amount("memory"), g.amount("memory.memsw")
		m.Kernel, m.KernelTCP = g.amount("memory.kmem"), g.amount("memory.kmem.tcp")
		return
	}
	m.Cache = m.Raw["file"]
	m.Usage = Amount{Limit: g.number("memory.max"), Usage: g.number("memory.current"), Max: g.number("memory.peak")} // peak: Linux 5.19
	if limit := g.text("memory.swap.max"); limit != "" {
		m.Swap = Amount{Limit: number(strings.TrimSpace(limit)), Usage: g.number("memory.swap.current")}
	}
	m.Swap.Usage += m.Usage.Usage
	m.Swap.Limit = sum(m.Swap.Limit, m.Usage.Limit)
}

// sum adds limits; one that there is not stays so.
func sum(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// amount reads the four files of v1.
func (g reader) amount(name string) Amount {
	return Amount{Limit: g.number(name + ".limit_in_bytes"), Usage: g.number(name + ".usage_in_bytes"),
		Max: g.number(name + ".max_usage_in_bytes"), Failures: g.number(name + ".failcnt")}
}

func (g reader) pids(p *Pids) {
	p.Current = g.number("pids.current")
	if p.Limit = g.number("pids.max"); p.Limit == math.MaxUint64 {
		p.Limit = 0
	}
}

func (g reader) blockIO(b *BlockIO) {
	b.Pressure = g.pressure("io.pressure")
	if text := g.text("io.stat"); text != "" {
		b.v2(text)
		return
	}
	for _, x := range []struct {
		to   *[]Device
		name string
	}{
		{&b.Sectors, "sectors"}, {&b.ServiceTime, "io_service_time"}, {&b.WaitTime, "io_wait_time"}, {&b.Merged, "io_merged"},
		{&b.Queued, "io_queued"}, {&b.Time, "time"}, {&b.Operations, "io_serviced"}, {&b.Bytes, "io_service_bytes"},
	} {
		for _, prefix := range []string{"blkio.bfq.", "blkio.throttle."} { // the first counts for the schedulers that it has
			if *x.to = devices(g.text(prefix + x.name + "_recursive")); *x.to != nil {
				break
			}
		}
	}
}

// devices reads lines of v1: "8:0 Read 4096", or without an operation "8:0 4096". The last, "Total 4096", is left out.
func devices(text string) (list []Device) {
	lines(text, func(w []string) {
		major, minor, ok := strings.Cut(w[0], ":")
		if !ok || len(w) < 2 {
			return
		}
		d := Device{Major: number(major), Minor: number(minor), Value: number(w[len(w)-1])}
		if len(w) == 3 {
			d.Operation = w[1]
		}
		list = append(list, d)
	})
	return list
}

// v2 reads lines such as "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
func (b *BlockIO) v2(text string) {
	lines(text, func(w []string) {
		major, minor, ok := strings.Cut(w[0], ":")
		if !ok {
			return
		}
		for _, word := range w[1:] {
			name, value, _ := strings.Cut(word, "=")
			d := Device{Major: number(major), Minor: number(minor), Value: number(value)}
			switch name {
			case "rbytes", "rios":
				d.Operation = "Read"
			case "wbytes", "wios":
				d.Operation = "Write"
			}
			switch name {
			case "rbytes", "wbytes":
				b.Bytes = append(b.Bytes, d)
			case "rios", "wios":
				b.Operations = append(b.Operations, d)
			}
		}
	})
}

// huge finds the sizes of pages by their files. Reserved pages are counted rather than used ones where
// the kernel does so (Linux 5.7), as runc has it.
func (g reader) huge(all map[string]Hugetlb) {
	for _, name := range g.names("hugetlb.") {
		size, rest, _ := strings.Cut(strings.TrimPrefix(name, "hugetlb."), ".")
		prefix := "hugetlb." + size
		if all[size] != (Hugetlb{}) || rest != "current" && rest != "usage_in_bytes" {
			continue
		}
		if rest == "current" {
			used := g.text(prefix + ".rsvd.current")
			if used == "" {
				used = g.text(prefix + ".current")
			}
			all[size] = Hugetlb{Usage: number(strings.TrimSpace(used)), Failures: table(g.text(prefix + ".events"))["max"]}
			continue
		}
		if g.text(prefix+".rsvd.usage_in_bytes") != "" {
			prefix += ".rsvd"
		}
		a := g.amount(prefix)
		all[size] = Hugetlb{Usage: a.Usage, Max: a.Max, Failures: a.Failures}
	}
}

// names lists the files of the group that begin with a prefix.
func (g reader) names(prefix string) (names []string) {
	for _, dir := range g {
		for _, name := range entries(dir) {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// entries lists the files of a directory; none if it is gone.
func entries(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return names
}
