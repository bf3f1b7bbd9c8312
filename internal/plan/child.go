package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
)

// Steps that the new process does to itself. They are compiled to system calls before the
// process exists and run without a stack: none may need a decision that a system call's
// success or failure does not make.
type (
	// Await waits for Release, and ends the process if the launcher has died.
	Await struct{}

	// OpenTerminal makes the container's devpts (as handle As) and a terminal in it, whose
	// master the launcher keeps.
	OpenTerminal struct {
		As   Handle     `json:"as"`
		Size *spec.Size `json:"size,omitempty"` // nil: the kernel's, 0 by 0
		Any  bool       `json:"any,omitempty"`  // terminals have no group of their own: there is no group 5

		Options []string `json:"options,omitempty"` // of the devpts; nil: the usual ones
		Label   string   `json:"label,omitempty"`   // SELinux context of every file
	}

	// OwnOOMScore is OOMScore by the process itself, through the host's /proc, before its program
	// could look. Who may not lower it keeps what it has.
	OwnOOMScore struct {
		Value int    `json:"value"`
		Proc  Handle `json:"proc"`
	}

	// EnterGroup moves the process into a cgroup by writing "0" to the file, which spares
	// the kernel the lock that a write of a pid from outside takes.
	EnterGroup struct {
		Dir string `json:"dir"`
		FD  Handle `json:"fd"` // "cgroup.procs" or "tasks", open for writing
	}

	// Unshare makes namespaces that have to be made after the cgroup was entered ("cgroup")
	// or cannot be made by clone while memory is shared ("time").
	Unshare struct {
		Namespace string `json:"namespace"`
	}

	// TimeOffset shifts a clock of the new time namespace, time_namespaces(7).
	TimeOffset struct {
		Clock string `json:"clock"` // "monotonic" or "boottime"
		Nanos int64  `json:"nanos"`
		FD    Handle `json:"fd,omitempty"` // timens_offsets of the process; empty: it opens its own
	}

	// Join enters an existing namespace (setns(2)).
	Join struct {
		Namespace string `json:"namespace"`
		FD        Handle `json:"fd"`
		Path      string `json:"path"`
	}

	// BecomeRoot takes uid and gid 0 of the user namespace.
	BecomeRoot struct{}

	// Propagation sets how mounts made on the host show in the container, for the copy of
	// the host's mounts that it starts with.
	Propagation struct {
		Mode string `json:"mode"` // "private" or "slave"
	}

	// LoopbackUp sets the loopback interface of the new network namespace up.
	LoopbackUp struct{}

	// Stow hangs the parts that the root was made of on the tree that Pivot drops. As long
	// as they are detached, closing each costs a grace period of the kernel's of its own,
	// half a millisecond; with the host's tree they all go in one.
	Stow struct {
		Mounts []Handle `json:"mounts"`
	}

	// EnterRoot puts the root mount in place and makes it the working directory.
	EnterRoot struct {
		Mount Handle `json:"mount"`

		// At is the directory of the host that it hangs on until Pivot, where hooks look for it, if the
		// process can reach that; with Stay it hangs there and nowhere else.
		At   string `json:"at,omitempty"`
		Stay bool   `json:"stay,omitempty"`
	}

	// Attach moves a detached mount to Target in the root.
	Attach struct {
		Mount  Handle `json:"mount"`
		Target string `json:"target"`
		File   bool   `json:"file,omitempty"` // the mount is a file: make the target a file if it is missing
		What   string `json:"what"`
		Forget Handle `json:"forget,omitempty"` // the directory in which the file loses its name (MakeFile)
		Name   string `json:"name,omitempty"`   // that name
	}

	// MountFS makes a new file system, which belongs to the container's namespaces, and
	// mounts it at Target.
	MountFS struct {
		Type     string   `json:"type"`
		Target   string   `json:"target"`
		Options  []string `json:"options,omitempty"` // "NAME" or "NAME=VALUE", as fsconfig(2) takes them
		ReadOnly bool     `json:"readOnly,omitempty"`
		NoExec   bool     `json:"noExec,omitempty"`
		NoSuid   bool     `json:"noSuid,omitempty"`
		NoDev    bool     `json:"noDev,omitempty"`
		Missing  bool     `json:"missing,omitempty"` // a kernel without this file system is no error
		Source   string   `json:"source,omitempty"`  // what it is made of, or what df shows; empty: its type
		Attrs    []string `json:"attrs,omitempty"`   // more attributes, see Attributes
	}

	// Mask hides a path: under /dev/null if it is a file, an empty directory if it is one.
	Mask struct {
		Path string `json:"path"`
	}

	// ReadOnlyPath makes what is below a path read-only, if the path exists.
	ReadOnlyPath struct {
		Path string `json:"path"`
	}

	// ReadOnlyRoot makes the root mount read-only.
	ReadOnlyRoot struct{}

	// Write writes a file of the container, and makes it if only that is missing. On a
	// read-only file system it stays as it is.
	Write struct {
		Path    string `json:"path"`
		Content string `json:"content"`
	}

	// Sysctl writes a value below /proc/sys.
	Sysctl struct {
		Name  string `json:"name"` // with dots
		Value string `json:"value"`
	}

	// Pivot makes the root mount the root and drops the host's tree.
	Pivot struct{}

	// Hostname and Domainname set the names of the UTS namespace.
	Hostname   struct{ Name string }
	Domainname struct{ Name string }
)

