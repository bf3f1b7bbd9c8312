package shell

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is the release that this source will become, or is.
const Version = "0.1.0-dev"

// versionInfo is what corten version tells; its names are those that --format uses.
type versionInfo struct {
	Version   string
	GitCommit string `json:",omitempty"` // empty if built without git
	GoVersion string
	Os        string
	Arch      string
}

// SayVersion prints what this program is, as format says.
func (s *Shell) SayVersion(format string) error {
	v := versionInfo{Version, Commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
	if format != "" {
		return s.Format(format, v)
	}
	text := "corten " + v.Version
	if v.GitCommit != "" {
		text += " (" + v.GitCommit + ")"
	}
	_, err := fmt.Fprintf(s.Stdout, "%s %s %s/%s\n", text, v.GoVersion, v.Os, v.Arch)
	return err
}

// Commit is the commit that the go command found at build time, with a plus if the source
// differed from it.
func Commit() string {
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
