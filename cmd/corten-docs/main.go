// Command corten-docs writes the manual pages of corten, one for each command, and the
// completion scripts of shells, from the same table that makes help. It runs when Corten is
// built, not on a user's machine.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli"
)

func main() {
	man := flag.String("man", "", "write manual pages to this `folder`")
	completions := flag.String("completions", "", "write completion scripts to this `folder`")
	flag.Parse()
	root := cli.Tree()
	if err := write(root, *man, *completions); err != nil {
		fmt.Fprintln(os.Stderr, "corten-docs:", err)
		os.Exit(1)
	}
}

func write(root *cobra.Command, man, completions string) error {
	if man != "" {
		if err := os.MkdirAll(man, 0o755); err != nil {
			return err
		}
		if err := writePages(man, root); err != nil {
			return err
		}
	}
	if completions == "" {
		return nil
	}
	if err := os.MkdirAll(completions, 0o755); err != nil {
		return err
	}
	return errors.Join(
		root.GenBashCompletionFileV2(filepath.Join(completions, "corten.bash"), true),
		root.GenZshCompletionFile(filepath.Join(completions, "_corten")),
		root.GenFishCompletionFile(filepath.Join(completions, "corten.fish"), true))
}

// writePages writes the page of cmd and of each command below it.
func writePages(dir string, cmd *cobra.Command) error {
	if cmd.Hidden {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, name(cmd)+".1"), []byte(page(cmd)), 0o644); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if err := writePages(dir, c); err != nil {
			return err
		}
	}
	return nil
}

func name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// page is a manual page in the macros of man(7). It has no date, so that the same source
// makes the same page.
func page(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" Corten \"Corten Manual\"\n", quote(strings.ToUpper(name(cmd))))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", text(name(cmd)), text(lowerFirst(cmd.Short)))
	use := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		use = cmd.CommandPath() + " [flags] COMMAND"
	}
	fmt.Fprintf(&b, ".SH SYNOPSIS\n%s\n", text(use))
	if cmd.Long != "" {
		b.WriteString(".SH DESCRIPTION\n")
		for i, p := range strings.Split(cmd.Long, "\n\n") {
			if i > 0 {
				b.WriteString(".PP\n")
			}
			fmt.Fprintf(&b, "%s\n", text(p))
		}
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, c := range cmd.Commands() {
			if !c.Hidden {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", text(c.Name()), text(c.Short))
			}
		}
	}
	b.WriteString(".SH OPTIONS\n")
	for _, g := range cli.FlagGroups(cmd) {
		fmt.Fprintf(&b, ".SS %s\n", quote(g.Name))
		g.Flags.VisitAll(func(f *pflag.Flag) { b.WriteString(option(f)) })
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", text(cmd.Example))
	}
	seeAlso(&b, cmd)
	return b.String()
}

// option is one flag: its names in bold, its value's name in italics, what it does.
func option(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	names := `\fB` + text("--"+f.Name) + `\fR`
	if f.Shorthand != "" {
		names = `\fB` + text("-"+f.Shorthand) + `\fR, ` + names
	}
	switch {
	case f.NoOptDefVal != "" && value != "":
		names += `[=\fI` + text(value) + `\fR]`
	case value != "":
		names += ` \fI` + text(value) + `\fR`
	}
	return fmt.Sprintf(".TP\n%s\n%s\n", names, text(usage))
}

func seeAlso(b *strings.Builder, cmd *cobra.Command) {
	var others []string
	if cmd.HasParent() {
		others = append(others, name(cmd.Parent()))
	}
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			others = append(others, name(c))
		}
	}
	for i, o := range others {
		others[i] = `\fB` + text(o) + `\fR(1)`
	}
	fmt.Fprintf(b, ".SH SEE ALSO\n%s\n", strings.Join(others, ", "))
}

// text escapes what troff would take for a command: a backslash, a hyphen that is a minus
// sign in a flag, and a point or an apostrophe at the beginning of a line.
func text(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`, "`", "").Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func quote(s string) string { return `"` + s + `"` }

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
