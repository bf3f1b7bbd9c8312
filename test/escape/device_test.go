package escape_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func deviceAttempts() []attempt {
	return []attempt{
		{"make a node of the disk and read it", everywhere | shared, rootful, func() error { return readNode(unix.S_IFBLK, os.Getenv("DISK")) }},
		{"make a node of kmsg and open it", everywhere | shared, rootful, func() error { return readNode(unix.S_IFCHR, "1:11") }},
		{"make a node of mem and open it", everywhere | shared, 0, func() error { return readNode(unix.S_IFCHR, "1:1") }},
		{"make a node of port and open it", everywhere | shared, 0, func() error { return readNode(unix.S_IFCHR, "1:4") }},
		{"make a node of loop-control and open it", everywhere | shared, rootful, func() error { return readNode(unix.S_IFCHR, "10:237") }},
		{"make a node of the host's console and open it", everywhere | shared, 0, func() error { return readNode(unix.S_IFCHR, "5:1") }},
		{"make a node of the first screen and open it", everywhere | shared, 0, func() error { return readNode(unix.S_IFCHR, "4:1") }},
		{"make a node of fuse and open it", everywhere | shared, rootful, func() error { return readNode(unix.S_IFCHR, "10:229") }},
		{"make a node of tun and open it", everywhere | shared, rootful, func() error { return readNode(unix.S_IFCHR, "10:200") }},
		{"make a node of null and open it", everywhere | shared, rootful, func() error { return readNode(unix.S_IFCHR, "1:3") }},
		{"open a node in a folder of the host", everywhere | shared, rootful, opensFor("/attack/nodes/disk", unix.O_RDONLY)},
		{"open a node of the root file system", everywhere, 0, openRootNodes},
		{"allow nodes in a folder of the host and open one", everywhere, rootful, func() error {
			_ = unix.Mount("", "/attack", "", unix.MS_REMOUNT|unix.MS_BIND, "")
			return opensFor("/attack/nodes/disk", unix.O_RDONLY)()
		}},
		{"find another device in /dev", everywhere | shared, rootful, otherDevices},
		{"open the controlling terminal", plain | noInit | user | unfiltered, 0, opensFor("/dev/tty", unix.O_RDWR)},
		{"hold a terminal of the host", everywhere | shared, 0, holdTerminal},
		{"type into a terminal of the host", everywhere | shared, 0, typeIntoTerminal},
	}
}

// readNode makes a node wherever that may be possible, and reads from it.
func readNode(kind uint32, numbers string) error {
	var major, minor uint32
	if _, err := fmt.Sscanf(numbers, "%d:%d", &major, &minor); err != nil {
		return fmt.Errorf("%w: %q", unix.ENODEV, numbers)
	}
	var last error
	for _, dir := range []string{"/dev", "/dev/shm", "/tmp", "/attack", "/"} {
		path := filepath.Join(dir, "node-"+numbers+"-"+strconv.Itoa(os.Getpid()))
		if last = unix.Mknod(path, kind|0o600, int(unix.Mkdev(major, minor))); last != nil {
			continue
		}
		defer os.Remove(path)
		if last = opensFor(path, unix.O_RDONLY)(); last == nil {
			return nil
		}
	}
	return last
}

// openRootNodes tries every disk that the root file system brought along.
func openRootNodes() error {
	last := errHeld
	for _, path := range nodes("/", " proc sys dev usr attack ") {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			continue
		}
		if err := opensFor(path, unix.O_RDONLY)(); err == nil {
			fmt.Println(path)
			return nil
		} else {
			last = err
		}
	}
	return last
}

// otherDevices looks for a device in /dev that not every container has. It is not opened:
// to open a watchdog would stop the machine.
func otherDevices() error {
	for _, path := range nodes("/dev", "") {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		switch major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev); {
		case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		case major == 1 && (minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9), major == 5 && (minor == 0 || minor == 2), major == 136:
			continue
		}
		fmt.Println(path)
		return nil
	}
	return errHeld
}

// nodes is the device nodes below a directory, without some of its entries.
func nodes(root, skip string) []string {
	var out []string
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && filepath.Dir(path) == root && strings.Contains(skip, " "+d.Name()+" ") {
			return filepath.SkipDir
		}
		if err == nil && d.Type()&os.ModeDevice != 0 {
			out = append(out, path)
		}
		return nil
	})
	return out
}

func holdTerminal() error {
	for fd := range 3 {
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			fmt.Println("descriptor", fd)
			return nil
		}
	}
	return errHeld
}

func typeIntoTerminal() error {
	var last error
	for fd := range 3 {
		b := []byte{'x'}
		if last = ioctlPointer(fd, unix.TIOCSTI, &b[0]); last == nil {
			return nil
		}
	}
	return last
}
