package life

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/bundle/record"
	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
	"github.com/cortenhq/corten/internal/spec"
)

// Imaging is what criu is told about images of a container, of those who write them and who read them.
type Imaging struct {
	Images string // the folder of the images
	Work   string // the folder of criu's log; empty: the same
	Allow  criu.Allow
	Memory criu.Memory
	Groups criu.Groups
	NoNet  bool // the network namespace is made, and nothing in it
}

// Checkpoint is what is asked of a container that runs.
type Checkpoint struct {
	Imaging
	Parent string // the folder of the images before these, relative to Images
	Pre    bool   // memory alone, and the container goes on
}

// imaged is corten-oci.json in a folder of images: FORMATS.md.
type imaged struct {
	Version int            `json:"version"`
	Mounts  []criu.Foreign `json:"mounts"`
	Stdio   [3]string      `json:"stdio"` // what took the place of stdin, stdout and stderr; empty: nothing of the host's
	Net     string         `json:"net,omitempty"`
	PIDs    string         `json:"pids,omitempty"`
}

const (
	imagedName    = "corten-oci.json"
	imagedVersion = 1
	dumpLog       = "dump.log"
	restoreLog    = "restore.log"
)

// Names of namespaces that are not the container's own, between a checkpoint and a restore.
const (
	outerNet  = "extRootNetNS"
	outerPIDs = "extRootPidNS"
)

// Image writes a container to files. Unless it is left running, it is gone then.
func Image(ctx context.Context, root, id string, c Checkpoint, warn func(string)) error {
	return with(root, id, func(place record.Place, s *record.State, status record.Status) error {
		if status != record.Running && status != record.Paused {
			return not("checkpoint", id, status, "only one that runs or is paused can be")
		}
		if nest.Owner() >= 0 {
			return notOrdinary()
		}
		if err := described(place, s); err != nil {
			return err
		}
		if err := c.image(s, status == record.Paused); err != nil {
			return errs.Wrap("checkpoint container", id, err)
		}
		if c.Pre || c.Allow.LeaveRunning {
			return nil
		}
		return remove(ctx, place, s, warn)
	})
}

func (c *Checkpoint) image(s *record.State, frozen bool) error {
	if err := imageable(s.Container); err != nil {
		return err
	}
	for _, dir := range []string{c.Images, c.Work} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return errs.Wrap("make folder", dir, err)
		}
	}
	r, closeAll, err := c.request(criu.Dump, dumpLog)
	if err != nil {
		return err
	}
	defer closeAll()
	r.Of.PID, r.Of.Parent = s.PID, c.Parent
	if frozen { // criu has it go on for a moment, and stand still again
		r.Of.Frozen = s.Groups[0]
	}
	doc, err := c.look(s, &r)
	if err != nil {
		return err
	}
	if c.Pre {
		r.Type, r.Memory.Track = criu.PreDump, true
	}
	if c.Parent != "" {
		r.Memory.Track = true
	}
	r.Talk.Stage = func(stage string, _ int, _ *os.File) error {
		if stage != "post-dump" {
			return nil
		}
		if err := criu.Detach(c.Images); err != nil {
			return err
		}
		return doc.save(c.Images) // the container ends when this is answered
	}
	_, err = criu.Run(r)
	return err
}

// request is what both ways have in common. What is open for it closeAll closes.
func (i *Imaging) request(t criu.Type, log string) (r criu.Request, closeAll func(), err error) {
	if i.Work == "" {
		i.Work = i.Images
	}
	r = criu.Request{Type: t, Log: log, Allow: i.Allow, Memory: i.Memory, Groups: i.Groups}
	if i.NoNet {
		r.EmptyNS = unix.CLONE_NEWNET
	}
	if r.Images, err = os.Open(i.Images); err != nil {
		return r, nil, errs.Wrap("open folder of images", i.Images, err)
	}
	if r.Work, err = os.Open(i.Work); err != nil {
		r.Images.Close()
		return r, nil, errs.Wrap("open folder of the log", i.Work, err)
	}
	return r, func() { r.Images.Close(); r.Work.Close() }, nil
}

func notOrdinary() error {
	return errs.Newf(errs.Unsupported, "use criu", "", "it looks into processes as only root of the host may").WithHint("do it as root, with containers of root")
}

