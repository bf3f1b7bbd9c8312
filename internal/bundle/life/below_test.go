package life

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/errs"
)

// TestBelow: a group below the container's is found in each hierarchy by what is said of it.
func TestBelow(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"cpu/c", "pids/c", "v2/c"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "v2/c/cgroup.events"), nil, 0o644); err != nil { // by which v2 is known
		t.Fatal(err)
	}
	host := cgroup.Host{V1: []cgroup.Hierarchy{{Controllers: []string{"cpu", "cpuacct"}, Mount: top + "/cpu"}, {Controllers: []string{"pids"}, Mount: top + "/pids"}}}
	group := cgroup.Group{top + "/cpu/c", top + "/pids/c", top + "/v2/c"}
	for list, want := range map[string]string{
		"":                  "v2/c cpu/c/tasks pids/c/tasks",
		"x/y":               "v2/c/x/y cpu/c/x/y/tasks pids/c/x/y/tasks",
		"cpuacct:x":         "v2/c cpu/c/x/tasks pids/c/tasks",
		"pids:/x/ cpu:y":    "v2/c cpu/c/y/tasks pids/c/x/tasks",
		"cpu,pids:x":        "v2/c cpu/c/x/tasks pids/c/x/tasks",
		"../x":              "no path",
		"pids:x/../..":      "no path",
		"x y":               "twice",
		"pids:x pids,cpu:y": "twice",
		"memory:x":          "no group of this controller",
		"cpu:x cpuacct:y":   "no group of this controller",
		"pids:":             "no path",
	} {
		v2, tasks, err := below(host, group, strings.Fields(list))
		if err != nil {
			if !strings.Contains(err.Error(), want) || errs.HintOf(err) == "" {
				t.Errorf("%q: %v", list, err)
			}
			continue
		}
		if got := strings.ReplaceAll(strings.Join(append([]string{v2}, tasks...), " "), top+"/", ""); got != want {
			t.Errorf("%q: %s, want %s", list, got, want)
		}
	}
}
