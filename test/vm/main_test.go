// Package vm_test holds the tests of what takes a virtual machine: systemd, control groups of version
// 2 alone, AppArmor, fs-verity, project quotas, reboots and power cuts. The tests run on the host
// and drive the guest; they share one machine, which each leaves as it found it.
//
// They are asked for by CORTEN_TEST_VM=1, and take minutes.
package vm_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cortenhq/corten/test/vm/machine"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.machine != nil {
		if err := shared.machine.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is the machine of the tests that need no other.
var shared struct {
	once    sync.Once
	machine *machine.Machine
	err     error
}

// guest is a machine that is on, with this tree's Corten installed, and the image debian.
func guest(t *testing.T) *machine.Machine {
	t.Helper()
	needVM(t)
	shared.once.Do(func() {
		shared.machine, shared.err = prepared(t, machine.Options{})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	if !shared.machine.On() {
		if err := shared.machine.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return shared.machine
}

// needVM skips a test where there can be no virtual machine, or none is wanted.
func needVM(t *testing.T) {
	t.Helper()
	if os.Getenv("CORTEN_TEST_VM") == "" {
		t.Skip("needs CORTEN_TEST_VM=1: boots a virtual machine")
	}
	if lack := machine.Missing(); lack != "" {
		t.Skip("needs " + lack)
	}
}

// prepared makes a machine and gives it what all tests want.
func prepared(t *testing.T, opts machine.Options) (*machine.Machine, error) {
	opts.Log = func(format string, args ...any) { fmt.Fprintf(os.Stderr, "vm: "+format+"\n", args...) }
	m, err := machine.New(opts)
	if err != nil {
		return nil, err
	}
	ctx := t.Context()
	if err := m.Start(ctx); err != nil {
		return m, err
	}
	if err := m.Install(ctx); err != nil {
		return m, err
	}
	if err := m.Copy(ctx, "/root", m.Debian()); err != nil {
		return m, err
	}
	begun := time.Now()
	err = m.Command("corten", "import", "/root/debian.tar", "debian").Run(ctx)
	opts.Log("imported debian in %.1f s", time.Since(begun).Seconds())
	return m, err
}

// sh runs a script in the guest, which has to succeed, and returns what it prints, without spaces
// around it.
func sh(t *testing.T, m *machine.Machine, script string) string {
	t.Helper()
	out, err := try(t.Context(), m, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func try(ctx context.Context, m *machine.Machine, script string) (string, error) {
	out, err := m.Shell(script).Output(ctx)
	return strings.TrimSpace(out), err
}

// ctxAfter is for what is done after a test, whose own context is over then.
func ctxAfter(t *testing.T) context.Context {
	return context.WithoutCancel(t.Context())
}
