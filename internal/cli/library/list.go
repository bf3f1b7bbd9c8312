// Package library is the verbs about images: how they come, how they are shown, and how they go.
package library

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/declare"
	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/cli/show"
	"github.com/cortenhq/corten/internal/engine"
)

// imagesFlags is how the list of images is to look.
type imagesFlags struct {
	all, digests, noTrunc, quiet bool
	filters                      []string
	format                       string
}

// List lists images.
func List(sh *shell.Shell) *cobra.Command {
	f := imagesFlags{}
	cmd := &cobra.Command{
		Use: "images [flags] [NAME[:TAG]]",
		Long: `List images.

SIZE counts every file of an image, whether other images have it too or not; on the disk each
file is kept once.`,
		Example: `  corten images
  corten images --filter dangling=true -q
  corten images --format '{{.Repository}}:{{.Tag}} {{.Size}}'`,
		Args:              declare.Args(0, 1),
		ValidArgsFunction: completeImages(sh, 1),
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.all, "all", "a", false, "List all images, as is always done")
	fs.BoolVar(&f.digests, "digests", false, "Show digests")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "Do not shorten ids")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Show ids only")
	fs.StringArrayVarP(&f.filters, "filter", "f", nil, "Show only what `NAME=VALUE` lets through: before, dangling, label, reference, since, until")
	fs.StringVar(&f.format, "format", "", "Print as `FORMAT`: table, table TEMPLATE, json, or a Go template such as {{.ID}}")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter, err := engine.ParseImageFilter(f.filters)
		if err != nil {
			return err
		}
		if len(args) > 0 {
			filter.References = append(filter.References, args[0])
		}
		eng, err := sh.Engine()
		if err != nil {
			return err
		}
		list, err := eng.Images(cmd.Context(), filter)
		lines := make([]imageLine, len(list))
		for i, s := range list {
			lines[i] = newImageLine(s, f.noTrunc, time.Now())
		}
		if perr := printImages(sh, lines, f); perr != nil {
			return perr
		}
		return sh.SayButLast(err) // of images that could not be read
	}
	return cmd
}

// imageLine is an image in the list; its names are Docker's, for templates.
type imageLine struct {
	Repository   string
	Tag          string
	Digest       string
	ID           string
	CreatedSince string
	CreatedAt    string
	Size         string
	Containers   string
}

const none = "<none>"

func newImageLine(s engine.ImageSummary, noTrunc bool, now time.Time) imageLine {
	l := imageLine{Repository: none, Tag: none, Digest: string(s.Image.Target.Digest), ID: string(s.Image.ID),
		CreatedSince: "N/A", CreatedAt: "N/A", Size: show.Size(s.Size), Containers: strconv.Itoa(s.Containers)}
	if s.Ref.Repository != "" {
		bare := s.Ref
		bare.Tag, bare.Digest = "", ""
		l.Repository = bare.Familiar()
	}
	if s.Ref.Tag != "" {
		l.Tag = s.Ref.Tag
	}
	if !noTrunc {
		l.ID = s.Image.ID.Short()
	}
	if t := s.Image.Created; !t.IsZero() {
		l.CreatedSince = show.Age(now.Sub(t)) + " ago"
		l.CreatedAt = t.Local().Format("2006-01-02 15:04:05 -0700 MST")
	}
	return l
}

func printImages(sh *shell.Shell, lines []imageLine, f imagesFlags) error {
	if f.quiet {
		for _, l := range lines {
			if _, err := fmt.Fprintln(sh.Stdout, l.ID); err != nil {
				return err
			}
		}
		return nil
	}
	if f.format != "" && f.format != "table" {
		values := make([]any, len(lines))
		for i, l := range lines {
			values[i] = l
		}
		return sh.FormatTable(f.format, imageHeads(), values...)
	}
	w := shell.NewTable(sh.Stdout)
	head := "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE"
	if f.digests {
		head = "REPOSITORY\tTAG\tDIGEST\tIMAGE ID\tCREATED\tSIZE"
	}
	fmt.Fprintln(w, head)
	for _, l := range lines {
		digest := ""
		if f.digests {
			digest = l.Digest + "\t"
		}
		fmt.Fprintf(w, "%s\t%s\t%s%s\t%s\t%s\n", l.Repository, l.Tag, digest, l.ID, l.CreatedSince, l.Size)
	}
	return w.Flush()
}

// imageHeads are the headings of "table TEMPLATE".
func imageHeads() map[string]string {
	return map[string]string{"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID",
		"CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS"}
}

// completeImages completes the first arguments with names of images.
func completeImages(sh *shell.Shell, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		eng, err := sh.Engine()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		list, _ := eng.Images(context.WithoutCancel(cmd.Context()), engine.ImageFilter{})
		var names []string
		for _, s := range list {
			if name := s.Ref.Familiar(); s.Ref.Repository != "" && strings.HasPrefix(name, begun) {
				names = append(names, name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
