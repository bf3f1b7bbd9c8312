package scope

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/systemd"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		text string
		user bool
		want Scope
		dir  string
	}{
		{"machine.slice:libpod:1a", false, Scope{"libpod-1a.scope", "machine.slice"}, "/machine.slice"},
		{"a-b-c.slice::web", false, Scope{"web.scope", "a-b-c.slice"}, "/a.slice/a-b.slice/a-b-c.slice"},
		{"-.slice:x:y", false, Scope{"x-y.scope", "-.slice"}, "/"},
		{":x:y", false, Scope{"x-y.scope", "system.slice"}, "/system.slice"},
		{":x:y", true, Scope{"x-y.scope", "user.slice"}, "/user.slice"},
		{"", false, Scope{"corten-web-1f.scope", "system.slice"}, "/system.slice"},
	} {
		got, err := Parse(test.text, "web-1f", test.user)
		if err != nil || got != test.want || got.Parent("/") != test.dir {
			t.Errorf("%q: %+v in %s, %v", test.text, got, got.Parent("/"), err)
		}
		if got.Parent("/user@1.service") != "/user@1.service"+test.dir && test.dir != "/" {
			t.Errorf("%q: %s", test.text, got.Parent("/user@1.service"))
		}
	}
	for _, text := range []string{"/a/b", "a:b", "a.slice:b:", "a.scope:b:c", "a--b.slice:b:c", "-a.slice:b:c", "a/b.slice:b:c", "a.slice:b/:c", "a:b:c:d"} {
		if got, err := Parse(text, "web", false); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

// limitsOf is what systemd is told of limits on a host.
func limitsOf(t *testing.T, host cgroup.Host, r spec.Resources) map[string]any {
	t.Helper()
	p, err := cgroup.New(host, cgroup.Request{Parent: "/a.slice", ID: "x.scope", Resources: r})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, l := range Limits(p) {
		if _, ok := got[l.Name]; ok {
			t.Errorf("%s twice", l.Name)
		}
		got[l.Name] = l.Value
	}
	return got
}

func TestLimits(t *testing.T) {
	v2 := cgroup.Host{V2: cgroup.Hierarchy{Mount: "/sys/fs/cgroup", Base: "/", Controllers: []string{"memory", "cpu", "cpuset", "pids", "io"}}}
	v1 := cgroup.Host{}
	for _, name := range []string{"memory", "cpu", "cpuset", "pids", "blkio", "freezer"} {
		v1.V1 = append(v1.V1, cgroup.Hierarchy{Mount: "/sys/fs/cgroup/" + name, Base: "/", Controllers: []string{name}})
	}
	none, some, on := int64(0), int64(50), int64(1)
	for _, test := range []struct {
		name string
		host cgroup.Host
		r    spec.Resources
		want map[string]any
	}{
		{"all", v2, spec.Resources{
			Memory: spec.Memory{Limit: 64 << 20, Swap: 96 << 20, Reservation: 8 << 20},
			CPU:    spec.CPU{Shares: 1024, Quota: 33333, Period: 100000, Cpus: "0-2,9", Mems: "0"},
			Pids:   spec.Pids{Limit: &some}, BlockIO: spec.BlockIO{Weight: 500},
		}, map[string]any{
			"MemoryMax": uint64(64 << 20), "MemorySwapMax": uint64(32 << 20), "MemoryLow": uint64(8 << 20),
			"CPUWeight": uint64(100), "CPUQuotaPeriodUSec": uint64(100000), "CPUQuotaPerSecUSec": uint64(340000),
			"AllowedCPUs": []byte{7, 2}, "AllowedMemoryNodes": []byte{1}, "TasksMax": uint64(50), "IOWeight": uint64(4950),
		}},
		{"taken off", v2, spec.Resources{Memory: spec.Memory{Limit: -1}, CPU: spec.CPU{Quota: -1}, Pids: spec.Pids{Limit: &none}}, map[string]any{
			"MemoryMax": uint64(math.MaxUint64), "MemorySwapMax": uint64(math.MaxUint64), "CPUQuotaPerSecUSec": uint64(math.MaxUint64), "TasksMax": uint64(1),
		}},
		{"idle", v2, spec.Resources{CPU: spec.CPU{Idle: &on, Shares: 5}}, map[string]any{"CPUWeight": uint64(0)}},
		{"unified", v2, spec.Resources{Unified: map[string]string{
			"memory.high": "1000000", "memory.min": "4096", "cpu.max": "max 50000", "memory.oom.group": "1", "io.max": "8:0 rbps=1", "pids.max": "max",
		}}, map[string]any{
			"MemoryHigh": uint64(1000000), "MemoryMin": uint64(4096), "CPUQuotaPeriodUSec": uint64(50000), "CPUQuotaPerSecUSec": uint64(math.MaxUint64),
			"OOMPolicy": "kill", "TasksMax": uint64(math.MaxUint64),
		}},
		{"v1", v1, spec.Resources{Memory: spec.Memory{Limit: 1 << 20}, CPU: spec.CPU{Shares: 512, Quota: 50000, Cpus: "1"}, BlockIO: spec.BlockIO{Weight: 100}},
			map[string]any{"MemoryLimit": uint64(1 << 20), "CPUShares": uint64(512), "CPUQuotaPerSecUSec": uint64(500000), "AllowedCPUs": []byte{2}, "BlockIOWeight": uint64(100)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, limitsOf(t, test.host, test.r)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnnotated(t *testing.T) {
	got, err := Annotated(map[string]string{
		"org.systemd.property.TimeoutStopSec":  "1.5",
		"org.systemd.property.KillSignal":      "37",
		"org.systemd.property.TimeoutStopUSec": "uint64 10",
		"org.systemd.property.Documentation":   `['a b', "it\"s", ]`,
		"org.systemd.property.CollectMode":     "'inactive-or-failed'",
		"org.systemd.property.SendSIGHUP":      "true",
		"org.systemd.property.After":           "[]",
		"something.else":                       "what it likes",
	})
	want := []systemd.Property{{Name: "After", Value: []string{}}, {Name: "CollectMode", Value: "inactive-or-failed"}, {Name: "Documentation", Value: []string{"a b", `it"s`}},
		{Name: "KillSignal", Value: int32(37)}, {Name: "SendSIGHUP", Value: true}, {Name: "TimeoutStopUSec", Value: uint64(1500000)}, {Name: "TimeoutStopUSec", Value: uint64(10)}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for key, value := range map[string]string{
		"A": "word", "B": "'open", "C": "['a'", "D": "uint64 -1", "E": "['a' 'b']", "F": "'a' b", "G": "", "b c": "1", "": "1", "TimeoutSec": "'x'", "H": "byte 300",
	} {
		if got, err := Annotated(map[string]string{"org.systemd.property." + key: value}); err == nil {
			t.Errorf("%s=%s is %v", key, value, got)
		}
	}
}

// FuzzAnnotated has values read that are none: a text is read back as it was.
func FuzzAnnotated(f *testing.F) {
	for _, s := range []string{"'a'", `["a", 'b\'']`, "uint64 5", "1e9", "true", "[", "'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = Annotated(map[string]string{"org.systemd.property.X": s})
	})
}
