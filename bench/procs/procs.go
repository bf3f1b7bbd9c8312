// Package procs says what processes and folders use of a machine.
package procs

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sampleEvery is how often the memory of all processes is summed up.
const sampleEvery = 20 * time.Millisecond

// Sample watches all processes of the run but those set aside until the function it
// returns is called, which says by how much their memory grew at most.
func Sample(aside []int) func() int64 {
	start := residentBut(aside)
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		most := start
		for tick := time.NewTicker(sampleEvery); ; {
			select {
			case <-tick.C:
				most = max(most, residentBut(aside))
			case <-stop:
				tick.Stop()
				peak <- most - start
				return
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-peak
	}
}

// residentBut sums the resident sets of the processes of this pid namespace, in bytes.
func residentBut(aside []int) int64 {
	sum := int64(0)
	for _, pid := range All() {
		if slices.Contains(aside, pid) {
			continue
		}
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if f := strings.Fields(string(raw)); len(f) > 1 { // proc(5): total, resident, ... in pages
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			sum += pages * int64(os.Getpagesize())
		}
	}
	return sum
}

// All is the numbers of all processes of this pid namespace.
func All() (pids []int) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat is what is needed of /proc/PID/stat.
type stat struct {
	parent int
	ticks  int64 // user and system time, own and of children that were waited for
}

func readStat(pid int) (st stat, ok bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return st, false
	}
	// The name, in parentheses, may hold anything; the state follows it.
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(f) < 15 {
		return st, false
	}
	st.parent, _ = strconv.Atoi(f[1])
	for _, s := range f[11:15] { // utime, stime, cutime, cstime
		n, _ := strconv.ParseInt(s, 10, 64)
		st.ticks += n
	}
	return st, true
}

// Family is pid and its descendants.
func Family(pid int) []int {
	if pid == 0 {
		return nil
	}
	members := []int{pid}
	all := All()
	slices.Sort(all) // parents mostly come first; the rest is met in the next pass
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			st, ok := readStat(p)
			if ok && !slices.Contains(members, p) && slices.Contains(members, st.parent) {
				members, grown = append(members, p), true
			}
		}
	}
	return members
}

// CPU is the time that a daemon and its descendants have used.
func CPU(pid int) time.Duration {
	ticks := int64(0)
	for _, p := range Family(pid) {
		st, _ := readStat(p)
		ticks += st.ticks
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on
}

// Standing is the memory that a daemon and its descendants hold: their proportional set
// sizes, in bytes.
func Standing(pid int) int64 {
	sum := int64(0)
	for _, p := range Family(pid) {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		for line := range strings.Lines(string(raw)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				kib, _ := strconv.ParseInt(f[1], 10, 64)
				sum += kib << 10
			}
		}
	}
	return sum
}

// DiskUse is what the files below dir occupy, in bytes; a file of several names counts once.
func DiskUse(dir string) int64 {
	sum := int64(0)
	seen := map[[2]uint64]bool{}
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st syscall.Stat_t
		if err != nil || syscall.Lstat(path, &st) != nil {
			return nil // gone meanwhile
		}
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if st.Nlink > 1 && st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		sum += st.Blocks * 512
		return nil
	})
	return sum
}
