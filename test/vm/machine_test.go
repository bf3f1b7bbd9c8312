package vm_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cortenhq/corten/test/vm/machine"
)

// TestMachine says that the machine is what the other tests take it for.
func TestMachine(t *testing.T) {
	m := guest(t)
	for _, fact := range []struct{ name, script, want string }{
		{"systemd runs", "systemctl is-system-running", "running"},
		{"control groups are of version 2 alone", "stat -f -c %T /sys/fs/cgroup; grep -c cgroup /proc/mounts", "cgroup2fs\n1"},
		{"AppArmor is on", "cat /sys/module/apparmor/parameters/enabled; aa-status --enabled && echo yes", "Y\nyes"},
		{"the root has fs-verity", "cd /root && echo x >sealed && fsverity enable sealed && fsverity measure sealed | cut -c1-7; rm sealed", "sha256:"},
		{"the root has project quotas", "quotaon -p -P / | awk '{print $NF}'", "on"},
		{"the kernel is Debian's", "uname -r | cut -d. -f1-2", "6.12"},
		{"nobody else is reached", "timeout 5 bash -c '</dev/tcp/10.0.2.2/22' 2>/dev/null; test $? != 0 && echo no", "no"},
	} {
		t.Run(fact.name, func(t *testing.T) {
			if got := sh(t, m, fact.script); got != fact.want {
				t.Errorf("got %q, want %q", got, fact.want)
			}
		})
	}
}

// TestCommands says that commands in the guest are like those on the host.
func TestCommands(t *testing.T) {
	m := guest(t)
	var exit *machine.ExitError
	if err := m.Shell("echo why >&2; exit 7").Run(t.Context()); !errors.As(err, &exit) || exit.Code != 7 || exit.Stderr != "why\n" {
		t.Errorf("exit 7: %v", err)
	}
	if err := m.Shell("kill -9 $$").Run(t.Context()); !errors.As(err, &exit) || exit.Signal != 9 {
		t.Errorf("kill -9: %v", err)
	}
	if err := m.Command("/nowhere").Run(t.Context()); !errors.As(err, &exit) || exit.Reason == "" {
		t.Errorf("no such command: %v", err)
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	cat := m.Command("cat")
	cat.Stdin = bytes.NewReader(large)
	if out, err := cat.Output(t.Context()); err != nil || out != string(large) {
		t.Errorf("cat: %d bytes of %d, %v", len(out), len(large), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := m.Command("sleep", "1234567").Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that is given up: %v", err)
	}
	if out := sh(t, m, "while pgrep -f 'sleep 123456[7]' >/dev/null; do sleep 0.1; done; echo gone"); out != "gone" {
		t.Error(out)
	}
	tty := m.Shell("stty size; tty")
	tty.Terminal = [2]int{24, 81}
	if out, err := tty.Output(t.Context()); err != nil || !strings.HasPrefix(out, "24 81\r\n/dev/pts/") {
		t.Errorf("a terminal: %q, %v", out, err)
	}
}
