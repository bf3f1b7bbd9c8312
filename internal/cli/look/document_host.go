package look

import (
	"cmp"
	"strconv"

	"github.com/cortenhq/corten/internal/spec"
)

// hostDoc is Docker's HostConfig: what a container has of the machine.
type hostDoc struct {
	Binds           []string
	Tmpfs           map[string]string `json:",omitempty"`
	AutoRemove      bool
	Init            bool
	LogConfig       logDoc
	PortBindings    map[string][]bindingDoc
	PublishAllPorts bool
	namespaceDoc
	namesDoc
	unbuiltDoc
	RestartPolicy restartDoc
	securityDoc
	memoryDoc
	cpuDoc
	blockDoc
}

// unbuiltDoc is what scripts look at and no container has yet.
type unbuiltDoc struct {
	Links, VolumesFrom []string
}

type namesDoc struct{ Dns, DnsOptions, DnsSearch, ExtraHosts []string }

type logDoc struct {
	Type   string
	Config map[string]string
}

type restartDoc struct {
	Name              string
	MaximumRetryCount int
}

type namespaceDoc struct {
	NetworkMode, PidMode, IpcMode, UTSMode, UsernsMode, CgroupnsMode string
	ShmSize                                                          int64
	Sysctls                                                          map[string]string `json:",omitempty"`
}

type securityDoc struct {
	Privileged, ReadonlyRootfs bool
	CapAdd, CapDrop            []string
	SecurityOpt                []string
	GroupAdd                   []string
	MaskedPaths, ReadonlyPaths []string
	Devices                    []deviceDoc
	OomScoreAdj                int
	Ulimits                    []ulimitDoc
	StorageOpt                 map[string]string
}

type deviceDoc struct{ PathOnHost, PathInContainer, CgroupPermissions string }

type ulimitDoc struct {
	Name       string
	Soft, Hard uint64
}

type memoryDoc struct {
	Memory, MemorySwap, MemoryReservation int64
	MemorySwappiness                      *uint64
	OomKillDisable                        bool
	PidsLimit                             *int64
}

type cpuDoc struct {
	NanoCpus                                        int64
	CpuShares                                       uint64
	CpuPeriod                                       uint64
	CpuQuota, CpuRealtimePeriod, CpuRealtimeRuntime int64
	CpusetCpus, CpusetMems                          string
}

type blockDoc struct {
	BlkioWeight                                                                        uint16
	BlkioWeightDevice                                                                  []weightDoc
	BlkioDeviceReadBps, BlkioDeviceWriteBps, BlkioDeviceReadIOps, BlkioDeviceWriteIOps []rateDoc
}

type weightDoc struct {
	Path   string
	Weight uint16
}

type rateDoc struct {
	Path string
	Rate uint64
}

func newHost(s *spec.Container) hostDoc {
	ns, sec := s.Namespaces, s.Security
	d := hostDoc{
		Binds: binds(s), Tmpfs: tmpfs(s), AutoRemove: s.Life.Remove, Init: !s.Life.NoInit, LogConfig: newLog(s.Life.Log),
		PortBindings: bindingsDoc(s), PublishAllPorts: s.Networking.PublishAll,
		namesDoc:      namesDoc{s.Networking.DNS, s.Networking.DNSOptions, s.Networking.DNSSearch, extraHosts(s)},
		RestartPolicy: restartDoc{cmp.Or(string(s.Life.Restart.Policy), "no"), s.Life.Restart.Max},
		namespaceDoc: namespaceDoc{
			NetworkMode: networksOf(s)[0], PidMode: string(ns.PID.Mode), IpcMode: cmp.Or(string(ns.IPC.Mode), "private"),
			UTSMode: string(ns.UTS.Mode), UsernsMode: string(ns.User.Mode), CgroupnsMode: cmp.Or(string(ns.Cgroup.Mode), "private"),
			ShmSize: cmp.Or(s.Root.ShmSize, 64<<20), Sysctls: s.Sysctls,
		},
		securityDoc: securityDoc{
			Privileged: sec.Privileged, ReadonlyRootfs: s.Root.ReadOnly, CapAdd: capsAdded(s), CapDrop: capsDropped(s),
			SecurityOpt: securityOptions(sec), GroupAdd: s.Process.Groups, MaskedPaths: sec.Masked, ReadonlyPaths: sec.ReadOnlyPaths,
		},
		memoryDoc: memoryDoc{
			Memory: s.Resources.Memory.Limit, MemorySwap: s.Resources.Memory.Swap, MemoryReservation: s.Resources.Memory.Reservation,
			MemorySwappiness: s.Resources.Memory.Swappiness, OomKillDisable: s.Resources.Memory.DisableOOMKiller, PidsLimit: s.Resources.Pids.Limit,
		},
		cpuDoc:   newCPU(s.Resources.CPU),
		blockDoc: newBlock(s.Resources.BlockIO),
	}
	for _, dev := range s.Devices {
		d.Devices = append(d.Devices, deviceDoc{dev.HostPath, dev.Path, dev.Access})
	}
	for _, l := range s.Process.Rlimits {
		d.Ulimits = append(d.Ulimits, ulimitDoc{l.Name, l.Soft, l.Hard})
	}
	if s.Root.Size > 0 {
		d.StorageOpt = map[string]string{"size": strconv.FormatInt(s.Root.Size, 10)}
	}
	if s.Process.OOMScore != nil {
		d.OomScoreAdj = *s.Process.OOMScore
	}
	return d
}

