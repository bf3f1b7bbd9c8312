// The scripts in testdata/script are the behaviour of corten-oci, one file for each thing that its users
// do. They run the real program, which TestMain builds, on a bundle in $WORK/bundle: a root file system
// of busybox and the config.json of corten-oci spec, without a terminal. Besides the commands of
// github.com/rogpeppe/go-internal/testscript there are
//
//	oci ARGS...          run corten-oci with a --root of the script's own
//	exits N oci ARGS...  run it, which has to end with exit code N
//	config EXPRESSION    change config.json: PATH = JSON, as in process.args = ["true"]
//	until ID STATUS      wait until a container is as it should be
//	agent SOCKET FILE    take a listener of a seccomp filter at a socket, write what was said of it to a file, and
//	                     answer: mkdir gets EDOM, all else goes on
//	reaches FILE N       wait until the number in a file is N, or more
//	beyond FILE OLD      wait until it is more than the one in another file
//	console FILE         take a terminal at $WORK/console.sock, and write what it shows to a file
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/criu"
	"github.com/cortenhq/corten/internal/testnet"
	"github.com/cortenhq/corten/internal/testsystemd"
)

const programs = "CORTEN_TEST_PROGRAMS"

func TestMain(m *testing.M) {
	if testnet.Inside() {
		if err := testnet.Up(); err != nil {
			fmt.Fprintln(os.Stderr, "set up the loopback interface:", err)
			os.Exit(2)
		}
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "corten-test-")
	if err == nil {
		err = errors.Join(build(dir, "corten-oci", " -E=github.com/cortenhq/corten/internal/kernel/nest.entry"), build(dir, "corten-net", ""),
			os.Setenv(programs, dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	code := testnet.Again()
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir, program, flags string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w"+flags, "-o", dir+"/", "github.com/cortenhq/corten/cmd/"+program)
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return cmd.Run()
}

func TestScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("containers are made by root")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs /bin/busybox: apt-get install busybox-static")
	}
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setup,
		Condition: func(name string) (bool, error) { // what the host has
			switch name {
			case "criu":
				return criu.Check() == nil, nil
			case "softdirty":
				return criu.TracksMemory(), nil
			}
			file := map[string]string{"numa": "/proc/self/numa_maps", "resctrl": "/sys/fs/resctrl/schemata", "cgroup-v1": "/sys/fs/cgroup/pids/cgroup.procs"}[name]
			if file == "" {
				return false, fmt.Errorf("there is no condition %s", name)
			}
			_, err := os.Stat(file)
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"oci":     perform,
			"exits":   exits,
			"config":  configure,
			"until":   until,
			"reaches": reaches,
			"beyond":  beyond,
			"console": console,
			"agent":   agent,
		},
	})
}

// TestSystemd runs the scripts of testdata/systemd beside a systemd of its own; "beside COMMAND" is a
// command of theirs.
func TestSystemd(t *testing.T) {
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs /bin/busybox: apt-get install busybox-static")
	}
	enter := testsystemd.Boot(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/systemd",
		Condition: func(name string) (bool, error) { // cgroup:NAME: there is this controller
			controller, ok := strings.CutPrefix(name, "cgroup:")
			if !ok {
				return false, fmt.Errorf("no condition %s", name)
			}
			groups, err := os.ReadFile("/proc/self/cgroup")
			v2, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
			return strings.Contains(string(groups), ":"+controller+":") || slices.Contains(strings.Fields(string(v2)), controller), err
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PROGRAM", filepath.Join(os.Getenv(programs), "corten-oci"))
			env.Setenv(entering, strings.Join(enter, " ")+" --wd="+env.WorkDir)
			return setup(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"oci":    perform,
			"config": configure,
			"until":  until,
			"beside": func(ts *testscript.TestScript, neg bool, args []string) {
				if err := ts.Exec(enter[0], append(enter[1:], args...)...); neg == (err == nil) {
					ts.Fatalf("%q: %v", args, err)
				}
			},
		},
	})
}

// entering is the variable of what is before command lines.
const entering = "ENTER"

// line is the command line of corten-oci.
func line(getenv func(string) string, args ...string) []string {
	all := append(strings.Fields(getenv(entering)), filepath.Join(os.Getenv(programs), "corten-oci"))
	if getenv(entering) != "" {
		all = append(all, "--systemd-cgroup")
	}
	return append(append(all, "--root", root(getenv)), args...)
}

func root(getenv func(string) string) string { return filepath.Join(getenv("WORK"), "state") }

func setup(env *testscript.Env) error {
	env.Setenv("PATH", os.Getenv(programs)+":"+env.Getenv("PATH"))
	env.Setenv("CORTEN_CRIU", os.Getenv("CORTEN_CRIU"))
	env.Defer(func() {
		ids, _ := run(line(env.Getenv, "list", "-q"))
		for _, id := range strings.Fields(string(ids)) {
			_, _ = run(line(env.Getenv, "delete", "-f", id))
		}
	})
	return furnish(filepath.Join(env.WorkDir, "bundle"))
}

