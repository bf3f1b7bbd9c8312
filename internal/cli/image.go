package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// newImage is Docker's other spelling of the verbs about images.
func newImage(a *app) *cobra.Command {
	verb := func(name, short string, cmd *cobra.Command) *cobra.Command {
		_, rest, _ := strings.Cut(cmd.Use, " ")
		cmd.Use, cmd.Short = name+" "+rest, short
		cmd.Example = "" // of the shorter spelling
		return cmd
	}
	return a.family("image",
		verb("inspect", "Show all that is known of images", newImageInspect(a)),
		verb("ls", "List images", newImages(a)),
		verb("pull", "Bring an image from its registry", newPull(a)),
		verb("load", "Load images from an archive", newLoad(a)),
		verb("import", "Make an image of a root file system", newImport(a)),
		verb("tag", "Give an image one more name", newTag(a)),
		verb("rm", "Remove images", newRmi(a)),
		verb("prune", "Remove images that nobody needs", newImagePrune(a)),
	)
}
