package cgroup

import (
	"flag"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Hosts as they are found: cgroup v2 as every distribution has it now, v1 as cgroupfs-mount
// makes it, and systemd's hybrid with controllers mounted together.
func hostV2() Host {
	return Host{Root: true, V2: Hierarchy{Mount: "/sys/fs/cgroup", Base: "/",
		Controllers: []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}}}
}

func trees(names ...string) []Hierarchy {
	var list []Hierarchy
	for _, n := range names {
		controllers := strings.Split(n, ",")
		list = append(list, Hierarchy{Mount: "/sys/fs/cgroup/" + controllers[0], Controllers: controllers, Base: "/"})
	}
	return list
}

func hostV1() Host {
	return Host{Root: true, V1: trees("cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer",
		"net_cls", "net_prio", "pids", "hugetlb", "rdma")}
}

func hostHybrid() Host {
	return Host{Root: true,
		V2: Hierarchy{Mount: "/sys/fs/cgroup/unified", Base: "/", Controllers: []string{"hugetlb"}},
		V1: trees("cpuset", "cpu,cpuacct", "blkio", "memory", "devices", "freezer", "net_cls,net_prio", "pids", "rdma")}
}

func hostUser() Host {
	return Host{V2: Hierarchy{Mount: "/sys/fs/cgroup", Base: "/user.slice/user-1000.slice/user@1000.service",
		Controllers: []string{"cpu", "memory", "pids"}}}
}

func everything() spec.Resources {
	disk := func(rate uint64) []spec.ThrottleDevice {
		return []spec.ThrottleDevice{{Major: 8, Minor: 0, Rate: rate}}
	}
	return spec.Resources{
		Memory: spec.Memory{Limit: 512 << 20, Reservation: 256 << 20, Swap: 768 << 20, Kernel: 1 << 20, KernelTCP: 1 << 20,
			Swappiness: ptr[uint64](10), DisableOOMKiller: true, CheckBeforeUpdate: true},
		CPU:  spec.CPU{Shares: 2048, Quota: 150000, Period: 100000, Burst: ptr[uint64](20000), Cpus: "0-3", Mems: "0"},
		Pids: spec.Pids{Limit: ptr[int64](100)},
		BlockIO: spec.BlockIO{Weight: 500, LeafWeight: 20, WeightDevice: []spec.WeightDevice{{Major: 8, Minor: 16, Weight: 100}},
			ReadBps: disk(1 << 20), WriteBps: disk(2 << 20), ReadIOPS: disk(1000), WriteIOPS: disk(0)},
		Hugepages: []spec.HugepageLimit{{PageSize: "2MB", Limit: 64 << 20}, {PageSize: "1GB", Limit: 0}},
		RDMA:      map[string]spec.RDMA{"mlx5_1": {HCAHandles: ptr[uint32](3), HCAObjects: ptr[uint32](100)}, "mlx4_0": {HCAObjects: ptr[uint32](7)}},
		Devices:   append(DefaultDevices(), spec.DeviceRule{Allow: true, Type: "c", Major: ptr[int64](10), Minor: ptr[int64](229), Access: "rw"}),
	}
}

