package layout

import (
	"encoding/json"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Content is what a manifest or an index leads to, as far as it is here: an index names
// images for machines of every kind, of which usually one was pulled.
type Content struct {
	Blobs  []oci.Digest // indexes, manifests, configurations
	Images []Parts
}

// Parts is what one image manifest names.
type Parts struct {
	Manifest oci.Digest
	Config   oci.Digest
	Layers   []oci.Digest // diff ids, the lowest first
	Fault    error        // why Config or Layers are not known
}

// document is what tells an index from a manifest: either has what the other lacks.
type document struct {
	Manifests []oci.Descriptor `json:"manifests"`
	Config    oci.Descriptor   `json:"config"`
}

// Content follows the manifest or index d, which must be here and readable.
func (l Layout) Content(d oci.Digest) (Content, error) {
	var c Content
	err := l.follow(d, &c, map[oci.Digest]bool{})
	return c, err
}

func (l Layout) follow(d oci.Digest, c *Content, seen map[oci.Digest]bool) error {
	if seen[d] {
		return nil
	}
	seen[d] = true
	b, err := l.Blob(d)
	if err != nil {
		return err
	}
	c.Blobs = append(c.Blobs, d)
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil {
		return errs.New(errs.Corrupt, "read manifest", string(d), err)
	}
	if doc.Manifests == nil {
		l.followConfig(d, doc.Config.Digest, c)
		return nil
	}
	for _, child := range doc.Manifests {
		if !l.HasBlob(child.Digest) {
			continue // for another machine, most likely
		}
		if err := l.follow(child.Digest, c, seen); err != nil {
			return err
		}
	}
	return nil
}

func (l Layout) followConfig(manifest, config oci.Digest, c *Content) {
	p := Parts{Manifest: manifest, Config: config}
	b, err := l.Blob(config)
	if err == nil {
		c.Blobs = append(c.Blobs, config)
		p.Layers, err = diffIDs(config, b)
	}
	p.Fault = err
	c.Images = append(c.Images, p)
}

// diffIDs are the layers of a configuration.
func diffIDs(config oci.Digest, b []byte) ([]oci.Digest, error) {
	const op = "read image configuration"
	var img struct {
		RootFS oci.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(b, &img); err != nil {
		return nil, errs.New(errs.Corrupt, op, string(config), err)
	}
	for _, d := range img.RootFS.DiffIDs {
		if !d.Valid() {
			return nil, errs.Newf(errs.Invalid, op, string(config), "not a digest: "+string(d))
		}
	}
	return img.RootFS.DiffIDs, nil
}
