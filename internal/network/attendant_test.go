package network_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/network"
	"github.com/cortenhq/corten/internal/spec"
)

// peer speaks corten-net's end of the protocol. What it is to do is in a file of the run folder.
func peer(args []string) int {
	mode, run := args[0], args[2]
	script, _ := os.ReadFile(filepath.Join(run, "script"))
	report, _ := json.Marshal(map[string]any{"args": args, "env": os.Environ(), "files": openFiles(), "session": session()})
	_ = os.WriteFile(filepath.Join(run, "report"), report, 0o600)
	say := func(text string, fds ...int) {
		_ = unix.Sendmsg(3, []byte(text), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
	}
	b := make([]byte, 100)
	switch string(script) {
	case "die":
		return 1
	case "hang":
		time.Sleep(time.Hour)
	case "fail":
		text, _ := json.Marshal(map[string]any{"kind": errs.NoSpace, "op": "make", "object": "pair", "text": "no room", "hint": "make some"})
		say(string(text))
		return 1
	}
	if mode == "tend" || mode == "up" || mode == "change" {
		n, _ := unix.Read(3, b)
		_ = os.WriteFile(filepath.Join(run, "pid"), b[:n], 0o600)
		rd, wr, _ := os.Pipe()
		_, _ = wr.WriteString("passed")
		wr.Close()
		switch mode {
		case "up":
			say("ok", int(rd.Fd()))
			return 0
		case "change":
			say("ok")
			return 0
		}
		say("ok")
		_, _ = unix.Read(3, b) // the end
		_ = os.WriteFile(filepath.Join(run, "ended"), nil, 0o600)
	}
	say("ok")
	return 0
}

func session() bool {
	sid, err := unix.Getsid(0)
	return err == nil && sid == os.Getpid()
}

// openFiles is what a process has open by its start.
func openFiles() map[string]string {
	out := map[string]string{}
	for n := range 100 {
		if to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(n)); err == nil && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/sys/") {
			out[strconv.Itoa(n)] = strings.TrimRight(to, "0123456789[]")
		}
	}
	return out
}