func TestPlanGolden(t *testing.T) {
	v1Only := everything()
	v1Only.Network = spec.NetworkClass{ClassID: ptr[uint32](1048577), Priorities: []spec.NetworkPriority{{Name: "eth0", Priority: 5}}}
	v1Only.CPU.RealtimePeriod, v1Only.CPU.RealtimeRuntime = 1000000, 950000
	v2Only := everything()
	v2Only.Unified = map[string]string{"memory.high": "402653184", "cgroup.max.depth": "3", "io.max": "8:0 rbps=1\n8:16 rbps=2", "misc.max": "sev 1"}
	small := spec.Resources{Memory: spec.Memory{Limit: 64 << 20}, Devices: DefaultDevices()}
	for _, test := range []struct {
		name string
		host Host
		r    Request
	}{
		{"v2-unlimited", hostV2(), Request{}},
		{"v2-default", hostV2(), Request{Account: true, Resources: spec.Resources{Devices: DefaultDevices()}}},
		{"v2-everything", hostV2(), Request{Account: true, Resources: v2Only}},
		{"v2-idle", hostV2(), Request{Resources: spec.Resources{CPU: spec.CPU{Shares: 2, Idle: ptr[int64](1)}}}},
		{"v2-no-limits", hostV2(), Request{Resources: spec.Resources{Memory: spec.Memory{Limit: -1}, CPU: spec.CPU{Quota: -1}, Pids: spec.Pids{Limit: ptr[int64](-1)}}}},
		{"v2-no-swap", hostV2(), Request{Resources: spec.Resources{Memory: spec.Memory{Limit: 64 << 20, Swap: 64 << 20}}}},
		{"v2-period-only", hostV2(), Request{Resources: spec.Resources{CPU: spec.CPU{Period: 50000}}}},
		{"v2-user", hostUser(), Request{Account: true, Resources: small}},
		{"v2-parent-absolute", hostV2(), Request{Parent: "/machine.slice/web", Resources: small}},
		{"v2-parent-relative", hostUser(), Request{Parent: "pods/web", Resources: small}},
		{"v1-unlimited", hostV1(), Request{}},
		{"v1-default", hostV1(), Request{Account: true, Resources: spec.Resources{Devices: DefaultDevices()}}},
		{"v1-everything", hostV1(), Request{Account: true, Resources: v1Only}},
		{"hybrid-unlimited", hostHybrid(), Request{}},
		{"hybrid-default", hostHybrid(), Request{Account: true, Resources: spec.Resources{Devices: DefaultDevices()}}},
		{"hybrid-everything", hostHybrid(), Request{Account: true, Resources: everything()}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.r.ID = "4f2a"
			p, err := New(test.host, test.r)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, test.name, p)
		})
	}
}

func golden(t *testing.T, name string, p Plan) {
	t.Helper()
	var b strings.Builder
	for _, dir := range p.Group {
		b.WriteString("make " + dir + "\n")
	}
	b.WriteString("born in " + p.V2 + "\n")
	for _, file := range p.Enter {
		b.WriteString("enter by " + file + "\n")
	}
	for _, w := range p.Words() {
		b.WriteString(w + "\n")
	}
	for _, w := range p.Warnings {
		b.WriteString("warning: " + w + "\n")
	}
	file := path.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestPlanUpdateGolden(t *testing.T) {
	p, err := Update(hostV2(), Group{"/sys/fs/cgroup/corten/4f2a"}, spec.Resources{Memory: spec.Memory{Limit: 32 << 20, CheckBeforeUpdate: true}})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "v2-update", p)
	p, err = Update(hostHybrid(), Group{"/sys/fs/cgroup/unified/corten/4f2a", "/sys/fs/cgroup/cpu/corten/4f2a"},
		spec.Resources{CPU: spec.CPU{Quota: 20000}})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "hybrid-update", p)
}

