package checkpoint

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/launch/detached"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

const restoreLog = "restore.log"

// Options of a restore, which are in a file of the checkpoint for the process that does it.
type Options struct {
	TCP       bool `json:"tcp,omitempty"`
	FileLocks bool `json:"fileLocks,omitempty"`
	Keep      bool `json:"keep,omitempty"` // the checkpoint stays
}

// Resume is a container to be made of its checkpoint.
type Resume struct {
	Dir    string // of the checkpoint
	Doc    *Document
	Spec   *spec.Container     // the container that it becomes, with the ids that it has this time
	Groups cgroup.Group        // there already
	Files  map[string]*os.File // by role

	Connect func(pid int) (wait func() error, err error) // to its networks; nil: it has none
	Known   func(pid int) error                          // is told of PID 1 before anything of the container runs
	Options Options
}

// Run makes the processes. PID 1 is a child of ours.
func (r *Resume) Run(p plan.Plan, env launch.Env) (proc *launch.Process, err error) {
	if err := errors.Join(r.shift(), r.open()); err != nil {
		return nil, err
	}
	var ns *os.File
	user := r.Spec.Namespaces.User
	if user.Mode != spec.UserHost {
		if ns, err = detached.UserNS(user.UIDMap); err != nil {
			return nil, err
		}
		defer ns.Close()
	}
	images, err := os.Open(r.Dir) // before something is mounted where it may be
	if err != nil {
		return nil, errs.Wrap("open", r.Dir, err)
	}
	defer images.Close()
	work, err := workDir(filepath.Dir(r.Dir))
	if err != nil {
		return nil, err
	}
	defer work.Close()
	q := criu.Request{Type: criu.Restore, Images: images, Work: work, Log: restoreLog,
		Allow: criu.Allow{TCP: r.Options.TCP, FileLocks: r.Options.FileLocks, LinkRemap: true}}
	if r.Doc.Net {
		q.EmptyNS = unix.CLONE_NEWNET
	}
	init, err := r.inherit(&q)
	if init != nil {
		defer init.Close()
	}
	if err != nil {
		return nil, err
	}
	back, err := r.lend(q)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, back()) }()
	err = detached.Aside(func() error {
		tree, err := launch.Lay(p, env, ns)
		if err != nil {
			return err
		}
		proc, err = r.make(q, tree, back)
		return err
	})
	if err != nil && proc != nil {
		_ = proc.Signal(unix.SIGKILL)
		_, _ = proc.Wait()
		_ = proc.Close()
	}
	return proc, err
}

// make has criu make the processes, on a thread that sees the tree.
func (r *Resume) make(q criu.Request, tree *launch.Tree, back func() error) (proc *launch.Process, err error) {
	q.Root = tree.Root
	if q.External, err = criu.Place(r.Doc.Mounts, func(f criu.Foreign) (string, error) { return r.place(tree, f) }); err != nil {
		return nil, err
	}
	// The keyring of who calls us is not the container's, session-keyring(7). It goes with this thread.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
		return nil, errs.Wrap("take a new session keyring", "", err)
	}
	if !r.Spec.Security.AllowNewPrivs {
		if err := criu.NoNewPrivs(); err != nil {
			return nil, err
		}
	}
	if r.Spec.Namespaces.Cgroup.New() {
		if q.Talk.Attr, q.Talk.Started, err = r.Groups.Within(); err != nil {
			return nil, err
		}
	}
	var terminal *os.File
	q.Talk.Stage = func(stage string, pid int, file *os.File) (err error) {
		switch stage {
		case "setup-namespaces":
			return r.settle(pid)
		case "orphan-pts-master":
			terminal = file
		case "post-restore":
			if proc, err = launch.Adopt(pid); err != nil {
				return err
			}
			return errors.Join(tree.Forget(), back(), r.drain(), r.Known(pid))
		case criu.PreResume: // they have what they are to have, and do not run yet
			if proc.Terminal = terminal; terminal == nil && r.Spec.Process.Terminal {
				proc.Terminal, err = master(proc)
			}
			if err = errors.Join(err, r.verify(proc.PID)); err != nil {
				_ = proc.Signal(unix.SIGKILL)
			}
			return err
		}
		return nil
	}
	if _, err = criu.Run(q); err != nil {
		return proc, err
	}
	if proc == nil {
		return nil, errs.Newf(errs.Internal, "restore", "", "criu did not tell of the processes")
	}
	return proc, nil
}

// guard is where corten-init holds the master of the terminal: cmd/corten-init.
const guard = 4

