package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// childJob is set for copies of the test binary: "worker ROOT SEED", or the name of a test
// that is to run in mount namespace of its own.
const childJob = "CORTEN_TEST_STORE_JOB"

func TestMain(m *testing.M) {
	if job := strings.Fields(os.Getenv(childJob)); len(job) == 3 && job[0] == "worker" {
		seed, _ := strconv.ParseUint(job[2], 10, 64)
		if err := work(job[1], rand.New(rand.NewPCG(seed, 0))); err != nil {
			fmt.Printf("worker %d: %v\n", seed, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// power makes the store forget that the machine has been up, as a power cut does.
func power(t *testing.T, s *Store) {
	ok(t, os.WriteFile(s.path("boot"), []byte("another boot\n"), 0o644))
}

// TestPowerCut is a model of one: what was not synced is short, gone or zeros.
func TestPowerCut(t *testing.T) {
	s := open(t)
	d := must(pull(s, refA, "a", []string{"synced", "shared"}))(t)
	l := must(s.Lease("pull"))(t)
	must(layer(l, "shared", "short", "lost", "zeros", "whole"))(t)
	ok(t, l.Close()) // it died with the machine
	path := func(content string) string { return s.objectPath(oci.FromBytes([]byte(content))) }
	ok(t, os.Truncate(path("short"), 2))
	ok(t, os.Remove(path("lost")))
	ok(t, os.Truncate(path("zeros"), 0))
	ok(t, os.Truncate(path("zeros"), 5))
	power(t, s)
	sound(t, s)
	must(s.Lookup(refA))(t) // images can be used without waiting for a lease

	l = lease(t, s)
	for content, want := range map[string]bool{"synced": true, "shared": true, "short": false, "zeros": false, "whole": false} {
		if s.HasObject(oci.FromBytes([]byte(content))) != want {
			t.Errorf("after the power cut, object %q is there: %v", content, !want)
		}
	}
	x := must(layer(l, "shared", "short", "lost", "zeros", "whole"))(t)
	ok(t, l.PutLayers(ctx, x))
	c := config("b", x.DiffID)
	m := manifest(c, x.DiffID)
	ok(t, l.PutBlob(oci.FromBytes(c), c))
	ok(t, l.PutBlob(oci.FromBytes(m), m))
	ok(t, s.SetRef(refB, descriptor(oci.TypeManifest, m)))
	sound(t, s)

	// A record that cannot be read is given up, and the layer can be pulled again.
	diff := layersOf(s, d.Digest)[0]
	ok(t, os.Remove(s.layerPath(diff)))
	ok(t, os.WriteFile(s.layerPath(diff), []byte("CLI"), 0o444))
	power(t, s)
	ok(t, l.Close())
	if must(lease(t, s).UseLayer(diff))(t) {
		t.Error("a record that cannot be read is still there")
	}
	must(pull(s, refA, "a", []string{"synced", "shared"}))(t)
	sound(t, s)
}

// TestSyncFailed has a disk that did not take what was written: nothing unrecorded may be
// trusted after that, even by a lease that began before.
func TestSyncFailed(t *testing.T) {
	s := open(t)
	other := lease(t, s)
	must(other.PutBytes([]byte("x")))(t)
	l := lease(t, s)
	must(l.PutBytes([]byte("x")))(t)
	// A descriptor that syncfs refuses stands for the error.
	file := l.file
	l.file = must(os.OpenFile(file.Name(), unix.O_PATH, 0))(t)
	if l.sync() == nil {
		t.Fatal("synced through O_PATH")
	}
	l.file.Close()
	l.file = file
	next := lease(t, s)
	if must(next.UseObject(oci.FromBytes([]byte("x"))))(t) {
		t.Error("an object that may be damaged is there")
	}
	x := must(layer(next, "y"))(t)
	x.Entries[1].Object = oci.FromBytes([]byte("x"))
	wantKind(t, other.PutLayers(ctx, x), errs.NotFound)
}

// alone runs the rest of the calling test in a mount namespace of its own, in a copy of the
// test binary: mounts made there end with it.
func alone(t *testing.T) (inside bool) {
	t.Helper()
	if os.Getenv(childJob) == t.Name() {
		ok(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount")
	}
	self := must(os.Executable())(t)
	child := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), childJob+"="+t.Name())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("%s", out)
	}
	t.Logf("%s", out)
	return false
}

// TestNoSpace fills a file system of 8 MiB in each step of a pull.
func TestNoSpace(t *testing.T) {
	if !alone(t) {
		return
	}
	root := t.TempDir()
	ok(t, unix.Mount("tmpfs", root, "tmpfs", 0, "size=8m"))
	defer unix.Unmount(root, unix.MNT_DETACH)
	s := must(Open(root))(t)
	must(pull(s, refA, "a", []string{"content"}))(t)
	before := contents(t, s)
	full := func(err error) {
		t.Helper()
		wantKind(t, err, errs.NoSpace)
		if errs.HintOf(err) == "" {
			t.Errorf("no hint: %v", err)
		}
	}

	l := must(s.Lease("fill"))(t)
	_, err := l.PutReader(endless{}, 16<<20)
	full(err)
	_, err = l.PutBytes(bytes.Repeat([]byte("x"), 16<<20))
	full(err)
	x := must(layer(l, "y"))(t)
	filler := fill(t, root)
	full(l.PutLayers(ctx, x))
	c := bytes.Repeat([]byte("c"), 64<<10)
	full(l.PutBlob(oci.FromBytes(c), c))
	k := NewTreeKey(EROFS, 1, nil)
	_, err = l.PutTree(k, func(path string) error { return os.WriteFile(path, c, 0o644) })
	full(err)
	d := must(s.Lookup(refA))(t)
	full(s.SetRef(refB+strings.Repeat("b", 8000), d))
	full(s.Hold(Hold{ID: "c", Owner: "container c" + strings.Repeat("c", 8000), Manifest: d.Digest}, disk.Volatile))
	for i := range 1 << 20 { // the journal too
		if _, err = l.UseObject(oci.FromBytes([]byte(strconv.Itoa(i)))); err != nil {
			break
		}
	}
	wantKind(t, err, errs.NoSpace)
	ok(t, l.Close())
	sound(t, s)
	if l, err := s.Lease("next"); err == nil { // it may fit where the last one was
		ok(t, l.Close())
	} else {
		full(err)
	}

	// Removing works all the same, and afterwards there is room for another pull.
	fill(t, root)
	ok(t, s.RemoveRef(refA, false))
	must(s.Collect(ctx))(t)
	if left := contents(t, s); len(left) != 0 {
		t.Errorf("left: %v, before: %v", left, before)
	}
	ok(t, os.Remove(filler))
	must(s.Collect(ctx))(t) // and restores the reserve
	if info, err := os.Stat(s.path("reserve")); err != nil || info.Size() != reserveSize {
		t.Errorf("reserve: %v", err)
	}
	must(pull(s, refA, "a", []string{"content"}))(t)
	sound(t, s)
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, bytes.Repeat([]byte("e"), len(b))), nil }

// fill takes all the room under dir and returns the file that does.
func fill(t *testing.T, dir string) string {
	t.Helper()
	f := must(os.CreateTemp(dir, "fill"))(t)
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				wantKind(t, err, errs.NoSpace)
				break
			}
		}
	}
	return f.Name()
}

