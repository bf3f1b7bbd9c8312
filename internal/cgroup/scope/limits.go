package scope

import (
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/systemd"
)

// named are control files of v2 and v1 that a property says the same as.
func named(file string) string {
	switch file {
	case "memory.max":
		return "MemoryMax"
	case "memory.high":
		return "MemoryHigh"
	case "memory.low":
		return "MemoryLow"
	case "memory.min":
		return "MemoryMin"
	case "memory.swap.max":
		return "MemorySwapMax"
	case "pids.max":
		return "TasksMax"
	case "cpu.weight":
		return "CPUWeight"
	case "io.weight":
		return "IOWeight"
	case "memory.limit_in_bytes":
		return "MemoryLimit"
	case "cpu.shares":
		return "CPUShares"
	case "blkio.weight", "blkio.bfq.weight":
		return "BlockIOWeight"
	}
	return ""
}

// Limits is what systemd is told of a plan's limits. What it has no property for is only written to the
// group, which systemd lets be.
func Limits(p cgroup.Plan) (list []systemd.Property) {
	add := func(name string, value any) { list = append(list, systemd.Property{Name: name, Value: value}) }
	var time quota
	for _, w := range p.Writes {
		file, value := path.Base(w.File), strings.TrimSpace(w.Value)
		if w.Inherit {
			continue
		}
		switch n, ok := number(value); {
		case file == "cpuset.cpus":
			add("AllowedCPUs", bits(value))
		case file == "cpuset.mems":
			add("AllowedMemoryNodes", bits(value))
		case file == "cpu.max":
			most, period, _ := strings.Cut(value, " ")
			time.most, _ = number(most)
			time.period, _ = number(period)
		case file == "cpu.cfs_quota_us" && ok:
			time.most = n
		case file == "cpu.cfs_period_us" && ok:
			time.period = n
		case file == "cpu.idle" && value == "1":
			add("CPUWeight", uint64(0)) // systemd 252: "idle"
		case file == "pids.max" && ok:
			add("TasksMax", max(n, 1)) // it takes no 0
		case file == "memory.oom.group" && value == "1":
			add("OOMPolicy", "kill") // systemd 253
		case named(file) != "" && ok:
			add(named(file), n)
		}
	}
	if time.period != 0 {
		add("CPUQuotaPeriodUSec", time.period)
	}
	if time != (quota{}) {
		add("CPUQuotaPerSecUSec", time.perSecond())
	}
	return list
}

// quota is microseconds; a period of 0 is the kernel's, 100 ms.
type quota struct{ most, period uint64 }

// perSecond is rounded up to whole percents, in which systemd writes it down.
func (q quota) perSecond() uint64 {
	if q.most == 0 || q.most == math.MaxUint64 {
		return math.MaxUint64
	}
	if q.period == 0 {
		q.period = 100_000
	}
	const percent = 10_000
	return (q.most*1_000_000/q.period + percent - 1) / percent * percent
}

// number reads a limit; that there is none is the highest number, as for systemd.
func number(text string) (uint64, bool) {
	if text == "max" || text == "-1" {
		return math.MaxUint64, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// bits is a list such as "0-2,9" as a mask, the lowest byte first.
func bits(text string) []byte {
	var mask []byte
	for part := range strings.SplitSeq(text, ",") {
		from, to, span := strings.Cut(strings.TrimSpace(part), "-")
		if !span {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 13) // as many CPUs as Linux is built for
		last, err2 := strconv.ParseUint(to, 10, 13)
		if err1 != nil || err2 != nil {
			continue
		}
		for n := first; n <= last; n++ {
			for len(mask) <= int(n/8) {
				mask = append(mask, 0)
			}
			mask[n/8] |= 1 << (n % 8)
		}
	}
	return mask
}
