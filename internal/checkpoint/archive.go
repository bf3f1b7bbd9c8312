package checkpoint

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
)

// Members of an archive, in this order; FORMATS.md.
const (
	layerMember  = "layer.tar"
	imagesMember = "images/"
	parentMember = imagesMember + parent + "/"
)

// Write writes a checkpoint as an archive: its document, the layer of what the container changed, and all that is in its folder.
func Write(w io.Writer, dir string, d *Document, layer *os.File) error {
	t := tar.NewWriter(w)
	text, err := json.Marshal(d)
	if err != nil {
		return errs.New(errs.Internal, "write", document, err)
	}
	if err := t.WriteHeader(&tar.Header{Name: document, Size: int64(len(text)), Mode: 0o600, ModTime: d.Created, Format: tar.FormatPAX}); err != nil {
		return errs.Wrap("write archive", "", err)
	}
	if _, err := t.Write(text); err != nil {
		return errs.Wrap("write archive", "", err)
	}
	if err := writeMember(t, layerMember, layer); err != nil {
		return err
	}
	if err := writeFolder(t, imagesMember, dir); err != nil {
		return err
	}
	if before := filepath.Join(dir, parent); isFolder(before) {
		if err := writeFolder(t, parentMember, before); err != nil {
			return err
		}
	}
	return errs.Wrap("write archive", "", t.Close())
}

func isFolder(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// writeFolder writes the files of a folder of images. The logs of criu tell of paths of this host.
func writeFolder(t *tar.Writer, prefix, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return errs.Wrap("read", dir, err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !isMember(e.Name()) || e.Name() == document {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return errs.Wrap("read", e.Name(), err)
		}
		err = writeMember(t, prefix+e.Name(), f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func writeMember(t *tar.Writer, name string, f *os.File) error {
	info, err := f.Stat()
	if err == nil {
		err = t.WriteHeader(&tar.Header{Name: name, Size: info.Size(), Mode: 0o600, ModTime: info.ModTime(), Format: tar.FormatPAX})
	}
	if err == nil {
		_, err = io.CopyN(t, f, info.Size())
	}
	return errs.Wrap("write to archive", name, err)
}

// isMember reports whether a name is that of a file of a folder of images: those of criu, and the program of PID 1.
func isMember(name string) bool {
	if name == program {
		return true
	}
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
	}
	return strings.HasSuffix(name, ".img") && len(name) < 200 && name[0] != '.' && strings.IndexFunc(name, func(r rune) bool { return !ok(r) }) < 0
}

// Archive is an archive that is being read. What it says is checked, and not more to be trusted than who wrote it.
type Archive struct {
	Document *Document
	tar      *tar.Reader
}

// mostMembers is how many images there may be: some for each process.
const mostMembers = 200_000

// ReadArchive reads the beginning of an archive.
func ReadArchive(r io.Reader) (*Archive, error) {
	a := &Archive{tar: tar.NewReader(r)}
	h, err := a.next()
	if err != nil {
		return nil, err
	}
	if h == nil || h.Name != document || h.Size > mostDocument {
		return nil, errs.Newf(errs.Invalid, "read archive", "", "it is none of a checkpoint").WithHint("corten checkpoint --export writes one")
	}
	text, err := io.ReadAll(a.tar)
	if err != nil {
		return nil, errs.New(errs.Corrupt, "read archive", document, err)
	}
	a.Document, err = parse(text)
	return a, err
}

// next is the next member, a regular file; nil: there is none.
func (a *Archive) next() (*tar.Header, error) {
	h, err := a.tar.Next()
	if err == io.EOF {
		return nil, nil
	}
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return nil, errs.New(errs.Corrupt, "read archive", "", err)
	}
	if h.Typeflag != tar.TypeReg || h.Size < 0 {
		return nil, errs.Newf(errs.Corrupt, "read archive", fmt.Sprintf("%.100q", h.Name), "it is no regular file")
	}
	return h, nil
}

// Unpack reads the rest: apply is given the layer, and the images go to the folder of a container.
func (a *Archive) Unpack(dir string, apply func(io.Reader) error) error {
	h, err := a.next()
	if err != nil {
		return err
	}
	if h == nil || h.Name != layerMember {
		return errs.Newf(errs.Corrupt, "read archive", "", "it has no "+layerMember)
	}
	if err := apply(a.tar); err != nil {
		return err
	}
	images := filepath.Join(dir, whole)
	if err := os.Mkdir(images, 0o700); err != nil {
		return errs.Wrap("make folder", images, err)
	}
	for n := 0; ; n++ {
		h, err := a.next()
		if err != nil {
			return err
		}
		if h == nil {
			break
		}
		if err := a.image(dir, h, n); err != nil {
			return err
		}
	}
	text, err := json.Marshal(a.Document)
	if err != nil {
		return errs.New(errs.Internal, "write", document, err)
	}
	return disk.WriteFile(filepath.Join(images, document), text, 0o600, disk.Volatile)
}

// image writes one image.
func (a *Archive) image(dir string, h *tar.Header, n int) error {
	bad := func(why string) error {
		return errs.Newf(errs.Corrupt, "read archive", fmt.Sprintf("%.100q", h.Name), why)
	}
	folder, name := filepath.Join(dir, whole), ""
	if before, ok := strings.CutPrefix(h.Name, parentMember); ok {
		folder, name = filepath.Join(folder, parent), before
	} else {
		name = strings.TrimPrefix(h.Name, imagesMember)
	}
	if name == h.Name || !isMember(name) || name == program && filepath.Base(folder) == parent {
		return bad("it is no image")
	}
	if n >= mostMembers {
		return bad("there are too many")
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !os.IsExist(err) {
		return errs.Wrap("make folder", folder, err)
	}
	mode := os.FileMode(0o600)
	if name == program {
		mode = 0o711
	}
	f, err := os.OpenFile(filepath.Join(folder, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
	if os.IsExist(err) {
		return bad("it is there twice")
	}
	if err != nil {
		return errs.Wrap("write", name, err)
	}
	_, err = io.Copy(f, a.tar)
	return errs.Wrap("write", name, errors.Join(err, f.Close()))
}
