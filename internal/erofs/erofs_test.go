package erofs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// cases are the trees that every oracle looks at.
func cases() map[string]*tree.Tree {
	long := strings.Repeat("n", 255)
	own := func(e tree.Entry, pairs ...string) tree.Entry { e.Xattrs = xattrs(pairs...); return e }
	at := func(e tree.Entry, sec int64, nsec uint32) tree.Entry { e.MTime, e.NSec = sec, nsec; return e }
	return map[string]*tree.Tree{
		"empty": treeOf(),
		"types": treeOf(
			file("file", "small\n"), file("empty", ""), object("object", "kept elsewhere"),
			tree.Entry{Path: "dir", Type: tree.Dir, Mode: 0o1777},
			tree.Entry{Path: "link", Type: tree.Symlink, Mode: 0o777, Link: "../dir/nowhere"},
			tree.Entry{Path: "null", Type: tree.Char, Mode: 0o666, Major: 1, Minor: 3},
			tree.Entry{Path: "disk", Type: tree.Block, Mode: 0o660, GID: 6, Major: 4095, Minor: 1<<20 - 1},
			tree.Entry{Path: "zero", Type: tree.Block, Mode: 0o600},
			tree.Entry{Path: "fifo", Type: tree.Fifo, Mode: 0o600},
			tree.Entry{Path: "socket", Type: tree.Socket, Mode: 0o4755},
		),
		"owners and times": treeOf(
			at(file("a", "x"), 1700000000, 0), at(file("b", "x"), 1700000000, 0), at(file("c", "x"), 1700000000, 1),
			at(file("before 1970", ""), -1, 999999999), at(file("far", ""), 1<<33, 123456789),
			tree.Entry{Path: "big", Type: tree.Regular, Mode: 0o6755, UID: 1<<32 - 2, GID: 65536, MTime: 1700000000},
			tree.Entry{Path: "edge", Type: tree.Dir, Mode: 0o2755, UID: 65535, GID: 65535, MTime: 1700000000},
		),
		"hard links": treeOf(
			tree.Entry{Path: "a/before", Type: tree.Hardlink, Link: "b/file"}, file("b/file", "twice"),
			tree.Entry{Path: "c", Type: tree.Hardlink, Link: "b/file"},
			tree.Entry{Path: "b/link", Type: tree.Symlink, Link: "file"},
			tree.Entry{Path: "d", Type: tree.Hardlink, Link: "b/link"},
			tree.Entry{Path: "dev", Type: tree.Char, Major: 1, Minor: 5},
			tree.Entry{Path: "dev2", Type: tree.Hardlink, Link: "dev"},
			object("o", "an object"), tree.Entry{Path: "a/o", Type: tree.Hardlink, Link: "o"},
		),
		"names": treeOf(
			file("-before dot", ""), file("!", ""), file(".a", ""), file(".-", ""), file("...", ""),
			file("..a", ""), file("..-", ""), file("a", ""), file("a b", ""), file("a\nb", ""), file("\xff\xfe not UTF-8", ""),
			file("a!", ""), file("ab", ""), file("aa/x", "1"), file("aa-", ""), file("aa.", ""), file("aa/x!", ""),
			file("\x01", ""), file("ü", ""), file("u\u0308", ""), file(long, ""), file(long[:254], ""), file(long[:253]+"/"+long, ""),
		),
		"symbolic links": treeOf(symlinks()...),
		"holes":          treeOf(holes()...),
		"attributes": treeOf(
			own(file("cap", "x"), "security.capability", netBind),
			own(file("cap2", "x"), "security.capability", netBind, "user.a", "1", "user.b", ""),
			own(file("acl", ""), "system.posix_acl_access", acl(1000)),
			own(tree.Entry{Path: "d", Type: tree.Dir, Mode: 0o751}, "system.posix_acl_default", acl(1), "system.posix_acl_access", acl(1000)),
			own(file("large", "tail"), "user.large", strings.Repeat("L", 65535), "user.large2", strings.Repeat("M", 60000), "security.s", "s"),
			own(file("long", ""), "user."+strings.Repeat("n", 250), "v", "trusted.overlay."+strings.Repeat("o", 231), "w"),
			own(tree.Entry{Path: "l", Type: tree.Symlink, Link: "t"}, "trusted.t", "on a link", "security.selinux", "label"),
			own(tree.Entry{Path: "p", Type: tree.Fifo}, "trusted.t", "on a fifo"),
			own(object("o", "x"), "security.capability", netBind, "user.overlay.redirect", "/user"),
			own(object("o2", "x"), "user.a", "1"),
			own(file("none", "x"), "com.apple.provenance", "p", "system.nfs4_acl", "q", "user.", "r", "lustre.lov", "s"),
		),
		"hostile overlay attributes": treeOf(
			own(file("f", "inside"), "trusted.overlay.redirect", "/ab/cd", "trusted.overlay.metacopy", "", "trusted.overlay.overlay.redirect", "/x"),
			own(tree.Entry{Path: "d", Type: tree.Dir, Mode: 0o755}, "trusted.overlay.opaque", "y", "trusted.overlay.redirect", "/etc"), file("d/x", "1"),
			own(object("o", "content"), "trusted.overlay.redirect", "/00/00", "trusted.overlay.whiteout", ""),
			own(file("w", ""), "trusted.overlay.whiteout", ""),
		),
		"devices 0:0": treeOf(
			tree.Entry{Path: "d/gone", Type: tree.Char, Mode: 0o600, UID: 7}, file("d/there", "1"),
			tree.Entry{Path: "e/gone", Type: tree.Hardlink, Link: "d/gone"},
			own(tree.Entry{Path: "y", Type: tree.Dir, Mode: 0o755}, "trusted.overlay.opaque", "y", "user.overlay.opaque", "y"),
			tree.Entry{Path: "y/gone", Type: tree.Char, Xattrs: xattrs("trusted.overlay.whiteout", "w")},
		),
		"many shared attributes": treeOf(manyShared()...),
		"a large directory":      treeOf(largeDir(5000)...),
		"block boundaries":       treeOf(boundaries()...),
	}
}

