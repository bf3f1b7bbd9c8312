// Package volumes is the verbs about volumes.
package volumes

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Create makes a volume.
func Create(sh *shell.Shell) *cobra.Command {
	var (
		name, driver    string
		labels, options []string
	)
	cmd := &cobra.Command{
		Use:               "create [flags] [VOLUME]",
		Short:             "Make a volume",
		Args:              declare.Args(0, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	fs.StringVar(&name, "name", "", "Call it `NAME`, as the argument does")
	fs.StringVarP(&driver, "driver", "d", "local", "Keep it with `DRIVER`: local")
	fs.StringArrayVar(&labels, "label", nil, "Attach `KEY[=VALUE]` to the volume (repeatable)")
	fs.StringArrayVarP(&options, "opt", "o", nil, "Limit it to size=`SIZE`, at least 1m; takes ext4 or XFS with project quotas")
	_ = fs.MarkHidden("name")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) > 0 && name != "" && args[0] != name:
			return shell.Misused(errs.Newf(errs.Invalid, "", "--name with "+args[0], "they are two names").WithHint("leave one of them out"))
		case driver != "local":
			return shell.Misused(errs.Newf(errs.Unsupported, "", "--driver "+driver, "not built yet").
				WithHint("a volume is a folder of Corten's own; use a bind mount for one elsewhere"))
		case len(args) > 0:
			name = args[0]
		}
		size, err := values.DiskLimit("opt", options)
		if err != nil {
			return shell.Misused(err)
		}
		set := map[string]string{}
		for _, l := range labels {
			key, value, _ := strings.Cut(l, "=")
			if key == "" {
				return shell.Misused(errs.Newf(errs.Invalid, "--label", l, "the key is empty").WithHint("write --label KEY=VALUE"))
			}
			set[key] = value
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		made, err := eng.CreateVolume(name, set, size)
		if err == nil {
			fmt.Fprintln(sh.Stdout, made)
		}
		return err
	}
	return cmd
}

// List lists volumes.
func List(sh *shell.Shell) *cobra.Command {
	quiet, filters, format := false, []string(nil), ""
	cmd := &cobra.Command{
		Use:               "ls [flags]",
		Aliases:           []string{"list"},
		Short:             "List volumes",
		Args:              declare.Args(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	fs.BoolVarP(&quiet, "quiet", "q", false, "Show names only")
	fs.StringArrayVarP(&filters, "filter", "f", nil, "Show only what `NAME=VALUE` lets through: dangling, driver, label, name")
	fs.StringVar(&format, "format", "", "Print as `FORMAT`: table, table TEMPLATE, json, or a Go template such as {{.Name}}")
	cmd.RunE = func(*cobra.Command, []string) error {
		pass, err := parseFilter(filters)
		if err != nil {
			return err
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		list, used, err := eng.Volumes()
		var lines []any
		for _, v := range list {
			if pass(v, len(used[v.Name]) > 0) {
				lines = append(lines, newLine(v, len(used[v.Name])))
			}
		}
		if perr := printList(sh, lines, quiet, format); perr != nil {
			return perr
		}
		return sh.SayButLast(err)
	}
	return cmd
}

// line is a volume in the list; its names are Docker's, for templates.
type line struct {
	Availability string
	Driver       string
	Group        string
	Labels       string
	Links        string
	Mountpoint   string
	Name         string
	Scope        string
	Size         string
	Status       string
}

func newLine(v engine.Volume, users int) line {
	var labels []string
	for name, value := range v.Labels {
		labels = append(labels, name+"="+value)
	}
	slices.Sort(labels)
	return line{"N/A", "local", "N/A", strings.Join(labels, ","), fmt.Sprint(users), v.Mountpoint, v.Name, "local", "N/A", "N/A"}
}

func printList(sh *shell.Shell, lines []any, quiet bool, format string) error {
	if !quiet && format != "" && format != "table" {
		return sh.FormatTable(format, map[string]string{"Availability": "AVAILABILITY", "Driver": "DRIVER", "Group": "GROUP", "Labels": "LABELS",
			"Links": "LINKS", "Mountpoint": "MOUNTPOINT", "Name": "VOLUME NAME", "Scope": "SCOPE", "Size": "SIZE", "Status": "STATUS"}, lines...)
	}
	w := shell.NewTable(sh.Stdout)
	if !quiet {
		fmt.Fprintln(w, "DRIVER\tVOLUME NAME")
	}
	for _, x := range lines {
		l := x.(line)
		if !quiet {
			fmt.Fprint(w, l.Driver+"\t")
		}
		fmt.Fprintln(w, l.Name)
	}
	return w.Flush()
}

// Inspect shows volumes.
func Inspect(sh *shell.Shell) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use:               "inspect [flags] VOLUME...",
		Short:             "Show all that is known of volumes",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: Complete(sh),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.Mountpoint}}")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		return sh.Inspect(args, format, func(eng *engine.Engine, name string) (any, error) {
			v, err := eng.Volume(name)
			return Document(v), err
		})
	}
	return cmd
}

