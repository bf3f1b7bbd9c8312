package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/networks"
)

func newNetwork(a *app) *cobra.Command {
	return a.family("network", networks.Create(a.shell), networks.List(a.shell), networks.Inspect(a.shell),
		networks.Remove(a.shell), networks.Prune(a.shell), networks.Connect(a.shell), networks.Disconnect(a.shell))
}