// withPeer puts the peer where corten-net is looked for.
func withPeer(t *testing.T, script string) network.Dirs {
	t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(filepath.Dir(self), "corten-net")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(link) })
	d := network.Dirs{Root: t.TempDir(), Run: t.TempDir()}
	if err := os.WriteFile(filepath.Join(d.Run, "script"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

const someID = spec.ContainerID("1111111111111111111111111111111111111111111111111111111111111111")

func TestAttendant(t *testing.T) {
	d := withPeer(t, "")
	leak, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // as what a shell has open
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	a, err := network.Begin(d, network.Tend, someID)
	if err != nil {
		t.Fatal(err)
	}
	if files, err := connect(a, os.Getpid()); err != nil || len(files) != 0 {
		t.Fatal(files, err)
	}
	if err := a.End(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(d.Run, "ended")); err != nil {
		t.Error("End did not wait for the end: ", err)
	}
	a.Close()
	if pid, _ := os.ReadFile(filepath.Join(d.Run, "pid")); string(pid) != strconv.Itoa(os.Getpid()) {
		t.Errorf("it was told of %q", pid)
	}
	var r struct {
		Args, Env []string
		Files     map[string]string
		Session   bool
	}
	b, _ := os.ReadFile(filepath.Join(d.Run, "report"))
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if want := []string{"tend", d.Root, d.Run, string(someID)}; !reflect.DeepEqual(r.Args, want) {
		t.Errorf("arguments %q, want %q", r.Args, want)
	}
	if len(r.Env) != 1 || !strings.HasPrefix(r.Env[0], "PATH=") || !r.Session {
		t.Errorf("environment %q, session %v", r.Env, r.Session)
	}
	if want := map[string]string{"0": "/dev/null", "1": "/dev/null", "2": "/dev/null", "3": "socket:"}; !reflect.DeepEqual(r.Files, want) {
		t.Errorf("open files %q, want %q", r.Files, want)
	}
}

func TestAttendantFiles(t *testing.T) {
	d := withPeer(t, "")
	a, err := network.Begin(d, network.Up, someID)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	files, err := connect(a, 1)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	defer files[0].Close()
	if b, err := io.ReadAll(files[0]); err != nil || string(b) != "passed" {
		t.Errorf("the file passed says %q, %v", b, err)
	}
	if flags, err := unix.FcntlInt(files[0].Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the file passed has flags %x, %v", flags, err)
	}
}

func TestAttendantFails(t *testing.T) {
	for script, want := range map[string]errs.Kind{"fail": errs.NoSpace, "die": errs.Unavailable} {
		t.Run(script, func(t *testing.T) {
			d := withPeer(t, script)
			a, err := network.Begin(d, network.Tend, someID)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			_, err = connect(a, 1)
			if script == "fail" {
				mentions(t, err, want, "make pair: no room", "make some")
			} else {
				mentions(t, err, want, "corten-net")
			}
		})
	}
}

func TestAttendantHangs(t *testing.T) {
	d := withPeer(t, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan error, 1)
	go func() { begun <- network.Restore(ctx, d) }()
	for { // it has started
		if _, err := os.Stat(filepath.Join(d.Run, "report")); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	mentions(t, <-begun, errs.Canceled)
	killPeer(t, d)
}

// killPeer ends the process that hangs.
func killPeer(t *testing.T, d network.Dirs) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		b, _ := os.ReadFile(path)
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && strings.Contains(string(b), d.Run) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func TestDown(t *testing.T) {
	apart(t)
	d := withPeer(t, "")
	if err := network.Down(t.Context(), d, someID); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(d.Run, "report")); err == nil {
		t.Error("a process was started for nothing")
	}
	create(t, d, network.Request{Name: "n"})
	c := box(t, d, "c", spec.Attachment{Network: "n"})
	doc := claim(t, d, c)
	for _, gone := range []string{"wired/" + string(c.ID), "on/n/at/" + doc.Links[0].Addresses[0].Addr().String()} {
		if err := network.Down(t.Context(), d, c.ID); err != nil {
			t.Error(err)
		}
		if err := os.Remove(filepath.Join(d.Run, "report")); err != nil {
			t.Error("nothing was started: ", err)
		}
		if err := os.Remove(filepath.Join(d.Run, "net", gone)); err != nil {
			t.Error(err)
		}
	}
	if err := network.Down(t.Context(), d, c.ID); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(d.Run, "report")); err == nil {
		t.Error("a process was started for names that lead nowhere")
	}
}

func TestNoProgram(t *testing.T) {
	_, err := network.Begin(network.Dirs{}, network.Tend, someID)
	mentions(t, err, errs.NotFound, "corten-net", "make install")
}

// TestChangeAnswered sees that an address is given back when corten-net has answered that its interface is gone, and not before.
func TestChangeAnswered(t *testing.T) {
	apart(t)
	d := withPeer(t, "fail")
	create(t, d, network.Request{Name: "red", Subnets: prefixes("10.1.3.0/24")})
	create(t, d, network.Request{Name: "blue", Subnets: prefixes("10.1.2.0/24")})
	c := box(t, d, "web", spec.Attachment{Network: "red"}, spec.Attachment{Network: "blue"})
	claim(t, d, c)
	if _, err := network.Shrink(d, c.ID, "red"); err != nil {
		t.Fatal(err)
	}
	addresses := func() int { return len(tree(t, filepath.Join(d.Run, "net/on/red/at"))) }
	mentions(t, network.Change(t.Context(), d, c.ID, 42), errs.NoSpace, "no room")
	if addresses() != 1 {
		t.Error("the address was given back though its interface may be there")
	}
	if err := os.WriteFile(filepath.Join(d.Run, "script"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := network.Change(t.Context(), d, c.ID, 42); err != nil {
		t.Error(err)
	}
	if pid, _ := os.ReadFile(filepath.Join(d.Run, "pid")); string(pid) != "42" {
		t.Errorf("it was told of %q", pid)
	}
	if addresses() != 0 {
		t.Error("the address was not given back")
	}
	if marks, err := filepath.Glob(filepath.Join(d.Run, "net/wired/.*")); err != nil || len(marks) > 0 {
		t.Errorf("left: %v, %v", marks, err)
	}
}

// connect tells an attendant of a process and waits for its answer.
func connect(a *network.Attendant, pid int) ([]*os.File, error) {
	if err := a.Tell(pid); err != nil {
		return nil, err
	}
	return a.Await()
}
