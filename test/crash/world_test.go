package crash_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// world is a pair of state folders, and what there was before.
type world struct {
	t         testing.TB
	root, run string
	mounts    []string
	kept      []string // names of containers that ended and stay
	files     string   // what the image has where its volume is
}

func newWorld(t testing.TB) *world {
	t.Helper()
	lookAtSources(t)
	dir := t.TempDir()
	w := &world{t: t, root: filepath.Join(dir, "root"), run: filepath.Join(dir, "run"), mounts: mounts(t)}
	if !w.ends() {
		t.Fatal("left by a test before")
	}
	t.Cleanup(func() {
		if t.Failed() { // the next test is not to suffer
			_ = w.corten("run", "--rm", "host", "true").Run()
		}
	})
	w.sweep() // what is made once, such as the mask of the host and the parent groups
	return w
}

// lookAtSources has go test know on what the result depends: the programs are none of the
// test's imports, and it would take an old result for theirs.
func lookAtSources(t testing.TB) {
	t.Helper()
	for _, dir := range []string{"../../cmd", "../../internal"} {
		if err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
}

// corten is a command on the world's folders. A container that is on no network by name is on none: what
// the tests of this package count and kill is then the rest of the engine. network_test.go has the others.
func (w *world) corten(args ...string) *exec.Cmd {
	if (args[0] == "run" || args[0] == "create") && !slices.Contains(args, "--network") {
		args = slices.Insert(slices.Clone(args), 1, "--network", "none")
	}
	cmd := exec.Command(filepath.Join(os.Getenv(inside), "corten"), append([]string{"--root", w.root, "--run", w.run}, args...)...)
	return cmd
}

// listen has a command write its errors to a file, and returns what reads it.
func (w *world) listen(cmd *exec.Cmd) (said func() string) {
	f, err := os.CreateTemp(w.t.TempDir(), "stderr")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { f.Close() })
	cmd.Stderr = f
	return func() string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			w.t.Fatal(err)
		}
		return string(b)
	}
}

// must runs a command that has to succeed and returns its stdout.
func (w *world) must(args ...string) string {
	w.t.Helper()
	cmd := w.corten(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("corten %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.String()
}

// sweep is the next command: it cleans up after those before.
func (w *world) sweep() {
	w.t.Helper()
	w.must("run", "--rm", "host", "true")
}

// reap collects orphans, which fall to this process. Only while no command runs that
// somebody else waits for.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil)
		if err != unix.EINTR && (err != nil || pid == 0) {
			return
		}
	}
}

// processes lists every process of the world but this one, in words.
func (w *world) processes() []string {
	w.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		w.t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it ended meanwhile
		}
		stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if rest != "" {
			list = append(list, fmt.Sprintf("process %d (%.1s): %s", pid, rest, bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return list
}

// ends waits until no process is left that nobody has asked to end: what is left has to
// notice by itself that the command was killed.
func (w *world) ends() bool {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		reap()
		left := w.processes()
		if len(left) == 0 {
			return true
		}
		if time.Now().After(deadline) {
			w.t.Errorf("still alive: %v", left)
			return false
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// leftovers lists whatever is in the world that should not be there: everything but kept
// containers, by their names.
func (w *world) leftovers(keep ...string) []string {
	w.t.Helper()
	reap()
	left := w.processes()
	left = append(left, w.groupsLeft()...)
	for _, m := range mounts(w.t) {
		if !slices.Contains(w.mounts, m) {
			left = append(left, "mount "+m)
		}
	}
	for _, dir := range []string{"active", "ids", "keep"} {
		for _, n := range names(filepath.Join(w.run, dir)) {
			left = append(left, dir+"/"+n)
		}
	}
	left = append(left, w.networksLeft()...)
	left = append(left, w.containersLeft(keep)...)
	if gone := names(filepath.Join(w.root, "gone")); len(gone) > 256 { // 64 that are next to empty may wait, and those whose removal was killed
		left = append(left, fmt.Sprintf("gone: %v", gone))
	}
	for _, n := range names(filepath.Join(w.root, "volumes")) {
		if strings.HasPrefix(n, ".") || len(n) == 64 && !w.mentioned(n) {
			left = append(left, "volumes/"+n)
		}
	}
	for _, dir := range []string{w.root, w.run} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(d.Name(), ".tmp-") {
				left = append(left, path)
			}
			return nil
		})
	}
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range backing {
		if b, _ := os.ReadFile(f); strings.HasPrefix(string(b), w.root) {
			left = append(left, f+": "+string(b))
		}
	}
	return left
}

// containersLeft compares containers and names with those that are kept.
func (w *world) containersLeft(keep []string) []string {
	var left []string
	held := map[string]string{}
	for _, n := range names(filepath.Join(w.root, "names")) {
		id, err := linked(filepath.Join(w.root, "names", n))
		if err != nil {
			left = append(left, "names/"+n+": "+err.Error())
		}
		held[id] = n
	}
	var kept []string
	for _, id := range names(filepath.Join(w.root, "containers")) {
		name := held[id]
		delete(held, id)
		if !slices.Contains(keep, name) {
			left = append(left, fmt.Sprintf("containers/%.12s: name %q, holds %v", id, name, names(filepath.Join(w.root, "containers", id))))
			continue
		}
		kept = append(kept, name)
		for _, f := range []string{"spec.json", "upper", "work"} {
			if _, err := os.Stat(filepath.Join(w.root, "containers", id, f)); err != nil {
				left = append(left, fmt.Sprintf("kept container %s lacks %s", name, f))
			}
		}
	}
	for id, n := range held {
		left = append(left, fmt.Sprintf("names/%s of no container: %s", n, id))
	}
	for _, n := range keep {
		if !slices.Contains(kept, n) {
			left = append(left, "container "+n+" is lost")
		}
	}
	return left
}

// linked is the id of the container that a link leads to, as FORMATS.md has it.
func linked(path string) (string, error) {
	target, err := os.Readlink(path)
	if err != nil {
		return "", err
	}
	b, err := base64.RawURLEncoding.DecodeString(target)
	return hex.EncodeToString(b), err
}

// mentioned reports whether a container has the volume.
func (w *world) mentioned(volume string) bool {
	specs, _ := filepath.Glob(filepath.Join(w.root, "containers", "*", "spec.json"))
	return slices.ContainsFunc(specs, func(f string) bool {
		b, _ := os.ReadFile(f)
		return bytes.Contains(b, []byte(volume))
	})
}

// groupsLeft lists control groups but those that stay for good.
func (w *world) groupsLeft() []string {
	var left []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || filepath.Base(filepath.Dir(path)) != "corten" {
			return nil
		}
		if !strings.HasPrefix(d.Name(), "device-filter-") && d.Name() != "keepers" {
			left = append(left, path)
		}
		return fs.SkipDir
	})
	return left
}

func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// mounts is the mount table without options.
func mounts(t testing.TB) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(b)) {
		list = append(list, strings.Join(strings.Fields(line)[:5], " "))
	}
	return list
}

// clean fails the test if anything is left, now, without another command.
func (w *world) clean(when string, keep ...string) bool {
	w.t.Helper()
	if left := w.leftovers(keep...); len(left) > 0 {
		w.t.Errorf("%s: left behind:\n\t%s", when, strings.Join(left, "\n\t"))
		return false
	}
	return true
}
