package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// Blob streams a blob of ref's repository. A connection that breaks is replaced by one that
// asks for the rest; nothing is handed out twice, left out or shifted. The stream ends after
// exactly desc.Size bytes or with an error. The digest is for the reader to check.
func (c *Client) Blob(ctx context.Context, ref oci.Ref, desc oci.Descriptor) (io.ReadCloser, error) {
	if !desc.Digest.Valid() || desc.Size < 0 {
		return nil, errs.Newf(errs.Invalid, "get blob", string(desc.Digest), "the descriptor is not valid")
	}
	ref.Digest = desc.Digest // so that mirrors for digests only are asked
	places, err := c.endpoints(ref)
	if err != nil {
		return nil, err
	}
	b := &blob{ctx: ctx, c: c, places: places, desc: desc}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// goodRun is how many bytes one connection must bring for its end not to count as one more
// failure in a row: a server that cuts every connection early is given up.
const goodRun = 64 << 10

// blob is the state of one download.
type blob struct {
	ctx    context.Context
	c      *Client
	places []endpoint // not yet given up; the first is in use
	desc   oci.Descriptor

	body  io.ReadCloser // nil: no connection is open
	done  int64         // bytes handed out
	start int64         // done when body was opened
	part  int64         // done at which body ends; desc.Size unless the server sent a part
	fails int           // connections in a row that broke too early
	err   error         // final
}

func (b *blob) Read(p []byte) (int, error) {
	if len(p) == 0 && b.err == nil {
		return 0, nil
	}
	for b.err == nil {
		if b.done == b.desc.Size {
			b.err = b.finish()
			break
		}
		if b.body == nil {
			if b.err = b.open(); b.err != nil {
				break
			}
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.part-b.done)])
		b.done += int64(n)
		switch {
		case b.done == b.desc.Size:
		case b.done == b.part: // the server sent a part; the next connection brings the next
			b.drop()
		case err != nil:
			b.err = b.resume(err) // not before the n bytes are handed out
		}
		if n > 0 {
			b.c.report(b.event(nil))
			return n, nil
		}
	}
	return 0, b.err
}

// finish checks that the server has no more to say than it should.
func (b *blob) finish() error {
	if b.body == nil {
		return io.EOF
	}
	var one [1]byte
	n, _ := b.body.Read(one[:]) // an error costs nothing here: all bytes have come
	b.drop()
	if n > 0 {
		return b.wrap(b.wrong("the server sends more than the " + strconv.FormatInt(b.desc.Size, 10) + " bytes that the manifest says"))
	}
	return io.EOF
}

// Close ends the download.
func (b *blob) Close() error {
	b.drop()
	if b.err == nil {
		b.err = errs.Newf(errs.Invalid, "get blob", string(b.desc.Digest), "read after close")
	}
	return nil
}

func (b *blob) drop() {
	if b.body != nil {
		b.body.Close()
		b.body = nil
	}
}

func (b *blob) event(retry error) Event {
	return Event{Object: "blob " + b.desc.Digest.Short(), Digest: b.desc.Digest, Done: b.done, Total: b.desc.Size, Retry: retry}
}

func (b *blob) wrap(err error) error {
	return errs.Wrap("get blob", string(b.desc.Digest)+" of "+b.places[0].name(), err)
}

func (b *blob) wrong(text string) *errs.Error {
	return errs.Newf(errs.Corrupt, "", b.places[0].host, text).
		WithHint("something between here and the registry alters what it sends: check mirrors and proxies")
}

// resume prepares for another connection after one broke with cause; the next Read opens
// it. The error is final.
func (b *blob) resume(cause error) error {
	err := b.broken(cause)
	if err == nil || b.nextPlace() {
		return nil
	}
	return b.wrap(err)
}

// nextPlace gives the place in use up, for this blob.
func (b *blob) nextPlace() bool {
	if len(b.places) == 1 || b.ctx.Err() != nil {
		return false
	}
	b.places, b.fails = b.places[1:], 0
	return true
}

