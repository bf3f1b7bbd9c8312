package supply_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/supply"
	"github.com/cortenhq/corten/internal/testimage"
)

// commandVar makes the test binary one of many processes on a store: root, run, kind, verb
// and argument, separated by spaces.
const commandVar = "CORTEN_SUPPLY_TEST_COMMAND"

func TestMain(m *testing.M) {
	if text := os.Getenv(commandVar); text != "" {
		if err := obey(strings.Fields(text)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// obey does what a verb of the command line does.
func obey(words []string) error {
	ctx := context.Background()
	l, err := image.Open(words[0], words[1], words[2])
	if err != nil {
		return err
	}
	switch verb, arg := words[3], words[4]; verb {
	case "pull":
		r, err := oci.ParseRef(arg)
		if err != nil {
			return err
		}
		_, _, err = supply.Pull(ctx, l, client(), r, nil, quiet)
		return err
	case "rmi":
		_, err := l.Remove(arg, true)
		_, cerr := l.Collect(ctx)
		if errs.Is(err, errs.NotFound) {
			err = nil // somebody was faster
		}
		return errors.Join(err, cerr)
	case "images":
		_, err := l.List(ctx, image.Filter{})
		return err
	}
	return errors.New("unknown verb")
}

// start starts a process that works on l's store.
func (l *library) start(t *testing.T, verb, arg string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), commandVar+"="+strings.Join([]string{l.Root(), l.run, l.kind, verb, arg}, " "))
	said := new(bytes.Buffer)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, said
}

// crowd is how many processes there are at once.
func crowd() int {
	if testing.Short() {
		return 20
	}
	return 50
}

// Many processes pull, list and remove the same images, and some are killed. Nobody else is
// disturbed, nothing is damaged, and in the end nothing is left over.
func TestCrowd(t *testing.T) {
	needMounts(t)
	images := map[string]testimage.Image{"busybox": testimage.Busybox(t), "configured": testimage.Configured(t), "true": testimage.True(t)}
	var names []string
	for _, host := range []string{testimage.Registry(t), testimage.DebianRegistry(t).Host} {
		for name, im := range images {
			im.Push(t, host, name+":1")
			names = append(names, host+"/"+name+":1")
		}
	}
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			l := newLibrary(t, kind)
			var work sync.WaitGroup
			for i := range crowd() {
				verb, name := [...]string{"pull", "rmi", "pull", "images", "pull"}[i%5], names[rand.IntN(len(names))]
				cmd, said := l.start(t, verb, name)
				work.Go(func() {
					doomed := i%4 == 1
					if doomed {
						time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
						_ = cmd.Process.Kill()
					}
					if err := cmd.Wait(); err != nil && !doomed {
						t.Errorf("%s %s: %v\n%s", verb, name, err, said)
					}
				})
			}
			work.Wait()
			l.sound(t)
			host, _, _ := strings.Cut(names[0], "/")
			x := l.pull(t, host+"/configured:1")
			if diff := cmp.Diff(rootFS(t, images["configured"]), look(t, l.show(t, x))); diff != "" {
				t.Error(diff)
			}
			if _, err := l.Prune(t.Context(), true, image.Filter{}); err != nil {
				t.Error(err)
			}
			l.empty(t)
		})
	}
}

// empty collects, and expects nothing to be left.
func (l *library) empty(t *testing.T) {
	t.Helper()
	if _, err := l.Collect(t.Context()); err != nil {
		t.Error(err)
	}
	u, err := l.Store().Usage(t.Context())
	if err != nil || u.Objects+u.Layers+u.Trees+u.Blobs != 0 {
		t.Errorf("left over: %+v, %v", u, err)
	}
	for _, dir := range []string{"tmp", "leases"} {
		if left, err := os.ReadDir(filepath.Join(l.Store().Dir(), dir)); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}

// A pull may be killed at any moment. Nothing half-made is seen, and the next one works.
func TestKilledPulls(t *testing.T) {
	moments := time.Duration(crowd())
	host, im := testimage.Registry(t), testimage.Configured(t)
	im.Push(t, host, "app:1")
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			l := newLibrary(t, kind)
			begin := time.Now()
			if cmd, said := newLibrary(t, kind).start(t, "pull", host+"/app:1"); cmd.Wait() != nil {
				t.Fatal(said)
			}
			whole := time.Since(begin)
			for i := range moments {
				cmd, _ := l.start(t, "pull", host+"/app:1")
				timer := time.AfterFunc(whole*i/moments, func() { _ = cmd.Process.Kill() })
				_ = cmd.Wait()
				timer.Stop()
				l.sound(t)
				x, err := l.Find(host+"/app:1", nil)
				if errs.Is(err, errs.NotFound) {
					continue
				}
				if _, ok, terr := l.Tree(x); !ok || err != nil || terr != nil {
					t.Errorf("there is an image and no tree: %v, %v", err, terr)
				}
				// What was finished would be found by the next one, and make it shorter.
				if _, err := l.Remove(host+"/app:1", false); err != nil {
					t.Error(err)
				}
			}
			l.pull(t, host+"/app:1")
			l.sound(t)
			if _, err := l.Remove(host+"/app:1", false); err != nil {
				t.Error(err)
			}
			l.empty(t)
		})
	}
}

// A pull that fills the disk says so and leaves nothing half-made.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	host, im := testimage.Registry(t), testimage.Configured(t)
	im.Push(t, host, "app:1")
	for _, kind := range kinds() {
		for _, size := range []string{"1m", "2m", "3m"} {
			t.Run(kind+" "+size, func(t *testing.T) {
				dir := t.TempDir()
				if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
					t.Skipf("no tmpfs can be mounted: %v", err)
				}
				t.Cleanup(func() {
					if err := unix.Unmount(dir, 0); err != nil {
						t.Error(err)
					}
				})
				l := openLibrary(t, filepath.Join(dir, "root"), filepath.Join(dir, "run"), kind)
				_, _, err := supply.Pull(t.Context(), l.Library, client(), ref(t, host+"/app:1"), nil, quiet)
				if !errs.Is(err, errs.NoSpace) || errs.HintOf(err) == "" {
					t.Errorf("the pull ended with %v, of kind %v", err, errs.KindOf(err))
				}
				if l.count(t) != 0 {
					t.Error("it was published")
				}
				l.sound(t)
				if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
					t.Fatal(err)
				}
				l.pull(t, host+"/app:1")
				l.sound(t)
			})
		}
	}
}
