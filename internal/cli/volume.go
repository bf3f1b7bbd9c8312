package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/volumes"
)

func newVolume(a *app) *cobra.Command {
	return a.family("volume", volumes.Create(a.shell), volumes.List(a.shell), volumes.Inspect(a.shell),
		volumes.Remove(a.shell), volumes.Prune(a.shell))
}
