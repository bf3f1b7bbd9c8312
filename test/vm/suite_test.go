package vm_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/testimage"
	"github.com/cortenhq/corten/test/vm/machine"
)

// long is what takes minutes in the guest: left out unless CORTEN_VM_FULL=1.
var long = []string{"/bench", "/internal/seccomp", "/internal/supply", "/internal/testimage", "/test/crash", "/test/engines", "/test/escape", "/test/hosts"}

// elsewhere is what says nothing of a host: the tree's own order, and the tests that are here.
var elsewhere = []string{"", "/cmd/corten-docs", "/test/conformance", "/test/vm"}

// TestSuite runs the tests of all packages in the guest: go test on the host compiles them, and has each
// binary executed there.
func TestSuite(t *testing.T) {
	m := guest(t)
	all, err := exec.Command("go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "github.com/cortenhq/corten/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := slices.DeleteFunc(strings.Fields(string(all)), func(p string) bool {
		p = strings.TrimPrefix(p, "github.com/cortenhq/corten")
		return slices.Contains(elsewhere, p) || !full() && slices.Contains(long, p)
	})
	testimage.Debian(t) // the guest has no network to make it
	cache, err := filepath.Glob(filepath.Join(testimage.CacheDir(t), "debian-*[0-9]"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-json", "-vet=off", "-count=1", "-timeout=40m", "-ldflags=-s -w"}
	if !full() {
		args = append(args, "-short")
	}
	judge(t, m, cache, append(args, packages...))
}

// TestConformance has the suite of the OCI runtime specification judge corten-oci beside runc and crun, with
// control groups of version 2 and all privileges.
func TestConformance(t *testing.T) {
	if os.Getenv("CORTEN_TEST_VM") != "" && !full() {
		t.Skip("needs CORTEN_VM_FULL=1: takes a quarter of an hour")
	}
	m := guest(t)
	suite := filepath.Join(testimage.CacheDir(t), "runtime-tools-0.9.0")
	if _, err := os.Stat(filepath.Join(suite, "done")); err != nil {
		t.Skip("needs the suite, which make conformance builds")
	}
	t.Setenv("CORTEN_TEST_CONFORMANCE", "1")
	judge(t, m, []string{suite}, []string{"-json", "-vet=off", "-count=1", "-timeout=60m", "./test/conformance"})
}

func full() bool { return os.Getenv("CORTEN_VM_FULL") != "" }

// judge runs go test -json in the guest, and makes each package a subtest.
func judge(t *testing.T, m *machine.Machine, folders, args []string) {
	t.Helper()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := m.GoTest(t.Context(), w, folders, args...)
		w.Close()
		ended <- err
	}()
	type event struct {
		Action, Package, Test, Output string
		Elapsed                       float64
	}
	said := map[string]*strings.Builder{} // by package and test
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			t.Log(lines.Text()) // of go itself
			continue
		}
		key := e.Package + " " + e.Test
		if said[key] == nil {
			said[key] = &strings.Builder{}
		}
		switch {
		case e.Action == "build-output":
			t.Log(e.Output)
		case e.Action == "output":
			said[key].WriteString(e.Output)
		case e.Action == "fail" && e.Test != "":
			t.Logf("%s: %s\n%s", e.Package, e.Test, said[key])
		case e.Test != "" || e.Action != "fail" && e.Action != "pass" && e.Action != "skip":
		default:
			fmt.Fprintf(os.Stderr, "vm: %-4s %s in %.1f s\n", e.Action, e.Package, e.Elapsed)
			t.Run(strings.TrimPrefix(e.Package, "github.com/cortenhq/corten/"), func(t *testing.T) {
				if e.Action == "fail" {
					t.Error(said[key])
				}
			})
		}
	}
	if err := <-ended; err != nil && !t.Failed() {
		t.Error(err)
	}
}
