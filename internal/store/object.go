package store

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

const (
	smallFile = 256 << 10 // bytes: read whole, so that known content is never written again
	sparseMin = 64 << 10  // bytes: from here on zero blocks become holes
	chunk     = 256 << 10 // bytes of a large file in memory
	// flushEvery is how many bytes of new content may wait in memory for the disk.
	flushEvery = 64 << 20
)

// ObjectPath is where the object d is, or would be. overlayfs finds it there too: a tree's
// files lead to "/" and these last two components.
func (s *Store) ObjectPath(d oci.Digest) (string, error) {
	if d.Algorithm() != "sha256" || !d.Valid() {
		return "", errs.Newf(errs.Invalid, "find object", string(d), "objects are named by sha256 digests")
	}
	return s.objectPath(d), nil
}

// objectPath is ObjectPath of a digest that was checked.
func (s *Store) objectPath(d oci.Digest) string {
	h := d.Hex()
	return s.dir + "/objects/" + h[:2] + "/" + h[2:]
}

// ObjectsDir is the directory to be the data-only layer of overlay mounts.
func (s *Store) ObjectsDir() string { return s.path("objects") }

// OpenObject opens an object for reading. Its bytes are not compared with its digest: see
// Check.
func (s *Store) OpenObject(d oci.Digest) (*os.File, error) {
	p, err := s.ObjectPath(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "open object", string(d), nil)
	}
	return f, errs.Wrap("open object", string(d), err)
}

// HasObject reports whether an object is here. Only a lease makes sure that it stays.
func (s *Store) HasObject(d oci.Digest) bool {
	p, err := s.ObjectPath(d)
	if err != nil {
		return false
	}
	ok, err := exists(p)
	return ok && err == nil
}

// UseObject relies on an object and reports whether it is here.
func (l *Lease) UseObject(d oci.Digest) (bool, error) {
	p, err := l.s.ObjectPath(d)
	if err != nil {
		return false, err
	}
	return l.rely(lineObject, string(d), p)
}

// PutBytes stores b as an object, unless it is known, and returns its name. The object is
// whole from when others can see it. It is not durable before a layer names it.
func (l *Lease) PutBytes(b []byte) (oci.Digest, error) {
	d := oci.FromBytes(b)
	path := l.s.objectPath(d)
	have, err := l.rely(lineObject, string(d), path)
	if err == nil && !have {
		err = l.writeObject(path, b)
	}
	return d, l.s.wrap("store object", string(d), err)
}

func (l *Lease) writeObject(path string, b []byte) error {
	t, err := disk.CreateTemp(l.dir, 0o444)
	if err != nil {
		return err
	}
	defer t.Close()
	if len(b) < sparseMin {
		_, err = t.Write(b)
	} else if err = disk.WriteSparse(t.File, b, 0); err == nil {
		err = t.Truncate(int64(len(b)))
	}
	if err != nil {
		return err
	}
	l.wrote(int64(len(b)))
	return ignoreExists(t.Publish(path)) // another writer's is as good
}

// wrote counts n bytes of new content. Every 64 MiB it has the disk begin to write them, so
// that in the end sync has little left to wait for: 15 ms and not 400 for 550 MB. An error
// is not lost: the kernel reports it to each open file, and sync uses another one.
func (l *Lease) wrote(n int64) {
	total := l.unsynced.Add(n)
	if total < flushEvery || !l.flushing.CompareAndSwap(false, true) {
		return
	}
	l.unsynced.Add(-total)
	l.background.Go(func() {
		disk.SyncFS(l.lock)
		l.flushing.Store(false)
	})
}

// PutReader stores the next size bytes of r as an object and returns its name; as PutBytes
// otherwise. A large file is written while it is hashed, and dropped if it turns out known.
func (l *Lease) PutReader(r io.Reader, size int64) (oci.Digest, error) {
	buf := l.buffer()
	defer l.bufs.Put(buf)
	if size > smallFile {
		d, err := l.putLarge(r, size, buf[:])
		return d, l.s.wrap("store object", string(d), err)
	}
	b := buf[:max(size, 0)]
	if _, err := io.ReadFull(r, b); err != nil {
		return "", errs.Wrap("store object", "", short(err))
	}
	return l.PutBytes(b)
}

func (l *Lease) putLarge(r io.Reader, size int64, buf []byte) (oci.Digest, error) {
	t, err := disk.CreateTemp(l.dir, 0o444)
	if err != nil {
		return "", err
	}
	defer t.Close()
	h := sha256.New()
	for off := int64(0); off < size; {
		b := buf[:min(int64(len(buf)), size-off)]
		if _, err := io.ReadFull(r, b); err != nil {
			return "", short(err)
		}
		h.Write(b)
		if err := disk.WriteSparse(t.File, b, off); err != nil {
			return "", err
		}
		off += int64(len(b))
	}
	if err := t.Truncate(size); err != nil {
		return "", err
	}
	d := oci.SHA256(h)
	path := l.s.objectPath(d)
	have, err := l.rely(lineObject, string(d), path)
	if err != nil || have {
		return d, err
	}
	l.wrote(size)
	return d, ignoreExists(t.Publish(path))
}

// short says that a reader ended before the size that was announced.
func short(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (l *Lease) buffer() *[chunk]byte {
	if b, ok := l.bufs.Get().(*[chunk]byte); ok {
		return b
	}
	return new([chunk]byte)
}

func ignoreExists(err error) error {
	if errs.Is(err, errs.Exists) {
		return nil
	}
	return err
}
