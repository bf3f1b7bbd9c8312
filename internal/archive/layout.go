package archive

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// annotationImageName carries a complete reference; containerd, BuildKit and Docker from
// version 25 on write it.
const annotationImageName = "io.containerd.image.name"

// findLayout reads an OCI image layout (image-spec, image-layout.md). It returns false if
// there is none.
func (s *Source) findLayout() (bool, error) {
	raw, err := s.readFile("index.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := s.checkVersion(); err != nil {
		return false, err
	}
	var idx oci.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return false, badJSON("index.json", err)
	}
	for _, d := range idx.Manifests {
		if !oci.IsIndex(d.MediaType) && !oci.IsManifest(d.MediaType) {
			continue // something else that is kept in the same layout
		}
		if !d.Digest.Valid() || d.Size < 0 {
			return false, errs.Newf(errs.Corrupt, "read from archive", "index.json", "a descriptor in it is not valid").
				WithHint("the archive is damaged; save or copy it again")
		}
		s.add(d)
	}
	if len(s.images) == 0 {
		return false, errs.Newf(errs.NotFound, "read from archive", "index.json", "there is no image in it").
			WithHint("the layout is empty or holds artifacts of another kind")
	}
	return true, s.addDockerNames()
}

// checkVersion: the file oci-layout marks a layout and says its version.
func (s *Source) checkVersion() error {
	raw, err := s.readFile("oci-layout", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return errs.Newf(errs.Invalid, "read from archive", "oci-layout", "it is missing beside index.json").
			WithHint("if this is a layout made by hand, add the file with the content {\"imageLayoutVersion\":\"1.0.0\"}")
	}
	if err != nil {
		return err
	}
	var doc struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return badJSON("oci-layout", err)
	}
	if !strings.HasPrefix(doc.Version, "1.") {
		return errs.Newf(errs.Unsupported, "read from archive", "oci-layout", "the layout's version is "+printable(doc.Version)+"; 1.0.0 is known").
			WithHint("save the image again with a current tool")
	}
	return nil
}

// add notes a descriptor of index.json. One image saved under several names has one
// descriptor for each.
func (s *Source) add(d oci.Descriptor) {
	i := slices.IndexFunc(s.images, func(img Image) bool { return img.Desc.Digest == d.Digest })
	if i < 0 {
		i = len(s.images)
		s.images = append(s.images, Image{Desc: oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}})
	}
	img := &s.images[i]
	for _, name := range []string{d.Annotations[annotationImageName], d.Annotations[oci.AnnotationRefName]} {
		if name == "" {
			continue
		}
		// A word alone is a tag or a name of the archive's own, not docker.io/library/WORD.
		if ref, err := oci.ParseRef(name); err == nil && strings.ContainsAny(name, "/:") {
			img.addRef(ref)
			return
		}
		img.Name = printable(name)
	}
}

func (img *Image) addRef(ref oci.Ref) {
	if !slices.Contains(img.Refs, ref) {
		img.Refs = append(img.Refs, ref)
	}
}

// addDockerNames takes the names from the manifest.json that Docker writes beside a layout,
// for images that have none in index.json. The configuration tells which is which.
func (s *Source) addDockerNames() error {
	raw, err := s.readFile("manifest.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	items, err := parseDocker(raw)
	if err != nil {
		return err
	}
	for i := range s.images {
		img := &s.images[i]
		if len(img.Refs) > 0 || !oci.IsManifest(img.Desc.MediaType) {
			continue
		}
		raw, err := s.Manifest(img.Desc)
		if err != nil {
			return err
		}
		var m oci.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return badJSON(string(img.Desc.Digest), err)
		}
		for _, item := range items {
			if m.Config.Digest.Valid() && item.Config == blobName(m.Config.Digest) {
				if err := img.addTags(item.RepoTags); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func badJSON(name string, err error) error {
	return errs.New(errs.Corrupt, "read from archive", name, err).WithHint("the archive is damaged; save or copy it again")
}
