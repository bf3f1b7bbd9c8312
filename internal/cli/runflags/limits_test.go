package runflags

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "32": 32, "32b": 32, "32B": 32, "32k": 32 << 10, "32K": 32 << 10, "32kb": 32 << 10, "32Kb": 32 << 10,
		"32KiB": 32 << 10, "32m": 32 << 20, "32MB": 32 << 20, "32mib": 32 << 20, "32g": 32 << 30, "32 gb": 32 << 30, "2t": 2 << 40,
		"1p": 1 << 50, "1.5k": 1536, "0.5m": 512 << 10, ".5k": 512, "1.": 1, "8191p": 8191 << 50,
	} {
		if got, ok := spec.ParseSize(text); !ok || got != want {
			t.Errorf("%q: %d %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", " ", "k", "hello", "-1", "+1", "1e3", "0x10", "1_000", "32 mb ", "32bb", "32ki", "32 m b", "1,5k",
		"9223372036854775808", "8192p", "1.5.5", "Inf", "NaN", "1  k", "١"} {
		if got, ok := spec.ParseSize(text); ok {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

func FuzzSize(f *testing.F) {
	f.Add("1.5GiB")
	f.Add("9223372036854775807")
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := spec.ParseSize(s); ok && n < 0 {
			t.Errorf("%q: %d", s, n)
		}
	})
}

func u64(n uint64) *uint64 { return &n }
func i64(n int64) *int64   { return &n }

func TestLimits(t *testing.T) {
	const m = 1 << 20
	for args, want := range map[string]spec.Resources{
		"":                                      {},
		"-m 64m":                                {Memory: spec.Memory{Limit: 64 * m, Swap: 128 * m}},
		"-m 0":                                  {},
		"-m 6291456":                            {Memory: spec.Memory{Limit: 6 * m, Swap: 12 * m}},
		"-m 64m --memory-swap 64m":              {Memory: spec.Memory{Limit: 64 * m, Swap: 64 * m}},
		"-m 64m --memory-swap -1":               {Memory: spec.Memory{Limit: 64 * m, Swap: -1}},
		"-m 64m --memory-swap 0":                {Memory: spec.Memory{Limit: 64 * m, Swap: 128 * m}},
		"-m 8191p":                              {Memory: spec.Memory{Limit: 8191 << 50, Swap: -1}},
		"--memory-reservation 5m":               {Memory: spec.Memory{Reservation: 5 * m}},
		"-m 64m --memory-reservation 64m":       {Memory: spec.Memory{Limit: 64 * m, Swap: 128 * m, Reservation: 64 * m}},
		"--memory-swappiness 60":                {Memory: spec.Memory{Swappiness: u64(60)}},
		"--memory-swappiness 0":                 {Memory: spec.Memory{Swappiness: u64(0)}},
		"--memory-swappiness -1":                {},
		"-m 64m --oom-kill-disable":             {Memory: spec.Memory{Limit: 64 * m, Swap: 128 * m, DisableOOMKiller: true}},
		"--cpus 1.5":                            {CPU: spec.CPU{Quota: 150000, Period: 100000}},
		"--cpus .01":                            {CPU: spec.CPU{Quota: 1000, Period: 100000}},
		"--cpus 0.333":                          {CPU: spec.CPU{Quota: 33300, Period: 100000}},
		"--cpus 2":                              {CPU: spec.CPU{Quota: 200000, Period: 100000}},
		"--cpus 0":                              {},
		"--cpu-period 50000 --cpu-quota 25000":  {CPU: spec.CPU{Quota: 25000, Period: 50000}},
		"--cpu-quota -1 --cpu-period 0":         {},
		"-c 512":                                {CPU: spec.CPU{Shares: 512}},
		"--cpu-shares 0":                        {},
		"--cpuset-cpus 0-3,7 --cpuset-mems 0,1": {CPU: spec.CPU{Cpus: "0-3,7", Mems: "0,1"}},
		"--cpu-rt-period 1000000 --cpu-rt-runtime 950000": {CPU: spec.CPU{RealtimePeriod: 1000000, RealtimeRuntime: 950000}},
		"--pids-limit 100":  {Pids: spec.Pids{Limit: i64(100)}},
		"--pids-limit -1":   {Pids: spec.Pids{Limit: i64(-1)}},
		"--pids-limit 0":    {Pids: spec.Pids{Limit: i64(-1)}},
		"--blkio-weight 10": {BlockIO: spec.BlockIO{Weight: 10}},
		"--blkio-weight 0":  {},
	} {
		if diff := cmp.Diff(want, mustParse(t, strings.Fields(args)...).Resources); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	}
}

func TestBlockDevices(t *testing.T) {
	dev := blockDevice(t)
	var st unix.Stat_t
	if err := unix.Stat(dev, &st); err != nil {
		t.Fatal(err)
	}
	major, minor := int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	got := mustParse(t, "--blkio-weight-device", dev+":500", "--device-read-bps", dev+":1mb", "--device-write-bps", dev+":2k",
		"--device-read-iops", dev+":3", "--device-write-iops", dev+":4", "--device-write-iops", dev+":5").Resources.BlockIO
	rate := func(n uint64) spec.ThrottleDevice { return spec.ThrottleDevice{Major: major, Minor: minor, Rate: n} }
	want := spec.BlockIO{
		WeightDevice: []spec.WeightDevice{{Major: major, Minor: minor, Weight: 500}},
		ReadBps:      []spec.ThrottleDevice{rate(1 << 20)},
		WriteBps:     []spec.ThrottleDevice{rate(2 << 10)},
		ReadIOPS:     []spec.ThrottleDevice{rate(3)},
		WriteIOPS:    []spec.ThrottleDevice{rate(4), rate(5)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWholeNumbers(t *testing.T) {
	for _, x := range []struct {
		text   string
		lo, hi int64
		ok     bool
	}{
		{"", 5, 9, true}, {"5", 5, 9, true}, {"9", 5, 9, true}, {"4", 5, 9, false}, {"10", 5, 9, false}, {"1.0", 0, 9, false},
		{"9223372036854775807", 0, math.MaxInt64, true}, {"9223372036854775808", 0, math.MaxInt64, false}, {" 5", 0, 9, false},
	} {
		if _, err := values.Int("x", x.text, x.lo, x.hi); (err == nil) != x.ok {
			t.Errorf("%q in %d to %d: %v", x.text, x.lo, x.hi, err)
		}
	}
}
