// Package life holds the verbs by which users have containers run and end: all that do not tie
// the container to the user's terminal.
package life

import (
	"errors"
	"fmt"

	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// atOnce is how many containers a verb is busy with at a time: each spends most of it waiting
// for the kernel or for the container.
const atOnce = 16

// absent is the end of what is to be done with a container that need not be there.
type absent struct{}

func (absent) Error() string { return "absent" }

// Each does something to every container that is named, prints the names of those with which
// it went well, and says of each other one what went wrong.
func Each(sh *shell.Shell, refs []string, do func(eng *engine.Engine, ref string) error) error {
	eng, err := sh.Engine()
	if err != nil {
		return err
	}
	failed := []error{eng.Tidy()}
	results := make([]chan error, len(refs))
	turn := make(chan struct{}, atOnce)
	for i := range refs {
		results[i] = make(chan error, 1)
	}
	go func() {
		for i, ref := range refs {
			turn <- struct{}{}
			go func() {
				results[i] <- do(eng, ref)
				<-turn
			}()
		}
	}()
	for i, ref := range refs {
		switch err := <-results[i]; {
		case err == error(absent{}):
			sh.Say("warning: there is no container " + ref)
		case err != nil:
			failed = append(failed, err)
		default:
			fmt.Fprintln(sh.Stdout, ref)
		}
	}
	return sh.SayButLast(errors.Join(failed...))
}

// stopFlags are those of stop and restart.
type stopFlags struct {
	signal string
	time   int
}

func (f *stopFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.signal, "signal", "s", "", "Send `SIGNAL` (default: the container's stop signal)")
	cmd.Flags().IntVarP(&f.time, "time", "t", 0, "Kill it after `SECONDS`; -1 waits for ever (default: the container's own, else 10)")
	cmd.Flags().IntVar(&f.time, "timeout", 0, "The same as --time")
	cmd.Flags().Lookup("timeout").Hidden = true
}

func (f *stopFlags) request(cmd *cobra.Command) (engine.StopRequest, error) {
	var req engine.StopRequest
	if f.signal != "" {
		sig, err := parseSignal(f.signal)
		if err != nil {
			return req, err
		}
		req.Signal = sig
	}
	if cmd.Flags().Changed("time") || cmd.Flags().Changed("timeout") {
		t := time.Duration(f.time) * time.Second
		req.Timeout = &t
	}
	return req, nil
}

func parseSignal(s string) (unix.Signal, error) {
	name, err := values.Signal("signal", s)
	if err != nil {
		return 0, shell.Misused(err)
	}
	return engine.SignalOf(name), nil
}

// Stop is the verb stop.
func Stop(sh *shell.Shell) *cobra.Command {
	f := stopFlags{}
	cmd := &cobra.Command{
		Use:               "stop [flags] CONTAINER...",
		Long:              "Ask containers to end, and kill those that do not in time.",
		Example:           "  corten stop web\n  corten stop -t 60 db",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: declare.Containers(sh, -1, "running", "restarting"),
	}
	f.bind(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := f.request(cmd)
		if err != nil {
			return err
		}
		return Each(sh, args, func(eng *engine.Engine, ref string) error { return eng.StopContainer(cmd.Context(), ref, req) })
	}
	return cmd
}

// Restart is the verb restart.
func Restart(sh *shell.Shell) *cobra.Command {
	f := stopFlags{}
	cmd := &cobra.Command{
		Use:               "restart [flags] CONTAINER...",
		Long:              "Stop containers, if they run, and start them.",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: declare.Containers(sh, -1),
	}
	f.bind(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := f.request(cmd)
		if err != nil {
			return err
		}
		return Each(sh, args, func(eng *engine.Engine, ref string) error { return eng.RestartContainer(cmd.Context(), ref, req) })
	}
	return cmd
}

// Kill is the verb kill.
func Kill(sh *shell.Shell) *cobra.Command {
	signal := "SIGKILL"
	cmd := &cobra.Command{
		Use:               "kill [flags] CONTAINER...",
		Long:              "Send a signal to the main process of containers.",
		Example:           "  corten kill web\n  corten kill -s HUP web",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: declare.Containers(sh, -1, "running"),
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", signal, "Send `SIGNAL`")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		sig, err := parseSignal(signal)
		if err != nil {
			return err
		}
		return Each(sh, args, func(eng *engine.Engine, ref string) error { return eng.Signal(ref, sig) })
	}
	return cmd
}

// Pause is the verb pause.
func Pause(sh *shell.Shell) *cobra.Command {
	return freezer(sh, "pause", "Freeze all processes of containers. They keep their memory and take no time until unpause.",
		func(cmd *cobra.Command, eng *engine.Engine, ref string) error { return eng.Pause(cmd.Context(), ref) })
}

// Unpause is the verb unpause.
func Unpause(sh *shell.Shell) *cobra.Command {
	return freezer(sh, "unpause", "Let containers go on that pause has frozen.",
		func(cmd *cobra.Command, eng *engine.Engine, ref string) error { return eng.Unpause(cmd.Context(), ref) })
}

