// Package registries reads what the administrator says about registries: where the mirrors
// are, which registries may be spoken to without TLS, and which are blocked.
//
// Settings are read once for each command from Corten's registries.json and from Podman's
// registries.conf, and looked up by the name of the image that is about to be pulled.
package registries

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Registry is what the administrator says about the images whose name starts with Prefix.
// The names are those of containers-registries.conf(5), with "-" written as "_" in JSON.
type Registry struct {
	Prefix             string   `json:"prefix"`                          // host[:port][/path], or *.domain
	Location           string   `json:"location,omitempty"`              // read from here instead
	Insecure           bool     `json:"insecure,omitempty"`              // accept plain http and unknown certificates
	Blocked            bool     `json:"blocked,omitempty"`               // refuse to pull
	MirrorByDigestOnly bool     `json:"mirror_by_digest_only,omitempty"` // ask mirrors only for digests
	Mirrors            []Mirror `json:"mirrors,omitempty"`               // asked first, in this order

	File string `json:"-"` // that said so
}

// Mirror is a copy of (a part of) a registry.
type Mirror struct {
	Location       string `json:"location"` // stands for the prefix
	Insecure       bool   `json:"insecure,omitempty"`
	PullFromMirror string `json:"pull_from_mirror,omitempty"` // all, digest-only, tag-only; "" is all
}

const (
	pullAll        = "all"
	pullDigestOnly = "digest-only"
	pullTagOnly    = "tag-only"
)

// Load reads the settings of registries: Podman's registries.conf at conf with
// its drop-in folder conf.d beside it, then Corten's own at jsonFile, a JSON object
// {"registries": [...]} of Registry. Later entries replace earlier ones of the same prefix.
// Files that do not exist say nothing; "" is such a file.
func Load(jsonFile, conf string) ([]Registry, error) {
	var all []Registry
	confs := []string{conf}
	if conf != "" {
		dropIns, err := filepath.Glob(filepath.Join(conf+".d", "*.conf")) // sorted
		if err != nil {
			return nil, errs.New(errs.Invalid, "read registry settings", conf, err)
		}
		confs = append(confs, dropIns...)
	}
	for _, file := range confs {
		text, err := readSettings(file)
		if err != nil {
			return nil, err
		}
		list, err := parseRegistriesConf(string(text))
		if err == nil {
			list, err = checkRegistries(list, file)
		}
		if err != nil {
			return nil, errs.New(errs.Invalid, "read registry settings", file, err).
				WithHint("Podman reads this file too; its form is described in containers-registries.conf(5)")
		}
		all = override(all, list)
	}
	text, err := readSettings(jsonFile)
	if err != nil {
		return nil, err
	}
	list, err := parseRegistriesJSON(text)
	if err == nil {
		list, err = checkRegistries(list, jsonFile)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "read registry settings", jsonFile, err).
			WithHint(`the form is {"registries": [{"prefix": "docker.io", "insecure": false, "mirrors": [{"location": "mirror:5000"}]}]}`)
	}
	return override(all, list), nil
}

func readSettings(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, errs.Wrap("read registry settings", file, err)
}

