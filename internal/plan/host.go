package plan

import (
	"fmt"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
)

// Steps of the host side that open things. Each leaves a descriptor under its handle As.
type (
	// CloneMount takes a detached copy of the mount at Path, so that its attributes can be
	// changed without touching the host's own (open_tree(2), Linux 5.2).
	CloneMount struct {
		Path      string `json:"path"`
		Recursive bool   `json:"recursive,omitempty"`
		What      string `json:"what"` // what it is to the container: "the objects"
		As        Handle `json:"as"`
		From      Handle `json:"from,omitempty"` // Path as the process has opened it, who then does it (OpenSource)
	}

	// MountImage mounts an EROFS image file, detached: from the file where the kernel can
	// (Linux 6.12), through a loop device where not.
	MountImage struct {
		File string `json:"file"`
		What string `json:"what"`
		As   Handle `json:"as"`
	}

	// OpenFile opens a file of the host for reading, for writing, or to be executed: that takes no
	// right to read it (open(2), O_PATH).
	OpenFile struct {
		Path  string `json:"path"`
		Write bool   `json:"write,omitempty"`
		Exec  bool   `json:"exec,omitempty"`
		What  string `json:"what"`
		As    Handle `json:"as"`
	}

	// MakeDev makes the tmpfs for /dev with its nodes and links, detached. It is the host's
	// tmpfs, so the nodes work, while making others needs the host's CAP_MKNOD.
	MakeDev struct {
		Nodes   []spec.Device `json:"nodes"`
		Console bool          `json:"console,omitempty"` // the terminal is the console too
		Label   string        `json:"label,omitempty"`   // SELinux context of every file
		Root    Owner         `json:"root"`
		As      Handle        `json:"as"`
	}

	// MakeFile writes a file in a detached tmpfs and takes a detached mount of it.
	MakeFile struct {
		In      Handle `json:"in"`
		Name    string `json:"name"`
		Content string `json:"content"`
		Root    Owner  `json:"root"`
		As      Handle `json:"as"`
	}

	// Overlay puts the container's writable layer over read-only ones, detached
	// (overlay on data-only layers: Linux 6.5).
	Overlay struct {
		Lower    []Handle `json:"lower"`              // the topmost first
		Data     []Handle `json:"data,omitempty"`     // searched only by redirects of the lowest tree
		Writable Handle   `json:"writable"`           // holds "upper" and "work"
		Volatile bool     `json:"volatile,omitempty"` // never synced: the container is removed when it ends
		Label    string   `json:"label,omitempty"`    // SELinux context of every file
		Sealed   Sealed   `json:"sealed,omitempty"`   // the content of the lowest tree's files is compared with the seals that the tree names (Linux 6.6)
		User     bool     `json:"user,omitempty"`     // its own attributes are in user.overlay: trusted ones are not for who is root of a user namespace only (Linux 5.11)
		Root     Owner    `json:"root"`               // files made in it get their owner relative to this
		NoDev    bool     `json:"noDev,omitempty"`    // device nodes that an image brought do not open
		As       Handle   `json:"as"`
	}
)

// Sealed says what an overlay asks of the content of files of which it has the metadata alone: the value of its
// option verity. "" asks for nothing.
type Sealed string

// What is asked for. Of a file whose owner was changed in the container the writable layer has the
// metadata, with the seal that the file had then, or with none if that was before there were seals.
const (
	WhereNamed Sealed = "on"      // content has the seal that the metadata names
	Always     Sealed = "require" // and all metadata names one
)

