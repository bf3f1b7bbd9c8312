// Package hosts_test is several machines on one: each is a network namespace with Corten's state in folders of
// its own, and a router is between them. What is tested is what needs more than one: who is seen as whom, what a
// partition does, what is left of very many who start at once, and what others' rules are afterwards.
//
// The tests live in new mount, pid and network namespaces, so that nothing of the host's own network is
// touched, and nothing can stay behind. A short version of everything is the default; CORTEN_HOSTS=full has as many
// containers, questions and rounds as Corten promises.
package hosts_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The stages of a run: outside starts the first process of the new namespaces, which reaps, and that
// the tests.
const (
	stage = "CORTEN_HOSTS_STAGE" // "", "init" or "tests"
	built = "CORTEN_HOSTS_BIN"   // the folder of the programs
)

// full reports whether to do all that is promised.
func full() bool { return os.Getenv("CORTEN_HOSTS") == "full" }

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == peerName {
		os.Exit(peer(os.Args[1:]))
	}
	code, err := 0, error(nil)
	switch os.Getenv(stage) {
	case "tests":
		code = m.Run()
	case "init":
		code, err = first()
	default:
		if why := lacking(); why != "" {
			fmt.Println("skipped: needs", why)
			break
		}
		code, err = outside()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a world for the test:", err)
		code = 1
	}
	os.Exit(code)
}

func lacking() string {
	if os.Getuid() != 0 {
		return "root"
	}
	for _, tool := range []string{"ip", "nft", "go", "sleep"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool
		}
	}
	return ""
}

// outside builds the programs and runs the tests in namespaces of their own.
func outside() (code int, err error) {
	bin, err := os.MkdirTemp("", "corten-hosts-bin-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	if err := build(bin); err != nil {
		return 1, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stage+"=init", built+"="+bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return 1, nil // the tests have said why
	}
	return 0, err
}

func build(bin string) error {
	if err := os.Chmod(bin, 0o755); err != nil { // containers execute one of the programs
		return err
	}
	const cmd = "github.com/cortenhq/corten/cmd/"
	for _, args := range [][]string{
		{"build", "-o", bin, cmd + "corten-format", cmd + "corten-keeper", cmd + "corten-net"},
		{"build", "-ldflags", "-E=github.com/cortenhq/corten/internal/kernel/nest.entry", "-o", bin, cmd + "corten", cmd + "corten-image"},
		{"build", "-ldflags", "-E=main.entry", "-o", bin, cmd + "corten-init"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(bin, peerName), self, 0o755), os.Chmod(filepath.Join(bin, "corten-init"), 0o711))
}

// first is PID 1 of the new namespaces: it starts the tests and reaps until they end. With it goes
// whatever is left.
func first() (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 1, err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 1, fmt.Errorf("mount proc: %w", err)
	}
	if err := os.Setenv(stage, "tests"); err != nil {
		return 1, err
	}
	args := append(os.Args, "-test.parallel=6") // those that are parallel mostly wait
	tests, err := os.StartProcess("/proc/self/exe", args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return 1, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 1, err
		case pid == tests.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == tests.Pid && status.Signaled():
			return 1, fmt.Errorf("the tests ended by signal %v", status.Signal())
		}
	}
}

// lookAtSources has go test know on what the result depends: the programs are none of the test's imports, and it
// would take an old result for theirs.
func lookAtSources(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"../../cmd", "../../internal"} {
		if err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
}