// imageable refuses what cannot be made again as it was.
func imageable(c *spec.Container) error {
	if !c.Namespaces.Mount.New() || c.Root.Path == "/" {
		return errs.Newf(errs.Unsupported, "use mount namespace", c.Namespaces.Mount.Path, "criu can only make a new one in its place").
			WithHint("checkpoint containers that have one to themselves")
	}
	for _, n := range []struct {
		name string
		ns   spec.Namespace
	}{{"ipc", c.Namespaces.IPC}, {"uts", c.Namespaces.UTS}, {"cgroup", c.Namespaces.Cgroup}, {"time", spec.Namespace{}}} {
		if n.ns.Mode == spec.Path && !ours(n.name, n.ns.Path) {
			return errs.Newf(errs.Unsupported, "use "+n.name+" namespace", n.ns.Path, "criu can only make a new one in its place").
				WithHint("checkpoint containers that have it to themselves")
		}
	}
	return nil
}

// ours reports whether a namespace is the one that we are in.
func ours(name, path string) bool {
	var a, b unix.Stat_t
	return unix.Stat(path, &a) == nil && unix.Stat("/proc/self/ns/"+name, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// look finds what of the container is not criu's to write.
func (c *Checkpoint) look(s *record.State, r *criu.Request) (doc imaged, err error) {
	doc.Version = imagedVersion
	mounts, err := criu.Mounts(s.PID)
	if err != nil {
		return doc, err
	}
	p, err := bundled.Make(bundled.Input{Container: s.Container, Sources: make([]plan.Source, len(s.Container.Mounts))})
	if err != nil {
		return doc, err
	}
	shown, hidden, own := launch.View(p)
	doc.Mounts = criu.Divide(mounts, shown, hidden, own)
	r.External = criu.External(doc.Mounts)
	for _, n := range []struct {
		name string
		ns   spec.Namespace
		as   string
		doc  *string
	}{{"net", s.Container.Namespaces.Net, outerNet, &doc.Net}, {"pid", s.Container.Namespaces.PID, outerPIDs, &doc.PIDs}} {
		if n.ns.Mode != spec.Path {
			continue
		}
		ino, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", s.PID, n.name))
		if err != nil {
			return doc, errs.Wrap("look at namespace", n.name, err)
		}
		*n.doc = n.as
		r.External = append(r.External, strings.Replace(ino, ":", "", 1)+":"+n.as) // net[4026531840]:NAME
	}
	return doc, doc.open(s, mounts, r)
}

// open finds what of the host's the processes have open.
func (d *imaged) open(s *record.State, mounts []criu.Mount, r *criu.Request) error {
	pids, err := s.Groups.Procs()
	if err != nil {
		return err
	}
	pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == s.PID })
	list, err := criu.Opened(append([]int{s.PID}, pids...), mounts)
	if err != nil {
		return err
	}
	for _, o := range list {
		known := slices.Contains(d.Stdio[:], o.Key)
		if !known && (o.FD < 0 || o.FD > 2) {
			return errs.Newf(errs.Unsupported, "take over open file", o.Path, "it is the host's, and not stdin, stdout or stderr").
				WithHint("have the container close it first")
		}
		if o.FD >= 0 && o.FD <= 2 && d.Stdio[o.FD] == "" {
			d.Stdio[o.FD] = o.Key
		}
		if o.External() && !slices.Contains(r.External, o.Key) {
			r.External = append(r.External, o.Key)
		}
	}
	return nil
}

func (d *imaged) save(dir string) error {
	text, err := json.Marshal(d)
	if err != nil {
		return errs.New(errs.Internal, "write", imagedName, err)
	}
	return disk.WriteFile(filepath.Join(dir, imagedName), text, 0o600, disk.Volatile)
}

// mostImaged is bytes of a corten-oci.json.
const mostImaged = 4 << 20

func loadImaged(dir string) (d imaged, err error) {
	file := filepath.Join(dir, imagedName)
	text, err := disk.ReadAtMost(file, mostImaged)
	if err != nil {
		e := errs.New(errs.KindOf(err), "read", file, err)
		if errs.Is(err, errs.NotFound) {
			e.Hint = "name the folder that corten-oci checkpoint wrote, with --image-path; that of a pre-dump cannot be restored"
		}
		return d, e
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, errs.New(errs.Corrupt, "read", file, err)
	}
	if d.Version != imagedVersion {
		return d, errs.Newf(errs.Unsupported, "read", file, fmt.Sprintf("it has version %d", d.Version)).WithHint("restore it with the corten-oci of that version")
	}
	return d, nil
}
