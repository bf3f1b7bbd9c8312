package plan

import (
	"fmt"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
)

// Steps that further describe a container: package bundled plans with them.
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

	// MakeTmpfs makes a tmpfs, detached, for Seed to fill. It has no attributes yet.
	MakeTmpfs struct {
		Source  string   `json:"source"`
		Options []string `json:"options,omitempty"`
		What    string   `json:"what"`
		As      Handle   `json:"as"`
	}

	// MapUsers makes a user namespace that nobody is in, for its maps.
	MapUsers struct {
		UID []spec.IDMap `json:"uid"`
		GID []spec.IDMap `json:"gid"`
		As  Handle       `json:"as"`
	}

	// OpenDev opens the /dev of the host's tree, from which Mask takes the null device.
	OpenDev struct {
		As Handle `json:"as"`
	}

	// OpenSource opens what of the host a bind mount shows, as the process's copy of its mounts has it,
	// before anything of the container is mounted there.
	OpenSource struct {
		Path string `json:"path"`
		What string `json:"what"`
		As   Handle `json:"as"`
	}

	// KeepCaps has the process keep its permitted capabilities when it changes its user.
	KeepCaps struct{}

	// HoldCaps sets all sets but the bounding one.
	HoldCaps struct {
		spec.CapSets
	}

	// Hold says that all is done but the exec, and waits for a byte. The process ends with the
	// launcher before that has said that it is known; then it does not any more.
	Hold struct {
		Start Handle `json:"start"` // a FIFO, open for reading and writing
	}
)

// Handles of Hold, which the launcher opens.
const (
	HeldReady Handle = "ready" // eventfd that tells that the process waits
	HeldKnown Handle = "known" // pipe by which it is told to wait for Start alone
	StartFIFO Handle = "start" // which whoever has the launcher start a process opens
)

func (Attributes) Kind() string { return "attributes" }
func (MakeTmpfs) Kind() string  { return "make-tmpfs" }
func (MapUsers) Kind() string   { return "map-users" }
func (OpenDev) Kind() string    { return "open-dev" }
func (OpenSource) Kind() string { return "open-source" }
func (KeepCaps) Kind() string   { return "keep-caps" }
func (HoldCaps) Kind() string   { return "hold-caps" }
func (Hold) Kind() string       { return "hold" }

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

func (s MakeTmpfs) String() string {
	words := "make a tmpfs: " + s.What
	if len(s.Options) > 0 {
		words += " (" + strings.Join(s.Options, ", ") + ")"
	}
	return words
}
func (s MapUsers) String() string {
	return fmt.Sprintf("make %s, a user namespace that maps users %s and groups %s", s.As, mapWords(s.UID), mapWords(s.GID))
}
func (OpenDev) String() string      { return "open the host's /dev" }
func (s OpenSource) String() string { return fmt.Sprintf("open %s: %s", s.Path, s.What) }
func (KeepCaps) String() string     { return "keep capabilities over the change of user" }
func (Hold) String() string         { return "wait to be started" }

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

func (s Attributes) uses() []Handle  { return []Handle{s.Mount} }
func (s MakeTmpfs) opens() []Handle  { return []Handle{s.As} }
func (s MapUsers) opens() []Handle   { return []Handle{s.As} }
func (s OpenDev) opens() []Handle    { return []Handle{s.As} }
func (s OpenSource) opens() []Handle { return []Handle{s.As} }
func (s Hold) uses() []Handle        { return []Handle{HeldReady, HeldKnown, s.Start} }
