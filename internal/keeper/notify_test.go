package keeper

import (
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager listens as a service manager does.
func (w *world) manager() *net.UnixConn {
	w.t.Helper()
	w.orders.Notify.Socket = filepath.Join(w.run, "manager")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: w.orders.Notify.Socket, Net: "unixgram"})
	w.must(err)
	w.t.Cleanup(func() { _ = c.Close() })
	w.must(c.SetReadDeadline(time.Now().Add(20 * time.Second)))
	return c
}

func (w *world) hear(c *net.UnixConn, want string) {
	w.t.Helper()
	b := make([]byte, 8192)
	n, err := c.Read(b)
	w.must(err)
	if string(b[:n]) != want {
		w.t.Errorf("the manager heard %q, want %q", b[:n], want)
	}
}

// What a container says of itself is passed on, and nothing that it has no say in.
func TestNotifyFromContainer(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	w.orders.Notify.Mode = "container"
	w.begin("sleep", "1000")
	w.keep()
	w.hear(m, "MAINPID="+itoa(w.keeper.Process.Pid))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	w.must(err)
	defer unix.Close(fd)
	to := &unix.SockaddrUnix{Name: filepath.Join(w.folder, NotifyName)}
	for _, s := range []string{"FDSTORE=1\nMAINPID=1", "READY=1\nMAINPID=1\nSTATUS=up\nBARRIER=1", strings.Repeat("READY=1\n", 1000), "STOPPING=1"} {
		w.must(unix.Sendto(fd, []byte(s), 0, to))
	}
	w.hear(m, "READY=1\nSTATUS=up\n")
	w.hear(m, "STOPPING=1")
}

func TestNotifyFromKeeper(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	w.orders.Notify.Mode = "keeper"
	w.begin("sleep", "1000")
	w.keep()
	w.hear(m, "MAINPID="+itoa(w.keeper.Process.Pid)+"\nREADY=1")
}

// Who reads orders gets what was written, also of a keeper that knows less.
func TestOrders(t *testing.T) {
	folder := t.TempDir()
	want := Orders{ID: "i", Root: "/r", Run: "/u", Corten: "/c", Keeper: "/k", PID: 4, Start: 1 << 63, Terminal: true, Guard: 5, Init: true,
		Log:    LogOrders{Off: true, Size: 1 << 40, Files: 6, Compress: true, NonBlocking: true, Buffer: 7},
		Health: HealthOrders{Interval: 8, StartPeriod: 9, StartInterval: 10}, Notify: NotifyOrders{Mode: "container", Socket: "@s"}, Net: "/n",
		Resolver: ResolverOrders{Port: 65535, Networks: []string{"a", "b"}, Upstream: []string{"fe80::1%eth0", "1.1.1.1"}, Alone: true}}
	if err := want.Write(folder); err != nil {
		t.Fatal(err)
	}
	b, err := readFile(folder + "/" + OrdersName)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(folder+"/"+OrdersName, string(b)+"of-tomorrow 1\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadOrders(folder); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	want.Root = "a\nb"
	if err := want.Write(folder); err == nil {
		t.Error("a line break was written")
	}
	ended := Ended{Status: 137, Signal: 9, Time: 1, Unknown: true}
	if err := ended.Write(folder); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadEnded(folder); err != nil || got != ended {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAllowed(t *testing.T) {
	for in, want := range map[string]string{"": "", "READY=1": "READY=1", "READY": "READY", "X=1\nWATCHDOG=1\n": "WATCHDOG=1\n", "MAINPID=1\n": ""} {
		if got := allowed(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func FuzzOrders(f *testing.F) {
	f.Add("corten orders 1\nid a\npid 1\n")
	f.Add("corten orders 2\n")
	f.Fuzz(func(t *testing.T, s string) {
		folder := t.TempDir()
		if err := writeFile(folder+"/"+OrdersName, s); err != nil {
			t.Fatal(err)
		}
		o, err := ReadOrders(folder)
		if err != nil {
			return
		}
		if err := o.Write(folder); err != nil {
			return
		}
		if again, err := ReadOrders(folder); err != nil || again.PID != o.PID || again.ID != o.ID || again.Log != o.Log {
			t.Fatalf("%+v was read again as %+v, %v", o, again, err)
		}
	})
}