// broken counts a connection that ended too early with cause and waits until another one
// to the same place may be tried. An error means that none may.
func (b *blob) broken(cause error) error {
	b.drop()
	if cause == io.EOF {
		cause = io.ErrUnexpectedEOF
	}
	if b.done-b.start >= goodRun {
		b.fails = 0
	}
	b.fails++
	worded, again := connError(b.places[0].host, cause)
	if !again {
		return worded
	}
	if b.fails >= b.c.cfg.Retry.Attempts {
		return errs.Wrap("the connection broke "+strconv.Itoa(b.fails)+" times in a row after "+
			strconv.FormatInt(b.done, 10)+" of "+strconv.FormatInt(b.desc.Size, 10)+" bytes", "", worded)
	}
	b.c.report(b.event(worded))
	if err := wait(b.ctx, b.c.backoff(b.fails)); err != nil {
		return errs.New(errs.Canceled, "", b.places[0].host, err)
	}
	return nil
}

// open asks the places in turn for what follows b.done. One that cannot serve it is not
// asked again for this blob.
func (b *blob) open() error {
	var mirrors []string
	for {
		err := b.openAt(b.places[0])
		if err == nil {
			return nil
		}
		said := err.Error()
		if !b.nextPlace() {
			if len(mirrors) > 0 {
				err = &mirroredError{err: err, mirrors: strings.Join(mirrors, "; ")}
			}
			return b.wrap(err)
		}
		mirrors = append(mirrors, said)
	}
}

// openAt opens a connection to one place and puts it at b.done. A connection that breaks
// while the bytes before b.done are skipped counts as broken.
func (b *blob) openAt(ep endpoint) error {
	for {
		r := request{method: http.MethodGet, path: "blobs/" + string(b.desc.Digest), event: b.event(nil)}
		if b.done > 0 {
			r.span = "bytes=" + strconv.FormatInt(b.done, 10) + "-" + strconv.FormatInt(b.desc.Size-1, 10)
		}
		resp, err := b.c.do(b.ctx, ep, r)
		if err != nil {
			return err
		}
		b.body, b.start = resp.Body, b.done
		from, err := b.position(resp)
		if err != nil {
			b.drop()
			return err
		}
		if _, err = io.CopyN(io.Discard, b.body, b.done-from); err == nil {
			return nil
		}
		if err := b.broken(err); err != nil {
			return err
		}
	}
}

// position returns the offset of the first byte of resp's body, b.done or 0, and sets where
// the body ends. Anything that does not fit the size of the blob is an error, for it would
// shift the bytes.
func (b *blob) position(resp *http.Response) (int64, error) {
	b.part = b.desc.Size
	switch resp.StatusCode {
	case http.StatusOK: // the whole: no range was asked for, or the server knows none
		if n := resp.ContentLength; n >= 0 && n != b.desc.Size {
			return 0, b.wrong("the server has " + strconv.FormatInt(n, 10) + " bytes, the manifest says " + strconv.FormatInt(b.desc.Size, 10))
		}
		return 0, nil
	case http.StatusPartialContent:
		first, last, total, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return 0, b.wrong(err.Error())
		}
		length := last - first + 1
		if first != b.done || last >= b.desc.Size || total >= 0 && total != b.desc.Size ||
			resp.ContentLength >= 0 && resp.ContentLength != length {
			return 0, b.wrong("the server sends another range than was asked for")
		}
		b.part = last + 1
		return first, nil
	}
	return 0, b.wrong("the server answers " + strconv.Itoa(resp.StatusCode) + " to a request for a blob")
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL" (RFC 9110, section 14.4); total is -1 for "*".
func parseContentRange(s string) (first, last, total int64, err error) {
	bad := errors.New("the server's Content-Range cannot be read")
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, slash := strings.Cut(rest, "/")
	from, to, dash := strings.Cut(span, "-")
	if !ok || !slash || !dash {
		return 0, 0, 0, bad
	}
	f, err1 := strconv.ParseUint(from, 10, 63)
	l, err2 := strconv.ParseUint(to, 10, 63)
	if err1 != nil || err2 != nil || l < f {
		return 0, 0, 0, bad
	}
	if size == "*" {
		return int64(f), int64(l), -1, nil
	}
	t, err3 := strconv.ParseUint(size, 10, 63)
	if err3 != nil || l >= t {
		return 0, 0, 0, bad
	}
	return int64(f), int64(l), int64(t), nil
}