// symlinks has targets of all lengths around a block and its half, with and without
// attributes that push them over a block's end.
func symlinks() []tree.Entry {
	var all []tree.Entry
	for _, n := range []int{1, 59, 60, 2047, 2048, 2049, 3999, 4031, 4032, 4063, 4064, 4065, 4095} {
		for _, size := range []int{0, 5, 100, 5000} {
			e := tree.Entry{Path: fmt.Sprintf("l%d-%d", n, size), Type: tree.Symlink, Mode: 0o777, Link: strings.Repeat("t", n), MTime: int64(n % 2)}
			if size > 0 {
				e.Xattrs = xattrs("trusted.x", strings.Repeat("v", size)+e.Path)
			}
			all = append(all, e)
		}
	}
	return all
}

func holes() []tree.Entry {
	var all []tree.Entry
	for _, size := range []int64{1, 4095, 4096, 4097, 1 << 20, 1<<30 - 1, 1 << 30, 1<<30 + 1, 1<<32 - 1, 1 << 32, 1 << 40, 1 << 43, 1<<43 + 1, 100 << 43, maxChunks << maxChunkBits} {
		e := object(fmt.Sprintf("hole%d", size), fmt.Sprint(size))
		e.Size = size
		all = append(all, e)
	}
	return all
}

func manyShared() []tree.Entry {
	var pairs []string
	for i := range 300 {
		pairs = append(pairs, fmt.Sprintf("user.shared.%03d", i), strings.Repeat("v", i))
	}
	a, b := file("a", "1"), file("b", "2")
	a.Xattrs, b.Xattrs = xattrs(pairs...), xattrs(pairs...)
	return []tree.Entry{a, b}
}

func largeDir(n int) []tree.Entry {
	var all []tree.Entry
	for i := range n {
		all = append(all, file(fmt.Sprintf("d/%x%s", i*2654435761%1000003, strings.Repeat("-", i%200)), ""))
	}
	return append(all, file("d/-", "x"), file("d/zzz", "x"))
}

// boundaries has directories and files whose data ends just before, at and behind the
// points where it goes from the inode to a block of its own.
func boundaries() []tree.Entry {
	var all []tree.Entry
	for n := 2020; n < 2080; n++ {
		// "." and ".." take 27 bytes, each of nine names 12 and its length.
		for i := range 9 {
			name := string(rune('a'+i)) + strings.Repeat("n", 212)
			if i == 8 {
				name = string(rune('a'+i)) + strings.Repeat("n", n-27-8*225-12-1)
			}
			all = append(all, file(fmt.Sprintf("%d/%s", n, name), ""))
		}
	}
	for n := range 257 {
		all = append(all, file(fmt.Sprintf("f%d", n), strings.Repeat("x", n)))
	}
	for _, n := range []int{2047, 2048, 2049, 4095, 4096, 4097, 6144, 6145, 12288} {
		all = append(all, file(fmt.Sprintf("inline%d", n), strings.Repeat("y", n)))
	}
	return all
}

