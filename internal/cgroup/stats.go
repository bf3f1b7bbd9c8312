package cgroup

import (
	"slices"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
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

// dir finds the group that has a controller's files.
func (g *Group) dir(v2, v1 string) (dir string, isV2 bool) {
	for _, d := range g.dirs {
		if slices.Contains(strings.Split(d.Controllers, ","), v1) {
			return d.Path, false
		}
	}
	if i := slices.IndexFunc(g.dirs, Dir.isV2); i >= 0 && v2 != "" {
		return g.dirs[i].Path, true
	}
	return "", false
}

// count reads a number; -1 if it is not counted.
func count(dir, file string) int64 {
	if dir == "" {
		return -1
	}
	n, err := readNumber(dir + "/" + file)
	if err != nil {
		return -1
	}
	return n
}

// Stats reads what the group has used.
func (g *Group) Stats() (Stats, error) {
	s := Stats{CPU: -1, Memory: -1, MemoryPeak: -1, Inactive: -1, Pids: -1, Read: -1, Written: -1}
	pids, err := g.Procs()
	if err != nil {
		return s, err
	}
	if len(g.dirs) > 0 {
		s.Pids = int64(len(pids))
	}
	if dir, _ := g.dir("pids", "pids"); dir != "" {
		if n := count(dir, "pids.current"); n >= 0 {
			s.Pids = n
		}
	}
	if dir, v2 := g.dir("cpu", "cpuacct"); v2 {
		if text, err := readFile(dir + "/cpu.stat"); err == nil {
			s.CPU = time.Duration(field(text, "usage_usec")) * time.Microsecond
		}
	} else {
		s.CPU = time.Duration(count(dir, "cpuacct.usage"))
	}
	g.memoryStats(&s)
	g.ioStats(&s)
	return s, nil
}

func (g *Group) memoryStats(s *Stats) {
	dir, v2 := g.dir("memory", "memory")
	current, peak, inactive := "memory.usage_in_bytes", "memory.max_usage_in_bytes", "total_inactive_file"
	if v2 {
		current, peak, inactive = "memory.current", "memory.peak", "inactive_file"
	}
	s.Memory = count(dir, current)
	s.MemoryPeak = count(dir, peak)
	if dir == "" {
		return
	}
	if text, err := readFile(dir + "/memory.stat"); err == nil {
		s.Inactive = field(text, inactive)
	}
}

// ioStats sums over devices. A device that stands on another counts what both do.
func (g *Group) ioStats(s *Stats) {
	dir, v2 := g.dir("io", "blkio")
	if dir == "" {
		return
	}
	file := "/blkio.throttle.io_service_bytes_recursive" // Linux 5.4
	if v2 {
		file = "/io.stat"
	}
	text, err := readFile(dir + file)
	if err != nil {
		return
	}
	s.Read, s.Written = ioBytes(text)
}

// ioBytes reads both "8:0 rbytes=1 wbytes=2 ..." and "8:0 Read 1" lines.
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
// or on the whole machine; 0 if memory is not counted. On v1 groups that the
// container made itself are not included (Linux 4.13).
func (g *Group) OOMKills() (int, error) {
	dir, v2 := g.dir("memory", "memory")
	if v2 {
		return events(dir, "memory.events", "oom_kill")
	}
	return events(dir, "memory.oom_control", "oom_kill")
}

// PidsRefused is how often a fork failed because of the limit of processes; 0 without one.
func (g *Group) PidsRefused() (int, error) {
	dir, _ := g.dir("pids", "pids")
	return events(dir, "pids.events", "max")
}

func events(dir, file, name string) (int, error) {
	if dir == "" {
		return 0, nil
	}
	text, err := readFile(dir + "/" + file)
	if isGone(err) {
		return 0, nil
	}
	if err != nil {
		return 0, errs.New(errs.KindOf(err), "read "+file+" of control group", dir, err)
	}
	return int(field(text, name)), nil
}