// What cannot be had is refused: never left out in silence.
func TestPlanRefused(t *testing.T) {
	lacking := hostV2()
	lacking.V2.Controllers = []string{"pids"}
	mem := func(m spec.Memory) spec.Resources { return spec.Resources{Memory: m} }
	cpu := func(c spec.CPU) spec.Resources { return spec.Resources{CPU: c} }
	io := func(b spec.BlockIO) spec.Resources { return spec.Resources{BlockIO: b} }
	unified := func(name string) spec.Resources { return spec.Resources{Unified: map[string]string{name: "1"}} }
	for _, test := range []struct {
		name string
		host Host
		r    spec.Resources
		kind errs.Kind
		says string
	}{
		{"memory", lacking, mem(spec.Memory{Limit: 1 << 20}), errs.Unsupported, "controller memory"},
		{"cpu", lacking, cpu(spec.CPU{Shares: 5}), errs.Unsupported, "controller cpu"},
		{"cpuset", lacking, cpu(spec.CPU{Cpus: "0"}), errs.Unsupported, "controller cpuset"},
		{"io", lacking, io(spec.BlockIO{Weight: 10}), errs.Unsupported, "controller io"},
		{"blkio", Host{V1: trees("freezer")}, io(spec.BlockIO{ReadBps: []spec.ThrottleDevice{{}}}), errs.Unsupported, "controller blkio"},
		{"hugetlb", lacking, spec.Resources{Hugepages: []spec.HugepageLimit{{PageSize: "2MB"}}}, errs.Unsupported, "controller hugetlb"},
		{"rdma", lacking, spec.Resources{RDMA: map[string]spec.RDMA{"x": {}}}, errs.Unsupported, "controller rdma"},
		{"pids", Host{V1: trees("freezer")}, spec.Resources{Pids: spec.Pids{Limit: ptr[int64](1)}}, errs.Unsupported, "controller pids"},
		{"class on v2", hostV2(), spec.Resources{Network: spec.NetworkClass{ClassID: ptr[uint32](1)}}, errs.Unsupported, "cgroup v2"},
		{"priority on v2", hostV2(), spec.Resources{Network: spec.NetworkClass{Priorities: []spec.NetworkPriority{{}}}}, errs.Unsupported, "cgroup v2"},
		{"real time on v2", hostV2(), cpu(spec.CPU{RealtimeRuntime: 5}), errs.Unsupported, "cgroup v2"},
		{"unified on v1", hostV1(), unified("memory.high"), errs.Unsupported, "memory"},
		{"unified on hybrid", hostHybrid(), unified("memory.high"), errs.Unsupported, "memory"},
		{"unified path", hostV2(), unified("a/memory.high"), errs.Invalid, "a/memory.high"},
		{"unified name", hostV2(), unified("memory"), errs.Invalid, "memory"},
		{"negative", hostV2(), mem(spec.Memory{Limit: -5}), errs.Invalid, "-1 for unlimited"},
		{"swap alone", hostV2(), mem(spec.Memory{Swap: 5}), errs.Invalid, "needs a limit of memory"},
		{"swap below memory", hostV1(), mem(spec.Memory{Limit: 8192, Swap: 4096}), errs.Invalid, "8 KiB"},
		{"swappiness", hostV1(), mem(spec.Memory{Swappiness: ptr[uint64](101)}), errs.Invalid, "0 to 100"},
		{"period", hostV2(), cpu(spec.CPU{Period: 999}), errs.Invalid, "1000 to 1000000"},
		{"quota", hostV2(), cpu(spec.CPU{Quota: 999}), errs.Invalid, "at least 1000"},
		{"burst", hostV2(), cpu(spec.CPU{Quota: 2000, Burst: ptr[uint64](2001)}), errs.Invalid, "at most the quota"},
		{"idle", hostV2(), cpu(spec.CPU{Idle: ptr[int64](2)}), errs.Invalid, "0 or 1"},
		{"cpus", hostV2(), cpu(spec.CPU{Cpus: "0;1"}), errs.Invalid, "0;1"},
		{"mems", hostV2(), cpu(spec.CPU{Mems: "x"}), errs.Invalid, "x"},
		{"weight", hostV2(), io(spec.BlockIO{Weight: 5}), errs.Invalid, "10 to 1000"},
		{"device weight", hostV2(), io(spec.BlockIO{WeightDevice: []spec.WeightDevice{{Weight: 1001}}}), errs.Invalid, "10 to 1000"},
		{"huge page", hostV2(), spec.Resources{Hugepages: []spec.HugepageLimit{{PageSize: "2MB/../x"}}}, errs.Invalid, "2MB"},
		{"device rule", hostV2(), spec.Resources{Devices: []spec.DeviceRule{{Type: "q"}}}, errs.Invalid, "type"},
		{"no groups at all", Host{}, mem(spec.Memory{Limit: 1 << 20}), errs.Unsupported, "mounted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.host, Request{ID: "a", Resources: test.r})
			if !errs.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %s that says %q", err, test.kind, test.says)
			}
			if test.kind == errs.Unsupported && errs.HintOf(err) == "" {
				t.Errorf("%v has no hint", err)
			}
		})
	}
	for _, r := range []Request{{}, {ID: "."}, {ID: ".."}, {ID: "a/b"}, {ID: "a\nb"}, {ID: "a", Parent: "/x/../y"}, {ID: "a", Parent: ".."}, {ID: "a", Parent: "x\n"}} {
		if _, err := New(hostV2(), r); !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestConvert(t *testing.T) {
	// runc's and crun's own tests have the same numbers.
	for shares, want := range map[uint64]uint64{0: 1, 1: 1, 2: 1, 3: 2, 10: 4, 102: 17, 512: 59, 1024: 100, 2000: 170,
		2048: 174, 102400: 4429, 131072: 5478, 262143: 10000, 262144: 10000, 262145: 10000} {
		if got := weightOfShares(shares); got != want {
			t.Errorf("shares %d: weight %d, want %d", shares, got, want)
		}
	}
	last := uint64(0)
	for shares := uint64(2); shares <= 262144; shares += 7 {
		w := weightOfShares(shares)
		if w < last || w < 1 || w > 10000 {
			t.Fatalf("shares %d: weight %d after %d", shares, w, last)
		}
		last = w
	}
	for weight, want := range map[uint16]uint64{10: 1, 100: 910, 500: 4950, 1000: 10000} {
		if got := ioWeight(weight); got != want {
			t.Errorf("weight %d: %d, want %d", weight, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 bytes", 1000: "1000 bytes", 4096: "4 KiB", 64 << 20: "64 MiB", 3 << 30: "3 GiB", 1 << 40: "1 TiB", 1536 << 20: "1536 MiB"} {
		if got := size(n); got != want {
			t.Errorf("size %d: %q, want %q", n, got, want)
		}
	}
}

// fakeTree is a directory that looks like the usual place of v1, on whatever file system: where no
// real v1 with such mounts is.
func fakeTree(t *testing.T, groups ...string) (mount string) {
	t.Helper()
	mount = t.TempDir()
	for _, g := range groups {
		dir := path.Join(mount, g)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path.Join(dir, "cgroup.procs"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return mount
}

func TestDetectV1(t *testing.T) {
	mount := fakeTree(t, "cpu,cpuacct", "memory", "memory/docker/1", "freezer")
	for _, link := range []string{"cpu", "cpuacct"} {
		if err := os.Symlink("cpu,cpuacct", path.Join(mount, link)); err != nil {
			t.Fatal(err)
		}
	}
	proc := path.Join(t.TempDir(), "cgroup")
	lines := "12:cpu,cpuacct:/\n5:memory:/docker/1\n4:freezer:/\n3:perf_event:/\n2:name=systemd:/x\n0::/\n"
	if err := os.WriteFile(proc, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	got := detect(mount, proc)
	want := Host{Root: os.Geteuid() == 0, V1: []Hierarchy{
		{Mount: mount + "/cpu", Controllers: []string{"cpu", "cpuacct"}, Base: "/"},
		{Mount: mount + "/memory", Controllers: []string{"memory"}, Base: "/"},
		{Mount: mount + "/freezer", Controllers: []string{"freezer"}, Base: "/"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := detect(mount+"/none", proc); got.V2.Mount != "" || got.V1 != nil {
		t.Errorf("no mount: %+v", got)
	}
}

// The host's own facts agree with what it says itself.
func TestDetect(t *testing.T) {
	h := realHost(t)
	for _, tree := range append(h.V1, h.V2) {
		if tree.Mount == "" {
			continue
		}
		if _, err := os.Stat(tree.Mount + "/cgroup.procs"); err != nil {
			t.Error(err)
		}
		if tree.Base != "/" {
			t.Errorf("%s: base %q", tree.Mount, tree.Base)
		}
	}
}

func TestIOBytes(t *testing.T) {
	for text, want := range map[string][2]int64{
		"":        {},
		"Total 0": {},
		"8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n253:0\n":  {11, 22},
		"8:0 Read 5\n8:0 Write 6\n8:0 Sync 11\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 11\n8:16 Read 1\n8:16 Write 1\nTotal 13\n": {6, 7},
	} {
		if r, w := ioBytes(text); r != want[0] || w != want[1] {
			t.Errorf("%q: %d, %d", text, r, w)
		}
	}
}
