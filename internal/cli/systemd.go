package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/units"
)

func newSystemd(a *app) *cobra.Command { return a.family("systemd", units.Unit(a.shell)) }
