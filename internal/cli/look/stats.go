package look

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// stats is how what containers use is shown.
type stats struct {
	sh                     *shell.Shell
	eng                    *engine.Engine
	all, noStream, noTrunc bool
	format                 string
	last                   map[spec.ContainerID]engine.ContainerUsage
}

// between is the time between two looks: a share of the CPU is one of some time.
const between = time.Second

// Stats shows what containers use of the machine.
func Stats(sh *shell.Shell) *cobra.Command {
	s := &stats{sh: sh, last: map[spec.ContainerID]engine.ContainerUsage{}}
	cmd := &cobra.Command{
		Use: "stats [flags] [CONTAINER...]",
		Long: `Show what containers use of the machine, anew each second until you end it.

CPU % is of one CPU, so a container that has two can use 200 %. Memory is what the kernel counts for the
container without file cache that it would give back first. What is not counted on this machine is shown as 0.`,
		ValidArgsFunction: declare.Containers(sh, -1),
	}
	fs := cmd.Flags()
	fs.BoolVarP(&s.all, "all", "a", false, "Show all containers, not only those that run")
	fs.BoolVar(&s.noStream, "no-stream", false, "Show it once")
	fs.BoolVar(&s.noTrunc, "no-trunc", false, "Do not shorten ids")
	fs.StringVar(&s.format, "format", "", "Print as `FORMAT`: table, table TEMPLATE, json, or a Go template such as {{.CPUPerc}}")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if s.eng, err = sh.Engine(); err != nil {
			return err
		}
		return s.run(cmd.Context(), args)
	}
	return cmd
}

func (s *stats) run(ctx context.Context, names []string) error {
	redraw := !s.noStream && term.IsTerminal(int(s.sh.Stdout.Fd()))
	if _, _, err := s.look(ctx, names); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(between):
		}
		lines, over, err := s.look(ctx, names)
		if err != nil {
			return err
		}
		if err := s.print(lines, redraw); err != nil || s.noStream || over {
			return err
		}
	}
}

// look reads what the containers use now; over is whether all that were named are gone.
func (s *stats) look(ctx context.Context, names []string) (lines []any, over bool, err error) {
	var list []engine.Container
	if len(names) == 0 {
		list, err = s.eng.Containers(ctx, engine.ContainerFilter{All: s.all, Whole: true})
		switch {
		case err != nil && len(list) == 0:
			return nil, false, err
		case err != nil && len(s.last) == 0: // said once
			s.sh.SayError(err)
		}
	}
	for _, name := range names {
		c, err := s.eng.Container(name)
		if errs.Is(err, errs.NotFound) && len(s.last) > 0 {
			continue // it was there
		}
		if err != nil {
			return nil, false, err
		}
		list = append(list, c)
	}
	for _, c := range list {
		u, err := s.eng.ContainerUsage(c)
		if err != nil {
			return nil, false, err
		}
		lines = append(lines, s.line(c, s.last[c.Spec.ID], u))
		s.last[c.Spec.ID] = u
	}
	return lines, len(names) > 0 && len(list) == 0, nil
}

// statsLine is what a container uses; its names are Docker's, for templates.
type statsLine struct {
	BlockIO   string
	CPUPerc   string
	Container string
	ID        string
	MemPerc   string
	MemUsage  string
	Name      string
	NetIO     string
	NetRate   string // what NetIO may be, of each interface that is limited
	PIDs      string
}

func (s *stats) line(c engine.Container, before, now engine.ContainerUsage) statsLine {
	l := statsLine{
		BlockIO:  show.Size(now.Read) + " / " + show.Size(now.Written),
		ID:       string(c.Spec.ID),
		MemPerc:  percent(float64(now.Memory), float64(now.Limit)),
		MemUsage: show.Memory(now.Memory) + " / " + show.Memory(now.Limit),
		Name:     c.Spec.Name,
		NetIO:    show.Size(now.Received) + " / " + show.Size(now.Sent),
		NetRate:  rates(c.Spec),
		PIDs:     fmt.Sprint(now.Pids),
	}
	if !s.noTrunc {
		l.ID = c.Spec.ID.Short()
	}
	l.Container, l.CPUPerc = l.ID, percent(0, 1)
	if !before.At.IsZero() && now.CPU >= before.CPU { // less: it was started anew
		l.CPUPerc = percent(float64(now.CPU-before.CPU), float64(now.At.Sub(before.At)))
	}
	return l
}

// rates is the limits of a container's interfaces, to it and from it: of the first, and of others
// that differ.
func rates(s *spec.Container) string {
	var list []string
	for _, a := range s.Networking.Attachments {
		r := cmp.Or(a.Rate, s.Networking.Rate)
		text := rateText(r.In) + " / " + rateText(r.Out)
		if !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	if len(list) == 0 || len(list) == 1 && list[0] == "- / -" {
		return "-"
	}
	return strings.Join(list, ", ")
}

func rateText(n uint64) string {
	if n == 0 {
		return "-"
	}
	return spec.RateText(n)
}

func percent(part, whole float64) string {
	if whole <= 0 {
		whole, part = 1, 0
	}
	return fmt.Sprintf("%.2f%%", 100*part/whole)
}

func (s *stats) print(lines []any, redraw bool) error {
	var b strings.Builder
	var err error
	switch {
	case s.format != "" && s.format != "table":
		err = s.sh.FormatTable(s.format, statsHeads(), lines...)
	default:
		w := shell.NewTable(&b)
		fmt.Fprintln(w, "CONTAINER ID\tNAME\tCPU %\tMEM USAGE / LIMIT\tMEM %\tNET I/O\tNET RATE\tBLOCK I/O\tPIDS")
		for _, x := range lines {
			l := x.(statsLine)
			fmt.Fprintln(w, strings.Join([]string{l.ID, l.Name, l.CPUPerc, l.MemUsage, l.MemPerc, l.NetIO, l.NetRate, l.BlockIO, l.PIDs}, "\t"))
		}
		err = w.Flush()
	}
	text := b.String()
	if redraw && text != "" {
		// To the top left; each line with what was there before taken away, and what is below.
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, werr := s.sh.Stdout.WriteString(text)
	return errors.Join(err, werr)
}

// statsHeads are the headings of "table TEMPLATE".
func statsHeads() map[string]string {
	return map[string]string{"BlockIO": "BLOCK I/O", "CPUPerc": "CPU %", "Container": "CONTAINER", "ID": "CONTAINER ID",
		"MemPerc": "MEM %", "MemUsage": "MEM USAGE / LIMIT", "Name": "NAME", "NetIO": "NET I/O", "NetRate": "NET RATE", "PIDs": "PIDS"}
}