// furnish makes a bundle.
func furnish(bundle string) error {
	rootfs := filepath.Join(bundle, "rootfs")
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "mnt"} {
		if err := os.MkdirAll(filepath.Join(rootfs, d), 0o755); err != nil {
			return err
		}
	}
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(rootfs, "bin/busybox"), b, 0o755); err != nil {
		return err
	}
	for _, name := range strings.Fields("sh cat dd id mount ps sleep true false echo touch ls grep kill tty hostname readlink stat env") {
		if err := os.Symlink("busybox", filepath.Join(rootfs, "bin", name)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(rootfs, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n"), 0o644); err != nil {
		return err
	}
	program := filepath.Join(os.Getenv(programs), "corten-oci")
	if out, err := exec.Command(program, "spec", "-b", bundle).CombinedOutput(); err != nil {
		return fmt.Errorf("spec: %w: %s", err, out)
	}
	return change(filepath.Join(bundle, "config.json"), "process.terminal", false)
}

func run(args []string) ([]byte, error) { return exec.Command(args[0], args[1:]...).Output() }

func perform(ts *testscript.TestScript, neg bool, args []string) {
	if err := call(ts, args); neg == (err == nil) {
		ts.Fatalf("corten-oci %q: %v", args, err)
	}
}

// apart has a command write to files: a container that it leaves behind would keep a pipe open, of
// which the script waits for the end.
const apart = `d=$(mktemp -d) && "$@" > $d/out 2> $d/err < /dev/null; code=$?; cat $d/out; cat $d/err >&2; rm -r $d; exit $code`

func call(ts *testscript.TestScript, args []string) error {
	all := line(ts.Getenv, args...)
	if slices.Contains(args, "create") || slices.Contains(args, "restore") {
		all = append([]string{"sh", "-c", apart, "sh"}, all...)
	}
	return ts.Exec(all[0], all[1:]...)
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 || args[1] != "oci" {
		ts.Fatalf("usage: exits CODE oci ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var e *exec.ExitError
	if err := call(ts, args[2:]); errors.As(err, &e) {
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func configure(ts *testscript.TestScript, _ bool, args []string) {
	path, value, ok := strings.Cut(strings.Join(args, " "), " = ")
	if !ok {
		ts.Fatalf("usage: config PATH = JSON")
	}
	var v any
	ts.Check(json.Unmarshal([]byte(value), &v))
	ts.Check(change(ts.MkAbs("bundle/config.json"), path, v))
}

// change sets a value of config.json; with a + at its end the path names a list that gets one more.
func change(file, path string, v any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	top := map[string]any{}
	if err := json.Unmarshal(text, &top); err != nil {
		return err
	}
	names := strings.Split(path, ".")
	at := top
	for _, n := range names[:len(names)-1] {
		next, ok := at[n].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[n] = next
		}
		at = next
	}
	if name, more := strings.CutSuffix(names[len(names)-1], "+"); more {
		list, _ := at[name].([]any)
		at[name] = append(list, v)
	} else {
		at[name] = v
	}
	if text, err = json.Marshal(top); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

func until(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		out, _ := run(line(ts.Getenv, "state", args[0]))
		if strings.Contains(string(out), `"status": "`+args[1]+`"`) {
			return
		}
	}
	ts.Fatalf("%s is not %s", args[0], args[1])
}

// number is the one in a file; 0 while it is written.
func number(file string) int {
	text, _ := os.ReadFile(file)
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

func awaitNumber(ts *testscript.TestScript, file string, enough func(int) bool) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if enough(number(file)) {
			return
		}
	}
	ts.Fatalf("%s stays at %d", file, number(file))
}

func reaches(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	awaitNumber(ts, ts.MkAbs(args[0]), func(n int) bool { return n >= want })
}

// beyond says that a counter went on from its memory: soon after the old value, and not from the beginning.
func beyond(ts *testscript.TestScript, _ bool, args []string) {
	old := number(ts.MkAbs(args[1]))
	awaitNumber(ts, ts.MkAbs(args[0]), func(n int) bool {
		if n > 0 && n < old {
			ts.Fatalf("it has begun anew: %d after %d", n, old)
		}
		return n > old
	})
}

// console takes a terminal in the background; what it showed is in the file when it has hung up.
func console(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs("console.sock"), Net: "unix"})
	ts.Check(err)
	file := ts.MkAbs(args[0])
	go func() {
		defer l.Close()
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		text, rights := make([]byte, 100), make([]byte, 100)
		_, n, _, _, err := c.ReadMsgUnix(text, rights)
		if err != nil {
			return
		}
		msgs, err := unix.ParseSocketControlMessage(rights[:n])
		if err != nil || len(msgs) != 1 {
			return
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil || len(fds) != 1 {
			return
		}
		master := os.NewFile(uintptr(fds[0]), "master")
		defer master.Close()
		seen, _ := io.ReadAll(master) // it ends with EIO
		_ = os.WriteFile(file+".new", seen, 0o644)
		_ = os.Rename(file+".new", file)
	}()
}
