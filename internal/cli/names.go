package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/engine"
)

func (a *app) completeContainers(most int, states ...engine.ContainerStatus) cobra.CompletionFunc {
	return a.shell.CompleteContainers(most, states...)
}
