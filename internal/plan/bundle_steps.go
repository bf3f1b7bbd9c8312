package plan

import (
	"fmt"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
)

// Steps that only containers of OCI bundles take, on the host side.
type (
	// Attributes changes what a detached mount does (mount_setattr(2), Linux 5.12).
	Attributes struct {
		Mount       Handle   `json:"mount"`
		Recursive   bool     `json:"recursive,omitempty"`
		Set         []string `json:"set,omitempty"` // "ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime", "nosymfollow"
		Clear       []string `json:"clear,omitempty"`
		Propagation string   `json:"propagation,omitempty"` // "private", "slave", "shared", "unbindable"
		What        string   `json:"what"`
	}

	// Hooks runs programs of the host for the new process, before it sees its root. The
	// launcher's caller does it.
	Hooks struct {
		Words []string `json:"words"`
	}

	// Held waits until the process waits at Hold.
	Held struct{}
)

// Steps of the new process.
type (
	// OpenDev opens the /dev of the host's tree, from which Mask takes the null device.
	OpenDev struct {
		As Handle `json:"as"`
	}

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

	// RootPropagation sets how mounts in the root file system show elsewhere.
	RootPropagation struct {
		Mode string `json:"mode"` // "shared" or "unbindable"
	}

	// KeepCaps has the process keep its permitted capabilities when it changes its user.
	KeepCaps struct{}

	// HoldCaps sets all sets but the bounding one.
	HoldCaps struct {
		spec.CapSets
	}

	// Find looks whether one of the paths of a command can be executed.
	Find struct {
		Paths []string `json:"paths"`
		Name  string   `json:"name"`
	}

	// Hold says that all is done but the exec, and waits for a byte. The process ends with the
	// launcher before that has said that it is known; then it does not any more.
	Hold struct {
		Start Handle `json:"start"` // a FIFO, open for reading and writing
	}
)

// Handles of Hold, which the launcher opens.
const (
	HeldReady Handle = "held: ready"    // eventfd that tells that the process waits
	HeldKnown Handle = "held: known"    // eventfd that tells it to wait for Start alone
	HeldSelf  Handle = "held: launcher" // pidfd of the launcher
	StartFIFO Handle = "start"
)

func (Attributes) Kind() string      { return "attributes" }
func (Hooks) Kind() string           { return "hooks" }
func (Held) Kind() string            { return "held" }
func (OpenDev) Kind() string         { return "open-dev" }
func (MakeNode) Kind() string        { return "make-node" }
func (Link) Kind() string            { return "link" }
func (BindConsole) Kind() string     { return "bind-console" }
func (OwnTerminal) Kind() string     { return "own-terminal" }
func (SealMount) Kind() string       { return "seal-mount" }
func (RootPropagation) Kind() string { return "root-propagation" }
func (KeepCaps) Kind() string        { return "keep-caps" }
func (HoldCaps) Kind() string        { return "hold-caps" }
func (Find) Kind() string            { return "find" }
func (Hold) Kind() string            { return "hold" }

func (s Attributes) String() string {
	var how []string
	how = append(how, s.Set...)
	for _, c := range s.Clear {
		how = append(how, "not "+c)
	}
	if s.Propagation != "" {
		how = append(how, s.Propagation)
	}
	words := fmt.Sprintf("make %s %s", s.What, strings.Join(how, ", "))
	if s.Recursive {
		words += ", with all that is mounted below"
	}
	return words
}

func (s Hooks) String() string { return "run the hooks " + strings.Join(s.Words, ", ") }
func (Held) String() string    { return "wait until all is done but the exec" }
func (OpenDev) String() string { return "open the host's /dev" }
func (s MakeNode) String() string {
	return fmt.Sprintf("make the device %s (%s %d:%d, mode %04o)", s.Path, s.Type, s.Major, s.Minor, s.Mode)
}
func (s Link) String() string { return "link " + s.Path + " to " + s.To }
func (BindConsole) String() string {
	return "show the terminal at /dev/console"
}
func (s OwnTerminal) String() string     { return fmt.Sprintf("give the terminal to user %d", s.UID) }
func (s SealMount) String() string       { return "make the mount at " + s.Path + " read-only" }
func (s RootPropagation) String() string { return "make the root file system " + s.Mode }
func (KeepCaps) String() string          { return "keep capabilities over the change of user" }

func (s HoldCaps) String() string {
	var parts []string
	for _, x := range []struct {
		name string
		caps []string
	}{{"effective", s.Effective}, {"permitted", s.Permitted}, {"inheritable", s.Inheritable}, {"ambient", s.Ambient}} {
		if len(x.caps) > 0 {
			parts = append(parts, x.name+" "+capWords(x.caps))
		}
	}
	if len(parts) == 0 {
		return "hold no capability"
	}
	return "hold the capabilities " + strings.Join(parts, "; ")
}

func (s Find) String() string { return "look for " + s.Name }
func (Hold) String() string   { return "wait to be started" }

func (s Attributes) uses() []Handle { return []Handle{s.Mount} }
func (s OpenDev) opens() []Handle   { return []Handle{s.As} }
func (s Hold) uses() []Handle       { return []Handle{HeldReady, HeldKnown, HeldSelf, s.Start} }
