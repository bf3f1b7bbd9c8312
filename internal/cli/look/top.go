package look

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Top lists the processes of a container.
func Top(sh *shell.Shell) *cobra.Command {
	cmd := &cobra.Command{
		Use: "top CONTAINER [OPTION...]",
		Long: `List the processes of a container, as the host's ps numbers and describes them.

What stands after CONTAINER goes to ps(1), whose output has to have a column PID.`,
		Example: `  corten top web
  corten top web -o pid,rss,args`,
		Args:              declare.Args(1, -1),
		ValidArgsFunction: declare.Containers(sh, 1, engine.ContainerRunning),
	}
	cmd.Flags().SetInterspersed(false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		c, err := eng.Container(args[0])
		if err != nil {
			return err
		}
		pids, err := eng.ContainerProcesses(c)
		if err != nil {
			return err
		}
		how := args[1:]
		if len(how) == 0 {
			how = []string{"-ef"}
		}
		text, err := ps(cmd.Context(), how, pids)
		if err != nil {
			return err
		}
		rows, err := processRows(text, pids)
		if err != nil {
			return err
		}
		w := shell.NewTable(sh.Stdout)
		for _, r := range rows {
			fmt.Fprintln(w, strings.Join(r, "\t"))
		}
		return w.Flush()
	}
	return cmd
}

// ps asks for these processes only, so that any choice of columns finds them. Some options do not
// go with that: then all are asked for.
func ps(ctx context.Context, how []string, pids []int) (string, error) {
	var only []string
	for _, p := range pids {
		only = append(only, strconv.Itoa(p))
	}
	text, err := exec.CommandContext(ctx, "ps", append(slices.Clone(how), "-q", strings.Join(only, ","))...).Output()
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		text, err = exec.CommandContext(ctx, "ps", how...).Output()
	}
	if err != nil {
		return "", psError(err, how)
	}
	return string(text), nil
}

func psError(err error, how []string) error {
	what := "ps " + strings.Join(how, " ")
	if errors.Is(err, exec.ErrNotFound) {
		return errs.New(errs.NotFound, "execute", what, errors.New("this machine has no ps")).WithHint("install procps")
	}
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		if line, _, _ := bytes.Cut(bytes.TrimSpace(failed.Stderr), []byte("\n")); len(line) > 0 {
			err = errors.New(string(line))
		}
	}
	return errs.New(errs.Invalid, "list processes with", what, err).WithHint("man ps lists the options; without any the columns are those of ps -ef")
}

// processRows takes what ps says of some processes: its columns, of which the last may have
// blanks in it, as the command line does.
func processRows(text string, pids []int) ([][]string, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	head := strings.Fields(lines[0])
	at := slices.Index(head, "PID")
	if at < 0 {
		return nil, errs.Newf(errs.Invalid, "list processes", "", "what ps says has no column PID").WithHint("add one: -o pid,args")
	}
	rows := [][]string{head}
	for _, l := range lines[1:] {
		f := strings.Fields(l)
		if len(f) <= at {
			continue
		}
		pid, err := strconv.Atoi(f[at])
		if err != nil || !slices.Contains(pids, pid) {
			continue
		}
		if n := len(head); len(f) > n {
			f = append(f[:n-1], strings.Join(f[n-1:], " "))
		}
		rows = append(rows, f)
	}
	return rows, nil
}
