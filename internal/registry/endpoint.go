package registry

import (
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry/registries"
)

// hubHost is where docker.io serves the API; the name itself is a web site.
const hubHost = "registry-1.docker.io"

// endpoint is one place where an image may be read from.
type endpoint struct {
	host     string // as in the URL
	registry string // as people write it: the name for credentials
	repo     string
	insecure bool // plain http and unknown certificates are accepted
	mirror   bool
}

func newEndpoint(location string, insecure, mirror bool) endpoint {
	registry, repo, _ := strings.Cut(location, "/")
	host := registry
	if registry == "docker.io" {
		host = hubHost
	}
	return endpoint{host: host, registry: registry, repo: repo, insecure: insecure, mirror: mirror}
}

// plainAllowed: may the server be spoken to without TLS?
func (e endpoint) plainAllowed() bool { return e.insecure || isLoopback(e.host) }

// name is the repository as messages and credential files name it.
func (e endpoint) name() string { return e.registry + "/" + e.repo }

// endpoints lists where to look for ref, in order: mirrors, then the registry.
func (c *Client) endpoints(ref oci.Ref) ([]endpoint, error) {
	r, matched := registries.Find(c.cfg.Registries, ref)
	if r == nil {
		return []endpoint{newEndpoint(ref.Name(), false, false)}, nil
	}
	if r.Blocked {
		return nil, errs.Newf(errs.Denied, "pull", ref.Familiar(), "the administrator blocked "+r.Prefix).
			WithHint("see " + r.File)
	}
	rest := ref.Name()[matched:] // "" or "/..."
	var list []endpoint
	for _, m := range r.Mirrors {
		if r.Serves(m, ref) {
			list = append(list, newEndpoint(m.Location+rest, m.Insecure, true))
		}
	}
	location := ref.Name()
	if r.Location != "" {
		location = r.Location + rest
	}
	return append(list, newEndpoint(location, r.Insecure, false)), nil
}
