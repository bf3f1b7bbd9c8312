package container_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/spec"
)

// dead makes what a container leaves whose owner is killed at some point.
func dead(t testing.TB, dirs container.Dirs, c *spec.Container, then func(*container.Container)) {
	t.Helper()
	x, err := container.Create(dirs, c, []string{"/group/of/" + c.Name}, container.Tied)
	ok(t, err)
	if then != nil {
		then(x)
	}
	x.Abandon()
}

// TestSweep buries containers that died at each point of their life.
func TestSweep(t *testing.T) {
	started := func(x *container.Container) {
		ok(t, x.Save())
		ok(t, x.SetState(container.State{Status: container.Running, PID: 7}))
	}
	for _, test := range []struct {
		name   string
		remove bool
		then   func(*container.Container)
		stays  container.Status // empty: it goes; "none": it stays without a state
	}{
		{"before its spec", false, nil, ""},
		{"before its spec, to be removed", true, nil, ""},
		{"before its start", false, func(x *container.Container) { ok(t, x.Save()) }, "none"},
		{"running", false, started, container.Exited},
		{"running, to be removed", true, started, ""},
		{"ended", false, func(x *container.Container) {
			started(x)
			ok(t, x.SetState(container.State{Status: container.Exited, ExitCode: 3}))
		}, container.Exited},
		{"half removed", true, func(x *container.Container) {
			started(x)
			ok(t, os.RemoveAll(filepath.Join(x.Dir(), "upper")))
		}, ""},
		{"removed but for the record", true, func(x *container.Container) { ok(t, os.RemoveAll(x.Dir())) }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dirs := folders(t)
			c := described("web", test.remove)
			c.Mounts = []spec.Mount{{Type: spec.Volume, Source: "volume", Anonymous: true}, {Type: spec.Volume, Source: "named"}}
			dead(t, dirs, c, func(x *container.Container) {
				_, err := container.ClaimIDs(dirs, c.ID)
				ok(t, err)
				if test.then != nil {
					test.then(x)
				}
			})
			u := sweep(t, dirs)
			if !slices.Equal(u.groups, []string{"/group/of/web"}) {
				t.Errorf("groups: %v", u.groups)
			}
			if !slices.Equal(u.cut, []spec.ContainerID{c.ID}) {
				t.Errorf("taken off its networks: %v", u.cut)
			}
			for _, place := range []string{"active", "ids"} {
				if got := names(dirs.Run, place); len(got) > 0 {
					t.Errorf("%s: %v", place, got)
				}
			}
			if test.stays == "" {
				if got := slices.Concat(names(dirs.Root, "containers"), names(dirs.Root, "names")); len(got) > 0 {
					t.Errorf("left: %v", got)
				}
				if !slices.Equal(u.volumes, []string{"volume"}) || !slices.Equal(u.makers, []spec.ContainerID{c.ID}) {
					t.Errorf("volumes %v of %v", u.volumes, u.makers)
				}
				return
			}
			if got := names(dirs.Root, "names"); !slices.Equal(got, []string{"web"}) || len(u.volumes) > 0 {
				t.Errorf("kept: names %v, volumes removed %v", got, u.volumes)
			}
			st, err := container.ReadState(dirs, c.ID)
			switch {
			case test.stays == "none":
				if err == nil {
					t.Errorf("state %+v", st)
				}
			case test.name == "running" && (st.ExitCode != 137 || st.PID != 0 || !strings.Contains(st.Message, "killed")),
				test.name == "ended" && st.ExitCode != 3, st.Status != test.stays:
				t.Errorf("state %+v, %v", st, err)
			}
		})
	}
}

// TestSweepUnstarted has the owner die of a container that is to live on, before it is started.
func TestSweepUnstarted(t *testing.T) {
	created := func(x *container.Container) {
		ok(t, x.Save())
		ok(t, x.SetState(container.State{Status: container.Created}))
	}
	for _, test := range []struct {
		name   string
		care   container.Care
		remove bool
		then   func(*container.Container)
		stays  bool
	}{
		{"created", container.Kept, false, created, true},
		{"created, to be removed at its end", container.Kept, true, created, true},
		{"made by run", container.Fresh, false, created, false},
		{"made by run, to be removed at its end", container.Fresh, true, created, false},
		{"made by run, without a state", container.Fresh, false, func(x *container.Container) { ok(t, x.Save()) }, false},
		{"made by run, ended", container.Fresh, false, func(x *container.Container) {
			created(x)
			ok(t, x.SetState(container.State{Status: container.Exited}))
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dirs := folders(t)
			x, err := container.Create(dirs, described("web", test.remove), nil, test.care)
			ok(t, err)
			test.then(x)
			x.Abandon()
			sweep(t, dirs)
			if stays := len(names(dirs.Root, "containers")) > 0; stays != test.stays {
				t.Errorf("it stays: %v", stays)
			}
		})
	}
}

