package spec

// Resources is what a container may use of the machine. Its JSON is that of linux.resources
// in the OCI runtime specification 1.3 (config-linux.md, "Control groups"), so the one reads
// as the other. In a number a zero means that nothing is set, -1 that there is no limit; where
// zero is a value of its own the field is a pointer.
type Resources struct {
	Memory    Memory            `json:"memory,omitzero"`
	CPU       CPU               `json:"cpu,omitzero"`
	Pids      Pids              `json:"pids,omitzero"`
	BlockIO   BlockIO           `json:"blockIO,omitzero"`
	Hugepages []HugepageLimit   `json:"hugepageLimits,omitempty"`
	Network   NetworkClass      `json:"network,omitzero"`
	RDMA      map[string]RDMA   `json:"rdma,omitempty"`    // by device: "mlx5_0"
	Unified   map[string]string `json:"unified,omitempty"` // file of the container's cgroup v2 group to what is written to it
	Devices   []DeviceRule      `json:"devices,omitempty"` // nil: no filter; of the rules that match, the last decides
}

// Memory is what the memory controller does; sizes are bytes.
type Memory struct {
	Limit             int64   `json:"limit,omitempty"`
	Reservation       int64   `json:"reservation,omitempty"` // what is left alone while others have more to spare
	Swap              int64   `json:"swap,omitempty"`        // memory and swap together: equal to Limit means no swap
	Kernel            int64   `json:"kernel,omitempty"`      // without effect since Linux 5.11
	KernelTCP         int64   `json:"kernelTCP,omitempty"`   // cgroup v1 only
	Swappiness        *uint64 `json:"swappiness,omitempty"`  // 0 to 100; cgroup v1 only
	DisableOOMKiller  bool    `json:"disableOOMKiller,omitempty"`
	UseHierarchy      bool    `json:"useHierarchy,omitempty"` // always so since Linux 5.11
	CheckBeforeUpdate bool    `json:"checkBeforeUpdate,omitempty"`
}

// CPU is what the cpu and cpuset controllers do; times are microseconds.
type CPU struct {
	Shares          uint64  `json:"shares,omitempty"` // 2 to 262144, by default 1024: a weight against others
	Quota           int64   `json:"quota,omitempty"`  // CPU time in each Period
	Period          uint64  `json:"period,omitempty"` // by default 100,000
	Burst           *uint64 `json:"burst,omitempty"`  // unused quota that may be spent later, at most Quota
	RealtimeRuntime int64   `json:"realtimeRuntime,omitempty"`
	RealtimePeriod  uint64  `json:"realtimePeriod,omitempty"`
	Cpus            string  `json:"cpus,omitempty"` // "0-3,7"
	Mems            string  `json:"mems,omitempty"` // NUMA nodes: "0"
	Idle            *int64  `json:"idle,omitempty"` // 1: runs only when nothing else wants to
}

// Pids limits how many processes and threads there may be.
type Pids struct {
	Limit *int64 `json:"limit,omitempty"` // 0 is a limit: no fork succeeds
}

// BlockIO is what the io (v1: blkio) controller does. Weights are 10 to 1000, by default 500.
type BlockIO struct {
	Weight       uint16           `json:"weight,omitempty"`
	LeafWeight   uint16           `json:"leafWeight,omitempty"` // without effect since Linux 5.0
	WeightDevice []WeightDevice   `json:"weightDevice,omitempty"`
	ReadBps      []ThrottleDevice `json:"throttleReadBpsDevice,omitempty"`
	WriteBps     []ThrottleDevice `json:"throttleWriteBpsDevice,omitempty"`
	ReadIOPS     []ThrottleDevice `json:"throttleReadIOPSDevice,omitempty"`
	WriteIOPS    []ThrottleDevice `json:"throttleWriteIOPSDevice,omitempty"`
}

// WeightDevice is a weight for one block device.
type WeightDevice struct {
	Major      int64  `json:"major"`
	Minor      int64  `json:"minor"`
	Weight     uint16 `json:"weight,omitempty"`
	LeafWeight uint16 `json:"leafWeight,omitempty"`
}

// ThrottleDevice is a limit for one block device, in bytes or operations a second. A rate of
// zero takes the limit away.
type ThrottleDevice struct {
	Major int64  `json:"major"`
	Minor int64  `json:"minor"`
	Rate  uint64 `json:"rate"`
}

// HugepageLimit limits the huge pages of one size.
type HugepageLimit struct {
	PageSize string `json:"pageSize"` // "2MB", as the kernel names it
	Limit    uint64 `json:"limit"`    // bytes
}

// NetworkClass marks the container's packets for tc and for netfilter; cgroup v1 only.
type NetworkClass struct {
	ClassID    *uint32           `json:"classID,omitempty"`
	Priorities []NetworkPriority `json:"priorities,omitempty"`
}

// NetworkPriority is the priority of packets that leave through one interface.
type NetworkPriority struct {
	Name     string `json:"name"`
	Priority uint32 `json:"priority"`
}

// RDMA limits the use of one RDMA device.
type RDMA struct {
	HCAHandles *uint32 `json:"hcaHandles,omitempty"`
	HCAObjects *uint32 `json:"hcaObjects,omitempty"`
}

// DeviceRule allows or denies access to device nodes.
type DeviceRule struct {
	Allow  bool   `json:"allow"`
	Type   string `json:"type,omitempty"`   // "c", "b"; "a" or empty: both
	Major  *int64 `json:"major,omitempty"`  // nil or -1: all
	Minor  *int64 `json:"minor,omitempty"`  // nil or -1: all
	Access string `json:"access,omitempty"` // of "rwm", m for mknod; empty: all
}
