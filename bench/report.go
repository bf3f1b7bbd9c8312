package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is a run's result, as the JSON file holds it.
type report struct {
	Host   host
	Tables []*table
}

// host is what the numbers depend on.
type host struct {
	Date    time.Time
	Kernel  string
	CPU     string
	Cores   int
	Load    string // one-minute load average when the run began
	Disk    string // type of the file system that the stores are on
	Cgroup  string
	Caches  string
	Peers   []string // name and version
	Command string
}

func describe(r *bench) host {
	h := host{Date: time.Now().UTC().Truncate(time.Second), CPU: cpuModel(), Cores: runtime.NumCPU(), Disk: diskType(r.dir)}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		h.Load, _, _ = strings.Cut(string(raw), " ")
	}
	h.Cgroup = fmt.Sprintf("version %d", r.cgroup)
	if !r.deviceRules() {
		h.Cgroup += "; no device rules for crun and runc, no cgroup for podman, as locked memory is limited here"
	}
	h.Caches = "emptied before each pull, but for the registry's files"
	if !r.dropped {
		h.Caches = "not emptied before pulls: this host does not permit it"
	}
	for _, p := range r.peers() {
		if len(p.version) == 0 {
			continue
		}
		if why := p.missing(); why != "" {
			h.Peers = append(h.Peers, p.name+": "+why)
		} else {
			h.Peers = append(h.Peers, p.versions())
		}
	}
	h.Command = "go run ./bench " + strings.Join(os.Args[1:], " ")
	return h
}

func cpuModel() string {
	raw, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(raw)) {
		if k, v, _ := strings.Cut(line, ":"); strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}

// diskType is the type of the file system with the longest mount point above path.
func diskType(path string) string {
	raw, _ := os.ReadFile("/proc/self/mounts")
	kind, best := "unknown", -1
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		at := strings.TrimSuffix(f[1], "/") + "/"
		if strings.HasPrefix(path+"/", at) && len(at) >= best {
			kind, best = f[2], len(at)
		}
	}
	return kind
}

func (h host) text() string {
	return fmt.Sprintf("%s; Linux %s; %s, %d cores, load %s; stores on %s\ncgroups: %s; page cache: %s\n%s\n%s\n",
		h.Date.Format(time.DateOnly), h.Kernel, h.CPU, h.Cores, h.Load, h.Disk, h.Cgroup, h.Caches, strings.Join(h.Peers, "; "), h.Command)
}

func (rep report) write(o options) error {
	path := o.json
	if path == "" {
		dir := filepath.Join(o.module, "bench", "results")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		path = filepath.Join(dir, rep.Host.Date.Format("20060102-150405")+".json")
	}
	raw, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(raw, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Println("\nresults:", path)
	if !o.markdown {
		return nil
	}
	return rep.intoFile(filepath.Join(o.module, "SPECIFICATION.md"))
}

// The tables stand between these lines of SPECIFICATION.md.
const (
	blockBegin = "<!-- bench:begin -->"
	blockEnd   = "<!-- bench:end -->"
)

// intoFile replaces the block of tables in the document.
func (rep report) intoFile(path string) error {
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist: make it with a line %s and a line %s; the results are in the JSON file", path, blockBegin, blockEnd)
	}
	if err != nil {
		return err
	}
	text, err := replaceBlock(old, rep.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func replaceBlock(doc []byte, block string) ([]byte, error) {
	head, rest, ok := bytes.Cut(doc, []byte(blockBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(blockEnd))
	if !ok || !ok2 {
		return nil, fmt.Errorf("no line %s followed by a line %s", blockBegin, blockEnd)
	}
	return fmt.Appendf(nil, "%s%s\n%s%s%s", head, blockBegin, block, blockEnd, tail), nil
}

func (rep report) markdown() string {
	var b strings.Builder
	h := rep.Host
	fmt.Fprintf(&b, "%s, Linux %s, %s, %d cores, load %s at the start, stores on %s. Cgroups: %s. Page cache: %s. `%s`\n\n",
		h.Date.Format(time.DateOnly), h.Kernel, h.CPU, h.Cores, h.Load, h.Disk, h.Cgroup, h.Caches, strings.TrimSpace(h.Command))
	fmt.Fprintf(&b, "%s.\n\n", strings.Join(h.Peers, "; "))
	for _, t := range rep.Tables {
		b.WriteString(t.markdown() + "\n")
	}
	return b.String()
}
