package image

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store"
	"github.com/cortenhq/corten/internal/tree"
)

// Facts is what is asked about a tree at every start and listing, and would take
// milliseconds to find in it. They are kept in a file beside the tree, made with it:
//
//	corten facts 1
//	entries 22014
//	bytes 550012345
//	passwd 1044
//	group 469
//	seal 3f1c...       of a sealed tree alone
//
// and then, after an empty line, passwd and group, with as many bytes as said. FORMATS.md
// describes the file.
type Facts struct {
	Entries int    // names of files of any type
	Bytes   int64  // of regular files, each file once
	Passwd  []byte // content of /etc/passwd, nil if there is none
	Group   []byte // content of /etc/group
	Seal    string // of a sealed tree, in hexadecimal digits
}

const (
	factsFile   = "facts"
	factsHead   = "corten facts 1\n"
	sealLine    = "seal "
	maxAccounts = 1 << 20 // bytes of passwd and of group
)

// factsPath is where the facts of a tree are.
func factsPath(treePath string) string { return filepath.Join(filepath.Dir(treePath), factsFile) }

// gather finds the facts of a tree.
func gather(s *store.Store, t *tree.Tree) (Facts, error) {
	f := Facts{Entries: len(t.Entries), Bytes: sizeOf(t)}
	var err error
	if f.Passwd, err = content(s, t, "etc/passwd"); err != nil {
		return f, err
	}
	f.Group, err = content(s, t, "etc/group")
	return f, err
}

// sizeOf sums up the sizes of regular files, which no other entry has.
func sizeOf(t *tree.Tree) int64 {
	n := int64(0)
	for i := range t.Entries {
		n += t.Entries[i].Size
	}
	return n
}

// content is what the file at path holds, up to maxAccounts; nil if there is no such file.
func content(s *store.Store, t *tree.Tree, path string) ([]byte, error) {
	e := lookup(t, path)
	if e == nil || e.Type != tree.Regular {
		return nil, nil
	}
	if e.Object == "" {
		return e.Inline, nil
	}
	f, err := s.OpenObject(e.Object)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAccounts))
	if len(b) == maxAccounts { // a line that was cut off would be another account
		b = b[:bytes.LastIndexByte(b, '\n')+1]
	}
	return b, err
}

// lookup finds the file that path leads to, following symbolic and hard links within the
// tree; nil if there is none.
func lookup(t *tree.Tree, path string) *tree.Entry {
	done, rest := "", path
	for links := 0; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			done = tree.Parent(done)
			continue
		}
		next := strings.TrimPrefix(done+"/"+name, "/")
		e := find(t, next)
		if e == nil {
			return nil
		}
		if e.Type != tree.Symlink {
			done = next
			continue
		}
		if links++; links > 40 { // as many as Linux follows (MAXSYMLINKS, linux/namei.h)
			return nil
		}
		rest = e.Link + "/" + rest
		if e.Link[0] == '/' {
			done = ""
		}
	}
	return find(t, done)
}

// find returns the entry at path, or the one that it is a hard link to.
func find(t *tree.Tree, path string) *tree.Entry {
	i, ok := slices.BinarySearchFunc(t.Entries, path, func(e tree.Entry, p string) int { return tree.Compare(e.Path, p) })
	if !ok {
		return nil
	}
	if e := &t.Entries[i]; e.Type != tree.Hardlink {
		return e
	}
	return find(t, t.Entries[i].Link) // which is no hard link
}

// encode writes facts as they are kept.
func (f Facts) encode() []byte {
	var b bytes.Buffer
	b.WriteString(factsHead)
	for _, n := range []struct {
		name  string
		value int64
	}{{"entries", int64(f.Entries)}, {"bytes", f.Bytes}, {"passwd", int64(len(f.Passwd))}, {"group", int64(len(f.Group))}} {
		b.WriteString(n.name + " " + strconv.FormatInt(n.value, 10) + "\n")
	}
	if f.Seal != "" {
		b.WriteString(sealLine + f.Seal + "\n")
	}
	b.WriteByte('\n')
	b.Write(f.Passwd)
	b.Write(f.Group)
	return b.Bytes()
}

// readFacts reads the facts of the tree at a path.
func readFacts(treePath string) (Facts, error) {
	path := factsPath(treePath)
	raw, err := disk.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Facts{}, errs.New(errs.NotFound, "read facts of tree", path, nil)
	}
	if err != nil {
		return Facts{}, errs.Wrap("read facts of tree", path, err)
	}
	f, ok := decodeFacts(raw)
	if !ok {
		return Facts{}, errs.Newf(errs.Corrupt, "read facts of tree", path, "they are not as Corten writes them").
			WithHint("remove the image and pull it again; if this comes back, check the disk")
	}
	return f, nil
}

func decodeFacts(raw []byte) (f Facts, ok bool) {
	raw, ok = bytes.CutPrefix(raw, []byte(factsHead))
	var sizes [2]int64
	for _, n := range []struct {
		name string
		set  func(int64)
	}{
		{"entries ", func(v int64) { f.Entries = int(v) }},
		{"bytes ", func(v int64) { f.Bytes = v }},
		{"passwd ", func(v int64) { sizes[0] = v }},
		{"group ", func(v int64) { sizes[1] = v }},
	} {
		line, rest, _ := bytes.Cut(raw, []byte("\n"))
		value, named := bytes.CutPrefix(line, []byte(n.name))
		v, err := strconv.ParseInt(string(value), 10, 64)
		ok = ok && named && err == nil && v >= 0
		n.set(v)
		raw = rest
	}
	if rest, sealed := bytes.CutPrefix(raw, []byte(sealLine)); sealed {
		line, rest, _ := bytes.Cut(rest, []byte("\n"))
		f.Seal, raw = string(line), rest
		ok = ok && oci.Digest("sha256:"+f.Seal).Valid()
	}
	raw, empty := bytes.CutPrefix(raw, []byte("\n"))
	if !ok || !empty || sizes[0] > int64(len(raw)) || sizes[1] != int64(len(raw))-sizes[0] {
		return Facts{}, false
	}
	f.Passwd, f.Group = raw[:sizes[0]:sizes[0]], raw[sizes[0]:]
	return f, true
}
