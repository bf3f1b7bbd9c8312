package erofs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// tb is what testing.T, testing.B and rapid.T have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// treeOf sorts entries, and adds the root and the directories that are missing.
func treeOf(entries ...tree.Entry) *tree.Tree {
	have := map[string]bool{}
	for _, e := range entries {
		have[e.Path] = true
	}
	for _, e := range slices.Clone(entries) {
		for p := e.Path; p != ""; {
			p = p[:max(0, strings.LastIndexByte(p, '/'))]
			if !have[p] {
				have[p] = true
				entries = append(entries, tree.Entry{Path: p, Type: tree.Dir, Mode: 0o755})
			}
		}
	}
	if !have[""] {
		entries = append(entries, tree.Entry{Type: tree.Dir, Mode: 0o755})
	}
	slices.SortFunc(entries, func(a, b tree.Entry) int { return tree.Compare(a.Path, b.Path) })
	return &tree.Tree{Entries: entries}
}

func file(path, content string) tree.Entry {
	return tree.Entry{Path: path, Type: tree.Regular, Mode: 0o644, Size: int64(len(content)), Inline: []byte(content)}
}

func object(path, content string) tree.Entry {
	return tree.Entry{Path: path, Type: tree.Regular, Mode: 0o644, Size: int64(len(content)), Object: oci.FromBytes([]byte(content))}
}

func xattrs(pairs ...string) []tree.Xattr {
	var all []tree.Xattr
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, tree.Xattr{Name: pairs[i], Value: []byte(pairs[i+1])})
	}
	slices.SortFunc(all, func(a, b tree.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// acl is a minimal POSIX ACL with one named user, as the kernel reads and writes it.
func acl(user uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 7, 1<<32 - 1}, {2, 5, user}, {4, 5, 1<<32 - 1}, {16, 5, 1<<32 - 1}, {32, 1, 1<<32 - 1}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return string(b)
}

// netBind is security.capability with cap_net_bind_service=ep, version 2.
const netBind = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func mustWrite(t tb, tr *tree.Tree, opt Options) ([]byte, Info) {
	t.Helper()
	var b bytes.Buffer
	info, err := Write(&b, tr, opt)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), info
}

// save puts an image into a file for tools and the kernel.
func save(t tb, dir string, image []byte) string {
	t.Helper()
	f, err := os.CreateTemp(dir, "*.erofs")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(image); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// fsck lets erofs-utils check an image, where it is installed.
func fsck(t tb, path string, options ...string) {
	t.Helper()
	if _, err := exec.LookPath("fsck.erofs"); err != nil {
		return
	}
	if out, err := exec.Command("fsck.erofs", append(options, path)...).CombinedOutput(); err != nil {
		t.Fatalf("fsck.erofs: %v\n%s", err, out)
	}
}

func needFsck(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("fsck.erofs"); err != nil {
		t.Skip("fsck.erofs (Debian package erofs-utils) is not installed")
	}
}

// errNoMount says that this host cannot mount what a test wants to look at.
var errNoMount = errors.New("cannot mount")

type option struct{ key, value string }

// mount makes a mount that has no place in any mount table and is gone when the returned
// descriptor is closed. Its root is the returned path.
func mount(fstype string, options ...option) (root string, fd int, err error) {
	return mountWith(unix.MOUNT_ATTR_RDONLY, fstype, options...)
}

func mountWith(attrs int, fstype string, options ...option) (root string, fd int, err error) {
	ctx, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", -1, errors.Join(errNoMount, err)
	}
	defer unix.Close(ctx)
	for _, o := range options {
		if err := unix.FsconfigSetString(ctx, o.key, o.value); err != nil {
			return "", -1, errors.Join(err, errors.New(o.key), fsMessages(ctx))
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		if err == unix.EPERM || err == unix.ENOTBLK {
			return "", -1, errors.Join(errNoMount, err)
		}
		return "", -1, errors.Join(err, fsMessages(ctx))
	}
	fd, err = unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return "", -1, err
	}
	return "/proc/self/fd/" + strconv.Itoa(fd), fd, nil
}

