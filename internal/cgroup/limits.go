package cgroup

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func invalid(what, value, text string) error { return errs.Newf(errs.Invalid, what, value, text) }

// memory plans the memory limits. Where v1 counts memory and swap together (memsw), v2 counts
// swap alone: the request has the former, in the words of Docker and OCI.
func (b *builder) memory(m spec.Memory) error {
	if m.Kernel != 0 {
		b.warn("the kernel memory limit has no effect: Linux took it away in 5.11, and memory counts the kernel's share")
	}
	m.Kernel, m.UseHierarchy = 0, false
	check := m.CheckBeforeUpdate
	m.CheckBeforeUpdate = false
	if m == (spec.Memory{}) {
		return nil
	}
	if m.Limit < -1 || m.Swap < -1 || m.Reservation < -1 {
		return invalid("limit memory", "", "a size is positive, or -1 for unlimited")
	}
	if m.Swap > 0 && m.Limit == 0 {
		return invalid("limit memory and swap", size(m.Swap), "a limit of memory and swap needs a limit of memory")
	}
	if m.Swap > 0 && m.Swap < m.Limit {
		return invalid("limit memory and swap", size(m.Swap), "it counts memory too, so it cannot be below the memory limit "+size(m.Limit))
	}
	if m.Limit == -1 && m.Swap == 0 {
		m.Swap = -1 // else a memory limit that is taken away would leave the old one of both
	}
	s, err := b.use("limit memory", "memory", "memory")
	if err != nil {
		return err
	}
	if s.v2 {
		return b.memoryV2(s, m, check)
	}
	return b.memoryV1(s, m)
}

func (b *builder) memoryV2(s site, m spec.Memory, check bool) error {
	if m.Limit != 0 {
		w := Write{File: s.file("memory.max"), Value: limit(m.Limit), Why: to("memory", m.Limit, size)}
		if check {
			w.Atop = s.file("memory.current")
		}
		b.write(w)
	}
	if m.Reservation != 0 {
		b.write(Write{File: s.file("memory.low"), Value: limit(m.Reservation), Why: reserve(m.Reservation)})
	}
	if m.Swap != 0 {
		swap := m.Swap
		if swap > 0 && m.Limit > 0 {
			swap -= m.Limit
		}
		none := swap <= 0 // without swap, or when it is not counted, there is nothing to limit or to allow
		b.write(Write{File: s.file("memory.swap.max"), Value: limit(swap), Why: to("swap", swap, size), Optional: none})
	}
	if m.KernelTCP != 0 {
		b.warn("the limit of TCP buffers has no effect: cgroup v2 counts them as memory")
	}
	if m.Swappiness != nil {
		b.warn("swappiness has no effect: cgroup v2 has none per group; limit swap instead")
	}
	if m.DisableOOMKiller {
		b.warn("the OOM killer stays on: cgroup v2 cannot turn it off for a group")
	}
	return nil
}

func reserve(n int64) string {
	if n < 0 {
		return "reserve all memory in use"
	}
	return "reserve " + size(n) + " of memory"
}

// memoryV1 writes memory before memsw. Raising both needs the other order, which Apply finds.
func (b *builder) memoryV1(s site, m spec.Memory) error {
	number := func(file string, n int64, why string) {
		if n != 0 {
			b.write(Write{File: s.file(file), Value: strconv.FormatInt(n, 10), Why: why})
		}
	}
	number("memory.limit_in_bytes", m.Limit, to("memory", m.Limit, size))
	if m.Swap != 0 {
		b.write(Write{File: s.file("memory.memsw.limit_in_bytes"), Value: strconv.FormatInt(m.Swap, 10), Why: to("memory and swap", m.Swap, size),
			Optional: m.Swap < 0}) // where swap is not counted it has no limit
	}
	number("memory.soft_limit_in_bytes", m.Reservation, reserve(m.Reservation))
	number("memory.kmem.tcp.limit_in_bytes", m.KernelTCP, to("TCP buffers", m.KernelTCP, size))
	if m.Swappiness != nil {
		if *m.Swappiness > 100 {
			return invalid("set swappiness", strconv.FormatUint(*m.Swappiness, 10), "want 0 to 100")
		}
		value := strconv.FormatUint(*m.Swappiness, 10)
		b.write(Write{File: s.file("memory.swappiness"), Value: value, Why: "set swappiness to " + value})
	}
	if m.DisableOOMKiller {
		b.write(Write{File: s.file("memory.oom_control"), Value: "1", Why: "have processes wait, not die, when memory runs out"})
	}
	return nil
}

