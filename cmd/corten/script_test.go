// The scripts in testdata/script are the behaviour of Corten as a user meets it, one file for
// each thing that a user can do. They run against the real programs, which TestMain builds.
//
// A script is a text archive (golang.org/x/tools/txtar): commands, then files that they find
// in their working folder $WORK, a new one for each script. Besides the commands of
// github.com/rogpeppe/go-internal/testscript (exec, stdout, stderr, cmp, stdin, ttyin, env ...)
// there are
//
//	corten ARGS...        run corten, which has to succeed; with a ! before it, to fail
//	exits N corten ARGS...  run corten, which has to end with exit code N
//	registry VARIABLE       start a registry, whose HOST:PORT goes into the variable
//	silent VARIABLE FILE    start a server that never answers: see images_test.go
//	notifier FILE           build the program of testdata/notify
//	notified FILE N ARGS... run corten with a socket to notify, and write what came: see service_test.go
//	user ARGS...            run a command as an ordinary user: see user_test.go
//	image NAME ...          make an image in a registry, a file or a folder: see images_test.go
//
// The first two leave what was written for stdout and stderr to look at. The programs are in the PATH,
// for exec and for scripts in files. CORTEN_ROOT, CORTEN_RUN and CORTEN_CNI_CONF name folders in $WORK, so that
// scripts run side by side and none sees the images and containers of another or of the host.
//
// Conditions, for what a machine may lack:
//
//	[root]   the tests run as root
//	[user]   and have what it takes to make an ordinary user
//	[quotas] folders of tests can be limited by project quotas
//	[criu]   there is a criu that knows this kernel, here or where CORTEN_CRIU says
//	[softdirty]  and the kernel tells it what memory was written to
//
// To run one script: go test ./cmd/corten -run 'TestScripts/^run$'. With -v it shows each
// command; with -update it writes what cmp finds into the script.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/quota"
	"github.com/cortenhq/corten/internal/testnet"
)

// programs is the folder that TestMain builds into.
const programs = "CORTEN_TEST_PROGRAMS"

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write what cmp finds into the scripts")
	flag.Parse()
	if testnet.Inside() {
		if err := testnet.Up(); err != nil {
			fmt.Fprintln(os.Stderr, "set up the loopback interface:", err)
			os.Exit(2)
		}
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "corten-test-")
	if err == nil {
		err = errors.Join(build(dir), os.Setenv(programs, dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	code := testnet.Again()
	os.RemoveAll(dir)
	os.Exit(code)
}

// build makes the programs as make build does.
func build(dir string) error {
	const module = "github.com/cortenhq/corten/cmd/"
	for _, args := range [][]string{
		{"-ldflags=-s -w -E=github.com/cortenhq/corten/internal/kernel/nest.entry", module + "corten", module + "corten-image"},
		{"-ldflags=-s -w", module + "corten-format", module + "corten-keeper", module + "corten-net", module + "corten-cni"},
		{"-ldflags=-s -w -E=main.entry", module + "corten-init"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", dir + "/"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %v: %w", args[1:], err)
		}
	}
	// As make build does: its users inside could else read and trace it. The folder is
	// for all, since containers of other users execute what is in it.
	b, err := os.ReadFile(filepath.Join(dir, "corten-init"))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "corten-init-user"), b, 0o755), os.Chmod(filepath.Join(dir, "corten-init"), 0o711), os.Chmod(dir, 0o755))
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: flag.Lookup("update").Value.String() == "true",
		Setup:         setup,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "user":
				return neededByUsers() == nil, nil
			case "quotas":
				return quota.Check(os.TempDir()) == nil, nil
			case "criu":
				return criu.Check() == nil, nil
			case "softdirty":
				return criu.TracksMemory(), nil
			}
			return false, fmt.Errorf("no condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"corten": func(ts *testscript.TestScript, neg bool, args []string) {
				if err := ts.Exec("corten", args...); neg == (err == nil) {
					ts.Fatalf("corten %q: %v", args, err)
				}
			},
			"exits":    exits,
			"registry": registry,
			"silent":   silent,
			"image":    image,
			"notified": notified,
			"notifier": notifier,
			"user":     asUser,
		},
	})
}

func setup(env *testscript.Env) error {
	for name, dir := range map[string]string{"CORTEN_ROOT": "state/root", "CORTEN_RUN": "state/run", "CORTEN_CNI_CONF": "net.d"} {
		env.Setenv(name, filepath.Join(env.WorkDir, dir))
	}
	env.Setenv("PATH", os.Getenv(programs)+":"+env.Getenv("PATH"))
	env.Setenv("CORTEN_CRIU", os.Getenv("CORTEN_CRIU"))
	env.Defer(func() { removeAll(env) })
	env.Values[accountKey{}] = &accountSlot{}
	return nil
}

// removeAll ends the containers that a script has left: those in the background would outlive
// the test.
func removeAll(env *testscript.Env) {
	corten := func(args ...string) ([]byte, error) {
		cmd := exec.Command(filepath.Join(os.Getenv(programs), "corten"), args...)
		cmd.Env = env.Vars
		return cmd.CombinedOutput()
	}
	if _, err := os.Stat(env.Getenv("CORTEN_ROOT")); err != nil {
		return
	}
	ids, err := corten("ps", "-aq")
	if err == nil && len(ids) > 0 {
		_, _ = corten(append([]string{"rm", "-fv"}, strings.Fields(string(ids))...)...)
	}
}

// exits runs a command that has to end with the exit code that comes first.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var e *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &e) {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
