package cli

import (
	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/life"
	"github.com/cortenhq/corten/internal/cli/look"
)

// newContainer is Docker's other spelling of the verbs about containers.
func newContainer(a *app) *cobra.Command {
	list := look.PS(a.shell)
	list.Aliases = []string{"list", "ps"}
	children := []*cobra.Command{
		respell("ls", "List containers", list),
		respell("prune", "Remove containers that do not run", life.Prune(a.shell)),
		respell("inspect", "Show all that is known of containers", look.InspectContainers(a.shell)),
	}
	for _, v := range verbs() {
		switch v.name {
		case "container", "ps", "inspect": // see above
			continue
		case "events": // those of images, volumes and networks too
			continue
		}
		if v.group == containers {
			children = append(children, respell(v.name, v.short, v.make(a)))
		}
	}
	return a.family("container", children...)
}
