package crash_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/testimage"
)

// bundles is a world of containers of OCI bundles.
type bundles struct {
	*world
	sleeps string // a bundle whose command does not end
	ends7  string // and one that ends with status 7
}

func newBundles(t *testing.T) *bundles {
	t.Helper()
	lookAtSources(t)
	dir := t.TempDir()
	b := &bundles{world: &world{t: t, root: filepath.Join(dir, "root"), run: filepath.Join(dir, "run"), mounts: mounts(t)}}
	rootfs := filepath.Join(dir, "rootfs")
	testimage.Busybox(t).WriteRootFS(t, rootfs)
	for _, x := range []struct {
		to   *string
		name string
		args []string
	}{{&b.sleeps, "sleeps", []string{"sleep", "1000"}}, {&b.ends7, "ends7", []string{"sh", "-c", "exit 7"}}} {
		*x.to = filepath.Join(dir, x.name)
		if err := os.Mkdir(*x.to, 0o755); err != nil {
			t.Fatal(err)
		}
		b.have(0, "spec", "-b", *x.to)
		describe(t, filepath.Join(*x.to, "config.json"), rootfs, x.args)
	}
	return b
}

// describe changes a config.json: a command without a terminal, on a root file system.
func describe(t *testing.T, file, rootfs string, args []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	var c map[string]any
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err == nil {
		c["root"] = map[string]any{"path": rootfs, "readonly": true}
		p := c["process"].(map[string]any)
		p["args"], p["terminal"] = args, false
		text, err = json.Marshal(c)
	}
	if err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bundles) oci(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(os.Getenv(inside), "corten-oci"), append([]string{"--root", b.root}, args...)...)
}

// have runs a command, which has to end with a status, in time.
func (b *bundles) have(want int, args ...string) string {
	b.t.Helper()
	got, said := b.tell(args...)
	if got != want {
		b.t.Errorf("corten-oci %s: status %d\n%s", strings.Join(args, " "), got, said)
	}
	return said
}

// tell runs a command and returns how it ended, and what it said.
func (b *bundles) tell(args ...string) (int, string) {
	cmd := b.oci(args...)
	out, err := os.CreateTemp(b.t.TempDir(), "said") // a container holds it open: of a pipe the end would be waited for
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	late := time.AfterFunc(patience, func() {
		b.t.Errorf("corten-oci %s hangs", strings.Join(args, " "))
		_ = cmd.Process.Kill()
	})
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	_ = cmd.Wait()
	late.Stop()
	text, _ := os.ReadFile(out.Name())
	return cmd.ProcessState.ExitCode(), string(text)
}

// gone deletes a container, whatever it does, after which there is nothing left.
func (b *bundles) gone(where string) {
	b.t.Helper()
	b.have(0, "delete", "-f", "c")
	if !b.ends() {
		b.t.Error(where)
	}
	b.nothing(where)
}

func (b *bundles) nothing(where string) {
	b.t.Helper()
	left := b.groupsLeft()
	for _, m := range mounts(b.t) {
		if !slices.Contains(b.mounts, m) {
			left = append(left, "mount "+m)
		}
	}
	for _, n := range names(b.root) {
		if n != "seccomp,cache" {
			left = append(left, fmt.Sprintf("%s: %v", n, names(filepath.Join(b.root, n))))
		}
	}
	if len(left) > 0 {
		b.t.Errorf("%s: left behind:\n\t%s", where, strings.Join(left, "\n\t"))
	}
}

// verb is a command that is killed, with what is done before.
type verb struct {
	name   string
	args   []string
	before [][]string
	after  []string // the statuses that the container may have then; none: it may be gone
}

func (b *bundles) verbs() []verb {
	create, start, pause := []string{"create", "-b", b.sleeps, "c"}, []string{"start", "c"}, []string{"pause", "c"}
	any := []string{"creating", "created", "running", "stopped", ""}
	return []verb{
		{"create", create, nil, any},
		{"run", []string{"run", "-b", b.ends7, "c"}, nil, any},
		{"start", start, [][]string{create}, []string{"created", "running"}},
		{"exec", []string{"exec", "c", "true"}, [][]string{create, start}, []string{"running"}},
		{"update", []string{"update", "--pids-limit", "50", "c"}, [][]string{create, start}, []string{"running"}},
		{"pause", pause, [][]string{create, start}, []string{"running", "paused"}},
		{"resume", []string{"resume", "c"}, [][]string{create, start, pause}, []string{"running", "paused"}},
		{"kill", []string{"kill", "c", "KILL"}, [][]string{create, start}, []string{"running", "stopped"}},
		{"delete", []string{"delete", "-f", "c"}, [][]string{create, start}, any},
	}
}

