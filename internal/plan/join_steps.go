package plan

import (
	"fmt"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
)

// Handles that whoever executes the plan of a further process opens.
const (
	Target     Handle = "container"      // pidfd of the container's first process
	TargetRoot Handle = "container root" // its root directory; for a terminal, and where it has the host's mount namespace
)

// Steps that only further processes take.
type (
	// Enter joins namespaces that the container has for itself (setns(2) by pidfd, Linux 5.8).
	Enter struct {
		Namespaces []string `json:"namespaces"`
		FD         Handle   `json:"fd"`
	}

	// TakeRoot makes the container's root that of the process, where they are in one mount namespace.
	TakeRoot struct {
		FD Handle `json:"fd"`
	}

	// Fork goes on as another process: nobody can enter a pid namespace himself, only what he
	// then makes is in it. The process before stays as it is until the new one has executed its
	// program, so that the kernel knows them for one (vfork(2)), and then ends.
	Fork struct {
		Dir    string `json:"dir,omitempty"`    // the cgroup v2 directory to be born in (Linux 5.7)
		Group  Handle `json:"group,omitempty"`  // that directory, open
		Orphan bool   `json:"orphan,omitempty"` // its parent is in the container, so that PID 1 there inherits it
	}

	// OpenPeer opens a new terminal in the container's devpts, for User of the host. The
	// launcher keeps its master.
	OpenPeer struct {
		Root Handle     `json:"root"`
		User uint32     `json:"user"`
		Size *spec.Size `json:"size,omitempty"`
		As   Handle     `json:"as"`
	}
)

func (Enter) Kind() string    { return "enter" }
func (TakeRoot) Kind() string { return "take-root" }
func (Fork) Kind() string     { return "fork" }
func (OpenPeer) Kind() string { return "open-peer" }

func (s Enter) String() string {
	return "join the container's namespaces: " + strings.Join(s.Namespaces, ", ")
}

func (TakeRoot) String() string { return "take the container's root" }

func (s Fork) String() string {
	words := "go on as another process"
	if s.Orphan {
		words += ", whose parent is in the container"
	}
	if s.Dir != "" {
		words += ", in the control group " + s.Dir
	}
	return words
}

func (s OpenPeer) String() string {
	return fmt.Sprintf("open a terminal in the container's devpts, for user %d", s.User)
}

func (s Enter) uses() []Handle     { return []Handle{s.FD} }
func (s TakeRoot) uses() []Handle  { return []Handle{s.FD} }
func (s Fork) uses() []Handle      { return []Handle{s.Group} }
func (s OpenPeer) uses() []Handle  { return []Handle{s.Root} }
func (s OpenPeer) opens() []Handle { return []Handle{s.As} }
