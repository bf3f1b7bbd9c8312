package volume

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/quota"
)

// owner is a volume as the owner of a project.
func owner(name string) string { return "volumes/" + name }

// readNotes reads what was written down of a volume; of one that a container made that is nothing.
func readNotes(dir, name string) (n notes, there bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, notesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return n, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	if err == nil && n.Version > 1 {
		return n, true, errs.Newf(errs.Unsupported, "read volume", name, "it was made by a newer Corten").WithHint("use that version, or a newer one")
	}
	return n, true, errs.Wrap("read volume", name, err)
}

// limit has the kernel see to it that the volume takes no more than its notes say. Each user asks for it
// again: the directory may be new, the volume a copy, and a limit must not be ignored.
func (v *Volume) limit(root string) error {
	n, _, err := readNotes(v.dir, v.Name)
	if err != nil || n.Size == 0 {
		return err
	}
	return errs.Wrap("limit volume", v.Name, quota.Limit(root, owner(v.Name), []string{v.Data()}, n.Size, 0))
}

// same says that a volume which is there is limited as it would have been made.
func same(root, name string, size int64) error {
	n, _, err := readNotes(Dir(root, name), name)
	if err == nil && size > 0 && n.Size != size {
		err = errs.Newf(errs.Exists, "create volume", name, "it is there, with another size").WithHint("choose another name, or remove it first: corten volume rm " + name)
	}
	return err
}
