package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// MaxManifest is how many bytes a manifest or index may have: the size that the
// distribution specification says every registry must accept.
const MaxManifest = 4 << 20

// acceptManifests is sent in one line, for some servers look at the first only.
const acceptManifests = oci.TypeIndex + ", " + oci.TypeManifest + ", " + oci.TypeDockerList + ", " + oci.TypeDockerManifest + ", */*"

// Head returns the descriptor of what ref names now, without the bytes where the registry
// can say so: it costs no pull where pulls are counted.
func (c *Client) Head(ctx context.Context, ref oci.Ref) (oci.Descriptor, error) {
	const op = "look up"
	var desc oci.Descriptor
	err := c.each(ctx, ref, op, func(ep endpoint) error {
		resp, err := c.do(ctx, ep, request{
			method: http.MethodHead, path: "manifests/" + ref.Wanted(), accept: acceptManifests,
			event: Event{Object: "digest of " + ref.Familiar()},
		})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		mediaType := contentType(resp)
		digest, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
		known := err == nil && (oci.IsIndex(mediaType) || oci.IsManifest(mediaType)) &&
			resp.ContentLength > 0 && resp.ContentLength <= MaxManifest && (ref.Digest == "" || ref.Digest == digest)
		if !known {
			desc, _, err = c.manifest(ctx, ep, ref, ref.Wanted())
			return err
		}
		desc = oci.Descriptor{MediaType: mediaType, Digest: digest, Size: resp.ContentLength}
		return nil
	})
	return desc, err
}

// Resolve returns what ref names now, an index or a manifest: its descriptor and its bytes,
// which are what the digest says.
func (c *Client) Resolve(ctx context.Context, ref oci.Ref) (oci.Descriptor, []byte, error) {
	var (
		desc oci.Descriptor
		raw  []byte
	)
	err := c.each(ctx, ref, "pull", func(ep endpoint) (err error) {
		desc, raw, err = c.manifest(ctx, ep, ref, ref.Wanted())
		return err
	})
	return desc, raw, err
}

// Manifest returns the bytes of a manifest or index of ref's repository that desc describes.
func (c *Client) Manifest(ctx context.Context, ref oci.Ref, desc oci.Descriptor) ([]byte, error) {
	if !desc.Digest.Valid() {
		return nil, errs.Newf(errs.Invalid, "pull", ref.Familiar(), "a manifest's digest is not valid")
	}
	if desc.Size > MaxManifest {
		return nil, tooLarge(desc.Size)
	}
	var raw []byte
	pinned := ref
	pinned.Digest = desc.Digest // so that mirrors for digests only are asked
	err := c.each(ctx, pinned, "pull", func(ep endpoint) error {
		_, got, err := c.manifest(ctx, ep, pinned, string(desc.Digest))
		if err == nil && int64(len(got)) != desc.Size {
			return errs.Newf(errs.Corrupt, "get manifest", string(desc.Digest), "it has another size than its descriptor says").
				WithHint("the index is wrong about its manifest; it must be pushed again")
		}
		raw = got
		return err
	})
	return raw, err
}

