package past

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/events"
	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/spec"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// desk is a command line without a process of its own, and the folders it works on.
type desk struct {
	*shell.Shell
	t *testing.T
}

func newDesk(t *testing.T) desk {
	dir := t.TempDir()
	d := desk{&shell.Shell{Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run")}, t}
	d.LookupEnv = func(string) (string, bool) { return "", false }
	return d
}

// run carries out a verb and returns what it wrote.
func (d desk) run(verb func(*shell.Shell) *cobra.Command, args ...string) (stdout, stderr string, err error) {
	d.t.Helper()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(d.t.TempDir(), name))
		ok(d.t, err)
		return f
	}
	d.Stdout, d.Stderr = open("stdout"), open("stderr")
	defer d.Stdout.Close()
	defer d.Stderr.Close()
	cmd := verb(d.Shell)
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.ExecuteContext(context.Background())
	out, rerr := os.ReadFile(d.Stdout.Name())
	ok(d.t, rerr)
	said, rerr := os.ReadFile(d.Stderr.Name())
	ok(d.t, rerr)
	return string(out), string(said), err
}

// box makes a container that has ended.
func (d desk) box(name string, kept bool, change func(*spec.Container)) *container.Container {
	d.t.Helper()
	c := &spec.Container{Version: spec.Version, ID: container.NewID(), Name: name}
	change(c)
	x, err := container.Create(container.Dirs{Root: d.Root, Run: d.Run}, c, nil, container.Kept)
	ok(d.t, err)
	ok(d.t, x.Save())
	ok(d.t, x.SetState(container.State{Status: container.Exited, Kept: kept, Started: time.Unix(1, 0), Finished: time.Unix(9, 0)}))
	ok(d.t, x.Unlock())
	return x
}

// output is what a container wrote: two lines, one in parts, a line to stderr, and a prompt.
func (d desk) output(x *container.Container) {
	d.t.Helper()
	w, err := logs.OpenWriter(filepath.Join(x.Dir(), "log"), logs.Limits{})
	ok(d.t, err)
	defer w.Close()
	for i, r := range []logs.Record{
		{Content: []byte("one")},
		{Content: []byte("tw"), Partial: true},
		{Stream: logs.Stderr, Content: []byte("oh")},
		{Content: []byte("o\r")},
		{Content: []byte("prompt> "), Partial: true},
	} {
		r.Time = int64(i+1) * 1e9
		ok(d.t, w.Append(logs.Append(nil, r)))
	}
}

func TestLogs(t *testing.T) {
	d := newDesk(t)
	x := d.box("web", true, func(*spec.Container) {})
	if out, said, err := d.run(Logs, "web"); out+said != "" || err != nil {
		t.Errorf("before anything was written: %q %q %v", out, said, err)
	}
	d.output(x)
	const all = "one\ntwo\r\nprompt> "
	for _, y := range []struct{ args, out, said string }{
		{"web", all, "oh\n"},
		{string(x.Spec.ID.Short()), all, "oh\n"},
		{"-f web", all, "oh\n"},
		{"--tail all web", all, "oh\n"},
		{"--tail -5 --details web", all, "oh\n"},
		{"-n 2 web", "o\r\nprompt> ", ""},
		{"-n 0 -f web", "", ""},
		{"-t web", "1970-01-01T00:00:01.000000000Z one\n1970-01-01T00:00:02.000000000Z two\r\n1970-01-01T00:00:05.000000000Z prompt> ",
			"1970-01-01T00:00:03.000000000Z oh\n"},
		{"--since 4 web", "o\r\nprompt> ", ""},
		{"--until 1970-01-01T00:00:01Z web", "one\n", ""},
		{"--since 1m web", "", ""},
	} {
		out, said, err := d.run(Logs, strings.Fields(y.args)...)
		if out != y.out || said != y.said || err != nil {
			t.Errorf("logs %s: %q %q %v, want %q %q", y.args, out, said, err, y.out, y.said)
		}
	}
	for args, want := range map[string]string{
		"--tail few web":       `--tail "few": neither a number nor all`,
		"--since whenever web": `--since "whenever": neither a span of time nor a time`,
		"nobody":               "find container nobody: no such container",
	} {
		if _, _, err := d.run(Logs, strings.Fields(args)...); err == nil || err.Error() != want || errs.HintOf(err) == "" {
			t.Errorf("logs %s: %v, hint %q", args, err, errs.HintOf(err))
		}
	}
}

