package spec

// Attributes is what the kernel keeps of a process besides who it is and what it may do: when it gets
// processors and disks, where its memory is, what machine it sees. The words and the JSON are those of
// the OCI runtime specification 1.3 (config.md, "Linux Process"; config-linux.md, "Memory policy" and
// "Personality"). Only bundles say them so far; of other containers nothing but Memory and Personality
// would be honoured at their start.
type Attributes struct {
	Scheduler   *Scheduler    `json:"scheduler,omitempty"`      // nil: as who starts the container
	IOPriority  *IOPriority   `json:"ioPriority,omitempty"`     // nil: likewise
	CPUs        Affinity      `json:"execCPUAffinity,omitzero"` // of further processes of the container, not of the first
	Memory      *MemoryPolicy `json:"memoryPolicy,omitempty"`   // nil: likewise
	Personality *Personality  `json:"personality,omitempty"`    // nil: likewise
}

// Scheduler is when a process gets a processor, sched_setattr(2).
type Scheduler struct {
	Policy   string   `json:"policy"`             // "SCHED_FIFO"
	Nice     int32    `json:"nice,omitempty"`     // of SCHED_OTHER and SCHED_BATCH: -20, the most urgent, to 19
	Priority int32    `json:"priority,omitempty"` // of SCHED_FIFO and SCHED_RR: 1 to 99, the most urgent
	Flags    []string `json:"flags,omitempty"`    // "SCHED_FLAG_RESET_ON_FORK"

	// Of SCHED_DEADLINE: the process gets Runtime of every Period, before Deadline of it has passed; nanoseconds.
	Runtime  uint64 `json:"runtime,omitempty"`
	Deadline uint64 `json:"deadline,omitempty"`
	Period   uint64 `json:"period,omitempty"`
}

// IOPriority is when a process gets a disk, ioprio_set(2).
type IOPriority struct {
	Class    string `json:"class"`    // "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE" or "IOPRIO_CLASS_IDLE"
	Priority int    `json:"priority"` // 0, the most urgent, to 7
}

// Affinity is the processors that a process runs on, as lists: "0-3,7". Empty: all that it has anyway.
type Affinity struct {
	Initial string `json:"initial,omitempty"` // before it is in the container's control groups
	Final   string `json:"final,omitempty"`   // and then
}

// MemoryPolicy is on which nodes a process gets memory, set_mempolicy(2).
type MemoryPolicy struct {
	Mode  string   `json:"mode"`            // "MPOL_BIND"
	Nodes string   `json:"nodes,omitempty"` // a list: "0-3,7"
	Flags []string `json:"flags,omitempty"` // "MPOL_F_STATIC_NODES"
}

// Personality is what machine a process sees, personality(2).
type Personality struct {
	Domain string   `json:"domain"`          // "LINUX", or "LINUX32": uname(2) then tells of a 32-bit processor
	Flags  []string `json:"flags,omitempty"` // the specification has none yet
}
