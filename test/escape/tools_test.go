package escape_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tool is a step that runs in a container in a process of its own.
func tool(args []string) {
	arg := ""
	if len(args) > 1 {
		arg = args[1]
	}
	err := map[string]func() error{
		"true":      func() error { return nil },
		"sleep":     unix.Pause,
		"freshproc": freshProc,
		"freshsys":  freshSys,
		"uncover":   uncovered("/proc/interrupts", unix.O_RDONLY),
		"stdin":     stdinWords,
		"cwd":       cwdWords,
		"plant":     plant,
		"mount":     mountAndWait,
		"terminal":  terminal,
		"wait":      waitForEnd,
		"euid":      func() error { fmt.Println(os.Geteuid()); return nil },
		"cat":       func() error { b, err := os.ReadFile(arg); fmt.Printf("%s", b); return err },
		"walk":      func() error { return walk(arg) },
		"swap":      func() error { return swap(arg) },
		"probe":     func() error { return probe(arg) },
		"fork":      fork,
		"haunt":     haunt,
		"stay":      stay,
		"trap":      func() error { return trap(arg) },
		"fakepts":   func() error { return fakePTS(arg) },
		"hog":       hog,
		"fill":      func() error { return fill(arg) },
		"files":     func() error { fmt.Println(openFiles()); return nil },
		"attempts":  func() error { attack(args[1:]); return nil },
	}[args[0]]()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func stdinWords() error {
	var st unix.Stat_t
	if err := unix.Fstat(0, &st); err != nil {
		return err
	}
	kind := map[uint32]string{unix.S_IFCHR: "character", unix.S_IFDIR: "directory", unix.S_IFREG: "file", unix.S_IFIFO: "pipe", unix.S_IFSOCK: "socket"}
	fmt.Printf("%s %d:%d\n", kind[st.Mode&unix.S_IFMT], unix.Major(st.Rdev), unix.Minor(st.Rdev))
	return nil
}

// walk prints every file and directory of the root that can be read: "f PATH" and "d PATH".
// With words to look for it prints only what holds them.
func walk(words string) error {
	var out bytes.Buffer
	defer func() { _, _ = os.Stdout.Write(out.Bytes()) }()
	return filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if path == "/proc" || path == "/sys" || path == "/dev" || path == "/attack" {
			return fs.SkipDir
		}
		if err != nil {
			return nil // the entry says so itself
		}
		if words == "" && d.IsDir() {
			if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
				unix.Close(fd)
				fmt.Fprintf(&out, "d %s\n", path)
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		if words != "" {
			if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(words)) {
				fmt.Fprintf(&out, "found %s\n", path)
			}
			return nil
		}
		if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			unix.Close(fd)
			fmt.Fprintf(&out, "f %s\n", path)
		}
		return nil
	})
}

// swap makes dir/d by turns a directory and a link out of the container, until it is killed.
func swap(dir string) error {
	a, b := filepath.Join(dir, "d"), filepath.Join(dir, "link")
	_ = os.Mkdir(a, 0o755)
	if err := os.Symlink(os.Getenv("TRAP"), b); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	fmt.Println("swapping")
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
	}
}

// probe does to the host's things in dir what must not reach them.
func probe(dir string) error {
	say := func(what string, err error) {
		if err == nil {
			fmt.Println("through:", what)
		} else {
			fmt.Println("held:", what, err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	_, err := os.ReadFile(at("secret"))
	say("read secret", err)
	_, err = os.ReadDir(at("closed"))
	say("list closed", err)
	_, err = os.ReadFile(at("closed/open"))
	say("read closed/open", err)
	_, err = os.ReadFile(at("group"))
	say("read group", err)
	say("connect to socket", connect(at("socket")))
	say("write fifo", opensFor(at("fifo"), unix.O_WRONLY)())
	say("open disk", opensFor(at("disk"), unix.O_RDONLY)())
	for _, prog := range []string{"setuid", "setgid", "capable"} {
		out, err := exec.Command(at(prog), "tool", "cat", at("secret")).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		say("read secret by "+prog, err)
	}
	out, err := exec.Command(at("setuid"), "tool", "euid").CombinedOutput()
	fmt.Printf("euid: %d by setuid: %s %v\n", os.Geteuid(), strings.TrimSpace(string(out)), err)
	// These may succeed, in the container's own layer.
	_ = os.WriteFile(at("public"), []byte("changed"), 0)
	_ = os.WriteFile(at("open/new"), []byte("new"), 0o644)
	_ = os.Remove(at("open/old"))
	_ = os.Rename(at("open"), at("moved"))
	_ = os.Chmod(at("public"), 0o777)
	_ = os.Chown(at("public"), 0, 0)
	_ = unix.Setxattr(at("public"), "user.x", []byte("x"), 0)
	_ = os.Link(at("setuid"), at("linked"))
	_ = os.Chtimes(at("public"), time.Unix(1, 0), time.Unix(1, 0))
	if fd, err := unix.Open(at("public"), unix.O_RDONLY, 0); err == nil {
		say("lock public", unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
	}
	return waitForEnd() // with the lock
}

func connect(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}

// fork starts processes until it may not, and says how many.
func fork() error {
	n := 0
	for range 500 {
		cmd := exec.Command("/proc/self/exe", "tool", "sleep")
		if cmd.Start() != nil {
			break
		}
		n++
	}
	fmt.Println(n)
	return nil
}

// hog takes memory until it is killed or has 512 MiB.
func hog() error {
	var held [][]byte
	for range 512 {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		held = append(held, b)
	}
	fmt.Println(len(held))
	return nil
}

// fill writes to a file in dir until there is no room, and says how many MiB that were.
func fill(dir string) error {
	f, err := os.Create(filepath.Join(dir, "filled"))
	if err != nil {
		return err
	}
	block, n := make([]byte, 1<<20), 0
	for ; n < 1024; n++ {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	fmt.Println(n)
	return nil
}