// ReadBlob returns a whole small blob, such as an image configuration, checked against its
// digest; limit is in bytes.
func (c *Client) ReadBlob(ctx context.Context, ref oci.Ref, desc oci.Descriptor, limit int64) ([]byte, error) {
	if desc.Size > limit {
		return nil, errs.Newf(errs.Invalid, "get blob", string(desc.Digest), "it has "+strconv.FormatInt(desc.Size, 10)+" bytes, more than is sensible for its kind")
	}
	r, err := c.Blob(ctx, ref, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return raw, checkDigest(raw, desc.Digest, "get blob")
}

// each calls f for the endpoints of ref until one succeeds. The error is that of the last,
// the registry itself, and names what the mirrors before it said.
func (c *Client) each(ctx context.Context, ref oci.Ref, op string, f func(endpoint) error) error {
	list, err := c.endpoints(ref)
	if err != nil {
		return err
	}
	var mirrors []string
	for i, ep := range list {
		if err = f(ep); err == nil || ctx.Err() != nil {
			break
		}
		if i < len(list)-1 {
			mirrors = append(mirrors, err.Error())
		}
	}
	if err == nil {
		return nil
	}
	e := errs.New(errs.KindOf(err), op, ref.Familiar(), err)
	if len(mirrors) > 0 {
		e.Err = &mirroredError{err: err, mirrors: strings.Join(mirrors, "; ")}
	}
	return e
}

// mirroredError adds to a registry's error what the mirrors before it answered.
type mirroredError struct {
	err     error
	mirrors string
}

func (e *mirroredError) Error() string { return e.err.Error() + " (mirrors: " + e.mirrors + ")" }
func (e *mirroredError) Unwrap() error { return e.err }

// manifest gets and checks one manifest or index from one endpoint; wanted is a tag or digest.
func (c *Client) manifest(ctx context.Context, ep endpoint, ref oci.Ref, wanted string) (oci.Descriptor, []byte, error) {
	var none oci.Descriptor
	raw, resp, err := c.manifestBytes(ctx, ep, ref, wanted)
	if err != nil {
		return none, nil, err
	}
	digest, err := oci.ParseDigest(wanted)
	if err != nil { // a tag: the server's word on the digest is checked like an order
		digest, err = oci.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
		if err != nil {
			digest = oci.FromBytes(raw)
		}
	}
	if err := checkDigest(raw, digest, "get manifest"); err != nil {
		return none, nil, err
	}
	mediaType, err := classify(raw, contentType(resp))
	if err != nil {
		return none, nil, err
	}
	return oci.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(raw))}, raw, nil
}

// manifestBytes repeats a request whose answer was cut short; there is nothing to resume.
func (c *Client) manifestBytes(ctx context.Context, ep endpoint, ref oci.Ref, wanted string) ([]byte, *http.Response, error) {
	r := request{
		method: http.MethodGet, path: "manifests/" + wanted, accept: acceptManifests,
		event: Event{Object: "manifest " + ref.Familiar()},
	}
	for n := 1; ; n++ {
		resp, err := c.do(ctx, ep, r)
		if err != nil {
			return nil, nil, err
		}
		raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
		resp.Body.Close()
		if err == nil {
			if len(raw) > MaxManifest {
				return nil, nil, tooLarge(resp.ContentLength)
			}
			return raw, resp, nil
		}
		worded, again := connError(ep.host, err)
		if !again || n >= c.cfg.Retry.Attempts {
			return nil, nil, worded
		}
		r.event.Retry = worded
		c.report(r.event)
		if err := wait(ctx, c.backoff(n)); err != nil {
			return nil, nil, errs.New(errs.Canceled, "", ep.host, err)
		}
	}
}

func tooLarge(size int64) error {
	text := "the manifest has more than 4 MiB"
	if size > 0 {
		text += ": " + strconv.FormatInt(size, 10) + " bytes"
	}
	return errs.Newf(errs.Invalid, "get manifest", "", text).WithHint("no image needs that much; check that the name is that of an image")
}

func checkDigest(raw []byte, want oci.Digest, op string) error {
	h := want.NewHash()
	h.Write(raw)
	if want.Valid() && want.Matches(h) {
		return nil
	}
	return errs.Newf(errs.Corrupt, op, string(want), "the bytes received have another digest").
		WithHint("something between here and the registry alters what it sends: check mirrors and proxies")
}

func contentType(resp *http.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// shape is what tells manifests and indexes apart.
type shape struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     json.RawMessage `json:"manifests"`
	Config        json.RawMessage `json:"config"`
	Layers        json.RawMessage `json:"layers"`
	FSLayers      json.RawMessage `json:"fsLayers"` // schema 1
}

