package probe

import (
	"bytes"
	"context"
	"encoding/json"
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

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
)

// The test binary runs itself: as somebody else, or in namespaces of its own.
const inChild = "CORTEN_PROBE_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(inChild) {
	case "":
		os.Exit(m.Run())
	case "no more namespaces":
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			panic(err)
		}
		show(All(context.Background(), envOf(os.Args[1])))
	case "traces":
		before := traces()
		all := All(context.Background(), envOf(os.Args[1]))
		if after := traces(); before != after {
			os.Stderr.WriteString("before:\n" + before + "after:\n" + after)
			os.Exit(1)
		}
		show(all)
	case "hold":
		c, err := newHost(envOf(os.Args[1])).userNS()
		if err != nil {
			panic(err)
		}
		fmt.Println(c.PID)
		select {}
	default:
		show(All(context.Background(), envOf(os.Args[1])))
	}
}

func envOf(dir string) Env {
	return Env{Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run")}
}

func show(all []Result) {
	out := map[string][2]string{}
	for _, r := range all {
		out[r.Name] = [2]string{r.Answer.String(), r.Detail}
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		panic(err)
	}
}

// answers are those of a run of the test binary, by name: answer and detail.
func answers(t *testing.T, task, dir string, attr *syscall.SysProcAttr, env ...string) map[string][2]string {
	t.Helper()
	// By this link the binary can be executed whoever may enter its folder.
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"probe.test", dir}, Dir: "/", SysProcAttr: attr,
		Env: append([]string{"PATH=" + os.Getenv("PATH"), inChild + "=" + task}, env...)}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
			t.Skipf("this host does not allow the test process: %v", err)
		}
		t.Fatalf("%v\n%s", err, said.String())
	}
	got := map[string][2]string{}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// sharedDir is a folder that others can enter, and that belongs to uid.
func sharedDir(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "corten-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Mkdir(dir+"/root", 0o700), os.Mkdir(dir+"/run", 0o700), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, dir + "/root", dir + "/run"} {
		if err := os.Chown(d, uid, uid); err != nil {
			t.Skipf("root only: %v", err)
		}
	}
	return dir
}

func byName(all []Result) map[string]Result {
	m := map[string]Result{}
	for _, r := range all {
		m[r.Name] = r
	}
	return m
}

// TestWords holds the tables to what they are for: no line without its words.
func TestWords(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range groups() {
		for _, f := range g.features {
			if seen[f.name] {
				t.Errorf("%s: twice", f.name)
			}
			seen[f.name] = true
			for _, s := range []string{f.name, f.use, f.lost, f.get} {
				if s == "" || strings.HasSuffix(s, ".") || strings.TrimSpace(s) != s || strings.ContainsAny(s, "\n\t") {
					t.Errorf("%s: %q", f.name, s)
				}
			}
			if f.try == nil {
				t.Errorf("%s: nothing is tried", f.name)
			}
		}
	}
}

func TestThreeAnswers(t *testing.T) {
	tests := []struct {
		err        error
		anybody    Answer
		root, user Answer // where root alone may ask
	}{
		{nil, Yes, Yes, Yes},
		{unix.ENOSYS, No, No, No},
		{unix.EINVAL, No, No, No},
		{unix.EOPNOTSUPP, No, No, No},
		{&os.PathError{Op: "open", Path: "x", Err: unix.ENODEV}, No, No, No},
		{errs.Wrap("attach", "x", unix.ENOENT), No, No, No},
		{&refusal{unix.EINVAL, "why"}, No, No, No},
		{unix.EPERM, No, No, Unknown},
		{errors.Join(nil, unix.EACCES), No, No, Unknown},
		{unix.ENOSPC, Unknown, Unknown, Unknown},
		{unix.EMFILE, Unknown, Unknown, Unknown},
		{unix.EIO, Unknown, Unknown, Unknown},
		{errors.New("no system call"), Unknown, Unknown, Unknown},
	}
	for _, tt := range tests {
		got := [3]Answer{judge(tt.err).answer, (&host{root: true}).judge(tt.err).answer, (&host{}).judge(tt.err).answer}
		if want := [3]Answer{tt.anybody, tt.root, tt.user}; got != want {
			t.Errorf("%v: %v, want %v", tt.err, got, want)
		}
		if tt.err != nil && judge(tt.err).detail == "" {
			t.Errorf("%v: no word why", tt.err)
		}
	}
	if got := words(&refusal{unix.EOPNOTSUPP, "upper is remote"}); got != "operation not supported (EOPNOTSUPP): upper is remote" {
		t.Error(got)
	}
}

