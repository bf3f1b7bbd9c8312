// Package crash_test holds Corten to being crash-only: any process may be killed at any
// instruction, any system call may fail, and nothing is lost, nothing is wedged, and the
// next command cleans up.
//
// The tests live in a world of their own: TestMain starts the test again in new mount, pid
// and cgroup namespaces, below control groups made for it. Whatever is in that world beyond
// the test itself was left by a container, so that the tests can count everything, and
// nothing of the machine can be mistaken for it or harmed.
//
// A few points of each start, and a few dozen rounds at random, are tried by default;
// CORTEN_CRASH=full tries all points and 500 rounds, CORTEN_CRASH_ROUNDS says how many rounds.
package crash_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/testworld"
)

// inside is set for the copy of the test that runs in the world of its own: the folder of
// the built programs.
const inside = "CORTEN_CRASH_BIN"

// full reports whether to try every point rather than a few.
func full() bool { return os.Getenv("CORTEN_CRASH") == "full" }

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == writerName {
		os.Exit(write(os.Args[1:]))
	}
	if os.Getenv(inside) != "" {
		if err := testworld.Settle(); err != nil {
			fmt.Fprintln(os.Stderr, "make a world for the test:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Println("skipped: needs root")
		os.Exit(0)
	}
	code, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a world for the test:", err)
		code = 1
	}
	os.Exit(code)
}

// outside builds the programs and runs the test again in its world.
func outside() (int, error) {
	bin, err := os.MkdirTemp("", "corten-crash-bin-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(bin)
	if err := build(bin); err != nil {
		return 1, err
	}
	return testworld.Again("corten-crash", inside+"="+bin)
}

func build(bin string) error {
	for _, args := range [][]string{
		{"build", "-ldflags", "-E=github.com/cortenhq/corten/internal/kernel/nest.entry", "-o", bin, "github.com/cortenhq/corten/cmd/corten", "github.com/cortenhq/corten/cmd/corten-image", "github.com/cortenhq/corten/cmd/corten-oci"},
		{"build", "-o", bin, "github.com/cortenhq/corten/cmd/corten-format", "github.com/cortenhq/corten/cmd/corten-keeper", "github.com/cortenhq/corten/cmd/corten-net"},
		{"build", "-ldflags", "-E=main.entry", "-o", bin, "github.com/cortenhq/corten/cmd/corten-init"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	if err := os.Chmod(filepath.Join(bin, "corten-init"), 0o711); err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bin, writerName), self, 0o755)
}
