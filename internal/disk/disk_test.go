package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/errs"
)

// holdLock is set for a copy of this test that takes the lock file it names, says so, and
// waits to be killed.
const holdLock = "CORTEN_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdLock); path != "" {
		if _, err := Lock(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatal(...any)
}

func ok(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t tb, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	ok(t, err)
	return string(b)
}

func names(t tb, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	ok(t, WriteFile(path, []byte("one"), 0o640, Durable))
	before, err := os.Open(path)
	ok(t, err)
	defer before.Close()
	ok(t, WriteFile(path, []byte("two"), 0o600, Volatile))
	if got := read(t, path); got != "two" {
		t.Errorf("got %q after replacing", got)
	}
	if b, _ := io.ReadAll(before); string(b) != "one" {
		t.Errorf("an open file changed to %q", b)
	}
	if info, _ := os.Stat(path); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
	if err := WriteFile(filepath.Join(dir, "no", "file"), nil, 0o600, Volatile); !errs.Is(err, errs.NotFound) {
		t.Errorf("in a missing directory: %v", err)
	}
}

// TestWriteFileSeenWhole has a reader look while a writer replaces.
func TestWriteFileSeenWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	text := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%2)}, 100_000) }
	ok(t, WriteFile(path, text(0), 0o600, Volatile))
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 300 {
			if err := WriteFile(path, text(i), 0o600, Volatile); err != nil {
				t.Error(err)
			}
		}
		stop.Store(true)
	})
	for !stop.Load() {
		if got := read(t, path); got != string(text(0)) && got != string(text(1)) {
			t.Fatalf("saw %d bytes that nobody wrote", len(got))
		}
	}
	wg.Wait()
}

func TestClaim(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "name")
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			err := Claim(path, []byte(strconv.Itoa(i)), 0o600, Volatile)
			switch {
			case err == nil:
				won.Add(1)
				if got := read(t, path); got != strconv.Itoa(i) {
					t.Errorf("%d won and reads %q", i, got)
				}
			case !errs.Is(err, errs.Exists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || len(names(t, dir)) != 1 {
		t.Errorf("%d won, files %v", won.Load(), names(t, dir))
	}
}

// TestTemp holds nameless files and those that need a passing name to the same behaviour.
func TestTemp(t *testing.T) {
	kinds := map[string]func(string, os.FileMode) (*Temp, error){"nameless": CreateTemp, "named": createNamed}
	for kind, create := range kinds {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			temp := func(text string) *Temp {
				f, err := create(dir, 0o444)
				ok(t, err)
				_, err = f.WriteString(text)
				ok(t, err)
				return f
			}
			dropped := temp("dropped")
			for _, n := range names(t, dir) {
				if !IsTemp(n) {
					t.Errorf("%s is not a name in passing", n)
				}
			}
			ok(t, dropped.Close())
			first, second, third := temp("1"), temp("2"), temp("3")
			ok(t, first.Publish(path))
			if err := second.Publish(path); !errs.Is(err, errs.Exists) {
				t.Errorf("publishing over a file: %v", err)
			}
			if got := read(t, path); got != "1" {
				t.Errorf("got %q", got)
			}
			ok(t, third.Replace(path))
			if got := read(t, path); got != "3" {
				t.Errorf("got %q after replacing", got)
			}
			fourth := temp("4")
			ok(t, fourth.Replace(path+"4"))
			for _, f := range []*Temp{first, second, third, fourth} {
				ok(t, f.Close())
			}
			if got := names(t, dir); len(got) != 2 {
				t.Errorf("files: %v", got)
			}
		})
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(path)
	ok(t, err)
	if _, err := TryLock(path); !errs.Is(err, errs.Busy) {
		t.Errorf("a second lock: %v", err)
	}
	ok(t, unlock())
	one, err := RLock(path)
	ok(t, err)
	two, err := RLock(path)
	ok(t, err)
	ok(t, one())
	if _, err := TryLock(path); !errs.Is(err, errs.Busy) {
		t.Errorf("a lock beside a shared one: %v", err)
	}
	ok(t, two())
	unlock, err = TryLock(path)
	ok(t, err)
	ok(t, unlock())
}

// TestLockFileRemoved has everyone remove the lock file while holding it. If anyone's lock
// were on a removed file, two would count at once and a count would be lost.
func TestLockFileRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	const goroutines, rounds = 8, 200
	count := 0
	var guard sync.Mutex // never waited for: it only sees whether the lock file works
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range rounds {
				f, err := OpenLocked(path, os.O_RDWR, Exclusive)
				if err != nil {
					t.Error(err)
					return
				}
				if !guard.TryLock() {
					t.Error("two hold the lock")
					f.Close()
					return
				}
				count++
				guard.Unlock()
				os.Remove(path) // lets the next one in, as closing does
				f.Close()
			}
		})
	}
	wg.Wait()
	if count != goroutines*rounds {
		t.Errorf("count %d, want %d", count, goroutines*rounds)
	}
}

