package launch

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch/compile"
	"github.com/cortenhq/corten/internal/launch/detached"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
)

// Tree is what of a container's view of files is not its processes' to make, mounted in a mount
// namespace that nobody else sees: for who makes the processes otherwise than Start.
type Tree struct {
	Root string // the mount of the root file system
	Null string // what hides files
	None string // what hides directories

	at     map[string]string // by target in the container
	forget []func() error
}

// layDirs is where a Tree may be: folders that hosts have and everybody may enter. Nobody sees more of it than who is in its
// mount namespace, and has to have opened what else is there. It cannot be anywhere below /proc or /sys: of those a user namespace
// may have new ones only where none is covered.
func layDirs() []string { return []string{"/dev/shm", "/mnt", "/srv", "/media"} }

func layDir() (string, error) {
	for _, dir := range layDirs() {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil && st.Mode&(unix.S_IFMT|0o001) == unix.S_IFDIR|0o001 {
			return dir, nil
		}
	}
	return "", errs.Newf(errs.Unsupported, "find a folder for mounts", "", "there is none").WithHint("make /mnt, mode 755")
}

// Lay executes the steps of a plan that open file systems, and mounts what they make in the mount namespace
// of this thread (detached.Aside). ns is a user namespace with the container's maps.
func Lay(p plan.Plan, env Env, ns *os.File) (*Tree, error) {
	h := &host{c: &compile.Program{}, fds: map[plan.Handle]int{}, env: env}
	defer h.closeAll()
	if ns != nil {
		fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, errs.Wrap("open user namespace", "", err)
		}
		h.fds["ns:user"] = fd
	}
	for _, s := range slices.Concat(p.Host, p.Child) { // of which some clone mounts, too
		var err error
		switch s := s.(type) {
		case plan.CloneMount, plan.MountImage, plan.MakeDev, plan.MakeFile, plan.MakeTmpfs, plan.Overlay:
			err = h.open(s)
		case plan.IDMap, plan.Restrict, plan.Attributes, plan.Seed:
			err = h.run(s)
		}
		if err != nil {
			return nil, errs.Wrap(s.String(), "", err)
		}
	}
	dir, err := layDir()
	if err != nil {
		return nil, err
	}
	t := &Tree{Root: dir + "/root", Null: "/dev/null", None: dir + "/none", at: map[string]string{}}
	if err := t.begin(dir); err != nil {
		return nil, errs.Wrap("make folder of mounts", dir, err)
	}
	if err := t.mount(h.fd(plan.RootMount), t.Root, false); err != nil {
		return nil, errs.Wrap("mount root", "", err)
	}
	for _, s := range p.Child {
		if s, ok := s.(plan.Attach); ok && s.Mount != plan.Terminal {
			if err := t.attach(h, s, dir); err != nil {
				return nil, errs.Wrap(s.String(), "", err)
			}
		}
	}
	return t, t.places(p)
}

// places makes what mounts are mounted on, where the root file system does not have it.
func (t *Tree) places(p plan.Plan) error {
	root, err := unix.Open(t.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap("open root", "", err)
	}
	defer unix.Close(root)
	var all []string
	files := map[string]bool{}
	for _, s := range p.Child {
		switch s := s.(type) {
		case plan.Attach:
			target := filepath.Clean("/" + s.Target)
			all = append(all, target)
			files[target] = s.File
		case plan.MountFS:
			all = append(all, filepath.Clean("/"+s.Target))
		}
	}
	for _, target := range all {
		if slices.ContainsFunc(all, func(other string) bool { return strings.HasPrefix(target, other+"/") }) {
			continue // it lies in another mount
		}
		if err := makePlace(root, target, files[target]); err != nil {
			return errs.Wrap("make mount point", target, err)
		}
	}
	return nil
}

// makePlace makes a file or directory in a root file system that nobody vouches for, if there is none. Links in it lead to
// nowhere else.
func makePlace(root int, path string, file bool) error {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(root, path, how)
	if err == nil {
		return unix.Close(fd)
	}
	if err != unix.ENOENT || path == "/" {
		return err
	}
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	if err := makePlace(root, dir, false); err != nil {
		return err
	}
	in, err := unix.Openat2(root, dir, how)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	if !file {
		return unix.Mkdirat(in, name, 0o755)
	}
	fd, err = unix.Openat(in, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// begin makes the folder.
func (t *Tree) begin(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=16m"); err != nil {
		return err
	}
	none, err := detached.New("tmpfs", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC,
		"source=tmpfs", "size=4k", "nr_inodes=2", "mode=0555")
	if err != nil {
		return err
	}
	defer unix.Close(none)
	return t.mount(none, t.None, false)
}

// mount mounts what is mounted nowhere at a path that is made for it.
func (t *Tree) mount(fd int, path string, file bool) error {
	var err error
	if file {
		err = os.WriteFile(path, nil, 0o600)
	} else {
		err = os.Mkdir(path, 0o700)
	}
	if err != nil {
		return err
	}
	return unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func (t *Tree) attach(h *host, s plan.Attach, dir string) error {
	fd := h.fd(s.Mount)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	path := filepath.Join(dir, strconv.Itoa(len(t.at)))
	if err := t.mount(fd, path, st.Mode&unix.S_IFMT != unix.S_IFDIR); err != nil {
		return err
	}
	target := filepath.Clean("/" + s.Target)
	t.at[target] = path
	if s.Mount == plan.DevMount {
		t.Null = path + "/null"
	}
	if s.Forget != "" {
		in := h.fd(s.Forget)
		if in, err := unix.FcntlInt(uintptr(in), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			t.forget = append(t.forget, func() error {
				defer unix.Close(in)
				return unix.Unlinkat(in, s.Name, 0)
			})
		}
	}
	return nil
}

// Find is where something is that the container has at a path.
func (t *Tree) Find(path string) (string, bool) {
	for at := path; ; at = filepath.Dir(at) {
		if p, ok := t.at[at]; ok {
			return p + strings.TrimPrefix(path, at), true
		}
		if at == "/" || at == "." {
			return "", false
		}
	}
}

// Forget has files lose their names that were mounted somewhere else, when nobody needs those any more.
func (t *Tree) Forget() error {
	for _, f := range t.forget {
		if err := f(); err != nil {
			return errs.Wrap("remove name of file", "", err)
		}
	}
	t.forget = nil
	return nil
}

// View is what of a plan's view of files is not the container's own: places where something is shown, and which
// are hidden; and where it has mounts of its own.
func View(p plan.Plan) (shown, hidden, own []string) {
	for _, s := range p.Child {
		switch s := s.(type) {
		case plan.Attach:
			if s.Mount != plan.Terminal { // of which the processes make one
				shown = append(shown, filepath.Clean("/"+s.Target))
			}
		case plan.Mask:
			hidden = append(hidden, filepath.Clean("/"+s.Path))
		case plan.MountFS:
			own = append(own, filepath.Clean("/"+s.Target))
		case plan.OpenTerminal:
			own = append(own, "/dev/pts")
		case bundled.BindConsole:
			own = append(own, "/dev/console")
		}
	}
	return shown, hidden, own
}
