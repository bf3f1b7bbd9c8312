package testimage

import (
	"archive/tar"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cortenhq/corten/internal/oci"
)

// Tools is Busybox with programs of this host at the paths they have here, the libraries that
// they are linked with, and more files; these are in their order, folders included.
func Tools(t T, programs []string, more ...File) Image {
	t.Helper()
	files := busyboxFiles(t)
	made := map[string]bool{}
	for _, f := range files {
		made[f.Name] = true
	}
	var folder func(name string)
	folder = func(name string) {
		if name != "." && !made[name] {
			folder(filepath.Dir(name))
			made[name] = true
			files = append(files, File{Name: name, Type: tar.TypeDir})
		}
	}
	for _, p := range programs {
		for _, path := range append(librariesOf(t, p), p) {
			name := strings.TrimPrefix(path, "/")
			if made[name] {
				continue
			}
			real, err := filepath.EvalSymlinks(path)
			must(t, "find "+path, err)
			folder(filepath.Dir(name))
			made[name] = true
			files = append(files, File{Name: name, Mode: 0o755, Path: real})
		}
	}
	return Build(t, oci.Config{Cmd: []string{"sh"}, Env: []string{defaultPath}}, Layer{Files: append(files, more...)})
}

// librariesOf lists the shared objects that a program needs, the loader among them; none of a static one.
func librariesOf(t T, program string) (paths []string) {
	t.Helper()
	out, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil && strings.Contains(string(out), "not a dynamic executable") {
		return nil
	}
	must(t, "list libraries of "+program, err)
	for _, word := range strings.Fields(string(out)) { // NAME => PATH (ADDRESS), or PATH (ADDRESS)
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	return paths
}