// Steps that set what the process is.
type (
	// NewKeyring gives the process a session keyring of its own, session-keyring(7). One with a
	// name others may join who have the same user.
	NewKeyring struct {
		Name string `json:"name,omitempty"`
		Join bool   `json:"join,omitempty"` // it is there, and is made only if it is not
	}

	// Label sets the security label that the exec will take (AppArmor profile or SELinux
	// context).
	Label struct {
		Module string `json:"module"` // "apparmor" or "selinux"
		Label  string `json:"label"`
		Usual  bool   `json:"usual,omitempty"` // nobody asked for it: a host that has it not, or gives us none, is no error
	}

	// Stdio arranges descriptors 0, 1 and 2.
	Stdio struct {
		Terminal     bool   `json:"terminal,omitempty"` // all three are the terminal, in a new session
		NoStdin      bool   `json:"noStdin,omitempty"`  // 0 is /dev/null
		In, Out, Err Handle // instead of the launcher's own
	}

	// KeepFDs moves handles to descriptors 3 and up and closes every other one: first those of
	// the command, then those of corten-init, at the places that it expects.
	KeepFDs struct {
		FDs    []Handle `json:"fds,omitempty"`
		Report Handle   `json:"report,omitempty"` // where corten-init writes the command's status
		Guards []Handle `json:"guards,omitempty"` // that it holds open, two at most
		Gate   Handle   `json:"gate,omitempty"`   // its end of the way to the command's process
		Wait   Handle   `json:"wait,omitempty"`   // the other end
		Exec   Handle   `json:"exec,omitempty"`   // the program of PID 1
		Held   []Handle `json:"held,omitempty"`   // what Hold needs
	}

	// Umask sets the file mode creation mask.
	Umask struct {
		Mask uint32 `json:"mask"`
	}

	// Chdir enters the working directory and makes it if it is missing.
	Chdir struct {
		Dir    string `json:"dir"`
		Exists bool   `json:"exists,omitempty"` // it is not made
	}

	// DropBounding removes every capability but these from the bounding set,
	// capabilities(7).
	DropBounding struct {
		Keep []string `json:"keep"`
	}

	// SetUser takes the identity of the container's user.
	SetUser struct {
		UID    uint32   `json:"uid"`
		GID    uint32   `json:"gid"`
		Groups []uint32 `json:"groups"`
		Keep   bool     `json:"keep,omitempty"` // the groups that the launcher has: nobody may change them (user_namespaces(7), "deny")
	}

	// SetCaps sets the permitted, effective and inheritable sets.
	SetCaps struct {
		Caps []string `json:"caps"`
	}

	// NoNewPrivs makes set-user-id and file capabilities ineffective for the process and
	// all its children.
	NoNewPrivs struct{}

	// Seccomp installs the system call filter.
	Seccomp struct {
		Name    string        `json:"name"` // what the user knows it by
		Flags   uint32        `json:"flags"`
		Program []Instruction `json:"-"`
		Way     Handle        `json:"way,omitempty"` // of its listener, if it has one
	}

	// LowerLimit lowers a resource limit of the process, when the steps before would not
	// have fitted below it.
	LowerLimit struct {
		spec.Rlimit
		Resource int `json:"resource"`
	}

	// DieWithParent has the kernel kill the process when its launcher dies.
	DieWithParent struct{}

	// Init makes the process that goes on to run the command, and executes corten-init in the
	// one that has come here, PID 1.
	Init struct {
		FD   Handle   `json:"fd"`
		Args []string `json:"args"`

		// Gated: the command is not executed before PID 1 says that it cannot be traced, and
		// PID 1 is told which process the command is.
		Gated bool `json:"gated,omitempty"`
	}

	// Exec runs the command: the first of Paths that is there and may be executed.
	Exec struct {
		Paths []string `json:"paths"`
		Args  []string `json:"args"`
		Env   []string `json:"env"`
	}
)

