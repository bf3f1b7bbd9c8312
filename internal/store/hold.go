package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Hold is a lease that needs no process: a container's on its image, a platform's on its
// tree. It is a file, leases/ID.hold, and exists until it is released or the directory it was
// made for is gone.
type Hold struct {
	ID    string // letters, digits, "_", "." and "-": a container's identifier
	Owner string // for people: "container web"
	// Dir is the owner's directory, relative to Corten's state directory, so that this can be
	// moved. It is made before the hold and removed before the release. "" is a hold for good.
	Dir      string
	Manifest oci.Digest // with its configuration, layers and tree; may be ""
	Tree     string     // a TreeKey's ID, with its layers; may be ""
	Layers   []oci.Digest
}

const (
	holdSuffix = ".hold"
	holdHead   = "corten hold 1\n"
	lineOwner  = "owner "
	lineDir    = "dir "
	holdEnd    = "end\n"
)

// Hold makes h exist, or replaces the hold with the same ID. Everything it names must be
// here; if not, the error's kind is NotFound and nothing has changed. A Volatile hold, which a
// power cut may take away, is right for an owner that a power cut takes away too, and costs
// some microseconds; a Durable one costs some milliseconds.
func (s *Store) Hold(h Hold, d disk.Durability) error {
	const op = "hold image for"
	if err := h.check(); err != nil {
		return err
	}
	unlock, err := s.shared()
	if err != nil {
		return s.wrap(op, h.Owner, err)
	}
	defer unlock()
	// Collect takes the lock exclusively: what is here now is held before it can look.
	switch {
	case h.Manifest != "" && !s.HasBlob(h.Manifest):
		return errs.Newf(errs.NotFound, op, h.Owner, "there is no manifest "+string(h.Manifest))
	case h.Tree != "" && !s.hasTree(h.Tree):
		return errs.Newf(errs.NotFound, op, h.Owner, "there is no tree "+h.Tree)
	}
	for _, d := range h.Layers {
		if !s.HasLayer(d) {
			return errs.Newf(errs.NotFound, op, h.Owner, "there is no layer "+string(d))
		}
	}
	return s.wrap(op, h.Owner, disk.WriteFile(s.path("leases", h.ID+holdSuffix), []byte(h.text()), 0o644, d))
}

// Release ends a hold; there may be none.
func (s *Store) Release(id string) error {
	if err := (Hold{ID: id}).check(); err != nil {
		return err
	}
	return s.wrap("release hold", id, remove(s.path("leases", id+holdSuffix)))
}

func (s *Store) hasTree(id string) bool {
	ok, err := exists(s.path("trees", id))
	return ok && err == nil
}

// Holds lists the holds whose owners exist.
func (s *Store) Holds() ([]Hold, error) {
	names, err := s.list("leases")
	if err != nil {
		return nil, errs.Wrap("list holds", s.path("leases"), err)
	}
	var list []Hold
	for _, n := range names {
		if !strings.HasSuffix(n, holdSuffix) {
			continue
		}
		h, err := s.readHold(n)
		if errs.Is(err, errs.NotFound) {
			continue // released since
		}
		if err != nil {
			return nil, err
		}
		if gone, err := s.ownerGone(h); err != nil {
			return nil, err
		} else if !gone {
			list = append(list, h)
		}
	}
	return list, nil
}

// readHold reads a hold. It is void, with an error of kind NotFound, if it was released or
// a power cut took its content: then it was Volatile.
func (s *Store) readHold(name string) (Hold, error) {
	path := s.path("leases", name)
	b, err := os.ReadFile(path)
	if err != nil {
		return Hold{}, err
	}
	text, whole := strings.CutSuffix(string(b), holdEnd)
	if !whole {
		return Hold{}, errs.New(errs.NotFound, "read hold", path, nil)
	}
	h := Hold{ID: strings.TrimSuffix(name, holdSuffix)}
	if !h.parse(text) || h.check() != nil {
		return Hold{}, errs.Newf(errs.Corrupt, "read hold", path, "not a hold that this build understands").
			WithHint("it belongs to a container: remove that, then this file")
	}
	return h, nil
}

// ownerGone reports whether the owner's directory is not there any more. Any doubt is an
// error, never a yes.
func (s *Store) ownerGone(h Hold) (bool, error) {
	if h.Dir == "" {
		return false, nil
	}
	dir := h.Dir
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(s.root, dir)
	}
	_, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// holderOf names an owner of a hold on d, or on an image in the index d; "" if there is none.
func (s *Store) holderOf(d oci.Digest) (string, error) {
	holds, err := s.Holds()
	if err != nil || len(holds) == 0 {
		return "", err
	}
	of := map[oci.Digest]bool{d: true}
	// A damaged image can be removed like any other; then only d itself is compared.
	if c, err := s.layout.Content(d); err == nil {
		for _, b := range c.Blobs {
			of[b] = true
		}
	}
	for _, h := range holds {
		if of[h.Manifest] {
			return h.Owner, nil
		}
	}
	return "", nil
}

func (h Hold) text() string {
	var b strings.Builder
	b.WriteString(holdHead)
	line := func(word, value string) {
		if value != "" {
			b.WriteString(word + value + "\n")
		}
	}
	line(lineOwner, h.Owner)
	line(lineDir, h.Dir)
	line(lineManifest, string(h.Manifest))
	line(lineTree, h.Tree)
	for _, d := range h.Layers {
		line(lineLayer, string(d))
	}
	b.WriteString(holdEnd)
	return b.String()
}

// parse reads text into h and reports whether all of it was understood.
func (h *Hold) parse(text string) bool {
	text, ok := strings.CutPrefix(text, holdHead)
	for line := range strings.Lines(text) {
		word, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word + " " {
		case lineOwner:
			h.Owner = value
		case lineDir:
			h.Dir = value
		case lineManifest:
			h.Manifest = oci.Digest(value)
		case lineTree:
			h.Tree = value
		case lineLayer:
			h.Layers = append(h.Layers, oci.Digest(value))
		default:
			return false
		}
	}
	return ok
}

// check keeps what becomes a path or a line from being more than that.
func (h Hold) check() error {
	bad := func(what string) error {
		return errs.Newf(errs.Invalid, "check hold", printable(h.ID), what)
	}
	if h.ID == "" || h.ID[0] == '.' || strings.ContainsFunc(h.ID, notIDRune) {
		return bad("the identifier has other than letters, digits, \"_\", \".\" and \"-\"")
	}
	if h.Owner != printable(h.Owner) || h.Dir != printable(h.Dir) {
		return bad("owner or directory has control characters")
	}
	if h.Manifest != "" && !h.Manifest.Valid() || h.Tree != "" && !isTreeID(h.Tree) {
		return bad("manifest or tree is not a digest")
	}
	for _, d := range h.Layers {
		if !d.Valid() {
			return bad("a layer is not a digest")
		}
	}
	return nil
}

func notIDRune(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.', r == '-':
		return false
	}
	return true
}
