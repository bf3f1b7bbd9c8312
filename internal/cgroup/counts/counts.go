// Package counts reads all that the kernel counts of a control group, in the form in which runc prints
// it ("events"): engines read that, whatever the version of control groups is.
//
// A group is known by its directories (package cgroup), of v1, v2 or both. What is not counted there
// stays zero, as with runc. Nothing is kept between two readings.
package counts

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Stats is what a group has used, and of what it may use how much.
type Stats struct {
	CPU     CPU                `json:"cpu"`
	CPUSet  CPUSet             `json:"cpuset"`
	Memory  Memory             `json:"memory"`
	Pids    Pids               `json:"pids"`
	BlockIO BlockIO            `json:"blkio"`
	Huge    map[string]Hugetlb `json:"hugetlb"` // by size of page: "2MB"
	RDT     struct{}           `json:"intel_rdt"`
	Network []struct{}         `json:"network_interfaces"` // runc names those that it made, and makes none
}

// CPU is time in nanoseconds.
type CPU struct {
	Usage      CPUUsage   `json:"usage"`
	Throttling Throttling `json:"throttling"`
	Pressure   *Pressure  `json:"psi,omitempty"`
}

// CPUUsage is time on processors. V2 does not count it for each.
type CPUUsage struct {
	Total        uint64   `json:"total,omitempty"`
	PerCPU       []uint64 `json:"percpu,omitempty"`
	PerCPUKernel []uint64 `json:"percpu_kernel,omitempty"`
	PerCPUUser   []uint64 `json:"percpu_user,omitempty"`
	Kernel       uint64   `json:"kernel"`
	User         uint64   `json:"user"`
}

// Throttling is how often a quota was used up.
type Throttling struct {
	Periods   uint64 `json:"periods,omitempty"`
	Throttled uint64 `json:"throttledPeriods,omitempty"`
	Time      uint64 `json:"throttledTime,omitempty"`
}

// CPUSet is the settings of the v1 controller; v2 has none of them but the lists.
type CPUSet struct {
	CPUs             []uint16 `json:"cpus,omitempty"`
	CPUExclusive     uint64   `json:"cpu_exclusive"`
	Mems             []uint16 `json:"mems,omitempty"`
	MemHardwall      uint64   `json:"mem_hardwall"`
	MemExclusive     uint64   `json:"mem_exclusive"`
	MemoryMigrate    uint64   `json:"memory_migrate"`
	MemorySpreadPage uint64   `json:"memory_spread_page"`
	MemorySpreadSlab uint64   `json:"memory_spread_slab"`
	MemoryPressure   uint64   `json:"memory_pressure"`
	LoadBalance      uint64   `json:"sched_load_balance"`
	RelaxDomain      int64    `json:"sched_relax_domain_level"`
}

// Memory is bytes. Swap counts memory too, as v1 does.
type Memory struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     Amount            `json:"usage"`
	Swap      Amount            `json:"swap"`
	Kernel    Amount            `json:"kernel"`
	KernelTCP Amount            `json:"kernelTCP"`
	Raw       map[string]uint64 `json:"raw,omitempty"` // the lines of memory.stat
	Pressure  *Pressure         `json:"psi,omitempty"`
}

// Amount is how much is used, and may be.
type Amount struct {
	Limit    uint64 `json:"limit"` // 2^64-1: none
	Usage    uint64 `json:"usage,omitempty"`
	Max      uint64 `json:"max,omitempty"`
	Failures uint64 `json:"failcnt"`
}

// Pids is processes and threads. No limit is 0.
type Pids struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// BlockIO is tables by device. All but the first two are of v1's scheduler BFQ.
type BlockIO struct {
	Bytes       []Device  `json:"ioServiceBytesRecursive,omitempty"`
	Operations  []Device  `json:"ioServicedRecursive,omitempty"`
	Queued      []Device  `json:"ioQueueRecursive,omitempty"`
	ServiceTime []Device  `json:"ioServiceTimeRecursive,omitempty"`
	WaitTime    []Device  `json:"ioWaitTimeRecursive,omitempty"`
	Merged      []Device  `json:"ioMergedRecursive,omitempty"`
	Time        []Device  `json:"ioTimeRecursive,omitempty"`
	Sectors     []Device  `json:"sectorsRecursive,omitempty"`
	Pressure    *Pressure `json:"psi,omitempty"`
}

// Device is a number of one block device and one kind of operation: Read, Write, Sync, Async, Discard, Total.
type Device struct {
	Major     uint64 `json:"major,omitempty"`
	Minor     uint64 `json:"minor,omitempty"`
	Operation string `json:"op,omitempty"`
	Value     uint64 `json:"value,omitempty"`
}

// Hugetlb is bytes of huge pages of one size.
type Hugetlb struct {
	Usage    uint64 `json:"usage,omitempty"`
	Max      uint64 `json:"max,omitempty"`
	Failures uint64 `json:"failcnt"`
}

// Pressure is the share of time in which some or all tasks waited (Linux 4.20); v2 only.
type Pressure struct {
	Some Share `json:"some,omitzero"`
	Full Share `json:"full,omitzero"`
}

// Share is percent of the last 10, 60 and 300 seconds, and microseconds in all.
type Share struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// Read reads what is counted of a group.
func Read(group []string) Stats {
	g := reader(group)
	s := Stats{Huge: map[string]Hugetlb{}}
	g.cpu(&s.CPU)
	g.cpuset(&s.CPUSet)
	g.memory(&s.Memory)
	g.pids(&s.Pids)
	g.blockIO(&s.BlockIO)
	g.huge(s.Huge)
	return s
}

// reader finds the files of a group in whichever hierarchy they are.
type reader []string

// text is the content of a file; empty if no hierarchy has it.
func (g reader) text(file string) string {
	for _, dir := range g {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			return string(text)
		}
	}
	return ""
}

// all is the content of a file in every hierarchy that has it.
func (g reader) all(file string) (text string) {
	for _, dir := range g {
		text += reader{dir}.text(file)
	}
	return text
}

func (g reader) number(file string) uint64 { return number(strings.TrimSpace(g.text(file))) }

// number reads a number of the kernel; "max" is the highest there is, and what is none is 0.
func number(text string) uint64 {
	if text == "max" {
		return math.MaxUint64
	}
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// lines calls f with the words of each line that has some.
func lines(text string, f func(words []string)) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			f(words)
		}
	}
}

// table reads lines of a name and a number.
func table(text string) map[string]uint64 {
	t := map[string]uint64{}
	lines(text, func(w []string) {
		if len(w) == 2 {
			t[w[0]] = number(w[1])
		}
	})
	return t
}

// pressure reads lines such as "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"; nil if there are none.
func (g reader) pressure(file string) *Pressure {
	var p *Pressure
	lines(g.text(file), func(w []string) {
		var s Share
		for _, word := range w[1:] {
			name, value, _ := strings.Cut(word, "=")
			percent, _ := strconv.ParseFloat(value, 64)
			switch name {
			case "avg10":
				s.Avg10 = percent
			case "avg60":
				s.Avg60 = percent
			case "avg300":
				s.Avg300 = percent
			case "total":
				s.Total = number(value)
			}
		}
		if p == nil {
			p = &Pressure{}
		}
		switch w[0] {
		case "some":
			p.Some = s
		case "full":
			p.Full = s
		}
	})
	return p
}