// TestSweepTriesAgain keeps the record of what it could not undo.
func TestSweepTriesAgain(t *testing.T) {
	dirs := folders(t)
	dead(t, dirs, described("stuck", true), nil)
	dead(t, dirs, described("stuck too", true), nil)
	u := &undone{fail: errors.New("a process does not die")}
	if err := container.Sweep(dirs, u.undo()); err == nil || strings.Count(err.Error(), "does not die") != 2 {
		t.Errorf("said %v", err)
	}
	if n := len(names(dirs.Run, "active")); n != 2 {
		t.Errorf("%d records are left", n)
	}
	sweep(t, dirs)
	if got := slices.Concat(names(dirs.Run, "active"), names(dirs.Root, "containers"), names(dirs.Root, "names")); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
}

// TestSweepsAtOnce has each record undone by one.
func TestSweepsAtOnce(t *testing.T) {
	dirs := folders(t)
	for range 50 {
		dead(t, dirs, described(string(container.NewID()), true), nil)
	}
	alive := create(t, dirs, described("alive", true))
	var all sync.WaitGroup
	var total [4]undone
	for i := range total {
		all.Go(func() { ok(t, container.Sweep(dirs, total[i].undo())) })
	}
	all.Wait()
	n := 0
	for _, u := range total {
		n += len(u.groups)
	}
	if n != 50 {
		t.Errorf("%d groups are undone, of 50", n)
	}
	if got := names(dirs.Root, "names"); !slices.Equal(got, []string{"alive"}) {
		t.Errorf("names %v", got)
	}
	ok(t, alive.Remove())
}

// TestStrangeRecords meets files that are not ours in run/active.
func TestStrangeRecords(t *testing.T) {
	dirs := folders(t)
	sweep(t, dirs) // without any folder
	active := filepath.Join(dirs.Run, "active")
	ok(t, os.MkdirAll(active, 0o700))
	for name, content := range map[string]string{"empty": "", "half": `{"name":`, "other": "hello"} {
		ok(t, os.WriteFile(filepath.Join(active, name), []byte(content), 0o600))
	}
	ok(t, os.Mkdir(filepath.Join(active, "folder"), 0o700))
	sweep(t, dirs)
	if got := names(active); !slices.Equal(got, []string{"folder"}) {
		t.Errorf("left: %v", got)
	}
}

// TestOtherBoot clears up what the end of the machine left, once.
func TestOtherBoot(t *testing.T) {
	dirs := folders(t)
	running := container.State{Status: container.Running, PID: 7}
	kept, gone, torn, young := described("kept", false), described("gone", true), described("torn", true), described("young", false)
	gone.Mounts = []spec.Mount{{Type: spec.Volume, Source: "volume", Anonymous: true}}
	for _, c := range []*spec.Container{kept, gone, torn, young} {
		dead(t, dirs, c, func(x *container.Container) {
			if c != young {
				ok(t, x.Save())
				ok(t, x.SetState(running))
			}
		})
	}
	ok(t, os.Truncate(filepath.Join(container.Dir(dirs, torn.ID), "spec.json"), 0)) // as a power cut leaves it
	ok(t, os.RemoveAll(dirs.Run))
	u := sweep(t, dirs)
	if got := names(dirs.Root, "names"); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("names: %v", got)
	}
	if got := names(dirs.Root, "containers"); !slices.Equal(got, []string{string(kept.ID)}) {
		t.Errorf("containers: %v", got)
	}
	if !slices.Equal(u.volumes, []string{"volume"}) {
		t.Errorf("volumes: %v", u.volumes)
	}
	st, err := container.ReadState(dirs, kept.ID)
	ok(t, err)
	if st.Status != container.Exited || st.ExitCode != 137 || !strings.Contains(st.Message, "machine") {
		t.Errorf("state: %+v", st)
	}

	// Later in this boot nobody looks: who clears RUN while containers run does no harm.
	alive := create(t, dirs, described("alive", true))
	ok(t, alive.Save())
	ok(t, os.RemoveAll(dirs.Run))
	sweep(t, dirs)
	if got := names(dirs.Root, "names"); !slices.Equal(got, []string{"alive", "kept"}) {
		t.Errorf("names: %v", got)
	}
}

