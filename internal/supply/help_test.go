package supply_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry"
	"github.com/cortenhq/corten/internal/store"
	"github.com/cortenhq/corten/internal/supply"
	"github.com/cortenhq/corten/internal/testimage"
)

// kinds are the forms of a tree, each of which every test of images must pass with.
func kinds() []string { return []string{"erofs", "dir"} }

// eachKind runs a test with both kinds of tree.
func eachKind(t *testing.T, test func(t *testing.T, l *library)) {
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			if kind == "erofs" {
				needMounts(t)
			}
			test(t, newLibrary(t, kind))
		})
	}
}

// library is a library with what another process needs to open it too.
type library struct {
	*image.Library
	run, kind string
}

func newLibrary(t *testing.T, kind string) *library {
	t.Helper()
	dir := t.TempDir()
	return openLibrary(t, filepath.Join(dir, "root"), filepath.Join(dir, "run"), kind)
}

func openLibrary(t *testing.T, root, run, kind string) *library {
	t.Helper()
	l, err := image.Open(root, run, kind)
	if err != nil {
		t.Fatal(err)
	}
	return &library{l, run, kind}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func needMounts(t *testing.T) {
	t.Helper()
	needRoot(t)
	if kind, _, err := newLibrary(t, "").TreeKey(nil); err != nil || kind != store.EROFS {
		t.Skipf("this kernel cannot mount EROFS trees over objects (%v)", err)
	}
}

func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("no %s: apt-get install %s", name, name)
	}
}

func ref(t *testing.T, s string) oci.Ref {
	t.Helper()
	r, err := oci.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func client() *registry.Client { return registry.New(registry.Config{}) }

// quiet takes events that nobody looks at.
func quiet(image.Event) {}

// pull pulls name, which must work.
func (l *library) pull(t *testing.T, name string) image.Image {
	t.Helper()
	x, _, err := supply.Pull(t.Context(), l.Library, client(), ref(t, name), nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// sound checks every byte of the store.
func (l *library) sound(t *testing.T) {
	t.Helper()
	problems, err := l.Store().Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("the store is damaged: %v", p)
	}
}

// count says how many entries index.json has.
func (l *library) count(t *testing.T) int {
	t.Helper()
	list, err := l.Store().Images()
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// show mounts the image's root file system, as a container sees it but read-only, where no
// other process sees it, and returns a path to it.
func (l *library) show(t *testing.T, x image.Image) string {
	t.Helper()
	tr, ok, err := l.Tree(x)
	if err != nil || !ok {
		t.Fatalf("no tree: %v", err)
	}
	lower := tr.Path
	if tr.Kind == store.EROFS {
		fd, err := newMount("erofs", [2]string{"source", tr.Path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		lower = fmt.Sprintf("/proc/self/fd/%d::%s", fd, l.Store().ObjectsDir())
	} else {
		lower += ":" + t.TempDir() // an overlay without an upper layer wants two lower ones
	}
	root, err := newMount("overlay", [2]string{"lowerdir", lower}, [2]string{"metacopy", "on"}, [2]string{"redirect_dir", "on"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(root) })
	return fmt.Sprintf("/proc/self/fd/%d", root)
}

// newMount makes a detached, read-only mount of a new file system.
func newMount(fstype string, options ...[2]string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, o := range options {
		err = errors.Join(err, unix.FsconfigSetString(fs, o[0], o[1]))
	}
	if err = errors.Join(err, unix.FsconfigSetFlag(fs, "ro"), unix.FsconfigCreate(fs)); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
}

// look describes every file below root in a line.
func look(t *testing.T, root string) map[string]string {
	t.Helper()
	facts := map[string]string{}
	var walk func(path string)
	walk = func(path string) {
		full := root + "/" + path
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			entries, err := os.ReadDir(full)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				walk(strings.TrimPrefix(path+"/"+e.Name(), "/"))
			}
		case unix.S_IFLNK:
			to, _ := os.Readlink(full)
			line = fmt.Sprintf("link %d:%d -> %s", st.Uid, st.Gid, to) // nobody looks at a link's mode
		case unix.S_IFREG:
			line += fmt.Sprintf(" links %d size %d %s", st.Nlink, st.Size, sum(t, full))
		default:
			line += fmt.Sprintf(" device %x", st.Rdev)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			line += fmt.Sprintf(" time %d", st.Mtim.Sec)
		}
		if path != "" {
			facts[path] = line + attributes(t, full)
		}
	}
	walk("")
	return facts
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func attributes(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	text := ""
	for _, name := range names {
		if n, err = unix.Lgetxattr(path, name, buf); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(" %s=%q", name, buf[:n])
	}
	return text
}

// rootFS is what the plain way of unpacking makes of an image, with the places of mounts.
func rootFS(t *testing.T, im testimage.Image) map[string]string {
	t.Helper()
	dir := t.TempDir()
	im.WriteRootFS(t, dir)
	for _, folder := range []string{"dev", "etc", "proc", "sys"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"hostname", "hosts"} {
		path := filepath.Join(dir, "etc", file)
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = errors.Join(f.Close(), os.Chtimes(path, time.Unix(0, 0), time.Unix(0, 0)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return look(t, dir)
}

// proxy stands before a registry. It notes which blobs are asked for, and may answer itself.
type proxy struct {
	host string

	mu     sync.Mutex
	blobs  []string                                                 // digests, in the order of the requests
	answer func(w http.ResponseWriter, r *http.Request) (done bool) // nil: nothing
}

func newProxy(t *testing.T, registry string) *proxy {
	t.Helper()
	p := &proxy{}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if _, digest, ok := strings.Cut(r.URL.Path, "/blobs/"); ok && r.Method == http.MethodGet {
			p.blobs = append(p.blobs, digest)
		}
		answer := p.answer
		p.mu.Unlock()
		if answer == nil || !answer(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	p.host = s.Listener.Addr().String()
	return p
}

// fetched returns the blobs asked for since the last time.
func (p *proxy) fetched() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.blobs
	p.blobs = nil
	return list
}