// cpu plans shares and time. The kernel's own bounds (kernel/sched/core.c) are checked here,
// because its one answer to all of them is "invalid argument".
func (b *builder) cpu(c spec.CPU) error {
	c.Cpus, c.Mems = "", ""
	if c == (spec.CPU{}) {
		return nil
	}
	switch {
	case c.Period != 0 && (c.Period < 1000 || c.Period > 1000000):
		return invalid("limit cpu time", strconv.FormatUint(c.Period, 10)+" us", "a period is 1000 to 1000000 us")
	case c.Quota < -1 || c.Quota > 0 && c.Quota < 1000:
		return invalid("limit cpu time", strconv.FormatInt(c.Quota, 10)+" us", "a quota is at least 1000 us, or -1 for unlimited")
	case c.Burst != nil && c.Quota > 0 && *c.Burst > uint64(c.Quota):
		return invalid("allow cpu bursts", strconv.FormatUint(*c.Burst, 10)+" us", "a burst is at most the quota")
	case c.Idle != nil && (*c.Idle < 0 || *c.Idle > 1):
		return invalid("make the cpu group idle", strconv.FormatInt(*c.Idle, 10), "want 0 or 1")
	}
	s, err := b.use("limit cpu time", "cpu", "cpu")
	if err != nil {
		return err
	}
	if c.Idle != nil {
		b.write(Write{File: s.file("cpu.idle"), Value: strconv.FormatInt(*c.Idle, 10), Why: "run when nothing else wants to"})
		if *c.Idle == 1 {
			c.Shares = 0 // the kernel refuses a weight for an idle group
		}
	}
	if s.v2 {
		return b.cpuV2(s, c)
	}
	b.cpuV1(s, c)
	return nil
}

func (b *builder) cpuV2(s site, c spec.CPU) error {
	if c.RealtimeRuntime != 0 || c.RealtimePeriod != 0 {
		return missing("allow realtime scheduling", "")
	}
	if c.Shares != 0 {
		b.write(Write{File: s.file("cpu.weight"), Value: strconv.FormatUint(weightOfShares(c.Shares), 10),
			Why: "weigh cpu time by " + strconv.FormatUint(c.Shares, 10) + " shares"})
	}
	if c.Quota != 0 || c.Period != 0 {
		quota, value := c.Quota, ""
		if quota == 0 {
			quota = -1
		}
		value = limit(quota)
		if c.Period != 0 {
			value += " " + strconv.FormatUint(c.Period, 10)
		}
		b.write(Write{File: s.file("cpu.max"), Value: value, Why: quotaWords(c)})
	}
	if c.Burst != nil {
		b.write(Write{File: s.file("cpu.max.burst"), Value: strconv.FormatUint(*c.Burst, 10), Why: "allow cpu bursts"})
	}
	return nil
}

func (b *builder) cpuV1(s site, c spec.CPU) {
	number := func(file string, n int64, why string) {
		if n != 0 {
			b.write(Write{File: s.file(file), Value: strconv.FormatInt(n, 10), Why: why})
		}
	}
	number("cpu.shares", int64(c.Shares), "weigh cpu time by "+strconv.FormatUint(c.Shares, 10)+" shares")
	number("cpu.cfs_period_us", int64(c.Period), quotaWords(c))
	number("cpu.cfs_quota_us", c.Quota, quotaWords(c))
	if c.Burst != nil {
		b.write(Write{File: s.file("cpu.cfs_burst_us"), Value: strconv.FormatUint(*c.Burst, 10), Why: "allow cpu bursts"})
	}
	number("cpu.rt_period_us", int64(c.RealtimePeriod), "allow realtime scheduling")
	number("cpu.rt_runtime_us", c.RealtimeRuntime, "allow realtime scheduling")
}

// quotaWords says what quota and period come to.
func quotaWords(c spec.CPU) string {
	if c.Quota == 0 {
		return "measure cpu time in periods of " + micros(int64(c.Period))
	}
	words := to("cpu time", c.Quota, micros)
	switch {
	case c.Quota > 0 && c.Period > 0:
		words += " in every " + micros(int64(c.Period))
	case c.Quota > 0:
		words += " in every period"
	}
	return words
}

// cpuset plans which processors and memory nodes are used. A v1 group has none until it is
// given some, and takes no process before: what is not asked for is copied from above, down
// from the first group that we may have made ourselves.
func (b *builder) cpuset(c spec.CPU) error {
	if c.Cpus == "" && c.Mems == "" {
		return nil
	}
	for _, list := range []string{c.Cpus, c.Mems} {
		if strings.Trim(list, "0123456789,-") != "" {
			return invalid("choose cpus", list, `want a list such as "0-3,7"`)
		}
	}
	s, err := b.use("choose cpus", "cpuset", "cpuset")
	if err != nil {
		return err
	}
	if inherited := func(w Write) bool { return w.Inherit }; !s.v2 && !b.update && !slices.ContainsFunc(b.plan.Writes, inherited) {
		b.inheritCPUs(s)
	}
	if c.Cpus != "" {
		b.write(Write{File: s.file("cpuset.cpus"), Value: c.Cpus, Why: "run on cpus " + c.Cpus})
	}
	if c.Mems != "" {
		b.write(Write{File: s.file("cpuset.mems"), Value: c.Mems, Why: "use memory nodes " + c.Mems})
	}
	return nil
}

