package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// dirStore keeps objects as files of a directory, published by rename.
type dirStore struct {
	dir string

	mu    sync.Mutex
	known map[oci.Digest]bool
}

func newDirStore(dir string) *dirStore {
	return &dirStore{dir: dir, known: map[oci.Digest]bool{}}
}

func (s *dirStore) path(d oci.Digest) string { return filepath.Join(s.dir, d.Hex()) }

func (s *dirStore) PutBytes(b []byte) (oci.Digest, error) {
	d := oci.FromBytes(b)
	s.mu.Lock()
	known := s.known[d]
	s.known[d] = true
	s.mu.Unlock()
	if known {
		return d, nil
	}
	return d, os.WriteFile(s.path(d), b, 0o644)
}

func (s *dirStore) PutReader(r io.Reader, size int64) (oci.Digest, error) {
	f, err := os.CreateTemp(s.dir, "new")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(f, io.TeeReader(r, h), make([]byte, 128<<10)); err != nil {
		return "", err
	}
	d := oci.SHA256(h)
	return d, os.Rename(f.Name(), s.path(d))
}

func (s *dirStore) open(d oci.Digest) (io.ReadCloser, error) { return os.Open(s.path(d)) }

// read is Read with a store of its own, and looks after the promises that hold for every
// tar: the index keeps its own, files are in the store, no goroutine stays behind.
func read(t testing.TB, tarball []byte, opt Options) (*tree.Index, error) {
	t.Helper()
	store := newDirStore(t.TempDir())
	before := runtime.NumGoroutine()
	x, err := Read(t.Context(), bytes.NewReader(tarball), store, opt)
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if runtime.Gosched(); i == 100_000 { // one that has said it is done may take its time to end
			t.Errorf("%d goroutines stayed behind", runtime.NumGoroutine()-before)
			break
		}
	}
	if err != nil {
		if x != nil {
			t.Errorf("an index comes with the error %v", err)
		}
		return nil, err
	}
	if err := x.Check(); err != nil {
		t.Errorf("the index is not valid: %v", err)
	}
	if x.DiffID != oci.FromBytes(tarball) || x.Size != int64(len(tarball)) {
		t.Errorf("the index has diff id %s and size %d", x.DiffID, x.Size)
	}
	for _, e := range x.Entries {
		if e.Object == "" {
			continue
		}
		if st, err := os.Stat(store.path(e.Object)); err != nil || st.Size() != e.Size {
			t.Errorf("the object of %s: %v, want %d bytes", e.Path, err, e.Size)
		}
	}
	return x, nil
}

// header is a tar entry for tests: a header and its content.
type header struct {
	tar.Header
	body []byte
}

