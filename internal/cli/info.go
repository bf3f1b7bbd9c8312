package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/engine"
)

func newInfo(a *app) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use:  "info [flags]",
		Long: "Show this host and what Corten keeps on it.\n\nWhat the host lacks, corten doctor tells.",
		Example: `  corten info
  corten info --format '{{.OperatingSystem}}, {{.NCPU}} CPUs'`,
		Args: wantArgs(0, 0),
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.KernelVersion}}")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		eng, err := a.engine()
		if err != nil {
			return err
		}
		i := info{shell.Version, shell.Commit(), eng.Info(cmd.Context())}
		if format != "" {
			return a.format(format, i)
		}
		w := newTable(a.env.Stdout)
		for _, l := range i.lines() {
			if l[1] != "" {
				fmt.Fprintf(w, "%s:\t%s\n", l[0], l[1])
			}
		}
		return w.Flush()
	}
	return cmd
}

// info is what corten info tells; its names are those that --format uses.
type info struct {
	Version   string
	GitCommit string `json:",omitempty"`
	engine.Info
}

// lines are names and values for people. A line without a value is not shown.
func (i info) lines() [][2]string {
	v := i.Version
	if i.GitCommit != "" {
		v += " (" + i.GitCommit + ")"
	}
	return [][2]string{
		{"Version", v},
		{"Host", i.Name},
		{"Operating system", i.OperatingSystem},
		{"Kernel", strings.TrimSpace(i.KernelVersion + " " + i.Architecture)},
		{"CPUs", strconv.Itoa(i.NCPU)},
		{"Memory", sized(i.MemTotal)},
		{"State folder", place(i.RootDir, i.RootFilesystem) + i.room()},
		{"Run folder", place(i.RunDir, i.RunFilesystem)},
		{"Images kept as", i.Trees},
		{"Images", counted(i.Images)},
		{"Containers", i.containers()},
		{"Networks", counted(i.Networks)},
		{"Control groups", i.groups()},
		{"Security modules", strings.Join(i.SecurityModules, ", ")},
		{"Security options", strings.Join(i.SecurityOptions, ", ")},
		{"Default seccomp", i.DefaultSeccomp},
	}
}

func place(dir, filesystem string) string {
	if filesystem == "" {
		return dir
	}
	return dir + " on " + filesystem
}

func (i info) room() string {
	if i.RootTotal == 0 {
		return ""
	}
	return ", " + show.Size(i.RootFree) + " of " + show.Size(i.RootTotal) + " free"
}

func (i info) containers() string {
	s := counted(i.Containers)
	if s != "" && i.ContainersRunning != nil {
		s += ", " + strconv.Itoa(*i.ContainersRunning) + " running"
	}
	return s
}

func (i info) groups() string {
	switch i.CgroupVersion {
	case "":
		return "none"
	case "hybrid":
		return "v1 and v2, " + i.CgroupDriver
	}
	return "v" + i.CgroupVersion + ", " + i.CgroupDriver
}

func counted(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func sized(n int64) string {
	if n == 0 {
		return ""
	}
	return show.Size(n)
}