func parseRegistriesJSON(text []byte) ([]Registry, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var doc struct {
		Registries []Registry `json:"registries"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields() // a misspelt "blocked" must not be overlooked
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	return doc.Registries, nil
}

// parseRegistriesConf reads registries.conf, version 2. Settings about short names and
// credential helpers are of no concern here.
func parseRegistriesConf(text string) ([]Registry, error) {
	var list []Registry
	doc, err := parseTOML(text)
	if err != nil {
		return nil, err
	}
	if _, old := doc["registries"]; old {
		return nil, errors.New("version 1 of the format ([registries.search] and so on) is not read; write [[registry]] tables")
	}
	tables, err := doc.tables("registry")
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		in := &reader{t: t}
		r := Registry{
			Prefix: in.text("prefix"), Location: in.text("location"), Insecure: in.flag("insecure"),
			Blocked: in.flag("blocked"), MirrorByDigestOnly: in.flag("mirror-by-digest-only"),
		}
		mirrors, err := t.tables("mirror")
		if err != nil {
			return nil, err
		}
		for _, m := range mirrors {
			in.t = m
			r.Mirrors = append(r.Mirrors, Mirror{
				Location: in.text("location"), Insecure: in.flag("insecure"), PullFromMirror: in.text("pull-from-mirror"),
			})
		}
		if in.err != nil {
			return nil, in.err
		}
		list = append(list, r)
	}
	return list, nil
}

// checkRegistries fills the defaults in and refuses what could not work.
func checkRegistries(list []Registry, file string) ([]Registry, error) {
	for i := range list {
		r := &list[i]
		r.File = file
		if r.Prefix == "" {
			r.Prefix = r.Location
		}
		r.Prefix, r.Location = strings.TrimRight(r.Prefix, "/"), strings.TrimRight(r.Location, "/")
		if r.Prefix == "" {
			return nil, errors.New("a registry has neither prefix nor location")
		}
		if err := checkLocation(strings.TrimPrefix(r.Prefix, "*.")); err != nil {
			return nil, err
		}
		if r.Location != "" {
			if err := checkLocation(r.Location); err != nil {
				return nil, err
			}
		}
		for j := range r.Mirrors {
			m := &r.Mirrors[j]
			m.Location = strings.TrimRight(m.Location, "/")
			if err := checkLocation(m.Location); err != nil {
				return nil, err
			}
			if m.PullFromMirror != "" && !slices.Contains([]string{pullAll, pullDigestOnly, pullTagOnly}, m.PullFromMirror) {
				return nil, errors.New("mirror " + m.Location + ": pull-from-mirror is all, digest-only or tag-only, not " + m.PullFromMirror)
			}
		}
	}
	return list, nil
}

// checkLocation wants host[:port][/path], not a URL.
func checkLocation(s string) error {
	switch {
	case s == "" || s[0] == '/':
		return errors.New("a location has no host")
	case strings.Contains(s, "://"):
		return errors.New("location " + s + " must not have a scheme: write host[:port][/path]")
	case strings.ContainsAny(s, " \t\r\n?#\\*%") || strings.Contains(s, "/.") || strings.Contains(s, "//"):
		return errors.New("location " + s + " is not of the form host[:port][/path]")
	}
	return nil
}

func override(list, by []Registry) []Registry {
	for _, r := range by {
		i := slices.IndexFunc(list, func(old Registry) bool { return old.Prefix == r.Prefix })
		if i < 0 {
			list = append(list, r)
		} else {
			list[i] = r
		}
	}
	return list
}

// Serves reports whether r's mirror m may be asked for ref.
func (r *Registry) Serves(m Mirror, ref oci.Ref) bool {
	switch m.PullFromMirror {
	case pullDigestOnly:
		return ref.Digest != ""
	case pullTagOnly:
		return ref.Digest == ""
	}
	return !r.MirrorByDigestOnly || ref.Digest != ""
}

// Find returns the settings with the longest prefix of ref's name and how many
// bytes of the name that prefix stands for.
func Find(list []Registry, ref oci.Ref) (*Registry, int) {
	var best *Registry
	matched, longest := 0, -1
	for i := range list {
		r := &list[i]
		if n, ok := r.matches(ref); ok && len(r.Prefix) > longest {
			best, matched, longest = r, n, len(r.Prefix)
		}
	}
	return best, matched
}

// matches knows the forms of containers-registries.conf(5): a host, a host and the start of
// a path, a whole reference, or *.DOMAIN.
func (r *Registry) matches(ref oci.Ref) (int, bool) {
	name := ref.Name()
	if suffix, ok := strings.CutPrefix(r.Prefix, "*"); ok {
		host, _, _ := strings.Cut(ref.Registry, ":")
		return len(ref.Registry), strings.HasSuffix(host, suffix)
	}
	rest, ok := strings.CutPrefix(name, r.Prefix)
	if ok && (rest == "" || rest[0] == '/') {
		return len(r.Prefix), true
	}
	tagged := ref.Tag != "" && r.Prefix == name+":"+ref.Tag
	pinned := ref.Digest != "" && r.Prefix == name+"@"+string(ref.Digest)
	return len(name), tagged || pinned
}
