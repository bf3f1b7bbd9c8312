package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// newImage is Docker's other spelling of the verbs about images.
func newImage(a *app) *cobra.Command {
	return a.family("image",
		respell("inspect", "Show all that is known of images", newImageInspect(a)),
		respell("ls", "List images", newImages(a)),
		respell("pull", "Bring an image from its registry", newPull(a)),
		respell("load", "Load images from an archive", newLoad(a)),
		respell("import", "Make an image of a root file system", newImport(a)),
		respell("tag", "Give an image one more name", newTag(a)),
		respell("rm", "Remove images", newRmi(a)),
		respell("prune", "Remove images that nobody needs", newImagePrune(a)),
	)
}

// respell makes a verb one of a family.
func respell(name, short string, cmd *cobra.Command) *cobra.Command {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	cmd.Use, cmd.Short = name+" "+rest, short
	cmd.Example = "" // of the shorter spelling
	return cmd
}
