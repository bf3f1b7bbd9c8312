package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cortenhq/corten/internal/testsystemd"
)

// BenchmarkSystemd runs true in a scope of systemd, and beside it what runc does; and both in groups of
// their own.
func BenchmarkSystemd(b *testing.B) {
	enter := testsystemd.Boot(b)
	bundle := filepath.Join(b.TempDir(), "bundle")
	if err := furnish(bundle); err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(bundle, "config.json")
	for _, groups := range []struct{ name, flag, path string }{{"scope", "--systemd-cgroup=true", "corten-test.slice:bench:t"}, {"files", "--systemd-cgroup=false", "/corten-test/t"}} {
		for path, value := range map[string]any{"process.args": []string{"true"}, "linux.cgroupsPath": groups.path, "linux.resources.pids": map[string]int{"limit": 50},
			"process.capabilities": map[string]any{}} {
			if err := change(file, path, value); err != nil {
				b.Fatal(err)
			}
		}
		for _, runtime := range []string{line(func(string) string { return "" })[0], "runc"} {
			b.Run(groups.name+"/"+filepath.Base(runtime), func(b *testing.B) {
				if _, err := exec.LookPath(runtime); err != nil {
					b.Skip("needs " + runtime)
				}
				for b.Loop() {
					cmd := append(enter[1:], runtime, "--root", "/run/bench", groups.flag, "run", "--bundle", bundle, "t")
					if out, err := exec.Command(enter[0], cmd...).CombinedOutput(); err != nil {
						b.Fatalf("%v: %s", err, out)
					}
				}
			})
		}
	}
}
