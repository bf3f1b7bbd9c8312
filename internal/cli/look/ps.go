// Package look is the verbs that look at containers and change nothing: ps, inspect, top, stats
// and port. What a container is comes from the engine; here it is put in the words, columns and
// documents that Docker's users know.
package look

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/networks"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// psFlags is which containers are listed, and how.
type psFlags struct {
	all, quiet, latest, noTrunc, size bool
	last                              int
	filters                           []string
	format                            string
}

// PS lists containers.
func PS(sh *shell.Shell) *cobra.Command {
	f := psFlags{}
	cmd := &cobra.Command{
		Use: "ps [flags]",
		Example: `  corten ps -a
  corten ps --filter status=exited -q
  corten ps --format 'table {{.Names}}\t{{.Status}}'`,
		Args:              declare.Args(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.all, "all", "a", false, "List all containers, not only those that run")
	fs.StringArrayVarP(&f.filters, "filter", "f", nil, "List only what `NAME=VALUE` lets through: ancestor, before, exited, expose, health, id, label, name, network, publish, since, status, volume")
	fs.StringVar(&f.format, "format", "", "Print as `FORMAT`: table, table TEMPLATE, json, or a Go template such as {{.Names}}")
	fs.IntVarP(&f.last, "last", "n", -1, "List the `NUMBER` containers that were made last, whatever they do")
	fs.BoolVarP(&f.latest, "latest", "l", false, "List the container that was made last, whatever it does")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "Do not shorten ids and commands")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Show ids only")
	fs.BoolVarP(&f.size, "size", "s", false, "Show what the containers have written")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := f.list(cmd, sh)
		if perr := f.print(sh, list); perr != nil {
			return perr
		}
		return sh.SayButLast(err)
	}
	return cmd
}

func (f *psFlags) list(cmd *cobra.Command, sh *shell.Shell) ([]psLine, error) {
	filter, err := engine.ParseContainerFilter(f.filters)
	if err != nil {
		return nil, err
	}
	filter.All = f.all
	switch {
	case cmd.Flags().Changed("last") && f.last < 1:
		return nil, errs.Newf(errs.Invalid, "--last", strconv.Itoa(f.last), "not a number of containers").WithHint("write 1 or more, or -a for all")
	case f.last > 0:
		filter.Last = f.last
	case f.latest:
		filter.Last = 1
	}
	// Outlines do not say whether a container has the host's network, or none.
	filter.Whole = f.format == "json" || strings.Contains(f.format, ".Networks")
	eng, err := sh.Engine()
	if err != nil {
		return nil, err
	}
	debug.SetGCPercent(400) // a list of 1,000 takes a few MB, and we end when it is written
	list, err := eng.Containers(cmd.Context(), filter)
	size := f.size && !f.quiet || strings.Contains(f.format, ".Size")
	now, lines := time.Now(), make([]psLine, len(list))
	for i, c := range list {
		lines[i] = newPSLine(c, f.noTrunc, now)
		if !f.quiet {
			ports, perr := portsText(eng, c)
			lines[i].Ports, err = ports, errors.Join(err, perr)
		}
		if !size {
			continue
		}
		own, whole, serr := eng.ContainerSize(cmd.Context(), c)
		if serr != nil {
			return lines, serr
		}
		lines[i].Size = show.Size(own)
		if limit := c.Spec.Root.Size; limit > 0 {
			lines[i].Size += " of " + show.Size(limit)
		}
		lines[i].Size += " (virtual " + show.Size(whole) + ")"
	}
	return lines, err
}

// portsText is where a running container can be reached.
func portsText(eng *engine.Engine, c engine.Container) (string, error) {
	n := c.Spec.Networking
	if !c.State.Alive() || len(n.Ports) == 0 && len(n.Expose) == 0 {
		return "", nil
	}
	w, err := eng.Wiring(c.Spec.ID)
	if w == nil { // it has no network of its own, or has just ended
		return "", err
	}
	return networks.PortsText(w, n.Expose), err
}

// psLine is a container in the list; its names are Docker's, for templates.
type psLine struct {
	Command      string
	CreatedAt    string
	ID           string
	Image        string
	Labels       string
	LocalVolumes string
	Mounts       string
	Names        string
	Networks     string
	Ports        string
	RunningFor   string
	Size         string
	State        string
	Status       string
}

func newPSLine(c engine.Container, noTrunc bool, now time.Time) psLine {
	s := c.Spec
	l := psLine{
		Command:    strconv.Quote(shorten(commandLine(s.Process.Args), 20, noTrunc)),
		CreatedAt:  s.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		ID:         string(s.ID),
		Image:      show.Printable(s.Image.Name),
		Names:      s.Name,
		Networks:   strings.Join(networksOf(s), ","),
		RunningFor: ago(s.Created, now),
		Size:       "0B",
		State:      c.Word(),
		Status:     status(c, now),
	}
	if !noTrunc {
		l.ID = s.ID.Short()
		if hex, ok := strings.CutPrefix(l.Image, "sha256:"); ok {
			l.Image = hex[:min(12, len(hex))]
		}
	}
	var labels, mounts []string
	for name, value := range s.Labels {
		labels = append(labels, name+"="+value)
	}
	slices.Sort(labels)
	l.Labels = strings.Join(labels, ",")
	volumes := 0
	for _, m := range s.Mounts {
		if m.Type == spec.Volume {
			volumes++
		}
		if m.Source != "" {
			mounts = append(mounts, shorten(m.Source, 15, noTrunc))
		}
	}
	l.Mounts, l.LocalVolumes = strings.Join(mounts, ","), strconv.Itoa(volumes)
	return l
}

// commandLine puts words that have blanks in them in quotation marks, as Docker does.
func commandLine(args []string) string {
	words := slices.Clone(args)
	for i, w := range words {
		if i > 0 && strings.Contains(w, " ") {
			words[i] = "'" + w + "'"
		}
	}
	return strings.Join(words, " ")
}

// shorten cuts a text that is for people.
func shorten(s string, n int, not bool) string {
	if r := []rune(s); !not && len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func (f *psFlags) print(sh *shell.Shell, lines []psLine) error {
	switch {
	case f.quiet && f.format == "":
		var b strings.Builder
		for _, l := range lines {
			b.WriteString(l.ID + "\n")
		}
		_, err := sh.Stdout.WriteString(b.String())
		return err
	case f.format != "" && f.format != "table":
		values := make([]any, len(lines))
		for i, l := range lines {
			values[i] = l
		}
		return sh.FormatTable(f.format, psHeads(), values...)
	}
	w := shell.NewTable(sh.Stdout)
	head := "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS\tNAMES"
	if f.size {
		head += "\tSIZE"
	}
	fmt.Fprintln(w, head)
	for _, l := range lines {
		columns := []string{l.ID, l.Image, l.Command, l.RunningFor, l.Status, l.Ports, l.Names}
		if f.size {
			columns = append(columns, l.Size)
		}
		fmt.Fprintln(w, strings.Join(columns, "\t"))
	}
	return w.Flush()
}

// psHeads are the headings of "table TEMPLATE".
func psHeads() map[string]string {
	return map[string]string{"Command": "COMMAND", "CreatedAt": "CREATED AT", "ID": "CONTAINER ID", "Image": "IMAGE",
		"Labels": "LABELS", "LocalVolumes": "LOCAL VOLUMES", "Mounts": "MOUNTS", "Names": "NAMES", "Networks": "NETWORKS",
		"Ports": "PORTS", "RunningFor": "CREATED", "Size": "SIZE", "State": "STATE", "Status": "STATUS"}
}
