package store

import (
	"encoding/hex"
	"encoding/json"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/tree"
)

// content is what a manifest or an index leads to, as far as it is here: an index names
// images for machines of every kind, of which usually one was pulled.
type content struct {
	blobs  []oci.Digest // indexes, manifests, configurations
	images []imageParts
}

// imageParts is one image manifest.
type imageParts struct {
	manifest oci.Digest
	config   oci.Digest
	layers   []oci.Digest // diff ids, the lowest first
	fault    error        // why config or layers are not known
}

// document is what tells an index from a manifest: either has what the other lacks.
type document struct {
	Manifests []oci.Descriptor `json:"manifests"`
	Config    oci.Descriptor   `json:"config"`
}

// contentOf follows the manifest or index d, which must be here and readable.
func (s *Store) contentOf(d oci.Digest) (content, error) {
	var c content
	err := s.follow(d, &c, map[oci.Digest]bool{})
	return c, err
}

func (s *Store) follow(d oci.Digest, c *content, seen map[oci.Digest]bool) error {
	if seen[d] {
		return nil
	}
	seen[d] = true
	b, err := s.Blob(d)
	if err != nil {
		return err
	}
	c.blobs = append(c.blobs, d)
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil {
		return errs.New(errs.Corrupt, "read manifest", string(d), err)
	}
	if doc.Manifests == nil {
		s.followConfig(d, doc.Config.Digest, c)
		return nil
	}
	for _, child := range doc.Manifests {
		if !s.HasBlob(child.Digest) {
			continue // for another machine, most likely
		}
		if err := s.follow(child.Digest, c, seen); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) followConfig(manifest, config oci.Digest, c *content) {
	im := imageParts{manifest: manifest, config: config}
	defer func() { c.images = append(c.images, im) }()
	b, err := s.Blob(config)
	if err != nil {
		im.fault = err
		return
	}
	c.blobs = append(c.blobs, config)
	var img struct {
		RootFS oci.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(b, &img); err != nil {
		im.fault = errs.New(errs.Corrupt, "read image configuration", string(config), err)
		return
	}
	for _, d := range img.RootFS.DiffIDs {
		if err := checkDigest("read image configuration", d); err != nil {
			im.fault = err
			return
		}
	}
	im.layers = img.RootFS.DiffIDs
}

// complete checks that d is here with all that a container needs: itself, and for at least
// one image of it the configuration and every layer. The lock is held, so that it stays so.
func (s *Store) complete(d oci.Digest) error {
	c, err := s.contentOf(d)
	if err != nil {
		return err
	}
	err = errs.Newf(errs.NotFound, "find image", string(d), "the index leads to no image that is here")
	for _, im := range c.images {
		if err = s.imageComplete(im); err == nil {
			return nil
		}
	}
	return err
}

func (s *Store) imageComplete(im imageParts) error {
	if im.fault != nil {
		return im.fault
	}
	for _, d := range im.layers {
		if !s.HasLayer(d) {
			return errs.New(errs.NotFound, "find layer", string(d), nil)
		}
	}
	return nil
}

// objectID is an object's digest in 32 bytes: sets of 100,000 are common.
type objectID [32]byte

type objectSet map[objectID]struct{}

func (o objectSet) has(id objectID) bool { _, ok := o[id]; return ok }

// addAll adds what the layer x names.
func (o objectSet) addAll(x *tree.Index) {
	for i := range x.Entries {
		if id, ok := idOf(x.Entries[i].Object); ok {
			o[id] = struct{}{}
		}
	}
}

// idOf is false for "", and for a digest that names no object.
func idOf(d oci.Digest) (id objectID, ok bool) {
	const prefix = "sha256:"
	if len(d) != len(prefix)+64 {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(d[len(prefix):]))
	return id, err == nil
}

// objectDirs is how many directories there are in objects/.
const objectDirs = 256

func objectDir(i int) string { return hex.EncodeToString([]byte{byte(i)}) }

// parseObject reads an object's name from its path.
func parseObject(dir, name string) (id objectID, ok bool) {
	if len(dir)+len(name) != 64 {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(dir+name))
	return id, err == nil
}
