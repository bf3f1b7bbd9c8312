// Package checkpoint writes the processes of a container that runs to files, and makes them again.
//
// A checkpoint is a folder in the container's own: what criu wrote, the program of PID 1, and a document that tells what
// criu did not write, since it is the host's: mounts, and the files by which the container and its keeper meet. It has its
// name when it is whole, and only then the container ends. It is taken up by a start (draft.Resume), which makes
// all that is the host's anew; or it goes to another machine in an archive (Write, Read). FORMATS.md has both.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// Version is the format of checkpoints and archives. A reader refuses any other.
const Version = 1

// Document is corten.json.
type Document struct {
	Version int             `json:"version"`
	Created time.Time       `json:"created"`
	Spec    *spec.Container `json:"spec"`
	Mounts  []criu.Foreign  `json:"mounts"`
	Files   []File          `json:"files"`
	Net     bool            `json:"net,omitempty"` // the network was the container's own; nothing in it was written
}

// File is a file of the host's that processes have open.
type File struct {
	Key  string `json:"key"`  // criu's name for it
	Role string `json:"role"` // what it is to the container and its keeper
}

// Roles of files. Init is the program of PID 1.
const (
	Stdin  = "stdin"
	Stdout = "stdout"
	Stderr = "stderr"
	Report = "exit"
	Init   = "init"
)

// Names in the folder of a container.
const (
	whole    = "checkpoint"
	halfDone = "checkpoint.new"
	pre      = "pre-checkpoint"
	preNew   = "pre-checkpoint.new"
	lockName = "checkpoint.lock"

	workName = "criu"

	document = "corten.json"
	program  = "init"
	dumpLog  = "dump.log"

	parent = "parent" // criu's name for the images before
)

// Dir is where the checkpoint of a container is.
func Dir(dirs container.Dirs, id spec.ContainerID) string {
	return filepath.Join(container.Dir(dirs, id), whole)
}

// Request is what is wanted of a checkpoint.
type Request struct {
	LeaveRunning bool
	TCP          bool
	FileLocks    bool
	Pre          bool // memory alone; the container goes on
	Previous     bool // what the last Pre has is left out

	// Ready is called when the checkpoint is whole, while the container stands still; after it the container ends,
	// unless it is left running, or goes on if there is an error.
	Ready func(dir string, d *Document) error
}

// Take writes a checkpoint of a container. p is the plan that it would be started by.
func Take(dirs container.Dirs, s container.Snapshot, pids []int, p plan.Plan, r Request) error {
	if err := refuse(s.Spec); err != nil {
		return err
	}
	dir := container.Dir(dirs, s.Spec.ID)
	unlock, err := disk.TryLock(filepath.Join(dir, lockName))
	if err != nil {
		return errs.Wrap("lock checkpoint", "", err)
	}
	defer unlock()
	t := &taker{s: s, r: r, dir: dir}
	t.doc = Document{Version: Version, Created: time.Now().UTC(), Spec: s.Spec, Net: s.Spec.Namespaces.Net.Mode != spec.Host}
	if err := t.look(dirs, pids, p); err != nil {
		return err
	}
	name := halfDone
	if r.Pre {
		name = preNew
	}
	t.images = filepath.Join(dir, name)
	if err := fresh(t.images); err != nil {
		return err
	}
	if err = t.run(); err != nil {
		_ = os.RemoveAll(t.images)
		if proc, gone := s.Process(); gone == nil { // else it is all that is left of the processes
			proc.Close()
			_ = os.RemoveAll(filepath.Join(dir, whole))
		}
		return err
	}
	if r.Pre {
		return replace(t.images, filepath.Join(dir, pre))
	}
	return nil
}

// refuse names what cannot be made again as it was.
func refuse(c *spec.Container) error {
	no := func(what, hint string) error {
		return errs.Newf(errs.Unsupported, "checkpoint container", c.Name, what).WithHint(hint)
	}
	n := c.Namespaces
	switch {
	case !n.PID.New():
		return no("its processes are numbered by the host, where the numbers may be another's later", "start it without --pid")
	case n.Net.Mode == spec.Of || n.Net.Mode == spec.Path:
		return no("it is in the network of something else, which criu cannot put it back into", "start it with a network of its own")
	case n.IPC.Mode == spec.Path || n.IPC.Mode == spec.Of || n.UTS.Mode == spec.Path || n.UTS.Mode == spec.Of || n.Cgroup.Mode == spec.Path:
		return no("it is in a namespace of something else, of which criu can only make a new one", "start it without --ipc, --uts and --cgroupns")
	case len(n.TimeOffset) > 0:
		return no("its clocks are shifted, and would be twice", "start it without --time-offset")
	}
	return nil
}

// taker is a checkpoint being written.
type taker struct {
	s      container.Snapshot
	r      Request
	dir    string // of the container
	images string
	doc    Document
	more   []string // what criu is told that it is not to write
}