func TestNoLog(t *testing.T) {
	d := newDesk(t)
	d.box("front", false, func(*spec.Container) {})
	d.box("mute", true, func(c *spec.Container) { c.Life.Log.Off = true })
	for name, want := range map[string]string{
		"front": "read log of container front: its output went to whoever ran it in the foreground",
		"mute":  "read log of container mute: it keeps none (--log-driver none)",
	} {
		if _, _, err := d.run(Logs, name); err == nil || err.Error() != want || errs.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q", name, err, errs.HintOf(err))
		}
	}
}

// TestLost reads a log of which a file is no gzip.
func TestLost(t *testing.T) {
	d := newDesk(t)
	x := d.box("web", true, func(*spec.Container) {})
	d.output(x)
	dir := filepath.Join(x.Dir(), "log")
	ok(t, os.Rename(filepath.Join(dir, "1.log"), filepath.Join(dir, "2.log")))
	ok(t, os.WriteFile(filepath.Join(dir, "1.log.gz"), []byte("?"), 0o600))
	out, said, err := d.run(Logs, "web")
	if want := "oh\ncorten: warning: files of the log that were removed or damaged before they could be read: 1\n"; err != nil || said != want || !strings.HasPrefix(out, "one\n") {
		t.Errorf("%q %q %v", out, said, err)
	}
}

func TestEvents(t *testing.T) {
	d := newDesk(t)
	for i, e := range []events.Event{
		{Type: events.TypeContainer, Action: "start", ID: "ab12", Attributes: map[string]string{"name": "web", "image": "debian:12"}},
		{Type: events.TypeContainer, Action: "die", ID: "ab12", Attributes: map[string]string{"name": "web", "image": "debian:12", "exitCode": "3", "x": "a\x1b[2J\nb"}},
		{Type: events.TypeVolume, Action: "create", ID: "data"},
	} {
		e.Time = time.Unix(int64(1763726400+i), 5)
		ok(t, events.Append(d.Root, e))
	}
	zone := time.Unix(1763726400, 0).Format("Z07:00")
	at := func(i int) string {
		return time.Unix(int64(1763726400+i), 0).Format("2006-01-02T15:04:05") + ".000000005" + zone
	}
	lines := []string{
		at(0) + " container start ab12 (image=debian:12, name=web)\n",
		at(1) + " container die ab12 (exitCode=3, image=debian:12, name=web, x=a?[2J?b)\n",
		at(2) + " volume create data\n",
	}
	for _, x := range []struct{ args, want string }{
		{"--until 0s", lines[0] + lines[1] + lines[2]},
		{"--since 1763726401 --until 0s", lines[1] + lines[2]},
		{"--since 1763726401 --until 1763726401.5", lines[1]},
		{"--until 0s --filter container=web -f event=die", lines[1]},
		{"--until 0s --filter type=volume --format json", `{"status":"create","id":"data","Type":"volume","Action":"create",` +
			`"Actor":{"ID":"data","Attributes":{}},"scope":"local","time":1763726402,"timeNano":1763726402000000005}` + "\n"},
	} {
		out, said, err := d.run(Events, strings.Fields(x.args)...)
		if out != x.want || said != "" || err != nil {
			t.Errorf("events %s: %q %q %v, want %q", x.args, out, said, err, x.want)
		}
	}
	for _, args := range []string{"--since x", "--filter shiny=1", "more"} {
		if _, _, err := d.run(Events, strings.Fields(args)...); errs.HintOf(err) == "" {
			t.Errorf("events %s: %v", args, err)
		}
	}
}

// TestEventsLive has events come while they are shown.
func TestEventsLive(t *testing.T) {
	d := newDesk(t)
	before := time.Now().Add(-time.Minute)
	ok(t, events.Append(d.Root, events.Event{Type: events.TypeImage, Action: "pull", ID: "first"}))
	eng, err := engine.Open(engine.Config{Root: d.Root, Run: d.Run})
	ok(t, err)
	done := make(chan error)
	seen := make(chan string)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		done <- eng.Events(ctx, engine.EventsRequest{Since: before}, func(e engine.Event) error { seen <- e.ID; return nil })
	}()
	if id := <-seen; id != "first" {
		t.Errorf("saw %s", id)
	}
	ok(t, events.Append(d.Root, events.Event{Type: events.TypeImage, Action: "pull", ID: "second"}))
	if id := <-seen; id != "second" {
		t.Errorf("saw %s", id)
	}
	cancel()
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
}