// TestRealPowerCut shuts a file system down in the middle of work, without letting it write
// its journal (EXT4_IOC_SHUTDOWN), and mounts it again.
func TestRealPowerCut(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := t.TempDir()
	image, root := dir+"/image", dir+"/mnt"
	ok(t, os.Mkdir(root, 0o755))
	ok(t, os.WriteFile(image, nil, 0o600))
	ok(t, os.Truncate(image, 256<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v %s", err, out)
	}
	mount := func() *Store {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "loop", image, root).CombinedOutput(); err != nil {
			t.Skipf("mount -o loop: %v %s", err, out)
		}
		return must(Open(root))(t)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	content := func(n int) []string {
		var files []string
		for i := range n {
			files = append(files, strings.Repeat(fmt.Sprintf("file %d of %d. ", i, rng.IntN(40)), 1+rng.IntN(3000)))
		}
		return files
	}
	s := mount()
	for round := range 4 {
		ref := fmt.Sprintf("localhost/round:%d", round)
		must(pull(s, ref, ref, content(40), content(10)))(t)
		if round > 1 {
			ok(t, s.RemoveRef(fmt.Sprintf("localhost/round:%d", round-2), false))
			must(s.Collect(ctx))(t)
		}
		images := refs(t, s)

		// Work that is under way when it happens: objects without a record, a layer and a tree
		// without a reference, a collection's removals.
		l := must(s.Lease("cut short"))(t)
		cut := content(60)
		must(layer(l, cut[:30]...))(t)
		x := must(layer(l, content(5)...))(t)
		if round%2 == 0 {
			ok(t, l.PutLayers(ctx, x))
			must(l.PutTree(NewTreeKey(EROFS, 1, []oci.Digest{x.DiffID}), buildTree))(t)
		}
		must(layer(l, cut[30:]...))(t)
		// A sync of something else commits the names of all these files, not what is in them.
		noise := []byte(ref)
		ok(t, l.PutBlob(oci.FromBytes(noise), noise))
		shutdown(t, root)
		l.file.Close() // as its death would
		l.lock.Close()
		ok(t, unix.Unmount(root, 0))

		s = mount()
		power(t, s)
		sound(t, s)
		if got := refs(t, s); got != images {
			t.Fatalf("round %d: images are %q, were reported as %q", round, got, images)
		}
		for _, tree := range must(filepath.Glob(s.path("trees", "*", "tree.erofs")))(t) {
			if got := must(os.ReadFile(tree))(t); string(got) != "tree" {
				t.Errorf("round %d: %s holds %q", round, tree, got)
			}
		}
		// What the next pull finds, it can trust.
		again := must(pull(s, "localhost/again:1", ref, cut))(t)
		sound(t, s)
		ok(t, s.Remove(again.Digest, false))
		must(s.Collect(ctx))(t)
		sound(t, s)
	}
	ok(t, unix.Unmount(root, 0))
}

// shutdown cuts the file system's power.
func shutdown(t *testing.T, dir string) {
	t.Helper()
	const shutdownIoctl, noLogFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH: fs/ext4/ext4.h
	f := must(os.Open(dir))(t)
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdownIoctl, noLogFlush); err != nil {
		t.Skipf("EXT4_IOC_SHUTDOWN: %v", err)
	}
}