func pack(t testing.TB, list ...header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		h.Size = int64(len(h.body))
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h.Header); err != nil {
			t.Fatalf("write header %s: %v", h.Name, err)
		}
		if _, err := w.Write(h.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reg(name, body string) header {
	return header{tar.Header{Name: name, Typeflag: tar.TypeReg}, []byte(body)}
}

func typed(flag byte, name string) header { return header{tar.Header{Name: name, Typeflag: flag}, nil} }

func linked(flag byte, name, to string) header {
	return header{tar.Header{Name: name, Typeflag: flag, Linkname: to}, nil}
}

func TestReadEverything(t *testing.T) {
	when := time.Unix(1700000000, 123456789)
	small, mid, large := strings.Repeat("i", 256), strings.Repeat("m", 257), strings.Repeat("l", 1<<20+1)
	long := strings.Repeat("d23456789/", 40) + strings.Repeat("n", 255)
	dev := typed(tar.TypeChar, "dev/null")
	dev.Devmajor, dev.Devminor = 1, 3
	blk := typed(tar.TypeBlock, "dev/sda")
	blk.Devmajor, blk.Devminor = 4095, 1<<20-1
	blk.Format = tar.FormatPAX
	rich := reg("bin/ping", mid)
	rich.Mode, rich.Uid, rich.Gid, rich.ModTime, rich.Format = 0o4755, 1<<31, 1000, when, tar.FormatPAX
	rich.PAXRecords = map[string]string{
		"SCHILY.xattr.security.capability":     "\x01\x00\x00\x02\x00",
		"SCHILY.xattr.user.note":               "kept",
		"LIBARCHIVE.xattr.user.note":           "bm90IHRoaXM",
		"LIBARCHIVE.xattr.user.per%20cent":     "AAE=",
		"SCHILY.xattr.system.posix_acl_access": "\x02\x00",
		"SCHILY.xattr.security.selinux":        "system_u:object_r:bin_t:s0",
		"SCHILY.xattr.trusted.overlay.opaque":  "y",
		"SCHILY.xattr.user.overlay.redirect":   "/etc/shadow",
		"SCHILY.xattr.trusted.other":           "x",
		"SCHILY.xattr.btrfs.compression":       "zstd",
		"comment":                              "nothing to us",
	}
	x, err := read(t, pack(t, header{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c0ffee"}}, nil}, typed(tar.TypeDir, "./"),
		rich, reg("./small", small), reg("large", large), reg("empty", ""), reg(long, "x"), typed(tar.TypeDir, "/tmp/"),
		linked(tar.TypeSymlink, "l", "/../../x y"), linked(tar.TypeLink, "hard", "./large"), linked(tar.TypeLink, "lower", "/not/here"),
		dev, blk, typed(tar.TypeFifo, "fifo"), typed(tar.TypeCont, "cont"), reg("z/.wh.gone", "ignored"), reg("y/.wh..wh..opq", ""),
		reg(".wh..wh.aufs", ""), reg(".wh..wh.plnk/12.34", "x"), reg("usr/.whose", "")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	rd := func(path, body string) tree.Entry {
		e := tree.Entry{Path: path, Type: tree.Regular, Mode: 0o644, Size: int64(len(body))}
		if len(body) > tree.InlineMax {
			e.Object = oci.FromBytes([]byte(body))
		} else if body != "" {
			e.Inline = []byte(body)
		}
		return e
	}
	ping := rd("bin/ping", mid)
	ping.Mode, ping.UID, ping.GID, ping.MTime, ping.NSec = 0o4755, 1<<31, 1000, when.Unix(), 123456789
	ping.Xattrs = []tree.Xattr{{Name: "security.capability", Value: []byte("\x01\x00\x00\x02\x00")},
		{Name: "system.posix_acl_access", Value: []byte("\x02\x00")}, {Name: "user.note", Value: []byte("kept")}, {Name: "user.per cent", Value: []byte{0, 1}}}
	want := []tree.Entry{
		{Path: "", Type: tree.Dir, Mode: 0o644},
		ping,
		rd("cont", ""),
		rd(long, "x"),
		{Path: "dev/null", Type: tree.Char, Mode: 0o644, Major: 1, Minor: 3},
		{Path: "dev/sda", Type: tree.Block, Mode: 0o644, Major: 4095, Minor: 1<<20 - 1},
		rd("empty", ""),
		{Path: "fifo", Type: tree.Fifo, Mode: 0o644},
		{Path: "hard", Type: tree.Hardlink, Link: "large"},
		{Path: "l", Type: tree.Symlink, Mode: 0o777, Link: "/../../x y"},
		rd("large", large),
		{Path: "lower", Type: tree.Hardlink, Link: "not/here"},
		rd("small", small),
		{Path: "tmp", Type: tree.Dir, Mode: 0o644},
		rd("usr/.whose", ""),
		{Path: "y", Type: tree.Whiteout, Opaque: true},
		{Path: "z/gone", Type: tree.Whiteout},
	}
	if d := cmp.Diff(want, x.Entries); d != "" {
		t.Error(d)
	}
}

// raw changes bytes of the one header in a tar and sets its checksum right again, for what
// archive/tar does not write.
func raw(t testing.TB, h header, change func(block []byte)) []byte {
	b := pack(t, h)
	change(b[:512])
	seal(b[:512])
	return b
}

// seal sets the checksum of a header.
func seal(block []byte) {
	copy(block[148:156], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// hostile is a tar that must not be taken, and what is to be said of it.
type hostile struct {
	name  string
	b     []byte
	opt   Options
	fault string
}

func hostileTars(t *testing.T) []hostile {
	base256 := func(field []byte, fill byte, rest ...byte) {
		for i := range field {
			field[i] = fill
		}
		field[0] = 0x80 | fill
		copy(field[len(field)-len(rest):], rest)
	}
	huge := reg("f", "")
	attributed := func(key, value string) []byte {
		h := reg("f", "")
		h.PAXRecords = map[string]string{key: value}
		return pack(t, h)
	}
	many := reg("f", "")
	many.PAXRecords = map[string]string{}
	for i := range 200 {
		many.PAXRecords[fmt.Sprint("SCHILY.xattr.user.", i)] = strings.Repeat("x", 400)
	}
	return []hostile{
		{"nothing", nil, Options{}, "end mark"},
		{"no tar", bytes.Repeat([]byte("no tar "), 200), Options{}, "invalid tar header"},
		{"dot dot", pack(t, reg("../etc/passwd", "x")), Options{}, `".."`},
		{"dot dot inside", pack(t, reg("a/../../b", "x")), Options{}, `".."`},
		{"empty name", raw(t, reg("x", ""), func(b []byte) { b[0] = 0 }), Options{}, "empty name"},
		{"long component", pack(t, reg(strings.Repeat("n", 256), "")), Options{}, "255"},
		{"long path", pack(t, reg(strings.Repeat("abc/", 1100)+"d", "")), Options{}, "4096"},
		{"hard link out", pack(t, linked(tar.TypeLink, "a", "../../etc/shadow")), Options{}, "no possible path"},
		{"hard link to the root", pack(t, linked(tar.TypeLink, "a", "/")), Options{}, "no possible path"},
		{"hard link to itself", pack(t, linked(tar.TypeLink, "a", "./a")), Options{}, "itself"},
		{"root as a file", pack(t, reg(".", "x")), Options{}, "root"},
		{"root as a symlink", pack(t, linked(tar.TypeSymlink, ".", "/etc")), Options{}, "root"},
		{"root as a hard link", pack(t, linked(tar.TypeLink, ".", "/etc")), Options{}, "root"},
		{"below a symlink", pack(t, linked(tar.TypeSymlink, "a", "/etc"), reg("a/b", "x")), Options{}, "not a directory"},
		{"below a file, sorted away", pack(t, reg("a", "x"), reg("a!", "x"), reg("a/b/c", "x")), Options{}, "not a directory"},
		{"below a hard link", pack(t, typed(tar.TypeDir, "d"), linked(tar.TypeLink, "a", "d"), reg("a/b", "x")), Options{}, "not a directory"},
		{"emptied file", pack(t, reg("a", "x"), reg("a/.wh..wh..opq", "")), Options{}, "not a directory"},
		{"whiteout below a file", pack(t, reg("a", "x"), reg("a/.wh.b", "")), Options{}, "not a directory"},
		{"whiteout of no name", pack(t, reg("a/.wh.", "")), Options{}, "no name"},
		{"whiteout of dot", pack(t, reg("a/.wh..", "")), Options{}, "no name"},
		{"whiteout of dot dot", pack(t, reg("a/.wh...", "")), Options{}, "no name"},
		{"below a whiteout's name", pack(t, reg("a/.wh.b/c", "")), Options{}, "whiteout"},
		{"empty symlink", raw(t, linked(tar.TypeSymlink, "a", "b"), func(b []byte) { b[157] = 0 }), Options{}, "target"},
		{"long symlink", pack(t, linked(tar.TypeSymlink, "a", strings.Repeat("x", 4096))), Options{}, "target"},
		{"unknown type", raw(t, reg("a", ""), func(b []byte) { b[156] = 'Z' }), Options{}, "type"},
		{"volume label", raw(t, reg("a", ""), func(b []byte) { b[156] = 'V' }), Options{}, "type"},
		{"negative size", raw(t, reg("a", ""), func(b []byte) { base256(b[124:136], 0xff) }), Options{}, "invalid tar header"},
		{"negative mode", raw(t, reg("a", ""), func(b []byte) { base256(b[100:108], 0xff) }), Options{}, "mode"},
		{"negative owner", raw(t, reg("a", ""), func(b []byte) { base256(b[108:116], 0xff) }), Options{}, "owner"},
		{"owner that is none", raw(t, reg("a", ""), func(b []byte) { base256(b[116:124], 0, 0xff, 0xff, 0xff, 0xff) }), Options{}, "owner"},
		{"negative device", raw(t, typed(tar.TypeChar, "a"), func(b []byte) { base256(b[329:337], 0xff) }), Options{}, "device"},
		{"large device", raw(t, typed(tar.TypeChar, "a"), func(b []byte) { base256(b[337:345], 0, 0x10, 0, 0) }), Options{}, "device"},
		{"size of more than there is", raw(t, huge, func(b []byte) { copy(b[124:], "00000010000") }), Options{}, "middle of the file"},
		{"size beyond all", raw(t, huge, func(b []byte) { base256(b[124:136], 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) }), Options{}, "come to more than"},
		{"too many entries", pack(t, reg("a", ""), reg("b", "")), Options{MaxEntries: 1}, "more than 1 entries"},
		{"unpacks too large", pack(t, reg("a", strings.Repeat("x", 4096))), Options{MaxUnpacked: 4096}, "more than 4096 bytes"},
		{"too much to remember", pack(t, reg(strings.Repeat("n/", 600)+"a", ""), reg("b", strings.Repeat("x", 200))), Options{maxMeta: 1300}, "come to more than 1300"},
		{"attribute name not percent coded", attributed("LIBARCHIVE.xattr.user.%zz", "AA"), Options{}, "name cannot be decoded"},
		{"attribute value not base64", attributed("LIBARCHIVE.xattr.user.a", "A!"), Options{}, "value cannot be decoded"},
		{"attribute name too long", attributed("SCHILY.xattr.user."+strings.Repeat("a", 251), ""), Options{}, "too long"},
		{"attribute value too long", attributed("SCHILY.xattr.user.a", strings.Repeat("a", 65536)), Options{}, "too long"},
		{"attributes too long together", pack(t, many), Options{}, "too long"},
		{"another diff id", pack(t, reg("a", "")), Options{DiffID: oci.FromBytes(nil)}, "the uncompressed layer is"},
	}
}

func TestReadHostile(t *testing.T) {
	for _, c := range hostileTars(t) {
		t.Run(c.name, func(t *testing.T) {
			x, err := read(t, c.b, c.opt)
			if !errs.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("got %v, %v; want an error about %q", x, err, c.fault)
			}
		})
	}
}

// archive/tar has a switch to judge paths by itself; ours is the judgement that counts.
func TestReadInsecurePathSwitch(t *testing.T) {
	t.Setenv("GODEBUG", "tarinsecurepath=0")
	if x, err := read(t, pack(t, reg("/abs", ""), linked(tar.TypeSymlink, "l", "/")), Options{}); err != nil || len(x.Entries) != 2 {
		t.Errorf("%v, %v", x, err)
	}
}

// lazyStore does not read what it is given.
type lazyStore struct{ hashStore }

func (lazyStore) PutReader(r io.Reader, _ int64) (oci.Digest, error) {
	_, err := r.Read(make([]byte, 10))
	return oci.FromBytes(nil), err
}

func TestReadLazyStore(t *testing.T) {
	b := pack(t, reg("a", strings.Repeat("x", 2<<20)))
	if x, err := Read(t.Context(), bytes.NewReader(b), lazyStore{}, Options{}); x != nil || !errs.Is(err, errs.Internal) {
		t.Errorf("%v, %v", x, err)
	}
}

// idleReader never gives anything and never ends.
type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

func TestReadIdleSource(t *testing.T) {
	if x, err := Read(t.Context(), idleReader{}, hashStore{}, Options{}); x != nil || !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("%v, %v", x, err)
	}
}

// Sparse files have a size of their own choosing.
func TestReadSparseBomb(t *testing.T) {
	records := ""
	for _, r := range []string{"GNU.sparse.major=1\n", "GNU.sparse.minor=0\n", "GNU.sparse.name=a\n", "GNU.sparse.realsize=4611686018427387904\n"} {
		n := len(r) + 3
		records += string([]byte{byte('0' + n/10), byte('0' + n%10), ' '}) + r
	}
	var b bytes.Buffer
	block := raw(t, reg("PaxHeaders.0/a", records), func(b []byte) { b[156] = 'x' })
	b.Write(block[:1024])
	body := append([]byte("0\n"), make([]byte, 510)...)
	b.Write(pack(t, reg("GNUSparseFile.0/a", string(body))))
	_, err := read(t, b.Bytes(), Options{})
	if !errs.Is(err, errs.Corrupt) || !strings.Contains(err.Error(), "come to more than") {
		t.Errorf("got %v", err)
	}
}

// A tar cut anywhere before its end mark gives nothing.
func TestReadTruncated(t *testing.T) {
	b := pack(t, reg("a", strings.Repeat("x", 600)), typed(tar.TypeDir, "d"), reg("d/"+strings.Repeat("n", 150), "y"))
	end := len(b) - 1024
	for n := 0; n < end+512; n += 64 {
		n := n + n/64%3 - 1
		if n = max(n, 0); n == end+512 {
			continue
		}
		if x, err := read(t, b[:n], Options{}); !errs.Is(err, errs.Corrupt) || x != nil {
			t.Fatalf("cut to %d of %d bytes: %v, %v", n, len(b), x, err)
		}
	}
	for _, n := range []int{end + 512, end + 1000, end + 1024} {
		if _, err := read(t, b[:n], Options{}); err != nil && n != end+1000 {
			t.Errorf("cut to %d of %d bytes: %v", n, len(b), err)
		}
	}
	// If it is known to be meant so, the end mark may be missing.
	if _, err := read(t, b[:end], Options{DiffID: oci.FromBytes(b[:end])}); err != nil {
		t.Error(err)
	}
	// Whatever follows the end mark counts for the diff id only.
	if _, err := read(t, append(b, "something else"...), Options{}); err != nil {
		t.Error(err)
	}
}

// tornReader gives b and then fails.
type tornReader struct {
	b   []byte
	err error
}

func (r *tornReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, r.err
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// The source's own trouble is reported as such, not as a bad tar.
func TestReadBrokenSource(t *testing.T) {
	b := pack(t, reg("a", strings.Repeat("x", 600)), reg("b", strings.Repeat("x", 3<<20)))
	cut := errs.New(errs.Unavailable, "get", "blob", errors.New("connection reset"))
	for _, n := range []int{0, 100, 512, 1000, 2048, 1 << 20, len(b)} {
		x, err := Read(t.Context(), &tornReader{b[:n], cut}, newDirStore(t.TempDir()), Options{})
		if x != nil || !errs.Is(err, errs.Unavailable) || !errors.Is(err, cut) {
			t.Errorf("torn at %d: %v, %v", n, x, err)
		}
	}
}

// fullStore fails from the nth file on.
type fullStore struct {
	*dirStore
	mu   sync.Mutex
	left int
}

var errFull = errs.New(errs.NoSpace, "write", "object", nil)

func (s *fullStore) take() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left--; s.left < 0 {
		return errFull
	}
	return nil
}

func (s *fullStore) PutBytes(b []byte) (oci.Digest, error) {
	if err := s.take(); err != nil {
		return "", err
	}
	return s.dirStore.PutBytes(b)
}

func (s *fullStore) PutReader(r io.Reader, size int64) (oci.Digest, error) {
	if err := s.take(); err != nil {
		return "", err
	}
	return s.dirStore.PutReader(r, size)
}

// many is n files of the given size, all different.
func many(t testing.TB, n, size int) []byte {
	list := make([]header, n)
	for i := range list {
		name := strings.Repeat("d", i%7+1) + "/" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		list[i] = reg(name, name+strings.Repeat("y", size))
	}
	return pack(t, list...)
}

func TestReadStoreFails(t *testing.T) {
	b := append(many(t, 300, 400), pack(t)...)
	big := pack(t, reg("a", strings.Repeat("x", 2<<20)))
	for _, c := range []struct {
		b    []byte
		left int
	}{{b, 0}, {b, 1}, {b, 150}, {b, 299}, {big, 0}} {
		x, err := Read(t.Context(), bytes.NewReader(c.b), &fullStore{dirStore: newDirStore(t.TempDir()), left: c.left}, Options{})
		if x != nil || !errs.Is(err, errs.NoSpace) {
			t.Errorf("%d files fit: %v, %v", c.left, x, err)
		}
	}
}

func TestReadManyFiles(t *testing.T) {
	for _, size := range []int{300, 5000, 900_000} {
		x, err := read(t, many(t, 120, size), Options{})
		if err != nil || len(x.Entries) != 120 {
			t.Fatalf("%d entries, %v", len(x.Entries), err)
		}
		for _, e := range x.Entries {
			if e.Object != oci.FromBytes([]byte(e.Path+strings.Repeat("y", size))) {
				t.Errorf("%s has the content of another", e.Path)
			}
		}
	}
}

func TestReadCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		w.Write(many(t, 100, 5000))
		cancel()
		w.CloseWithError(context.Canceled)
	}()
	x, err := Read(ctx, r, newDirStore(t.TempDir()), Options{})
	if x != nil || !errs.Is(err, errs.Canceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", x, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(pack(f, reg("a", "x")))
	f.Add(pack(f, reg("a/.wh.b", ""), reg("a/.wh..wh..opq", ""), reg("a/b", "x"), linked(tar.TypeLink, "c", "a/b"), reg("a", "y")))
	f.Add(pack(f, linked(tar.TypeSymlink, "a", "b"), typed(tar.TypeDir, "a/"), typed(tar.TypeFifo, "a/f")))
	long := reg(strings.Repeat("n/", 120)+"m", "")
	long.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y"}
	f.Add(pack(f, long))
	for _, file := range []string{"testdata/pax-sparse.tar", "testdata/gnu-sparse.tar"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for i := 0; i+512 <= len(b); i += 512 { // past the checksum the trouble begins
			if string(b[i+257:i+262]) == "ustar" {
				seal(b[i : i+512])
			}
		}
		x, err := Read(t.Context(), bytes.NewReader(b), newDirStore(t.TempDir()), Options{MaxUnpacked: 16 << 20})
		if err != nil {
			if !errs.Is(err, errs.Corrupt) || x != nil {
				t.Fatalf("%v, %v", x, err)
			}
			return
		}
		if err := x.Check(); err != nil {
			t.Fatal(err)
		}
		back, err := tree.Decode(tree.Encode(x))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(x, back, cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })); len(x.Entries) > 0 && d != "" {
			t.Fatal(d)
		}
		_, _ = tree.Merge(x)
	})
}
