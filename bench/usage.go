package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a command cost.
type usage struct {
	wall, cpu time.Duration
	largest   int64 // bytes: the largest resident set of one of its processes
	together  int64 // bytes: growth of the resident sets of all processes of the run
}

// peak is the memory that the command needed: of one process, exactly, or of several at
// once as samples saw them; whichever is more.
func (u usage) peak() int64 { return max(u.largest, u.together) }

// sampleEvery is how often the memory of all processes is summed up.
const sampleEvery = 20 * time.Millisecond

// measure runs argv through the program peak. The time that the daemon spends meanwhile, with
// its children, counts as the command's; daemon is its process or 0.
func (r *bench) measure(peak string, daemon int, argv []string) (usage, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return usage{}, err
	}
	defer out.Close()
	cmd := r.command(append([]string{peak}, argv...))
	cmd.ExtraFiles = []*os.File{in}
	from, _ := r.log.Seek(0, io.SeekEnd)
	before := cpuOf(daemon)
	growth := sampleMemory(r.aside)
	begin := time.Now()
	err = cmd.Run()
	u := usage{wall: time.Since(begin), together: growth()}
	in.Close()
	if err != nil {
		return u, r.explain(argv, from, err)
	}
	text, _ := io.ReadAll(out)
	kib, err := strconv.ParseInt(string(text), 10, 64)
	u.largest = kib << 10
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + cpuOf(daemon) - before
	return u, err
}

// sampleMemory watches all processes of the run but those set aside until the function it
// returns is called, which says by how much their memory grew at most.
func sampleMemory(aside []int) func() int64 {
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
	for _, pid := range processes() {
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

func processes() (pids []int) {
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

// family is pid and its descendants.
func family(pid int) []int {
	if pid == 0 {
		return nil
	}
	members := []int{pid}
	all := processes()
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

// cpuOf is the time that a daemon and its descendants have used.
func cpuOf(pid int) time.Duration {
	ticks := int64(0)
	for _, p := range family(pid) {
		st, _ := readStat(p)
		ticks += st.ticks
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on
}

// standing is the memory that a daemon and its descendants hold: their proportional set
// sizes, in bytes.
func standing(pid int) int64 {
	sum := int64(0)
	for _, p := range family(pid) {
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

// diskUse is what the files below dir occupy, in bytes; a file of several names counts once.
func diskUse(dir string) int64 {
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

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
