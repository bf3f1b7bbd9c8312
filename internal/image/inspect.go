package image

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Details is all that is known of an image, with the names that Docker gives it.
type Details struct {
	ID           oci.Digest `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      time.Time
	Author       string
	Config       ConfigDetails
	Architecture string
	Variant      string `json:",omitempty"`
	OS           string `json:"Os"`
	OSVersion    string `json:"OsVersion,omitempty"`
	Size         int64
	RootFS       struct {
		Type   string
		Layers []oci.Digest
	}
	Descriptor  oci.Descriptor // what the names lead to: the manifest, or an index
	GraphDriver struct {
		Name string            // "erofs" or "dir"
		Data map[string]string // "Tree", "Manifest"
	}
}

// ConfigDetails is an oci.Config of which nothing is left out: scripts ask for members that most
// images do not have.
type ConfigDetails struct {
	User         string
	ExposedPorts map[string]struct{}
	Env          []string
	Entrypoint   []string
	Cmd          []string
	Volumes      map[string]struct{}
	WorkingDir   string
	Labels       map[string]string
	StopSignal   string
	ArgsEscaped  bool
	Healthcheck  *oci.Healthcheck
	Shell        []string
	OnBuild      []string
}

func newConfigDetails(c oci.Config) ConfigDetails {
	for _, list := range []*[]string{&c.Env, &c.Entrypoint, &c.Cmd, &c.Shell, &c.OnBuild} {
		*list = append([]string{}, *list...)
	}
	for _, set := range []*map[string]struct{}{&c.ExposedPorts, &c.Volumes} {
		if *set == nil {
			*set = map[string]struct{}{}
		}
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	return ConfigDetails(c)
}

// Inspect describes an image.
func (l *Library) Inspect(ctx context.Context, name string, want *oci.Platform) (Details, error) {
	x, err := l.Find(name, want)
	if err != nil {
		return Details{}, err
	}
	raw, err := l.store.Blob(x.ID)
	if err != nil {
		return Details{}, err
	}
	var c oci.Image
	if err := json.Unmarshal(raw, &c); err != nil {
		return Details{}, errs.New(errs.Corrupt, "read image configuration", string(x.ID), err)
	}
	d := Details{ID: x.ID, Created: x.Created, Author: c.Author, Config: newConfigDetails(c.Config), Architecture: c.Architecture,
		Variant: c.Variant, OS: c.OS, OSVersion: c.OSVersion, Descriptor: x.Target}
	for _, h := range c.History {
		if h.Comment != "" {
			d.Comment = h.Comment // the last step's, as Docker has it
		}
	}
	d.RootFS.Type, d.RootFS.Layers = c.RootFS.Type, c.RootFS.DiffIDs
	if d.RepoTags, d.RepoDigests, err = l.names(x.Target.Digest); err != nil {
		return Details{}, err
	}
	if d.Size, err = l.size(ctx, x); err != nil {
		return Details{}, err
	}
	t, ok, err := l.Tree(x)
	d.GraphDriver.Name = t.Kind.String()
	d.GraphDriver.Data = map[string]string{"Manifest": string(x.Manifest)}
	if ok {
		d.GraphDriver.Data["Tree"] = t.Path
	}
	return d, err
}

// names are the references of an image, with tags and with its digest, as people write
// them.
func (l *Library) names(target oci.Digest) (tags, digests []string, err error) {
	list, err := l.store.Images()
	if err != nil {
		return nil, nil, err
	}
	tags, digests = []string{}, []string{} // lists in JSON, also when empty
	for _, im := range list {
		ref, perr := oci.ParseRef(im.Ref)
		if perr != nil || im.Descriptor.Digest != target {
			continue
		}
		if ref.Tag != "" {
			tags = append(tags, ref.Familiar())
		}
		ref.Tag, ref.Digest = "", target
		if d := ref.Familiar(); !slices.Contains(digests, d) {
			digests = append(digests, d)
		}
	}
	return tags, digests, nil
}