// Workers for TestManyProcesses share these images: twelve, of layers that are shared and
// files that are in several layers.
func someImage(i int) (ref string, layers [][]string) {
	var files []string
	for f := range 12 {
		files = append(files, strings.Repeat(fmt.Sprint("file ", f*(i%3+1)%9), 200+f))
	}
	return fmt.Sprintf("localhost/image:%d", i), [][]string{{"base", fmt.Sprint("base ", i%2)}, files, {fmt.Sprint("top ", i)}}
}

// work does what a machine full of commands does, for a while.
func work(root string, rng *rand.Rand) error {
	for range 12 {
		s, err := Open(root)
		if err != nil {
			return err
		}
		i := rng.IntN(12)
		ref, layers := someImage(i)
		switch rng.IntN(10) {
		case 0, 1, 2, 3:
			_, err = pull(s, ref, ref, layers...)
		case 4, 5:
			err = s.RemoveRef(ref, rng.IntN(2) == 0)
			if errs.Is(err, errs.Busy) || errs.Is(err, errs.NotFound) {
				err = nil
			}
		case 6:
			if d, lerr := s.Lookup(ref); lerr == nil {
				err = s.SetRef(fmt.Sprintf("localhost/other:%d", rng.IntN(3)), d)
			}
			if errs.Is(err, errs.NotFound) {
				err = nil // removed since
			}
		case 7, 8:
			err = container(s, ref, fmt.Sprintf("c%d", rng.Uint64()), rng.IntN(4) == 0)
		case 9:
			_, err = s.Sizes(ctx)
			if errs.Is(err, errs.NotFound) {
				err = nil // removed while looking
			}
		}
		if err == nil && rng.IntN(2) == 0 {
			_, err = s.Collect(ctx)
		}
		if err != nil {
			return fmt.Errorf("with %s: %w", ref, err)
		}
	}
	return nil
}

