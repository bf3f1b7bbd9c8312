package bundle

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/bundled"
	"github.com/cortenhq/corten/internal/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestPlans translates what container engines write, and plans it.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no configurations", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b, err := Parse("/bundle", text, ^uint64(0))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(file, ".json")+".golden", printed(t, b))
		})
	}
}

// printed is the plan of a bundle on a host with cgroup v2 alone, in words.
func printed(t *testing.T, b *Bundle) []byte {
	t.Helper()
	b.Spec.ID, b.Spec.Created = "box", time.Unix(1, 0)
	in := bundled.Input{Container: b.Spec, Sources: make([]plan.Source, len(b.Spec.Mounts))}
	in.Host.SELinux = b.Spec.Security.SELinux != ""
	for i, m := range b.Spec.Mounts {
		if m.Type == spec.Bind {
			in.Sources[i] = plan.Source{Path: m.Source, File: filepath.Ext(m.Source) != "" || strings.HasPrefix(m.Target, "/etc/")}
		}
	}
	in.Groups = plan.Groups{Make: plan.MakeGroups{Dirs: []string{"/sys/fs/cgroup/x"}}, V2: "/sys/fs/cgroup/x",
		Mount: []plan.MountFS{{Type: "cgroup2", Source: "cgroup"}}}
	if !b.Spec.Security.Unconfined {
		in.Filter = &plan.Filter{Name: "of config.json", Program: make([]plan.Instruction, 2), Listener: b.Spec.Security.Seccomp.ListenerPath}
	}
	for _, h := range b.Hooks.CreateRuntime {
		in.Hooks = append(in.Hooks, h.Path)
	}
	for _, h := range b.Hooks.CreateContainer {
		in.Inside = append(in.Inside, h.Path)
	}
	p, err := bundled.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(plan.HeldReady, plan.HeldKnown, plan.StartFIFO); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := p.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, w := range b.Warnings {
		out.WriteString("warning: " + w + "\n")
	}
	return out.Bytes()
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err, "(-update writes it)")
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// least is the smallest config.json that is accepted, with something else put in.
func least(t *testing.T, change string) []byte {
	t.Helper()
	c := map[string]any{}
	merge := func(text string) {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		for k, v := range m {
			old, ok1 := c[k].(map[string]any)
			more, ok2 := v.(map[string]any)
			if !ok1 || !ok2 {
				c[k] = v
				continue
			}
			for name, x := range more {
				old[name] = x
			}
		}
	}
	merge(`{"ociVersion": "1.0.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["x"]}, "linux": {"namespaces": [{"type": "mount"}]}}`)
	merge(change)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestRefused: what cannot be honoured is named, with a way out.
func TestRefused(t *testing.T) {
	if _, err := Parse("/b", least(t, `{}`), 0); err != nil {
		t.Fatal(err)
	}
	for change, want := range map[string]string{
		`{"ociVersion": "2.0.0"}`:                                                              "2.0.0",
		`{"hooks": {"createContainer": [{"path": "x"}]}}`:                                      "not absolute",
		`{"hooks": {"startContainer": [{"path": "/x", "timeout": 0}]}}`:                        "timeout of /x",
		`{"linux": {"personality": {"domain": "BSD"}}}`:                                        "personality: \"BSD\"",
		`{"linux": {"personality": {"domain": "LINUX", "flags": ["X"]}}}`:                      "no flags",
		`{"linux": {"memoryPolicy": {"mode": "MPOL_BIND"}}}`:                                   "memoryPolicy: MPOL_BIND takes nodes",
		`{"linux": {"memoryPolicy": {"mode": "MPOL_LOCAL", "flags": ["X"]}}}`:                  "memoryPolicy: \"X\"",
		`{"linux": {"netDevices": {"a/b": {}}}}`:                                               "a/b",
		`{"linux": {"netDevices": {"eth0": {"name": "%d%d"}}}}`:                                "%d%d",
		`{"linux": {"netDevices": {"eth0": {}}}}`:                                              "netDevices",
		`{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}}}`: "listenerPath",
		`{"linux": {"seccomp": {}}}`:                                                           "defaultAction",
		`{"linux": {"namespaces": [{"type": "user"}]}}`:                                        "mount namespace",
		`{"linux": {"namespaces": [{"type": "mount"}, {"type": "time", "path": "/x"}]}}`:       "time by path",
		`{"linux": {"namespaces": [{"type": "mount", "path": "/x"}, {"type": "user"}]}}`:       "mount namespace",
		`{"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}]}}`:                     "uidMappings",
		`{"linux": {"namespaces": [{"type": "mount"}, {"type": "mount"}]}}`:                    "twice",
		`{"linux": {"namespaces": [{"type": "mount"}, {"type": "moon"}]}}`:                     "moon",
		`{"linux": {"rootfsPropagation": "up"}}`:                                               "rootfsPropagation",
		`{"linux": {"devices": [{"path": "x", "type": "c"}]}}`:                                 "devices",
		`{"hostname": "x"}`: "hostname",
		`{"mounts": [{"destination": "/x", "type": "bind", "source": "/y", "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}]}`: "gidMappings",
		`{"process": {"cwd": "x"}}`: "cwd",
		`{"process": {"args": []}}`: "args",
		`{"process": {"scheduler": {"policy": "SCHED_FIFO", "priority": 100}}}`:  "scheduler: priority 100",
		`{"process": {"ioPriority": {"class": "IOPRIO_CLASS_NONE"}}}`:            "ioPriority",
		`{"process": {"execCPUAffinity": {"final": "3-1"}}}`:                     "execCPUAffinity",
		`{"process": {"rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}}`: "RLIMIT_X",
		`{"root": {"path": ""}}`: "root",
	} {
		_, err := Parse("/b", least(t, change), 0)
		if err == nil || !strings.Contains(err.Error(), want) || errs.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q", change, err, errs.HintOf(err))
		}
	}
}

