package cgroup

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/spec"
)

// testParent holds every group that the tests make, in each hierarchy.
var testParent = "/corten-test-" + strconv.Itoa(os.Getpid())

// TestMain runs the tests, or, as a process in a group, one of the helpers below.
func TestMain(m *testing.M) {
	if helper := os.Getenv("CORTEN_TEST_HELPER"); helper != "" {
		os.Exit(help(helper))
	}
	host := Detect()
	before, _ := readFile(path.Join(host.V2.Mount, "cgroup.subtree_control"))
	usual := path.Join(host.V2.Mount, DefaultParent) // has the kept device filter
	_, missing := os.Stat(usual)
	code := m.Run()
	if missing != nil && host.V2.Mount != "" {
		_ = removeDir(usual)
	}
	for _, t := range append(host.V1, host.V2) {
		if t.Mount == "" {
			continue
		}
		if err := removeDir(path.Join(t.Mount, testParent)); err != nil {
			fmt.Fprintln(os.Stderr, "left behind:", path.Join(t.Mount, testParent), err)
			code = 1
		}
	}
	after, _ := readFile(path.Join(host.V2.Mount, "cgroup.subtree_control"))
	for _, c := range strings.Fields(after) {
		if !handsDown(before, "+"+c) {
			_ = writeFile(path.Join(host.V2.Mount, "cgroup.subtree_control"), "-"+c)
		}
	}
	os.Exit(code)
}

// help is what a process in a group does. It says "ready" and then waits for a line.
func help(name string) int {
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return 99
	}
	name, arg, _ := strings.Cut(name, " ")
	switch name {
	case "allocate": // MiB
		n, _ := strconv.Atoi(arg)
		block := make([]byte, n<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
	case "open": // type major minor flags, several
		return tryDevices(arg)
	case "scope":
		return delegated(arg)
	}
	return 0
}

// realHost is the host if the tests may make groups on it.
func realHost(t *testing.T) Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	host := Detect()
	if host.V2.Base != "/" && (len(host.V1) == 0 || host.V1[0].Base != "/") {
		t.Skip("needs control groups that can be written")
	}
	return host
}

// has reports whether a host has a controller, in v2 or v1.
func has(h Host, v2, v1 string) bool {
	for _, t := range h.V1 {
		if t.has(v1) {
			return true
		}
	}
	return h.V2.has(v2)
}

func need(t *testing.T, h Host, v2, v1 string) {
	t.Helper()
	if !has(h, v2, v1) {
		t.Skip("needs the controller ", cmp.Or(v2, v1))
	}
}

// makeGroup makes a group for a test and removes it after.
func makeGroup(t *testing.T, h Host, r spec.Resources, account bool) Group {
	t.Helper()
	p, err := New(h, Request{Resources: r, Parent: testParent, ID: groupName(t), Account: account})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Make(); err != nil {
		t.Fatal(err)
	}
	g := p.Group
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := errors.Join(g.Kill(ctx), g.Remove(ctx)); err != nil {
			t.Error(err)
		}
		for _, dir := range g {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is still there", dir)
			}
		}
	})
	v2, tasks := g.Enter()
	if v2 != p.V2 || !slices.Equal(tasks, p.Enter) {
		t.Fatalf("the plan enters %q %q, the group %q %q", p.V2, p.Enter, v2, tasks)
	}
	return g
}

// dirOf is the directory of a group that has a controller's files.
func dirOf(t *testing.T, h Host, g Group, v2, v1 string) (dir string, isV2 bool) {
	t.Helper()
	mount := h.V2.Mount
	for _, tree := range h.V1 {
		if tree.has(v1) {
			mount = tree.Mount
		}
	}
	for _, dir := range g {
		if below(mount, dir) {
			return dir, mount == h.V2.Mount
		}
	}
	t.Fatalf("%v has no controller %s", g, v2)
	return "", false
}

func groupName(t *testing.T) string { return strings.ReplaceAll(t.Name(), "/", "_") }

// process is a helper or a command in a group.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs a command in the group: it is born in the v2 group and joins the others by itself,
// as a container does.
func start(t *testing.T, g Group, args ...string) *process {
	t.Helper()
	join := `for f in $TASKS; do echo 0 > "$f" || exit 98; done; exec "$@"`
	cmd := exec.Command("sh", append([]string{"-c", join, "sh"}, args...)...)
	v2, tasks := g.Enter()
	cmd.Env = append(os.Environ(), "TASKS="+strings.Join(tasks, " "))
	cmd.Stderr = os.Stderr
	if v2 != "" {
		fd, err := open(v2, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	}
	p := &process{Cmd: cmd}
	p.in, _ = cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	p.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

// startHelper runs a helper up to its "ready".
func startHelper(t *testing.T, g Group, name string) *process {
	t.Helper()
	p := start(t, g, "env", "CORTEN_TEST_HELPER="+name, os.Args[0])
	p.expect(t, "ready")
	return p
}

func (p *process) expect(t *testing.T, want string) {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if strings.TrimSpace(line) != want {
		t.Fatalf("got %q (%v), want %q", line, err, want)
	}
}

// finish lets a helper go on and waits for its end.
func (p *process) finish(t *testing.T) syscall.WaitStatus {
	t.Helper()
	fmt.Fprintln(p.in)
	_ = p.Wait()
	return p.ProcessState.Sys().(syscall.WaitStatus)
}

func read(t *testing.T, file string) string {
	t.Helper()
	s, err := readFile(file)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return strings.TrimSpace(s)
}

func context10s(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func ptr[T any](v T) *T { return &v }

// alive reports whether a process runs: not a zombie, not gone.
func alive(pid int) bool {
	s, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(s, ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X") && unix.Kill(pid, 0) == nil
}