// look finds what of the container is the host's.
func (t *taker) look(dirs container.Dirs, pids []int, p plan.Plan) error {
	mounts, err := criu.Mounts(t.s.State.PID)
	if err != nil {
		return err
	}
	shown, hidden, own := launch.View(p)
	t.doc.Mounts = criu.Divide(mounts, shown, hidden, own)
	t.more = criu.External(t.doc.Mounts)
	pids = slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return pid == t.s.State.PID })
	open, err := criu.Opened(append([]int{t.s.State.PID}, pids...), mounts)
	if err != nil {
		return err
	}
	keep := container.KeepDir(dirs, t.s.Spec.ID)
	for _, o := range open {
		if slices.ContainsFunc(t.doc.Files, func(f File) bool { return f.Key == o.Key }) {
			continue
		}
		role := roleOf(keep, o)
		if role == "" {
			return errs.Newf(errs.Unsupported, "take over open file", o.Path, "it is the host's").
				WithHint("a container that was given files (--preserve-fds) cannot be written; have it close the file")
		}
		t.doc.Files = append(t.doc.Files, File{o.Key, role})
		t.more = append(t.more, o.Key)
	}
	return nil
}

// roleOf is what a file is to a container and its keeper; empty: nothing that is known.
func roleOf(keep string, o criu.Open) string {
	if o.FD < 0 {
		return Init
	}
	for _, role := range []string{Stdin, Stdout, Stderr, Report} {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(keep, role), &st) == nil && st.Dev == o.Dev && st.Ino == o.Ino {
			return role
		}
	}
	return ""
}

// fresh makes an empty folder.
func fresh(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return errs.Wrap("remove", dir, err)
	}
	return errs.Wrap("make folder", dir, os.Mkdir(dir, 0o700))
}

// replace gives a folder another's name, durably. For a moment there may be neither: what is lost then is the old one.
func replace(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return errs.Wrap("remove", to, err)
	}
	if err := os.Rename(from, to); err != nil {
		return errs.Wrap("publish", to, err)
	}
	return disk.SyncDir(filepath.Dir(to))
}

// run has criu do it.
func (t *taker) run() error {
	images, err := os.Open(t.images)
	if err != nil {
		return errs.Wrap("open", t.images, err)
	}
	defer images.Close()
	lax, err := t.laxly()
	if err != nil {
		return err
	}
	work, err := workDir(t.dir)
	if err != nil {
		return err
	}
	defer work.Close()
	r := criu.Request{Type: criu.Dump, Of: criu.Of{PID: t.s.State.PID}, Images: images, Work: work, Log: dumpLog, External: t.more,
		Allow: criu.Allow{LeaveRunning: t.r.LeaveRunning, TCP: t.r.TCP, FileLocks: t.r.FileLocks, LinkRemap: true},
		Talk:  criu.Talk{Path: lax}}
	if t.doc.Net {
		r.EmptyNS = unix.CLONE_NEWNET
	}
	if t.r.Pre {
		r.Type = criu.PreDump
	}
	if t.r.Previous {
		if _, err := os.Stat(filepath.Join(t.dir, pre)); err != nil {
			return errs.New(errs.NotFound, "find the checkpoint before", "", err).WithHint("make it first: corten checkpoint --pre-checkpoint")
		}
		r.Of.Parent = "../" + pre
	}
	r.Memory.Track = t.r.Pre || t.r.Previous
	r.Talk.Stage = func(stage string, _ int, _ *os.File) error {
		if stage != "post-dump" {
			return nil
		}
		return t.publish(images)
	}
	if !t.s.Spec.Life.NoInit {
		if err := admit(t.s); err != nil {
			return err
		}
	}
	_, err = criu.Run(r)
	return err
}

// workDir opens the folder of a container in which criu says what it did.
func workDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, workName)
	if err := os.Mkdir(path, 0o700); err != nil && !os.IsExist(err) {
		return nil, errs.Wrap("make folder", path, err)
	}
	f, err := os.Open(path)
	return f, errs.Wrap("open", path, err)
}

// laxly makes a folder of programs for criu. While it looks at processes it would forbid their network to
// send and get anything, by rules that would stay if it were killed. Connections to elsewhere are not written, so nobody
// misses that.
func (t *taker) laxly() (string, error) {
	dir := filepath.Join(t.dir, workName, "programs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", errs.Wrap("make folder", dir, err)
	}
	for _, name := range []string{"iptables-restore", "ip6tables-restore"} {
		if err := os.Symlink("/bin/true", filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			return "", errs.Wrap("make link", name, err)
		}
	}
	return dir, nil
}

// admitted is the signal that has corten-init be seen by criu: cmd/corten-init.
const admitted = unix.Signal(33)

