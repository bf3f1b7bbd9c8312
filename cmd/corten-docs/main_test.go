package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli"
)

func TestPages(t *testing.T) {
	dir := t.TempDir()
	root := cli.Tree()
	man, completions := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	if err := write(root, man, completions); err != nil {
		t.Fatal(err)
	}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		b, err := os.ReadFile(filepath.Join(man, name(c)+".1"))
		if err != nil {
			t.Error(err)
		}
		for _, want := range []string{".TH \"" + strings.ToUpper(name(c)) + "\" 1", ".SH NAME\n", ".SH SYNOPSIS\n", ".SH OPTIONS\n"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s lacks %q", name(c), want)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	for _, f := range []string{"corten.bash", "_corten", "corten.fish"} {
		if st, err := os.Stat(filepath.Join(completions, f)); err != nil || st.Size() == 0 {
			t.Error(f, err)
		}
	}
}

// What troff finds wrong with a page a reader would too.
func TestTroff(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is missing")
	}
	root := cli.Tree()
	for _, c := range append(root.Commands(), root) {
		cmd := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z")
		cmd.Stdin = strings.NewReader(page(c))
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name(c), err, out)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"a-b":      `a\-b`,
		`\n`:       `\en`,
		".sh\n'x":  `\&.sh` + "\n" + `\&'x`,
		"see `ls`": "see ls",
	} {
		if got := text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
