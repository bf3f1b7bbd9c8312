package bundled

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// Steps of the host side.
type (
	// Hooks runs programs of the host for the new process, while it waits at AwaitHooks. The
	// launcher's caller does it.
	Hooks struct {
		Words  []string `json:"words"`
		Inside bool     `json:"inside,omitempty"` // in its namespaces
	}

	// MoveDevices moves interfaces of the host into the process's network namespace. The
	// launcher's caller does it.
	MoveDevices struct {
		Devices []spec.NetDevice `json:"devices"`
	}

	// GiveStdio gives the pipes at stdin, stdout and stderr to the command's user, so that it can
	// open them again (/dev/stdout).
	GiveStdio struct {
		UID    uint32 `json:"uid"`              // as the host numbers it
		Inside bool   `json:"inside,omitempty"` // as the container does: its maps are not known before
	}

	// NoteRoot writes down which mount the process will leave at a path of the host, for who
	// removes the container. The launcher's caller does it.
	NoteRoot struct {
		Path string `json:"path"`
	}

	// Mounted waits until the process waits at AwaitHooks.
	Mounted struct{}

	// Held waits until the process waits at plan.Hold.
	Held struct{}
)

// Steps of the new process.
type (
	// Reborn goes on as another process, in new namespaces that belong to the user namespace that was joined
	// before: such as the first would not be in by unsharing them.
	Reborn struct {
		Namespaces []string `json:"namespaces"`
	}

	// AwaitHooks says that all is mounted, and waits for one more Release, or for the end of the
	// launcher.
	AwaitHooks struct{}

	// Remount changes a mount of the container, and with Reconfigure its file system, too.
	Remount struct {
		Path        string   `json:"path"`
		Set         []string `json:"set,omitempty"`
		Clear       []string `json:"clear,omitempty"`
		SetAll      []string `json:"setAll,omitempty"` // of what is mounted below, too
		ClearAll    []string `json:"clearAll,omitempty"`
		Reconfigure bool     `json:"reconfigure,omitempty"`
		Options     []string `json:"options,omitempty"` // of the file system
	}

	// MoveRoot makes the root that of the namespace by mounting it over the host's, where there is
	// nothing that pivot_root(2) could put aside, as on an initramfs. What was there is still below.
	MoveRoot struct{}

	// Chroot makes the root the process's own, where Pivot would change that of others.
	Chroot struct{}

	// MakeNode makes a device node, if there is none of this name.
	MakeNode struct {
		spec.Device
	}

	// Link makes a symbolic link, if nothing has its name.
	Link struct {
		Path    string `json:"path"`
		To      string `json:"to"`
		Replace bool   `json:"replace,omitempty"` // of a file of this name
	}

	// BindConsole shows the terminal at /dev/console.
	BindConsole struct{}

	// OwnTerminal gives the terminal to the user who will have it.
	OwnTerminal struct {
		UID uint32 `json:"uid"`
	}

	// SealMount makes the mount at a path read-only, when all that is mounted in it is.
	SealMount struct {
		Path string `json:"path"`
	}

	// Propagate sets how mounts below a path show elsewhere.
	Propagate struct {
		Path string `json:"path"`
		Mode string `json:"mode"` // "shared" or "unbindable"
	}

	// RootPropagation sets how mounts in the root file system show elsewhere.
	RootPropagation struct {
		Mode      string `json:"mode"` // "shared" or "unbindable"
		Recursive bool   `json:"recursive,omitempty"`
	}

	// Find looks whether one of the paths of a command can be executed.
	Find struct {
		Paths []string `json:"paths"`
		Name  string   `json:"name"`
	}
)

func (MoveDevices) Kind() string     { return "move-devices" }
func (Hooks) Kind() string           { return "hooks" }
func (GiveStdio) Kind() string       { return "give-stdio" }
func (Remount) Kind() string         { return "remount" }
func (MoveRoot) Kind() string        { return "move-root" }
func (NoteRoot) Kind() string        { return "note-root" }
func (Chroot) Kind() string          { return "chroot" }
func (Mounted) Kind() string         { return "mounted" }
func (Reborn) Kind() string          { return "reborn" }
func (AwaitHooks) Kind() string      { return "await-hooks" }
func (Held) Kind() string            { return "held" }
func (MakeNode) Kind() string        { return "make-node" }
func (Link) Kind() string            { return "link" }
func (BindConsole) Kind() string     { return "bind-console" }
func (OwnTerminal) Kind() string     { return "own-terminal" }
func (SealMount) Kind() string       { return "seal-mount" }
func (Propagate) Kind() string       { return "propagate" }
func (RootPropagation) Kind() string { return "root-propagation" }
func (Find) Kind() string            { return "find" }

func (s Hooks) String() string {
	if s.Inside {
		return "run the hooks " + strings.Join(s.Words, ", ") + " in its namespaces"
	}
	return "run the hooks " + strings.Join(s.Words, ", ")
}
func (MoveRoot) String() string { return "make it the root by mounting it over the host's" }
func (s Remount) String() string {
	what := "the mount at " + s.Path
	if s.Reconfigure {
		what += " and its file system"
	}
	var words []string
	for _, a := range []plan.Attributes{
		{Set: append(slices.Clone(s.Set), s.Options...), Clear: s.Clear, What: what},
		{Set: s.SetAll, Clear: s.ClearAll, Recursive: true, What: "the mount at " + s.Path},
	} {
		if len(a.Set)+len(a.Clear) > 0 {
			words = append(words, a.String())
		}
	}
	if len(words) == 0 {
		return "change nothing of " + what
	}
	return strings.Join(words, "; ")
}
func (s NoteRoot) String() string { return "write down which mount will be at " + s.Path }
func (Chroot) String() string     { return "make it the root of the process alone" }
func (Mounted) String() string    { return "wait until all is mounted" }
func (s Reborn) String() string {
	words := "go on as another process"
	if len(s.Namespaces) > 0 {
		words += ", in new namespaces: " + strings.Join(s.Namespaces, ", ")
	}
	return words
}
func (AwaitHooks) String() string { return "wait for hooks to be run" }
func (s GiveStdio) String() string {
	if s.Inside {
		return fmt.Sprintf("give the pipes at stdin, stdout and stderr to user %d of the container", s.UID)
	}
	return fmt.Sprintf("give the pipes at stdin, stdout and stderr to user %d of the host", s.UID)
}
func (Held) String() string { return "wait until all is done but the exec" }
func (s MakeNode) String() string {
	return fmt.Sprintf("make the device %s (%s %d:%d, mode %04o)", s.Path, s.Type, s.Major, s.Minor, s.Mode)
}
func (s Link) String() string        { return "link " + s.Path + " to " + s.To }
func (BindConsole) String() string   { return "show the terminal at /dev/console" }
func (s OwnTerminal) String() string { return fmt.Sprintf("give the terminal to user %d", s.UID) }
func (s SealMount) String() string   { return "make the mount at " + s.Path + " read-only" }
func (s Propagate) String() string   { return "make the mount at " + s.Path + " " + s.Mode }
func (s RootPropagation) String() string {
	words := "make the root file system " + s.Mode
	if s.Recursive {
		words += ", with all that is mounted below"
	}
	return words
}
func (s Find) String() string { return "look for " + s.Name }

func (s MoveDevices) String() string {
	var names []string
	for _, d := range s.Devices {
		if names = append(names, d.Host); d.Name != "" && d.Name != d.Host {
			names[len(names)-1] += " as " + d.Name
		}
	}
	return "move network interfaces of the host into its namespace: " + strings.Join(names, ", ")
}
