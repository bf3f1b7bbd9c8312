package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/about"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/kernel/probe"
	"github.com/cortenhq/corten/internal/kernel/probe/ordinary"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
)

// Feature is something that this host can do for containers, or not.
type Feature = probe.Result

// FeatureAnswer says whether a feature is there.
type FeatureAnswer = probe.Answer

// The answers.
const (
	FeatureUnknown = probe.Unknown
	FeatureMissing = probe.No
	FeatureThere   = probe.Yes
)

// Doctor tries everything that Corten uses of this host.
func (e *Engine) Doctor(ctx context.Context) []Feature {
	all := probe.All(ctx, probe.Env{Root: e.cfg.Root, Run: e.cfg.Run})
	i := slices.IndexFunc(all, func(f Feature) bool { return f.Name == "forwarding" }) + 1
	if os.Getuid() == 0 {
		return slices.Concat(all[:i], []Feature{e.passage(ctx)}, all[i:])
	}
	for i := range all {
		all[i].Needed = all[i].Needed && all[i].Group != "networking" // other programs connect containers of ordinary users
	}
	return ordinary.Revise(ctx, all, programs.Corten(), "--root", e.cfg.Root, "--run", e.cfg.Run, "keep", "nest")
}

// passage looks whether rules of others stop what goes from and to containers. The program that
// connects them does, which knows how to read rules.
func (e *Engine) passage(ctx context.Context) Feature {
	f := Feature{Group: "networking", Name: "passage", Answer: probe.Yes, Use: "has others' rules let through what containers send to the world and get from there",
		Lost: "containers do not reach the world, and their published ports are not reached", Get: "commands of who made those rules"}
	found, err := network.LookForWalls(ctx, e.netDirs())
	switch {
	case err != nil:
		f.Answer, f.Detail = probe.Unknown, "others' rules cannot be read"
	case len(found.Who) > 0:
		f.Answer, f.Detail, f.Get = probe.No, found.Stopped(), strings.Join(found.Open, "; ")
	}
	return f
}

// KeepNest tries what Doctor wants to know of a user namespace, in that.
func (e *Engine) KeepNest() error { return ordinary.Try(e.cfg.Root) }

// NotReady are the features that run needs with default flags and that are not surely there.
func NotReady(features []Feature) []Feature {
	return slices.DeleteFunc(slices.Clone(features), func(f Feature) bool {
		return !f.Needed || f.Answer == probe.Yes || f.Instead != ""
	})
}

// What faces see of the host.
type (
	HostInfo  = about.Host
	GuardInfo = about.Guard
)

// Info is what there is to know of this host and of Corten on it. Names are Docker's where
// it has the same.
type Info struct {
	HostInfo
	StateInfo
	GuardInfo
}

// StateInfo is where Corten keeps what, and how much of it.
type StateInfo struct {
	RootDir           string
	RootFilesystem    string // "ext4"; empty: not known
	RootFree          int64  // bytes that an ordinary user may still take
	RootTotal         int64
	RunDir            string
	RunFilesystem     string
	Trees             string // "erofs, sealed", "erofs" or "directories"; empty: not known
	Images            *int   `json:",omitempty"` // nil: they cannot be read
	Containers        *int   `json:",omitempty"`
	ContainersRunning *int   `json:",omitempty"`
	Networks          *int   `json:",omitempty"`
}

// Info looks around. What cannot be found out is left empty.
func (e *Engine) Info(ctx context.Context) Info {
	features := e.Doctor(ctx)
	there := func(name string) probe.Answer {
		i := slices.IndexFunc(features, func(f Feature) bool { return f.Name == name })
		if i < 0 {
			return probe.Unknown
		}
		return features[i].Answer
	}
	info := Info{HostInfo: about.ThisHost(), GuardInfo: about.Guards(there)}
	if nest.Inside() {
		info.SecurityOptions = append(info.SecurityOptions, "name=rootless")
	}
	s := &info.StateInfo
	s.RootDir, s.RunDir = e.cfg.Root, e.cfg.Run
	s.RootFilesystem, _ = probe.FileSystem(s.RootDir)
	s.RunFilesystem, _ = probe.FileSystem(s.RunDir)
	if space, err := disk.SpaceOf(existing(s.RootDir)); err == nil {
		s.RootFree, s.RootTotal = space.Free, space.Total
	}
	s.Trees = trees(there)
	s.Images = e.countImages()
	s.Containers, s.ContainersRunning = e.countContainers()
	if list, err := network.List(e.netDirs()); err == nil {
		n := len(list)
		s.Networks = &n
	}
	return info
}

// existing is a folder, or the nearest above it that there is.
func existing(dir string) string {
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// trees is the form in which images are kept ready: EROFS images where the kernel can
// mount them above the objects that they point into.
func trees(there func(string) probe.Answer) string {
	data, file, loop := there("overlay data-only layers"), there("EROFS from a file"), there("EROFS from a loop device")
	switch {
	case data == probe.Yes && (file == probe.Yes || loop == probe.Yes) && there("fs-verity") == probe.Yes:
		return "erofs, sealed"
	case data == probe.Yes && (file == probe.Yes || loop == probe.Yes):
		return "erofs"
	case data == probe.No || file == probe.No && loop == probe.No:
		return "directories"
	}
	return ""
}

// countImages counts images, each once however many names it has. It makes no store where
// there is none.
func (e *Engine) countImages() *int {
	n := 0
	if _, err := os.Stat(filepath.Join(e.cfg.Root, "store")); err != nil {
		if !errs.Is(err, errs.NotFound) {
			return nil
		}
		return &n
	}
	lib, err := e.images()
	if err != nil {
		return nil
	}
	list, err := lib.Store().Images()
	if err != nil {
		return nil
	}
	seen := map[oci.Digest]bool{}
	for _, i := range list {
		seen[i.Descriptor.Digest] = true
	}
	n = len(seen)
	return &n
}

// countContainers counts those on disk, and those of them that run.
func (e *Engine) countContainers() (all, running *int) {
	entries, err := os.ReadDir(container.Dir(e.dirs(), ""))
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	n, r := len(entries), 0
	for _, c := range entries {
		if s, err := container.ReadState(e.dirs(), spec.ContainerID(c.Name())); err == nil && s.Status == container.Running {
			r++
		}
	}
	return &n, &r
}