// container starts from an image, if it is there, and then needs all of it.
func container(s *Store, ref, id string, stay bool) error {
	d, err := s.Lookup(ref)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	found, err := s.layout.Content(d.Digest)
	if errs.Is(err, errs.NotFound) || err == nil && found.Images[0].Fault != nil {
		return nil // removed since
	}
	if err != nil {
		return err
	}
	layers := found.Images[0].Layers
	k := NewTreeKey(EROFS, 1, layers)
	dir := filepath.Join("containers", id)
	if err := os.MkdirAll(filepath.Join(s.root, dir), 0o755); err != nil {
		return err
	}
	err = s.Hold(Hold{ID: id, Owner: "container " + id, Dir: dir, Manifest: d.Digest, Tree: k.ID()}, disk.Volatile)
	if errs.Is(err, errs.NotFound) {
		return os.Remove(filepath.Join(s.root, dir)) // removed since
	}
	if err != nil {
		return err
	}
	// From here on everything must be there, whatever the others do.
	for range 3 {
		if _, ok := s.Tree(k); !ok {
			return errors.New("the tree of a container is gone")
		}
		for _, l := range layers {
			x, err := s.Layer(l)
			if err != nil {
				return err
			}
			for _, e := range x.Entries {
				if e.Object == "" {
					continue
				}
				f, err := s.OpenObject(e.Object)
				if err != nil {
					return err
				}
				f.Close()
			}
		}
		if _, err := s.Collect(ctx); err != nil {
			return err
		}
	}
	if stay {
		return nil
	}
	return errors.Join(os.Remove(filepath.Join(s.root, dir)), s.Release(id))
}

// TestManyProcesses has 50 processes at work on one store and kills some at random.
func TestManyProcesses(t *testing.T) {
	root := t.TempDir()
	self := must(os.Executable())(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const processes = 50
	type worker struct {
		*exec.Cmd
		out    bytes.Buffer
		killed bool
	}
	done := make(chan *worker)
	for i := range processes {
		w := &worker{Cmd: exec.Command(self)}
		w.Env = append(os.Environ(), fmt.Sprintf("%s=worker %s %d", childJob, root, seed+uint64(i)))
		w.Stdout, w.Stderr = &w.out, &w.out
		w.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		ok(t, w.Start())
		if rng.IntN(3) == 0 {
			w.killed = true
			time.AfterFunc(time.Duration(rng.Int64N(int64(3*time.Second))), func() { w.Process.Kill() })
		}
		go func() { w.Wait(); done <- w }()
	}
	killed := 0
	for range processes {
		w := <-done
		if w.ProcessState.Success() {
			continue
		}
		if ws := w.ProcessState.Sys().(syscall.WaitStatus); w.killed && ws.Signaled() {
			killed++
			continue
		}
		t.Errorf("%v: %s", w.ProcessState, w.out.Bytes())
	}
	s := must(Open(root))(t)
	t.Logf("%d of %d killed; images: %s", killed, processes, refs(t, s))
	sound(t, s)

	// The next commands work, and in the end nothing is left.
	for i := range 12 {
		ref, layers := someImage(i)
		must(pull(s, ref, ref, layers...))(t)
	}
	sound(t, s)
	ok(t, os.RemoveAll(root+"/containers"))
	for _, im := range must(s.Images())(t) {
		if err := s.Remove(im.Descriptor.Digest, true); !errs.Is(err, errs.NotFound) { // it may have had two names
			ok(t, err)
		}
	}
	f := must(s.Collect(ctx))(t)
	t.Logf("the last collection freed %+v", f)
	if left := contents(t, s); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
