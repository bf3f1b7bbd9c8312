package units

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestWord(t *testing.T) {
	for in, want := range map[string]string{
		"plain":        "plain",
		"":             `""`,
		"a b":          `"a b"`,
		"50%":          "50%%",
		"$HOME":        "$$HOME",
		`say "x"`:      `"say \"x\""`,
		`C:\n`:         `"C:\\n"`,
		"it's":         `"it's"`,
		"a\nb\tc":      `"a\x0ab\x09c"`,
		";":            `";"`,
		"-x=${Y} %i #": `"-x=$${Y} %%i #"`,
		"grüße":        "grüße",
	} {
		if got := word(in); got != want {
			t.Errorf("word(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestCommand(t *testing.T) {
	got := command([]string{"/bin/corten", "run"}, []string{"--rm", "--name=x"}, []string{"host", "--", "echo", "--a"})
	want := "/bin/corten run \\\n    --rm \\\n    --name=x \\\n    host -- echo --a"
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// systemd itself reads the units of a machine where it is.
func TestVerify(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze")
	}
	file := filepath.Join(t.TempDir(), "x.service")
	line := command([]string{"/bin/true"}, []string{"--env=A=%n $HOME \"q\" \\"}, []string{";", ""})
	if err := os.WriteFile(file, []byte("[Service]\nExecStart="+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "verify", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), "x.service") {
		t.Errorf("%v: %s", err, out)
	}
}
