package volume

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/quota"
)

// Info is a volume as people see it.
type Info struct {
	Name       string
	Mountpoint string // on the host
	Created    time.Time
	Labels     map[string]string
	Size       int64 // bytes that it may take; 0: any number
}

// Anonymous reports whether Corten made the name up.
func (i Info) Anonymous() bool {
	_, err := hex.DecodeString(i.Name)
	return err == nil && len(i.Name) == 64
}

// notes is the file volume.json of a volume that was made by itself. One that a container made
// has none.
type notes struct {
	Version int               `json:"version"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Size    int64             `json:"size,omitempty"`
}

const (
	notesFile = "volume.json"
	untouched = "untouched\n" // what the mark of a volume says that nobody has mounted
)

func (n *notes) write(dir string) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return disk.WriteFile(filepath.Join(dir, notesFile), b, 0o600, disk.Durable)
}

// NewName is a name for a volume that was given none.
func NewName() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	return hex.EncodeToString(b[:])
}

// Create makes a volume that outlasts a power cut, of at most size bytes if that is not 0. It is no
// error if there is one already, which stays as it is, unless it has another size.
func Create(root, name string, labels map[string]string, size int64) (made bool, err error) {
	if !valid(name) {
		return false, errs.Newf(errs.Invalid, "name volume", name, "want letters, digits, '_', '.' and '-', the first a letter or digit").
			WithHint("choose another name")
	}
	v := &Volume{Name: name, dir: Dir(root, name)}
	folder := filepath.Dir(v.dir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return false, errs.Wrap("create volume", name, err)
	}
	if size > 0 {
		if err := quota.Check(root); err != nil {
			return false, errs.Wrap("create volume", name, err)
		}
	}
	clear(folder)
	err = v.make(filepath.Join(folder, makePrefix+NewName()), &notes{Version: 1, Created: time.Now().UTC(), Labels: labels, Size: size})
	if errors.Is(err, fs.ErrExist) {
		return false, same(root, name, size)
	}
	if err == nil {
		err = errors.Join(v.limit(root), disk.SyncDir(folder))
	}
	return err == nil, errs.Wrap("create volume", name, err)
}

// What is on its way in or out has a name that no volume can have.
const (
	makePrefix = ".make-"
	gonePrefix = ".gone-"
)

// clear removes what commands that were killed have left. A volume on its way in is locked by
// who makes it.
func clear(folder string) {
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), gonePrefix):
			_ = os.RemoveAll(path)
		case strings.HasPrefix(e.Name(), makePrefix):
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
				_ = os.RemoveAll(path)
			}
		}
	}
}

// begin looks at the mark, which we have locked: used is true if somebody has put files into a
// volume that waited for its first user. They are its first content then.
func (v *Volume) begin() (used bool, err error) {
	b, err := os.ReadFile(v.mark.Name())
	if err != nil || string(b) != untouched {
		return false, err
	}
	entries, err := os.ReadDir(v.Data())
	if err != nil {
		return false, err
	}
	if len(entries) > 0 {
		return true, v.Filled(false)
	}
	return false, v.mark.Truncate(0) // what is there from now on is ours
}

// hold locks the volume's directory against removal, unless it was removed just now.
func (v *Volume) hold() error {
	fd, err := lockDir(v.dir, unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	v.use, v.held = fd, err == nil
	return err
}

// lockDir opens a directory and locks it. It is not an os.File: nobody may close it but we.
func lockDir(dir string, how int) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for {
		if err = unix.Flock(fd, how); err != unix.EINTR {
			break
		}
	}
	var mine, there unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &mine)
	}
	if err == nil {
		err = unix.Stat(dir, &there)
	}
	if err == nil && (mine.Dev != there.Dev || mine.Ino != there.Ino) {
		err = unix.ENOENT // removed, and made anew perhaps, while we waited
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Delete removes a volume unless it is used. Users tells of containers that are written down;
// those that are being made hold the volume's lock.
func Delete(root, name string, users func() error) error {
	if !valid(name) {
		return noVolume(name)
	}
	if err := users(); err != nil {
		return err
	}
	dir := Dir(root, name)
	fd, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return noVolume(name)
	case err == unix.EWOULDBLOCK:
		return errs.Newf(errs.Busy, "remove volume", name, "a container that is just starting uses it").WithHint("remove that container first: corten ps -a --filter volume=" + name)
	case err != nil:
		return errs.Wrap("remove volume", name, err)
	}
	defer unix.Close(fd)
	if err := users(); err != nil { // it may have been written down since
		return err
	}
	gone := filepath.Join(filepath.Dir(dir), gonePrefix+NewName())
	err = os.Rename(dir, gone)
	if err == nil {
		err = disk.SyncDir(filepath.Dir(dir)) // else a power cut could bring back a part of it
	}
	if err != nil {
		return errs.Wrap("remove volume", name, err)
	}
	clear(filepath.Dir(dir))
	return quota.Release(root, owner(name))
}

func noVolume(name string) error {
	return errs.Newf(errs.NotFound, "find volume", name, "no such volume").WithHint("corten volume ls lists them")
}

// Find is what is known of a volume.
func Find(root, name string) (Info, error) {
	if !valid(name) {
		return Info{}, noVolume(name)
	}
	dir := Dir(root, name)
	i := Info{Name: name, Mountpoint: filepath.Join(dir, "_data")}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return i, noVolume(name)
		}
		return i, errs.Wrap("find volume", name, err)
	}
	n, there, err := readNotes(dir, name)
	if !there && err == nil {
		n.Created = time.Unix(st.Ctim.Unix()).UTC() // it changes only while the volume is made
	}
	i.Created, i.Labels, i.Size = n.Created, n.Labels, n.Size
	return i, err
}

// List is every volume, by name. What cannot be read is told in the error, beside the others.
func List(root string) ([]Info, error) {
	entries, err := os.ReadDir(filepath.Join(root, "volumes"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var (
		list []Info
		all  = []error{errs.Wrap("list volumes in", root, err)}
	)
	for _, e := range entries {
		if !valid(e.Name()) {
			continue
		}
		i, err := Find(root, e.Name())
		if errs.Is(err, errs.NotFound) {
			continue // just removed
		}
		if err != nil {
			all = append(all, err)
			continue
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, errors.Join(all...)
}

// Size is how many bytes a volume's files have.
func Size(root, name string) int64 {
	var total int64
	_ = filepath.WalkDir(filepath.Join(Dir(root, name), "_data"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
