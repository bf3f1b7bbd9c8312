package cgroup

import (
	"context"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func TestMemoryLimitKills(t *testing.T) {
	h := realHost(t)
	need(t, h, "memory", "memory")
	g := makeGroup(t, h, spec.Resources{Memory: spec.Memory{Limit: 64 << 20, Swap: 64 << 20}}, true)
	if n := g.OOMKills(); n != 0 {
		t.Fatalf("before: %d kills", n)
	}
	small := startHelper(t, g, "allocate 8")
	if st := small.finish(t); st.ExitStatus() != 0 {
		t.Fatalf("8 MiB of 64: %v", st)
	}
	big := startHelper(t, g, "allocate 128")
	if st := big.finish(t); st.Signal() != syscall.SIGKILL {
		t.Fatalf("128 MiB of 64: %v, want it killed", st)
	}
	if n := g.OOMKills(); n < 1 {
		t.Fatalf("after: %d kills", n)
	}
	s, err := g.Stats()
	if err != nil || s.MemoryPeak < 60<<20 || s.MemoryPeak > 65<<20 || s.CPU <= 0 {
		t.Fatalf("stats: %+v, %v", s, err)
	}
}

// A limit is raised and lowered past the other one: the kernel takes only one order of the two.
func TestUpdateMemory(t *testing.T) {
	h := realHost(t)
	need(t, h, "memory", "memory")
	g := makeGroup(t, h, spec.Resources{Memory: spec.Memory{Limit: 64 << 20, Swap: 128 << 20}}, false)
	dir, v2 := dirOf(t, h, g, "memory", "memory")
	for _, m := range []spec.Memory{
		{Limit: 256 << 20, Swap: 512 << 20},
		{Limit: 32 << 20, Swap: 48 << 20},
		{Limit: 32 << 20, Swap: 32 << 20},
		{Limit: -1},
		{Limit: 64 << 20, Swap: -1, Reservation: 16 << 20},
	} {
		p, err := Update(h, g, spec.Resources{Memory: m})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Apply(); err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if v2 {
			if got := read(t, dir+"/memory.max"); got != limit(m.Limit) {
				t.Errorf("%+v: memory.max is %s", m, got)
			}
			continue
		}
		want := m.Limit
		if want < 0 {
			want = (1<<63 - 1) &^ int64(os.Getpagesize()-1)
		}
		if got := read(t, dir+"/memory.limit_in_bytes"); got != strconv.FormatInt(want, 10) {
			t.Errorf("%+v: limit_in_bytes is %s", m, got)
		}
	}
}

func TestUpdateBelowUse(t *testing.T) {
	h := realHost(t)
	need(t, h, "memory", "memory")
	g := makeGroup(t, h, spec.Resources{Memory: spec.Memory{Limit: 256 << 20}}, false)
	startHelper(t, g, "allocate 0")
	p, err := Update(h, g, spec.Resources{Memory: spec.Memory{Limit: 4096, CheckBeforeUpdate: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(); !errs.Is(err, errs.Busy) || errs.HintOf(err) == "" {
		t.Fatalf("got %v, want it refused as busy with a hint", err)
	}
	if n := g.OOMKills(); n != 0 {
		t.Fatalf("%d processes killed", n)
	}
}

// What was not joined at the start cannot be had later on v1; v2 just enables it.
func TestUpdateOutside(t *testing.T) {
	h := realHost(t)
	need(t, h, "pids", "pids")
	g := makeGroup(t, h, spec.Resources{}, false)
	p, err := Update(h, g, spec.Resources{Pids: spec.Pids{Limit: ptr[int64](10)}})
	if h.V2.has("pids") {
		if err != nil || p.Apply() != nil {
			t.Fatal(err)
		}
		return
	}
	if !errs.Is(err, errs.Unsupported) || errs.HintOf(err) == "" {
		t.Fatalf("got %v, want unsupported with a hint", err)
	}
}

func TestPidsLimit(t *testing.T) {
	h := realHost(t)
	need(t, h, "pids", "pids")
	g := makeGroup(t, h, spec.Resources{Pids: spec.Pids{Limit: ptr[int64](3)}}, false)
	p := start(t, g, "sh", "-c", "echo ready; read x; sleep 100 & sleep 100 & sleep 100 & sleep 100 & wait")
	p.expect(t, "ready")
	p.finish(t)
	if n := g.PidsRefused(); n < 1 {
		t.Fatalf("%d forks refused", n)
	}
	if s, err := g.Stats(); err != nil || s.Pids > 3 {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestCPU(t *testing.T) {
	h := realHost(t)
	need(t, h, "cpu", "cpu")
	g := makeGroup(t, h, spec.Resources{CPU: spec.CPU{Shares: 512, Quota: 50000, Period: 200000, Burst: ptr[uint64](10000)}}, false)
	dir, v2 := dirOf(t, h, g, "cpu", "cpu")
	want := map[string]string{"cpu.shares": "512", "cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "200000", "cpu.cfs_burst_us": "10000"}
	if v2 {
		want = map[string]string{"cpu.weight": "59", "cpu.max": "50000 200000", "cpu.max.burst": "10000"}
	}
	check := func() {
		t.Helper()
		for file, value := range want {
			if got := read(t, path.Join(dir, file)); got != value {
				t.Errorf("%s is %q, want %q", file, got, value)
			}
		}
	}
	check()
	change := func(c spec.CPU) {
		t.Helper()
		p, err := Update(h, g, spec.Resources{CPU: c})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Apply(); err != nil {
			t.Fatal(err)
		}
	}
	change(spec.CPU{Quota: 5000, Period: 10000, Burst: ptr[uint64](5000)})
	change(spec.CPU{Quota: 300000, Period: 100000, Burst: ptr[uint64](300000)})
	want = map[string]string{"cpu.shares": "512", "cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000", "cpu.cfs_burst_us": "300000"}
	if v2 {
		want = map[string]string{"cpu.max": "300000 100000", "cpu.max.burst": "300000"}
	}
	check()
	change(spec.CPU{Burst: ptr[uint64](0)})
	change(spec.CPU{Quota: -1})
	change(spec.CPU{Idle: ptr[int64](1), Shares: 100})
	change(spec.CPU{Idle: ptr[int64](0), Shares: 1024})
	want = map[string]string{"cpu.shares": "1024", "cpu.cfs_quota_us": "-1", "cpu.idle": "0"}
	if v2 {
		want = map[string]string{"cpu.weight": "100", "cpu.max": "max 100000", "cpu.idle": "0"}
	}
	check()
}

func TestCpuset(t *testing.T) {
	h := realHost(t)
	need(t, h, "cpuset", "cpuset")
	g := makeGroup(t, h, spec.Resources{CPU: spec.CPU{Cpus: "0"}}, false)
	p := start(t, g, "sh", "-c", "grep Cpus_allowed_list /proc/self/status | tr -d '\\t'; read x")
	p.expect(t, "Cpus_allowed_list:0")
}

// blockDevice is a loop device over a file, for a disk that no one else uses.
func blockDevice(t *testing.T) (name string, major, minor int64) {
	t.Helper()
	file := path.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 16<<20); err != nil {
		t.Fatal(err)
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip("needs loop devices: ", err)
	}
	defer control.Close()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 20 { // another process may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skip("needs loop devices: ", err)
		}
		name = "/dev/loop" + strconv.Itoa(n)
		dev, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Skip("needs loop devices: ", err)
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}})
		if err != nil {
			dev.Close()
			continue
		}
		t.Cleanup(func() { dev.Close() }) // the last close frees it
		var st unix.Stat_t
		if err := unix.Fstat(int(dev.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		return name, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	t.Fatal("no free loop device")
	return "", 0, 0
}

func TestBlockIO(t *testing.T) {
	h := realHost(t)
	need(t, h, "io", "blkio")
	name, major, minor := blockDevice(t)
	device := deviceName(major, minor)
	limits := func(rate uint64) []spec.ThrottleDevice {
		return []spec.ThrottleDevice{{Major: major, Minor: minor, Rate: rate}}
	}
	g := makeGroup(t, h, spec.Resources{BlockIO: spec.BlockIO{
		ReadBps: limits(64 << 20), WriteBps: limits(2 << 20), ReadIOPS: limits(300), WriteIOPS: limits(400)}}, false)
	dir, v2 := dirOf(t, h, g, "io", "blkio")
	if v2 {
		if got := read(t, dir+"/io.max"); got != device+" rbps=67108864 wbps=2097152 riops=300 wiops=400" {
			t.Errorf("io.max is %q", got)
		}
	} else {
		for file, want := range map[string]string{"read_bps": "67108864", "write_bps": "2097152", "read_iops": "300", "write_iops": "400"} {
			if got := read(t, dir+"/blkio.throttle."+file+"_device"); got != device+" "+want {
				t.Errorf("%s is %q", file, got)
			}
		}
	}
	// 1 MiB at 64 MiB/s: the limit is far, the count is exact.
	p := start(t, g, "sh", "-c", "dd if="+name+" of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null; echo done; read x")
	p.expect(t, "done")
	if s, err := g.Stats(); err != nil || s.Read < 1<<20 || s.Read > 2<<20 || s.Written != 0 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	u, err := Update(h, g, spec.Resources{BlockIO: spec.BlockIO{WriteBps: limits(0), ReadIOPS: limits(0)}})
	if err != nil || u.Apply() != nil {
		t.Fatal(err)
	}
	if !v2 {
		if got := read(t, dir+"/blkio.throttle.write_bps_device"); got != "" {
			t.Errorf("write limit is still %q", got)
		}
	} else if got := read(t, dir+"/io.max"); got != device+" rbps=67108864 wbps=max riops=max wiops=400" {
		t.Errorf("io.max is %q", got)
	}
}

func TestBlockWeight(t *testing.T) {
	h := realHost(t)
	need(t, h, "io", "blkio")
	name, major, minor := blockDevice(t)
	if os.WriteFile("/sys/block/"+path.Base(name)+"/queue/scheduler", []byte("bfq"), 0) != nil {
		t.Skip("needs the BFQ scheduler")
	}
	g := makeGroup(t, h, spec.Resources{BlockIO: spec.BlockIO{Weight: 300,
		WeightDevice: []spec.WeightDevice{{Major: major, Minor: minor, Weight: 700}}}}, false)
	dir, v2 := dirOf(t, h, g, "io", "blkio")
	if v2 {
		if got := read(t, dir+"/io.bfq.weight"); got != "default 300\n"+deviceName(major, minor)+" 700" {
			t.Errorf("io.bfq.weight is %q", got)
		}
		return
	}
	if got := read(t, dir+"/blkio.bfq.weight"); got != "300" {
		t.Errorf("blkio.bfq.weight is %q", got)
	}
	if got := read(t, dir+"/blkio.bfq.weight_device"); !strings.HasSuffix(got, deviceName(major, minor)+" 700") {
		t.Errorf("blkio.bfq.weight_device is %q", got)
	}
}

func TestNoSuchDevice(t *testing.T) {
	h := realHost(t)
	need(t, h, "io", "blkio")
	p, err := New(h, Request{Parent: testParent, ID: groupName(t),
		Resources: spec.Resources{BlockIO: spec.BlockIO{ReadBps: []spec.ThrottleDevice{{Major: 4000, Minor: 77, Rate: 1}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Make(); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "4000:77") {
		t.Fatalf("got %v, want not found", err)
	}
	for _, dir := range p.Group {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s was left behind", dir)
		}
	}
}

func TestHugepages(t *testing.T) {
	h := realHost(t)
	need(t, h, "hugetlb", "hugetlb")
	g := makeGroup(t, h, spec.Resources{Hugepages: []spec.HugepageLimit{{PageSize: "2MB", Limit: 8 << 20}}}, false)
	dir, v2 := dirOf(t, h, g, "hugetlb", "hugetlb")
	file := "hugetlb.2MB.limit_in_bytes"
	if v2 {
		file = "hugetlb.2MB.max"
	}
	if got := read(t, path.Join(dir, file)); got != "8388608" {
		t.Errorf("%s is %s", file, got)
	}
}

func TestUnified(t *testing.T) {
	h := realHost(t)
	if h.V2.Base == "" {
		t.Skip("needs cgroup v2")
	}
	g := makeGroup(t, h, spec.Resources{Unified: map[string]string{"cgroup.max.depth": "7", "cgroup.max.descendants": "9"}}, false)
	if got := read(t, g[0]+"/cgroup.max.depth"); got != "7" {
		t.Errorf("cgroup.max.depth is %s", got)
	}
}

// An unlimited container is in one group.
func TestMinimal(t *testing.T) {
	h := realHost(t)
	g := makeGroup(t, h, spec.Resources{}, false)
	if len(g) != 1 {
		t.Errorf("made %v", g)
	}
	p := start(t, g, "sh", "-c", "echo $$; read x")
	line, _ := p.out.ReadString('\n')
	pids, err := g.Procs()
	if err != nil || len(pids) != 1 || strconv.Itoa(pids[0]) != strings.TrimSpace(line) {
		t.Fatalf("processes %v (%v), want %s", pids, err, line)
	}
	if s, err := g.Stats(); err != nil || s.Pids != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAdd(t *testing.T) {
	h := realHost(t)
	g := makeGroup(t, h, spec.Resources{}, true)
	p := start(t, nil, "sh", "-c", "echo ready; read x")
	p.expect(t, "ready")
	if err := g.Add(p.Process.Pid); err != nil {
		t.Fatal(err)
	}
	for _, dir := range g {
		if got := read(t, dir+"/cgroup.procs"); got != strconv.Itoa(p.Process.Pid) {
			t.Errorf("%s has %q", dir, got)
		}
	}
}

// busyShell always has something to do.
const busyShell = "echo x; while :; do :; done"

func TestFreeze(t *testing.T) {
	h := realHost(t)
	g := makeGroup(t, h, spec.Resources{}, false)
	p := start(t, g, "sh", "-c", busyShell)
	p.expect(t, "x")
	if err := g.Freeze(context10s(t)); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); !frozen || err != nil {
		t.Fatalf("frozen: %v, %v", frozen, err)
	}
	before := runTime(t, p.Process.Pid)
	for range 5 { // a while in which it would have run
		if err := exec.Command("true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	if after := runTime(t, p.Process.Pid); after != before {
		t.Errorf("it ran while frozen: %s, %s", before, after)
	}
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); frozen || err != nil {
		t.Fatalf("frozen: %v, %v", frozen, err)
	}
	if err := g.Freeze(context10s(t)); err != nil {
		t.Fatal(err)
	}
	if err := g.Kill(context10s(t)); err != nil { // frozen as it is
		t.Fatal(err)
	}
	if alive(p.Process.Pid) {
		t.Error("it lives")
	}
}

// runTime is how long and how often a process ran.
func runTime(t *testing.T, pid int) string {
	t.Helper()
	return read(t, "/proc/"+strconv.Itoa(pid)+"/schedstat")
}

// forkLoop forks as fast as it can: each process starts two more and ends.
const forkLoop = `f() { f & f & }; echo ready; read x; f; f; f; wait`

func TestKillForkLoop(t *testing.T) {
	h := realHost(t)
	need(t, h, "pids", "pids")
	limit := spec.Resources{Pids: spec.Pids{Limit: ptr[int64](60)}}
	for _, way := range []struct {
		name string
		kill func(Group, context.Context) error
	}{{"at once", Group.Kill}, {"each", Group.killEach}} {
		t.Run(way.name, func(t *testing.T) {
			g := makeGroup(t, h, limit, false)
			p := start(t, g, "sh", "-c", "exec 2>/dev/null; "+forkLoop)
			p.expect(t, "ready")
			p.in.Write([]byte("\n"))
			for refused := 0; refused == 0; { // until it has hit its limit
				refused = g.PidsRefused()
			}
			if err := way.kill(g, context10s(t)); err != nil {
				t.Fatal(err)
			}
			if pids, err := g.Procs(); len(pids) != 0 || err != nil {
				t.Fatalf("left: %v, %v", pids, err)
			}
		})
	}
}

// The same on the v1 freezer, which a hybrid host has but does not use.
func TestFreezerV1(t *testing.T) {
	h := realHost(t)
	h.V2 = Hierarchy{}
	need(t, h, "", "freezer")
	g := makeGroup(t, h, spec.Resources{}, false)
	p := start(t, g, "sh", "-c", busyShell)
	p.expect(t, "x")
	if err := g.Freeze(context10s(t)); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); !frozen || err != nil {
		t.Fatalf("frozen: %v, %v", frozen, err)
	}
	if err := g.Kill(context10s(t)); err != nil {
		t.Fatal(err)
	}
	if alive(p.Process.Pid) {
		t.Error("it lives")
	}
}

// A hybrid host treated as if it had only v1 limits, counts and filters alike.
func TestAllV1(t *testing.T) {
	h := realHost(t)
	h.V2 = Hierarchy{}
	need(t, h, "", "freezer")
	need(t, h, "", "memory")
	g := makeGroup(t, h, spec.Resources{Devices: DefaultDevices(), Pids: spec.Pids{Limit: ptr[int64](100)}}, true)
	p := startHelper(t, g, "allocate 16")
	s, err := g.Stats()
	if err != nil || s.CPU <= 0 || s.Memory <= 0 || s.Pids < 1 || s.Inactive < 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if st := p.finish(t); st.ExitStatus() != 0 {
		t.Error(st)
	}
}

func TestRemove(t *testing.T) {
	h := realHost(t)
	g := makeGroup(t, h, spec.Resources{}, true)
	for _, dir := range g {
		if err := os.MkdirAll(dir+"/a/b/c", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, g, "sh", "-c", "echo ready; exec sleep 100")
	p.expect(t, "ready")
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := g.Remove(short); !errs.Is(err, errs.Busy) {
		t.Fatalf("got %v, want busy", err)
	}
	gone := make(chan error)
	go func() { gone <- g.Remove(context10s(t)) }() // it waits for the end of the process
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(context10s(t)); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := g.Kill(context10s(t)); err != nil {
		t.Errorf("kill of what is gone: %v", err)
	}
	if pids, err := g.Procs(); len(pids) != 0 || err != nil {
		t.Errorf("%v, %v", pids, err)
	}
	if n := g.OOMKills(); n != 0 {
		t.Errorf("%d kills", n)
	}
}

// What a start that was cut short left behind is taken over, what is in use is not.
func TestLeftover(t *testing.T) {
	h := realHost(t)
	request := Request{Parent: testParent, ID: groupName(t), Account: true}
	p, err := New(h, request)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range p.Group {
		if err := os.MkdirAll(dir+"/sub", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Make(); err != nil {
		t.Fatal(err)
	}
	g := p.Group
	start(t, g, "sh", "-c", "echo ready; exec sleep 100").expect(t, "ready")
	sub := g[0] + "/sub"
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.Make(); !errs.Is(err, errs.Busy) || errs.HintOf(err) == "" {
		t.Errorf("got %v, want busy with a hint", err)
	}
	if _, err := os.Stat(sub); err != nil {
		t.Errorf("the running container lost a group: %v", err)
	}
	if err := g.Kill(context10s(t)); err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(context10s(t)); err != nil {
		t.Fatal(err)
	}
}

func TestTasksHaveMode(t *testing.T) {
	h := realHost(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	g := makeGroup(t, h, spec.Resources{}, true)
	for _, dir := range g {
		st, err := os.Stat(dir)
		if err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
}