// Instruction is one classic BPF instruction, struct sock_filter of <linux/filter.h>.
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

func (Await) Kind() string         { return "await" }
func (OpenTerminal) Kind() string  { return "open-terminal" }
func (EnterGroup) Kind() string    { return "enter-cgroup" }
func (OwnOOMScore) Kind() string   { return "own-oom-score" }
func (Unshare) Kind() string       { return "unshare" }
func (TimeOffset) Kind() string    { return "time-offset" }
func (Join) Kind() string          { return "join" }
func (BecomeRoot) Kind() string    { return "become-root" }
func (Propagation) Kind() string   { return "propagation" }
func (LoopbackUp) Kind() string    { return "loopback-up" }
func (Stow) Kind() string          { return "stow" }
func (EnterRoot) Kind() string     { return "enter-root" }
func (Attach) Kind() string        { return "attach" }
func (MountFS) Kind() string       { return "mount" }
func (Mask) Kind() string          { return "mask" }
func (ReadOnlyPath) Kind() string  { return "read-only-path" }
func (ReadOnlyRoot) Kind() string  { return "read-only-root" }
func (Write) Kind() string         { return "write" }
func (Sysctl) Kind() string        { return "sysctl" }
func (Pivot) Kind() string         { return "pivot" }
func (Hostname) Kind() string      { return "hostname" }
func (Domainname) Kind() string    { return "domainname" }
func (NewKeyring) Kind() string    { return "new-keyring" }
func (Label) Kind() string         { return "label" }
func (Stdio) Kind() string         { return "stdio" }
func (KeepFDs) Kind() string       { return "keep-fds" }
func (Umask) Kind() string         { return "umask" }
func (Chdir) Kind() string         { return "chdir" }
func (DropBounding) Kind() string  { return "drop-bounding" }
func (SetUser) Kind() string       { return "set-user" }
func (SetCaps) Kind() string       { return "set-caps" }
func (NoNewPrivs) Kind() string    { return "no-new-privs" }
func (Seccomp) Kind() string       { return "seccomp" }
func (LowerLimit) Kind() string    { return "lower-limit" }
func (DieWithParent) Kind() string { return "die-with-parent" }
func (Init) Kind() string          { return "init" }
func (Exec) Kind() string          { return "exec" }

func (Await) String() string { return "wait to be let go" }

