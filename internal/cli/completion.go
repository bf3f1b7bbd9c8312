package cli

import (
	"io"

	"github.com/spf13/cobra"
)

func newCompletion(a *app) *cobra.Command {
	shell := func(name, how string, write func(root *cobra.Command, w io.Writer) error) *cobra.Command {
		return &cobra.Command{
			Use:   name,
			Short: "Write the completion script of " + name,
			Long:  "Write a script that makes " + name + " complete the commands and flags of corten.\n\n" + how,
			Args:  wantArgs(0, 0),
			RunE:  func(cmd *cobra.Command, _ []string) error { return write(cmd.Root(), a.env.Stdout) },
		}
	}
	return a.family("completion",
		shell("bash", "For all users: corten completion bash > /usr/share/bash-completion/completions/corten",
			func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) }),
		shell("zsh", "For all users: corten completion zsh > /usr/share/zsh/vendor-completions/_corten",
			func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) }),
		shell("fish", "For all users: corten completion fish > /usr/share/fish/vendor_completions.d/corten.fish",
			func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) }))
}
