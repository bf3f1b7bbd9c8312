// Package systemd_test runs Corten on a machine with systemd and control groups version 2: a
// virtual one, for the hosts of the other tests have neither.
//
// It takes minutes, and is asked for by CORTEN_TEST_VM=1. What the machine is made of is kept in
// the cache folder of package testimage, and made anew when its recipe changes
// (testdata/machine.sh); testdata/checks.sh is what it does.
package systemd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/testimage"
)

// sh runs a command that has to succeed.
func sh(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out[max(0, len(out)-2000):])
	}
}

// parts is the folder of what the machine is made of.
func parts(t *testing.T) string {
	t.Helper()
	recipe, err := filepath.Abs("testdata/machine.sh")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(recipe)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	dir := filepath.Join(testimage.CacheDir(t), "vm-systemd-"+hex.EncodeToString(sum[:6]))
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.RemoveAll(dir + ".tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+".tmp", 0o755); err != nil {
		t.Fatal(err)
	}
	sh(t, dir+".tmp", "sh", recipe)
	if err := os.Rename(dir+".tmp", dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// disk makes the machine's disk, with the programs of this tree.
func disk(t *testing.T, parts string) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	sh(t, "", "cp", "-a", parts+"/guest", root)
	sh(t, "", "cp", parts+"/guest.tar", root+"/root/")
	sh(t, "", "install", "-m", "755", "testdata/checks.sh", root+"/root/checks.sh")
	bin := root + "/usr/local/bin/"
	const module = "github.com/cortenhq/corten/cmd/"
	sh(t, "", "go", "build", "-trimpath", "-ldflags=-s -w -E=github.com/cortenhq/corten/internal/kernel/nest.entry", "-o", bin, module+"corten", module+"corten-image")
	sh(t, "", "go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, module+"corten-format", module+"corten-keeper", module+"corten-net", module+"corten-cni")
	sh(t, "", "go", "build", "-trimpath", "-ldflags=-s -w -E=main.entry", "-o", bin, module+"corten-init")
	sh(t, "", "install", "-m", "755", bin+"corten-init", bin+"corten-init-user")
	if err := os.Chmod(bin+"corten-init", 0o711); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"corten-boot.service": "system", "corten-boot.user.service": "user"} {
		unit, err := os.ReadFile("../../packaging/" + from)
		if err != nil {
			t.Fatal(err)
		}
		unit = bytes.ReplaceAll(unit, []byte("@PREFIX@"), []byte("/usr/local"))
		if err := os.WriteFile(root+"/etc/systemd/"+to+"/corten-boot.service", unit, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, dir, "mkfs.ext4", "-q", "-d", root, "disk", "3G")
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	return dir + "/disk"
}

// boot runs the machine until it switches itself off, and returns what it wrote to its console.
func boot(t *testing.T, parts, disk string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-kernel", parts+"/vmlinuz", "-initrd", parts+"/initrd.gz", "-drive", "file="+disk+",if=virtio,format=raw",
		"-append", "console=ttyS0 panic=-1 quiet systemd.show_status=0", "-nographic", "-no-reboot")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.ReplaceAll(string(out), "\r", "")
}
