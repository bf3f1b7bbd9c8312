// Package files has the verbs about the files of containers.
package files

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
)

// Cp is corten cp.
func Cp(s *shell.Shell) *cobra.Command {
	req, quiet := engine.CopyRequest{}, false
	cmd := &cobra.Command{
		Use: "cp [flags] SRC DEST",
		Long: `Copy files and directories between a container, running or not, and the host. One of SRC and
DEST is CONTAINER:PATH, the other a path of the host.

SRC is a file: DEST is the name it gets, or a directory that it goes into. SRC is a directory:
if DEST does not exist it is made as a copy of it; if it does, SRC goes into it, or with SRC/.
what is in SRC. A symlink that is named as SRC is copied itself, unless --follow-link is given;
one that is named as DEST is followed. In the place of a path of the host "-" is a tar on stdin or stdout.

What comes into a container belongs to its root, and what comes out to the caller, unless
--archive is given. Without it programs lose set-user-id bits and capabilities on the host.
Devices are copied in tars only.`,
		Example: `  corten cp app.conf web:/etc/app/
  corten cp web:/var/log/app ./logs
  corten cp -a web:/srv/. - | gzip > srv.tar.gz
  corten cp one:/data - | corten cp - two:/`,
		Args:              declare.Args(2, 2),
		ValidArgsFunction: complete(s),
	}
	fs := cmd.Flags()
	fs.BoolVarP(&req.Options.Archive, "archive", "a", false, "Keep the numbers of users and groups, and the rights of programs")
	fs.BoolVarP(&req.Options.Follow, "follow-link", "L", false, "Copy what SRC leads to if it is a symlink")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Do not say how much was copied")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return copyFiles(cmd.Context(), s, req, args[0], args[1], quiet)
	}
	return cmd
}

// copyFiles finds out the direction and copies.
func copyFiles(ctx context.Context, s *shell.Shell, req engine.CopyRequest, src, dst string, quiet bool) error {
	from, srcPath, out := containerPath(src)
	to, dstPath, in := containerPath(dst)
	var hint string
	switch {
	case out && in:
		hint = "copy through a tar: corten cp " + src + " - | corten cp - " + to + ":DIRECTORY"
	case !out && !in:
		hint = "name a file of a container as CONTAINER:PATH, and one of the host whose name has a colon as ./NAME"
	}
	if hint != "" {
		return shell.Misused(errs.Newf(errs.Invalid, "copy", src+" to "+dst, "one of the two has to be in a container, and the other on the host").WithHint(hint))
	}
	eng, err := s.Engine()
	if err != nil {
		return err
	}
	_ = eng.Tidy()
	req.Options.Skip = func(path string) { s.Say("warning: left out, being a device or socket: " + path) }
	n := int64(0)
	if out {
		req.Container, req.Path, req.Host = from, srcPath, streamOr(dst)
		if req.Host == "" {
			if err := refuseTerminal(s, "copy", "write the tar to a file or a pipe: corten cp "+src+" - > FILE"); err != nil {
				return err
			}
			quiet = true
		}
		n, err = eng.CopyOut(ctx, req, s.Stdout)
	} else {
		req.Container, req.Path, req.Host = to, dstPath, streamOr(src)
		n, err = eng.CopyIn(ctx, req, s.Stdin)
	}
	if err == nil && !quiet && term.IsTerminal(int(s.Stderr.Fd())) {
		fmt.Fprintf(s.Stderr, "Successfully copied %s to %s\n", sizeOf(n), dst)
	}
	return err
}

func sizeOf(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%dB", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.3g%cB", v, units[i])
}

// containerPath splits CONTAINER:PATH. A path of the host that is absolute or begins with a
// dot is one whatever is in it.
func containerPath(p string) (container, path string, ok bool) {
	if filepath.IsAbs(p) || strings.HasPrefix(p, ".") {
		return "", "", false
	}
	container, path, ok = strings.Cut(p, ":")
	return container, path, ok
}

func streamOr(path string) string {
	if path == "-" {
		return ""
	}
	return path
}

// refuseTerminal refuses to write what is no text to a terminal.
func refuseTerminal(s *shell.Shell, op, hint string) error {
	if !term.IsTerminal(int(s.Stdout.Fd())) {
		return nil
	}
	return shell.Misused(errs.Newf(errs.Invalid, op, "", "a tar is not for a terminal").WithHint(hint))
}

// complete completes names of containers, and leaves paths of the host to the shell.
func complete(s *shell.Shell) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= 2 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if strings.ContainsAny(begun, "/:") {
			return nil, cobra.ShellCompDirectiveDefault
		}
		names, follow := declare.Containers(s, -1)(cmd, nil, begun)
		for i := range names {
			names[i] += ":"
		}
		if follow == cobra.ShellCompDirectiveNoFileComp {
			follow = cobra.ShellCompDirectiveNoSpace
		}
		return names, follow
	}
}
