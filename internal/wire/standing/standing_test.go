package standing_test

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/wire/rules"
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
	for _, run := range []string{"/run/corten", "/run/ct-trial", "/tmp/a/run", ""} {
		if got, want := standing.Table(run), rules.TableName(run); got != want {
			t.Errorf("of %s: %s, and the rules are in %s", run, got, want)
		}
	}
}

func BenchmarkLook(b *testing.B) {
	b.ReportAllocs() // none: keepers do this all their life
	for b.Loop() {
		_, _ = standing.Look("/run/corten")
	}
}