func (s OpenTerminal) String() string {
	return "make a devpts and open a terminal in it" + labelled(s.Label)
}

func labelled(label string) string {
	if label == "" {
		return ""
	}
	return ", labelled " + label
}

func (s EnterGroup) String() string { return "enter the control group " + s.Dir }

func (s OwnOOMScore) String() string {
	return fmt.Sprintf("set the own OOM score adjustment to %d, if that is allowed", s.Value)
}
func (s Unshare) String() string { return "make a new " + s.Namespace + " namespace" }
func (s TimeOffset) String() string {
	return fmt.Sprintf("shift the %s clock by %d.%09d s", s.Clock, s.Nanos/1e9, abs(s.Nanos%1e9))
}
func (s Join) String() string        { return "join the " + s.Namespace + " namespace " + s.Path }
func (BecomeRoot) String() string    { return "become root of the user namespace" }
func (s Propagation) String() string { return "make the copy of the host's mounts " + s.Mode }
func (LoopbackUp) String() string    { return "set the loopback interface up" }
func (s Stow) String() string {
	names := make([]string, 0, len(s.Mounts))
	for _, h := range s.Mounts {
		names = append(names, string(h))
	}
	return "put " + strings.Join(names, ", ") + " with what is dropped"
}
func (s EnterRoot) String() string {
	if s.Stay {
		return "mount the root file system at " + s.At + " of the host"
	}
	if s.At != "" {
		return "put the root file system in place, and show it at " + s.At
	}
	return "put the root file system in place"
}
func (s Attach) String() string { return "mount " + s.What + " at " + s.Target }

func (s MountFS) String() string {
	opts := slices.Concat(s.Options, s.Attrs)
	for _, a := range []struct {
		on   bool
		word string
	}{{s.ReadOnly, "read-only"}, {s.NoSuid, "nosuid"}, {s.NoDev, "nodev"}, {s.NoExec, "noexec"}} {
		if a.on {
			opts = append(opts, a.word)
		}
	}
	words := fmt.Sprintf("mount a new %s at %s", s.Type, s.Target)
	if len(opts) > 0 {
		words += " (" + strings.Join(opts, ", ") + ")"
	}
	if s.Missing {
		words += ", if the kernel has it"
	}
	return words
}

func (s Mask) String() string         { return "hide " + s.Path }
func (s ReadOnlyPath) String() string { return "make " + s.Path + " read-only" }
func (ReadOnlyRoot) String() string   { return "make the root file system read-only" }
func (s Write) String() string        { return "write " + s.Path + ": " + strings.TrimSpace(s.Content) }
func (s Sysctl) String() string       { return fmt.Sprintf("set sysctl %s to %s", s.Name, s.Value) }
func (Pivot) String() string          { return "make it the root and drop the host's tree" }
func (s Hostname) String() string     { return "set the host name to " + s.Name }
func (s Domainname) String() string   { return "set the domain name to " + s.Name }

func (s Label) String() string {
	switch {
	case s.Module == "selinux":
		return "take the SELinux label " + s.Label + " at exec"
	case s.Usual:
		return "take the AppArmor profile " + s.Label + " at exec, if it is loaded"
	}
	return "take the AppArmor profile " + s.Label + " at exec"
}

func (s Stdio) String() string {
	switch {
	case s.Terminal:
		return "start a session with the terminal as stdin, stdout and stderr"
	case s.Out != "":
		return "take the given stdin, stdout and stderr"
	case s.NoStdin:
		return "keep stdout and stderr, read stdin from /dev/null"
	}
	return "keep stdin, stdout and stderr"
}

func (s KeepFDs) String() string {
	var parts []string
	for i, h := range s.Places() {
		if h != "" {
			parts = append(parts, fmt.Sprintf("%d (%s)", i+3, h))
		}
	}
	if len(parts) == 0 {
		return "close every other descriptor"
	}
	return "close every other descriptor but " + strings.Join(parts, ", ")
}

