// Package units writes units of systemd that run containers as services.
package units

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/runline"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/programs"
	"github.com/cortenhq/corten/internal/spec"
)

// Unit is the command that prints the unit of a container.
func Unit(sh *shell.Shell) *cobra.Command {
	var fresh bool
	var restart string
	cmd := &cobra.Command{
		Use:   "unit [flags] CONTAINER",
		Short: "Print a unit of systemd for a container",
		Long: `Print a unit of systemd that runs a container as a service.

The service starts and stops the container as it is. With --new it makes the container anew
each time, of the image as it is then, with the flags that made this one, and removes it when it
ends: the command is then a child of the service itself. Nothing is changed; the unit does its
work in /etc/systemd/system, once systemctl daemon-reload has been called.`,
		Example: "  corten systemd unit --new web > /etc/systemd/system/web.service\n" +
			"  systemctl daemon-reload\n  systemctl enable --now web",
		Args:              declare.Args(1, 1),
		ValidArgsFunction: declare.Containers(sh, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := of(cmd.Context(), sh, args[0])
			if err != nil {
				return err
			}
			if err := u.choose(restart); err != nil {
				return err
			}
			if !fresh {
				_, err = fmt.Fprint(sh.Stdout, u.start())
				return err
			}
			s, err := u.run()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(sh.Stdout, s)
			return err
		},
	}
	cmd.Flags().BoolVar(&fresh, "new", false, "Make the container anew each time the service starts")
	cmd.Flags().StringVar(&restart, "restart", "", "`WHEN` systemd starts it again, as in systemd.service(5): "+
		strings.Join(restarts(), ", ")+" (default: as the container says, else on-failure)")
	return cmd
}

func restarts() []string {
	return []string{"no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog"}
}

// unit is what a unit is written from.
type unit struct {
	asked   *spec.Container // by who made it
	c       *spec.Container // as it is
	program []string        // corten, with the folders if they are not the usual ones
	restart string
}

func of(ctx context.Context, sh *shell.Shell, ref string) (*unit, error) {
	eng, err := sh.Engine()
	if err != nil {
		return nil, err
	}
	cfg, err := sh.Folders()
	if err != nil {
		return nil, err
	}
	u := &unit{program: []string{programs.Corten()}}
	if cfg.Root != "/var/lib/corten" {
		u.program = append(u.program, "--root="+cfg.Root)
	}
	if cfg.Run != "/run/corten" {
		u.program = append(u.program, "--run="+cfg.Run)
	}
	u.asked, u.c, err = eng.Asked(ctx, ref)
	return u, err
}

// choose takes the user's choice of when to start again, or else the container's.
func (u *unit) choose(restart string) error {
	if restart != "" && !slices.Contains(restarts(), restart) {
		return values.Bad("restart", restart, "no such choice", "write one of "+strings.Join(restarts(), ", "))
	}
	if u.restart = restart; restart != "" {
		return nil
	}
	switch u.c.Life.Restart.Policy {
	case spec.RestartAlways, spec.RestartUnlessStopped:
		u.restart = "always"
	default:
		u.restart = "on-failure"
	}
	return nil
}

// run is a unit whose process is the command itself.
func (u *unit) run() (string, error) {
	c := *u.asked
	c.Life.Remove, c.Life.Restart = true, spec.Restart{} // both are the service's to decide
	if c.Process.Terminal {
		c.Process.Stdin = false // there is nobody who types
	}
	if c.Life.Notify == spec.NotifyIgnore {
		c.Life.Notify = spec.NotifyKeeper
	}
	flags, rest, err := runline.Of(&c)
	if err != nil {
		return "", err
	}
	return u.head() + "Type=notify\nNotifyAccess=main\n" +
		"ExecStart=" + command(slices.Concat(u.program, []string{"run"}), flags, rest) + "\n" +
		u.stop() + "TimeoutStartSec=900\n" + u.tail(0), nil // an image may have to be brought
}

// start is a unit that starts and stops a container that is there.
func (u *unit) start() string {
	kind := "Type=exec\n"
	if u.c.Life.Notify != spec.NotifyIgnore {
		kind = "Type=notify\nNotifyAccess=all\n"
	}
	if u.c.Life.Restart.Policy != spec.RestartNo {
		u.restart = "no" // its keeper does
	}
	with := func(words ...string) string { return quoted(slices.Concat(u.program, words, []string{u.c.Name})) }
	// systemd has the keeper for the service's process, and that ends as the container did.
	return u.head() + kind + "ExecStart=" + with("start", "--attach") + "\nExecStop=" + with("stop") + "\nSuccessExitStatus=" + u.stopped() + "\n" + u.tail(10)
}

func (u *unit) head() string {
	return "[Unit]\nDescription=" + text("Container "+u.c.Name+" of "+u.c.Image.Name) + "\n" +
		"Documentation=man:corten-run(1)\nWants=network-online.target\nAfter=network-online.target\n" +
		"\n[Service]\n"
}

// stop has systemd send the container's stop signal to corten run, which passes it on.
func (u *unit) stop() string {
	out := ""
	if u.signal() != syscall.SIGTERM {
		out = "KillSignal=" + u.c.Life.StopSignal + "\n"
	}
	return out + "SuccessExitStatus=" + u.stopped() + "\n"
}

// stopped is how a command ends that its stop signal has killed, which is in order.
func (u *unit) stopped() string { return strconv.Itoa(128 + int(u.signal())) }

func (u *unit) signal() syscall.Signal {
	return cmp.Or(engine.SignalOf(u.c.Life.StopSignal), syscall.SIGTERM)
}

// tail ends a unit. more is seconds that what stops the container takes besides.
func (u *unit) tail(more int) string {
	timeout := strconv.Itoa(10 + more) // Docker's
	if t := u.c.Life.StopTimeout; t != nil {
		timeout = strconv.Itoa(max(*t, 0) + more)
		if *t < 0 {
			timeout = "infinity"
		}
	}
	return "Restart=" + u.restart + "\nTimeoutStopSec=" + timeout + "\nKillMode=mixed\nDelegate=yes\n" +
		"\n[Install]\nWantedBy=multi-user.target\n"
}
