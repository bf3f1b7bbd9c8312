// Package spec is the one description of a container.
//
// Flags fill it, the image's configuration completes it (Complete), the container's
// directory stores it as spec.json, decide.Make turns it into steps, inspect prints it, and
// every face translates to it at its own edge. What another format can say and spec cannot
// is added here; a second struct with the same fields is a bug.
package spec

import "time"

// Version is the format of spec.json. A reader refuses a higher one.
const Version = 1

// ContainerID is 64 lower-case hexadecimal digits, chosen at random when the container is
// made. Users may shorten it to any unique prefix.
type ContainerID string

// Short is the first 12 digits.
func (id ContainerID) Short() string { return string(id[:min(12, len(id))]) }

// Container is all that a user can say about a container, and nothing that the kernel or
// Corten found out while running it (that is state.json).
type Container struct {
	Version    int               `json:"version"`
	ID         ContainerID       `json:"id"`
	Name       string            `json:"name"`
	Created    time.Time         `json:"created"`
	Image      Image             `json:"image"`
	Process    Process           `json:"process"`
	Root       Root              `json:"root"`
	Mounts     []Mount           `json:"mounts,omitempty"`
	Namespaces Namespaces        `json:"namespaces"`
	Networking Networking        `json:"networking,omitzero"`
	Security   Security          `json:"security"`
	Resources  Resources         `json:"resources"`
	IntelRdt   *IntelRdt         `json:"intelRdt,omitempty"`
	Devices    []Device          `json:"devices,omitempty"`
	Sysctls    map[string]string `json:"sysctls,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Life       Life              `json:"life"`
}

// Image says what the container's root was made from.
type Image struct {
	Name     string `json:"name"`               // as the user wrote it: a reference, an image id, or "host"
	Manifest string `json:"manifest,omitempty"` // digest; empty for the host platform
	Config   string `json:"config,omitempty"`   // digest: the image id
	Sealed   bool   `json:"sealed,omitempty"`   // all that the writable layer has of its files was taken from sealed ones
	Platform bool   `json:"platform,omitempty"` // Name is a platform ("host"), not an image
}

// Process is the container's main process.
type Process struct {
	Entrypoint []string `json:"entrypoint,omitempty"` // nil: the image's
	Args       []string `json:"args"`                 // after Complete: the whole command line, entrypoint first
	EntryArgs  int      `json:"entryArgs,omitempty"`  // after Complete: how many of Args are the entrypoint
	Env        []string `json:"env,omitempty"`        // NAME=VALUE
	Cwd        string   `json:"cwd,omitempty"`        // absolute; empty: the image's, then "/"
	User       string   `json:"user,omitempty"`       // [USER|UID][:GROUP|GID]; empty: the image's, then 0
	Groups     []string `json:"groups,omitempty"`     // supplementary groups, by name or number
	Terminal   bool     `json:"terminal,omitempty"`   // -t
	Stdin      bool     `json:"stdin,omitempty"`      // -i
	StdinOnce  bool     `json:"stdinOnce,omitempty"`  // it ends when the one who was attached has no more input
	Rlimits    []Rlimit `json:"rlimits,omitempty"`
	OOMScore   *int     `json:"oomScoreAdj,omitempty"` // -1000 to 1000
	Umask      *uint32  `json:"umask,omitempty"`
	Size       *Size    `json:"terminalSize,omitempty"` // what the terminal starts with; nil: 0 by 0

	Attributes Attributes `json:"attributes,omitzero"`
}

// Size is the size of a terminal in characters.
type Size struct {
	Rows    uint16 `json:"rows"`
	Columns uint16 `json:"columns"`
}

// Rlimit is a resource limit, setrlimit(2). ^uint64(0) means unlimited.
type Rlimit struct {
	Name string `json:"name"` // "nofile"
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Root says how the root file system is presented.
type Root struct {
	ReadOnly    bool   `json:"readOnly,omitempty"`
	Size        int64  `json:"size,omitempty"`        // bytes that may be written to it, with what overlayfs keeps beside; 0: any number
	ShmSize     int64  `json:"shmSize,omitempty"`     // of /dev/shm, bytes; 0: 64 MiB
	Path        string `json:"path,omitempty"`        // a directory of the host that is the root, as in an OCI bundle
	Propagation string `json:"propagation,omitempty"` // of Path, as Mount.Propagation; empty: rslave
}

// MountType is what a mount shows.
type MountType string

// The mount types that a user can ask for.
const (
	Bind   MountType = "bind"
	Tmpfs  MountType = "tmpfs"
	Volume MountType = "volume"
)

// AnonymousVolumes is the names of the volumes that go with the container.
func (c *Container) AnonymousVolumes() []string {
	var names []string
	for _, m := range c.Mounts {
		if m.Anonymous {
			names = append(names, m.Source)
		}
	}
	return names
}

// Mount is one mount below the container's root, made in the order given (parents first).
type Mount struct {
	Type        MountType `json:"type"`
	Source      string    `json:"source,omitempty"` // Bind: absolute host path; Volume: its name, empty for anonymous
	Target      string    `json:"target"`           // absolute, in the container
	ReadOnly    bool      `json:"readOnly,omitempty"`
	Recursive   bool      `json:"recursive,omitempty"`   // Bind: with what is mounted below the source
	Propagation string    `json:"propagation,omitempty"` // private, rprivate, slave, rslave, shared, rshared; empty: rprivate
	NoExec      bool      `json:"noExec,omitempty"`
	Exec        bool      `json:"exec,omitempty"` // Tmpfs: undo the default noexec
	NoSuid      bool      `json:"noSuid,omitempty"`
	NoDev       bool      `json:"noDev,omitempty"`
	NoIDMap     bool      `json:"noIDMap,omitempty"`   // Bind: show the host's owners unshifted
	Anonymous   bool      `json:"anonymous,omitempty"` // Volume: it was named by Corten, and goes with the container
	NoCopy      bool      `json:"noCopy,omitempty"`    // Volume: do not copy the image's content in at first use
	Relabel     Relabel   `json:"relabel,omitempty"`   // Bind, Volume: give it the label of the container's files (SELinux), if it has one
	Create      bool      `json:"create,omitempty"`    // Bind: make a missing source directory, as -v does
	Size        int64     `json:"size,omitempty"`      // Tmpfs: bytes; 0: the kernel's default of half the memory
	Mode        *uint32   `json:"mode,omitempty"`      // Tmpfs: mode of its root; nil: 1777
	UIDMap      []IDMap   `json:"uidMap,omitempty"`    // below Root.Path: how its owners are shown, by an idmapped mount
	GIDMap      []IDMap   `json:"gidMap,omitempty"`
	Options     []string  `json:"options,omitempty"` // below Root.Path: all that is said of it, in the words of mount(8); Type is then any file system, Source what it is made of
}

// Relabel is who may use what a label for SELinux is given to.
type Relabel string

// The labels: that of files of all containers, or of this one alone.
const (
	RelabelShared  Relabel = "shared"
	RelabelPrivate Relabel = "private"
)

// NSMode is where a namespace comes from.
type NSMode string

// Namespace modes. For the user namespace see UserNS.
const (
	Private   NSMode = ""          // a new one
	Host      NSMode = "host"      // the host's
	Path      NSMode = "path"      // an existing one, by the path of its file
	Shareable NSMode = "shareable" // IPC: a new one that others may join
	None      NSMode = "none"      // Net: a new one with only the loopback; IPC: no /dev/shm
	Of        NSMode = "container" // Net: that of another container
)

// Namespace is a mode and, for Path, the path; for Of, the id of the container.
type Namespace struct {
	Mode NSMode `json:"mode,omitempty"`
	Path string `json:"path,omitempty"`
}

// New reports whether it is a namespace of the container's own, made for it.
func (n Namespace) New() bool { return n.Mode == Private || n.Mode == Shareable }

// Namespaces says what the container shares with the host or with others. The mount
// namespace is always its own.
type Namespaces struct {
	User       UserNS           `json:"user"`
	PID        Namespace        `json:"pid"`
	IPC        Namespace        `json:"ipc"`
	UTS        Namespace        `json:"uts"`
	Cgroup     Namespace        `json:"cgroup"`
	Net        Namespace        `json:"net"`
	Mount      Namespace        `json:"mount,omitzero"`       // of bundles only: others have one of their own
	TimeOffset map[string]int64 `json:"timeOffset,omitempty"` // "monotonic", "boottime": nanoseconds; a time namespace is made if any is set
	Hostname   string           `json:"hostname,omitempty"`
	Domainname string           `json:"domainname,omitempty"`
}

// UserNSMode is how the container's users are mapped.
type UserNSMode string

// User namespace modes.
const (
	UserAuto   UserNSMode = ""        // a namespace and a range of 65,536 ids of its own
	UserHost   UserNSMode = "host"    // the host's: root in the container is root on the host
	UserKeepID UserNSMode = "keep-id" // the caller keeps the own uid and gid inside
	UserMap    UserNSMode = "map"     // as UIDMap and GIDMap say
)

// UserNS is the user namespace.
type UserNS struct {
	Mode   UserNSMode `json:"mode,omitempty"`
	UIDMap []IDMap    `json:"uidMap,omitempty"` // also what UserAuto was given, once it was
	GIDMap []IDMap    `json:"gidMap,omitempty"`
	Path   string     `json:"path,omitempty"` // UserMap: the one that is there already, of bundles only
}

// IDMap is one line of /proc/PID/uid_map, user_namespaces(7).
type IDMap struct {
	Container uint32 `json:"container"`
	Host      uint32 `json:"host"`
	Size      uint32 `json:"size"`
}

// Profiles of AppArmor: the one that containers have if they name none, and the word for none.
const (
	DefaultProfile = "corten-default"
	NoProfile      = "unconfined"
)

// Security is what the container may do.
type Security struct {
	Capabilities  []string `json:"capabilities"` // the bounding set, "CAP_CHOWN"; complete: additions and removals are done
	Privileged    bool     `json:"privileged,omitempty"`
	AllowNewPrivs bool     `json:"allowNewPrivs,omitempty"` // no-new-privileges is on unless this is set
	Seccomp       *Seccomp `json:"seccomp,omitempty"`       // nil: the default profile
	Unconfined    bool     `json:"seccompUnconfined,omitempty"`
	Masked        []string `json:"masked"`                   // paths hidden under /dev/null or an empty directory
	ReadOnlyPaths []string `json:"readOnlyPaths"`            // paths made read-only
	AppArmor      string   `json:"appArmor,omitempty"`       // a profile; empty: DefaultProfile where it is loaded, none below Root.Path
	SELinux       string   `json:"seLinux,omitempty"`        // the label of processes
	SELinuxMount  string   `json:"seLinuxMount,omitempty"`   // the label of files
	Sets          *CapSets `json:"capabilitySets,omitempty"` // nil: root has Capabilities, others none
	NoKeyring     bool     `json:"noKeyring,omitempty"`      // it keeps the session keyring of who starts it
}

// CapSets is the capabilities of the first process set by set, capabilities(7); the bounding set is
// Security.Capabilities.
type CapSets struct {
	Effective   []string `json:"effective"`
	Permitted   []string `json:"permitted"`
	Inheritable []string `json:"inheritable"`
	Ambient     []string `json:"ambient"`
}

// Device is a host device made usable in the container.
type Device struct {
	HostPath string `json:"hostPath"`
	Path     string `json:"path"`
	Access   string `json:"access"` // of "rwm"
	Type     string `json:"type"`   // "c" or "b"
	Mode     uint32 `json:"mode"`   // permission bits
	Major    uint32 `json:"major"`
	Minor    uint32 `json:"minor"`
	UID      uint32 `json:"uid,omitempty"` // of the container
	GID      uint32 `json:"gid,omitempty"`
}

// Life is how the container begins, is watched and ends.
type Life struct {
	Remove      bool    `json:"remove,omitempty"`      // --rm
	NoInit      bool    `json:"noInit,omitempty"`      // the command itself is PID 1
	StopSignal  string  `json:"stopSignal,omitempty"`  // "SIGTERM", or a number
	StopTimeout *int    `json:"stopTimeout,omitempty"` // seconds
	Restart     Restart `json:"restart,omitzero"`
	Health      *Health `json:"health,omitempty"` // nil: nobody looks
	Log         Log     `json:"log,omitzero"`
	Notify      Notify  `json:"sdNotify,omitempty"`
	Systemd     Systemd `json:"systemd,omitempty"`
}

// RestartPolicy says when a container that has ended is started again, in Docker's words.
type RestartPolicy string

// Restart policies.
const (
	RestartNo            RestartPolicy = ""
	RestartOnFailure     RestartPolicy = "on-failure" // after an exit status other than 0
	RestartAlways        RestartPolicy = "always"     // and when the machine starts
	RestartUnlessStopped RestartPolicy = "unless-stopped"
)

// Restart is a policy and, for on-failure, how often in a row; 0: without end.
type Restart struct {
	Policy RestartPolicy `json:"policy,omitempty"`
	Max    int           `json:"maximumRetryCount,omitempty"`
}

// Health is a health check. A zero duration is Docker's default: interval and timeout 30 s,
// start interval 5 s; as are 3 retries for 0.
type Health struct {
	Test          []string      `json:"test"` // "CMD", ARG... or "CMD-SHELL", LINE
	Interval      time.Duration `json:"interval,omitempty"`
	Timeout       time.Duration `json:"timeout,omitempty"`
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`   // failures do not count meanwhile
	StartInterval time.Duration `json:"startInterval,omitempty"` // between checks in the start period
	Retries       int           `json:"retries,omitempty"`       // failures in a row that make it unhealthy
	OnFailure     string        `json:"onFailure,omitempty"`     // what is done then: "" (nothing), "kill", "restart", "stop"
	Off           bool          `json:"off,omitempty"`           // the image's check is not wanted
}

