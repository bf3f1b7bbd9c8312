package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cortenhq/corten/internal/errs"
)

// format prints values as a user's --format says: "json", one value a line, or a Go template
// that is executed for each value. A template sees a value as its JSON has it: {{.Os}} is
// the member "Os".
//
// Templates are the business of corten-format. Package text/template calls methods by name,
// so a binary that links it keeps every method of every type: 2 MB that each start of corten
// would pay for.
func (a *app) format(format string, values ...any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, v := range values {
		if err := enc.Encode(v); err != nil {
			return errs.New(errs.Internal, "write as JSON", "", err)
		}
	}
	if format == "json" {
		_, err := a.env.Stdout.Write(b.Bytes())
		return err
	}
	tool, err := findTool("corten-format")
	if err != nil {
		return err
	}
	cmd := exec.Command(tool, format)
	cmd.Stdin, cmd.Stdout = &b, a.env.Stdout
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		if said.Len() > 0 {
			err = errors.New(string(bytes.TrimSpace(said.Bytes())))
		}
		return usage(errs.New(errs.Invalid, "", "--format", err).WithHint("write json, or a Go template such as {{.Name}}; --format json shows the names"))
	}
	return nil
}

// findTool finds another program of Corten: beside this one, or where make install puts it.
func findTool(name string) (string, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "", errs.Wrap("find", name, err)
	}
	dir := filepath.Dir(self)
	for _, p := range []string{filepath.Join(dir, name), filepath.Join(dir, "../libexec/corten", name), "/usr/libexec/corten/" + name} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", errs.Newf(errs.NotFound, "find", name, "it is neither beside "+self+" nor in ../libexec/corten").
		WithHint("run make install, or keep the programs of bin/ together")
}