// Owner is the host's uid and gid of the container's root.
type Owner struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// Steps of the host side that make and let go the new process, and change what is open.
type (
	// MakeGroups makes the container's cgroups with their limits. The launcher's caller
	// does it, by package cgroup.
	MakeGroups struct {
		Dirs   []string `json:"dirs"`
		Writes []string `json:"writes,omitempty"` // in words
	}

	// MakeGate makes a socket between corten-init and the process of the command.
	MakeGate struct {
		Init    Handle `json:"init"`
		Command Handle `json:"command"`
	}

	// Clone makes the new process in new namespaces (clone3(2), Linux 5.5 for
	// CLONE_CLEAR_SIGHAND). It then waits for Release.
	Clone struct {
		Namespaces []string `json:"namespaces"`      // "user", "mount", "pid", "net", "ipc", "uts"
		Group      string   `json:"group,omitempty"` // the cgroup v2 directory to start in (Linux 5.7)
		Join       []Join   `json:"join,omitempty"`  // that the launcher is in meanwhile: from a user namespace of its own it would have no right to
	}

	// Connect begins to connect the container to its networks. The launcher's caller does it, by
	// corten-net, side by side with the steps that follow; Connected waits until it is done.
	Connect struct {
		Words []string `json:"words"` // a line for each interface and port
	}

	// Connected see Connect.
	Connected struct{}

	// OpenProc opens a file of the new process below /proc for the process to write to. Once
	// it has changed its user it could not open the file itself.
	OpenProc struct {
		Name string `json:"name"`
		As   Handle `json:"as"`
	}

	// MapIDs writes the uid and gid maps of the new user namespace, user_namespaces(7).
	MapIDs struct {
		UID []spec.IDMap `json:"uid"`
		GID []spec.IDMap `json:"gid"`
	}

	// IDMap shows the files of a detached mount with their owners shifted into the new
	// user namespace (mount_setattr(2) MOUNT_ATTR_IDMAP, Linux 5.12).
	IDMap struct {
		Mount     Handle `json:"mount"`
		Recursive bool   `json:"recursive,omitempty"`
		Optional  bool   `json:"optional,omitempty"` // a file system that cannot is shown unshifted
		By        Handle `json:"by,omitempty"`       // another user namespace
		What      string `json:"what"`
	}

	// Restrict sets attributes of a detached mount.
	Restrict struct {
		Mount       Handle `json:"mount"`
		Recursive   bool   `json:"recursive,omitempty"`
		ReadOnly    bool   `json:"readOnly,omitempty"`
		NoExec      bool   `json:"noExec,omitempty"`
		NoSuid      bool   `json:"noSuid,omitempty"`
		NoDev       bool   `json:"noDev,omitempty"`
		Propagation string `json:"propagation,omitempty"` // "private", "slave", "shared"
		What        string `json:"what"`
	}

	// Seed copies what the root has at Target into a volume that is used for the first time.
	Seed struct {
		From   Handle `json:"from"`
		Target string `json:"target"`
		To     Handle `json:"to"`
		Volume string `json:"volume"`
		Root   Owner  `json:"root"`
	}

	// OOMScore sets how eagerly the kernel kills the process when memory runs out.
	OOMScore struct {
		Value int `json:"value"`
	}

	// Limit sets a resource limit of the new process, from outside: the host's root may
	// raise what the container's root may not (prlimit(2)).
	Limit struct {
		spec.Rlimit
		Resource int `json:"resource"`
	}

	// OwnStdio lets the container's group open the pipes at stdin, stdout and stderr again
	// (/dev/stdout), each in its own direction: others on the host may share a pipe, and what
	// they write to it is not for the container to read.
	OwnStdio struct {
		GID uint32 `json:"gid"`
	}

	// Release lets the new process go on.
	Release struct{}
)

func (CloneMount) Kind() string { return "clone-mount" }
func (MountImage) Kind() string { return "mount-image" }
func (OpenFile) Kind() string   { return "open-file" }
func (MakeDev) Kind() string    { return "make-dev" }
func (MakeFile) Kind() string   { return "make-file" }
func (Overlay) Kind() string    { return "overlay" }
func (MakeGroups) Kind() string { return "make-cgroups" }
func (MakeGate) Kind() string   { return "make-gate" }
func (Clone) Kind() string      { return "clone" }
func (Connect) Kind() string    { return "connect" }
func (Connected) Kind() string  { return "await-connection" }
func (OpenProc) Kind() string   { return "open-proc" }
func (MapIDs) Kind() string     { return "map-ids" }
func (IDMap) Kind() string      { return "idmap" }
func (Restrict) Kind() string   { return "restrict" }
func (Seed) Kind() string       { return "seed" }
func (OOMScore) Kind() string   { return "oom-score" }
func (Limit) Kind() string      { return "limit" }
func (OwnStdio) Kind() string   { return "own-stdio" }
func (Release) Kind() string    { return "release" }

func (s CloneMount) String() string {
	if s.Recursive {
		return fmt.Sprintf("clone the mount at %s and all below it: %s", s.Path, s.What)
	}
	return fmt.Sprintf("clone the mount at %s: %s", s.Path, s.What)
}

func (s MountImage) String() string {
	return fmt.Sprintf("mount %s (EROFS) read-only: %s", s.File, s.What)
}

func (s OpenFile) String() string { return fmt.Sprintf("open %s: %s", s.Path, s.What) }

func (s MakeDev) String() string {
	names := make([]string, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		names = append(names, strings.TrimPrefix(n.Path, "/dev/"))
	}
	if s.Console {
		names = append(names, "console (the terminal)")
	}
	words := fmt.Sprintf("make a tmpfs for /dev, owned by %s", s.Root)
	if len(names) > 0 {
		words += ", with the devices " + strings.Join(names, " ")
	}
	return words + labelled(s.Label)
}

func (s MakeFile) String() string {
	return fmt.Sprintf("write the file %s, %d bytes, in memory", s.Name, len(s.Content))
}

func (o Owner) String() string { return fmt.Sprintf("%d:%d", o.UID, o.GID) }