// TestLockOfKilled kills a process that has the lock.
func TestLockOfKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	self, err := os.Executable()
	ok(t, err)
	child := exec.Command(self)
	child.Env = append(os.Environ(), holdLock+"="+path)
	in, err := child.StdinPipe()
	ok(t, err)
	defer in.Close()
	out, err := child.StdoutPipe()
	ok(t, err)
	ok(t, child.Start())
	said := make([]byte, len("locked\n"))
	_, err = io.ReadFull(out, said)
	ok(t, err)
	if _, err := TryLock(path); !errs.Is(err, errs.Busy) {
		t.Errorf("beside process %d: %v", child.Process.Pid, err)
	}
	ok(t, child.Process.Kill())
	child.Wait()
	unlock, err := TryLock(path)
	ok(t, err)
	ok(t, unlock())
}

// runs makes content of blocks that are zero, or not, or a bit of both.
func runs(t *rapid.T) []byte {
	var b []byte
	for _, kind := range rapid.SliceOfN(rapid.IntRange(0, 4), 0, 20).Draw(t, "blocks") {
		block := make([]byte, holeBlock)
		switch kind {
		case 0, 1:
		case 2:
			block[rapid.IntRange(0, holeBlock-1).Draw(t, "at")] = 1
		case 3:
			block = bytes.Repeat([]byte{7}, holeBlock)
		case 4:
			block = block[:rapid.IntRange(1, holeBlock).Draw(t, "length")]
			block[0] = 9
			return append(b, block...)
		}
		b = append(b, block...)
	}
	return b
}

// holeBlocks counts the whole blocks of zeros in b.
func holeBlocks(b []byte) (n int64) {
	for ; len(b) >= holeBlock; b = b[holeBlock:] {
		if isZero(b) {
			n++
		}
	}
	return n
}

func TestSparseAndCopy(t *testing.T) {
	targets := map[string]string{"same": t.TempDir()}
	if dir, err := os.MkdirTemp("/dev/shm", "corten-test-"); err == nil {
		defer os.RemoveAll(dir)
		targets["other"] = dir
	}
	src := t.TempDir()
	for name, dst := range targets {
		t.Run(name+" file system", rapid.MakeCheck(func(t *rapid.T) {
			want := runs(t)
			a, err := CreateTemp(src, 0o600)
			ok(t, err)
			defer a.Close()
			for off := 0; off < len(want); off += 3 * holeBlock {
				ok(t, WriteSparse(a.File, want[off:min(len(want), off+3*holeBlock)], int64(off)))
			}
			ok(t, a.Truncate(int64(len(want))))
			b, err := CreateTemp(dst, 0o600)
			ok(t, err)
			defer b.Close()
			source, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(a.Fd())))
			ok(t, err)
			defer source.Close()
			ok(t, Copy(b.File, source))
			for _, f := range []*Temp{a, b} {
				if got := read(t, "/proc/self/fd/"+strconv.Itoa(int(f.Fd()))); got != string(want) {
					t.Fatalf("%s: %d bytes, want %d", f.Name(), len(got), len(want))
				}
				var st unix.Stat_t
				ok(t, unix.Fstat(int(f.Fd()), &st))
				// ext4 takes another block to list more than four runs of data.
				blocks := (int64(len(want))+holeBlock-1)/holeBlock + 1
				if got, most := st.Blocks*512, (blocks-holeBlocks(want))*holeBlock; got > most {
					t.Fatalf("%s: takes %d bytes, want at most %d", f.Name(), got, most)
				}
			}
		}))
	}
}

func TestSync(t *testing.T) {
	dir := t.TempDir()
	ok(t, SyncDir(dir))
	f, err := os.Create(filepath.Join(dir, "f"))
	ok(t, err)
	defer f.Close()
	ok(t, SyncFS(f))
	if err := SyncDir(filepath.Join(dir, "none")); !errs.Is(err, errs.NotFound) || errors.As(err, new(*os.PathError)) {
		t.Errorf("a missing directory: %v", err)
	}
	space, err := SpaceOf(dir)
	ok(t, err)
	if space.Total <= 0 || space.Free > space.Total || space.Left > space.Inodes {
		t.Errorf("space %+v", space)
	}
}
