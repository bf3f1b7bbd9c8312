package escape_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The working directory, given by the user or an image, must not be one of the host by way
// of a descriptor that is still open (CVE-2024-21626).
func TestWorkingDirectory(t *testing.T) {
	w := newWorld(t)
	links := w.volume(t, "links")
	dirs := []string{"/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/proc/thread-self/cwd/x", "/links/..", "/links/../../../.."}
	for fd := 3; fd < descriptors; fd++ {
		path := fmt.Sprintf("/proc/self/fd/%d", fd)
		must(t, os.Symlink(path, filepath.Join(links, fmt.Sprint(fd))))
		dirs = append(dirs, path, fmt.Sprintf("/links/%d", fd), path+"/tmp")
	}
	for i, dir := range dirs {
		init := [...]string{"--no-init=false", "--no-init"}[i%2]
		out, err := w.tool([]string{init, "-v", "links:/links", "-w", dir}, "cwd").CombinedOutput()
		if err != nil {
			continue // refused
		}
		if got := string(out); !strings.HasPrefix(got, "/") || strings.Contains(got, "unreachable") || strings.Contains(got, "reached the host") {
			t.Errorf("%s -w %s: %s", init, dir, got)
		}
	}
}

// descriptors is more than a launcher has open during a start.
const descriptors = 24

// The image's or a volume's own /dev can lie over ours, with a link to a descriptor in the
// place of null.
func TestNullByALink(t *testing.T) {
	w := newWorld(t)
	dev := w.volume(t, "dev")
	for fd := 3; fd < descriptors; fd++ {
		null := filepath.Join(dev, "null")
		_ = os.Remove(null)
		must(t, os.Symlink(fmt.Sprintf("/proc/self/fd/%d", fd), null))
		if got := output(t, w.tool([]string{"-v", "dev:/dev"}, "stdin")); got != "character 1:3\n" {
			t.Errorf("with null as a link to descriptor %d stdin is %q", fd, got)
		}
	}
}

// volume makes a volume and returns where the host has it.
func (w *world) volume(t *testing.T, name string) string {
	t.Helper()
	output(t, w.tool([]string{"-v", name + ":/v"}, "true"))
	return filepath.Join(w.dir, "root", "volumes", name, "_data")
}

// The place of a mount is found inside the container, whatever links an image or another
// container has laid there.
func TestMountTargets(t *testing.T) {
	w := newWorld(t)
	links := w.volume(t, "links")
	w.volume(t, "other")
	trap := w.trap(t)
	lay := func(name, to string) string {
		must(t, os.Symlink(to, filepath.Join(links, name)))
		return "/links/" + name
	}
	targets := []string{
		lay("up", strings.Repeat("../", 30)+strings.TrimPrefix(trap, "/")) + "/x",
		lay("abs", trap) + "/x",
		lay("root", "/proc/1/root") + trap,
		lay("self", "/proc/self/root") + trap,
		lay("cwd", "/proc/self/cwd") + trap + "/x",
		"/links/../../../../.." + trap + "/x",
	}
	for fd := 3; fd < descriptors; fd++ {
		targets = append(targets, lay(fmt.Sprint("fd", fd), fmt.Sprintf("/proc/self/fd/%d", fd))+"/x", lay(fmt.Sprint("fdt", fd), fmt.Sprintf("/proc/self/fd/%d%s", fd, trap))+"/x")
	}
	before := snapshot(t, trap)
	for i, target := range targets {
		flag := [...][]string{{"-v", "other:" + target}, {"--tmpfs", target}, {"--mount", "type=bind,source=/etc/hostname,target=" + target}}[i%3]
		out, err := w.tool(append([]string{"-v", "links:/links"}, flag...), "cwd").CombinedOutput()
		if err == nil && strings.Contains(string(out), "reached the host") {
			t.Errorf("%v: %s", flag, out)
		}
		if after := snapshot(t, trap); after != before {
			t.Fatalf("%v: the host's folder was %s and is %s", flag, before, after)
		}
	}
}

