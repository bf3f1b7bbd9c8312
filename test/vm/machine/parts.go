package machine

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

//go:embed recipe.sh
var recipe []byte

// packages are Debian's, for the tests in the guest; the programs of a base system are there without.
const packages = "apparmor attr bubblewrap busybox-static conntrack containerd containernetworking-plugins criu crun dbus-user-session " +
	"debootstrap docker-registry docker.io erofs-utils fsverity iproute2 iptables iputils-ping libcap2-bin libpam-systemd netcat-openbsd nftables " +
	"openssl passt podman python3-minimal quota runc skopeo slirp4netns strace udev uidmap umoci xfsprogs xz-utils zstd"

// Missing says what this host has not that a machine needs, or nothing.
func Missing() string {
	if os.Getuid() != 0 || runtime.GOARCH != "amd64" {
		return "root on amd64"
	}
	for _, tool := range []string{"qemu-system-x86_64", "debootstrap", "apt-get", "dpkg-deb", "cpio", "xz", "mkfs.ext4", "make", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool
		}
	}
	return ""
}

// Parts is the folder of what machines are made of, which is made now if it is not there.
func Parts(log func(string, ...any)) (string, error) {
	base := os.Getenv("CORTEN_TEST_CACHE")
	if base == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder: %w (set CORTEN_TEST_CACHE)", err)
		}
		base = filepath.Join(user, "corten-test")
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(recipe, packages...))
	dir := filepath.Join(base, "vm-"+hex.EncodeToString(sum[:6]))
	// Of several processes that want it, one makes it and the others wait.
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	begun := time.Now()
	if err := cook(dir + ".tmp"); err != nil {
		return "", err
	}
	if err := os.Rename(dir+".tmp", dir); err != nil {
		return "", err
	}
	log("made %s in %.0f s", dir, time.Since(begun).Seconds())
	return dir, nil
}

// cook executes the recipe. In a mount namespace of its own it can leave no mount behind.
func cook(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("sh", append([]string{"-s"}, strings.Fields(packages)...)...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(recipe)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the machine: %w\n%s", err, out[max(0, len(out)-4000):])
	}
	return nil
}

// Tree is the root of this source tree.
func Tree() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// BuildGo compiles a program of this tree, for the guest.
func BuildGo(to, pkg string) error {
	tree, err := Tree()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// writeInitrd adds the agent to the one of the parts: the kernel unpacks archives one after another.
func (m *Machine) writeInitrd() error {
	first, err := os.ReadFile(filepath.Join(m.parts, "initrd.img"))
	if err != nil {
		return err
	}
	path := filepath.Join(m.dir, "agent")
	if err := BuildGo(path, "./test/vm/agent"); err != nil {
		return err
	}
	agent, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	archive := append(first, bytes.Repeat([]byte{0}, -len(first)&3)...)
	archive = appendFile(archive, "run/agent", 0o100755, agent)
	archive = appendFile(archive, "TRAILER!!!", 0, nil)
	return errors.Join(os.WriteFile(filepath.Join(m.dir, "initrd"), archive, 0o644), os.Remove(path))
}

// appendFile adds a file in cpio's newc format: kernel, Documentation/driver-api/early-userspace/buffer-format.rst.
func appendFile(archive []byte, name string, mode uint32, body []byte) []byte {
	pad := func() { archive = append(archive, make([]byte, -len(archive)&3)...) }
	// inode, mode, uid, gid, links, mtime, size, device twice, length of name, checksum
	archive = fmt.Appendf(archive, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		1, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name)+1, 0)
	archive = append(append(archive, name...), 0)
	pad()
	archive = append(archive, body...)
	pad()
	return archive
}
