package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// GoTest executes `go test ARGUMENT...` of this tree on the host, and the test binaries in the
// guest, in a tree of the same path. What tests want of go there, the host's does. Folders of the host
// at the paths given, as caches of images are, are copied to the same paths first.
func (m *Machine) GoTest(ctx context.Context, out io.Writer, folders []string, args ...string) error {
	if err := m.CopyTree(ctx); err != nil {
		return err
	}
	for _, folder := range folders {
		if err := m.Command("mkdir", "-p", filepath.Dir(folder)).Run(ctx); err != nil {
			return err
		}
		if err := m.Copy(ctx, filepath.Dir(folder), folder); err != nil {
			return err
		}
	}
	shim := "printf '#!/bin/sh\\nexec /run/agent \"$@\"\\n' >/usr/local/bin/go && chmod 755 /usr/local/bin/go && mkdir -p /root/tests"
	if err := m.Shell(shim).Run(ctx); err != nil {
		return err
	}
	tree, err := Tree()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-exec", filepath.Join(m.dir, "exec") + " " + strconv.Itoa(m.power.Load().port)}, args...)...)
	cmd.Dir = tree
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// CopyTree gives the guest this source tree, at the same path.
func (m *Machine) CopyTree(ctx context.Context) error {
	tree, err := Tree()
	if err != nil {
		return err
	}
	list := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = tree
	names, err := list.Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	if err := m.Shell("rm -rf '" + tree + "' && mkdir -p '" + tree + "'").Run(ctx); err != nil {
		return err
	}
	path := filepath.Join(m.dir, "names")
	if err := os.WriteFile(path, present(tree, names), 0o600); err != nil {
		return err
	}
	return errors.Join(m.copyTar(ctx, tree, []string{"-c", "--owner=0", "--group=0", "-C", tree, "--null", "-T", path}), os.Remove(path))
}

// present leaves out what git knows and is not there any more.
func present(tree string, names []byte) []byte {
	var out []byte
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if _, err := os.Lstat(filepath.Join(tree, string(name))); err == nil && len(name) > 0 {
			out = append(append(out, name...), 0)
		}
	}
	return out
}
