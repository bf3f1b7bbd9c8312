// Package platform keeps the bases that containers bind to when they start.
//
// The one platform so far is "host": the host's own root, read-only, below a mask that
// hides its sensitive places. The mask is a small EROFS image, made when something that it
// depends on has changed and kept under platforms/host.
package platform

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"crypto/sha256"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/erofs"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/rootfs"
	"github.com/cortenhq/corten/internal/tree"
)

// HostName is the platform's name on the command line.
const HostName = "host"

// MaskList is the administrator's list: a path a line, hidden; "!PATH" shows what the
// built-in list hides; "#" starts a comment.
const MaskList = "/etc/corten/host.mask"

// hidden is the built-in list. A directory shows as an empty one, anything else not at all.
// Directories that end in "/*" are kept, and every entry in them is hidden.
func hidden() []string {
	return []string{
		// homes, and what people leave in shared places
		"/root", "/home", "/tmp", "/var/tmp", "/lost+found", "/mnt", "/media",
		// sockets and run-time state of the host's services; logs, mail, jobs
		"/run", "/var/run", "/var/lock", "/var/log", "/var/mail", "/var/spool", "/var/crash", "/var/backups",
		// accounts' secrets
		"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
		"/etc/sudoers", "/etc/sudoers.d", "/etc/krb5.keytab", "/etc/machine-id",
		// private keys and the secrets of services
		"/etc/ssl/private", "/etc/pki/tls/private", "/etc/letsencrypt", "/etc/wireguard", "/etc/openvpn",
		"/etc/ipsec.d", "/etc/ipsec.secrets", "/etc/ssh", "/etc/NetworkManager/system-connections",
		"/etc/wpa_supplicant", "/etc/ppp", "/etc/kubernetes", "/etc/rancher", "/etc/docker", "/etc/containers",
		"/etc/corten", "/etc/credstore", "/etc/credstore.encrypted", "/etc/cloud", "/etc/netplan",
		"/etc/mysql", "/etc/postgresql", "/etc/samba", "/etc/exim4", "/etc/postfix", "/etc/apt/auth.conf",
		"/etc/apt/auth.conf.d", "/etc/cron.d", "/etc/fstab", "/etc/crypttab",
		// databases and the state of services; the package manager's stays
		"/var/lib/*", "!/var/lib/dpkg", "!/var/lib/apt", "!/var/lib/rpm", "!/var/lib/pacman", "!/var/lib/apk", "!/var/lib/misc",
		"/var/cache/*", "!/var/cache/ldconfig", "!/var/cache/fontconfig", "!/var/cache/apt",
		// what boots the machine
		"/boot", "/efi", "/sys", "/proc", "/dev", "/swapfile", "/swap.img",
	}
}

// skeleton is the directories in which a container may make files, though the host's are
// not its own: the mask repeats them, with the container's root as their owner.
func skeleton() []string {
	return []string{"/", "/etc", "/opt", "/srv", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/local/bin",
		"/usr/local/lib", "/usr/local/share", "/usr/sbin", "/usr/share", "/var", "/var/cache", "/var/lib"}
}

// Base is the host's root as containers are shown it.
type Base struct {
	Mask  string        // the EROFS image that goes over it; HostOfUser: a directory in its place
	Binds []rootfs.Bind // directories of the root that lie on file systems of their own
}

