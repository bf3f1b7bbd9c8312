package oci

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// Digest is "algorithm:hex", as the OCI image specification writes it (descriptor.md,
// "Digests"). The algorithms are sha256 and sha512. It is not go-digest's type: that one
// compiles a regular expression at every start of the binary.
type Digest string

// ParseDigest checks the form of s.
func ParseDigest(s string) (Digest, error) {
	algo, hexa, _ := strings.Cut(s, ":")
	want := 0
	switch algo {
	case "sha256":
		want = 64
	case "sha512":
		want = 128
	default:
		return "", errs.Newf(errs.Invalid, "parse digest", s, "unknown algorithm (sha256 and sha512 are known)")
	}
	if len(hexa) != want || !isLowerHex(hexa) {
		return "", errs.Newf(errs.Invalid, "parse digest", s, "want lower-case hexadecimal digits of the full length")
	}
	return Digest(s), nil
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Valid reports whether d has the form that ParseDigest accepts. A digest that came from
// outside must be checked before it becomes part of a path.
func (d Digest) Valid() bool {
	_, err := ParseDigest(string(d))
	return err == nil
}

// Algorithm is the part before the colon.
func (d Digest) Algorithm() string {
	a, _, _ := strings.Cut(string(d), ":")
	return a
}

// Hex is the part after the colon.
func (d Digest) Hex() string {
	_, h, _ := strings.Cut(string(d), ":")
	return h
}

// Short is the first 12 digits, as people are shown it.
func (d Digest) Short() string {
	h := d.Hex()
	return h[:min(12, len(h))]
}

// NewHash returns the hash function of d's algorithm; sha256 for an unknown one, whose
// result then differs from d and fails the comparison.
func (d Digest) NewHash() hash.Hash {
	if d.Algorithm() == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

// Matches reports whether h, fed with the content, ends in d.
func (d Digest) Matches(h hash.Hash) bool { return hex.EncodeToString(h.Sum(nil)) == d.Hex() }

// SHA256 is the digest that h, a sha256 hash, stands at.
func SHA256(h hash.Hash) Digest { return Digest("sha256:" + hex.EncodeToString(h.Sum(nil))) }

// FromBytes is the sha256 digest of b.
func FromBytes(b []byte) Digest {
	s := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(s[:]))
}