func TestMissing(t *testing.T) {
	for _, tt := range []struct {
		r    Result
		want bool
	}{
		{Result{Answer: Yes}, false},
		{Result{Answer: Unknown}, false},
		{Result{Answer: No}, true},
		{Result{Answer: No, Instead: "another"}, false},
	} {
		if got := tt.r.Missing(); got != tt.want {
			t.Errorf("%+v: %v", tt.r, got)
		}
	}
}

func TestGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	for _, r := range All(ctx, envOf(dir)) {
		if r.Answer != Unknown {
			t.Errorf("%s: %v", r.Name, r.Answer)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestTwoAtOnce has them not get into each other's way.
func TestTwoAtOnce(t *testing.T) {
	dir := t.TempDir()
	results := make(chan []Result)
	for range 2 {
		go func() { results <- All(t.Context(), envOf(dir)) }()
	}
	a, b := <-results, <-results
	for i := range a {
		if a[i].Answer != b[i].Answer {
			t.Errorf("%s: %v (%s) and %v (%s)", a[i].Name, a[i].Answer, a[i].Detail, b[i].Answer, b[i].Detail)
		}
	}
	if left, _ := filepath.Glob(dir + "/.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// traces is what a probe could leave behind: mounts, loop devices, groups, descriptors,
// children, and changes of this process.
func traces() string {
	var b strings.Builder
	for _, f := range []string{"/proc/self/mountinfo", "/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children"} {
		s, _ := os.ReadFile(f)
		b.Write(s)
	}
	status, _ := os.ReadFile("/proc/self/status")
	for l := range strings.Lines(string(status)) {
		switch name, _, _ := strings.Cut(l, ":"); name {
		case "Uid", "Gid", "CapEff", "NoNewPrivs", "Seccomp":
			b.WriteString(l)
		}
	}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "time_for_children", "user", "uts"} {
		s, _ := os.Readlink("/proc/self/ns/" + ns)
		b.WriteString(s + "\n")
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		s, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if !strings.HasPrefix(s, "anon_inode:[event") && !strings.HasPrefix(s, "/proc/") { // the runtime's
			b.WriteString(fd.Name() + " " + s + "\n")
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		if s, _ := line(l); strings.Contains(s, folderPrefix) {
			b.WriteString(l + " " + s + "\n")
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), groupPrefix+strconv.Itoa(os.Getpid())) {
			b.WriteString(path + "\n")
		}
		return nil
	})
	left, _ := filepath.Glob(filepath.Dir(os.Args[1]) + "/*/." + "*")
	b.WriteString(strings.Join(left, "\n"))
	return b.String()
}

// TestNothingLeftBehind runs in a mount namespace of its own, so that nobody else's mounts
// come between.
func TestNothingLeftBehind(t *testing.T) {
	dir := sharedDir(t, 0)
	answers(t, "traces", dir, &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS})
	for _, d := range []string{dir, dir + "/root", dir + "/run"} {
		if left, _ := filepath.Glob(d + "/.*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// TestKilled kills a probe while it holds a user namespace: who holds it ends too.
func TestKilled(t *testing.T) {
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"probe.test", t.TempDir()}, Env: []string{inChild + "=hold"}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, serr := fmt.Fscan(out, &pid)
	fd, perr := unix.PidfdOpen(pid, 0)
	if err := errors.Join(cmd.Process.Kill(), serr, perr); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = cmd.Wait()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	if n != 1 {
		t.Errorf("the holder lives on: %v", err)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// TestNoFolderYet makes none: a doctor is not what creates the state folder.
func TestNoFolderYet(t *testing.T) {
	dir := t.TempDir()
	all := byName(All(t.Context(), Env{Root: dir + "/not/yet", Run: dir + "/nor/this"}))
	if r := all["state folder"]; r.Answer != Yes {
		t.Errorf("%+v", r)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestKilledBefore has a probe remove what one left that was killed long ago.
func TestKilledBefore(t *testing.T) {
	dir := t.TempDir()
	env := envOf(dir)
	old, young := env.Root+"/"+folderPrefix+"1", env.Root+"/"+folderPrefix+"2"
	if err := errors.Join(os.MkdirAll(old+"/sub", 0o700), os.MkdirAll(young, 0o700), os.Chtimes(old, time.Unix(0, 0), time.Unix(0, 0))); err != nil {
		t.Fatal(err)
	}
	All(t.Context(), env)
	left, _ := filepath.Glob(env.Root + "/.*")
	if len(left) != 1 || left[0] != young {
		t.Errorf("left: %v", left)
	}
}

// TestOrdinaryUser: what needs root is unknown, what anybody may ask is answered as it is for
// root, and a folder that cannot be written to is no answer about its file system.
func TestOrdinaryUser(t *testing.T) {
	const nobody = 65534
	if os.Getuid() != 0 {
		t.Skip("root only")
	}
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	dir := sharedDir(t, nobody)
	got := answers(t, "user", dir, attr)
	root := byName(All(t.Context(), envOf(dir)))
	for name, r := range root {
		g, ok := got[name]
		switch {
		case !ok:
			t.Errorf("%s: not asked", name)
		case onlyRoot(name) && g[0] != "unknown":
			t.Errorf("%s: %v, only root can tell", name, g)
		case sameForAll(name) && g[0] != r.Answer.String():
			t.Errorf("%s: %v, for root %v (%s)", name, g, r.Answer, r.Detail)
		case g[0] != "yes" && g[1] == "":
			t.Errorf("%s: %v without a word why", name, g)
		}
	}
	for _, name := range []string{"lingering", "XDG_RUNTIME_DIR"} {
		if got[name][0] != "no" {
			t.Errorf("%s: %v", name, got[name])
		}
	}

	run := dir + "/run"
	if got := answers(t, "user", dir, attr, "XDG_RUNTIME_DIR="+run); got["XDG_RUNTIME_DIR"] != [2]string{"yes", run} {
		t.Errorf("with XDG_RUNTIME_DIR: %v", got["XDG_RUNTIME_DIR"])
	}
	got = answers(t, "user", sharedDir(t, 0), attr)
	for name, want := range map[string]string{"state folder": "no", "run folder": "no", "reflink": "unknown", "fs-verity": "unknown", "O_TMPFILE": "unknown"} {
		if got[name][0] != want {
			t.Errorf("without a folder, %s: %v, want %s", name, got[name], want)
		}
	}
}

func onlyRoot(name string) bool {
	switch name {
	case "new mount API", "move_mount", "idmapped mounts", "overlay on detached layers", "overlay on idmapped layers",
		"overlay data-only layers", "EROFS from a loop device", "idmapped tmpfs", "devpts instances":
		return true
	}
	return false
}

func sameForAll(name string) bool {
	switch name {
	case "clone3", "pidfd", "pidfd exit status", "close_range", "openat2", "overlay", "statmount", "state folder",
		"fs-verity", "reflink", "O_TMPFILE", "project quotas", "discard", "seccomp", "no_new_privs", "Landlock", "AppArmor",
		"SELinux", "BPF LSM", "keyrings", "Yama", "control groups", "cgroup v2 controllers", "IPv6", "forwarding",
		"TIOCGPTPEER", "systemd", "userfaultfd", "io_uring":
		return true
	}
	return false
}

// TestNoMoreNamespaces runs in a user namespace that allows no further one: a real limit,
// found and named.
func TestNoMoreNamespaces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root only")
	}
	ids := []syscall.SysProcIDMap{{HostID: 0, Size: 1}}
	got := answers(t, "no more namespaces", sharedDir(t, 0), &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids})
	if want := [2]string{"no", "a limit is reached; user.max_user_namespaces is 0"}; got["user namespace"] != want {
		t.Errorf("user namespace: %v, want %v", got["user namespace"], want)
	}
	for _, name := range []string{"mount namespace", "network namespace", "time namespace"} {
		if got[name][0] != "unknown" {
			t.Errorf("%s: %v", name, got[name])
		}
	}
	if got["openat2"][0] != "yes" {
		t.Errorf("openat2: %v", got["openat2"])
	}
}