// TestBundleVerbsKilled kills each verb before its system calls, and before those of the process that is to
// be the container's. The container does then what a verb can have had it do, the next create of its id
// works or says that it is there, and a delete leaves nothing.
func TestBundleVerbsKilled(t *testing.T) {
	if !canTrace {
		t.Skip("needs an amd64 machine")
	}
	b := newBundles(t)
	for i, v := range b.verbs() {
		t.Run(v.name, func(t *testing.T) {
			w := *b.world
			w.t = t
			b := &bundles{&w, b.sleeps, b.ends7}
			n, step := 1+(i+os.Getpid())%10, 10
			if full() {
				n, step = 1, 1
			}
			first := n
			for done := false; !done && !t.Failed(); n += step {
				done = b.killAt(v, n)
			}
			t.Logf("%d points", (n-first)/step)
		})
	}
}

func (b *bundles) killAt(v verb, n int) (done bool) {
	b.t.Helper()
	for _, args := range v.before {
		b.have(0, args...)
	}
	count, where := 0, ""
	cmd := b.oci(v.args...)
	ws := trace(b.t, cmd, func(c call) verdict {
		if !full() && idle(c.nr) {
			return verdict{}
		}
		if count++; count != n {
			return verdict{}
		}
		where = fmt.Sprintf("%s killed at %d: %v", v.name, n, c)
		return verdict{killCommand: true}
	})
	if where == "" && ws.ExitStatus() != 0 && ws.ExitStatus() != 7 {
		b.t.Errorf("%s without a kill: %v", v.name, ws)
	}
	b.looks(v, where)
	if v.name == "create" {
		if code, said := b.tell("create", "-b", b.sleeps, "c"); code != 0 && !strings.Contains(said, "exists") {
			b.t.Errorf("%s: create again: %s", where, said)
		}
	}
	b.gone(where)
	return where == ""
}

// looks has a container do what a verb allows.
func (b *bundles) looks(v verb, where string) {
	b.t.Helper()
	status := ""
	code, said := b.tell("state", "c")
	if code == 0 {
		var s struct{ Status string }
		if err := json.Unmarshal([]byte(said), &s); err != nil {
			b.t.Errorf("%s: %v: %s", where, err, said)
		}
		status = s.Status
	} else if !strings.Contains(said, "does not exist") {
		b.t.Errorf("%s: state: %s", where, said)
	}
	if !slices.Contains(v.after, status) {
		b.t.Errorf("%s: it is %q", where, status)
	}
}

// TestBundleCrowd has many commands at once do what they like with two containers, some of them killed in
// the middle. None waits for ever, errors are sentences, and in the end a delete of each leaves nothing.
func TestBundleCrowd(t *testing.T) {
	b := newBundles(t)
	rounds := 60
	if full() {
		rounds = 2000
	}
	var all sync.WaitGroup
	for worker := range 6 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(worker)))
			for range rounds {
				b.anything(random)
			}
		})
	}
	all.Wait()
	b.have(0, "delete", "-f", "other")
	b.gone("after a crowd")
}

func (b *bundles) anything(random *rand.Rand) {
	id := []string{"c", "c", "other"}[random.IntN(3)]
	verbs := [][]string{{"create", "-b", b.sleeps, id}, {"create", "-b", b.ends7, id}, {"start", id}, {"start", id}, {"delete", id}, {"delete", "-f", id},
		{"kill", id, "KILL"}, {"state", id}, {"list"}, {"exec", id, "true"}, {"pause", id}, {"resume", id}, {"run", "-b", b.ends7, id}, {"ps", id}}
	args := verbs[random.IntN(len(verbs))]
	cmd := b.oci(args...)
	out, err := os.CreateTemp("", "said")
	if err != nil {
		b.t.Error(err)
		return
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.t.Error(err)
		return
	}
	killed := random.IntN(4) == 0
	if killed {
		time.Sleep(time.Duration(random.IntN(10000)) * time.Microsecond)
		_ = cmd.Process.Signal(unix.SIGKILL)
	}
	late := time.AfterFunc(patience, func() {
		if args[0] != "exec" && args[0] != "run" { // these wait for a container that may be frozen
			b.t.Errorf("%q hangs", args)
		}
		_ = cmd.Process.Kill()
	})
	defer late.Stop()
	_ = cmd.Wait()
	text, _ := os.ReadFile(out.Name())
	if code := cmd.ProcessState.ExitCode(); code > 0 && !slices.Contains([]string{"run", "exec"}, args[0]) && !strings.Contains(string(text), "corten-oci: error: ") {
		b.t.Errorf("%q: status %d, said %q", args, code, text)
	}
	if strings.Contains(string(text), "panic") || strings.Contains(string(text), "goroutine ") {
		b.t.Errorf("%q: %s", args, text)
	}
}
