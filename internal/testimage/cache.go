package testimage

import (
	"os"
	"path/filepath"
	"syscall"
)

// CacheDir is the folder where costly images wait for the next run.
func CacheDir(t T) string {
	t.Helper()
	dir := os.Getenv("CORTEN_TEST_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatalf("testimage: find cache folder: %v (set CORTEN_TEST_CACHE)", err)
		}
		dir = filepath.Join(base, "corten-test")
	}
	must(t, "make cache folder", os.MkdirAll(dir, 0o755))
	return dir
}

// cached returns the folder name of the cache, which fill has filled now or once before.
// The name holds everything the content depends on. Of several processes that want one
// folder, one fills it and the others wait; a folder that is there is complete.
func cached(t T, name string, fill func(dir string)) string {
	t.Helper()
	base := CacheDir(t)
	dir := filepath.Join(base, name)
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	must(t, "open lock", err)
	defer lock.Close()
	must(t, "lock "+name, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	tmp := dir + ".tmp" // left by a run that was killed, if it exists: the lock is ours now
	must(t, "clear", os.RemoveAll(tmp))
	must(t, "make", os.Mkdir(tmp, 0o755))
	fill(tmp)
	must(t, "publish", os.Rename(tmp, dir))
	return dir
}