func TestKernelSeesTheTree(t *testing.T) {
	for name, tr := range cases() {
		t.Run(name, func(t *testing.T) {
			image, info := mustWrite(t, tr, Options{})
			root := mustMount(t, "erofs", option{"source", save(t, t.TempDir(), image)})
			if diff := differ(expect(tr, nil), look(t, root)); diff != "" {
				t.Errorf("the kernel sees (+) what was not written (-):\n%s", diff)
			}
			var st unix.Statfs_t
			if err := unix.Statfs(root+"/.", &st); err != nil || int64(st.Blocks)*BlockSize != info.Size || int(st.Files-st.Ffree) != info.Inodes {
				t.Errorf("statfs: %d blocks, %d inodes, %v; wrote %+v", st.Blocks, st.Files-st.Ffree, err, info)
			}
			for _, absent := range []string{"\x01\x01", "-", "absent", "zzzz", "\xff\xff", strings.Repeat("n", 252)} {
				if _, err := os.Lstat(root + "/" + absent); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("lstat of a name that is not there: %v", err)
				}
			}
		})
	}
}

func TestFsckFindsNothing(t *testing.T) {
	needFsck(t)
	for name, tr := range cases() {
		t.Run(name, func(t *testing.T) {
			image, _ := mustWrite(t, tr, Options{})
			path := save(t, t.TempDir(), image)
			fsck(t, path)
			if name != "holes" { // there are petabytes of them
				fsck(t, path, "--extract") // reads all content
			}
		})
	}
}

func TestEqualTreesMakeEqualImages(t *testing.T) {
	for name, tr := range cases() {
		t.Run(name, func(t *testing.T) {
			a, info := mustWrite(t, tr, Options{})
			for range 3 {
				if b, again := mustWrite(t, tr, Options{}); again != info || !bytes.Equal(a, b) {
					t.Fatal("the same tree made another image")
				}
			}
			if info.Size != int64(len(a)) || info.Size%BlockSize != 0 || info.Digest != oci.FromBytes(a) {
				t.Errorf("%+v does not describe the image of %d bytes", info, len(a))
			}
		})
	}
}

// The bytes of an image are part of its name: a change of them must be meant.
func TestImageIsStable(t *testing.T) {
	const want = "sha256:c0d65e1ccf977a86d55a1ed1b3a32726457e1bab7d635c80a3704b5a63abeadb"
	_, info := mustWrite(t, cases()["types"], Options{})
	if got := string(info.Digest); got != want {
		t.Errorf("the image of a fixed tree is %s, was %s", got, want)
	}
}

func TestImagesHaveTheirOwnUUID(t *testing.T) {
	seen := map[string]string{}
	for name, tr := range cases() {
		image, _ := mustWrite(t, tr, Options{})
		uuid := hex.EncodeToString(image[superOffset+48:][:16])
		if other, ok := seen[uuid]; ok {
			t.Errorf("%s and %s share the UUID %s", name, other, uuid)
		}
		seen[uuid] = name
		if uuid[12] != '8' {
			t.Errorf("%s: UUID %s is not of version 8", name, uuid)
		}
	}
}

func TestInodesAreCompactAndAttributesShared(t *testing.T) {
	var entries []tree.Entry
	for i := range 1000 {
		e := object(fmt.Sprintf("f%03d", i), fmt.Sprint(i))
		e.MTime, e.NSec = 1700000000, 5
		e.Xattrs = xattrs("security.selinux", "system_u:object_r:container_file_t:s0")
		entries = append(entries, e)
	}
	tr := treeOf(entries...)
	tr.Entries[0].MTime = 1
	_, info := mustWrite(t, tr, Options{})
	// Inode 32, header 12, references to label and metacopy 8, redirect 88, hole 4: 144,
	// in slots of 32 bytes; directory entry 16.
	if most := int64(1000*(160+16) + 3*BlockSize); info.Size > most {
		t.Errorf("image of %d bytes, want at most %d", info.Size, most)
	}
}

func TestDroppedAttributesAreCounted(t *testing.T) {
	if _, info := mustWrite(t, cases()["attributes"], Options{}); info.Dropped != 4 {
		t.Errorf("%d attributes dropped, want 4", info.Dropped)
	}
}