func fsMessages(ctx int) error {
	buf := make([]byte, 4096)
	var all []string
	for {
		n, err := unix.Read(ctx, buf)
		if err != nil || n <= 0 {
			return errors.New(strings.Join(all, "; "))
		}
		all = append(all, strings.TrimSpace(string(buf[:n])))
	}
}

// mustMount is mount for the length of a test; it skips where the kernel refuses.
func mustMount(t *testing.T, fstype string, options ...option) string {
	t.Helper()
	return mustMountWith(t, unix.MOUNT_ATTR_RDONLY, fstype, options...)
}

func mustMountWith(t *testing.T, attrs int, fstype string, options ...option) string {
	t.Helper()
	root, fd, err := mountWith(attrs, fstype, options...)
	if errors.Is(err, errNoMount) {
		t.Skipf("mounting %s needs root and Linux 6.12 with file-backed EROFS: %v", fstype, err)
	}
	if err != nil {
		t.Fatalf("mount %s: %v", fstype, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return root
}

// fact is what lstat, readlink, listxattr and read tell of a path.
type fact struct {
	Mode     uint32
	UID, GID uint32
	Nlink    uint64
	Size     int64
	Sec      int64
	Nsec     int64
	Rdev     uint64
	Inode    string // the first path, in tree order, with the same inode number
	Link     string
	Xattrs   map[string]string
	Content  string // of files up to readMax
}

const readMax = 1 << 20

// look reads everything below root from the kernel.
func look(t tb, root string) map[string]fact {
	t.Helper()
	facts := map[string]fact{}
	inodes := map[uint64]string{}
	list, value := make([]byte, 1<<16), make([]byte, 1<<16)
	var walk func(path string)
	walk = func(path string) {
		full := root + "/" + cmp.Or(path, ".")
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			t.Fatalf("lstat %q: %v", path, err)
		}
		if _, ok := inodes[st.Ino]; !ok {
			inodes[st.Ino] = path
		}
		f := fact{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint64(st.Nlink), Size: st.Size,
			Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec, Rdev: st.Rdev, Inode: inodes[st.Ino], Xattrs: kernelXattrs(t, full, list, value)}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			entries, err := os.ReadDir(full)
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(entries, func(a, b os.DirEntry) int { return tree.Compare(a.Name(), b.Name()) })
			f.Size = 0
			facts[path] = f
			for _, e := range entries {
				walk(strings.TrimPrefix(path+"/"+e.Name(), "/"))
			}
			return
		case unix.S_IFLNK:
			link, err := os.Readlink(full)
			if err != nil {
				t.Fatalf("readlink %q: %v", path, err)
			}
			f.Link = link
		case unix.S_IFREG:
			if st.Size <= readMax {
				data, err := os.ReadFile(full)
				if err != nil {
					t.Fatalf("read %q: %v", path, err)
				}
				f.Content = string(data)
			}
		}
		facts[path] = f
	}
	walk("")
	return facts
}

func kernelXattrs(t tb, path string, list, value []byte) map[string]string {
	t.Helper()
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		t.Fatalf("listxattr %q: %v", path, err)
	}
	if n == 0 {
		return nil
	}
	all := map[string]string{}
	for _, name := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if _, twice := all[name]; twice {
			t.Fatalf("listxattr %q: %s twice", path, name)
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatalf("getxattr %q %s: %v", path, name, err)
		}
		all[name] = string(value[:n])
	}
	return all
}

// expect is what look should find of t's image itself, or, given the objects' content,
// through an overlay over image and objects.
func expect(t *tree.Tree, objects map[oci.Digest]string) map[string]fact {
	merged := objects != nil
	at := map[string]*tree.Entry{}
	for i := range t.Entries {
		at[t.Entries[i].Path] = &t.Entries[i]
	}
	nlink, first, hides := map[string]uint64{}, map[string]string{}, map[string]bool{}
	for i := range t.Entries {
		e := &t.Entries[i]
		parent := e.Path[:max(0, strings.LastIndexByte(e.Path, '/'))]
		name := e.Path
		if e.Type == tree.Hardlink {
			name = e.Link
		}
		if e.Type == tree.Dir {
			nlink[e.Path]++ // "."
		}
		if e.Type == tree.Dir && e.Path != "" {
			nlink[parent]++ // ".."
		}
		nlink[name]++
		if _, ok := first[name]; !ok {
			first[name] = e.Path
		}
		if isZero(at[name]) {
			hides[parent] = true
		}
	}
	facts := map[string]fact{}
	for i := range t.Entries {
		e := &t.Entries[i]
		name := e.Path
		if e.Type == tree.Hardlink {
			name = e.Link
		}
		f := expectInode(at[name], hides[name], objects)
		f.Nlink, f.Inode = nlink[name], first[name]
		if merged {
			f.Inode = ""
			if e.Type == tree.Dir {
				f.Nlink = 0
			}
		}
		facts[e.Path] = f
	}
	return facts
}

