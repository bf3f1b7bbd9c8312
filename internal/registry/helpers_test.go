package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// quick keeps the pauses between tries short.
func quick() Retry {
	return Retry{Attempts: 4, Delay: time.Microsecond, MaxDelay: 20 * time.Millisecond}
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.Retry == (Retry{}) {
		cfg.Retry = quick()
	}
	c := New(cfg)
	t.Cleanup(c.Close)
	return c
}

// newRegistry is a whole registry in this process.
func newRegistry() http.Handler {
	return ggcr.New(ggcr.Logger(quietLog()))
}

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }

// serve returns the host:port of a plain http server.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func mustRef(t *testing.T, s string) oci.Ref {
	t.Helper()
	ref, err := oci.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// push writes a random image under ref and returns it.
func push(t *testing.T, ref string, layerBytes, layers int64, opts ...remote.Option) v1.Image {
	t.Helper()
	img, err := random.Image(layerBytes, layers)
	if err != nil {
		t.Fatal(err)
	}
	at, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(at, img, opts...); err != nil {
		t.Fatal(err)
	}
	return img
}

// pull reads everything that ref names and checks each digest.
func pull(ctx context.Context, c *Client, ref oci.Ref) (oci.Manifest, error) {
	desc, raw, err := c.Resolve(ctx, ref)
	if err != nil {
		return oci.Manifest{}, err
	}
	if oci.IsIndex(desc.MediaType) {
		idx, err := ParseIndex(raw)
		if err != nil {
			return oci.Manifest{}, err
		}
		if desc, err = oci.Select(idx, oci.Platform{OS: "linux", Architecture: "amd64"}); err != nil {
			return oci.Manifest{}, err
		}
		if raw, err = c.Manifest(ctx, ref, desc); err != nil {
			return oci.Manifest{}, err
		}
	}
	m, err := ParseManifest(raw)
	if err != nil {
		return m, err
	}
	if _, err := c.ReadBlob(ctx, ref, m.Config, 1<<20); err != nil {
		return m, err
	}
	for _, l := range m.Layers {
		if err := readBlob(ctx, c, ref, l); err != nil {
			return m, err
		}
	}
	return m, nil
}

func readBlob(ctx context.Context, c *Client, ref oci.Ref, d oci.Descriptor) error {
	r, err := c.Blob(ctx, ref, d)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	if !d.Digest.Matches(h) {
		return errors.New("wrong digest delivered")
	}
	return nil
}

// rig stands before a handler, sees every request, and may answer itself.
type rig struct {
	next  http.Handler
	fault func(w http.ResponseWriter, r *http.Request, n int) bool // n counts requests like this; true: answered

	mu    sync.Mutex
	seen  map[string]int
	heads []http.Header // of all requests
	lines []string      // method and path
}

func (g *rig) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	if g.seen == nil {
		g.seen = map[string]int{}
	}
	line := r.Method + " " + r.URL.Path
	n := g.seen[line]
	g.seen[line]++
	g.heads = append(g.heads, r.Header.Clone())
	g.lines = append(g.lines, line)
	g.mu.Unlock()
	if g.fault != nil && g.fault(w, r, n) {
		return
	}
	g.next.ServeHTTP(w, r)
}

func (g *rig) count(prefix string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, l := range g.lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

func (g *rig) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen, g.heads, g.lines = nil, nil, nil
}

// cutWriter breaks the connection after left bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	c.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func isBlob(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

// blobServer serves one blob of random bytes at every blob path, with correct ranges.
func blobServer(size int) (http.Handler, []byte, oci.Descriptor) {
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(uint64(size), 1))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
	return h, data, oci.Descriptor{MediaType: oci.TypeLayer, Digest: oci.FromBytes(data), Size: int64(size)}
}

// wantError checks kind, words and that there is a hint.
func wantError(t *testing.T, err error, kind errs.Kind, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v %q", kind, says)
	}
	if !errs.Is(err, kind) {
		t.Errorf("%v: kind %v, want %v", err, errs.KindOf(err), kind)
	}
	if errs.HintOf(err) == "" && kind != errs.Canceled {
		t.Errorf("%v: no hint", err)
	}
	text := err.Error() + " [" + errs.HintOf(err) + "]"
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("%s: does not say %q", text, s)
		}
	}
}

// reverseProxy passes requests on to host.
func reverseProxy(host string) http.Handler {
	return httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
}