func TestVerityDigestIsInMetacopy(t *testing.T) {
	tr := treeOf(object("a", "a"), object("b", "b"))
	digest := [32]byte{1, 2, 3, 31: 9}
	image, _ := mustWrite(t, tr, Options{Verity: func(d oci.Digest) ([32]byte, bool) {
		return digest, d == oci.FromBytes([]byte("a"))
	}})
	root := mustMount(t, "erofs", option{"source", save(t, t.TempDir(), image)})
	facts := look(t, root)
	if got, want := facts["a"].Xattrs["trusted.overlay.metacopy"], "\x00\x24\x00\x01"+string(digest[:]); got != want {
		t.Errorf("metacopy %q, want %q", got, want)
	}
	if got, ok := facts["b"].Xattrs["trusted.overlay.metacopy"]; got != "" || !ok {
		t.Errorf("metacopy without a digest: %q, %v", got, ok)
	}
}

func TestDumpReadsTheSuperblock(t *testing.T) {
	if _, err := exec.LookPath("dump.erofs"); err != nil {
		t.Skip("dump.erofs (Debian package erofs-utils) is not installed")
	}
	image, _ := mustWrite(t, cases()["types"], Options{})
	out, err := exec.Command("dump.erofs", "-s", "-S", save(t, t.TempDir(), image)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"0xE0F5E1E2", "sb_csum mtime", "Filesystem inode count:                       11"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("dump.erofs does not say %q:\n%s", want, out)
		}
	}
}