func isZero(e *tree.Entry) bool { return e.Type == tree.Char && e.Major == 0 && e.Minor == 0 }

func expectInode(e *tree.Entry, hides bool, objects map[oci.Digest]string) fact {
	merged := objects != nil
	f := fact{Mode: uint32(e.Mode), UID: e.UID, GID: e.GID, Sec: e.MTime, Nsec: int64(e.NSec), Xattrs: map[string]string{}}
	overlay := "trusted.overlay.overlay."
	if merged {
		overlay = "trusted.overlay."
	}
	if hides {
		f.Xattrs[overlay+"opaque"], f.Xattrs["user.overlay.opaque"] = "x", "x"
	}
	for _, x := range e.Xattrs {
		if rest, ok := strings.CutPrefix(x.Name, "trusted.overlay."); ok {
			f.Xattrs[overlay+rest] = string(x.Value)
		} else if space, _ := namespace(x.Name); space != 0 {
			f.Xattrs[x.Name] = string(x.Value)
		}
	}
	switch e.Type {
	case tree.Dir:
		f.Mode |= unix.S_IFDIR
		if e.Opaque {
			f.Xattrs["trusted.overlay.opaque"] = "y"
		}
	case tree.Regular:
		f.Mode |= unix.S_IFREG
		f.Size = e.Size
		if e.Object == "" {
			f.Content = string(e.Inline)
			break
		}
		if merged {
			f.Content = objects[e.Object]
		} else if e.Size > 0 {
			f.Xattrs["trusted.overlay.metacopy"] = ""
			f.Xattrs["trusted.overlay.redirect"] = "/" + e.Object.Hex()[:2] + "/" + e.Object.Hex()[2:]
			if e.Size <= readMax {
				f.Content = strings.Repeat("\x00", int(e.Size))
			}
		}
	case tree.Symlink:
		f.Mode |= unix.S_IFLNK
		f.Link, f.Size = e.Link, int64(len(e.Link))
	case tree.Char, tree.Block:
		if isZero(e) {
			f.Mode |= unix.S_IFREG
			for _, name := range []string{overlay + "whiteout", "user.overlay.whiteout"} {
				if _, own := f.Xattrs[name]; !own {
					f.Xattrs[name] = ""
				}
			}
			break
		}
		f.Mode |= unix.S_IFBLK
		if e.Type == tree.Char {
			f.Mode = f.Mode&^unix.S_IFBLK | unix.S_IFCHR
		}
		f.Rdev = unix.Mkdev(e.Major, e.Minor)
	case tree.Fifo:
		f.Mode |= unix.S_IFIFO
	case tree.Socket:
		f.Mode |= unix.S_IFSOCK
	case tree.Whiteout:
		f.Mode |= unix.S_IFCHR
	}
	if len(f.Xattrs) == 0 {
		f.Xattrs = nil
	}
	return f
}

// differ is go-cmp's Diff of what differs: it would take a minute over the equal rest of a
// large tree.
func differ(want, got map[string]fact) string {
	w, g := maps.Clone(want), maps.Clone(got)
	for path := range want {
		if reflect.DeepEqual(w[path], g[path]) {
			delete(w, path)
			delete(g, path)
		}
	}
	return gocmp.Diff(w, g)
}

// store puts contents where redirects lead and returns the directory.
func store(t testing.TB, contents ...string) (dir string, objects map[oci.Digest]string) {
	t.Helper()
	dir, objects = t.TempDir(), map[oci.Digest]string{}
	for _, c := range contents {
		d := oci.FromBytes([]byte(c))
		objects[d] = c
		path := filepath.Join(dir, d.Hex()[:2], d.Hex()[2:])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, objects
}
