// Package registry reads images from servers that speak the OCI distribution
// specification 1.1: the pull side of it, and nothing that writes.
//
// The life of a pull: Head or Resolve turns a reference into a descriptor and, for
// Resolve, the manifest's bytes. The reference becomes a list of endpoints, the configured
// mirrors and then the registry itself, tried in that order. An endpoint that answers
// "unauthorized" says how it wants to be asked; the credentials are looked up only then,
// and the token is kept until it expires. Select picks the manifest for a machine from an
// index; Manifest fetches it; Blob streams each layer and goes on where a cut connection
// stopped. Manifests are checked against their digest here, blobs by whoever reads them;
// a blob's reader promises only that byte n is the server's byte n.
package registry

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry/registries"
)

// Config is what a Client is made of. The zero value is an anonymous client with the
// system's certificate authorities.
type Config struct {
	UserAgent   string
	Auth        Auth                  // nil: always anonymous
	Registries  []registries.Registry // mirrors, insecure and blocked registries
	CertDirs    []string              // each may hold HOST[:PORT]/ with *.crt (CA), *.cert and *.key (client)
	Retry       Retry
	IdleTimeout time.Duration // no byte for so long: the connection is dead; 0 means one minute
	Progress    func(Event)   // nil, or called from any goroutine that reads; must be quick
}

// Retry bounds how often a request that may succeed later is sent again. The pause before
// the second try is around Delay and doubles with each further one, up to MaxDelay.
type Retry struct {
	Attempts int           // in a row without progress; 0 means 6
	Delay    time.Duration // 0 means 250 ms
	MaxDelay time.Duration // also the longest Retry-After that is waited for; 0 means 30 s
}

// Event tells how far a blob has come, or that a request is about to be repeated.
type Event struct {
	Object string     // what is asked for, in words
	Digest oci.Digest // of a blob; "" for a request about a tag
	Done   int64      // bytes handed to the reader so far
	Total  int64      // bytes of the whole
	Retry  error      // not nil: why the request is repeated
}

// Client talks to registries. It is safe for concurrent use and holds connections open
// between requests until Close.
type Client struct {
	cfg    Config
	shared *http.Transport // for hosts without certificates or exceptions of their own

	mu    sync.Mutex // guards the maps, never held while waiting for anything
	hosts map[hostKey]*host
	auths map[authKey]*authorizer
}

type hostKey struct {
	name     string // host[:port] as it is dialled
	insecure bool
}

// host is one server as this client knows it.
type host struct {
	transport *http.Transport
	plain     atomic.Bool // speaks http, found out by trying https first
	reached   atomic.Bool // answered before, so that a refused connection is a passing trouble
}

const (
	dialTimeout = 15 * time.Second
	readBuffer  = 64 << 10 // bytes a connection reads at once
	idlePerHost = 16       // connections kept for the next layer
)

// New returns a client; it opens no connection and reads no file.
func New(cfg Config) *Client {
	if cfg.UserAgent == "" {
		cfg.UserAgent = "corten"
	}
	if cfg.Retry.Attempts <= 0 {
		cfg.Retry.Attempts = 6
	}
	if cfg.Retry.Delay <= 0 {
		cfg.Retry.Delay = 250 * time.Millisecond
	}
	if cfg.Retry.MaxDelay <= 0 {
		cfg.Retry.MaxDelay = 30 * time.Second
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = time.Minute
	}
	c := &Client{cfg: cfg, hosts: map[hostKey]*host{}, auths: map[authKey]*authorizer{}}
	c.shared = c.newTransport()
	return c
}

// newTransport speaks HTTP/1.1 only: parallel layers get a connection and a kernel buffer
// each, where HTTP/2 would share one between them. Nothing is compressed on the way, for a
// layer is compressed already and its bytes are what the digest is about.
func (c *Client) newTransport() *http.Transport {
	var p http.Protocols
	p.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  c.cfg.IdleTimeout,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    idlePerHost,
		ReadBufferSize:         readBuffer,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true,
		Protocols:              &p,
	}
}

// Close closes the connections that no reader uses any more.
func (c *Client) Close() {
	c.shared.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hosts {
		h.transport.CloseIdleConnections()
	}
}

// host returns what is known about a server, reading its certificates at the first use.
func (c *Client) host(name string, insecure bool) (*host, error) {
	key := hostKey{name, insecure}
	c.mu.Lock()
	h := c.hosts[key]
	c.mu.Unlock()
	if h != nil {
		return h, nil
	}
	tlsConfig, err := loadTLS(c.cfg.CertDirs, name, insecure)
	if err != nil {
		return nil, err
	}
	h = &host{transport: c.shared}
	if tlsConfig != nil {
		h.transport = c.newTransport()
		h.transport.TLSClientConfig = tlsConfig
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if first := c.hosts[key]; first != nil {
		return first, nil
	}
	c.hosts[key] = h
	return h, nil
}

// report calls the progress hook.
func (c *Client) report(e Event) {
	if c.cfg.Progress != nil {
		c.cfg.Progress(e)
	}
}

// wait pauses for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// isLoopback reports whether host[:port] names this machine by address or as localhost:
// the only place where plain http is accepted without being asked for.
func isLoopback(name string) bool {
	h := name
	if host, _, err := net.SplitHostPort(name); err == nil {
		h = host
	}
	if h == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(h, "[]"))
	return ip != nil && ip.IsLoopback()
}
