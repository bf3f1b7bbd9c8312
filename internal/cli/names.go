package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/engine"
)

func (a *app) completeContainers(most int, states ...engine.ContainerStatus) cobra.CompletionFunc {
	return declare.Containers(a.shell, most, states...)
}
