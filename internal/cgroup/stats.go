package cgroup

import (
	"strings"
	"time"
)

// Stats is what the group has used. A number that is not counted is -1: its controller is
// missing, or the container did not join it.
type Stats struct {
	CPU        time.Duration // user and system time
	Memory     int64         // bytes now, with the file cache
	MemoryPeak int64         // bytes; v2 since Linux 5.19
	Inactive   int64         // bytes of file cache in Memory that are given back first
	Pids       int64         // processes and threads; processes alone if nothing counts both
	Read       int64         // bytes from block devices
	Written    int64         // bytes to block devices
}

// read reads the first of some control files that the group has, whichever hierarchy it is
// in: the names of v1 and v2 differ wherever their meaning does.
func (g Group) read(files ...string) (text, file string) {
	for _, dir := range g {
		for _, file := range files {
			if text, err := readFile(dir + "/" + file); err == nil {
				return text, file
			}
		}
	}
	return "", ""
}

// count reads a number; -1 if it is not counted.
func (g Group) count(files ...string) int64 {
	text, file := g.read(files...)
	if n, err := number(strings.TrimSuffix(text, "\n")); file != "" && err == nil {
		return n
	}
	return -1
}

// Stats reads what the group has used.
func (g Group) Stats() (Stats, error) {
	s := Stats{
		CPU:        time.Duration(g.count("cpuacct.usage")),
		Memory:     g.count("memory.current", "memory.usage_in_bytes"),
		MemoryPeak: g.count("memory.peak", "memory.max_usage_in_bytes"),
		Inactive:   -1,
		Pids:       g.count("pids.current"),
		Read:       -1,
		Written:    -1,
	}
	if text, _ := g.read("cpu.stat"); s.CPU < 0 && strings.HasPrefix(text, "usage_usec ") { // v1's has no such line
		s.CPU = time.Duration(field(text, "usage_usec")) * time.Microsecond
	}
	if text, file := g.read("memory.stat"); file != "" {
		// The v1 line of this name leaves out the groups below.
		s.Inactive = max(field(text, "total_inactive_file"), field(text, "inactive_file"))
	}
	if text, file := g.read("io.stat", "blkio.throttle.io_service_bytes_recursive"); file != "" { // v1: Linux 5.4
		s.Read, s.Written = ioBytes(text)
	}
	if s.Pids < 0 && len(g) > 0 {
		pids, err := g.Procs()
		if err != nil {
			return s, err
		}
		s.Pids = int64(len(pids))
	}
	return s, nil
}

// ioBytes sums the lines of v2, "8:0 rbytes=1 wbytes=2 ...", or of v1, "8:0 Read 1". A device
// that stands on another counts what both do.
func ioBytes(text string) (read, written int64) {
	add := func(to *int64, value string) {
		n, _ := number(value)
		*to += n
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 3 && words[1] == "Read" {
			add(&read, words[2])
		}
		if len(words) == 3 && words[1] == "Write" {
			add(&written, words[2])
		}
		for _, w := range words {
			if v, ok := strings.CutPrefix(w, "rbytes="); ok {
				add(&read, v)
			}
			if v, ok := strings.CutPrefix(w, "wbytes="); ok {
				add(&written, v)
			}
		}
	}
	return read, written
}

// OOMKills is how many processes the kernel killed because memory ran out, in the group
// or on the whole machine; 0 if memory is not counted. On v1 groups that the container made
// itself are not included (Linux 4.13).
func (g Group) OOMKills() int {
	text, _ := g.read("memory.events", "memory.oom_control")
	return int(field(text, "oom_kill"))
}

// PidsRefused is how often a fork failed because of the limit of processes; 0 without one.
func (g Group) PidsRefused() int {
	text, _ := g.read("pids.events")
	return int(field(text, "max"))
}
