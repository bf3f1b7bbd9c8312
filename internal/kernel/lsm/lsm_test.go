package lsm

import (
	"os"
	"strings"
	"testing"
)

func TestSelf(t *testing.T) {
	on, err := AppArmor()
	if err != nil {
		t.Fatal(err)
	}
	if !on {
		if got := Confined(os.Getpid()); got != "" {
			t.Errorf("AppArmor is not active, and this process is %q", got)
		}
		t.Skip("AppArmor is not active here; in the virtual machine it is")
	}
	if Confined(os.Getpid()) == "" {
		t.Error("this process has no profile, and is not unconfined either")
	}
	b, err := os.ReadFile("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		name, mode, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.Contains(name, "//") {
			continue // a profile within another
		}
		if got, err := Profile(name); err != nil || "("+got+")" != mode {
			t.Errorf("%s is %q and %v, want %s", name, got, err, mode)
		}
	}
	if got, err := Profile("none-of-that-name"); got != "" || err != nil {
		t.Errorf("a profile that is not loaded is %q and %v", got, err)
	}
}

func TestModules(t *testing.T) {
	a, err := AppArmor()
	if err != nil {
		t.Fatal(err)
	}
	s, err := SELinux()
	if err != nil || a && s {
		t.Errorf("AppArmor is %v, SELinux is %v and %v: a kernel has one of them at most before Linux 7", a, s, err)
	}
}
