package main

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// notifier builds the program in testdata/notify.
func notifier(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: notifier FILE")
	}
	cmd := exec.Command("go", "build", "-o", ts.MkAbs(args[0]), "./testdata/notify")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("%v: %s", err, out)
	}
}

// notified runs corten as a service manager does that wants to be notified. It waits for as
// many notifications as it is told, and writes all to a file, one a line.
func notified(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: notified FILE NUMBER ARGS...")
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	path := ts.MkAbs("notify.socket")
	_ = os.Remove(path)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	defer c.Close()
	ts.Setenv("NOTIFY_SOCKET", path)
	err = ts.Exec("corten", args[2:]...)
	ts.Setenv("NOTIFY_SOCKET", "")
	if neg == (err == nil) {
		ts.Fatalf("corten %q: %v", args[2:], err)
	}
	var all strings.Builder
	b := make([]byte, 4096)
	for got := 0; ; got++ {
		wait := time.Now()
		if got < want {
			wait = wait.Add(20 * time.Second)
		}
		ts.Check(c.SetReadDeadline(wait))
		n, err := c.Read(b)
		if err != nil && got < want {
			ts.Fatalf("%d notifications, want %d: %v\n%s", got, want, err, all.String())
		}
		if err != nil {
			break
		}
		all.WriteString(strings.ReplaceAll(string(b[:n]), "\n", " ") + "\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(all.String()), 0o600))
}
