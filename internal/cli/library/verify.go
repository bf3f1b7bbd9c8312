package library

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
)

// Verify compares what is kept of images with their digests.
func Verify(sh *shell.Shell) *cobra.Command {
	return &cobra.Command{
		Use: "verify [flags]",
		Long: `Read all that is kept of images, and compare it with its digests: manifests, layers and every file.
What is wrong is told with its image and path. If nothing is, files that have no seal are sealed where
the file system can (fs-verity): those of images that were pulled before it could, or of a copy.`,
		Args: declare.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			eng, err := sh.Engine()
			if err != nil {
				return err
			}
			v, err := eng.VerifyImages(cmd.Context())
			if err != nil {
				return sh.SayButLast(err)
			}
			fmt.Fprintln(sh.Stdout, "Images: "+strconv.Itoa(v.Images)+", all as they came")
			if v.Sealed > 0 {
				fmt.Fprintln(sh.Stdout, "Files that were sealed: "+strconv.Itoa(v.Sealed))
			}
			return nil
		},
	}
}
