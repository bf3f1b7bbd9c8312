package main

import (
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/bench/procs"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		q, want float64
	}{
		{[]float64{3}, 0.9, 3},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{5, 1, 3}, 0.5, 3},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 0.9, 10},
		{[]float64{2, 1}, 0, 1},
		{[]float64{2, 1}, 1, 2},
	} {
		if got := quantile(c.samples, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.samples, c.q, got, c.want)
		}
	}
	if !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("a quantile of nothing is a number")
	}
}

func TestTable(t *testing.T) {
	tab := &table{Name: "start", Title: "run | exit", Metrics: []metric{wallMs, peakMB}}
	ours, theirs, absent := tab.row("corten"), tab.row("crun"), tab.row("runc")
	for _, v := range []float64{2, 1, 3} {
		ours.add(wallMs, v)
		theirs.add(wallMs, 2*v)
	}
	ours.add(peakMB, 7.25)
	absent.Note = "not installed: apt-get install runc"
	want := [][]string{
		{"", "time ms", "p90", "min", "peak memory MB", "corten/peer"},
		{"corten", "2.00", "2.80", "1.00", "7.2", "1.00"},
		{"crun", "4.00", "5.60", "2.00", "-", "0.50"},
		{"runc", "not installed: apt-get install runc"},
	}
	if got := tab.cells(); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	for line := range strings.Lines(tab.markdown()) {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 7 {
			t.Errorf("a row of other than six cells: %s", line)
		}
	}
}

func TestReplaceBlock(t *testing.T) {
	doc := "before\n" + blockBegin + "\nold\n" + blockEnd + "\nafter\n"
	once, err := replaceBlock([]byte(doc), "new\n")
	if want := "before\n" + blockBegin + "\nnew\n" + blockEnd + "\nafter\n"; err != nil || string(once) != want {
		t.Errorf("got %q, %v; want %q", once, err, want)
	}
	for _, bad := range []string{"", blockBegin, blockEnd + blockBegin} {
		if _, err := replaceBlock([]byte(bad), "new\n"); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	err = report{}.intoFile(filepath.Join(t.TempDir(), "SPECIFICATION.md"))
	if err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("without the document: %v", err)
	}
}

func TestArgv(t *testing.T) {
	next := int64(0)
	ss := &session{values: map[string]string{"store": "/a b", "ref": "host/x:1"}, serial: func() int64 { next++; return next }}
	want := []string{"peer", "--root", "/a b", "docker://host/x:1", "bench1"}
	if got := ss.argv("peer --root {store} docker://{ref} {id}"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := ss.argv("{id}"); got[0] != "bench2" {
		t.Errorf("the second name is %q", got[0])
	}
}

// TestCommandsAreWhole checks that no command of the table asks for a value nobody sets.
func TestCommandsAreWhole(t *testing.T) {
	known := strings.NewReplacer("{store}", "", "{run}", "", "{image}", "", "{archive}", "", "{rootfs}", "", "{bundle}", "", "{ref}", "", "{tag}", "", "{id}", "")
	for _, cgroup := range []int{1, 2} {
		b := &bench{options: options{corten: "/bin/corten", cgroup: cgroup}}
		for _, p := range append(b.peers(), b.networked()...) {
			whole := append(slices.Concat(p.version, p.pull), p.daemon, p.ready, p.load, p.run, p.host)
			if p.own {
				whole = append(whole, fill(p.up, "{publish}", "", "{program}", "sleep 1", "{name}", "{id}"), fill(p.exec, "{command}", "true", "{name}", "{id}"))
			}
			for _, c := range whole {
				if rest := known.Replace(string(c)); strings.ContainsAny(rest, "{}") {
					t.Errorf("%s: %s", p.name, c)
				}
			}
		}
	}
}

func TestWrkResults(t *testing.T) {
	got := wrkResults(`Running 1s test @ http://192.0.2.1:8080/
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.07ms    3.46ms  48.95ms   97.42%
  Latency Distribution
     50%  423.00us
     75%  557.00us
     99%   18.85ms
Requests/sec:  58409.48
`)
	if want := map[string]float64{"requests/s": 58409.48, "p50 ms": 0.423, "p99 ms": 18.85}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestAcross has a table whose columns are peers.
func TestAcross(t *testing.T) {
	tab := &table{Name: "net", Metrics: []metric{"corten", "docker"}, Across: true}
	r := tab.row("host to container")
	for _, v := range []float64{9, 10, 11} {
		r.add("corten", v)
		r.add("docker", v/2)
	}
	want := [][]string{{"", "corten", "docker", "corten/docker"}, {"host to container", "10.00", "5.00", "2.00"}}
	if got := tab.cells(); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	empty := procs.DiskUse(dir)
	if err := os.WriteFile(filepath.Join(dir, "a"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if grown := procs.DiskUse(dir) - empty; grown < 1<<20 || grown > 1<<20+64<<10 {
		t.Errorf("a file of 1 MiB with two names takes %d bytes", grown)
	}
}

func TestParse(t *testing.T) {
	for _, bad := range [][]string{{"-n", "0"}, {"-cgroup", "3"}, {"-run", "("}, {"word"}, {"-nonsense"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	if o, err := parse([]string{"-n", "3", "-corten", "x"}, io.Discard); err != nil || o.n != 3 || !filepath.IsAbs(o.corten) {
		t.Errorf("got %+v, %v", o, err)
	}
}
