package engines_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cortenhq/corten/internal/testimage"
)

// The scripts in testdata/script/ENGINE are what users of an engine do, one file for each thing. Besides
// the commands of github.com/rogpeppe/go-internal/testscript there are
//
//	docker, podman, buildah, ctr ARGS...  the engine's client, told where its files are
//	exits N COMMAND...                    run a command, which has to end with exit code N
//	soon COMMAND...                       run a command until it succeeds
//	terminal COMMAND...                   run a command on a terminal
//	dockerd start|stop|kill               another daemon, for docker2: it has live-restore
//
// The clients are on PATH too. All scripts of an engine share its store, in which busybox is
// localhost/busybox, and the containers are named after the script.

// engine is one of those that are tested, and the programs it takes.
type engine struct {
	name  string
	needs map[string]string // program: Debian's package
	begin func(*testing.T, *place)
}

func engines() []engine {
	return []engine{
		{"docker", map[string]string{"/usr/sbin/dockerd": "docker.io", "/usr/bin/docker": "docker.io", "/usr/bin/containerd": "containerd", "/usr/sbin/iptables": "iptables"}, beginDocker},
		{"containerd", map[string]string{"/usr/bin/containerd": "containerd", "/usr/bin/ctr": "containerd"}, beginContainerd},
		{"podman", map[string]string{"/usr/bin/podman": "podman", "/usr/bin/conmon": "conmon"}, beginPodman},
		{"buildah", map[string]string{"/usr/bin/buildah": "buildah"}, beginBuildah},
	}
}

func TestEngines(t *testing.T) {
	lookAtSources(t)
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			for program, pkg := range e.needs {
				if _, err := os.Stat(program); err != nil {
					t.Skipf("no %s: apt-get install %s", program, pkg)
				}
			}
			p := newPlace(t)
			e.begin(t, p)
			// A group, so that the daemon outlives the scripts, which are parallel.
			t.Run("scripts", func(t *testing.T) {
				testscript.Run(t, testscript.Params{
					Dir:   filepath.Join("testdata/script", e.name),
					Setup: p.setup,
					Cmds: map[string]func(*testscript.TestScript, bool, []string){
						"docker": client("docker"), "docker2": client("docker2"), "podman": client("podman"), "buildah": client("buildah"), "ctr": client("ctr"),
						"exits": exits, "soon": soon, "terminal": terminal, "dockerd": p.daemon2,
					},
				})
			})
		})
	}
}

// place is where an engine and its scripts are.
type place struct {
	dir     string // everything
	runtime string // a link of a name of its own to the runtime that is tested
	archive string // the image, as docker save writes it
	second  *daemon
}

const busybox = "localhost/busybox:latest"

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{dir: t.TempDir()}
	p.runtime, p.archive = filepath.Join(p.dir, "bin", "tested"), filepath.Join(p.dir, "busybox.tar")
	must(t, os.Mkdir(filepath.Join(p.dir, "bin"), 0o755))
	must(t, os.Mkdir(filepath.Join(p.dir, "home"), 0o755))
	must(t, os.Symlink(os.Getenv(runtimeVar), p.runtime))
	testimage.Busybox(t).WriteDockerArchive(t, p.archive, busybox)
	return p
}

// wrap makes a command of the scripts.
func (p *place) wrap(t *testing.T, name string, argv ...string) {
	t.Helper()
	text := "#!/bin/sh\nexec " + strings.Join(argv, " ") + " \"$@\"\n"
	must(t, os.WriteFile(filepath.Join(p.dir, "bin", name), []byte(text), 0o755))
}

// path is a search path with the place's commands first.
func (p *place) path() string { return filepath.Join(p.dir, "bin") + ":" + os.Getenv("PATH") }

func (p *place) env() []string {
	return append(os.Environ(), "PATH="+p.path(), "HOME="+filepath.Join(p.dir, "home"))
}

func (p *place) setup(e *testscript.Env) error {
	e.Setenv("PATH", p.path())
	e.Setenv("HOME", filepath.Join(p.dir, "home"))
	e.Setenv("RUNTIME", p.runtime)
	e.Setenv("ARCHIVE", p.archive)
	e.Setenv("CONTAINERS_CONF", os.Getenv("CONTAINERS_CONF"))
	return nil
}

// do runs a command of the place that has to succeed.
func (p *place) do(t *testing.T, argv ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(p.dir, "bin", argv[0]), argv[1:]...)
	cmd.Env = p.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
}

// daemon is a server of an engine.
type daemon struct {
	t     *testing.T
	argv  []string
	env   []string
	ready []string // succeeds when it does its work
	log   string
	cmd   *exec.Cmd
}

func (d *daemon) start() error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command(d.argv[0], d.argv[1:]...)
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = d.env, log, log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ready := exec.Command(d.ready[0], d.ready[1:]...)
		ready.Env = d.env
		out, err := ready.CombinedOutput()
		if err == nil {
			return nil
		}
		if syscall.Kill(d.cmd.Process.Pid, 0) != nil || time.Now().After(deadline) {
			d.stop(syscall.SIGKILL)
			return fmt.Errorf("%s does not come up: %w: %s%s", d.argv[0], err, out, d.said())
		}
	}
}

// said is the end of its log.
func (d *daemon) said() string {
	text, _ := os.ReadFile(d.log)
	return string(text[max(0, len(text)-4000):])
}

func (d *daemon) stop(sig syscall.Signal) {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(sig)
	late := time.AfterFunc(30*time.Second, func() { _ = d.cmd.Process.Kill() })
	_ = d.cmd.Wait()
	late.Stop()
	d.cmd = nil
}

// run starts a daemon for as long as a test lasts.
func (d *daemon) run() {
	d.t.Helper()
	if err := d.start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		d.stop(syscall.SIGTERM)
		if d.t.Failed() {
			d.t.Logf("%s said at last: %s", d.argv[0], d.said())
		}
	})
}

// client is a command of the scripts that is on PATH.
func client(name string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if err := ts.Exec(name, args...); neg == (err == nil) {
			ts.Fatalf("%s %q: %v", name, args, err)
		}
	}
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
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

func soon(ts *testscript.TestScript, neg bool, args []string) {
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = ts.Exec(args[0], args[1:]...); neg == (err != nil) {
			return
		}
	}
	ts.Fatalf("%q: %v", args, err)
}

// terminal runs a command on a terminal, by script(1).
func terminal(ts *testscript.TestScript, neg bool, args []string) {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	if err := ts.Exec("script", "-qec", strings.Join(quoted, " "), "/dev/null"); neg == (err == nil) {
		ts.Fatalf("%q: %v", args, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