func TestBadTreesAreRefused(t *testing.T) {
	root := tree.Entry{Type: tree.Dir, Mode: 0o755}
	dir := tree.Entry{Path: "d", Type: tree.Dir}
	with := func(e tree.Entry, f func(*tree.Entry)) tree.Entry { f(&e); return e }
	link := func(path, target string) tree.Entry {
		return tree.Entry{Path: path, Type: tree.Hardlink, Link: target}
	}
	for _, c := range []struct {
		name    string
		entries []tree.Entry
		want    string
	}{
		{"nothing", nil, "/: the tree does not begin"},
		{"no root", []tree.Entry{file("a", "")}, "the tree does not begin"},
		{"root a file", []tree.Entry{file("", "")}, "the tree does not begin"},
		{"unsorted", []tree.Entry{root, file("b", ""), file("a", "")}, "/a: entry out of order"},
		{"byte order", []tree.Entry{root, dir, file("d!", ""), file("d/x", "")}, "/d/x: entry out of order"},
		{"twice", []tree.Entry{root, file("a", ""), file("a", "")}, "/a: entry out of order or twice"},
		{"root twice", []tree.Entry{root, root}, "/: entry out of order or twice"},
		{"no directory", []tree.Entry{root, file("d/e/x", "")}, "its directory /d/e is not in the tree"},
		{"no directory deeper", []tree.Entry{root, dir, file("d/e/x", "")}, "its directory /d/e is not in the tree"},
		{"file as directory", []tree.Entry{root, file("d", ""), file("d/x", "")}, "its directory /d is not in the tree, or is no directory"},
		{"long name", []tree.Entry{root, file(strings.Repeat("x", 256), "")}, "name longer than 255 bytes"},
		{"NUL", []tree.Entry{root, file("a\x00b", "")}, `"/a\x00b": name with a NUL byte`},
		{"dot", []tree.Entry{root, file(".", "")}, "not in canonical form"},
		{"dot dot", []tree.Entry{root, dir, file("d/..", "")}, "not in canonical form"},
		{"absolute", []tree.Entry{root, file("/a", "")}, "//a: its directory / is not in the tree"},
		{"final slash", []tree.Entry{root, dir, file("d/", "")}, "not in canonical form"},
		{"dangling", []tree.Entry{root, link("a", "b")}, "/a: hard link to /b, which is not in the tree"},
		{"link to directory", []tree.Entry{root, link("a", "d"), dir}, "which is not a file"},
		{"link to link", []tree.Entry{root, link("a", "b"), link("b", "c"), file("c", "")}, "which is not a file"},
		{"link to itself", []tree.Entry{root, link("a", "a")}, "which is not a file"},
		{"type", []tree.Entry{root, {Path: "a"}}, "unknown type 0"},
		{"whiteout", []tree.Entry{root, {Path: "a", Type: tree.Whiteout}}, "whiteout in a complete file system"},
		{"opaque", []tree.Entry{root, with(dir, func(e *tree.Entry) { e.Opaque = true })}, "opaque mark"},
		{"mode", []tree.Entry{root, with(dir, func(e *tree.Entry) { e.Mode = 0o10755 })}, "mode with more"},
		{"owner", []tree.Entry{root, with(dir, func(e *tree.Entry) { e.GID = 1<<32 - 1 })}, "owner 4294967295"},
		{"nanoseconds", []tree.Entry{root, with(dir, func(e *tree.Entry) { e.NSec = 1e9 })}, "nanoseconds"},
		{"size", []tree.Entry{root, with(file("a", "xy"), func(e *tree.Entry) { e.Size = 3 })}, "size 3 but 2 bytes of content"},
		{"both", []tree.Entry{root, with(object("a", "xy"), func(e *tree.Entry) { e.Inline = []byte("xy") })}, "content of its own and an object"},
		{"object name", []tree.Entry{root, with(object("a", "x"), func(e *tree.Entry) { e.Object = "sha256:../../etc" })}, "not named by a sha256 digest"},
		{"sha512", []tree.Entry{root, with(object("a", "x"), func(e *tree.Entry) { e.Object = oci.Digest("sha512:" + strings.Repeat("0", 128)) })}, "not named by a sha256 digest"},
		{"negative", []tree.Entry{root, with(object("a", "x"), func(e *tree.Entry) { e.Size = -1 })}, "file size negative"},
		{"huge", []tree.Entry{root, with(object("a", "x"), func(e *tree.Entry) { e.Size = 1<<53 + 1 })}, "over 8 PiB"},
		{"no target", []tree.Entry{root, {Path: "a", Type: tree.Symlink}}, "symbolic link with a target"},
		{"long target", []tree.Entry{root, {Path: "a", Type: tree.Symlink, Link: strings.Repeat("x", 4096)}}, "symbolic link with a target"},
		{"device", []tree.Entry{root, {Path: "a", Type: tree.Char, Major: 4096}}, "device number too large"},
		{"attribute name", []tree.Entry{root, with(dir, func(e *tree.Entry) { e.Xattrs = xattrs("user."+strings.Repeat("x", 251), "") })}, "name longer than 255"},
		{"escaped name", []tree.Entry{root, with(dir, func(e *tree.Entry) { e.Xattrs = xattrs("trusted.overlay."+strings.Repeat("x", 232), "") })}, "name longer than 255"},
		{"attribute NUL", []tree.Entry{root, with(dir, func(e *tree.Entry) { e.Xattrs = xattrs("user.a\x00b", "") })}, "NUL byte in its name"},
		{"attribute value", []tree.Entry{root, with(dir, func(e *tree.Entry) { e.Xattrs = xattrs("user.x", strings.Repeat("v", 65536)) })}, "user.x larger than 65535"},
		{"attribute twice", []tree.Entry{root, with(dir, func(e *tree.Entry) { e.Xattrs = xattrs("user.x", "", "user.x", "") })}, "out of order or twice"},
		{"attributes", []tree.Entry{root, with(dir, func(e *tree.Entry) {
			v := strings.Repeat("v", 65535)
			e.Xattrs = xattrs("user.a", v, "user.b", v, "user.c", v, "user.d", v)
		})}, "larger than 256 KiB in total"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			info, err := Write(&out, &tree.Tree{Entries: c.entries}, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !errs.Is(err, errs.Invalid) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if out.Len() > 0 || info != (Info{}) {
				t.Errorf("wrote %d bytes, %+v", out.Len(), info)
			}
		})
	}
}

// fullDisk takes some bytes and then no more.
type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if n := d.room; n < len(p) {
		d.room = 0
		return n, unix.ENOSPC
	}
	d.room -= len(p)
	return len(p), nil
}

func TestFailedWriteIsReported(t *testing.T) {
	info, err := Write(&fullDisk{room: 5000}, cases()["holes"], Options{})
	if !errors.Is(err, unix.ENOSPC) || !errs.Is(err, errs.NoSpace) || info != (Info{}) {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestXXH32(t *testing.T) {
	// From the specification's reference implementation (xxhsum -H0 and its self-test).
	for _, c := range []struct {
		in   string
		seed uint32
		want uint32
	}{
		{"", 0, 0x02CC5D05},
		{"", 2654435761, 0x36B78AE7},
		{"a", 0, 0x550D7456},
		{"abc", 0, 0x32D153FF},
		{"Nobody inspects the spammish repetition", 0, 0xE2293B2F},
	} {
		if got := xxh32(c.in, c.seed); got != c.want {
			t.Errorf("xxh32(%q, %d) = %08x, want %08x", c.in, c.seed, got, c.want)
		}
	}
}
