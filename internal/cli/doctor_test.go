package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

// madeUp is a host that lacks a bit of everything.
func madeUp() []engine.Feature {
	f := func(group, name string, answer engine.FeatureAnswer, detail string) engine.Feature {
		return engine.Feature{Group: group, Name: name, Answer: answer, Detail: detail,
			Use: "uses " + name, Lost: "loses " + name, Get: "CONFIG_" + strings.ToUpper(name)}
	}
	all := []engine.Feature{
		f("mounts", "overlay", engine.FeatureThere, ""),
		f("mounts", "erofs", engine.FeatureMissing, "no such device (ENODEV)"),
		f("mounts", "idmap", engine.FeatureUnknown, "only root can tell"),
		f("limits", "groups", engine.FeatureThere, "v1: cpu memory"),
		f("limits", "devices", engine.FeatureMissing, "not permitted (EPERM)"),
		f("network", "veth", engine.FeatureMissing, "not supported (EOPNOTSUPP)"),
		f("network", "tun", engine.FeatureUnknown, "only root can tell"),
	}
	all[0].Needed = true
	all[2].Needed = true
	all[4].Instead = "cgroup v1"
	all[5].Later, all[6].Later = true, true
	return all
}

func TestDoctorText(t *testing.T) {
	for _, x := range []struct {
		file string
		all  bool
	}{{"doctor.golden", false}, {"doctor-all.golden", true}} {
		path := filepath.Join("testdata", x.file)
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := doctorText(madeUp(), x.all); got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	change := func(name string, answer engine.FeatureAnswer) []engine.Feature {
		all := madeUp()
		for i := range all {
			if all[i].Name == name {
				all[i].Answer = answer
			}
		}
		return all
	}
	for _, x := range []struct {
		features []engine.Feature
		ready    bool
		want     string
	}{
		{change("idmap", engine.FeatureThere), true, "corten run works here."},
		{madeUp(), false, "It is not known whether corten run works here; unknown: idmap"},
		{change("overlay", engine.FeatureMissing), false, "corten run does not work here without flags; missing: overlay"},
	} {
		if got := verdict(x.features); got != x.want {
			t.Errorf("got %q, want %q", got, x.want)
		}
		if ready := len(engine.NotReady(x.features)) == 0; ready != x.ready {
			t.Errorf("%s: ready %v", x.want, ready)
		}
	}
}

// TestDoctor runs it on this host: text and JSON say the same, and so does the exit code.
func TestDoctor(t *testing.T) {
	text := corten(t, "doctor")
	js := corten(t, "doctor", "--format", "json")
	var d struct {
		Ready    bool
		Features []struct{ Name, Answer, Use, Lost, Get string }
	}
	if err := json.Unmarshal([]byte(js.stdout), &d); err != nil {
		t.Fatal(err)
	}
	if works := strings.HasSuffix(text.stdout, "corten run works here.\n"); works != d.Ready || works != (text.code == 0) || text.code != js.code {
		t.Errorf("exit codes %d and %d, ready %v, and it says\n%s", text.code, js.code, d.Ready, text.stdout)
	}
	if text.stderr != "" || js.stderr != "" {
		t.Errorf("on stderr: %s%s", text.stderr, js.stderr)
	}
	all := corten(t, "doctor", "--all").stdout
	for _, f := range d.Features {
		if !strings.Contains(all, "  "+f.Name) || f.Use == "" || f.Lost == "" || f.Get == "" {
			t.Errorf("%+v is not told in full by --all", f)
		}
		if f.Answer != "yes" && f.Answer != "no" && f.Answer != "unknown" {
			t.Errorf("%s: %q", f.Name, f.Answer)
		}
	}
}

// TestInfo compares with what other programs say, and looks that a look makes nothing.
func TestInfo(t *testing.T) {
	root := filepath.Join(t.TempDir(), "none")
	r := corten(t, "--root", root, "info", "--format", "json")
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("exit code %d, %s", r.code, r.stderr)
	}
	var i map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &i); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string][]string{
		"KernelVersion":  {"uname", "-r"},
		"Architecture":   {"uname", "-m"},
		"Name":           {"uname", "-n"},
		"RootFilesystem": {"findmnt", "-n", "-o", "FSTYPE", "--target", filepath.Dir(root)},
	} {
		out, err := exec.Command(command[0], command[1:]...).Output()
		if err != nil {
			continue
		}
		if got := i[name]; got != strings.TrimSpace(string(out)) {
			t.Errorf("%s: %v, but %v says %s", name, got, command, out)
		}
	}
	for name, want := range map[string]any{"Version": shell.Version, "Images": 0.0, "Containers": 0.0, "RootDir": root} {
		if i[name] != want {
			t.Errorf("%s: %v, want %v", name, i[name], want)
		}
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("info made the state folder")
	}
	if text := corten(t, "info"); text.code != 0 || !strings.Contains(text.stdout, "State folder:") {
		t.Errorf("%+v", text)
	}
}

func TestInfoLines(t *testing.T) {
	three, one := 3, 1
	i := info{Version: "1.0.0", GitCommit: "abc", Info: engine.Info{
		HostInfo: engine.HostInfo{KernelVersion: "6.1", Architecture: "x86_64", NCPU: 2, MemTotal: 4e9},
		StateInfo: engine.StateInfo{RootDir: "/r", RootFilesystem: "ext4", RootFree: 1e9, RootTotal: 2e9, RunDir: "/run/c",
			Images: &three, Containers: &three, ContainersRunning: &one},
		GuardInfo: engine.GuardInfo{CgroupVersion: "2", CgroupDriver: "cgroupfs", SecurityModules: []string{"a", "b"}},
	}}
	want := map[string]string{"Version": "1.0.0 (abc)", "Kernel": "6.1 x86_64", "CPUs": "2", "Memory": "4GB", "Images": "3",
		"State folder": "/r on ext4, 1GB of 2GB free", "Run folder": "/run/c", "Containers": "3, 1 running",
		"Control groups": "v2, cgroupfs", "Security modules": "a, b"}
	for _, l := range i.lines() {
		if l[1] != want[l[0]] {
			t.Errorf("%s: %q, want %q", l[0], l[1], want[l[0]])
		}
	}
}
