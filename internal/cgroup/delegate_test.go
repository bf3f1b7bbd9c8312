package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

const nobody = 65534

// delegate makes a v2 group that an ordinary user may rule, as systemd does.
func delegate(t *testing.T, dir string, to bool) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = removeDir(dir) })
	for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
		if to {
			if err := os.Chown(path.Join(dir, file), nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// An ordinary user makes groups in the highest group that was delegated, also when that is the very
// group the user's processes are in.
func TestDelegated(t *testing.T) {
	h := realHost(t)
	if !h.V2.has("hugetlb") {
		t.Skip("needs cgroup v2 with a controller: hugetlb")
	}
	for _, test := range []struct {
		name string
		user bool // the group above the scope is delegated too
		root bool // the user is root in a user namespace
	}{{"user", true, false}, {"scope", false, false}, {"namespace", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			top := path.Join(h.V2.Mount, testParent, groupName(t))
			if err := makeParents(path.Dir(top)); err != nil {
				t.Fatal(err)
			}
			delegate(t, top, test.user)
			delegate(t, top+"/scope", true)
			base := strings.TrimPrefix(top, h.V2.Mount)
			control := []string{h.V2.Mount, path.Dir(top)}
			if !test.user {
				base += "/scope"
				control = append(control, top)
			}
			for _, dir := range control {
				if err := writeFile(dir+"/cgroup.subtree_control", "+hugetlb"); err != nil {
					t.Fatal(err)
				}
			}
			self, err := os.Open("/proc/self/exe")
			if err != nil {
				t.Fatal(err)
			}
			defer self.Close()
			fd, err := open(top+"/scope", unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			cmd := exec.Command("/proc/self/fd/3")
			cmd.ExtraFiles = []*os.File{self}
			cmd.Env = []string{fmt.Sprintf("CORTEN_TEST_HELPER=scope %s %v", base, test.root), "PATH=" + os.Getenv("PATH")}
			cmd.Stdin = strings.NewReader("\n")
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd,
				Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			if test.root {
				ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}}
				cmd.SysProcAttr.Cloneflags, cmd.SysProcAttr.Credential = syscall.CLONE_NEWUSER, &syscall.Credential{}
				cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = ids, ids
			}
			if out, err := cmd.CombinedOutput(); string(out) != "ready\nok\n" || err != nil {
				t.Fatalf("%s(%v)", out, err)
			}
		})
	}
}

// delegated is the helper: an ordinary user who starts a container.
func delegated(arg string) int {
	base, root, _ := strings.Cut(arg, " ")
	if err := beOrdinary(base, root == "true"); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ok")
	return 0
}

func beOrdinary(base string, root bool) error {
	h := Detect()
	if h.V2.Base != base || h.Root != root {
		return fmt.Errorf("base %q, root %v, want base %q", h.V2.Base, h.Root, base)
	}
	for _, t := range h.V1 {
		if t.Base == "" && t.has("memory") {
			_, err := New(h, Request{ID: "c", Resources: spec.Resources{Memory: spec.Memory{Limit: 1 << 20}}})
			if !errs.Is(err, errs.Denied) || errs.HintOf(err) == "" {
				return fmt.Errorf("memory limit: %v, want it denied with a hint", err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, r := range []spec.Resources{
		{Devices: DefaultDevices()},
		{Hugepages: []spec.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}},
	} {
		p, err := New(h, Request{ID: "c", Resources: r})
		if err != nil {
			return err
		}
		if err := p.Make(); err != nil {
			return err
		}
		fd, err := open(p.V2, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		sleep := exec.Command("sleep", "100")
		sleep.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
		if err := sleep.Start(); err != nil {
			return err
		}
		pids, err := p.Group.Procs()
		if len(pids) != 1 || err != nil {
			return fmt.Errorf("processes %v, %w", pids, err)
		}
		if err := p.Group.Kill(ctx); err != nil {
			return err
		}
		_ = sleep.Wait()
		if err := errors.Join(p.Group.Remove(ctx), unix.Close(fd)); err != nil {
			return err
		}
	}
	return nil
}

// A parent whose own processes are not ours stays as it is.
func TestOccupiedParent(t *testing.T) {
	h := realHost(t)
	if !h.V2.has("hugetlb") {
		t.Skip("needs cgroup v2 with a controller: hugetlb")
	}
	parent := makeGroup(t, h, spec.Resources{}, false)
	start(t, parent, "sh", "-c", "echo ready; exec sleep 100").expect(t, "ready")
	p, err := New(h, Request{Parent: path.Join(testParent, groupName(t)), ID: "c",
		Resources: spec.Resources{Hugepages: []spec.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Make(); !errs.Is(err, errs.Busy) || errs.HintOf(err) == "" {
		t.Fatalf("got %v, want busy with a hint", err)
	}
	if _, err := os.Stat(p.V2); !os.IsNotExist(err) {
		t.Errorf("%s was left behind", p.V2)
	}
}

func TestPrivileges(t *testing.T) {
	h := Host{V2: Hierarchy{Mount: "/sys/fs/cgroup"}}
	p, err := New(h, Request{ID: "c", Resources: spec.Resources{Devices: DefaultDevices()}, Account: true})
	if err != nil || len(p.Group) != 0 || len(p.Warnings) != 1 {
		t.Errorf("%+v, %v, want no group and a warning", p, err)
	}
	_, err = New(h, Request{ID: "c", Resources: spec.Resources{Pids: spec.Pids{Limit: ptr[int64](5)}}})
	if !errs.Is(err, errs.Denied) || !strings.Contains(errs.HintOf(err), "Delegate=yes") {
		t.Errorf("%v, want it denied with a hint", err)
	}
}