func freezer(sh *shell.Shell, name, long string, do func(*cobra.Command, *engine.Engine, string) error) *cobra.Command {
	return &cobra.Command{
		Use:               name + " CONTAINER...",
		Long:              long,
		Args:              declare.Args(1, -1),
		ValidArgsFunction: declare.Containers(sh, -1, "running"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Each(sh, args, func(eng *engine.Engine, ref string) error { return do(cmd, eng, ref) })
		},
	}
}

// Remove is the verb rm.
func Remove(sh *shell.Shell) *cobra.Command {
	req := engine.RemoveRequest{}
	cmd := &cobra.Command{
		Use:               "rm [flags] CONTAINER...",
		Long:              "Remove containers with all that they have written, and their logs.",
		Example:           "  corten rm web\n  corten rm -f $(corten ps -aq)",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: declare.Containers(sh, -1),
	}
	cmd.Flags().BoolVarP(&req.Force, "force", "f", false, "End it first (SIGKILL) if it runs, and do not mind if it does not exist")
	cmd.Flags().BoolVarP(&req.Volumes, "volumes", "v", false, "Remove its anonymous volumes too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req.Ignore = req.Force
		return Each(sh, args, func(eng *engine.Engine, ref string) error {
			if req.Force {
				if _, err := eng.Container(ref); errs.Is(err, errs.NotFound) {
					return absent{}
				}
			}
			return eng.RemoveContainer(cmd.Context(), ref, req)
		})
	}
	return cmd
}

// Rename is the verb rename.
func Rename(sh *shell.Shell) *cobra.Command {
	return &cobra.Command{
		Use:               "rename CONTAINER NAME",
		Long:              "Give a container another name. It may be running.",
		Args:              declare.Args(2, 2),
		ValidArgsFunction: declare.Containers(sh, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if !values.ValidName(args[1]) {
				return shell.Misused(errs.Newf(errs.Invalid, "rename to", strconv.Quote(args[1]), "not a container name").
					WithHint(`use two or more letters, digits, "_", "." and "-", beginning with a letter or digit`))
			}
			eng, err := sh.Engine()
			if err != nil {
				return err
			}
			return eng.RenameContainer(args[0], args[1])
		},
	}
}

// Wait is the verb wait.
func Wait(sh *shell.Shell) *cobra.Command {
	condition := string(engine.UntilStopped)
	cmd := &cobra.Command{
		Use:               "wait [flags] CONTAINER...",
		Long:              "Wait until containers do not run, and print their exit codes.",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: declare.Containers(sh, -1),
	}
	cmd.Flags().StringVar(&condition, "condition", condition, "Wait until it is `WHAT`: not-running, next-exit or removed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		until := engine.WaitFor(condition)
		if until != engine.UntilStopped && until != engine.UntilExit && until != engine.UntilRemoved {
			return shell.Misused(errs.Newf(errs.Invalid, "--condition", strconv.Quote(condition), "no such condition").WithHint("write not-running, next-exit or removed"))
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		failed := []error{eng.Tidy()}
		for _, ref := range args {
			code, err := eng.WaitContainer(cmd.Context(), ref, until)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			fmt.Fprintln(sh.Stdout, code)
		}
		return sh.SayButLast(errors.Join(failed...))
	}
	return cmd
}

// Boot is the verb boot.
func Boot(sh *shell.Shell) *cobra.Command {
	reload := false
	cmd := &cobra.Command{
		Use: "boot [flags]",
		Long: `Start the containers that are to run whenever the machine does: those with the restart policy
always, and those with unless-stopped that nobody has stopped. Whatever starts services calls this once; it does
nothing to containers that run. Their names are printed.

With --reload no container is started: after an upgrade the keepers of those that run execute the new program. The
containers do not notice, and no line of their logs is lost.`,
		Args: declare.Args(0, 0),
	}
	cmd.Flags().BoolVar(&reload, "reload", false, "Only have keepers execute the program that is installed now")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		if reload {
			return sh.SayButLast(eng.ReloadKeepers(func(name string) { fmt.Fprintln(sh.Stdout, name) }))
		}
		err = eng.Boot(cmd.Context(), func(name string, err error) {
			if err == nil {
				fmt.Fprintln(sh.Stdout, name)
			}
		})
		return sh.SayButLast(err)
	}
	return cmd
}

// Update is the verb update.
func Update(sh *shell.Shell) *cobra.Command {
	cmd := &cobra.Command{
		Use: "update [flags] CONTAINER...",
		Long: `Change limits and restart policy of containers, which may be running.

A limit holds at once, and for later starts. The kernel refuses a memory limit below what cannot be
taken away from the container's processes.`,
		Example:           "  corten update --memory 1g --cpus 2 web\n  corten update --network-opt rate-out=10mbit web\n  corten update --restart always web db",
		Args:              declare.Args(1, -1),
		ValidArgsFunction: declare.Containers(sh, -1),
	}
	flags := runflags.BindUpdate(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if flags.Empty() {
			return shell.Misused(errs.Newf(errs.Invalid, "update", "", "nothing is to be changed").WithHint("corten update --help lists what can be"))
		}
		change, err := flags.Change()
		if err != nil {
			return shell.Misused(err)
		}
		return Each(sh, args, func(eng *engine.Engine, ref string) error {
			warnings, err := eng.UpdateContainer(cmd.Context(), ref, change)
			for _, w := range warnings {
				sh.Say("warning: " + w)
			}
			return err
		})
	}
	return cmd
}
