package front

import (
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/cli/shell"
)

// What is not understood to the last word is for the whole command line to answer.
func TestRead(t *testing.T) {
	for line, ours := range map[string]bool{
		"run host true":                 true,
		"--root /r run --rm host true":  true,
		"run --root /r --rm host -- ps": true,
		"run -h name host true":         true, // not help
		"run --rm host --help":          true, // the command's
		"create host":                   true,
		"exec -it web sh":               true,
		"version":                       true,
		"keep hold":                     true,
		"keep begin 01 run":             true,

		"":                     false,
		"--help":               false,
		"-v":                   false,
		"help run":             false,
		"run":                  false,
		"run --help":           false,
		"run --rm":             false,
		"run --no-such host":   false,
		"run --rm=maybe host":  false,
		"run --memory":         false,
		"exec web":             false,
		"exec -h web sh":       false,
		"version --format {{}": false,
		"--no-such run host":   false,
		"ps":                   false,
		"container run host":   false,
		"__complete run host":  false,
		"keep":                 false,
		"keep end":             false,
		"keep compress /logs":  false,
	} {
		if got := read(&shell.Shell{Args: strings.Fields(line)}) != nil; got != ours {
			t.Errorf("corten %s: carried out here: %v, want %v", line, got, ours)
		}
	}
}
