package systemd_test

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

func TestSystemd(t *testing.T) {
	if os.Getenv("CORTEN_TEST_VM") == "" {
		t.Skip("needs CORTEN_TEST_VM=1: boots a virtual machine twice")
	}
	if os.Getuid() != 0 || runtime.GOARCH != "amd64" {
		t.Skip("needs root on amd64")
	}
	for _, tool := range []string{"qemu-system-x86_64", "debootstrap", "apt-get", "dpkg-deb", "cpio", "xz", "mkfs.ext4"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
	parts := parts(t)
	disk := disk(t, parts)
	for _, name := range []string{"first", "after a power cut"} {
		t.Run(name, func(t *testing.T) {
			out := boot(t, parts, disk)
			over, n := false, 0
			for line := range strings.Lines(out) {
				line = strings.TrimSpace(line)
				switch {
				case strings.HasPrefix(line, "FAIL: "):
					t.Error(line)
				case strings.HasPrefix(line, "ok: "):
					t.Log(line)
					n++
				case line == "over":
					over = true
				}
			}
			if !over || n == 0 || t.Failed() {
				t.Fatalf("%d checks, to the end: %v\n%s", n, over, out)
			}
		})
	}
}
