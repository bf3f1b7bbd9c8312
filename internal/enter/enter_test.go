package enter_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/enter"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// resident starts a container by the real programs and returns its folders and its id.
func resident(t *testing.T) (container.Dirs, spec.ContainerID) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containers are made by root for now")
	}
	bin := t.TempDir()
	const module = "github.com/cortenhq/corten/cmd/"
	for _, args := range [][]string{
		{"-ldflags=-s -w", module + "corten", module + "corten-image", module + "corten-keeper"},
		{"-ldflags=-s -w -E=main.entry", module + "corten-init"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", bin + "/"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	dirs := container.Dirs{Root: filepath.Join(t.TempDir(), "root"), Run: filepath.Join(t.TempDir(), "run")}
	corten := func(args ...string) {
		cmd := exec.Command(filepath.Join(bin, "corten"), append([]string{"--root", dirs.Root, "--run", dirs.Run}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	corten("run", "-d", "--name", "box", "--network", "none", "host", "sleep", "1000")
	t.Cleanup(func() { corten("rm", "-f", "box") })
	id, err := container.Find(dirs, "box")
	if err != nil {
		t.Fatal(err)
	}
	return dirs, id
}

// output executes a command in the container as it is now.
func output(ctx context.Context, dirs container.Dirs, id spec.ContainerID, most int, args ...string) (int, string, error) {
	s, err := container.Load(dirs, id)
	if err != nil {
		return 0, "", err
	}
	code, out, err := enter.Output(ctx, dirs, s, args, most)
	return code, string(out), err
}

// TestOutput is what a health check asks of a container.
func TestOutput(t *testing.T) {
	dirs, id := resident(t)
	shell := func(ctx context.Context, line string, most int) (int, string, error) {
		return output(ctx, dirs, id, most, "sh", "-c", line)
	}
	if code, out, err := shell(t.Context(), "echo one; echo two >&2; cat; exit 3", 100); code != 3 || out != "one\ntwo\n" || err != nil {
		t.Errorf("%d, %q, %v", code, out, err)
	}
	if _, out, err := shell(t.Context(), "yes | head -c 1000000", 10); out != "y\ny\ny\ny\ny\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	// What goes on in the background is not waited for.
	if code, out, err := shell(t.Context(), "sleep 500 & echo done", 100); code != 0 || out != "done\n" || err != nil {
		t.Errorf("%d, %q, %v", code, out, err)
	}
	if _, _, err := output(t.Context(), dirs, id, 100, "none"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, out, err := shell(ctx, "trap '' TERM; echo begun; sleep 600 & while :; do sleep 601; done", 100)
	if !errs.Is(err, errs.Canceled) || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("%q, %v", out, err)
	}
	if _, left, err := shell(t.Context(), "pgrep -f 'sleep 60[01]'", 100); left != "" || err != nil {
		t.Errorf("after the time was over there are processes %s, %v", left, err)
	}
	if _, _, err := shell(ctx, "true", 100); err == nil {
		t.Error("it ran though there was no time")
	}
}

// TestOtherProcess: a pid that belongs to another process by now is not entered.
func TestOtherProcess(t *testing.T) {
	dirs, id := resident(t)
	file := filepath.Join(container.Dir(dirs, id), "state.json")
	state, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(file, state, 0o600)
	wrong := strings.Replace(string(state), `"startTicks":`, `"startTicks":1`, 1)
	if err := os.WriteFile(file, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := output(t.Context(), dirs, id, 10, "true"); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Error(err)
	}
}
