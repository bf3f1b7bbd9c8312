package criu

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// Mount is a line of /proc/PID/mountinfo, proc_pid_mountinfo(5).
type Mount struct {
	ID     int
	Root   string // within its file system
	At     string
	Type   string
	Groups string // controllers of cgroup v1: "cpu,cpuacct"
}

// Mounts is what a process sees mounted.
func Mounts(pid int) ([]Mount, error) {
	file := fmt.Sprintf("/proc/%d/mountinfo", pid)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, errs.Wrap("read", file, err)
	}
	var list []Mount
	for line := range strings.Lines(string(text)) {
		front, back, _ := strings.Cut(line, " - ")
		f, b := strings.Fields(front), strings.Fields(back)
		if len(f) < 6 || len(b) < 3 {
			continue
		}
		id, _ := strconv.Atoi(f[0])
		m := Mount{ID: id, Root: unescape(f[3]), At: unescape(f[4]), Type: b[0]}
		if m.Type == "cgroup" {
			m.Groups = controllers(b[2])
		}
		list = append(list, m)
	}
	return list, nil
}

// controllers is those of a hierarchy's options: "rw,cpu,cpuacct".
func controllers(options string) string {
	var list []string
	for o := range strings.SplitSeq(options, ",") {
		if o != "rw" && o != "ro" && !strings.Contains(o, "=") || strings.HasPrefix(o, "name=") {
			list = append(list, o)
		}
	}
	return strings.Join(list, ",")
}

// unescape undoes \040 and its like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Kind is what takes the place of a mount that criu does not write.
type Kind string

// The kinds.
const (
	Shown  Kind = "shown"  // what the description of the container shows there
	Device Kind = "null"   // the null device, which hides a file
	Empty  Kind = "empty"  // an empty directory, which hides one
	Group  Kind = "cgroup" // a control group
)

// Foreign is a mount that criu does not write, since it is not the container's own.
type Foreign struct {
	At     string `json:"at"`
	Kind   Kind   `json:"kind"`
	Groups string `json:"groups,omitempty"` // of Group: controllers of v1; empty: v2
}

// Divide finds the mounts that are not the container's own: below those that its description shows, those that
// hide something, and control groups. own are mounts of its own below the former.
func Divide(mounts []Mount, shown, hidden, own []string) (list []Foreign) {
	for _, m := range mounts {
		f := Foreign{At: m.At}
		switch {
		case m.Type == "cgroup" || m.Type == "cgroup2":
			f.Kind, f.Groups = Group, m.Groups
		case m.At == "/" || slices.Contains(own, m.At):
			continue
		case slices.Contains(hidden, m.At) && m.Type == "tmpfs" && m.Root == "/":
			f.Kind = Empty
		case slices.Contains(hidden, m.At) && path.Base(m.Root) == "null":
			f.Kind = Device
		case Above(shown, m.At) != "" && !below(own, shown, m.At):
			f.Kind = Shown
		default:
			continue
		}
		if !slices.Contains(list, f) { // two lie at a place that was hidden twice
			list = append(list, f)
		}
	}
	return list
}

// Above is the longest path of a list that is, or leads to, another one; empty: none does.
func Above(list []string, at string) (best string) {
	for _, p := range list {
		if (p == at || strings.HasPrefix(at, p+"/")) && len(p) > len(best) {
			best = p
		}
	}
	return best
}

// below reports whether a mount lies in one of the container's own rather than in what is shown.
func below(own, shown []string, at string) bool { return len(Above(own, at)) > len(Above(shown, at)) }

// External says to criu that mounts are not its own.
func External(list []Foreign) (out []string) {
	for i, f := range list {
		out = append(out, fmt.Sprintf("mnt[%s]:m%d", f.At, i))
	}
	return out
}

// Place says to criu where they are.
func Place(list []Foreign, where func(Foreign) (string, error)) (out []string, err error) {
	for i, f := range list {
		p, err := where(f)
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("mnt[m%d]:%s", i, p))
	}
	return out, nil
}

// Open is a descriptor of a process, or its program, that is a file of the host's.
type Open struct {
	Key  string // as Inherit has it
	Path string // as the kernel tells it
	FD   int    // -1: its program
	Dev  uint64
	Ino  uint64
}

// IsKey reports whether a text has the form of a Key.
func IsKey(s string) bool {
	for _, kind := range []string{"file[", "pipe:["} {
		if rest, ok := strings.CutPrefix(s, kind); ok && strings.HasSuffix(rest, "]") {
			return strings.Trim(rest[:len(rest)-1], "0123456789abcdef:") == ""
		}
	}
	return false
}

// External reports whether criu has to be told that it is not the processes' own.
func (o Open) External() bool { return strings.HasPrefix(o.Key, "file[") }

// Opened finds what of the host processes have open: files on mounts that are not theirs, and the pipes among the
// first three descriptors of the first.
func Opened(pids []int, mounts []Mount) ([]Open, error) {
	theirs := map[int]bool{}
	for _, m := range mounts {
		theirs[m.ID] = true
	}
	var list []Open
	for i, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(dir)
		if err != nil {
			if i > 0 { // it has ended
				continue
			}
			return nil, errs.Wrap("look into", dir, err)
		}
		for _, e := range entries {
			fd, _ := strconv.Atoi(e.Name())
			o, ok := opened(pid, fd, theirs)
			if ok && (o.External() || i == 0 && fd < 3) {
				list = append(list, o)
			}
		}
		if o, ok := program(pid, theirs); ok {
			list = append(list, o)
		}
	}
	return list, nil
}

// opened looks at a descriptor; ok: it is a pipe, or a file on a mount that is not theirs.
func opened(pid, fd int, theirs map[int]bool) (o Open, ok bool) {
	file := fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
	link, err := os.Readlink(file)
	var st unix.Stat_t
	if err != nil || unix.Stat(file, &st) != nil {
		return o, false
	}
	o = Open{Key: link, Path: link, FD: fd, Dev: st.Dev, Ino: st.Ino}
	if strings.HasPrefix(link, "pipe:[") {
		return o, true
	}
	if !filepath.IsAbs(link) { // sockets and what has no name are criu's to understand
		return o, false
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	mnt := mountOf(string(info))
	o.Key = fmt.Sprintf("file[%x:%x]", mnt, st.Ino)
	return o, err == nil && !theirs[mnt]
}

// mountOf reads mnt_id of a file of fdinfo.
func mountOf(info string) int {
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(text))
			return n
		}
	}
	return -1
}

// program looks at the program of a process; ok: it is on a mount that is not theirs.
func program(pid int, theirs map[int]bool) (o Open, ok bool) {
	file := fmt.Sprintf("/proc/%d/exe", pid)
	fd, err := unix.Open(file, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return o, false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return o, false
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	mnt := mountOf(string(info))
	link, _ := os.Readlink(file)
	o = Open{Key: fmt.Sprintf("file[%x:%x]", mnt, st.Ino), Path: link, FD: -1, Dev: st.Dev, Ino: st.Ino}
	return o, err == nil && !theirs[mnt]
}