// Host finds the base for the host as it is now, and makes the mask if there is none,
// unless dry. dir is platforms/host; list is the administrator's; state are Corten's own
// folders, which are hidden too.
func Host(dir, list string, dry bool, state ...string) (Base, error) {
	in, err := look(list, state)
	if err != nil {
		return Base{}, err
	}
	b := Base{Mask: filepath.Join(dir, "mask-"+in.key()+".erofs"), Binds: in.binds()}
	var st unix.Stat_t
	if dry || unix.Stat(b.Mask, &st) == nil {
		return b, nil
	}
	var img bytes.Buffer
	if _, err := erofs.Write(&img, in.tree(), erofs.Options{Overlay: true}); err != nil {
		return Base{}, errs.Wrap("make mask of", "the host", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Base{}, errs.Wrap("make mask of", "the host", err)
	}
	if err := disk.WriteFile(b.Mask, img.Bytes(), 0o400, disk.Volatile); err != nil {
		return Base{}, errs.Wrap("make mask of", "the host", err)
	}
	forgetOthers(dir, filepath.Base(b.Mask))
	return b, nil
}

// forgetOthers removes masks of former states. A young one stays: who has just made it, or found it,
// may not have it open yet.
func forgetOthers(dir, keep string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "mask-") || e.Name() == keep {
			continue
		}
		if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > time.Minute {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// facts are what a mask depends on. They are gathered at every start, so they are few.
type facts struct {
	dirs   []string // of the skeleton, that are there and open to others
	hide   []place  // sorted by path
	closed []string // directories on the way to a hidden place that others may not enter
	inside []string // directories whose entries are all hidden but those in show
	show   []string
}

// place is a path to hide, with no symbolic link in it.
type place struct {
	path string
	mode uint16 // of the empty directory that is shown; 0: nothing is shown
}

func look(list string, state []string) (facts, error) {
	var f facts
	for _, d := range skeleton() {
		// A directory that others may not enter on the host must not open up in a container.
		mode, ok := modeOf(d)
		if ok && mode&unix.S_IFMT == unix.S_IFDIR && openToOthers(mode) && (d == "/" || slices.Contains(f.dirs, filepath.Dir(d))) {
			f.dirs = append(f.dirs, d)
		}
	}
	if len(f.dirs) == 0 {
		return facts{}, errs.Newf(errs.Denied, "show", "the host's root", "its directory is closed to others").
			WithHint("use an image, or chmod 755 /")
	}
	extra, err := readList(list)
	if err != nil {
		return facts{}, err
	}
	var names []string
	for _, line := range slices.Concat(hidden(), state, homes(), extra) {
		switch {
		case strings.HasPrefix(line, "!"):
			f.show = append(f.show, line[1:])
		case strings.HasSuffix(line, "/*"):
			f.inside = append(f.inside, strings.TrimSuffix(line, "/*"))
		default:
			names = append(names, filepath.Clean(line))
		}
	}
	s := search{real: map[string]string{"/": "/"}}
	for _, n := range names {
		if n != "/" && !slices.Contains(f.show, n) {
			s.find(n)
		}
	}
	f.hide = s.found
	slices.SortFunc(f.hide, func(a, b place) int { return strings.Compare(a.path, b.path) })
	f.hide = slices.Compact(f.hide)
	f.closed = closedAbove(f.hide, f.inside)
	return f, nil
}

// search looks for the places that names mean.
type search struct {
	real  map[string]string // of directories; "" if it is none
	found []place
}

// find adds the place that a name means. What is not there is hidden all the same, in case
// it comes while a container runs. A link stays, since programs go by /var/run, and where
// it leads is hidden; in /etc the link is hidden too.
func (s *search) find(name string) {
	dir := s.realDir(filepath.Dir(name))
	if dir == "" {
		return
	}
	path := strings.TrimSuffix(dir, "/") + name[strings.LastIndexByte(name, '/'):]
	mode, ok := modeOf(path)
	if !ok || mode&unix.S_IFMT != unix.S_IFLNK {
		s.add(path, mode)
		return
	}
	if dir == "/etc" {
		s.add(path, 0)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil && target != "/" {
		mode, _ := modeOf(target)
		s.add(target, mode)
	}
}

func (s *search) add(path string, mode uint32) {
	p := place{path: path}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		p.mode = 0o755
		if mode&unix.S_ISVTX != 0 {
			p.mode = 0o1777
		}
	}
	s.found = append(s.found, p)
}

// realDir is a directory's path without symbolic links; "" if there is none. Mostly that is
// the path itself, which takes one look at each directory on the way.
func (s *search) realDir(dir string) string {
	real, known := s.real[dir]
	if known {
		return real
	}
	parent := filepath.Dir(dir)
	mode, _ := modeOf(dir)
	switch above := s.realDir(parent); {
	case above == "":
	case above == parent && mode&unix.S_IFMT == unix.S_IFDIR:
		real = dir
	default:
		real, _ = filepath.EvalSymlinks(dir)
		if mode, _ := modeOf(real); mode&unix.S_IFMT != unix.S_IFDIR {
			real = ""
		}
	}
	s.real[dir] = real
	return real
}

// closedAbove finds the directories, and those above the places, that others may not enter
// or list.
func closedAbove(places []place, dirs []string) []string {
	known := map[string]bool{"/": true}
	var closed []string
	check := func(dir string) {
		for ; !known[dir]; dir = filepath.Dir(dir) {
			known[dir] = true
			if mode, ok := modeOf(dir); ok && !openToOthers(mode) {
				closed = append(closed, dir)
			}
		}
	}
	for _, p := range places {
		check(filepath.Dir(p.path))
	}
	for _, d := range dirs {
		check(d)
	}
	slices.Sort(closed)
	return closed
}

// modeOf is the type and mode of what is at path; a link is not followed.
func modeOf(path string) (mode uint32, ok bool) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return st.Mode, err == nil
}

func openToOthers(mode uint32) bool { return mode&0o005 == 0o005 }

// readList reads the administrator's list; a missing one is empty.
func readList(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || path == "" {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap("read mask list", path, err)
	}
	var out []string
	for i, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if !filepath.IsAbs(strings.TrimPrefix(line, "!")) {
			return nil, errs.Newf(errs.Invalid, "read mask list", path+":"+strconv.Itoa(i+1), "want an absolute path, not "+strconv.Quote(line)).
				WithHint("write /PATH to hide, !/PATH to show what Corten hides by itself")
		}
		out = append(out, line)
	}
	return out, nil
}

