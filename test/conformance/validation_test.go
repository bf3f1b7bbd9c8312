// Package conformance has the suites of others judge Corten's programs, beside those that do the same
// work. It takes the network the first time, minutes every time, and so CORTEN_TEST_CONFORMANCE=1.
package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The suite of the OCI runtime specification, and what it was written for: newer ones do not
// compile with it.
const (
	suite = "github.com/opencontainers/runtime-tools"
	tools = suite + "@v0.9.0"
	types = "github.com/opencontainers/runtime-spec@v1.0.2"
	label = "github.com/opencontainers/selinux@v1.2.2"
)

// TestValidation: of every program of the suite at least as many cases pass as with runc and crun here.
func TestValidation(t *testing.T) {
	if os.Getenv("CORTEN_TEST_CONFORMANCE") == "" {
		t.Skip("takes minutes: make conformance")
	}
	if os.Geteuid() != 0 {
		t.Skip("containers are made by root")
	}
	dir, programs := suiteIn(t)
	own := filepath.Join(t.TempDir(), "corten-oci")
	cmd := exec.Command("go", "build", "-trimpath", "-o", own, "github.com/cortenhq/corten/cmd/corten-oci")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build corten-oci: %v: %s", err, out)
	}
	runtimes := []string{own}
	for _, name := range []string{"runc", "crun"} {
		if path, err := exec.LookPath(name); err == nil {
			runtimes = append(runtimes, path)
		}
	}
	for _, program := range programs {
		var line strings.Builder
		best, mine := 0, 0
		for i, runtime := range runtimes {
			passed, all := judge(t, dir, program, runtime)
			fmt.Fprintf(&line, "  %s %d/%d", filepath.Base(runtime), passed, all)
			if i == 0 {
				mine = passed
			}
			best = max(best, passed)
		}
		t.Logf("%-36s%s", program, line.String())
		if mine < best {
			t.Errorf("%s:%s", program, line.String())
		}
	}
}

// suiteIn builds the suite in the cache folder, once, and returns its folder and its programs.
func suiteIn(t *testing.T) (dir string, programs []string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(cache, "corten-test", "runtime-tools-0.9.0")
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
		build(t, dir)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		programs = append(programs, e.Name())
	}
	return dir, programs
}

func build(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(dir, "go.mod"))
	command(t, dir, "go", "mod", "init", "validation")
	command(t, dir, "go", "get", tools, suite+"/validation/start@v0.9.0", suite+"/cmd/runtimetest@v0.9.0")
	command(t, dir, "go", "get", types, label)
	source := strings.TrimSpace(command(t, dir, "go", "list", "-m", "-f", "{{.Dir}}", suite))
	folders, err := os.ReadDir(filepath.Join(source, "validation"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"build", "-o", "bin/"}
	for _, f := range folders {
		if f.IsDir() && f.Name() != "util" {
			args = append(args, suite+"/validation/"+f.Name())
		}
	}
	command(t, dir, "go", args...)
	command(t, dir, "go", "build", "-o", "runtimetest", suite+"/cmd/runtimetest")
	command(t, dir, "cp", filepath.Join(source, "rootfs-amd64.tar.gz"), ".")
	if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// most is how long a program may take: some wait for half a minute.
const most = 60 * time.Second

// judge runs a program of the suite, and counts the cases that pass, and all.
func judge(t *testing.T, dir, program, runtime string) (passed, all int) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), program) // a file: what a container holds open would keep a pipe
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(dir, "bin", program))
	cmd.Dir, cmd.Stdout = dir, out
	cmd.Env = append(os.Environ(), "RUNTIME="+runtime, "TMPDIR="+t.TempDir())
	// A container without a mount namespace of its own, as linux_ns_itype makes it, has its mounts in ours.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Unshareflags: unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(most, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // it says by its cases what was wrong
	late.Stop()
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	ok := len(regexp.MustCompile(`(?m)^ok `).FindAll(text, -1))
	return ok, ok + len(regexp.MustCompile(`(?m)^not ok `).FindAll(text, -1))
}
