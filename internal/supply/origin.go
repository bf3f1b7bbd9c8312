package supply

import (
	"context"
	"io"

	"github.com/cortenhq/corten/internal/archive"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry"
)

// maxConfig is how many bytes an image configuration may have. Docker's own are a few
// kilobytes; a history of thousands of steps is still below.
const maxConfig = 8 << 20

// origin is where an image is read from: a repository of a registry, or an archive.
type origin interface {
	// Manifest returns a manifest or index, checked against its digest.
	Manifest(ctx context.Context, d oci.Descriptor) ([]byte, error)
	// Config returns an image configuration, checked against its digest.
	Config(ctx context.Context, d oci.Descriptor) ([]byte, error)
	// Blob streams a layer, unchecked.
	Blob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error)
}

// repository is the origin that a reference names.
type repository struct {
	client *registry.Client
	ref    oci.Ref
}

func (r repository) Manifest(ctx context.Context, d oci.Descriptor) ([]byte, error) {
	return r.client.Manifest(ctx, r.ref, d)
}

func (r repository) Config(ctx context.Context, d oci.Descriptor) ([]byte, error) {
	return r.client.ReadBlob(ctx, r.ref, d, maxConfig)
}

func (r repository) Blob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	return r.client.Blob(ctx, r.ref, d)
}

// archived is an opened archive as an origin.
type archived struct{ *archive.Source }

func (a archived) Manifest(_ context.Context, d oci.Descriptor) ([]byte, error) {
	return a.Source.Manifest(d)
}

func (a archived) Config(_ context.Context, d oci.Descriptor) ([]byte, error) {
	return a.Source.ReadBlob(d, maxConfig)
}

func (a archived) Blob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	r, err := a.Source.Blob(d)
	if err != nil {
		return nil, err
	}
	return &canceling{ctx, r}, nil
}

// canceling ends a stream with its context, as one from the network does by itself.
type canceling struct {
	ctx context.Context
	io.ReadCloser
}

func (c *canceling) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.ReadCloser.Read(p)
}