// Places is what lies at descriptor 3 and up, up to the programs's own: first what is the
// command's. Nothing has an empty handle.
func (s KeepFDs) Places() []Handle {
	p := append([]Handle(nil), s.FDs...)
	if s.Report == "" {
		return p
	}
	p = append(append(p, s.Report), s.Guards...)
	if s.Gate != "" {
		for len(p) < len(s.FDs)+1+MaxGuards {
			p = append(p, "")
		}
		p = append(p, s.Gate)
	}
	return p
}

func (s Umask) String() string { return fmt.Sprintf("set the umask to %04o", s.Mask) }
func (s Chdir) String() string { return "work in " + s.Dir }

func (s DropBounding) String() string {
	if len(s.Keep) == 0 {
		return "drop every capability from the bounding set"
	}
	return "drop every capability from the bounding set but " + capWords(s.Keep)
}

func capWords(caps []string) string {
	short := make([]string, 0, len(caps))
	for _, c := range caps {
		short = append(short, strings.ToLower(strings.TrimPrefix(c, "CAP_")))
	}
	return strings.Join(short, " ")
}

func (s SetUser) String() string {
	words := fmt.Sprintf("become user %d, group %d", s.UID, s.GID)
	if len(s.Groups) > 0 {
		words += ", groups " + strings.Trim(fmt.Sprint(s.Groups), "[]")
	}
	return words
}

func (s SetCaps) String() string {
	if len(s.Caps) == 0 {
		return "hold no capability"
	}
	return "hold the capabilities " + capWords(s.Caps)
}

func (NoNewPrivs) String() string { return "set no-new-privileges" }
func (s Seccomp) String() string {
	words := fmt.Sprintf("install the seccomp filter %s (%d instructions)", s.Name, len(s.Program))
	if s.Way != "" {
		words += ", and wait until its listener is handed over"
	}
	return words
}
func (s LowerLimit) String() string  { return Limit(s).String() }
func (DieWithParent) String() string { return "die when the launcher dies" }

func (s Init) String() string {
	words := fmt.Sprintf("make a process for the command and execute %s as PID 1", strings.Join(s.Args, " "))
	if s.Gated {
		words += ", which says when the command may begin"
	}
	return words
}

func (s NewKeyring) String() string {
	switch {
	case s.Join:
		return "join the session keyring " + s.Name
	case s.Name != "":
		return "take a new session keyring, " + s.Name
	}
	return "take a new session keyring"
}

func (s Exec) String() string {
	if len(s.Paths) > 1 {
		return fmt.Sprintf("execute %s, found in PATH", strings.Join(s.Args, " "))
	}
	return "execute " + strings.Join(s.Args, " ")
}

func abs(v int64) int64 { return max(v, -v) }

func (s OpenTerminal) opens() []Handle { return []Handle{s.As, Master} }
func (s Join) uses() []Handle          { return []Handle{s.FD} }
func (s Stdio) uses() []Handle {
	if s.NoStdin {
		return []Handle{DevMount, s.In, s.Out, s.Err}
	}
	return []Handle{s.In, s.Out, s.Err}
}
func (s Mask) uses() []Handle        { return []Handle{DevMount} }
func (s TimeOffset) uses() []Handle  { return []Handle{s.FD} }
func (s EnterGroup) uses() []Handle  { return []Handle{s.FD} }
func (s OwnOOMScore) uses() []Handle { return []Handle{s.Proc} }
func (s Stow) uses() []Handle        { return s.Mounts }
func (s EnterRoot) uses() []Handle   { return []Handle{s.Mount} }
func (s Attach) uses() []Handle      { return []Handle{s.Mount} }
func (s KeepFDs) uses() []Handle     { return append(append(s.Places(), s.Wait, s.Exec), s.Held...) }
func (s Init) uses() []Handle        { return []Handle{s.FD} }