// Document is a volume in the form of Docker's inspect.
func Document(v engine.Volume) any {
	var options map[string]string
	if v.Size > 0 {
		options = map[string]string{"size": strconv.FormatInt(v.Size, 10)}
	}
	return struct {
		CreatedAt  time.Time
		Driver     string
		Labels     map[string]string
		Mountpoint string
		Name       string
		Options    map[string]string
		Scope      string
	}{v.Created, "local", v.Labels, v.Mountpoint, v.Name, options, "local"}
}

// Remove removes volumes.
func Remove(sh *shell.Shell) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:               "rm [flags] VOLUME...",
		Aliases:           []string{"remove"},
		Short:             "Remove volumes that no container uses",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: Complete(sh),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not mind volumes that are not there")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		var all []error
		for _, name := range args {
			err := eng.RemoveVolume(name)
			if err != nil && (!force || !errs.Is(err, errs.NotFound)) {
				all = append(all, err)
				continue
			}
			fmt.Fprintln(sh.Stdout, name)
		}
		return sh.SayButLast(errors.Join(all...))
	}
	return cmd
}

// Prune removes volumes that nobody uses.
func Prune(sh *shell.Shell) *cobra.Command {
	all, force, filters := false, false, []string(nil)
	cmd := &cobra.Command{
		Use:               "prune [flags]",
		Short:             "Remove volumes that no container uses",
		Long:              `Remove volumes that no container uses: those whose names Corten made up, or with --all every one.`,
		Args:              declare.Args(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	fs.BoolVarP(&all, "all", "a", false, "Remove also volumes that were given a name")
	fs.BoolVarP(&force, "force", "f", false, "Do not ask")
	fs.StringArrayVar(&filters, "filter", nil, "Remove only what `NAME=VALUE` lets through: label, label!, name")
	cmd.RunE = func(*cobra.Command, []string) error {
		pass, err := parseFilter(filters)
		if err != nil {
			return err
		}
		what := "This will remove all volumes without a name of their own that no container uses."
		if all {
			what = "This will remove all volumes that no container uses."
		}
		if !force && !sh.Confirm(what) {
			return nil
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		list, used, err := eng.Volumes()
		r := sh.Reclaiming("Deleted Volumes:", err)
		for _, v := range list {
			if len(used[v.Name]) > 0 || !all && !v.Anonymous() || !pass(v, false) {
				continue
			}
			size := eng.VolumeSize(v.Name)
			r.Removed(v.Name, size, eng.RemoveVolume(v.Name))
		}
		return r.End()
	}
	return cmd
}

// Complete completes names of volumes.
func Complete(sh *shell.Shell) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		eng, err := sh.Engine()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		list, _, _ := eng.Volumes()
		var names []string
		for _, v := range list {
			if strings.HasPrefix(v.Name, begun) && !slices.Contains(args, v.Name) {
				names = append(names, v.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