func (s Overlay) String() string {
	layers := make([]string, 0, len(s.Lower)+len(s.Data))
	for _, h := range s.Lower {
		layers = append(layers, string(h))
	}
	for _, h := range s.Data {
		layers = append(layers, string(h)+" (data only)")
	}
	words := fmt.Sprintf("lay the writable layer %q over %s (overlay), as %s", s.Writable, strings.Join(layers, ", "), s.Root)
	if s.NoDev {
		words += ", nodev"
	}
	if s.Volatile {
		words += ", never synced to disk"
	}
	switch s.Sealed {
	case WhereNamed:
		words += ", content as it was sealed where a seal is named"
	case Always:
		words += ", content as it was sealed"
	}
	if s.User {
		words += ", with attributes of users"
	}
	return words + labelled(s.Label)
}

func (s MakeGroups) String() string {
	words := "make the control groups " + strings.Join(s.Dirs, " ")
	for _, w := range s.Writes {
		words += "\n        " + w
	}
	return words
}

func (MakeGate) String() string {
	return "make a socket by which PID 1 and the command wait for each other"
}

func (s Clone) String() string {
	words := "create the process"
	if len(s.Namespaces) > 0 {
		words += " in new namespaces: " + strings.Join(s.Namespaces, ", ")
	}
	for _, j := range s.Join {
		words += ", in the " + j.Namespace + " namespace " + j.Path
	}
	if s.Group != "" {
		words += ", in the control group " + s.Group
	}
	return words
}

func (s Connect) String() string {
	return "begin to connect it\n        " + strings.Join(s.Words, "\n        ")
}

func (Connected) String() string { return "wait until it is connected" }

func (s OpenProc) String() string { return "open " + s.Name + " of the new process" }

func (s MapIDs) String() string {
	return fmt.Sprintf("map users %s and groups %s", mapWords(s.UID), mapWords(s.GID))
}

func mapWords(maps []spec.IDMap) string {
	parts := make([]string, 0, len(maps))
	for _, m := range maps {
		parts = append(parts, fmt.Sprintf("%d-%d to host %d-%d",
			m.Container, uint64(m.Container)+uint64(m.Size)-1, m.Host, uint64(m.Host)+uint64(m.Size)-1))
	}
	return strings.Join(parts, ", ")
}

func (s IDMap) String() string {
	words := "shift the owners of " + s.What + " into the user namespace"
	if s.By != "" {
		words = "shift the owners of " + s.What + " by the maps of " + string(s.By)
	}
	if s.Recursive && s.By != "" {
		words += ", with all that is mounted below"
	}
	if s.Optional {
		words += ", if its file system can"
	}
	return words
}

func (s Restrict) String() string {
	var how []string
	for _, a := range []struct {
		on   bool
		word string
	}{{s.ReadOnly, "read-only"}, {s.NoExec, "noexec"}, {s.NoSuid, "nosuid"}, {s.NoDev, "nodev"}, {s.Propagation != "", s.Propagation}} {
		if a.on {
			how = append(how, a.word)
		}
	}
	words := fmt.Sprintf("make %s %s", s.What, strings.Join(how, ", "))
	if s.Recursive {
		words += ", with all that is mounted below"
	}
	return words
}

func (s Seed) String() string {
	return fmt.Sprintf("copy what the image has at %s into the new volume %s", s.Target, s.Volume)
}

func (s OOMScore) String() string { return fmt.Sprintf("set the OOM score adjustment to %d", s.Value) }

func (s Limit) String() string {
	return fmt.Sprintf("limit %s to %s (hard: %s)", s.Name, limitWords(s.Soft), limitWords(s.Hard))
}

func limitWords(v uint64) string {
	if v == ^uint64(0) {
		return "unlimited"
	}
	return fmt.Sprint(v)
}

func (s OwnStdio) String() string {
	return fmt.Sprintf("let group %d open the pipes at stdin, stdout and stderr again", s.GID)
}

func (Release) String() string { return "let the process go on" }

func (s CloneMount) opens() []Handle { return []Handle{s.As} }
func (s CloneMount) uses() []Handle  { return []Handle{s.From} }
func (s MountImage) opens() []Handle { return []Handle{s.As} }
func (s OpenProc) opens() []Handle   { return []Handle{s.As} }
func (s OpenFile) opens() []Handle   { return []Handle{s.As} }
func (s MakeDev) opens() []Handle    { return []Handle{s.As} }
func (s MakeFile) opens() []Handle   { return []Handle{s.As} }
func (s Overlay) opens() []Handle    { return []Handle{s.As} }
func (s MakeGate) opens() []Handle   { return []Handle{s.Init, s.Command} }
func (s Clone) uses() (list []Handle) {
	for _, j := range s.Join {
		list = append(list, j.FD)
	}
	return list
}
func (s MakeFile) uses() []Handle { return []Handle{s.In} }
func (s IDMap) uses() []Handle    { return []Handle{s.Mount, s.By} }
func (s Restrict) uses() []Handle { return []Handle{s.Mount} }
func (s Seed) uses() []Handle     { return []Handle{s.From, s.To} }
func (s Overlay) uses() []Handle  { return s.Parts() }

// Parts is what the overlay is laid over, and what it writes to.
func (s Overlay) Parts() []Handle {
	return append(append([]Handle{s.Writable}, s.Lower...), s.Data...)
}
