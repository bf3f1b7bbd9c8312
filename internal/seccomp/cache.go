package seccomp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cortenhq/corten/internal/spec"
)

// formatVersion is the version of the compiler and of the files that hold its programs. It
// goes up with every change after which Compile makes another program of some profile.
const formatVersion = 1

// A file of the cache is named by the SHA-256 of its key, in hexadecimal, and holds, in
// little-endian order:
//
//	magic      16 bytes
//	key        32 bytes, the SHA-256 of the key again
//	flags       4 bytes
//	count       4 bytes, how many instructions
//	insns       8 bytes each: code 2, jt 1, jf 1, k 4
//	warnings   lines, to the checksum
//	checksum   32 bytes, the SHA-256 of all before
//
// The files are read where the program would be made again if there were none, so any of
// them may be removed at any time.
const (
	magic      = "corten seccomp\x00\x01"
	headerSize = len(magic) + sha256.Size + 4 + 4
	insnSize   = 8
)

// Cached is Compile with the programs kept in dir, which is made if it is not there. What
// is wrong with the cache costs time but is no error.
func Cached(dir string, p *spec.Seccomp, host Arch) (Program, error) {
	return cached(dir, profileKey(p, host), func() (Program, error) { return Compile(p, host) })
}

// DefaultCached is Compile of Default, with the programs kept in dir. The profile is made
// only if there is no program for it yet.
func DefaultCached(dir string, caps []string, host Arch, abis ...spec.SeccompArch) (Program, error) {
	return cached(dir, defaultKey(caps, host, abis), func() (Program, error) {
		return Compile(Default(caps, abis...), host)
	})
}

func cached(dir string, lines []byte, make func() (Program, error)) (Program, error) {
	key := sha256.Sum256(lines)
	path := filepath.Join(dir, hex.EncodeToString(key[:]))
	if data := readOwn(path); data != nil {
		if p, ok := decode(data, key); ok {
			return p, nil
		}
	}
	p, err := make()
	if err == nil {
		publish(dir, path, encode(&p, key))
	}
	return p, err
}

// keyHead are the lines that every key begins with.
func keyHead(host Arch) []byte {
	b := make([]byte, 0, 512)
	b = append(b, "corten seccomp program\nformat "...)
	b = strconv.AppendInt(b, formatVersion, 10)
	b = append(b, "\nhost "...)
	b = append(b, host.String()...)
	return append(b, '\n')
}

// defaultKey names the default profile by its version and by those capabilities that it
// asks about.
func defaultKey(caps []string, host Arch, abis []spec.SeccompArch) []byte {
	b := keyHead(host)
	b = append(b, "default profile "...)
	b = strconv.AppendInt(b, DefaultVersion, 10)
	b = append(b, '\n')
	for one := range strings.FieldsSeq(askedCaps) {
		if slices.Contains(caps, one) {
			b = append(b, "cap "...)
			b = append(b, one...)
			b = append(b, '\n')
		}
	}
	return appendArches(b, abis)
}

// profileKey is the whole profile, but for the listener, which the program knows nothing
// of. Strings are quoted: no name can pass for the end of a line.
func profileKey(p *spec.Seccomp, host Arch) []byte {
	b := keyHead(host)
	b = append(b, "profile\n"...)
	b = appendAction(b, p.DefaultAction, p.DefaultErrnoRet)
	b = appendArches(b, p.Architectures)
	if p.Flags != nil {
		b = append(b, "flags\n"...)
	}
	for _, f := range p.Flags {
		b = strconv.AppendQuote(append(b, "flag "...), string(f))
		b = append(b, '\n')
	}
	for i := range p.Syscalls {
		r := &p.Syscalls[i]
		b = appendAction(b, r.Action, r.ErrnoRet)
		for _, a := range r.Args {
			b = strconv.AppendQuote(append(b, "arg "...), string(a.Op))
			for _, n := range [...]uint64{uint64(a.Index), a.Value, a.ValueTwo} {
				b = strconv.AppendUint(append(b, ' '), n, 10)
			}
			b = append(b, '\n')
		}
		for _, name := range r.Names {
			b = strconv.AppendQuote(append(b, "name "...), name)
			b = append(b, '\n')
		}
	}
	return b
}

func appendArches(b []byte, arches []spec.SeccompArch) []byte {
	for _, a := range arches {
		b = strconv.AppendQuote(append(b, "arch "...), string(a))
		b = append(b, '\n')
	}
	return b
}

func appendAction(b []byte, a spec.SeccompAction, errno *uint) []byte {
	b = strconv.AppendQuote(append(b, "action "...), string(a))
	if errno != nil {
		b = strconv.AppendUint(append(b, ' '), uint64(*errno), 10)
	}
	return append(b, '\n')
}

// readOwn returns the content of a file that nobody but this user or root could have
// written, or nil. Who can write a filter can open it.
func readOwn(path string) []byte {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || info.Size() > maxFile {
		return nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil
	}
	return data
}

// maxFile bounds what is read: the longest program and a good many warnings.
const maxFile = 1 << 20

// publish writes a file of the cache. Others see all of it or none, by the rename. The
// name it has before is always the same, so that a writer that is killed leaves at most one
// behind, which the next one uses; of two at a time both write the same bytes, and should
// the slower one cut off what the faster has published, the checksum says so for as long
// as it takes to write it again.
func publish(dir, path string, data []byte) {
	next := path + ".new"
	err := os.WriteFile(next, data, 0o600)
	if os.IsNotExist(err) && os.MkdirAll(dir, 0o700) == nil {
		err = os.WriteFile(next, data, 0o600)
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		os.Remove(next)
	}
}

func encode(p *Program, key [sha256.Size]byte) []byte {
	b := make([]byte, 0, headerSize+insnSize*len(p.Insns)+sha256.Size)
	b = append(b, magic...)
	b = append(b, key[:]...)
	b = binary.LittleEndian.AppendUint32(b, p.Flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Insns)))
	for _, in := range p.Insns {
		b = binary.LittleEndian.AppendUint16(b, in.Code)
		b = append(b, in.Jt, in.Jf)
		b = binary.LittleEndian.AppendUint32(b, in.K)
	}
	for _, w := range p.Warnings {
		b = append(b, w...)
		b = append(b, '\n')
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decode(data []byte, key [sha256.Size]byte) (Program, bool) {
	var p Program
	if len(data) < headerSize+sha256.Size {
		return p, false
	}
	body := data[:len(data)-sha256.Size]
	sum := sha256.Sum256(body)
	if !bytes.Equal(sum[:], data[len(body):]) || string(body[:len(magic)]) != magic ||
		!bytes.Equal(body[len(magic):len(magic)+sha256.Size], key[:]) {
		return p, false
	}
	p.Flags = binary.LittleEndian.Uint32(body[headerSize-8:])
	count := binary.LittleEndian.Uint32(body[headerSize-4:])
	rest := body[headerSize:]
	if count == 0 || count > MaxInsns || int(count)*insnSize > len(rest) {
		return p, false
	}
	p.Insns = make([]Insn, count)
	for i := range p.Insns {
		in := rest[i*insnSize:]
		p.Insns[i] = Insn{binary.LittleEndian.Uint16(in), in[2], in[3], binary.LittleEndian.Uint32(in[4:])}
	}
	for line := range strings.Lines(string(rest[count*insnSize:])) {
		p.Warnings = append(p.Warnings, strings.TrimSuffix(line, "\n"))
	}
	return p, true
}
