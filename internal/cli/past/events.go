// Package past has the verbs that tell what has been, and go on to tell what is happening:
// events and logs.
package past

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
)

// span is --since and --until.
type span struct{ since, until string }

func (f *span) bind(cmd *cobra.Command) {
	const how = " `TIME`: a date, seconds since 1970, or how long ago (10m)"
	cmd.Flags().StringVar(&f.since, "since", "", "Show what happened since"+how)
	cmd.Flags().StringVar(&f.until, "until", "", "Show what happened until"+how)
}

func (f *span) times() (since, until time.Time, err error) {
	now := time.Now()
	if since, err = values.When("since", f.since, now); err == nil {
		until, err = values.When("until", f.until, now)
	}
	if err != nil {
		err = shell.Misused(err)
	}
	return since, until, err
}

// Events is corten events.
func Events(s *shell.Shell) *cobra.Command {
	f, filters, format := span{}, []string(nil), ""
	cmd := &cobra.Command{
		Use: "events [flags]",
		Long: `Show what happens to containers, images, volumes and networks: what comes from now on, or with --since also
what has been. It goes on until it is interrupted, or until the time of --until.`,
		Example: `  corten events
  corten events --since 1h --until 0s --filter container=web
  corten events --filter event=die --format '{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}'`,
		Args: declare.Args(0, 0),
	}
	f.bind(cmd)
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "Show only what `NAME=VALUE` lets through: container, event, image, label, network, type, volume")
	cmd.Flags().StringVar(&format, "format", "", "Print as `FORMAT`: json, or a Go template such as {{.Action}}")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req, err := engine.EventsRequest{}, error(nil)
		if req.Since, req.Until, err = f.times(); err != nil {
			return err
		}
		if req.Filter, err = engine.ParseEventFilter(filters); err != nil {
			return shell.Misused(err)
		}
		eng, err := s.Engine()
		if err != nil {
			return err
		}
		if format == "" {
			return eng.Events(cmd.Context(), req, func(e engine.Event) error { return printEvent(s.Stdout, e) })
		}
		out, err := s.Stream(format)
		if err != nil {
			return err
		}
		view := func(e engine.Event) any { return newEvent(e) }
		if format == "json" {
			view = func(e engine.Event) any { return eventJSON(newEvent(e)) }
		}
		if err := eng.Events(cmd.Context(), req, func(e engine.Event) error { return out.Print(view(e)) }); err != nil {
			_ = out.Close()
			return err
		}
		return out.Close()
	}
	return cmd
}

// printEvent prints a line as Docker does.
func printEvent(w io.Writer, e engine.Event) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %s", e.Time.Format("2006-01-02T15:04:05.000000000Z07:00"), e.Type, e.Action, e.ID)
	for i, name := range slices.Sorted(maps.Keys(e.Attributes)) {
		mark := ", "
		if i == 0 {
			mark = " ("
		}
		b.WriteString(mark + name + "=" + e.Attributes[name])
	}
	if len(e.Attributes) > 0 {
		b.WriteByte(')')
	}
	_, err := fmt.Fprintln(w, oneLine(b.String()))
	return err
}

// oneLine takes out what could command a terminal, or feign a line: attributes are labels,
// which an image's maker chose.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// event is an event for templates, with Docker's names.
type event struct {
	Status   string
	ID       string
	From     string
	Type     string
	Action   string
	Actor    actor
	Scope    string
	Time     int64
	TimeNano int64
}

type actor struct {
	ID         string
	Attributes map[string]string
}

// eventJSON is the same for json, for which Docker has other names.
type eventJSON struct {
	Status   string `json:"status"`
	ID       string `json:"id"`
	From     string `json:"from,omitempty"`
	Type     string
	Action   string
	Actor    actor
	Scope    string `json:"scope"`
	Time     int64  `json:"time"`
	TimeNano int64  `json:"timeNano"`
}

func newEvent(e engine.Event) event {
	if e.Attributes == nil {
		e.Attributes = map[string]string{}
	}
	return event{Status: e.Action, ID: e.ID, From: e.Attributes["image"], Type: e.Type, Action: e.Action,
		Actor: actor{e.ID, e.Attributes}, Scope: "local", Time: e.Time.Unix(), TimeNano: e.Time.UnixNano()}
}
