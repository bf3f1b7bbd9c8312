package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/library"
)

// newImage is Docker's other spelling of the verbs about images.
func newImage(a *app) *cobra.Command {
	return a.family("image",
		respell("inspect", "Show all that is known of images", library.Inspect(a.shell)),
		respell("ls", "List images", library.List(a.shell)),
		respell("pull", "Bring an image from its registry", library.Pull(a.shell)),
		respell("load", "Load images from an archive", library.Load(a.shell)),
		respell("import", "Make an image of a root file system", library.Import(a.shell)),
		respell("tag", "Give an image one more name", library.Tag(a.shell)),
		respell("rm", "Remove images", library.Remove(a.shell)),
		respell("verify", "Compare what is kept of images with what came", library.Verify(a.shell)),
		respell("prune", "Remove images that nobody needs", library.Prune(a.shell)),
	)
}

// respell makes a verb one of a family.
func respell(name, short string, cmd *cobra.Command) *cobra.Command {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	cmd.Use, cmd.Short = name+" "+rest, short
	cmd.Example = "" // of the shorter spelling
	return cmd
}
