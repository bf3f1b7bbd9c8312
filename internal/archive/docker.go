package archive

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strconv"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// dockerImage is one element of manifest.json, as docker save has written it since 1.10.
type dockerImage struct {
	Config   string   // name of the image configuration
	RepoTags []string // may be null
	Layers   []string // names, the lowest layer first
}

func parseDocker(raw []byte) ([]dockerImage, error) {
	var items []dockerImage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, badJSON("manifest.json", err)
	}
	return items, nil
}

// findDocker reads a docker archive and makes an OCI manifest for each image in it. It
// returns false if there is none.
func (s *Source) findDocker() (bool, error) {
	raw, err := s.readFile("manifest.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	items, err := parseDocker(raw)
	if err != nil {
		return false, err
	}
	for _, item := range items {
		img, err := s.makeImage(item)
		if err != nil {
			return false, err
		}
		if err := img.addTags(item.RepoTags); err != nil {
			return false, err
		}
		s.images = append(s.images, img)
	}
	if len(items) == 0 {
		return false, errs.Newf(errs.NotFound, "read from archive", "manifest.json", "there is no image in it").
			WithHint("save the image again")
	}
	return true, nil
}

func (img *Image) addTags(tags []string) error {
	for _, tag := range tags {
		ref, err := oci.ParseRef(tag)
		if err != nil {
			return errs.Wrap("read from archive", "manifest.json", err)
		}
		img.addRef(ref)
	}
	return nil
}

// makeImage makes the manifest of one image. It depends on nothing but the bytes of the
// configuration and the layers, so that one image saved twice is one image.
func (s *Source) makeImage(item dockerImage) (Image, error) {
	r, size, err := s.member(item.Config)
	if err != nil {
		return Image{}, err
	}
	defer r.Close()
	raw, err := readAll(r, item.Config, size, maxConfig)
	if err != nil {
		return Image{}, err
	}
	var config oci.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return Image{}, badJSON(printable(item.Config), err)
	}
	if len(config.RootFS.DiffIDs) != len(item.Layers) {
		return Image{}, errs.Newf(errs.Corrupt, "read from archive", printable(item.Config), "it speaks of "+strconv.Itoa(len(config.RootFS.DiffIDs))+
			" layers, manifest.json of "+strconv.Itoa(len(item.Layers))).WithHint("the archive is damaged; save or copy it again")
	}
	m := oci.Manifest{
		SchemaVersion: 2, MediaType: oci.TypeManifest, Layers: []oci.Descriptor{},
		Config: oci.Descriptor{MediaType: oci.TypeConfig, Digest: oci.FromBytes(raw), Size: int64(len(raw))},
	}
	s.names[m.Config.Digest], _ = cleanName(item.Config) // clean: it was opened
	for i, name := range item.Layers {
		layer, err := s.describeLayer(name, config.RootFS.DiffIDs[i])
		if err != nil {
			return Image{}, err
		}
		m.Layers = append(m.Layers, layer)
	}
	made, err := json.Marshal(m)
	if err != nil {
		return Image{}, errs.New(errs.Internal, "make manifest", "", err)
	}
	digest := oci.FromBytes(made)
	s.made[digest] = made
	platform := config.Platform
	return Image{Desc: oci.Descriptor{MediaType: oci.TypeManifest, Digest: digest, Size: int64(len(made)), Platform: &platform}}, nil
}

// describeLayer finds a layer's type by its first bytes. The digest of one that is not
// compressed is its DiffID, which whoever unpacks it checks; a compressed one is read
// through.
func (s *Source) describeLayer(name string, diffID oci.Digest) (oci.Descriptor, error) {
	if !diffID.Valid() {
		return oci.Descriptor{}, errs.Newf(errs.Corrupt, "read from archive", printable(name), "the configuration gives it no valid digest").
			WithHint("the archive is damaged; save or copy it again")
	}
	r, size, err := s.member(name)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer r.Close()
	head := make([]byte, 6)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return oci.Descriptor{}, errs.Wrap("read from archive", printable(name), err)
	}
	head = head[:n]
	d := oci.Descriptor{MediaType: oci.TypeLayer, Digest: diffID, Size: size}
	switch kind := compression(head); kind {
	case "":
	case "gzip", "zstd":
		d.MediaType = oci.TypeLayerGzip
		if kind == "zstd" {
			d.MediaType = oci.TypeLayerZstd
		}
		h := sha256.New()
		h.Write(head)
		if _, err := io.CopyBuffer(h, r, make([]byte, 256<<10)); err != nil {
			return d, errs.Wrap("read from archive", printable(name), err)
		}
		d.Digest = oci.SHA256(h)
	default:
		return d, errs.Newf(errs.Unsupported, "read from archive", printable(name), "the layer is compressed with "+kind).
			WithHint("save the image again with a current tool")
	}
	s.names[d.Digest], _ = cleanName(name) // clean: it was opened
	return d, nil
}

// member opens a file that manifest.json names.
func (s *Source) member(name string) (io.ReadCloser, int64, error) {
	clean, err := cleanName(name)
	if err != nil {
		return nil, 0, errs.Wrap("read from archive", "manifest.json", err)
	}
	r, size, err := s.files.open(clean)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, errs.Newf(errs.Corrupt, "read from archive", printable(name), "manifest.json names it but it is missing").
			WithHint("the archive is incomplete; save or copy it again")
	}
	return r, size, err
}
