package cli

import (
	"errors"
	"fmt"

	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// each does something to every container that is named, prints the names of those with which
// it went well, and says of each other one what went wrong.
func (a *app) each(refs []string, do func(eng *engine.Engine, ref string) error) error {
	eng, err := a.engine()
	if err != nil {
		return err
	}
	failed := []error{eng.Tidy()}
	for _, ref := range refs {
		if err := do(eng, ref); err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintln(a.env.Stdout, ref)
	}
	return a.sayButLast(errors.Join(failed...))
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
	name, err := values.Signal(s)
	if err != nil {
		return 0, usage(err)
	}
	return engine.SignalOf(name), nil
}

func newStart(a *app) *cobra.Command {
	f := attachFlags{}
	attach := false
	cmd := &cobra.Command{
		Use:               "start [flags] CONTAINER...",
		Long:              "Start containers that are not running.",
		Example:           "  corten start web db\n  corten start -ai shell",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1, "created", "exited"),
	}
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "Show its output, pass signals on, and end as it ends")
	cmd.Flags().BoolVarP(&f.stdin, "interactive", "i", false, "Attach, and send it input")
	f.bind(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !attach && !f.stdin {
			return a.each(args, func(eng *engine.Engine, ref string) error { return eng.StartContainer(cmd.Context(), ref) })
		}
		if len(args) > 1 {
			return usage(errs.Newf(errs.Invalid, "start", "", "only one container can be attached").WithHint("start them without --attach and --interactive"))
		}
		return runExit(a.startAttached(cmd.Context(), args[0], f))
	}
	return cmd
}

func newStop(a *app) *cobra.Command {
	f := stopFlags{}
	cmd := &cobra.Command{
		Use:               "stop [flags] CONTAINER...",
		Long:              "Ask containers to end, and kill those that do not in time.",
		Example:           "  corten stop web\n  corten stop -t 60 db",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1, "running", "restarting"),
	}
	f.bind(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := f.request(cmd)
		if err != nil {
			return err
		}
		return a.each(args, func(eng *engine.Engine, ref string) error { return eng.StopContainer(cmd.Context(), ref, req) })
	}
	return cmd
}

func newRestart(a *app) *cobra.Command {
	f := stopFlags{}
	cmd := &cobra.Command{
		Use:               "restart [flags] CONTAINER...",
		Long:              "Stop containers, if they run, and start them.",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1),
	}
	f.bind(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req, err := f.request(cmd)
		if err != nil {
			return err
		}
		return a.each(args, func(eng *engine.Engine, ref string) error { return eng.RestartContainer(cmd.Context(), ref, req) })
	}
	return cmd
}

func newKill(a *app) *cobra.Command {
	signal := "SIGKILL"
	cmd := &cobra.Command{
		Use:               "kill [flags] CONTAINER...",
		Long:              "Send a signal to the main process of containers.",
		Example:           "  corten kill web\n  corten kill -s HUP web",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1, "running"),
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", signal, "Send `SIGNAL`")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		sig, err := parseSignal(signal)
		if err != nil {
			return err
		}
		return a.each(args, func(eng *engine.Engine, ref string) error { return eng.Signal(ref, sig) })
	}
	return cmd
}

func newPause(a *app) *cobra.Command {
	return a.freezer("pause", "Freeze all processes of containers. They keep their memory and take no time until unpause.",
		func(cmd *cobra.Command, eng *engine.Engine, ref string) error { return eng.Pause(cmd.Context(), ref) })
}

func newUnpause(a *app) *cobra.Command {
	return a.freezer("unpause", "Let containers go on that pause has frozen.",
		func(cmd *cobra.Command, eng *engine.Engine, ref string) error { return eng.Unpause(cmd.Context(), ref) })
}

func (a *app) freezer(name, long string, do func(*cobra.Command, *engine.Engine, string) error) *cobra.Command {
	return &cobra.Command{
		Use:               name + " CONTAINER...",
		Long:              long,
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1, "running"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(eng *engine.Engine, ref string) error { return do(cmd, eng, ref) })
		},
	}
}

func newRm(a *app) *cobra.Command {
	req := engine.RemoveRequest{}
	cmd := &cobra.Command{
		Use:               "rm [flags] CONTAINER...",
		Long:              "Remove containers with all that they have written, and their logs.",
		Example:           "  corten rm web\n  corten rm -f $(corten ps -aq)",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1),
	}
	cmd.Flags().BoolVarP(&req.Force, "force", "f", false, "End it first (SIGKILL) if it runs, and do not mind if it does not exist")
	cmd.Flags().BoolVarP(&req.Volumes, "volumes", "v", false, "Remove its anonymous volumes too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req.Ignore = req.Force
		return a.each(args, func(eng *engine.Engine, ref string) error { return eng.RemoveContainer(cmd.Context(), ref, req) })
	}
	return cmd
}

func newRename(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rename CONTAINER NAME",
		Long:              "Give a container another name. It may be running.",
		Args:              wantArgs(2, 2),
		ValidArgsFunction: a.completeContainers(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if !values.ValidName(args[1]) {
				return usage(errs.Newf(errs.Invalid, "rename to", strconv.Quote(args[1]), "not a container name").
					WithHint(`use two or more letters, digits, "_", "." and "-", beginning with a letter or digit`))
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			return eng.RenameContainer(args[0], args[1])
		},
	}
}

func newWait(a *app) *cobra.Command {
	condition := string(engine.UntilStopped)
	cmd := &cobra.Command{
		Use:               "wait [flags] CONTAINER...",
		Long:              "Wait until containers do not run, and print their exit codes.",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1),
	}
	cmd.Flags().StringVar(&condition, "condition", condition, "Wait until it is `WHAT`: not-running, next-exit or removed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		until := engine.WaitFor(condition)
		if until != engine.UntilStopped && until != engine.UntilExit && until != engine.UntilRemoved {
			return usage(errs.Newf(errs.Invalid, "--condition", strconv.Quote(condition), "no such condition").WithHint("write not-running, next-exit or removed"))
		}
		eng, err := a.engine()
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
			fmt.Fprintln(a.env.Stdout, code)
		}
		return a.sayButLast(errors.Join(failed...))
	}
	return cmd
}

func newBoot(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "boot",
		Long: `Start the containers that are to run whenever the machine does: those with the restart policy
always, and those with unless-stopped that nobody has stopped. Whatever starts services calls this once; it does
nothing to containers that run.`,
		Args: wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			err = eng.Boot(cmd.Context(), func(name string, err error) {
				if err == nil {
					fmt.Fprintln(a.env.Stdout, name)
				}
			})
			return a.sayButLast(err)
		},
	}
}

func newUpdate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "update [flags] CONTAINER...",
		Long: `Change limits and restart policy of containers, which may be running.

A limit holds at once, and for later starts. The kernel refuses a memory limit below what cannot be
taken away from the container's processes.`,
		Example:           "  corten update --memory 1g --cpus 2 web\n  corten update --restart always web db",
		Args:              wantArgs(1, -1),
		ValidArgsFunction: a.completeContainers(-1),
	}
	flags := runflags.BindUpdate(cmd.Flags())
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if flags.Empty() {
			return usage(errs.Newf(errs.Invalid, "update", "", "nothing is to be changed").WithHint("corten update --help lists what can be"))
		}
		change, err := flags.Change()
		if err != nil {
			return usage(err)
		}
		return a.each(args, func(eng *engine.Engine, ref string) error {
			warnings, err := eng.UpdateContainer(ref, change)
			for _, w := range warnings {
				a.say("warning: " + w)
			}
			return err
		})
	}
	return cmd
}