// homes is the home directories of ordinary users that lie outside /home.
func homes() []string {
	b, _ := os.ReadFile("/etc/passwd")
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 7 {
			continue
		}
		uid, err := strconv.Atoi(f[2])
		if err == nil && uid >= 1000 && uid != 65534 && filepath.IsAbs(f[5]) && filepath.Clean(f[5]) != "/" {
			out = append(out, f[5])
		}
	}
	return out
}

// maskVersion is part of the key: it changes with how masks are made.
const maskVersion = 2

// key names the mask that these facts make.
func (f facts) key() string {
	b := make([]byte, 0, 4096)
	line := func(words ...string) {
		for _, w := range words {
			b = append(append(b, w...), ' ')
		}
		b = append(b, '\n')
	}
	line("mask", strconv.Itoa(maskVersion))
	for _, p := range f.hide {
		line(strconv.Itoa(int(p.mode)), p.path)
	}
	for _, l := range [][]string{f.dirs, f.closed, f.inside, f.show} {
		line(strconv.Itoa(len(l)))
		for _, s := range l {
			line(s)
		}
	}
	// What is in a directory of which all is hidden changes it too.
	for _, d := range f.inside {
		var st unix.Stat_t
		if unix.Stat(d, &st) == nil {
			line(strconv.FormatInt(st.Ctim.Nano(), 10))
		}
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// tree makes the mask's entries: the skeleton, then an opaque directory or a whiteout for
// each hidden path, and the directories on the way to it.
func (f facts) tree() *tree.Tree {
	m := map[string]tree.Entry{}
	for _, d := range append([]string{"/"}, f.dirs...) {
		m[rel(d)] = directory(d, 0o755, false)
	}
	for _, p := range slices.Concat(f.insides(), f.hide) {
		f.hidePath(m, p)
	}
	t := &tree.Tree{Entries: make([]tree.Entry, 0, len(m))}
	for p, e := range m {
		if !belowHidden(m, p) {
			t.Entries = append(t.Entries, e)
		}
	}
	sort.Slice(t.Entries, func(i, j int) bool { return tree.Compare(t.Entries[i].Path, t.Entries[j].Path) < 0 })
	return t
}

// insides is the entries of the directories in which all is hidden.
func (f facts) insides() []place {
	var s search
	for _, d := range f.inside {
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			if p := filepath.Join(d, e.Name()); !slices.Contains(f.show, p) {
				mode, _ := modeOf(p)
				s.add(p, mode)
			}
		}
	}
	return s.found
}

// hidePath hides one place. A directory that is only on the way to it repeats the host's,
// or is closed if that is closed to others.
func (f facts) hidePath(m map[string]tree.Entry, p place) {
	e := tree.Entry{Path: rel(p.path), Type: tree.Whiteout}
	if p.mode != 0 {
		e = directory(p.path, p.mode, true)
	}
	m[e.Path] = e
	for dir := filepath.Dir(p.path); dir != "/"; dir = filepath.Dir(dir) {
		if _, ok := m[rel(dir)]; !ok {
			m[rel(dir)] = directory(dir, 0o755, slices.Contains(f.closed, dir))
		}
	}
}

func directory(path string, mode uint16, opaque bool) tree.Entry {
	return tree.Entry{Path: rel(path), Type: tree.Dir, Mode: mode, Opaque: opaque}
}

// belowHidden reports whether a directory above p is hidden as a whole.
func belowHidden(m map[string]tree.Entry, p string) bool {
	for {
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return false
		}
		p = p[:i]
		if e, ok := m[p]; ok && (e.Opaque || e.Type == tree.Whiteout) {
			return true
		}
	}
}

func rel(path string) string { return strings.TrimPrefix(filepath.Clean(path), "/") }

// binds is the directories of the host's root that lie on file systems of their own and
// belong to the base. The mask does not reach there, so each takes its hidden places along.
func (f facts) binds() []rootfs.Bind {
	var root, st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MNT_ID, &root) != nil {
		return nil
	}
	var out []rootfs.Bind
	for _, d := range []string{"/usr", "/opt", "/etc"} {
		if unix.Statx(unix.AT_FDCWD, d, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &st) == nil && st.Mnt_id != root.Mnt_id {
			out = append(out, rootfs.Bind{Path: d, Hide: f.below(d)})
		}
	}
	return out
}

// below is the hidden places in a directory.
func (f facts) below(dir string) []string {
	var out []string
	for _, p := range f.hide {
		if strings.HasPrefix(p.path, dir+"/") {
			out = append(out, p.path)
		}
	}
	return out
}
