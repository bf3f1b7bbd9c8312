package systemd

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/testsystemd"
)

// beside is in the environment of this test where it runs beside systemd.
const beside = "CORTEN_TEST_BESIDE_SYSTEMD"

func TestScope(t *testing.T) {
	if os.Getenv(beside) == "" {
		enter := testsystemd.Boot(t)
		cmd := exec.Command(enter[0], append(enter[1:], os.Args[0], "-test.run=^TestScope$", "-test.v")...)
		cmd.Env = append(os.Environ(), beside+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Logf("%s", out)
		return
	}
	for _, s := range []socket{{"/run/systemd/private", false}, {"/run/dbus/system_bus_socket", true}} {
		if _, err := os.Stat(s.file); err != nil {
			t.Log("needs dbus-daemon: apt-get install dbus")
			continue
		}
		t.Run(s.file, func(t *testing.T) {
			m, err := connect("systemd", s)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			testScope(t, m)
		})
	}
}

func testScope(t *testing.T, m *Manager) {
	if group, err := m.Group(); err != nil || group != "/" {
		t.Errorf("group %q, %v", group, err)
	}
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Wait()
	const unit = "corten-test-a.scope"
	make := func(optional ...Property) error {
		return m.Start(unit, []Property{
			{"PIDs", []uint32{uint32(sleep.Process.Pid)}}, {"Slice", "corten-test.slice"}, {"Delegate", true}, {"TimeoutStopUSec", uint64(7e6)},
			{"KillSignal", int32(9)}, {"Documentation", []string{"man:a(1)", "man:b(2)"}}}, optional)
	}
	if err := make(Property{"TasksMax", uint64(7)}, Property{"NoSuchThing", "x"}); err != nil {
		t.Fatal(err)
	}
	show := func(name string) string {
		out, _ := exec.Command("systemctl", "show", unit, "--value", "-p", name).Output()
		return strings.TrimSpace(string(out))
	}
	for name, want := range map[string]string{
		"ControlGroup": "/corten.slice/corten-test.slice/" + unit, "TasksMax": "7", "Delegate": "yes", "TimeoutStopUSec": "7s", "KillSignal": "9",
		"Documentation": `"man:a(1)" "man:b(2)"`, "ActiveState": "active",
	} {
		if got := show(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(sleep.Process.Pid) + "/cgroup")
	if err != nil || !strings.Contains(string(groups), "0::/corten.slice/corten-test.slice/"+unit+"\n") {
		t.Errorf("%s, %v", groups, err)
	}
	if err := make(); !errs.Is(err, errs.Exists) {
		t.Errorf("twice: %v", err)
	}
	if err := m.Set(unit, []Property{{"TasksMax", uint64(9)}, {"NoSuchThing", "x"}}); err != nil || show("TasksMax") != "9" {
		t.Errorf("%v, %s", err, show("TasksMax"))
	}
	for range 2 {
		if err := m.Stop(unit); err != nil {
			t.Error(err)
		}
	}
	if err := m.Start("corten-test-b.scope", []Property{{"PIDs", []uint32{1 << 30}}}, nil); err == nil {
		t.Error("a scope around nobody")
	}
}

func TestCall(t *testing.T) {
	got := call(7, "a.b", "/x", "a.b.C", "Do", []any{"s", true, []string{"p", "qr"}, []Property{{"N", uint64(1)}, {"B", []byte{1, 2}}}, auxiliary{}})
	if n, err := size(got[:fixed]); err != nil || n != len(got) {
		t.Errorf("%d, %v, want %d", n, err, len(got))
	}
	want := "\x02\x00\x00\x00s\x00\x00\x00"
	if !bytes.Contains(got, []byte("sbasa(sv)a(sa(sv))\x00")) || bytes.Contains(got, []byte(want)) {
		t.Errorf("%q", got)
	}
	m, err := decode(got)
	if diff := cmp.Diff(message{kind: kindCall, member: "Do", texts: []string{"s"}}, m, cmp.AllowUnexported(message{})); err != nil || diff != "" {
		t.Error(diff, err)
	}
}

// FuzzDecode has messages read that are none.
func FuzzDecode(f *testing.F) {
	f.Add(call(1, busIs, "/org/freedesktop/DBus", busIs, "Hello", nil))
	f.Add(call(2, name, object, iface, "StopUnit", []any{"a.scope", "fail", uint32(3), signature("s"), path("/p")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= fixed {
			if n, err := size(b[:fixed]); err == nil && n < fixed {
				t.Errorf("size %d", n)
			}
		}
		_, _ = decode(b)
	})
}

func TestUnixPath(t *testing.T) {
	for address, want := range map[string]string{
		"":                                  "/other",
		"unix:path=/run/bus":                "/run/bus",
		"unix:guid=1,path=/run/bus":         "/run/bus",
		"tcp:host=x;unix:abstract=/tmp/dbu": "@/tmp/dbu",
		"unix:path=/run/user/1/a%20b":       "/run/user/1/a b",
		"launchd:env=X":                     "/other",
	} {
		if got := unixPath(address, "/other"); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

// TestLimits keeps lengths that are lies from being believed.
func TestLimits(t *testing.T) {
	b := call(1, name, object, iface, "Get", []any{"x"})
	binary.LittleEndian.PutUint32(b[4:], 1<<31)
	if _, err := size(b); err == nil {
		t.Error("a message of two gigabytes is read")
	}
}