// Log says what is kept of the output. The defaults bound the space it takes.
type Log struct {
	Off          bool  `json:"off,omitempty"`          // nothing is kept
	MaxSize      int64 `json:"maxSize,omitempty"`      // bytes of a file; 0: DefaultLogSize, -1: no limit
	MaxFiles     int   `json:"maxFiles,omitempty"`     // 0: DefaultLogFiles
	Uncompressed bool  `json:"uncompressed,omitempty"` // older files stay as they are
	NonBlocking  bool  `json:"nonBlocking,omitempty"`  // lines are lost, and counted, when the log cannot be written
	Buffer       int64 `json:"buffer,omitempty"`       // bytes that NonBlocking holds back first; 0: 1 MiB
}

// What a container's log may take if nobody says otherwise.
const (
	DefaultLogSize  = 16 << 20
	DefaultLogFiles = 5
)

// Limits is the bytes of a file (0: no limit) and the number of files, as they are said or by default.
func (l Log) Limits() (size int64, files int) {
	size, files = l.MaxSize, l.MaxFiles
	if size == 0 {
		size = DefaultLogSize
	}
	if files == 0 {
		files = DefaultLogFiles
	}
	return max(size, 0), files
}

// Notify is who tells systemd that the service is ready, sd_notify(3).
type Notify string

// Values of --sdnotify.
const (
	NotifyIgnore    Notify = ""          // nobody
	NotifyContainer Notify = "container" // the command, by a socket of its own
	NotifyKeeper    Notify = "keeper"    // Corten, when the command has been executed
)

// Systemd is whether the container is made as systemd wants to find it as PID 1.
type Systemd string

// Values of --systemd.
const (
	SystemdAuto   Systemd = ""       // if the command is systemd or an init
	SystemdAlways Systemd = "always" // whatever it is
	SystemdNever  Systemd = "false"
)
