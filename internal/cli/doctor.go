package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
)

func newDoctor(a *app) *cobra.Command {
	all, format := false, ""
	cmd := &cobra.Command{
		Use: "doctor [flags]",
		Long: `Tell what this host can do for containers.

Each feature is tried, and nothing of that stays. What is missing is shown with what is lost
without it and how to get it; versions are those of the kernel that a feature came with. What
only root can find out is unknown to others.

The exit code is 0 if all is there that corten run needs without flags, else 1.`,
		Example: `  corten doctor
  corten doctor --all
  corten doctor --format '{{range .Features}}{{if eq .Answer "no"}}{{.Name}}{{"\n"}}{{end}}{{end}}'`,
		Args: wantArgs(0, 0),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Show what is there, too")
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print as `FORMAT`: json, or a Go template such as {{.Ready}}")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a.shell.Refused = nil // why, is for the doctor to say
		eng, err := a.engine()
		if err != nil {
			return err
		}
		features := eng.Doctor(cmd.Context())
		ready := len(engine.NotReady(features)) == 0
		if format != "" {
			err = a.format(format, diagnosis{ready, features})
		} else {
			_, err = io.WriteString(a.env.Stdout, doctorText(features, all))
		}
		if err == nil && !ready {
			return &shell.Exit{Code: shell.ExitError}
		}
		return err
	}
	return cmd
}

// diagnosis is what doctor --format prints.
type diagnosis struct {
	Ready    bool // corten run works without flags
	Features []engine.Feature
}

// doctorText is the doctor's words for people. Without all, what is there is only counted,
// and what is missing without a loss so far is only named.
func doctorText(features []engine.Feature, all bool) string {
	var b strings.Builder
	writeCounts(&b, features)
	for _, part := range []struct {
		heading string
		answer  engine.FeatureAnswer
		shown   bool
	}{
		{"There", engine.FeatureThere, all},
		{"Unknown", engine.FeatureUnknown, true},
		{"Missing", engine.FeatureMissing, true},
	} {
		heading := "\n" + part.heading + ":\n"
		for _, f := range features {
			if f.Answer != part.answer || !part.shown || !all && (f.Later || f.Instead != "") {
				continue
			}
			b.WriteString(heading)
			heading = ""
			writeFeature(&b, f)
		}
	}
	if !all {
		writeLater(&b, features)
	}
	b.WriteString("\n" + verdict(features) + "\n")
	return b.String()
}

// writeLater names what is not there and not used.
func writeLater(w io.Writer, features []engine.Feature) {
	var names []string
	for _, f := range features {
		if f.Later && f.Answer != engine.FeatureThere && f.Instead == "" {
			names = append(names, f.Name)
		}
	}
	if len(names) > 0 {
		fmt.Fprintf(w, "\nMissing or unknown, and not used yet (--all tells more):\n  %s\n", strings.Join(names, ", "))
	}
}

// writeCounts writes a line for each group.
func writeCounts(w io.Writer, features []engine.Feature) {
	t := newTable(w)
	fmt.Fprintln(t, "GROUP\tOK\tMISSING\tUNKNOWN")
	for i := 0; i < len(features); {
		group, ok, missing, unknown := features[i].Group, 0, 0, 0
		for ; i < len(features) && features[i].Group == group; i++ {
			switch f := features[i]; {
			case f.Missing():
				missing++
			case f.Answer == engine.FeatureUnknown:
				unknown++
			default:
				ok++
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", group, count(ok), count(missing), count(unknown))
	}
	t.Flush() // to memory
}

// count makes what is worth a look stand out.
func count(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func writeFeature(w io.Writer, f engine.Feature) {
	detail := f.Detail
	if f.Instead != "" {
		detail += "; instead: " + f.Instead
	}
	if detail != "" {
		detail = ": " + detail
	}
	weight := ""
	switch {
	case f.Needed:
		weight = " (needed)"
	case f.Later:
		weight = " (not used yet)"
	}
	fmt.Fprintf(w, "  %s%s%s\n    use   %s\n    lost  %s\n    get   %s\n", f.Name, weight, detail, f.Use, f.Lost, f.Get)
}

// verdict is the last line: whether the main thing works.
func verdict(features []engine.Feature) string {
	var missing, unknown []string
	for _, f := range engine.NotReady(features) {
		if f.Answer == engine.FeatureMissing {
			missing = append(missing, f.Name)
		} else {
			unknown = append(unknown, f.Name)
		}
	}
	switch {
	case len(missing) > 0:
		return "corten run does not work here without flags; missing: " + strings.Join(missing, ", ")
	case len(unknown) > 0:
		return "It is not known whether corten run works here; unknown: " + strings.Join(unknown, ", ")
	}
	return "corten run works here."
}
