package criu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// An image is two numbers, of the kind of file and of what is in it, and then messages, each after its length
// (images of CRIU since 2.0).
const (
	commonMagic = 0x54564319
	usernsMagic = 0x55474906
	mountsMagic = 0x55563928

	headSize = 8
)

var errImage = errors.New("it is no image of criu of this kind")

// mostImage is bytes of an image that is changed here: they are small.
const mostImage = 64 << 20

// rewrite replaces what is in the one image that a pattern names; there may be none.
func rewrite(dir, pattern string, magic uint32, change func(entries [][]byte) ([][]byte, error)) (there bool, err error) {
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		return false, err
	}
	if len(names) > 1 {
		return true, errs.Newf(errs.Unsupported, "change", pattern, "there are several, of namespaces in the container's")
	}
	old, err := disk.ReadAtMost(names[0], mostImage)
	if err != nil {
		return true, err
	}
	entries, err := entriesOf(old, magic)
	if err == nil {
		entries, err = change(entries)
	}
	if err != nil {
		return true, errs.New(errs.Corrupt, "read", names[0], err)
	}
	text := bytes.Clone(old[:headSize])
	for _, e := range entries {
		text = append(binary.LittleEndian.AppendUint32(text, uint32(len(e))), e...)
	}
	return true, disk.WriteFile(names[0], text, 0o600, disk.Volatile)
}

// entriesOf reads the messages of an image.
func entriesOf(b []byte, magic uint32) (list [][]byte, err error) {
	if len(b) < headSize || binary.LittleEndian.Uint32(b) != commonMagic || binary.LittleEndian.Uint32(b[4:]) != magic {
		return nil, errImage
	}
	for b = b[headSize:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, errImage
		}
		n := binary.LittleEndian.Uint32(b)
		if uint64(n) > uint64(len(b)-4) {
			return nil, errImage
		}
		list = append(list, b[4:4+n])
		b = b[4+n:]
	}
	return list, nil
}

// MapUsers has processes be made in other ranges of ids than they were written with: those are in one small image
// (userns_entry). there: they are in a user namespace.
func MapUsers(dir string, uid, gid []spec.IDMap) (there bool, err error) {
	return rewrite(dir, "userns-*.img", usernsMagic, func([][]byte) ([][]byte, error) { return [][]byte{userNS(uid, gid)}, nil })
}

// userNS is a userns_entry, images/userns.proto.
func userNS(uid, gid []spec.IDMap) []byte {
	var m message
	for i, maps := range [][]spec.IDMap{uid, gid} {
		for _, x := range maps {
			var extent message
			extent.number(1, int64(x.Container))
			extent.number(2, int64(x.Host))
			extent.number(3, int64(x.Size))
			m.part(uint64(i+1), extent)
		}
	}
	return m
}

// Fields of mnt_entry, images/mnt.proto.
const (
	mountpointField = 7
	sharedField     = 10 // the mount is of a group of mounts that propagate to one another,
	masterField     = 11 // or that another one propagates to
	deletedField    = 16 // what is mounted has lost its name
	externalField   = 18 // what is mounted is not criu's to make
)

// Detach has criu take what it is given to mount as it is: it does not care that it had lost its name, in whose place it would
// make an empty file, nor that mounts of the host propagated to it, which they do no more.
func Detach(dir string) error {
	_, err := rewrite(dir, "mountpoints-*.img", mountsMagic, func(entries [][]byte) ([][]byte, error) {
		for i, e := range entries {
			given := false
			err := fields(e, func(f, _ uint64, _ int, text []byte) {
				given = given || f == externalField || f == mountpointField && strings.Trim(string(text), "./") == ""
			})
			if err == nil && given {
				entries[i], err = without(e, sharedField, masterField, deletedField)
			}
			if err != nil {
				return nil, err
			}
		}
		return entries, nil
	})
	return err
}

// without is a message without some of its fields.
func without(b []byte, drop ...uint64) (out message, err error) {
	err = fields(b, func(f, n uint64, kind int, text []byte) {
		switch {
		case slices.Contains(drop, f):
		case kind == 0:
			out.number(f, int64(n))
		case kind == 2:
			out.part(f, text)
		default:
			out.tag(f, uint64(kind))
			out = append(out, text...)
		}
	})
	return out, err
}
