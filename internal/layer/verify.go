package layer

import (
	"hash"
	"io"
	"strconv"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Verify returns a reader of r that ends in io.EOF only if what came is digest's content
// and, unless size is negative, has that many bytes. Otherwise it ends in an error of kind
// Corrupt; bytes beyond size are not handed out.
func Verify(r io.Reader, digest oci.Digest, size int64) io.Reader {
	return &verifier{r: r, digest: digest, size: size, sum: digest.NewHash()}
}

type verifier struct {
	r      io.Reader
	digest oci.Digest
	size   int64
	sum    hash.Hash
	n      int64
	end    error
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.end != nil {
		return 0, v.end
	}
	n, err := v.r.Read(p)
	if v.size >= 0 && int64(n) > v.size-v.n {
		v.end = v.corrupt("more bytes come than the " + strconv.FormatInt(v.size, 10) + " announced")
		return 0, v.end
	}
	v.n += int64(n)
	v.sum.Write(p[:n])
	if err == io.EOF {
		err = v.judge()
	}
	v.end = err
	return n, err
}

func (v *verifier) judge() error {
	switch {
	case v.size >= 0 && v.n != v.size:
		return v.corrupt("ends after " + strconv.FormatInt(v.n, 10) + " of " + strconv.FormatInt(v.size, 10) + " bytes")
	case !v.digest.Matches(v.sum):
		return v.corrupt("the content has another digest")
	}
	return io.EOF
}

func (v *verifier) corrupt(why string) error {
	return errs.Newf(errs.Corrupt, "verify", string(v.digest), why)
}
