package past

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
)

// Logs is corten logs.
func Logs(s *shell.Shell) *cobra.Command {
	f, req, tail, stamps := span{}, engine.LogsRequest{}, "all", false
	cmd := &cobra.Command{
		Use: "logs [flags] CONTAINER",
		Long: `Show what a container has written, to the streams to which it wrote it. It may be running or have
ended.

What a container with --rm writes in the foreground goes to whoever runs it, and is not kept.`,
		Example: `  corten logs web
  corten logs -f --tail 20 web
  corten logs --since 10m -t web 2>&1 | grep refused`,
		Args:              declare.Args(1, 1),
		ValidArgsFunction: declare.Containers(s, 1),
	}
	f.bind(cmd)
	fs := cmd.Flags()
	fs.BoolVarP(&req.Follow, "follow", "f", false, "Go on until the container has ended")
	fs.StringVarP(&tail, "tail", "n", tail, "Show only the last `NUMBER` of lines, or all")
	fs.BoolVarP(&stamps, "timestamps", "t", false, "Show when each line began")
	fs.Bool("details", false, "Accepted for Docker's sake: there are no details")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if req.Tail, err = parseTail(tail); err == nil {
			req.Since, req.Until, err = f.times()
		}
		if err != nil {
			return err
		}
		return printLogs(cmd.Context(), s, args[0], req, stamps)
	}
	return cmd
}

// parseTail reads --tail; as for Docker what is negative is all.
func parseTail(s string) (int, error) {
	if s == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, shell.Misused(values.Bad("tail", s, "neither a number nor all", "write how many lines, or all"))
	}
	return max(n, -1), nil
}

func printLogs(ctx context.Context, s *shell.Shell, ref string, req engine.LogsRequest, stamps bool) error {
	eng, err := s.Engine()
	if err != nil {
		return err
	}
	stdout, stderr := newPaper(s.Stdout, stamps), newPaper(s.Stderr, stamps)
	req.Idle = func() error { return errors.Join(stdout.Flush(), stderr.Flush()) }
	last, lost := stdout, 0
	err = eng.Logs(ctx, ref, req, func(e engine.LogEntry) error {
		if e.Lost > 0 {
			lost += e.Lost
			return nil
		}
		p := stdout
		if e.Stream == engine.LogStderr {
			p = stderr
		}
		if p != last { // where both go to one place the order is that of the container
			if err := last.Flush(); err != nil {
				return err
			}
			last = p
		}
		return p.print(e)
	})
	if ferr := req.Idle(); err == nil {
		err = ferr
	}
	if lost > 0 {
		s.Say(fmt.Sprintf("warning: files of the log that were removed or damaged before they could be read: %d", lost))
	}
	return err
}

// paper is where one stream is printed.
type paper struct {
	*bufio.Writer
	stamps bool
	within bool // a line has begun and not ended
	time   []byte
}

func newPaper(w io.Writer, stamps bool) *paper {
	return &paper{Writer: bufio.NewWriterSize(w, 64<<10), stamps: stamps}
}

// print prints an entry. Errors of a bufio.Writer stay: the last call tells them.
func (p *paper) print(e engine.LogEntry) error {
	if p.stamps && !p.within {
		p.time = append(e.Time.UTC().AppendFormat(p.time[:0], "2006-01-02T15:04:05.000000000Z07:00"), ' ')
		_, _ = p.Write(p.time)
	}
	p.within = e.Partial
	_, err := p.Write(e.Content)
	if !e.Partial {
		err = p.WriteByte('\n')
	}
	return err
}
