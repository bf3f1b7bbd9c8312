package container

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/spec"
)

// Usage is what a container had used of the machine at a moment. What nobody counts is 0.
type Usage struct {
	At            time.Time
	CPU           time.Duration // since the start
	Memory, Limit int64         // bytes; the limit is the machine's memory if there is no other
	Received      int64         // bytes from the network
	Sent          int64
	Read, Written int64 // bytes from and to block devices
	Pids          int64 // processes and threads
}

// UsageOf reads what a container uses. Of one that does not run it is nothing but the limit.
func UsageOf(v View) (Usage, error) {
	u := Usage{At: time.Now(), Limit: v.Spec.Resources.Memory.Limit}
	if u.Limit <= 0 {
		u.Limit = 1024 * lineOf("/proc/meminfo", "MemTotal:")
	}
	if v.State.Status != Running {
		return u, nil
	}
	g := cgroup.Group(v.State.Groups)
	s, err := g.Stats()
	if err != nil {
		return u, err
	}
	u.CPU, u.Memory = max(s.CPU, 0), s.Memory-max(s.Inactive, 0)
	u.Read, u.Written, u.Pids = max(s.Read, 0), max(s.Written, 0), max(s.Pids, 0)
	if s.Memory < 0 { // it is in no group that counts memory
		u.Memory = memoryOf(g)
	}
	if v.Spec.Namespaces.Net.Mode != spec.Host { // else it would be the host's traffic
		u.Received, u.Sent = traffic(v.State.PID)
	}
	return u, nil
}

// memoryOf adds up what the processes of a group have for themselves.
func memoryOf(g cgroup.Group) int64 {
	pids, _ := g.Procs()
	var total int64
	for _, pid := range pids {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm") // proc(5): size resident shared ... in pages
		if f := strings.Fields(string(b)); len(f) > 2 {
			resident, _ := strconv.ParseInt(f[1], 10, 64)
			shared, _ := strconv.ParseInt(f[2], 10, 64)
			total += (resident - shared) * int64(os.Getpagesize())
		}
	}
	return total
}

// traffic is what has passed the interfaces of a process's network but the loopback.
func traffic(pid int) (received, sent int64) {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(f) < 9 {
			continue
		}
		r, _ := strconv.ParseInt(f[0], 10, 64)
		s, _ := strconv.ParseInt(f[8], 10, 64)
		received, sent = received+r, sent+s
	}
	return received, sent
}

// lineOf is the number on a line of a file of /proc.
func lineOf(file, name string) int64 {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// InNamespace is the processes that are in the same pid namespace as a container's first one: all that it
// has, where no control group knows them. One in the host's namespace stands for itself.
func InNamespace(pid int) []int {
	space := func(pid string) string {
		to, _ := os.Readlink("/proc/" + pid + "/ns/pid")
		return to
	}
	want := space(strconv.Itoa(pid))
	if want == "" || want == space("self") {
		return []int{pid}
	}
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && space(e.Name()) == want {
			pids = append(pids, n)
		}
	}
	return pids
}
