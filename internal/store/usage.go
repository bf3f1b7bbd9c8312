package store

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// ImageSize is how much content an image has. Both numbers count bytes of regular files,
// equal files once, holes as zeros.
type ImageSize struct {
	Total  int64
	Unique int64 // of files that no other image has
}

// Sizes measures all images. The keys are the digests in Images; an index counts the images
// of it that are here as one.
func (s *Store) Sizes(ctx context.Context) (map[oci.Digest]ImageSize, error) {
	const op = "measure images"
	images, err := s.Images()
	if err != nil {
		return nil, err
	}
	sizes := map[oci.Digest]ImageSize{}
	m := meter{s: s, files: map[oci.Digest][]sizedObject{}, seen: map[objectID]sighting{}}
	for _, im := range images {
		d := im.Descriptor.Digest
		if _, ok := sizes[d]; ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, errs.New(errs.Canceled, op, "", err)
		}
		total, err := m.add(d)
		if err != nil {
			return nil, errs.Wrap(op, im.Ref, err)
		}
		sizes[d] = ImageSize{Total: total}
	}
	for _, o := range m.seen {
		if !o.shared {
			z := sizes[o.by]
			z.Unique += o.size
			sizes[o.by] = z
		}
	}
	return sizes, nil
}

// meter counts which images have which objects.
type meter struct {
	s     *Store
	files map[oci.Digest][]sizedObject // of each layer
	seen  map[objectID]sighting
}

type sizedObject struct {
	id   objectID
	size int64
}

// sighting is the last image that an object was seen in.
type sighting struct {
	by     oci.Digest
	size   int64
	shared bool
}

// add counts the image or index d and returns the size of its content.
func (m *meter) add(d oci.Digest) (total int64, err error) {
	found, err := m.s.layout.Content(d)
	if err != nil {
		return 0, err
	}
	for _, im := range found.Images {
		for _, l := range im.Layers {
			files, err := m.layer(l)
			if err != nil {
				return 0, err
			}
			for _, f := range files {
				at, ok := m.seen[f.id]
				if ok && at.by == d {
					continue
				}
				m.seen[f.id] = sighting{by: d, size: f.size, shared: ok}
				total += f.size
			}
		}
	}
	return total, nil
}

// layer lists the objects of a layer. One that is not here, of an image that is here in
// part, has none.
func (m *meter) layer(d oci.Digest) ([]sizedObject, error) {
	if files, ok := m.files[d]; ok {
		return files, nil
	}
	x, err := m.s.Layer(d)
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The small files, which are in the index itself, count as one object of the layer's name.
	inline := sizedObject{}
	hex.Decode(inline.id[:], []byte(d.Hex()[:2*len(inline.id)]))
	var files []sizedObject
	for i := range x.Entries {
		if id, ok := idOf(x.Entries[i].Object); ok {
			files = append(files, sizedObject{id, x.Entries[i].Size})
		} else {
			inline.size += x.Entries[i].Size
		}
	}
	files = append(files, inline)
	m.files[d] = files
	return files, nil
}

// Usage is what the store takes on the disk.
type Usage struct {
	Bytes   int64 // all of it, as allocated
	Objects int
	Layers  int
	Trees   int
	Blobs   int
}

// Usage measures the store, with what nothing leads to any more.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	var u Usage
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) && path != s.dir {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		u.Bytes += st.Blocks * 512
		dir, name, _ := strings.Cut(strings.TrimPrefix(path, s.dir+"/"), "/")
		switch {
		case dir == "objects" && !e.IsDir():
			u.Objects++
		case dir == "layers" && !e.IsDir():
			u.Layers++
		case dir == "blobs" && !e.IsDir():
			u.Blobs++
		case dir == "trees" && e.IsDir() && name != "" && !strings.Contains(name, "/"):
			u.Trees++
		}
		return nil
	})
	return u, errs.Wrap("measure store", s.dir, err)
}
