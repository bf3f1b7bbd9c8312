package container

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel/lsm"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/spec"
)

// Facts is what can be found out about a container besides its view.
type Facts struct {
	Dir      string            // on the host
	Log      string            // the file of its log that is being written; empty: none
	Counters map[string]string // what the keeper counted of a log that could not be written
	Health   json.RawMessage   // the last checks, in Docker's form; nil: none
	Keeper   int               // its process; 0: nobody keeps it
	UserMap  []spec.IDMap      // of users, while it runs
	Profile  string            // of AppArmor: the one that it has, or will ask for; empty: AppArmor is not active
}

// FactsOf finds out about a container. What cannot be found out is not told.
func FactsOf(dirs Dirs, v View) Facts {
	id := v.Spec.ID
	f := Facts{Dir: Dir(dirs, id), Profile: profileOf(v)}
	folder := LogDir(dirs, id)
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
	if v.State.Alive() {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(v.State.PID) + "/uid_map") // user_namespaces(7)
		for line := range strings.Lines(string(b)) {
			var m spec.IDMap
			if _, err := fmt.Sscan(line, &m.Container, &m.Host, &m.Size); err == nil {
				f.UserMap = append(f.UserMap, m)
			}
		}
	}
	return f
}

// profileOf is the profile of the first process. It is told without its mode where that is the
// usual one.
func profileOf(v View) string {
	switch on, _ := lsm.AppArmor(); {
	case !on:
		return ""
	case v.State.Alive():
		return strings.TrimSuffix(lsm.Confined(v.State.PID), " (enforce)")
	}
	return cmp.Or(v.Spec.Security.AppArmor, spec.DefaultProfile)
}

// keeperOf finds the process that has a lock as descriptor 3, as keepers do: the lock itself
// knows only who took it, which was a command that is long gone.
func keeperOf(lock string) int {
	var want, got unix.Stat_t
	proc, err := os.Open("/proc")
	if err != nil || unix.Stat(lock, &want) != nil {
		return 0
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err == nil && unix.Stat("/proc/"+name+"/fd/3", &got) == nil && got.Dev == want.Dev && got.Ino == want.Ino {
			return pid
		}
	}
	return 0
}
