package erofs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// anyName is a file name: often one of few, to be a neighbour of others, sometimes any.
func anyName() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-c.\-!~]{1,3}`),
		rapid.StringMatching(`[a-z]{100,255}`),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 40), func(b []byte) string { return string(b) }),
	).Filter(func(s string) bool { return s != "." && s != ".." && !strings.ContainsAny(s, "/\x00") })
}

func anyXattrs(t *rapid.T, kind tree.Type) []tree.Xattr {
	names := []string{"security.test", "trusted.a", "trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.overlay.x", "com.unknown"}
	if kind == tree.Dir || kind == tree.Regular {
		names = append(names, "user.a", "user.overlay.whiteout", "user."+strings.Repeat("n", 250))
	}
	var all []tree.Xattr
	for _, name := range names {
		if rapid.IntRange(0, 7).Draw(t, "has "+name[:6]) == 0 {
			size := rapid.SampledFrom([]int{0, 1, 1, 1, 30, 3000}).Draw(t, "size")
			all = append(all, tree.Xattr{Name: name, Value: bytes.Repeat([]byte{'v'}, size)})
		}
	}
	slices.SortFunc(all, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func anyEntry(t *rapid.T, path string, files []string) tree.Entry {
	e := tree.Entry{Path: path}
	e.Type = rapid.SampledFrom([]tree.Type{tree.Dir, tree.Dir, tree.Dir, tree.Regular, tree.Regular, tree.Regular,
		tree.Symlink, tree.Hardlink, tree.Char, tree.Block, tree.Fifo, tree.Socket}).Draw(t, "type")
	if e.Type == tree.Hardlink && len(files) > 0 {
		e.Link = rapid.SampledFrom(files).Draw(t, "target")
		return e
	}
	switch e.Type {
	case tree.Hardlink:
		e.Type = tree.Fifo
	case tree.Regular:
		if rapid.Bool().Draw(t, "object") {
			e.Object = oci.FromBytes([]byte{byte(rapid.IntRange(0, 3).Draw(t, "which"))})
			e.Size = rapid.SampledFrom([]int64{0, 1, 5000, 1 << 33, 1 << 44}).Draw(t, "size")
		} else {
			e.Inline = bytes.Repeat([]byte("x"), rapid.SampledFrom([]int{0, 1, 256, 2048, 2049, 4096, 9000}).Draw(t, "size"))
			e.Size = int64(len(e.Inline))
		}
	case tree.Symlink:
		e.Link = strings.Repeat("t", rapid.OneOf(rapid.IntRange(1, 80), rapid.IntRange(1, 4095)).Draw(t, "length"))
	case tree.Char, tree.Block:
		e.Major, e.Minor = rapid.Uint32Range(0, 2).Draw(t, "major"), rapid.SampledFrom([]uint32{0, 1, 255, 256, maxMinor}).Draw(t, "minor")
	}
	e.Mode = rapid.Uint16Range(0, 0o7777).Draw(t, "mode")
	e.UID, e.GID = rapid.SampledFrom([]uint32{0, 1000, 65535, 65536}).Draw(t, "uid"), rapid.SampledFrom([]uint32{0, 5, 1 << 31}).Draw(t, "gid")
	e.MTime, e.NSec = rapid.SampledFrom([]int64{-5, 0, 0, 1700000000}).Draw(t, "mtime"), rapid.SampledFrom([]uint32{0, 0, 999999999}).Draw(t, "nsec")
	e.Xattrs = anyXattrs(t, e.Type)
	return e
}

// anyTree grows a tree by one entry after the other in one of its directories.
func anyTree(t *rapid.T) *tree.Tree {
	root := tree.Entry{Type: tree.Dir, Mode: 0o755, Xattrs: anyXattrs(t, tree.Dir)}
	entries, dirs, files, have := []tree.Entry{root}, []string{""}, []string(nil), map[string]bool{}
	for range rapid.IntRange(0, 120).Draw(t, "entries") {
		path := rapid.SampledFrom(dirs).Draw(t, "in") + "/" + anyName().Draw(t, "name")
		path = strings.TrimPrefix(path, "/")
		if have[path] || len(path) > 2000 {
			continue
		}
		have[path] = true
		e := anyEntry(t, path, files)
		switch e.Type {
		case tree.Dir:
			dirs = append(dirs, path)
		case tree.Hardlink:
		default:
			files = append(files, path)
		}
		entries = append(entries, e)
	}
	return treeOf(entries...)
}

func TestRandomTrees(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		tr := anyTree(t)
		image, info := mustWrite(t, tr, Options{})
		if again, _ := mustWrite(t, tr, Options{}); !bytes.Equal(image, again) || info.Size != int64(len(image)) {
			t.Fatal("the same tree made another image")
		}
		path := save(t, dir, image)
		fsck(t, path)
		want := expect(tr, nil)
		root, fd, err := mount("erofs", option{"source", path})
		switch {
		case err == nil:
			got := look(t, root)
			unix.Close(fd)
			if diff := differ(want, got); diff != "" {
				t.Fatalf("the kernel sees (+) what was not written (-):\n%s", diff)
			}
		case !errors.Is(err, errNoMount):
			t.Fatalf("mount: %v", err)
		}
		if diff := differ(readable(want), lookWithGo(t, image)); diff != "" {
			t.Fatalf("go-erofs sees (+) what was not written (-):\n%s", diff)
		}
	})
}

// Whatever a list of entries is, it is written well or refused.
func TestRandomEntries(t *testing.T) {
	dir := t.TempDir()
	path := rapid.OneOf(rapid.StringMatching(`([ab.]{1,2}/){0,3}[ab.]{0,2}`), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		entries := []tree.Entry{{Type: tree.Dir}}
		for range rapid.IntRange(0, 8).Draw(t, "entries") {
			e := anyEntry(t, path.Draw(t, "path"), []string{"a", "b", "a/a", ""})
			if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
				e.Type = tree.Type(rapid.IntRange(0, 12).Draw(t, "type"))
				e.Opaque = rapid.Bool().Draw(t, "opaque")
				e.Size = rapid.Int64().Draw(t, "size")
			}
			entries = append(entries, e)
		}
		if rapid.IntRange(0, 9).Draw(t, "sorted") > 0 {
			slices.SortStableFunc(entries, func(a, b tree.Entry) int { return tree.Compare(a.Path, b.Path) })
		}
		var out bytes.Buffer
		info, err := Write(&out, &tree.Tree{Entries: entries}, Options{Overlay: rapid.Bool().Draw(t, "overlay")})
		switch {
		case err == nil:
			fsck(t, save(t, dir, out.Bytes()))
		case !errs.Is(err, errs.Invalid) || out.Len() > 0 || info != (Info{}):
			t.Fatalf("%d bytes, %+v, %v", out.Len(), info, err)
		}
	})
}

// readable are the facts that go-erofs can tell: io/fs has no names that are not UTF-8.
func readable(facts map[string]fact) map[string]fact {
	some := map[string]fact{}
	first := map[string]string{}
	paths := slices.SortedFunc(func(yield func(string) bool) {
		for p := range facts {
			if !yield(p) {
				return
			}
		}
	}, tree.Compare)
	for _, p := range paths {
		if !utf8.ValidString(p) {
			continue
		}
		f := facts[p]
		if _, ok := first[f.Inode]; !ok {
			first[f.Inode] = p
		}
		f.Inode = first[f.Inode]
		some[p] = f
	}
	return some
}

// lookWithGo is look by go-erofs instead of the kernel.
func lookWithGo(t tb, image []byte) map[string]fact {
	t.Helper()
	// It reads a whole block from where a shared attribute begins, even behind the end.
	img, err := goerofs.Open(bytes.NewReader(append(slices.Clone(image), make([]byte, BlockSize)...)))
	if err != nil {
		t.Fatal(err)
	}
	facts := map[string]fact{}
	inodes := map[int64]string{}
	var walk func(path string)
	walk = func(path string) {
		name := path
		if name == "" {
			name = "."
		}
		info, err := fs.Lstat(img, name)
		if err != nil {
			t.Fatalf("go-erofs: lstat %q: %v", path, err)
		}
		st := info.Sys().(*goerofs.Stat)
		f := fact{Mode: unixMode(st.Mode), UID: st.UID, GID: st.GID, Nlink: uint64(st.Nlink), Size: st.Size,
			Sec: int64(st.Mtime), Nsec: int64(st.MtimeNs), Xattrs: st.Xattrs}
		if len(f.Xattrs) == 0 {
			f.Xattrs = nil
		}
		if f.Mode&unix.S_IFMT == unix.S_IFCHR || f.Mode&unix.S_IFMT == unix.S_IFBLK {
			f.Rdev = unix.Mkdev(st.Rdev>>8&0xfff, st.Rdev&0xff|st.Rdev>>12&0xfff00)
		}
		if _, ok := inodes[st.Ino]; !ok {
			inodes[st.Ino] = path
		}
		f.Inode = inodes[st.Ino]
		facts[path] = f
		switch {
		case info.IsDir():
			f.Size = 0
			facts[path] = f
			entries, err := fs.ReadDir(img, name)
			if err != nil {
				t.Fatalf("go-erofs: read %q: %v", path, err)
			}
			for _, e := range entries {
				if utf8.ValidString(e.Name()) {
					walk(strings.TrimPrefix(path+"/"+e.Name(), "/"))
				}
			}
			return
		case f.Mode&unix.S_IFMT == unix.S_IFLNK:
			if f.Link, err = fs.ReadLink(img, name); err != nil {
				t.Fatalf("go-erofs: readlink %q: %v", path, err)
			}
		case f.Mode&unix.S_IFMT == unix.S_IFREG && f.Size <= readMax:
			g, err := img.Open(name)
			if err != nil {
				t.Fatalf("go-erofs: open %q: %v", path, err)
			}
			data, err := io.ReadAll(g)
			g.Close()
			if err != nil {
				t.Fatalf("go-erofs: read %q: %v", path, err)
			}
			f.Content = string(data)
		}
		facts[path] = f
	}
	walk("")
	return facts
}

func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, unixBit := range map[fs.FileMode]uint32{fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID, fs.ModeSticky: unix.S_ISVTX} {
		if m&bit != 0 {
			mode |= unixBit
		}
	}
	switch {
	case m.IsRegular():
		return mode | unix.S_IFREG
	case m.IsDir():
		return mode | unix.S_IFDIR
	case m&fs.ModeSymlink != 0:
		return mode | unix.S_IFLNK
	case m&fs.ModeNamedPipe != 0:
		return mode | unix.S_IFIFO
	case m&fs.ModeSocket != 0:
		return mode | unix.S_IFSOCK
	case m&fs.ModeCharDevice != 0:
		return mode | unix.S_IFCHR
	}
	return mode | unix.S_IFBLK
}
