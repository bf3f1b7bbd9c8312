package container

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// View is a container as people see it: what the disk says, and what the kernel and the
// keeper know besides.
type View struct {
	Snapshot
	Paused bool
	Health HealthStatus
}

// HealthStatus is what health checks have come to, in Docker's words.
type HealthStatus string

// What health checks come to.
const (
	Unchecked HealthStatus = "none"
	Starting  HealthStatus = "starting"
	Healthy   HealthStatus = "healthy"
	Unhealthy HealthStatus = "unhealthy"
)

// Word is the container's state in Docker's words.
func (v View) Word() string {
	if v.Paused {
		return "paused"
	}
	return string(v.State.Status)
}

// Look makes a view of a snapshot.
func Look(dirs Dirs, s Snapshot) View {
	v := View{Snapshot: s, Health: Unchecked}
	if s.State.Status != Running {
		return v
	}
	v.Paused, _ = cgroup.Group(s.State.Groups).Frozen()
	if h := s.Spec.Life.Health; h != nil && !h.Off {
		v.Health = Starting
		var file struct{ Status HealthStatus }
		if b, err := os.ReadFile(HealthFile(dirs, s.Spec.ID)); err == nil && json.Unmarshal(b, &file) == nil && file.Status != "" {
			v.Health = file.Status
		}
	}
	return v
}

// HealthFile is where a keeper writes what its health checks come to.
func HealthFile(dirs Dirs, id spec.ContainerID) string {
	return filepath.Join(KeepDir(dirs, id), "health")
}

// Views is every container that gets through the filter, the youngest first, by an outline of
// its description unless the filter wants the whole. What cannot be read is told in the error, beside the others.
func Views(dirs Dirs, f Filter) ([]View, error) {
	pass, err := f.resolve(dirs)
	if err != nil {
		return nil, err
	}
	load := outline
	if f.Whole {
		load = Load
	}
	list, err := list(dirs, load)
	views := make([]View, len(list))
	each(len(list), func(i int) { views[i] = Look(dirs, list[i]) })
	var found []View
	for _, v := range views {
		if pass(v) {
			found = append(found, v)
			if len(found) == f.Last {
				break
			}
		}
	}
	return found, err
}

// outline is Load without those parts of the description that no list shows: its namespaces,
// its security and its resources, which are most of it and take most of the time.
func outline(dirs Dirs, id spec.ContainerID) (Snapshot, error) {
	dir := Dir(dirs, id)
	b, err := readQuickly(dir + "/spec.json")
	if err != nil {
		return Snapshot{}, errs.Wrap("read container", id.Short(), err)
	}
	c, err := parseSpec(id, without(b, "namespaces", "security", "resources", "devices", "sysctls"))
	if err != nil {
		return Snapshot{}, err
	}
	st := State{Status: Created}
	b, err = readQuickly(dir + "/state.json")
	if err == nil {
		err = json.Unmarshal(b, &st)
	} else if missing(err) {
		err = nil
	}
	return Snapshot{c, st}, errs.Wrap("read state of container", id.Short(), err)
}

// readQuickly reads a small file by four system calls. Package os makes twelve of it, most of
// them to find out that a file on a disk cannot be polled.
func readQuickly(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		}
		if b = b[:len(b)+n]; len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// without takes members out of a JSON object. What is no object stays as it is, for the
// parser to complain about.
func without(b []byte, names ...string) []byte {
	out := make([]byte, 0, len(b))
	i := space(b, 0)
	if i == len(b) || b[i] != '{' {
		return b
	}
	for i++; ; i++ {
		begin := space(b, i)
		if begin == len(b) || b[begin] != '"' {
			return b
		}
		name := jsonEnd(b, begin)
		colon := space(b, name)
		if colon == len(b) || b[colon] != ':' {
			return b
		}
		end := space(b, jsonEnd(b, colon+1))
		if end == len(b) {
			return b
		}
		if !contains(names, b[begin+1:name-1]) {
			sep := byte(',')
			if len(out) == 0 {
				sep = '{'
			}
			out = append(append(out, sep), b[begin:end]...)
		}
		if i = end; b[i] == '}' {
			break
		}
	}
	if len(out) == 0 {
		out = append(out, '{')
	}
	return append(out, b[i:]...)
}

func contains(names []string, name []byte) bool {
	for _, n := range names {
		if n == string(name) {
			return true
		}
	}
	return false
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// jsonEnd is where a value that begins at i ends: after a string, else at the comma or
// bracket that follows it. It is len(b) if the value has no end.
func jsonEnd(b []byte, i int) int {
	depth := 0
	for first := space(b, i); i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if i < len(b) && depth == 0 && b[first] == '"' {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return i
			}
			if b[i] != ',' {
				depth--
			}
		}
	}
	return len(b)
}

// Written is how many bytes of disk what the container wrote takes, and what it changed.
func Written(dirs Dirs, id spec.ContainerID) (int64, error) {
	var total int64
	type file struct{ dev, ino uint64 }
	linked := map[file]bool{}
	err := filepath.WalkDir(filepath.Join(Dir(dirs, id), "upper"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // just removed
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			return nil
		}
		if f := (file{uint64(st.Dev), st.Ino}); st.Nlink > 1 {
			if linked[f] {
				return nil
			}
			linked[f] = true
		}
		// A file of which only the owner was changed has its size and no blocks of its own.
		total += min(st.Size, st.Blocks*512)
		return nil
	})
	return total, errs.Wrap("measure container", id.Short(), err)
}
