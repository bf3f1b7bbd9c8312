package layer

import (
	"cmp"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// furnish makes a directory with one of each: what tar programs have their own ways with.
func furnish(t *testing.T, dir string) {
	t.Helper()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	long := "long/" + strings.Repeat("directory-of-some-length/", 8) + strings.Repeat("é", 100)
	do(os.MkdirAll(filepath.Dir(at(long)), 0o755))
	do(os.WriteFile(at(long), []byte("long"), 0o600))
	do(os.WriteFile(at("small"), []byte("small"), 0o644))
	do(os.WriteFile(at("medium"), []byte(strings.Repeat("medium ", 1000)), 0o4711))
	do(os.WriteFile(at("exact"), make([]byte, 1024), 0o644))
	do(os.Chmod(at("medium"), 0o4711|fs.ModeSetuid))
	do(os.WriteFile(at("large"), []byte(strings.Repeat("0123456789abcdef", 80_000)), 0o644))
	do(os.Link(at("medium"), at("medium-too")))
	do(os.Symlink(strings.Repeat("../", 60)+"target", at("long/link")))
	do(os.Symlink("x", at("link")))
	do(os.Link(at("link"), at("link-too")))
	do(unix.Mkfifo(at("fifo"), 0o622))
	do(unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	do(unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	do(os.Lchown(at("small"), 70000, 3_000_000))

	holes, err := os.Create(at("holes"))
	do(err)
	for i := range 30 { // more fragments than the old format's first header has room for
		_, err := holes.WriteAt([]byte(strings.Repeat(string(rune('a'+i%26)), 4096)), int64(i)*65536+32768)
		do(err)
	}
	do(holes.Truncate(3 << 20))
	do(holes.Close())
	hollow, err := os.Create(at("hollow"))
	do(err)
	do(hollow.Truncate(500_000))
	do(hollow.Close())

	if err := unix.Setxattr(at("small"), "user.note", []byte("a\x00b\n"), 0); err != nil {
		t.Logf("no user attributes here: %v", err)
	}
	do(unix.Setxattr(at("medium"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	when := []unix.Timespec{{Sec: 1, Nsec: 1}, {Sec: 1234567890, Nsec: 123456789}}
	do(unix.UtimesNanoAt(unix.AT_FDCWD, at("small"), when, 0))
	old := []unix.Timespec{{Sec: -5}, {Sec: -5}}
	do(unix.UtimesNanoAt(unix.AT_FDCWD, at("link"), old, unix.AT_SYMLINK_NOFOLLOW))
}

// survey is what Read should find: the directory as the kernel tells it.
func survey(t *testing.T, dir string) []tree.Entry {
	t.Helper()
	var list []tree.Entry
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		name, err = tree.Clean(name)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		e := tree.Entry{Path: name, Mode: uint16(st.Mode & 0o7777), UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Sec, NSec: uint32(st.Mtim.Nsec)}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			e.Type = tree.Dir
		case unix.S_IFLNK:
			e.Type = tree.Symlink
			e.Link, err = os.Readlink(path)
		case unix.S_IFREG:
			var b []byte
			b, err = os.ReadFile(path)
			e.Type, e.Size = tree.Regular, st.Size
			if len(b) > tree.InlineMax {
				e.Object = oci.FromBytes(b)
			} else if len(b) > 0 {
				e.Inline = b
			}
		case unix.S_IFIFO:
			e.Type = tree.Fifo
		case unix.S_IFCHR, unix.S_IFBLK:
			e.Type, e.Major, e.Minor = tree.Char, unix.Major(st.Rdev), unix.Minor(st.Rdev)
			if st.Mode&unix.S_IFMT == unix.S_IFBLK {
				e.Type = tree.Block
			}
		}
		for _, a := range []string{"security.capability", "user.note"} {
			b := make([]byte, 100)
			if n, err := unix.Lgetxattr(path, a, b); err == nil {
				e.Xattrs = append(e.Xattrs, tree.Xattr{Name: a, Value: b[:n]})
			}
		}
		if target, ok := first[st.Ino]; ok && st.Nlink > 1 && e.Type != tree.Dir {
			e = tree.Entry{Path: name, Type: tree.Hardlink, Link: target}
		} else {
			first[st.Ino] = name
		}
		list = append(list, e)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b tree.Entry) int { return cmp.Or(tree.Compare(a.Path, b.Path)) })
	return list
}

// tarballs packs dir with the programs that this host has, in all their formats. Programs
// that are missing are skipped.
func tarballs(t *testing.T, dir string) map[string][]byte {
	list := map[string][]byte{}
	for _, c := range []struct{ name, args string }{
		{"gnu", "tar --format=gnu"},
		{"gnu sparse", "tar --format=gnu --sparse"},
		{"gnu sorted", "tar --format=gnu --sort=name --blocking-factor=1"},
		{"oldgnu sparse", "tar --format=oldgnu --sparse"},
		{"pax", "tar --format=pax --xattrs --xattrs-include=*"},
		{"pax global", "tar --format=pax --pax-option=globexthdr.name=g,comment=x"},
		{"pax sparse 0.0", "tar --format=pax --sparse --sparse-version=0.0"},
		{"pax sparse 0.1", "tar --format=pax --sparse --sparse-version=0.1"},
		{"pax sparse 1.0", "tar --format=pax --sparse --sparse-version=1.0 --xattrs --xattrs-include=*"},
		{"bsdtar pax", "bsdtar --format=pax --xattrs"},
		{"bsdtar gnutar", "bsdtar --format=gnutar"},
	} {
		args := strings.Fields(c.args)
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("no %s here: %s is not tested", args[0], c.name)
			continue
		}
		cmd := exec.Command(args[0], append(args[1:], "-C", dir, "-cf", "-", ".")...)
		cmd.Stderr = os.Stderr
		b, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", c.args, err)
		}
		list[c.name] = b
	}
	return list
}

func TestReadOthersTars(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making devices needs root")
	}
	dir := t.TempDir()
	furnish(t, dir)
	want, err := tree.Merge(&tree.Index{Entries: survey(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range tarballs(t, dir) {
		t.Run(name, func(t *testing.T) {
			x, err := read(t, b, Options{})
			if err != nil {
				t.Fatal(err)
			}

			got, err := tree.Merge(x)
			if err != nil {
				t.Fatal(err)
			}
			exact := strings.Contains(name, "pax") && !strings.Contains(name, "global")
			attributed := strings.Contains(name, "xattrs") || name == "pax" || name == "pax sparse 1.0" || name == "bsdtar pax"
			less := gocmp.Transformer("less", func(e tree.Entry) tree.Entry {
				if !exact {
					e.NSec = 0
				}
				if !attributed {
					e.Xattrs = nil
				}
				return e
			})
			if d := gocmp.Diff(want.Entries, got.Entries, gocmp.FilterPath(func(p gocmp.Path) bool { return len(p) == 2 }, less)); d != "" {
				t.Error(d)
			}
		})
	}
}
