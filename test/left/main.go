// Command left runs a command and says what of Corten's it has left on the host:
//
//	left COMMAND ARGS...
//
// Control groups of containers, mounts, loop devices, network interfaces and namespaces with names, tables of
// nftables and processes that were not there before are a failure, and are listed. The groups that all containers share (corten, its keepers, the
// kept device filter) Corten itself leaves for the next container; left takes them away again
// if they were not there before.
package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: left COMMAND ARGS...")
		os.Exit(2)
	}
	before := look()
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	code := 0
	if err := cmd.Run(); err != nil {
		code = 1
		if x := (*exec.ExitError)(nil); !errors.As(err, &x) {
			fmt.Fprintln(os.Stderr, "left:", err)
		}
	}
	// What the last container held the kernel may be taking apart just now.
	after := look()
	for range 50 {
		if removeShared(before, after); len(added(before, after)) == 0 {
			os.Exit(code)
		}
		time.Sleep(100 * time.Millisecond)
		after = look()
	}
	for _, thing := range added(before, after) {
		fmt.Fprintln(os.Stderr, "left behind:", thing)
	}
	os.Exit(1)
}

// world is what there is on a host, each thing in words.
type world map[string]bool

func look() world {
	w := world{}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, "/corten") {
			w["control group "+path] = true
		}
		return nil // gone meanwhile
	})
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		w["mount at "+strings.Fields(line)[4]] = true // proc_pid_mountinfo(5)
	}
	for pattern, word := range map[string]string{"/sys/block/loop*/loop/backing_file": "loop device ", "/sys/class/net/*": "network interface ", "/run/netns/*": "network namespace "} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			w[word+path] = true
		}
	}
	if c, err := nftables.New(); err == nil {
		tables, _ := c.ListTables() // a kernel without nftables has none
		for _, t := range tables {
			w[fmt.Sprintf("nftables table %s of family %d", t.Name, t.Family)] = true
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range procs {
		b, _ := os.ReadFile(path)
		// The name in parentheses, then the state. PID 1 may not reap: a zombie holds nothing.
		_, rest, _ := strings.Cut(string(b), "(")
		if i := strings.LastIndex(rest, ") "); i > 0 && strings.HasPrefix(rest, "corten") && rest[i+2] != 'Z' {
			w["process "+filepath.Base(filepath.Dir(path))+" "+rest[:i]] = true
		}
	}
	return w
}

func added(before, after world) []string {
	var all []string
	for thing := range after {
		if !before[thing] {
			all = append(all, thing)
		}
	}
	slices.Sort(all)
	return all
}

// removeShared takes away groups that are of no container. The kernel refuses if something is
// in one.
func removeShared(before, after world) {
	groups := slices.Sorted(maps.Keys(after))
	for _, thing := range slices.Backward(groups) { // the inner ones first
		dir, ok := strings.CutPrefix(thing, "control group ")
		name := filepath.Base(dir)
		if ok && !before[thing] && (name == "corten" || name == "keepers" || strings.HasPrefix(name, "device-filter-")) && os.Remove(dir) == nil {
			delete(after, thing)
		}
	}
}
