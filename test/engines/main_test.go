// Package engines_test has the container engines of others do their work by corten-oci: Docker, containerd, Podman
// and Buildah as Debian packages them, each told to use the program that is built from this tree.
//
// The tests live in a world of their own (package testworld), in which /run and /var/lib are empty: engines keep
// some of their files at places that no flag changes. Images are made by the test; nothing needs the network. An
// engine that is not installed is skipped by name.
//
// What fails here may be the engine's own doing, or the host's:
//
//	CORTEN_TEST_RUNTIME=/usr/sbin/runc go test ./test/engines
//
// runs the same with another runtime.
package engines_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/testworld"
)

const (
	runtimeVar = "CORTEN_TEST_RUNTIME" // the runtime; not set: corten-oci is built
	worldVar   = "CORTEN_TEST_ENGINES" // set in the world
	tendedVar  = "CORTEN_TEST_TENDED"  // set in the copy that tests
)

func TestMain(m *testing.M) {
	var code int
	var err error
	switch {
	case os.Getenv(tendedVar) != "":
		code = m.Run()
	case os.Getenv(worldVar) != "":
		if err = errors.Join(testworld.Settle(), empty("/run"), empty("/var/lib")); err == nil {
			code, err = testworld.Tend(tendedVar + "=1")
		}
	case os.Geteuid() != 0:
		fmt.Println("skipped: needs root")
	default:
		code, err = outside()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a world for the test:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func empty(dir string) error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755") }

// outside builds the runtime and runs the test again in its world.
func outside() (int, error) {
	dir, err := os.MkdirTemp("", "corten-engines-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	runtime := os.Getenv(runtimeVar)
	if runtime == "" {
		runtime = filepath.Join(dir, "corten-oci")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -E=github.com/cortenhq/corten/internal/kernel/nest.entry", "-o", runtime, "github.com/cortenhq/corten/cmd/corten-oci")
		cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := cmd.Run(); err != nil {
			return 1, err
		}
	}
	if _, err := os.Stat(runtime); err != nil {
		return 1, err
	}
	return testworld.Again("corten-engines", worldVar+"=1", runtimeVar+"="+runtime)
}

// lookAtSources has go test know on what the result depends: the runtime is none of the test's imports,
// and it would take an old result for its.
func lookAtSources(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"../../cmd/corten-oci", "../../internal"} {
		if err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
}
