package container

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/logs"
)

// Facts is what can be found out about a container besides its view.
type Facts struct {
	Dir      string            // on the host
	Log      string            // the file of its log that is being written; empty: none
	Counters map[string]string // what the keeper counted of a log that could not be written
	Health   json.RawMessage   // the last checks, in Docker's form; nil: none
	Keeper   int               // its process; 0: nobody keeps it
}

// FactsOf finds out about a container. What cannot be found out is not told.
func FactsOf(dirs Dirs, v View) Facts {
	id := v.Spec.ID
	f := Facts{Dir: Dir(dirs, id)}
	folder := filepath.Join(f.Dir, "log")
	if files, err := logs.Files(folder); err == nil && len(files) > 0 {
		f.Log = filepath.Join(folder, logs.Name(files[len(files)-1].N))
	}
	if b, err := os.ReadFile(filepath.Join(KeepDir(dirs, id), "counters")); err == nil {
		f.Counters = map[string]string{}
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
				f.Counters[name] = value
			}
		}
	}
	if b, err := os.ReadFile(HealthFile(dirs, id)); err == nil && json.Valid(b) {
		f.Health = b
	}
	if v.State.Alive() && v.State.Kept {
		f.Keeper = keeperOf(filepath.Join(dirs.Run, "active", string(id)))
	}
	return f
}

// keeperOf finds the process that has a lock as descriptor 3, as keepers do: the lock itself
// knows only who took it, which was a command that is long gone.
func keeperOf(lock string) int {
	proc, err := os.Open("/proc")
	if err != nil {
		return 0
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if at, err := os.Readlink("/proc/" + name + "/fd/3"); err == nil && at == lock {
			return pid
		}
	}
	return 0
}