// admit asks PID 1 to be traceable for some seconds, and waits until it is: the owner of its files in /proc is then the
// container's root and no longer the host's, proc(5).
func admit(s container.Snapshot) error {
	proc, err := s.Process()
	if err != nil {
		return err
	}
	defer proc.Close()
	if err := unix.PidfdSendSignal(int(proc.Fd()), admitted, nil, 0); err != nil {
		return errs.Wrap("signal PID 1", "", err)
	}
	if s.Spec.Namespaces.User.Mode == spec.UserHost {
		return nil // the owners are the same; criu has all rights over it anyway
	}
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var st unix.Stat_t
		if unix.Stat("/proc/"+strconv.Itoa(s.State.PID)+"/status", &st) == nil && st.Uid != 0 {
			return nil
		}
	}
	return errs.Newf(errs.Unsupported, "have PID 1 be seen by criu", "", "it does not answer").
		WithHint("the container was started by a corten-init of another version: start it again")
}

// publish gives the checkpoint its name, when it is whole and on disk.
func (t *taker) publish(images *os.File) error {
	if !t.s.Spec.Life.NoInit {
		if err := copyProgram(t.s.State.PID, filepath.Join(t.images, program)); err != nil {
			return err
		}
	}
	if err := criu.Detach(t.images); err != nil {
		return err
	}
	if t.r.Previous { // criu has made a link to it, and reads a folder of that name as well
		if err := os.Remove(filepath.Join(t.images, parent)); err != nil {
			return errs.Wrap("remove", parent, err)
		}
		if err := os.Rename(filepath.Join(t.dir, pre), filepath.Join(t.images, parent)); err != nil {
			return errs.Wrap("take in the checkpoint before", "", err)
		}
	}
	text, err := json.Marshal(t.doc)
	if err != nil {
		return errs.New(errs.Internal, "write", document, err)
	}
	if err := disk.WriteFile(filepath.Join(t.images, document), text, 0o600, disk.Volatile); err != nil {
		return err
	}
	if err := disk.SyncFS(images); err != nil {
		return errs.Wrap("sync", t.images, err)
	}
	to := filepath.Join(t.dir, whole)
	if err := replace(t.images, to); err != nil {
		return err
	}
	if t.r.Ready == nil {
		return nil
	}
	err = t.r.Ready(to, &t.doc)
	if err != nil {
		_ = os.RemoveAll(to)
	}
	return err
}

// copyProgram keeps what PID 1 executes, for a checkpoint may be older than what is installed.
func copyProgram(pid int, to string) error {
	in, err := os.Open("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return errs.Wrap("open the program of PID 1", "", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return errs.Wrap("write", to, err)
	}
	_, err = io.Copy(out, in)
	if info, serr := in.Stat(); serr == nil && err == nil { // criu compares modes
		err = out.Chmod(info.Mode())
	}
	return errs.Wrap("write", to, errors.Join(err, out.Close()))
}

// mostDocument is bytes of a corten.json.
const mostDocument = 8 << 20

// Load reads the document of a checkpoint.
func Load(dir string) (*Document, error) {
	file := filepath.Join(dir, document)
	text, err := disk.ReadAtMost(file, mostDocument)
	if err != nil {
		e := errs.New(errs.KindOf(err), "read", file, err)
		if errs.Is(err, errs.NotFound) {
			e.Hint = "the container has no checkpoint: corten checkpoint makes one"
		}
		return nil, e
	}
	return parse(text)
}

func parse(text []byte) (*Document, error) {
	d := &Document{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, errs.New(errs.Corrupt, "read", document, err)
	}
	if d.Version != Version {
		return nil, errs.Newf(errs.Unsupported, "read", document, fmt.Sprintf("it has version %d", d.Version)).WithHint("use the Corten that wrote it")
	}
	if d.Spec == nil || d.Spec.Version > spec.Version {
		return nil, errs.Newf(errs.Unsupported, "read", document, "the description of the container is none that is known").WithHint("use the Corten that wrote it")
	}
	return d, d.check()
}

// check refuses what no checkpoint has.
func (d *Document) check() error {
	bad := func(what, value string) error {
		return errs.Newf(errs.Corrupt, "read "+document, value, "it is no "+what)
	}
	for _, m := range d.Mounts {
		if m.At != filepath.Clean("/"+m.At) || m.At == "/" || !slices.Contains([]criu.Kind{criu.Shown, criu.Device, criu.Empty, criu.Group}, m.Kind) {
			return bad("mount", m.At)
		}
	}
	for _, f := range d.Files {
		if !criu.IsKey(f.Key) || !slices.Contains([]string{Stdin, Stdout, Stderr, Report, Init}, f.Role) {
			return bad("open file", f.Key)
		}
	}
	return nil
}

// Forget removes the checkpoint of a container, and what led to it.
func Forget(dirs container.Dirs, id spec.ContainerID) error {
	dir := container.Dir(dirs, id)
	var err error
	for _, name := range []string{whole, halfDone, pre, preNew} {
		path := filepath.Join(dir, name)
		if unix.Access(path, unix.F_OK) == nil { // as a rule there is none, and a start has no time
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return errs.Wrap("remove checkpoint", "", err)
}
