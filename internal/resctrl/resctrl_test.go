package resctrl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// The tests are of the order of files alone: the folder that stands for the kernel's file system is a
// plain one, in which the test makes the files that the kernel makes with a class. That the kernel
// takes what is written no test says; the hosts of the tests have no such processor.

func TestMountedIn(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"30 25 0:26 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n":                  "/sys/fs/resctrl",
		"1 2 0:3 / / rw - ext4 resctrl rw\n4 5 0:6 / /x rw - tmpfs tmpfs rw\n":                      "",
		"1 2 0:3 / / rw - ext4 /dev/x rw\n30 25 0:26 / /mnt rw,relatime - resctrl resctrl rw,cdp\n": "/mnt",
	} {
		if got := mountedIn(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// class makes a folder as the kernel makes one.
func class(t *testing.T, dir, schemata string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "mon_groups"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"schemata": schemata, "tasks": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPlan(t *testing.T) {
	root := t.TempDir()
	class(t, filepath.Join(root, "there"), "")
	for _, x := range []struct {
		want  spec.IntelRdt
		share Share
	}{
		{spec.IntelRdt{}, Share{Dir: root + "/c", Own: true}},
		{spec.IntelRdt{Class: "/"}, Share{Dir: root}},
		{spec.IntelRdt{Class: "there", Monitoring: true}, Share{Dir: root + "/there", Monitor: root + "/there/mon_groups/c"}},
		{spec.IntelRdt{Class: "new", L3: "L3:0=f"}, Share{Dir: root + "/new"}},
	} {
		if got, err := Plan(root, "c", x.want); err != nil || got != x.share {
			t.Errorf("%+v: %+v, %v", x.want, got, err)
		}
	}
	if s, err := Plan(root, "there", spec.IntelRdt{}); err != nil || s.Own {
		t.Errorf("a class that was there before: %+v, %v", s, err)
	}
	for _, want := range []spec.IntelRdt{
		{Class: "new"}, {Class: "a/b"}, {Class: ".."}, {L3: "L3:0=f\nMB:0=1"}, {Bandwidth: "L3:0=f"}, {Schemata: []string{"x"}},
	} {
		if _, err := Plan(root, "c", want); err == nil || errs.HintOf(err) == "" {
			t.Errorf("%+v: %v", want, err)
		}
	}
}

func TestClassThatIsThere(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "gold")
	class(t, dir, "    MB:0= 20;1=100\n    L3:0=007f0;1=0001f\n")
	for _, x := range []struct {
		want spec.IntelRdt
		ok   bool
	}{
		{spec.IntelRdt{Class: "gold"}, true},
		{spec.IntelRdt{Class: "gold", L3: "L3:0=7F0"}, true},
		{spec.IntelRdt{Class: "gold", L3: "L3:0=7f0;1=1f", Bandwidth: "MB:1=100"}, true},
		{spec.IntelRdt{Class: "gold", L3: "L3:0=7f1"}, false},
		{spec.IntelRdt{Class: "gold", Schemata: []string{"L2:0=f"}}, false},
	} {
		s, err := Plan(root, "c", x.want)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Make(root, x.want); (err == nil) != x.ok {
			t.Errorf("%+v: %v", x.want, err)
		}
	}
	if got := read(t, dir+"/schemata"); !strings.HasPrefix(got, "    MB") {
		t.Errorf("it was written: %q", got)
	}
	s := Share{Dir: dir}
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
	if !exists(dir) {
		t.Error("a class of others was removed")
	}
}

func TestOwnClass(t *testing.T) {
	root := t.TempDir()
	want := spec.IntelRdt{L3: "L3:0=f", Bandwidth: "MB:0=20", Schemata: []string{"L2:0=3", "L3:0=7"}, Monitoring: true}
	s, err := Plan(root, "c", want)
	if err != nil {
		t.Fatal(err)
	}
	class(t, s.Dir, "")
	if err := s.Make(root, want); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s.Dir+"/schemata"); got != "L3:0=f\nMB:0=20\nL2:0=3\nL3:0=7\n" {
		t.Errorf("schemata %q", got)
	}
	class(t, s.Monitor, "")
	if got := strings.Join(s.Enter(), " "); got != s.Dir+"/tasks "+s.Monitor+"/tasks" {
		t.Errorf("entered by %s", got)
	}
	if got := s.Words(want); len(got) != 2 || !strings.Contains(got[0], "L3:0=f, MB:0=20") {
		t.Errorf("words %q", got)
	}
	for _, dir := range []string{s.Monitor, s.Dir} { // what the kernel removes with a class
		for _, name := range []string{"schemata", "tasks", "mon_groups"} {
			_ = os.Remove(filepath.Join(dir, name))
		}
		if dir == s.Monitor {
			if err := (Share{Monitor: dir}).Remove(); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(filepath.Join(s.Dir, "mon_groups"))
		}
	}
	for range 2 {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	}
	if exists(s.Dir) {
		t.Error("it is still there")
	}
}

// TestReason: what the kernel says of its refusal is told.
func TestReason(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(root+"/info", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/info/last_cmd_status", []byte("Invalid mask\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := Share{Dir: root + "/c", Own: true}.Make(root, spec.IntelRdt{L3: "L3:0=0"}) // of no files
	if err == nil || !strings.Contains(err.Error(), "Invalid mask") {
		t.Error(err)
	}
}
