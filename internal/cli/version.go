package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the release that this source will become, or is.
const version = "0.1.0-dev"

// versionInfo is what corten version tells; its names are those that --format uses.
type versionInfo struct {
	Version   string
	GitCommit string `json:",omitempty"` // empty if built without git
	GoVersion string
	Os        string
	Arch      string
}

func newVersion(a *app) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use:  "version",
		Args: wantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error { return a.sayVersion(format) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.Version}}")
	return cmd
}

func (a *app) sayVersion(format string) error {
	v := versionInfo{version, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
	if format != "" {
		return a.format(format, v)
	}
	text := "corten " + v.Version
	if v.GitCommit != "" {
		text += " (" + v.GitCommit + ")"
	}
	_, err := fmt.Fprintf(a.env.Stdout, "%s %s %s/%s\n", text, v.GoVersion, v.Os, v.Arch)
	return err
}

// commit is the commit that the go command found at build time, with a plus if the source
// differed from it.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	id, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			id = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+"
		}
	}
	return id + changed
}
