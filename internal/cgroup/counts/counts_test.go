package counts

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// group makes the files of a group, as kernels write them.
func group(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadV2(t *testing.T) {
	dir := group(t, map[string]string{
		"cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 4\nthrottled_usec 9\n",
		"cpu.pressure": "some avg10=1.50 avg60=0.20 avg300=0.00 total=120\n" +
			"full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		"memory.stat":              "anon 4096\nfile 8192\n",
		"memory.current":           "12288\n",
		"memory.max":               "1048576\n",
		"memory.peak":              "20480\n",
		"memory.swap.current":      "100\n",
		"memory.swap.max":          "max\n",
		"pids.current":             "3\n",
		"pids.max":                 "max\n",
		"io.stat":                  "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 \n",
		"hugetlb.2MB.current":      "1\n",
		"hugetlb.2MB.rsvd.current": "2097152\n",
		"hugetlb.2MB.events":       "max 6\n",
	})
	want := Stats{
		CPU: CPU{Usage: CPUUsage{Total: 5000, User: 3000, Kernel: 2000}, Throttling: Throttling{7, 4, 9000},
			Pressure: &Pressure{Some: Share{Avg10: 1.5, Avg60: 0.2, Total: 120}}},
		Memory: Memory{Cache: 8192, Usage: Amount{Limit: 1048576, Usage: 12288, Max: 20480},
			Swap: Amount{Limit: math.MaxUint64, Usage: 12388}, Raw: map[string]uint64{"anon": 4096, "file": 8192}},
		Pids:    Pids{Current: 3},
		BlockIO: BlockIO{Bytes: []Device{{254, 0, "Read", 1}, {254, 0, "Write", 2}}, Operations: []Device{{254, 0, "Read", 3}, {254, 0, "Write", 4}}},
		Huge:    map[string]Hugetlb{"2MB": {Usage: 2097152, Failures: 6}},
	}
	if diff := cmp.Diff(want, Read([]string{dir})); diff != "" {
		t.Error(diff)
	}
}

func TestReadHybrid(t *testing.T) {
	v2 := group(t, map[string]string{"cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\n", "cgroup.events": "populated 1\n"})
	cpu := group(t, map[string]string{
		"cpu.stat":             "nr_periods 7\nnr_throttled 4\nthrottled_time 9\n",
		"cpuacct.usage":        "30000000\n",
		"cpuacct.stat":         "user 1\nsystem 2\n",
		"cpuacct.usage_percpu": "10 20 \n",
		"cpuacct.usage_all":    "cpu user system\n0 1 2\n1 3 4\n",
	})
	set := group(t, map[string]string{
		"cpuset.memory_migrate": "1\n", "cpuset.cpus": "0-2,7\n", "cpuset.mems": "0\n", "cpuset.sched_relax_domain_level": "-1\n",
	})
	memory := group(t, map[string]string{
		"memory.stat": "cache 7\n", "memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": "5\n", "memory.max_usage_in_bytes": "6\n",
		"memory.failcnt": "2\n", "memory.memsw.usage_in_bytes": "8\n",
	})
	block := group(t, map[string]string{
		"blkio.throttle.io_service_bytes_recursive": "254:0 Read 1\n254:0 Total 1\nTotal 1\n",
		"blkio.bfq.sectors_recursive":               "8:0 9\n",
	})
	huge := group(t, map[string]string{"hugetlb.1GB.usage_in_bytes": "1\n", "hugetlb.1GB.max_usage_in_bytes": "2\n", "hugetlb.1GB.failcnt": "3\n"})
	want := Stats{
		CPU: CPU{Throttling: Throttling{7, 4, 9}, Usage: CPUUsage{Total: 30000000, User: 10000000, Kernel: 20000000,
			PerCPU: []uint64{10, 20}, PerCPUUser: []uint64{1, 3}, PerCPUKernel: []uint64{2, 4}}},
		CPUSet:  CPUSet{CPUs: []uint16{0, 1, 2, 7}, Mems: []uint16{0}, MemoryMigrate: 1, RelaxDomain: -1},
		Memory:  Memory{Cache: 7, Usage: Amount{9223372036854771712, 5, 6, 2}, Swap: Amount{Usage: 8}, Raw: map[string]uint64{"cache": 7}},
		BlockIO: BlockIO{Bytes: []Device{{254, 0, "Read", 1}, {254, 0, "Total", 1}}, Sectors: []Device{{8, 0, "", 9}}},
		Huge:    map[string]Hugetlb{"1GB": {1, 2, 3}},
	}
	if diff := cmp.Diff(want, Read([]string{v2, cpu, set, memory, block, huge})); diff != "" {
		t.Error(diff)
	}
}

// TestForm compares with what runc prints of a group without numbers.
func TestForm(t *testing.T) {
	const amount = `{"limit":0,"failcnt":0}`
	want := `{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},` +
		`"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,` +
		`"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},` +
		`"memory":{"usage":` + amount + `,"swap":` + amount + `,"kernel":` + amount + `,"kernelTCP":` + amount + `},` +
		`"pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}`
	got, err := json.Marshal(Read(nil))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
