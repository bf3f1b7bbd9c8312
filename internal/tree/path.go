package tree

import (
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// Limits of Linux on names (linux/limits.h), in bytes.
const (
	NameMax = 255
	PathMax = 4096
)

// Clean brings a path, as an archive spells it, into the canonical form of Entry.Path:
// leading "/" and "./" go, as do trailing and doubled "/". It refuses what could mean a
// place outside the root or what no file system could hold: "..", NUL, a component or
// path that is too long, and the empty name ("." and "/" are the root).
func Clean(name string) (string, error) {
	if name == "" {
		return "", errs.Newf(errs.Corrupt, "read path", "", "empty name")
	}
	p := strings.Trim(name, "/")
	for strings.HasPrefix(p, "./") {
		p = strings.TrimLeft(p[2:], "/")
	}
	why := fault(p)
	if why == faultEmpty {
		p = squeeze(p)
		why = fault(p)
	}
	if why != "" {
		return "", errs.Newf(errs.Corrupt, "read path", shown(name), why)
	}
	return p, nil
}

const faultEmpty = "has an empty component"

// fault says why p is not canonical, "" if it is.
func fault(p string) string {
	if p == "" {
		return ""
	}
	start := 0
	for i := 0; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' {
			if p[i] == 0 {
				return "has a NUL byte"
			}
			continue
		}
		switch c := p[start:i]; {
		case c == "" || c == ".":
			return faultEmpty
		case c == "..":
			return `has a ".." component`
		case len(c) > NameMax:
			return "has a component longer than 255 bytes"
		}
		start = i + 1
	}
	if len(p) > PathMax {
		return "is longer than 4096 bytes"
	}
	return ""
}

// squeeze removes empty and "." components.
func squeeze(p string) string {
	parts := strings.Split(p, "/")
	kept := parts[:0]
	for _, c := range parts {
		if c != "" && c != "." {
			kept = append(kept, c)
		}
	}
	return strings.Join(kept, "/")
}

// shown is a name for an error: quoted and cut, lest a hostile one plays with the terminal.
func shown(name string) string {
	if len(name) > 256 {
		name = name[:256] + "…"
	}
	return strconv.Quote(name)
}

// Parent is the path of the directory that holds p. The root is its own parent.
func Parent(p string) string {
	return p[:max(0, strings.LastIndexByte(p, '/'))]
}

// Under reports whether p is below dir; nothing is below itself.
func Under(p, dir string) bool {
	if dir == "" {
		return p != ""
	}
	return len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}

// Compare orders paths so that a directory is followed at once by all that is below it:
// byte order, but "/" sorts before every other byte.
func Compare(a, b string) int {
	n := min(len(a), len(b))
	i := 0
	// Neighbours in a listing share most of their path: skip it 16 bytes at a time, which
	// the compiler turns into wide compares.
	for i+16 <= n && a[i:i+16] == b[i:i+16] {
		i += 16
	}
	for ; i < n; i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x == '/' {
			return -1
		}
		if y == '/' {
			return 1
		}
		if x < y {
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}
