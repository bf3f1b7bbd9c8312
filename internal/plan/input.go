package plan

import (
	"path"
	"strings"
)

// Root is how the root file system comes about: steps that open its parts, and the overlay
// of them.
type Root struct {
	Open      []Step
	Overlay   Overlay  // its Root, NoDev, Label and As are filled in by Make
	Unshifted []Handle // parts whose owners are not the container's (the host's own root)
	Binds     []File   // directories of the host platform that are file systems of their own
}

// Source is what a mount shows, after the host was asked.
type Source struct {
	Path string // absolute path on the host
	File bool   // not a directory
	Seed bool   // a volume's first use: it begins with what the image has at the target
}

// File is something of the host mounted into the container at start.
type File struct {
	Source
	Target    string
	ReadOnly  bool
	Recursive bool     // with what is mounted below
	Shift     bool     // show it with owners shifted
	Over      bool     // over the user's mounts rather than below them
	Hide      []string // paths below it
	What      string
}

// Made is a small file made for the container at each start. It lives in the memory of its
// /dev, and is gone with it.
type Made struct {
	Target  string `json:"target"`
	Content string `json:"content"`
}

// Groups are the steps that package cgroup asks for.
type Groups struct {
	Make  MakeGroups // directories and limits, before the process exists
	V2    string     // directory to be created in, on cgroup v2
	Enter []string   // files by which the process enters the groups of cgroup v1
	Mount []MountFS  // what the container sees of its own groups
}

// Filter is a compiled seccomp profile.
type Filter struct {
	Name     string
	Flags    uint32
	Program  []Instruction
	Listener string // the socket of who answers for what it holds up; empty: it holds up nothing
}

// Step installs the filter.
func (f *Filter) Step() Seccomp {
	s := Seccomp{Name: f.Name, Flags: f.Flags, Program: f.Program}
	if f.Listener != "" {
		s.Way = ListenerWay
	}
	return s
}

// Listened reports whether there is a filter with a listener.
func (f *Filter) Listened() bool { return f != nil && f.Listener != "" }

// Facts is what is known of the host.
type Facts struct {
	Init     string // the path of corten-init
	Hidden   bool   // nobody but the host's root may read corten-init
	AppArmor bool   // active, if the container names a profile
	SELinux  bool   // active, if the container has a label
	Tied     bool   // the container ends with its launcher (a foreground run)
	Alone    bool   // nested, and there is no other user and group than root
	Nested   bool   // the launcher is root of a user namespace only, of which the container's has the ids unshifted
}

// Handles that plans use for what every container has.
const (
	RootMount Handle = "root"
	DevMount  Handle = "dev"
	Terminal  Handle = "devpts"
	InitFile  Handle = "corten-init"

	Report Handle = "report" // where corten-init writes the command's status; the launcher opens it
	Master Handle = "master" // the master of the container's terminal, as a guard

	InitGate    Handle = "gate"
	CommandGate Handle = "command's gate"
)

// MaxGuards is how many descriptors corten-init looks after.
const MaxGuards = 2

// DefaultPath is the PATH of a container whose image sets none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Lookup is the files that a command name may mean, in the order of PATH.
func Lookup(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	dirs := DefaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	var out []string
	for _, d := range strings.Split(dirs, ":") {
		if d == "" {
			d = "."
		}
		out = append(out, path.Join(d, name))
	}
	return out
}
