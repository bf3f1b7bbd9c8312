package disk

import (
	"errors"
	"io/fs"
	"os"
)

// Names is what is in a folder, in no order; nothing if there is no such folder.
func Names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