func (b *builder) inheritCPUs(s site) {
	top := b.top(b.host.V1[b.v1("cpuset")])
	below := strings.TrimPrefix(s.dir, top)
	for n := 1; n <= len(below); n++ {
		if n < len(below) && below[n] != '/' {
			continue
		}
		dir := site{dir: top + below[:n]}
		b.write(Write{File: dir.file("cpuset.cpus"), Why: "have cpus to run on", Inherit: true},
			Write{File: dir.file("cpuset.mems"), Why: "have memory nodes to use", Inherit: true})
	}
}

// pids plans the limit of processes and threads.
func (b *builder) pids(p spec.Pids) error {
	if p.Limit == nil {
		return nil
	}
	s, err := b.use("limit processes", "pids", "pids")
	if errs.Is(err, errs.Unsupported) && *p.Limit < 0 {
		return nil // what nothing limits has no limit
	}
	if err != nil {
		return err
	}
	b.write(Write{File: s.file("pids.max"), Value: limit(*p.Limit), Why: to("processes", *p.Limit, limit)})
	return nil
}

// hugepages plans limits of huge pages, of those reserved (Linux 5.7) and of those used.
func (b *builder) hugepages(limits []spec.HugepageLimit) error {
	for _, l := range limits {
		n, ok := strings.CutSuffix(l.PageSize, "B")
		if !ok || strings.Trim(n, "0123456789KMG") != "" {
			return invalid("limit huge pages", l.PageSize, `want a size as the kernel names it, such as "2MB"`)
		}
		s, err := b.use("limit huge pages", "hugetlb", "hugetlb")
		if err != nil {
			return err
		}
		file := ".limit_in_bytes"
		if s.v2 {
			file = ".max"
		}
		value := strconv.FormatUint(l.Limit, 10)
		why := "limit huge pages of " + l.PageSize + " to " + size(int64(min(l.Limit, 1<<63-1)))
		b.write(Write{File: s.file("hugetlb." + l.PageSize + file), Value: value, Why: why},
			Write{File: s.file("hugetlb." + l.PageSize + ".rsvd" + file), Value: value, Why: why, Optional: true})
	}
	return nil
}

// network plans packet marks, which only v1 has.
func (b *builder) network(n spec.NetworkClass) error {
	if n.ClassID != nil {
		s, err := b.use("mark packets", "", "net_cls")
		if err != nil {
			return err
		}
		value := strconv.FormatUint(uint64(*n.ClassID), 10)
		b.write(Write{File: s.file("net_cls.classid"), Value: value, Why: "mark packets with class " + value})
	}
	for _, p := range n.Priorities {
		s, err := b.use("set packet priorities", "", "net_prio")
		if err != nil {
			return err
		}
		value := p.Name + " " + strconv.FormatUint(uint64(p.Priority), 10)
		b.write(Write{File: s.file("net_prio.ifpriomap"), Value: value, Why: "set the priority of packets"})
	}
	return nil
}

func (b *builder) rdma(limits map[string]spec.RDMA) error {
	for _, device := range sortedKeys(limits) {
		s, err := b.use("limit RDMA", "rdma", "rdma")
		if err != nil {
			return err
		}
		l, value := limits[device], device
		if l.HCAHandles != nil {
			value += " hca_handle=" + strconv.FormatUint(uint64(*l.HCAHandles), 10)
		}
		if l.HCAObjects != nil {
			value += " hca_object=" + strconv.FormatUint(uint64(*l.HCAObjects), 10)
		}
		b.write(Write{File: s.file("rdma.max"), Value: value, Why: "limit RDMA device " + device})
	}
	return nil
}

// unified plans what is to be written to files of the v2 group as it is. The controller is
// the file's name up to the first dot; a file of "cgroup" itself needs none.
func (b *builder) unified(files map[string]string) error {
	for _, name := range sortedKeys(files) {
		what := "write " + name
		controller, _, ok := strings.Cut(name, ".")
		if !ok || strings.ContainsAny(name, "/\x00") {
			return invalid(what, "", "want the name of a cgroup v2 file")
		}
		if b.plan.V2 == "" || (controller != "cgroup" && !b.host.V2.has(controller)) {
			return missing(what, controller)
		}
		if controller != "cgroup" {
			if _, err := b.use(what, controller, ""); err != nil {
				return err
			}
		}
		for line := range strings.SplitSeq(files[name], "\n") { // io.max takes one device at a time
			b.write(Write{File: path.Join(b.plan.V2, name), Value: line, Why: "set " + name})
		}
	}
	return nil
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