// TestClearedRun: what ran when somebody cleared RUN, and does not run any more, has ended.
func TestClearedRun(t *testing.T) {
	dirs := folders(t)
	ok(t, os.MkdirAll(filepath.Join(dirs.Root, "containers"), 0o700))
	sweep(t, dirs)
	self := container.State{Status: container.Running, PID: os.Getpid(), StartTicks: container.Ticks(os.Getpid())}
	past := self
	past.StartTicks--
	lives, ended := described("lives", false), described("ended", false)
	for c, st := range map[*spec.Container]container.State{lives: self, ended: past} {
		dead(t, dirs, c, func(x *container.Container) {
			ok(t, x.Save())
			ok(t, x.SetState(st))
		})
	}
	for range 2 {
		ok(t, os.RemoveAll(dirs.Run))
		sweep(t, dirs)
		for c, want := range map[*spec.Container]container.Status{lives: container.Running, ended: container.Exited} {
			st, err := container.ReadState(dirs, c.ID)
			ok(t, err)
			if st.Status != want {
				t.Errorf("%s: %s, want %s", c.Name, st.Status, want)
			}
		}
	}
}

// TestOtherBootWithoutState: a power cut takes what was not synced, of which state.json of all that has not ended is a
// part. Such a container may have run, and can be started again.
func TestOtherBootWithoutState(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"zeros":   func(path string) error { return os.WriteFile(path, make([]byte, 80), 0o600) },
		"missing": os.Remove,
	} {
		dirs := folders(t)
		c := described("web", false)
		dead(t, dirs, c, func(x *container.Container) {
			ok(t, x.Save())
			ok(t, x.SetState(container.State{Status: container.Running, PID: 7, Kept: true}))
		})
		ok(t, lose(filepath.Join(container.Dir(dirs, c.ID), "state.json")))
		ok(t, os.RemoveAll(dirs.Run))
		sweep(t, dirs)
		if st, err := container.ReadState(dirs, c.ID); err != nil || st.Status != container.Exited || st.ExitCode != 137 {
			t.Errorf("%s: state %+v, %v", name, st, err)
		}
	}
}

// TestOtherBootSparesTheLiving: what was started in this boot before anyone swept has its lock.
func TestOtherBootSparesTheLiving(t *testing.T) {
	dirs := folders(t)
	x := create(t, dirs, described("alive", true))
	ok(t, x.Save())
	sweep(t, dirs)
	if _, err := container.ReadSpec(dirs, x.Spec.ID); err != nil {
		t.Error(err)
	}
	if got := names(dirs.Root, "names"); !slices.Equal(got, []string{"alive"}) {
		t.Errorf("names: %v", got)
	}
	ok(t, x.Remove())
}

// TestSweepFreesOtherRanges: a container may have got another range than the likely one.
func TestSweepFreesOtherRanges(t *testing.T) {
	dirs := folders(t)
	c := described("web", true)
	other := container.NewID()
	ok(t, os.MkdirAll(filepath.Join(dirs.Run, "ids"), 0o700))
	dead(t, dirs, c, func(*container.Container) {
		first, err := container.ClaimIDs(dirs, c.ID)
		ok(t, err)
		_, err = container.ClaimIDs(dirs, c.ID)
		ok(t, err)
		ok(t, container.ReleaseIDs(dirs, c.ID, first))
	})
	_, err := container.ClaimIDs(dirs, other)
	ok(t, err)
	sweep(t, dirs)
	left := names(dirs.Run, "ids")
	if len(left) != 1 {
		t.Fatalf("ranges left: %v", left)
	}
	if holder, _ := container.ReadLink(filepath.Join(dirs.Run, "ids", left[0])); holder != other {
		t.Errorf("the range of another was freed, %q has one", holder)
	}
}

// BenchmarkSweep is what looking costs when there is nothing to do but for others that run.
func BenchmarkSweep(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(map[int]string{1: "one", 100: "hundred"}[n], func(b *testing.B) {
			dirs := folders(b)
			var alive []*container.Container // while they are reachable
			for range n {
				alive = append(alive, create(b, dirs, described(string(container.NewID()), true)))
			}
			u := &undone{}
			for b.Loop() {
				ok(b, container.Sweep(dirs, u.undo()))
			}
			for _, x := range alive {
				ok(b, x.Remove())
			}
		})
	}
}
