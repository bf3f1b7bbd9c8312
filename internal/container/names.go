package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cortenhq/corten/internal/disk"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Names are symbolic links, names/NAME to the id (linkTo): the creation of a link is atomic and
// fails if there is one. To take one away has two steps, a look at whose it is and the
// removal, so that is done under a lock on the folder: of two that find a dead name, the
// second would else remove what the first has just made.

// claimName takes the container's name.
func (x *Container) claimName() error {
	names := filepath.Join(x.dirs.Root, "names")
	for {
		err := linkTo(x.Spec.ID, filepath.Join(names, x.Spec.Name))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			err = os.MkdirAll(names, 0o700)
		case errors.Is(err, fs.ErrExist):
			err = freeName(x.dirs, x.Spec.Name)
		}
		if err != nil {
			return errs.Wrap("name container", x.Spec.Name, err)
		}
	}
}

// freeName takes a name away from a container that is gone; it is an error if the holder
// is there. A directory is made before its name, so a name without one is a leftover.
func freeName(dirs Dirs, name string) error {
	return underNames(dirs, func() error {
		id, err := readLink(filepath.Join(dirs.Root, "names", name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		if _, err := os.Stat(Dir(dirs, id)); !errors.Is(err, fs.ErrNotExist) {
			return errs.Newf(errs.Exists, "", "", "container "+id.Short()+" has that name").
				WithHint("choose another name, or remove that container")
		}
		return os.Remove(filepath.Join(dirs.Root, "names", name))
	})
}

// dropName gives the container's name up, if it has it.
func dropName(dirs Dirs, name string, id spec.ContainerID) error {
	return underNames(dirs, func() error {
		link := filepath.Join(dirs.Root, "names", name)
		if holder, err := readLink(link); err == nil && holder == id {
			return errs.Wrap("give up name", name, os.Remove(link))
		}
		return nil
	})
}

// underNames does something while nobody else takes names away.
func underNames(dirs Dirs, do func() error) error {
	f, err := os.Open(filepath.Join(dirs.Root, "names"))
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := disk.Flock(f, disk.Exclusive); err != nil {
		return err
	}
	return do()
}
