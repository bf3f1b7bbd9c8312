// Package nest has the commands of an ordinary user work in a user namespace of his own, where he
// is root over his own id and those of /etc/subuid and /etc/subgid, and may mount and make
// containers. What root does on the host is then done there by the same steps.
//
// All commands of a user are in the same namespace as long as a container of his is alive: from one
// beside it none has a right over it. So a process that makes one, or looks after a container, has
// a link in a folder of the user's, named by its pid, to its user namespace; whoever comes enters one
// that he finds there, or makes one, under a lock on the folder. The kernel lets only a process
// with a single thread do either, which one with a Go runtime never is: it is done before the
// runtime starts (entry_*.s, chosen by the linker flag -E, and early_unsafe.go), in the same
// process. Of root that asks for one system call.
//
// Ids are mapped by newuidmap and newgidmap, which are slower than a Go runtime starts: they work beside
// it, and Settle waits for them. Their arguments are in the file map of the folder, made by Enter
// where it is missing or out of date; then the program executes itself once more.
package nest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// variable is in the environment of programs that are executed in such a namespace: the user's
// number outside.
const variable = "CORTEN_NEST"

// Inside reports whether this process is in such a namespace.
func Inside() bool { return os.Getenv(variable) != "" }

// Environ is what another program has to have in its environment besides what it is given.
func Environ() []string {
	if v := os.Getenv(variable); v != "" {
		return []string{variable + "=" + v}
	}
	return nil
}

// Caller is the number of the user who runs this program, also when he is root of a namespace.
func Caller() int {
	if v := os.Getenv(variable); v != "" {
		if n, err := strconv.Atoi(v); err == nil {
			return n
		}
	}
	return os.Getuid()
}

// Owner is the number, outside, of the user who is root of the user namespace that this process is in, whoever
// made that; -1 where root is the host's.
func Owner() int {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil { // a kernel without user namespaces
		return -1
	}
	maps, err := spec.ParseIDMaps(string(text))
	if err != nil {
		return -1
	}
	for _, m := range maps {
		if m.Container == 0 && m.Size != 1<<32-1 {
			return int(m.Host)
		}
	}
	return -1
}

// Maps is the ids that there are here, each mapped to itself: what a container's namespace has that
// lies in this one.
func Maps() (uid, gid []spec.IDMap, err error) {
	if err := Settle(); err != nil {
		return nil, nil, err
	}
	if uid, gid, err = Outside(); err != nil {
		return nil, nil, err
	}
	for _, list := range [][]spec.IDMap{uid, gid} {
		for i := range list {
			list[i].Host = list[i].Container
		}
	}
	return uid, gid, nil
}

// Outside is the ids that there are here, and what they are outside.
func Outside() (uid, gid []spec.IDMap, err error) {
	for i, name := range [...]string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, errs.Wrap("read", name, err)
		}
		list, err := spec.ParseIDMaps(string(b))
		if err != nil {
			return nil, nil, errs.Wrap("read", name, err)
		}
		if i == 0 {
			uid = list
		} else {
			gid = list
		}
	}
	return uid, gid, nil
}

// Entered reports whether this process has come here itself, and not with another program.
func Entered() bool { return outcome == made || outcome == joined }

// Single reports whether this is such a namespace, and there are only the user's own ids.
func Single() bool {
	if !Inside() || helper != 0 { // whom there would be no need of
		return false
	}
	uid, gid, err := Maps()
	return err == nil && size(uid) == 1 && size(gid) == 1
}

func size(list []spec.IDMap) (n uint64) {
	for _, m := range list {
		n += uint64(m.Size)
	}
	return n
}

// dir is the folder of a user's namespaces: in the folder that his session has, or where he has
// none in /tmp. One that is there stays the one, as early finds it: containers that were started before a
// session are known there. It does not depend on the environment, which is not the same in all sessions.
func dir(uid int) string {
	his := func(path string) bool {
		var st unix.Stat_t
		return unix.Lstat(path, &st) == nil && int(st.Uid) == os.Getuid() // both as they are here
	}
	session := "/run/user/" + strconv.Itoa(uid)
	inSession, inTmp := session+"/corten-nest", "/tmp/corten-nest-"+strconv.Itoa(uid)
	if his(inSession) || !his(inTmp) && his(session) {
		return inSession
	}
	return inTmp
}

// Register has other commands of the user find this namespace by a process in it.
func Register(pid int) {
	if !Inside() || pid <= 0 {
		return
	}
	n := strconv.Itoa(pid)
	_ = os.Symlink("/proc/"+n+"/ns/user", filepath.Join(dir(Caller()), n))
	if pid%pruneEvery == 0 {
		prune()
	}
}

// pruneEvery is how seldom all links are looked at: who comes looks at those before the first that
// leads somewhere.
const pruneEvery = 16

// prune removes the links of processes that are gone.
func prune() {
	d := dir(Caller())
	entries, _ := os.ReadDir(d)
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = os.Remove(filepath.Join(d, e.Name()))
		}
	}
}

// verify takes the word of the environment only where it is true: elsewhere it would make root of
// the host believe that all ids are a user's.
func verify() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(b))
	return err == nil && len(f) >= 3 && f[2] != "4294967295"
}