// master is the terminal's, which PID 1 holds too, and so is one of what criu made.
func master(proc *launch.Process) (*os.File, error) {
	fd, err := unix.PidfdGetfd(int(proc.PIDFD().Fd()), guard, 0)
	if err != nil {
		return nil, errs.Wrap("take the master of the terminal", "", err)
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}

// settle is done when the first process has its namespaces and nothing else.
func (r *Resume) settle(pid int) error {
	if err := r.Groups.Add(pid); err != nil {
		return err
	}
	if r.Doc.Net {
		if err := loopbackUp(pid); err != nil {
			return errs.Wrap("set the loopback interface up", "", err)
		}
	}
	if r.Connect == nil {
		return nil
	}
	wait, err := r.Connect(pid)
	if err != nil {
		return err
	}
	return wait()
}

// loopbackUp does what a process that is started does itself, netdevice(7).
func loopbackUp(pid int) error {
	ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return err
	}
	defer ns.Close()
	return detached.Apart(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		lo, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo); err != nil {
			return err
		}
		lo.SetUint16(lo.Uint16() | unix.IFF_UP)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
	})
}

// place is where a mount is that criu does not make.
func (r *Resume) place(tree *launch.Tree, f criu.Foreign) (string, error) {
	switch f.Kind {
	case criu.Device:
		return tree.Null, nil
	case criu.Empty:
		return tree.None, nil
	case criu.Group:
		if dir, ok := r.Groups.In(f.Groups); ok {
			return dir, nil
		}
	case criu.Shown:
		if path, ok := tree.Find(f.At); ok {
			return path, nil
		}
	}
	return "", errs.Newf(errs.Unsupported, "mount", f.At, "the container had something there that it would not have if it were started here").
		WithHint("restore it on a host with the same kind of control groups, and as it was made")
}

// inherit gives criu the files that processes had open of the host. The program of PID 1 is the caller's to close.
func (r *Resume) inherit(q *criu.Request) (init *os.File, err error) {
	for _, f := range r.Doc.Files {
		file := r.Files[f.Role]
		if f.Role == Init {
			if init, err = r.openInit(); err != nil {
				return nil, err
			}
			file = init
		}
		if file == nil {
			return init, errs.Newf(errs.Corrupt, "take over open file", f.Role, "the container as it is described has none")
		}
		q.Inherit = append(q.Inherit, criu.Inherit{Key: f.Key, File: file})
	}
	return init, nil
}

// openInit opens the program that PID 1 executed.
func (r *Resume) openInit() (*os.File, error) {
	file := filepath.Join(r.Dir, program)
	f, err := os.Open(file)
	return f, errs.Wrap("open the program of PID 1", file, err)
}

// lend gives files to the container's root: as that criu opens them again for the processes. It returns what takes
// them back.
func (r *Resume) lend(q criu.Request) (back func() error, err error) {
	uid, ok := hostID(r.Spec.Namespaces.User.UIDMap)
	if !ok { // it has no user namespace
		return func() error { return nil }, nil
	}
	give := func(uid int) (err error) {
		for _, i := range q.Inherit {
			err = errors.Join(err, i.File.Chown(uid, -1))
		}
		return errs.Wrap("change owner of what processes have open", "", err)
	}
	return func() error { return give(os.Geteuid()) }, give(uid)
}

// hostID is the host's id for the container's 0.
func hostID(maps []spec.IDMap) (int, bool) {
	for _, m := range maps {
		if m.Container == 0 {
			return int(m.Host), true
		}
	}
	return 0, false
}

// drain takes away what was in the FIFOs when the checkpoint was written: that is in the log of the container that wrote it.
func (r *Resume) drain() error {
	for _, role := range []string{Stdout, Stderr} {
		f := r.Files[role]
		if f == nil {
			continue
		}
		fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return errs.Wrap("open", role, err)
		}
		buf := make([]byte, 64<<10)
		for n := 1; n > 0; {
			n, _ = unix.Read(fd, buf)
		}
		_ = unix.Close(fd)
	}
	return nil
}

// shift has the processes be in the range of ids that the container has this time.
func (r *Resume) shift() error {
	user := r.Spec.Namespaces.User
	there, err := criu.MapUsers(r.Dir, user.UIDMap, user.GIDMap)
	if err == nil && there != (user.Mode != spec.UserHost) {
		err = notAsDescribed("its processes are in another user namespace")
	}
	return err
}

// open lets everybody read the images: criu does so as the host's root and as the container's, neither of whom has
// rights over files in a new user namespace that it comes to. They lie in a folder of ours, which nobody else can look into.
func (r *Resume) open() error {
	return filepath.WalkDir(r.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755)
		} else if err == nil && strings.HasSuffix(path, ".img") {
			err = os.Chmod(path, 0o644)
		}
		return errs.Wrap("make image readable", path, err)
	})
}

