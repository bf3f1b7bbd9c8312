// Package escape_test attacks the host from inside containers.
//
// The test binary is also the attacker: each container gets it as /attack/attack and runs a
// list of attempts, each in a process of its own. An attempt is written once (proc_test.go,
// mount_test.go, device_test.go, kernel_test.go, shared_test.go) and says in which containers
// it has to fail and in which it has to get through: a try that fails where nothing stands in
// its way would prove nothing.
package escape_test

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/erofs"
	"github.com/cortenhq/corten/internal/kernel"
	"github.com/cortenhq/corten/internal/testnet"
	"github.com/cortenhq/corten/internal/tree"
)

// bin is the folder of the programs under test, built once.
var bin string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "attack":
			attack(os.Args[2:])
		case "one":
			one(os.Args[2])
		case "victim":
			victim()
		case "tool":
			tool(os.Args[2:])
		}
	}
	if testnet.Inside() {
		if err := testnet.Up(); err != nil {
			fmt.Println("set up the loopback interface:", err)
			os.Exit(1)
		}
		bin = os.Getenv(built)
		os.Exit(m.Run())
	}
	os.Exit(build())
}

// built is the folder of the programs, for the copy of this test that runs in a network of its own.
const built = "CORTEN_ESCAPE_BIN"

// build makes the programs and runs the tests.
func build() int {
	if os.Getuid() != 0 {
		fmt.Println("skipped: attacks on the host need its root to launch them")
		return 0
	}
	dir, err := os.MkdirTemp("", "corten-escape-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	programs, err := filepath.Glob("../../cmd/*")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	programs = slices.DeleteFunc(programs, func(p string) bool { return filepath.Base(p) == "corten-init" })
	for _, args := range [][]string{
		append([]string{"-ldflags", "-s -w"}, programs...),
		{"-ldflags", "-s -w -E=main.entry", "../../cmd/corten-init"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", dir + "/"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Printf("build: %v\n%s", err, out)
			return 1
		}
	}
	err = os.Chmod(filepath.Join(dir, "corten-init"), 0o711)
	if err == nil {
		err = makeAttacker(filepath.Join(dir, "attack"))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if err := os.Setenv(built, dir); err != nil {
		fmt.Println(err)
		return 1
	}
	return testnet.Again()
}

// makeAttacker makes a static copy of this program: an image may have no C library.
func makeAttacker(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := elf.Open(self)
	if err != nil {
		return err
	}
	defer f.Close()
	if !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return copyFile(path, self, 0o755)
	}
	cmd := exec.Command("go", "test", "-c", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the attacker: %w\n%s", err, out)
	}
	return nil
}

// world is the state folders of one test, and what its containers share.
type world struct {
	dir     string // holds all of it, closed to others
	outside string // open to others, and out of sight of containers
	attack  string // /attack in the container: the attacker and what it attacks with
	env     []string
	node    uint64 // number of a disk of the host; 0: none
}

// newWorld makes a folder with the attacker in it and things to attack on the host.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp(bin, "world-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	w := &world{dir: dir}
	w.attack = filepath.Join(w.dir, "attack")
	must(t, os.MkdirAll(filepath.Join(w.attack, "nodes"), 0o755))
	must(t, os.Chmod(w.attack, 0o755))
	must(t, copyFile(filepath.Join(w.attack, "attack"), filepath.Join(bin, "attack"), 0o755))
	w.mark(t)
	w.disk(t)
	w.image(t)
	return w
}

// mark makes a file that every user of the host can read and that lies outside of all that
// containers are shown, on the file system of /attack: who reads it is out.
func (w *world) mark(t *testing.T) {
	t.Helper()
	var err error
	w.outside, err = os.MkdirTemp("", "corten-escape-outside-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(w.outside)) })
	must(t, os.Chmod(w.outside, 0o777))
	secret := filepath.Join(w.outside, "secret")
	must(t, os.WriteFile(secret, []byte("secret of the host"), 0o644))
	must(t, os.Chmod(secret, 0o644))
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, secret, 0)
	must(t, err)
	w.env = append(w.env, "MARK="+secret, "HANDLE="+strconv.Itoa(int(handle.Type()))+":"+hex.EncodeToString(handle.Bytes()))
}

// trap makes a folder of the host, open to all, into which links lead.
func (w *world) trap(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(w.outside, "trap")
	must(t, os.Mkdir(dir, 0o777))
	must(t, os.Chmod(dir, 0o777))
	return dir
}

// disk attaches a loop device to a file of the host and makes a node of it that is open to
// all. The disk of the root would do as well, but for what an attack that gets through could
// do to it, and some machines keep it even from root.
func (w *world) disk(t *testing.T) {
	t.Helper()
	file := filepath.Join(w.dir, "disk")
	must(t, os.WriteFile(file, bytes.Repeat([]byte("secret of a disk"), 4096), 0o600))
	loop, err := kernel.AttachLoop(file)
	if err != nil {
		t.Logf("no loop device, and so no attacks on disks: %v", err)
		return
	}
	t.Cleanup(func() { loop.Close() })
	var st unix.Stat_t
	must(t, unix.Stat(loop.Path(), &st))
	w.node = st.Rdev
	node := filepath.Join(w.attack, "nodes", "disk")
	must(t, unix.Mknod(node, unix.S_IFBLK|0o666, int(st.Rdev)))
	must(t, os.Chmod(node, 0o666))
	w.env = append(w.env, fmt.Sprintf("DISK=%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
}

// corten is a command of the program under test on the world's folders.
func (w *world) corten(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "corten"), append([]string{"--root", filepath.Join(w.dir, "root"), "--run", filepath.Join(w.dir, "run")}, args...)...)
	cmd.Env = append(os.Environ(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return cmd
}

// run is corten run --rm with the attacker and the world's facts at hand, and no network but its own
// loopback: what a network opens is for test/hosts and the tests of connect.
func (w *world) run(flags []string, base string, command ...string) *exec.Cmd {
	args := []string{"run", "--rm", "-v", w.attack + ":/attack"}
	if !slices.Contains(flags, "--network") {
		args = append(args, "--network", "none")
	}
	for _, e := range w.env {
		args = append(args, "-e", e)
	}
	return w.corten(append(append(append(args, flags...), base), command...)...)
}

// tool is run of one of the attacker's tools on the host's root.
func (w *world) tool(flags []string, args ...string) *exec.Cmd {
	return w.run(flags, "host", append([]string{"/attack/attack", "tool"}, args...)...)
}

// output runs a command and returns what it wrote.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args[:min(30, len(cmd.Args))], " "), err, out)
	}
	return string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		_, file, line, _ := runtime.Caller(1)
		t.Fatalf("%s:%d: %v", filepath.Base(file), line, err)
	}
}

func copyFile(to, from string, mode os.FileMode) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, b, mode); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}

// image makes a file system image such as an attacker could bring.
func (w *world) image(t *testing.T) {
	t.Helper()
	var img bytes.Buffer
	_, err := erofs.Write(&img, &tree.Tree{Entries: []tree.Entry{{Type: tree.Dir, Mode: 0o755}}}, erofs.Options{})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(w.attack, "image.erofs"), img.Bytes(), 0o644))
}