// classify returns the media type of a manifest or index: what the document says of itself,
// else what the server says, else what it looks like. A document that is both could mean
// different things to different readers (CVE-2021-41190) and is refused.
func classify(raw []byte, served string) (string, error) {
	var s shape
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", errs.Newf(errs.Corrupt, "read manifest", "", "it is not a JSON object").
			WithHint("check that the address is that of a registry and not of a web page")
	}
	if present(s.FSLayers) || s.SchemaVersion == 1 || strings.HasPrefix(served, "application/vnd.docker.distribution.manifest.v1+") {
		return "", errs.Newf(errs.Unsupported, "read manifest", "", "the image is in Docker's schema 1 format, given up in 2017").
			WithHint("push it again with a current tool, for example: skopeo copy --format v2s2 docker://OLD docker://NEW")
	}
	index, manifest := present(s.Manifests), present(s.Layers) || present(s.Config)
	if index == manifest {
		return "", errs.Newf(errs.Corrupt, "read manifest", "", "it is neither clearly an index nor clearly a manifest").
			WithHint("check that the name is that of a container image")
	}
	t := s.MediaType
	if t == "" && (oci.IsIndex(served) || oci.IsManifest(served)) {
		t = served
	}
	switch {
	case oci.IsIndex(t) && index, oci.IsManifest(t) && manifest:
		return t, nil
	case t != "":
		return "", errs.Newf(errs.Unsupported, "read manifest", "", "its content and its type "+clean(t)+" are not those of an image").
			WithHint("check that the name is that of a container image")
	case index:
		return oci.TypeIndex, nil
	}
	return oci.TypeManifest, nil
}

// present: encoding/json keeps a null as the bytes "null".
func present(m json.RawMessage) bool { return m != nil && !bytes.Equal(m, []byte("null")) }

// ParseIndex reads an index or manifest list and checks its descriptors' form.
func ParseIndex(raw []byte) (oci.Index, error) {
	var idx oci.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return idx, errs.New(errs.Corrupt, "read index", "", err)
	}
	for _, d := range idx.Manifests {
		if err := checkDescriptor(d); err != nil {
			return idx, errs.New(errs.Corrupt, "read index", "", err)
		}
	}
	return idx, nil
}

// ParseManifest reads the manifest of a container image and refuses what Corten cannot run:
// artifacts that are no images, layers in unknown formats, and layers that lie elsewhere.
func ParseManifest(raw []byte) (oci.Manifest, error) {
	const op = "read manifest"
	var m oci.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, errs.New(errs.Corrupt, op, "", err)
	}
	for _, d := range append([]oci.Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(d); err != nil {
			return m, errs.New(errs.Corrupt, op, "", err)
		}
	}
	if t := m.Config.MediaType; t != oci.TypeConfig && t != oci.TypeDockerConfig {
		what := t
		if m.ArtifactType != "" {
			what = m.ArtifactType
		}
		return m, errs.Newf(errs.Unsupported, op, "", "it is an artifact of type "+clean(what)+", not a container image").
			WithHint("such artifacts (charts, signatures, models) have tools of their own")
	}
	for _, l := range m.Layers {
		if foreign(l) {
			return m, errs.Newf(errs.Unsupported, op, string(l.Digest), "the layer is not kept by the registry but at addresses in the manifest").
				WithHint("Corten fetches from the registry only; push the image again with its layers included")
		}
		if !knownLayer(l.MediaType) {
			return m, errs.Newf(errs.Unsupported, op, string(l.Digest), "the layer's type "+clean(l.MediaType)+" is not known").
				WithHint("tar, tar+gzip and tar+zstd are; an encrypted layer must be decrypted first")
		}
	}
	return m, nil
}

func checkDescriptor(d oci.Descriptor) error {
	if !d.Digest.Valid() {
		return errors.New("a digest is not valid: " + clean(string(d.Digest)))
	}
	if d.Size < 0 {
		return errors.New("the size of " + string(d.Digest) + " is negative")
	}
	return nil
}

func foreign(d oci.Descriptor) bool {
	return len(d.URLs) > 0 || d.MediaType == oci.TypeDockerForeign ||
		strings.HasPrefix(d.MediaType, "application/vnd.oci.image.layer.nondistributable.")
}

// knownLayer: the two Docker types beside its usual one are what BuildKit writes for
// uncompressed and zstd layers in a schema 2 manifest.
func knownLayer(t string) bool {
	switch t {
	case oci.TypeLayer, oci.TypeLayerGzip, oci.TypeLayerZstd, oci.TypeDockerLayer,
		"application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.zstd":
		return true
	}
	return false
}
