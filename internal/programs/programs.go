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
		if exists(p) {
			return p, nil
		}
	}
	return "", errs.Newf(errs.NotFound, "find", name, "it is neither beside "+self+" nor in ../libexec/corten").
		WithHint("run make install, or keep the programs of bin/ together")
}

// Corten is the path of the program corten: the one that runs, or which has executed the whole
// command line in its place. An upgrade may have put a new one there.
func Corten() string {
	self, _ := os.Readlink("/proc/self/exe")
	self = strings.TrimSuffix(self, " (deleted)")
	if dir, name := filepath.Split(self); name == "corten-image" {
		for _, p := range []string{dir + "corten", filepath.Join(dir, "../../bin/corten")} {
			if exists(p) {
				return p
			}
		}
	}
	return self // corten-image can do it too
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
