package standing_test

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/wire/standing"
)

// apart runs a test in a network namespace of its own. Its thread ends with it.
func apart(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace: ", err)
	}
}

func TestLook(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("no nft")
	}
	apart(t)
	want := func(there bool) {
		t.Helper()
		got, err := standing.Look("/run/corten")
		if err != nil || got != there {
			t.Fatalf("the table is there: %v, %v; want %v", got, err, there)
		}
		if got, err := standing.Look("/run/other"); err != nil || got {
			t.Fatalf("another's table is there: %v, %v", got, err)
		}
	}
	nft := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("nft", args...).CombinedOutput(); err != nil {
			t.Fatalf("nft %v: %v: %s", args, err, out)
		}
	}
	want(false)
	nft("add", "table", "ip", "corten")
	nft("add", "table", "inet", "cortenx")
	want(false)
	nft("add", "table", "inet", "corten")
	want(true)
	nft("flush", "ruleset")
	want(false)
}

func TestTable(t *testing.T) {
	for run, want := range map[string]string{"/run/corten": "corten", "/run/ct-trial": "corten-a4b9a8b2", "/tmp/a/run": "corten-f4362fcd"} {
		if got := standing.Table(run); got != want {
			t.Errorf("of %s: %s, want %s as ever: there may be one", run, got, want)
		}
	}
	if a, b := standing.Table("/run/a"), standing.Table("/run/b"); a == b || len(a) > 31 {
		t.Error(a, b)
	}
}

func BenchmarkLook(b *testing.B) {
	b.ReportAllocs() // none: keepers do this all their life
	for b.Loop() {
		_, _ = standing.Look("/run/corten")
	}
}
