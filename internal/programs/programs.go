// Package programs finds the programs that Corten is made of: each starts others, by these paths.
package programs

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// Find finds a program: beside the one that runs, or where make install puts it. That takes
// system calls that cost microseconds.
func Find(name string) (string, error) {
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

// Self is the path of the program that runs. An upgrade may have put a new one in its place.
func Self() string {
	path, _ := os.Readlink("/proc/self/exe")
	return strings.TrimSuffix(path, " (deleted)")
}
