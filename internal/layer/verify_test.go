package layer

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

func TestVerify(t *testing.T) {
	b := []byte("some content of a blob")
	long := sha512.Sum512(b)
	good := oci.FromBytes(b)
	for _, c := range []struct {
		name   string
		digest oci.Digest
		size   int64
		come   []byte
		ok     bool
	}{
		{"right", good, int64(len(b)), b, true},
		{"size not known", good, -1, b, true},
		{"sha512", oci.Digest("sha512:" + hex.EncodeToString(long[:])), int64(len(b)), b, true},
		{"empty", oci.FromBytes(nil), 0, nil, true},
		{"changed", good, int64(len(b)), bytes.ToUpper(b), false},
		{"short", good, int64(len(b)), b[:5], false},
		{"nothing", good, int64(len(b)), nil, false},
		{"long", good, int64(len(b)), append(bytes.Clone(b), 0), false},
		{"announced as less", good, 5, b, false},
		{"short, size not known", good, -1, b[:5], false},
		{"unknown algorithm", "md5:d41d8cd98f00b204e9800998ecf8427e", -1, nil, false},
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"at once":       func(r io.Reader) io.Reader { return r },
			"a byte a time": iotest.OneByteReader,
			"end with data": iotest.DataErrReader,
		} {
			got, err := io.ReadAll(Verify(wrap(bytes.NewReader(c.come)), c.digest, c.size))
			if c.ok && (err != nil || !bytes.Equal(got, c.come)) {
				t.Errorf("%s, %s: %q, %v", c.name, how, got, err)
			}
			if !c.ok && !errs.Is(err, errs.Corrupt) {
				t.Errorf("%s, %s: %v", c.name, how, err)
			}
			if c.size >= 0 && int64(len(got)) > c.size {
				t.Errorf("%s, %s: %d bytes were handed out", c.name, how, len(got))
			}
		}
	}
	torn := errors.New("torn")
	if _, err := io.ReadAll(Verify(&tornReader{b[:3], torn}, good, int64(len(b)))); err != torn {
		t.Errorf("the source's error became %v", err)
	}
}