// One container swaps a directory of a volume for a link to a folder of the host, as fast
// as it can, while others start with a mount below it (CVE-2021-30465).
func TestSwappedTargets(t *testing.T) {
	w := newWorld(t)
	w.volume(t, "shared")
	w.volume(t, "other")
	trap := w.trap(t)
	before := snapshot(t, trap)
	swapper := w.tool([]string{"-v", "shared:/shared", "-e", "TRAP=" + trap}, "swap", "/shared")
	out, err := swapper.StdoutPipe()
	must(t, err)
	must(t, swapper.Start())
	defer func() {
		_ = swapper.Process.Kill()
		_ = swapper.Wait()
		output(t, w.tool(nil, "true")) // clears up after it
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "swapping\n" {
		t.Fatalf("the swapper: %q %v", line, err)
	}
	inside, started := 0, 0
	for i := range 40 {
		cmd := w.tool([]string{"-v", "shared:/shared", "-v", "other:/shared/d/sub/deep"}, "cwd")
		out, err := cmd.CombinedOutput()
		if err == nil {
			started++
		}
		if strings.Contains(string(out), "reached the host") {
			t.Errorf("start %d: %s", i, out)
		}
		if _, err := os.Lstat(filepath.Join(w.dir, "root/volumes/shared/_data/d/sub")); err == nil {
			inside++
		}
		if after := snapshot(t, trap); after != before {
			t.Fatalf("start %d: the host's folder was %s and is %s", i, before, after)
		}
	}
	t.Logf("of 40 starts %d succeeded", started)
	if inside == 0 {
		t.Error("no start met the directory: the test proves nothing")
	}
}

// A directory as stdin would lead the container out by "..".
func TestDirectoryAsStdin(t *testing.T) {
	w := newWorld(t)
	dir, err := os.Open(w.dir)
	must(t, err)
	defer dir.Close()
	cmd := w.tool([]string{"-i"}, "stdin")
	cmd.Stdin = dir
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "is a directory") {
		t.Errorf("%v: %s", err, out)
	}
}

// cwdWords says where a container works, and whether it reaches the host from there.
func cwdWords() error {
	dir, err := os.Readlink("/proc/self/cwd") // os.Getwd gives up on what cannot be reached
	if err != nil {
		return err
	}
	var own, here, up unix.Stat_t
	if err := unix.Stat("/", &own); err != nil {
		return err
	}
	if err := unix.Stat(".", &here); err != nil {
		return err
	}
	fmt.Println(dir)
	for _, path := range []string{strings.Repeat("../", 40) + os.Getenv("MARK"), os.Getenv("MARK")} {
		if _, err := os.ReadFile(path); err == nil {
			fmt.Println("reached the host by", path)
		}
	}
	if err := unix.Stat(strings.Repeat("../", 40), &up); err == nil && (up.Ino != own.Ino || up.Dev != own.Dev) {
		fmt.Println("reached the host: another root above")
	}
	return nil
}

// What a container makes in a volume or a folder of the host has its own numbers on the
// disk: its root is root there. So no user of the host may come near to it.
func TestFilesOfContainersAreOutOfReach(t *testing.T) {
	w := newWorld(t)
	data := w.volume(t, "data")
	must(t, os.Chmod(w.dir, 0o755)) // only Corten's own folders are to keep others out
	must(t, os.Chmod(filepath.Dir(w.dir), 0o755))
	defer os.Chmod(filepath.Dir(w.dir), 0o700)
	cmd := w.tool([]string{"-i", "-v", "data:/data"}, "plant")
	var found []string
	out := probing(t, cmd, func() {
		must(t, filepath.WalkDir(filepath.Join(w.dir, "root"), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Name() == "planted" {
				found = append(found, path)
			}
			return err
		}))
		if len(found) != 2 {
			t.Errorf("planted in the container's layer and in the volume, found %v", found)
		}
		for _, path := range found {
			var st unix.Stat_t
			must(t, unix.Lstat(path, &st))
			if st.Uid != 0 || st.Mode&unix.S_ISUID == 0 {
				t.Errorf("%s belongs to %d and has mode %o", path, st.Uid, st.Mode)
			}
			if err := asUser(t, path).Run(); err == nil {
				t.Errorf("a user of the host can execute %s", path)
			}
		}
	})
	if out != "" {
		t.Errorf("plant: %s", out)
	}
	if _, err := os.Stat(data); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{"root/containers", "root/volumes", "run/active"} {
		if asUser(t, "ls", filepath.Join(w.dir, dir)).Run() == nil {
			t.Errorf("a user of the host can list %s", dir)
		}
	}
}

// plant makes a set-user-id program in the container's layer and in a volume.
func plant() error {
	for _, dir := range []string{"/", "/data"} {
		path := filepath.Join(dir, "planted")
		if err := copyFile(path, "/attack/attack", 0o755|os.ModeSetuid); err != nil {
			return err
		}
	}
	return waitForEnd()
}
