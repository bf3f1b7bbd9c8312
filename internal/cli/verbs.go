package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/checkpoints"
	"github.com/cortenhq/corten/internal/cli/files"
	"github.com/cortenhq/corten/internal/cli/library"
	"github.com/cortenhq/corten/internal/cli/life"
	"github.com/cortenhq/corten/internal/cli/look"
	"github.com/cortenhq/corten/internal/cli/networks"
	"github.com/cortenhq/corten/internal/cli/past"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
)

// verb is one line of the table of commands.
type verb struct {
	name  string
	short string
	group string
	make  func(*app) *cobra.Command
}

// The headings of help.
const (
	containers = "Containers"
	images     = "Images"
	stores     = "Volumes"
	wires      = "Networks"
	tools      = "Corten"
)

// groups is the headings in the order of help; one without verbs is not shown.
func groups() []*cobra.Group {
	return []*cobra.Group{{ID: containers, Title: containers}, {ID: images, Title: images}, {ID: stores, Title: stores}, {ID: wires, Title: wires}, {ID: tools, Title: tools}}
}

// verbs is every command.
func verbs() []verb {
	return []verb{
		{"run", "Run a command in a new container", containers, newRun},
		{"create", "Make a container and do not start it", containers, newCreate},
		{"start", "Start containers", containers, newStart},
		{"attach", "Show output of a container and send it input", containers, newAttach},
		{"exec", "Run a further command in a container", containers, newExec},
		{"stop", "Stop containers", containers, of(life.Stop)},
		{"restart", "Stop and start containers", containers, of(life.Restart)},
		{"kill", "Send a signal to containers", containers, of(life.Kill)},
		{"pause", "Freeze containers", containers, of(life.Pause)},
		{"unpause", "Let frozen containers go on", containers, of(life.Unpause)},
		{"wait", "Wait until containers do not run", containers, of(life.Wait)},
		{"logs", "Show what a container has written", containers, of(past.Logs)},
		{"events", "Show what happens to containers, images, volumes and networks", containers, of(past.Events)},
		{"rename", "Give a container another name", containers, of(life.Rename)},
		{"update", "Change limits of containers", containers, of(life.Update)},
		{"rm", "Remove containers", containers, of(life.Remove)},
		{"cp", "Copy files between a container and the host", containers, of(files.Cp)},
		{"diff", "List what a container changed", containers, of(files.Diff)},
		{"export", "Write a container's root as a tar", containers, of(files.Export)},
		{"commit", "Make an image of a container", containers, newCommit},
		{"checkpoint", "Write the processes of a container to files", containers, of(checkpoints.Take)},
		{"restore", "Make a container go on from a checkpoint", containers, of(checkpoints.Restore)},
		{"ps", "List containers", containers, of(look.PS)},
		{"inspect", "Show all that is known of containers, images, volumes and networks", containers, of(look.Inspect)},
		{"top", "List the processes of a container", containers, of(look.Top)},
		{"stats", "Show what containers use of the machine", containers, of(look.Stats)},
		{"port", "List the ports of the host that lead to a container", containers, of(networks.Port)},
		{"container", "Manage containers", containers, newContainer},

		{"pull", "Bring an image from its registry", images, of(library.Pull)},
		{"images", "List images", images, of(library.List)},
		{"load", "Load images from an archive", images, of(library.Load)},
		{"import", "Make an image of a root file system", images, of(library.Import)},
		{"tag", "Give an image one more name", images, of(library.Tag)},
		{"rmi", "Remove images", images, of(library.Remove)},
		{"image", "Manage images", images, newImage},

		{"volume", "Manage volumes", stores, newVolume},
		{"network", "Manage networks", wires, newNetwork},

		{"systemd", "Have systemd run containers", tools, newSystemd},
		{"boot", "Start what is to run whenever the machine does", tools, of(life.Boot)},
		{"doctor", "Tell what this host can do for containers", tools, newDoctor},
		{"info", "Show this host and what Corten keeps on it", tools, newInfo},
		{"version", "Show the version", tools, newVersion},
		{"completion", "Write the completion script of a shell", tools, newCompletion},
	}
}

func (v verb) build(a *app) *cobra.Command {
	cmd := v.make(a)
	cmd.Short, cmd.GroupID = v.short, v.group
	return cmd
}

// addVerb puts the verb that was typed below root, or all of them if cobra is asked what
// the shell could complete.
func (a *app) addVerb(root *cobra.Command, name string) error {
	if name == cobra.ShellCompRequestCmd || name == cobra.ShellCompNoDescRequestCmd {
		a.addAll(root)
		a.dressForShell(root)
		return nil
	}
	if name == "keep" {
		root.AddCommand(newKeep(a))
		return nil
	}
	for _, v := range verbs() {
		if v.name == name {
			root.AddCommand(v.build(a))
			return nil
		}
	}
	return unknownVerb("corten", name, verbNames())
}

// dressForShell takes out the backquotes that mark the name of a flag's value, which a shell
// would show as they are, and says which values may follow a flag.
func (a *app) dressForShell(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		_, f.Usage = pflag.UnquoteUsage(f)
		if words := values.Words(f.Name); words != nil && (cmd.Name() == "run" || cmd.Name() == "create") {
			follow := cobra.ShellCompDirectiveNoFileComp
			if strings.HasSuffix(words[0], "=") {
				follow = cobra.ShellCompDirectiveNoSpace
			}
			complete := cobra.FixedCompletions(words, follow)
			if f.Name == "network" {
				complete = networks.CompleteFlag(a.shell, words)
			}
			_ = cmd.RegisterFlagCompletionFunc(f.Name, complete)
		}
	})
	for _, c := range cmd.Commands() {
		a.dressForShell(c)
	}
}

func (a *app) addAll(root *cobra.Command) {
	for _, v := range verbs() {
		root.AddCommand(v.build(a))
	}
	root.InitDefaultHelpCmd()
}

// Tree is the whole tree of commands, for the manual.
func Tree() *cobra.Command {
	a := newApp(Env{LookupEnv: func(string) (string, bool) { return "", false }})
	root := a.rootCommand()
	a.addAll(root)
	return root
}

func verbNames() []string {
	names := []string{"help"}
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	return names
}

// family is a command that only holds others.
func (a *app) family(name string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return a.writeHelp(cmd)
		}
		var names []string
		for _, c := range cmd.Commands() {
			names = append(names, c.Name())
		}
		return unknownVerb(cmd.CommandPath(), args[0], names)
	}}
	cmd.AddCommand(children...)
	return cmd
}

func unknownVerb(path, name string, names []string) error {
	hint := path + " --help lists the commands"
	if near := nearest(name, names); near != "" {
		hint = "did you mean " + path + " " + near + "? " + hint
	}
	return errs.Newf(errs.Invalid, "", "unknown command", path+" "+name).WithHint(hint)
}

// nearest is the name that s may be a slip of; empty if none is near.
func nearest(s string, names []string) string {
	for _, n := range names {
		if len(s) >= 3 && strings.HasPrefix(n, s) {
			return n
		}
	}
	best, distance := "", 3
	for _, n := range names {
		if d := editDistance(s, n); d < distance && d < len(n) {
			best, distance = n, d
		}
	}
	return best
}

// editDistance counts the letters to add, drop or change to make b of a (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