// TestCapabilities: those that are not there are left out with a word, ambient ones that the kernel
// would refuse without.
func TestCapabilities(t *testing.T) {
	b, err := Parse("/b", least(t, `{"process": {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_MOON"],
		"permitted": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"], "effective": ["CAP_KILL"], "ambient": ["CAP_CHOWN", "CAP_FOWNER"]}}}`), 1|1<<3)
	if err != nil {
		t.Fatal(err)
	}
	sec := b.Spec.Security
	if got := strings.Join(sec.Capabilities, " "); got != "CAP_CHOWN" {
		t.Errorf("bounding %s", got)
	}
	want := &spec.CapSets{Permitted: []string{"CAP_CHOWN"}, Inheritable: []string{"CAP_CHOWN"}, Ambient: []string{"CAP_CHOWN"}}
	if diff := cmp.Diff(want, sec.Sets); diff != "" {
		t.Error(diff)
	}
	if len(b.Warnings) != 2 { // each once
		t.Errorf("warnings %q", b.Warnings)
	}
}

func TestHome(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/secret", []byte("web:x:33:33::/from/outside:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ passwd, want string }{{"web:x:33:33::/srv:/bin/sh\n", "/srv"}, {"", "/"}} {
		if err := os.WriteFile(root+"/etc/passwd", []byte(c.passwd), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := Home(root, "33:33"); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	// A link stays in the root, and a FIFO is not waited for.
	for _, make := range []func() error{
		func() error { return os.Symlink(root+"/secret", root+"/etc/passwd") },
	} {
		_ = os.Remove(root + "/etc/passwd")
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if got := Home(root, "33:33"); got != "/" {
			t.Errorf("%q from outside of the root", got)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := Parse("/nowhere", text, ^uint64(0))
		if err != nil {
			return
		}
		p, err := bundled.Make(bundled.Input{Container: b.Spec, Sources: make([]plan.Source, len(b.Spec.Mounts))})
		if err == nil {
			if err := p.Check(plan.HeldReady, plan.HeldKnown, plan.StartFIFO); err != nil {
				t.Error(err)
			}
		}
	})
}

// A limit of no processes is what the version of the specification says.
func TestNoProcesses(t *testing.T) {
	for version, want := range map[string]int64{"1.0.2-dev": -1, "1.2.1": -1, "1.3.0": 1, "1.10.0": 1} {
		none := int64(0)
		p := spec.Pids{Limit: &none}
		noProcesses(&p, version)
		got := int64(-1)
		if p.Limit != nil {
			got = *p.Limit
		}
		if got != want {
			t.Errorf("%s: %d, want %d", version, got, want)
		}
	}
}
