package launch_test

import (
	"io"
	"os"
	"testing"

	"github.com/cortenhq/corten/internal/launch"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/plan/decide"
	"github.com/cortenhq/corten/internal/spec"
)

// asSystemd is a container that is made as systemd wants it, with a shell in its place.
func asSystemd(t *testing.T, script string, more ...spec.Mount) decide.Input {
	t.Helper()
	in := input(t, "sh", "-c", script)
	in.Container.ID = "0123456789abcdef0123456789abcdef01234567"
	in.Container.Life.Systemd, in.Container.Life.NoInit = spec.SystemdAlways, true
	in.Container.Mounts = more
	in.Sources = make([]plan.Source, len(more))
	return in
}

const ownID = "0123456789abcdef0123456789abcdef\n"

func TestMachineID(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	etc := spec.Mount{Type: spec.Tmpfs, Target: "/etc"}
	readOnly := etc
	readOnly.ReadOnly = true
	for _, test := range []struct {
		name, script, want string
		mounts             []spec.Mount
	}{
		{"made", "cat /etc/machine-id; stat -c %a:%u /etc/machine-id", ownID + "444:0\n", []spec.Mount{etc}},
		{"read-only", "cat /etc/machine-id 2>/dev/null; echo $container", "corten\n", []spec.Mount{readOnly}},
		{"user's", "ls -d /etc/machine-id; echo $container_uuid", "/etc/machine-id\n" + ownID,
			[]spec.Mount{etc, {Type: spec.Tmpfs, Target: "/etc/machine-id"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, st := run(t, asSystemd(t, test.script, test.mounts...))
			if out != test.want || st.Code != 0 {
				t.Errorf("status %+v, %q; want %q", st, out, test.want)
			}
		})
	}
}

// The first terminal of a container is its console.
func TestConsole(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	in := input(t, "sh", "-c", "readlink -f /dev/console; tty")
	in.Container.Process.Terminal = true
	p, err := decide.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := launch.Start(p, launch.Env{})
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	defer proc.Terminal.Close()
	out, _ := io.ReadAll(proc.Terminal) // until the last one closes the terminal: EIO
	if _, err := proc.Wait(); err != nil {
		t.Error(err)
	}
	if want := "/dev/pts/0\r\n/dev/pts/0\r\n"; string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
}
