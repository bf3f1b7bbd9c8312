package standing

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The more containers are connected, the seldomer each keeper looks; and that leaves no garbage.
func TestRounds(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil || os.Getuid() != 0 {
		t.Skip("not root, or no nft")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace: ", err)
	}
	run := t.TempDir()
	r, now := NewRounds(run), int64(0)
	turn := func(want bool, seconds int64) {
		t.Helper()
		gone, next := r.Turn(now)
		if gone != want {
			t.Fatalf("gone: %v, want %v", gone, want)
		}
		if least, most := seconds*second*3/4, seconds*second*5/4; next-now < least || next-now > most {
			t.Fatalf("the next look is in %d ns, want %d to %d", next-now, least, most)
		}
		if gone, again := r.Turn(next - 1); gone || again != next {
			t.Fatalf("just before: %v, %d", gone, again)
		}
		now = next
	}
	turn(false, 10) // the first time
	for _, seconds := range []int64{10, 20, 20, 40, 40, 80, 80, 120, 120} {
		turn(true, seconds)
	}
	if out, err := exec.Command("nft", "add", "table", "inet", r.table).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	turn(false, 10)
	dir := filepath.Join(run, "net", "wired")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 198 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if i == 47 {
			turn(false, 50) // with . and ..
		}
	}
	turn(false, 120)
	if n := testing.AllocsPerRun(100, func() { _, now = r.Turn(now) }); n != 0 {
		t.Errorf("%v pieces of garbage", n)
	}
}