// verify looks at what criu has made before any of it runs: images are no better than who wrote them.
func (r *Resume) verify(pid int) error {
	pids, err := r.Groups.Procs()
	if err != nil {
		return err
	}
	if !slices.Contains(pids, pid) {
		return notAsDescribed("its first process is not in its control group")
	}
	for _, pid := range pids {
		if err := r.verifyOne(pid); err != nil {
			return err
		}
	}
	mounts, err := criu.Mounts(pid)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if !r.mayMount(m) {
			return notAsDescribed("it has a " + m.Type + " mounted at " + m.At)
		}
	}
	return nil
}

func notAsDescribed(what string) error {
	return errs.Newf(errs.Denied, "look at what criu made", "", what+", which the container that is described would not have").
		WithHint("restore checkpoints only of those whom you trust")
}

// mayMount reports whether a mount is of a kind that every container has, or one that the host has made for it.
func (r *Resume) mayMount(m criu.Mount) bool {
	switch m.Type {
	case "proc", "sysfs", "devpts", "mqueue", "tmpfs":
		return true
	}
	return m.At == "/" || slices.ContainsFunc(r.Doc.Mounts, func(f criu.Foreign) bool { return f.At == m.At })
}

// verifyOne looks at a process: it is in no namespace of the host's that it should not be in, and has no more rights than
// the first process of the container would begin with.
func (r *Resume) verifyOne(pid int) error {
	n := r.Spec.Namespaces
	for name, own := range map[string]bool{"user": n.User.Mode != spec.UserHost, "mnt": true, "pid": true, "net": n.Net.Mode != spec.Host,
		"ipc": n.IPC.Mode != spec.Host, "uts": n.UTS.Mode != spec.Host, "cgroup": n.Cgroup.New()} {
		theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/" + name)
		if err != nil {
			return errs.Wrap("look at process", strconv.Itoa(pid), err)
		}
		ours, err := os.Readlink("/proc/self/ns/" + name)
		if own && (err != nil || ours == theirs) {
			return notAsDescribed("a process is in the host's " + name + " namespace")
		}
	}
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	if err != nil || len(threads) == 0 {
		return errs.Newf(errs.Other, "look at process", strconv.Itoa(pid), "it is gone")
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			return errs.Wrap("look at process", strconv.Itoa(pid), err)
		}
		if err := r.verifyRights(string(text)); err != nil {
			return err
		}
	}
	return nil
}

// verifyRights looks at the status of a thread, proc_pid_status(5).
func (r *Resume) verifyRights(status string) error {
	field := func(name string) string {
		_, rest, _ := strings.Cut(status, "\n"+name+":")
		line, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSpace(line)
	}
	bounding, err := strconv.ParseUint(field("CapBnd"), 16, 64)
	allowed := uint64(0)
	for _, c := range r.Spec.Security.Capabilities {
		if i, ok := plan.CapNumber(c); ok {
			allowed |= 1 << i
		}
	}
	permitted, perr := strconv.ParseUint(field("CapPrm"), 16, 64)
	switch s := r.Spec.Security; {
	case err != nil || perr != nil || (bounding|permitted)&^allowed != 0:
		return notAsDescribed("a process has other capabilities")
	case !s.Unconfined && field("Seccomp") != "2":
		return notAsDescribed("a process has no system call filter")
	case !s.AllowNewPrivs && field("NoNewPrivs") != "1":
		return notAsDescribed("a process may gain privileges")
	}
	return nil
}

// Known reports whether a container has a checkpoint.
func Known(dirs container.Dirs, id spec.ContainerID) bool {
	_, err := os.Stat(filepath.Join(Dir(dirs, id), document))
	return err == nil
}

const optionsName = "options.json"

// Want says how the next start of a container is to take up its checkpoint.
func Want(dirs container.Dirs, id spec.ContainerID, o Options) error {
	text, err := json.Marshal(o)
	if err != nil {
		return errs.New(errs.Internal, "write", optionsName, err)
	}
	return disk.WriteFile(filepath.Join(Dir(dirs, id), optionsName), text, 0o600, disk.Volatile)
}

// Wanted is what Want said.
func Wanted(dirs container.Dirs, id spec.ContainerID) (o Options, err error) {
	text, err := disk.ReadAtMost(filepath.Join(Dir(dirs, id), optionsName), 1<<16)
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(text, &o)
}

// Settle is done when the processes of a checkpoint run: it is taken up, and would not fit the files of the container any
// more. One that is to be kept stays.
func Settle(dirs container.Dirs, id spec.ContainerID) error {
	o, err := Wanted(dirs, id)
	if err != nil || o.Keep {
		return err
	}
	return Forget(dirs, id)
}