func binds(s *spec.Container) []string {
	var out []string
	for _, m := range s.Mounts {
		if m.Type == spec.Tmpfs || m.Anonymous {
			continue
		}
		b := m.Source + ":" + m.Target
		if mode := mountMode(m); mode != "" {
			b += ":" + mode
		}
		out = append(out, b)
	}
	return out
}

func tmpfs(s *spec.Container) map[string]string {
	var out map[string]string
	for _, m := range s.Mounts {
		if m.Type != spec.Tmpfs {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[m.Target] = mountMode(m)
	}
	return out
}

// newLog tells the limits that hold, given or not.
func newLog(l spec.Log) logDoc {
	if l.Off {
		return logDoc{"none", map[string]string{}}
	}
	d := logDoc{"cri", map[string]string{
		"max-size": strconv.FormatInt(cmp.Or(l.MaxSize, spec.DefaultLogSize), 10),
		"max-file": strconv.Itoa(cmp.Or(l.MaxFiles, spec.DefaultLogFiles)),
		"compress": strconv.FormatBool(!l.Uncompressed),
		"mode":     "blocking",
	}}
	if l.NonBlocking {
		d.Config["mode"], d.Config["max-buffer-size"] = "non-blocking", strconv.FormatInt(cmp.Or(l.Buffer, 1<<20), 10)
	}
	return d
}

func securityOptions(s spec.Security) []string {
	var out []string
	if s.Unconfined {
		out = append(out, "seccomp=unconfined")
	}
	if s.AllowNewPrivs {
		out = append(out, "no-new-privileges=false")
	}
	if s.AppArmor != "" {
		out = append(out, "apparmor="+s.AppArmor)
	}
	if s.SELinux != "" {
		out = append(out, "label="+s.SELinux)
	}
	return out
}

// newCPU: --cpus is kept as the quota and period that it stands for.
func newCPU(c spec.CPU) cpuDoc {
	d := cpuDoc{CpuShares: c.Shares, CpuPeriod: c.Period, CpuQuota: c.Quota, CpuRealtimePeriod: int64(c.RealtimePeriod),
		CpuRealtimeRuntime: c.RealtimeRuntime, CpusetCpus: c.Cpus, CpusetMems: c.Mems}
	if c.Quota > 0 {
		d.NanoCpus = int64(float64(c.Quota) / float64(cmp.Or(c.Period, 100000)) * 1e9)
	}
	return d
}

func newBlock(b spec.BlockIO) blockDoc {
	path := func(major, minor int64) string {
		return "/dev/block/" + strconv.FormatInt(major, 10) + ":" + strconv.FormatInt(minor, 10)
	}
	rates := func(list []spec.ThrottleDevice) []rateDoc {
		var out []rateDoc
		for _, t := range list {
			out = append(out, rateDoc{path(t.Major, t.Minor), t.Rate})
		}
		return out
	}
	d := blockDoc{BlkioWeight: b.Weight, BlkioDeviceReadBps: rates(b.ReadBps), BlkioDeviceWriteBps: rates(b.WriteBps),
		BlkioDeviceReadIOps: rates(b.ReadIOPS), BlkioDeviceWriteIOps: rates(b.WriteIOPS)}
	for _, w := range b.WeightDevice {
		d.BlkioWeightDevice = append(d.BlkioWeightDevice, weightDoc{path(w.Major, w.Minor), w.Weight})
	}
	return d
}
