package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/spec"
)

// newKeep is what the processes of kept containers execute (LIFECYCLE.md). It is nothing for
// people, and in no list.
func newKeep(a *app) *cobra.Command {
	step := func(name string, args int, do func(*cobra.Command, *engine.Engine, []string) error) *cobra.Command {
		return &cobra.Command{Use: name, Args: cobra.ExactArgs(args), RunE: func(cmd *cobra.Command, args []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			return do(cmd, eng, args)
		}}
	}
	cmd := a.family("keep",
		step("start", 1, func(cmd *cobra.Command, eng *engine.Engine, args []string) error {
			return eng.KeepStart(cmd.Context(), spec.ContainerID(args[0]), engine.ByRestart)
		}),
		step("begin", 2, func(cmd *cobra.Command, eng *engine.Engine, args []string) error {
			return eng.KeepStart(cmd.Context(), spec.ContainerID(args[0]), engine.Origin(args[1]))
		}),
		step("end", 1, func(_ *cobra.Command, eng *engine.Engine, args []string) error {
			status, err := eng.KeepEnd(spec.ContainerID(args[0]))
			if err == nil && status != 0 {
				err = &exit{status, nil}
			}
			return err
		}),
		step("probe", 1, func(cmd *cobra.Command, eng *engine.Engine, args []string) error {
			return eng.KeepProbe(cmd.Context(), spec.ContainerID(args[0]))
		}),
		step("hold", 0, func(*cobra.Command, *engine.Engine, []string) error {
			_, err := io.Copy(io.Discard, a.env.Stdin)
			return err
		}),
		step("compress", 1, func(_ *cobra.Command, eng *engine.Engine, args []string) error {
			return eng.CompressLogs(args[0])
		}),
	)
	cmd.Hidden = true
	return cmd
}
