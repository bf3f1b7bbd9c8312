package probe

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/kernel"
)

// host is what the tries of one All share. The things in it are made when first asked for.
type host struct {
	env  Env
	root bool // the caller has CAP_SYS_ADMIN over the whole machine, and so is expected to be let

	folder  func() (string, error)        // of its own, on the file system of Corten's state
	userNS  func() (*kernel.Child, error) // holds a user namespace whose root is shiftedID
	group   func() (string, error)        // an empty cgroup v2
	network func() network
	mounted func() ([]mount, error) // the mount table

	mu   sync.Mutex
	undo []func()
}

// shiftedID is what 0 means in the user namespace of probes. Nobody owns anything with it.
const shiftedID = 1<<31 - 7

func newHost(env Env) *host {
	h := &host{env: env, root: capable()}
	h.folder = sync.OnceValues(h.makeFolder)
	h.userNS = sync.OnceValues(h.makeUserNS)
	h.group = sync.OnceValues(h.makeGroup)
	h.network = sync.OnceValue(tryNetwork)
	h.mounted = sync.OnceValues(readMounts)
	return h
}

// later has close call f.
func (h *host) later(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.undo = append(h.undo, f)
}

// close undoes what was made, the last first.
func (h *host) close() {
	for _, f := range slices.Backward(h.undo) {
		f()
	}
}

// capable asks for CAP_SYS_ADMIN and whether this is the first user namespace, in which
// alone it means everything.
func capable() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&head, &data[0]) != nil || data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return false
	}
	m, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(m)), " ") == "0 0 4294967295"
}

// folderPrefix begins the names of folders of probes.
const folderPrefix = ".tmp-probe-"

// makeFolder makes a folder in Corten's own, or in the nearest that there is of those above.
// A killed probe leaves its folder: the next one removes it.
func (h *host) makeFolder() (string, error) {
	dir := h.stateDir()
	old, _ := filepath.Glob(filepath.Join(dir, folderPrefix+"*"))
	for _, o := range old {
		if st, err := os.Stat(o); err == nil && time.Since(st.ModTime()) > 10*time.Minute {
			_ = os.RemoveAll(o)
		}
	}
	dir, err := os.MkdirTemp(dir, folderPrefix)
	if err == nil {
		h.later(func() { _ = os.RemoveAll(dir) })
	}
	return dir, err
}

// stateDir is the state folder, or the nearest folder above it.
func (h *host) stateDir() string { return nearest(h.env.Root) }

// nearest is a folder, or the nearest above it that exists.
func nearest(dir string) string {
	for dir = filepath.Clean(dir); ; {
		if st, err := os.Stat(dir); err == nil && st.IsDir() || dir == "/" || dir == "." {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// sub makes a folder in the probes' own.
func (h *host) sub(name ...string) (string, error) {
	dir, err := h.folder()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(append([]string{dir}, name...)...)
	return dir, os.MkdirAll(dir, 0o755)
}

func (h *host) makeUserNS() (*kernel.Child, error) {
	c, err := kernel.StartChild(kernel.ChildSpec{Flags: unix.CLONE_NEWUSER, Hold: true})
	if err != nil {
		return nil, err
	}
	line := []byte("0 " + strconv.Itoa(shiftedID) + " 1\n")
	if err := errors.Join(os.WriteFile(c.Proc("uid_map"), line, 0), os.WriteFile(c.Proc("gid_map"), line, 0)); err != nil {
		c.Close()
		return nil, err
	}
	h.later(c.Close)
	return c, nil
}

// shift gives a detached mount the owners of the user namespace of probes.
func (h *host) shift(mnt int) error {
	c, err := h.userNS()
	if err != nil {
		return err
	}
	ns, err := unix.Open(c.Proc("ns/user"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	return unix.MountSetattr(mnt, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)})
}

// apart runs f on a thread that ends with it, so that f may change whatever a thread has
// of its own: namespaces, filters, credentials, descriptors.
func apart[T any](f func() T) T {
	done := make(chan T, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		// The first thread would not end, and the whole process is seen through it.
		if unix.Gettid() == unix.Getpid() {
			done <- apart(f) // on another one, since this one is taken
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

// errno is the system call's error at the bottom of err, 0 if there is none.
func errno(err error) unix.Errno {
	var e unix.Errno
	errors.As(err, &e)
	return e
}

// words is the error of a system call with its symbol, which is what people search for.
func words(err error) string {
	e := errno(err)
	if e == 0 {
		return err.Error()
	}
	text := e.Error()
	name := unix.ErrnoName(e)
	if e == unix.EOPNOTSUPP {
		name = "EOPNOTSUPP" // the kernel's name, not ENOTSUP
	}
	if name != "" {
		text += " (" + name + ")"
	}
	var said *refusal
	if errors.As(err, &said) {
		text += ": " + said.text
	}
	return text
}

// line is the content of a small file without the end of its line.
func line(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}
