package launch_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/launch/detached"
	"github.com/cortenhq/corten/internal/plan"
)

// TestLayClones: a tree has what the process would have cloned itself, from the same path.
func TestLayClones(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts are made by root")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := plan.Plan{
		Host: []plan.Step{plan.CloneMount{Path: t.TempDir(), As: plan.RootMount}},
		Child: []plan.Step{
			plan.OpenSource{Path: dir, As: "source"},
			plan.CloneMount{Path: dir, From: "source", As: "mount"},
			plan.Attributes{Mount: "mount", Set: []string{"ro"}},
			plan.Attach{Mount: "mount", Target: "/data"},
		},
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	err := detached.Aside(func() error {
		tree, err := launch.Lay(p, launch.Env{}, nil)
		if err != nil {
			return err
		}
		at, _ := tree.Find("/data/file")
		if text, err := os.ReadFile(at); err != nil || string(text) != "text" {
			t.Errorf("%s: %q, %v", at, text, err)
		}
		if err := os.WriteFile(at, nil, 0o644); err == nil {
			t.Error("it can be written to")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
