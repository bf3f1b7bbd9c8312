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
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"crypto/sha256"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/erofs"
	"github.com/cortenhq/corten/internal/errs"
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

// Mask says where the mask image for the host as it is now lies, and makes it if there is
// none, unless dry. dir is platforms/host; list is the administrator's; state are Corten's
// own folders, which are hidden too.
func Mask(dir, list string, dry bool, state ...string) (string, error) {
	in, err := look(list, state)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "mask-"+in.key()+".erofs")
	var st unix.Stat_t
	if dry || unix.Stat(path, &st) == nil {
		return path, nil
	}
	var img bytes.Buffer
	if _, err := erofs.Write(&img, in.tree(), erofs.Options{Overlay: true}); err != nil {
		return "", errs.Wrap("make mask of", "the host", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", errs.Wrap("make mask of", "the host", err)
	}
	if err := disk.WriteFile(path, img.Bytes(), 0o400, disk.Volatile); err != nil {
		return "", errs.Wrap("make mask of", "the host", err)
	}
	forgetOthers(dir, filepath.Base(path))
	return path, nil
}

// forgetOthers removes masks of former states. A container that is just starting with one
// has it open or will fail to, and its user starts it again.
func forgetOthers(dir, keep string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "mask-") && e.Name() != keep {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// facts are what a mask depends on. They are gathered at every start, so they are few.
type facts struct {
	dirs   []string // of the skeleton, that are there and open to others
	hide   []string // absolute, sorted
	inside []string // directories whose entries are all hidden but those in show
	show   []string
}

func look(list string, state []string) (facts, error) {
	var f facts
	for _, d := range skeleton() {
		var st unix.Stat_t
		// A directory that others may not enter on the host must not open up in a container.
		if unix.Lstat(d, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&0o005 == 0o005 {
			f.dirs = append(f.dirs, d)
		}
	}
	extra, err := readList(list)
	if err != nil {
		return facts{}, err
	}
	for _, line := range slices.Concat(hidden(), state, homes(), extra) {
		switch {
		case strings.HasPrefix(line, "!"):
			f.show = append(f.show, line[1:])
		case strings.HasSuffix(line, "/*"):
			f.inside = append(f.inside, strings.TrimSuffix(line, "/*"))
		default:
			f.hide = append(f.hide, filepath.Clean(line))
		}
	}
	f.hide = slices.DeleteFunc(f.hide, func(p string) bool { return p == "/" || slices.Contains(f.show, p) })
	slices.Sort(f.hide)
	f.hide = slices.Compact(f.hide)
	return f, nil
}

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
const maskVersion = 1

// key names the mask that these facts make.
func (f facts) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "mask %d\n", maskVersion)
	for _, l := range [][]string{f.dirs, f.hide, f.inside, f.show} {
		fmt.Fprintln(h, len(l))
		for _, s := range l {
			fmt.Fprintln(h, s)
		}
	}
	// What is in a directory of which all is hidden changes it too.
	for _, d := range f.inside {
		var st unix.Stat_t
		if unix.Stat(d, &st) == nil {
			fmt.Fprintln(h, st.Ctim.Sec, st.Ctim.Nsec)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// tree makes the mask's entries: the skeleton, then an opaque directory or a whiteout for
// each hidden path, and the directories on the way to it.
func (f facts) tree() *tree.Tree {
	m := map[string]tree.Entry{}
	for _, d := range append([]string{"/"}, f.dirs...) {
		m[rel(d)] = directory(d, 0o755, false)
	}
	hide := slices.Clone(f.hide)
	for _, d := range f.inside {
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			if p := filepath.Join(d, e.Name()); !slices.Contains(f.show, p) {
				hide = append(hide, p)
			}
		}
	}
	for _, p := range hide {
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

// hidePath hides one path, if all directories on the way to it are there as directories.
func (f facts) hidePath(m map[string]tree.Entry, p string) {
	for parent := filepath.Dir(p); parent != "/"; parent = filepath.Dir(parent) {
		st, err := os.Lstat(parent)
		if err != nil || !st.IsDir() {
			return // gone, or a link to a place that is hidden by its own name
		}
	}
	st, err := os.Lstat(p)
	if err != nil || (st.Mode()&fs.ModeSymlink != 0 && filepath.Dir(p) != "/etc") {
		return
	}
	e := tree.Entry{Path: rel(p), Type: tree.Whiteout}
	if st.IsDir() {
		mode := uint16(0o755)
		if st.Mode()&fs.ModeSticky != 0 {
			mode = 0o1777
		}
		e = directory(p, mode, true)
	}
	m[e.Path] = e
	for parent := filepath.Dir(p); parent != "/"; parent = filepath.Dir(parent) {
		if _, ok := m[rel(parent)]; !ok {
			m[rel(parent)] = likeHost(parent)
		}
	}
}

// likeHost repeats a directory which is only on the way to a hidden one: closed to others
// if it is so on the host.
func likeHost(dir string) tree.Entry {
	e := directory(dir, 0o755, false)
	if st, err := os.Stat(dir); err != nil || st.Mode()&0o005 != 0o005 {
		e.Opaque = true
	}
	return e
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

// Binds is the directories of the host's root that lie on file systems of their own and
// belong to the base.
func Binds() []string {
	var root, st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MNT_ID, &root) != nil {
		return nil
	}
	var out []string
	for _, d := range []string{"/usr", "/opt", "/etc"} {
		if unix.Statx(unix.AT_FDCWD, d, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &st) == nil && st.Mnt_id != root.Mnt_id {
			out = append(out, d)
		}
	}
	return out
}
