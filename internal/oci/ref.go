package oci

import (
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

const (
	hubRegistry  = "docker.io"
	hubLegacy    = "index.docker.io" // what Docker's first releases called it; still in use
	hubOfficial  = "library/"        // where the hub keeps names without a slash
	defaultTag   = "latest"
	maxRepoBytes = 255 // of Ref.Repository; the distribution specification's advice and Docker's rule
	maxTagBytes  = 128 // distribution-spec, "Pulling manifests"
)

// Ref is a complete name of an image: "registry/repository", then a tag, a digest or both.
// ParseRef makes it from what people write; with both, the digest decides and the tag is
// for the reader.
type Ref struct {
	Registry   string // host, with its port if one was written: "docker.io", "[::1]:5000"
	Repository string // "library/debian"
	Tag        string // "latest" when neither tag nor digest was written
	Digest     Digest // "" when only a tag was written
}

// ParseRef reads s by Docker's rules: a first component that is not a host name means
// docker.io, a name without a slash means library/NAME there, and neither tag nor digest
// means the tag latest. It accepts what distribution/reference accepts, but for a host name
// with an underscore (which that one takes for a path without a host) and sha384 digests.
func ParseRef(s string) (Ref, error) {
	if s == "" {
		return Ref{}, refError(s, "the name is empty", "write it as [registry/]name[:tag][@digest]")
	}
	if len(s) == 64 && isLowerHex(s) {
		return Ref{}, refError(s, "64 hexadecimal digits are an identifier, not a name", "to name an image by digest write name@sha256:"+s)
	}
	var r Ref
	rest := s
	if i := strings.IndexByte(rest, '@'); i >= 0 {
		d, err := ParseDigest(rest[i+1:])
		if err != nil {
			return Ref{}, refError(s, "the digest after \"@\" is not valid", "write it as @sha256: and 64 lower-case hexadecimal digits")
		}
		r.Digest, rest = d, rest[:i]
	}
	r.Registry, rest = splitRegistry(rest)
	if i := strings.IndexByte(rest, ':'); i >= 0 {
		r.Tag, rest = rest[i+1:], rest[:i]
		if !validTag(r.Tag) {
			return Ref{}, refError(s, "the tag "+quote(r.Tag)+" is not valid",
				"a tag is 1 to 128 letters, digits, \"_\", \".\" or \"-\" and starts with none of the last two")
		}
	} else if r.Digest == "" {
		r.Tag = defaultTag
	}
	r.Repository = rest
	if r.Registry == hubRegistry && strings.IndexByte(rest, '/') < 0 {
		r.Repository = hubOfficial + rest
	}
	if err := r.check(s, rest); err != nil {
		return Ref{}, err
	}
	return r, nil
}

// splitRegistry takes the registry's host off s, which may still end in a tag. A first
// component is a host if it could not be part of a repository on the hub as people name
// them: it is localhost, has a dot, a port or a capital letter.
func splitRegistry(s string) (registry, rest string) {
	first, after, slash := strings.Cut(s, "/")
	switch {
	case !slash:
		return hubRegistry, s
	case first == hubLegacy:
		return hubRegistry, after
	case isHostLike(first):
		return first, after
	}
	return hubRegistry, s
}

func isHostLike(first string) bool {
	if first == "localhost" {
		return true
	}
	for i := range len(first) {
		if c := first[i]; c == '.' || c == ':' || c >= 'A' && c <= 'Z' {
			return true
		}
	}
	return false
}

// check reports the first part of r that breaks the grammar; written is the repository as
// it stood in s.
func (r Ref) check(s, written string) error {
	if !validHost(r.Registry) {
		return refError(s, "the registry "+quote(r.Registry)+" is not a host name with an optional port",
			"a host is letters, digits, \"-\" and \".\", or an IPv6 address in brackets")
	}
	if written == "" {
		return refError(s, "the repository is missing", "write it as [registry/]name[:tag][@digest]")
	}
	if len(r.Repository) > maxRepoBytes {
		return refError(s, "the repository is longer than 255 characters", "choose a shorter name")
	}
	for part := range strings.SplitSeq(written, "/") {
		if validComponent(part) {
			continue
		}
		if lower := strings.ToLower(part); lower != part && validComponent(lower) {
			return refError(s, "the repository has capital letters in "+quote(part), "write "+lower)
		}
		if part == "" {
			return refError(s, "the repository has an empty component", "remove the extra \"/\"")
		}
		return refError(s, "the repository component "+quote(part)+" is not valid",
			"use lower-case letters and digits, joined by one \".\", one or two \"_\", or any number of \"-\"")
	}
	return nil
}

// String is the full form, which ParseRef reads back to the same Ref.
func (r Ref) String() string {
	return join(r.Registry+"/"+r.Repository, r.Tag, r.Digest)
}

// Name is the registry and repository without tag and digest.
func (r Ref) Name() string { return r.Registry + "/" + r.Repository }

// Familiar is the shortest form that ParseRef reads back to the same Ref, for people.
func (r Ref) Familiar() string {
	name := r.Repository
	if r.Registry != hubRegistry {
		return join(r.Registry+"/"+name, r.Tag, r.Digest)
	}
	if official := strings.TrimPrefix(name, hubOfficial); strings.IndexByte(official, '/') < 0 {
		name = official
	} else if first, _, _ := strings.Cut(name, "/"); isHostLike(first) {
		name = hubRegistry + "/" + name // without it the first component would be read as a host
	}
	return join(name, r.Tag, r.Digest)
}

// Wanted is what a registry is asked for: the digest if there is one, else the tag.
func (r Ref) Wanted() string {
	if r.Digest != "" {
		return string(r.Digest)
	}
	return r.Tag
}

func join(name, tag string, d Digest) string {
	if tag != "" {
		name += ":" + tag
	}
	if d != "" {
		name += "@" + string(d)
	}
	return name
}

// validHost accepts a domain name, an IPv4 address or a bracketed IPv6 address without
// zone, and an optional port of digits.
func validHost(s string) bool {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 2 {
			return false
		}
		for i := 1; i < end; i++ {
			if !isHexOrColon(s[i]) {
				return false
			}
		}
		return end+1 == len(s) || validPort(s[end+1:])
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		if !validPort(s[i:]) {
			return false
		}
		s = s[:i]
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

// validPort wants a colon and at least one digit; the dialer checks the range.
func validPort(s string) bool {
	if len(s) < 2 || s[0] != ':' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func validLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && !isAlnum(c) {
			return false
		}
	}
	return true
}

// validComponent: runs of lower-case letters and digits with ".", "_", "__" or any number
// of "-" between them.
func validComponent(s string) bool {
	i := 0
	for {
		start := i
		for i < len(s) && isLowerAlnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		switch sep := s[i]; sep {
		case '.':
			i++
		case '_':
			i++
			if i < len(s) && s[i] == '_' {
				i++
			}
		case '-':
			for i < len(s) && s[i] == '-' {
				i++
			}
		default:
			return false
		}
	}
}

func validTag(s string) bool {
	if s == "" || len(s) > maxTagBytes || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isAlnum(c byte) bool { return isLowerAlnum(c) || c >= 'A' && c <= 'Z' }

func isHexOrColon(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == ':'
}

// quote shows a part of a name that may hold anything, on one line and not too long.
func quote(s string) string {
	const most = 40 // bytes
	if len(s) > most {
		s = s[:most] + "..."
	}
	clean := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '"' {
			return '?'
		}
		return c
	}, s)
	return `"` + clean + `"`
}

func refError(s, what, hint string) error {
	return errs.Newf(errs.Invalid, "parse reference", quote(s), what).WithHint(hint)
}
