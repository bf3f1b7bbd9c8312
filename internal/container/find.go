package container

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// Snapshot is what the disk says of a container at one moment. It is nobody's to change.
type Snapshot struct {
	Spec  *spec.Container
	State State
}

// Find returns the id of the container that ref means: a name, an id, or the beginning of
// just one id.
func Find(dirs Dirs, ref string) (spec.ContainerID, error) {
	ref = strings.TrimPrefix(ref, "/") // Docker shows names with a slash
	if ref == "" || strings.ContainsAny(ref, "/\x00") || ref == "." || ref == ".." {
		return "", noContainer(ref)
	}
	if id, err := readLink(filepath.Join(dirs.Root, "names", ref)); err == nil {
		if _, err := os.Stat(Dir(dirs, id)); err == nil {
			return id, nil
		}
	}
	if !isHex(ref) || len(ref) > 64 {
		return "", noContainer(ref)
	}
	ids, err := IDs(dirs)
	if err != nil {
		return "", err
	}
	var found spec.ContainerID
	for _, id := range ids {
		if !strings.HasPrefix(string(id), ref) {
			continue
		}
		if found != "" {
			return "", errs.Newf(errs.Invalid, "find container", ref, "more than one id begins so").WithHint("write more digits of it: corten ps -a --no-trunc shows them")
		}
		found = id
	}
	if found == "" {
		return "", noContainer(ref)
	}
	return found, nil
}

func noContainer(ref string) error {
	return errs.Newf(errs.NotFound, "find container", ref, "no such container").WithHint("corten ps -a lists them")
}

func isHex(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) < 0
}

// IDs is every container on disk, those that are being made too.
func IDs(dirs Dirs) ([]spec.ContainerID, error) {
	f, err := os.Open(filepath.Join(dirs.Root, "containers"))
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap("list containers in", dirs.Root, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, errs.Wrap("list containers in", dirs.Root, err)
	}
	ids := make([]spec.ContainerID, 0, len(names))
	for _, n := range names {
		ids = append(ids, spec.ContainerID(n))
	}
	return ids, nil
}

// Load reads one container. A foreground --rm container may be found without a state while
// it is being made; it counts as created.
func Load(dirs Dirs, id spec.ContainerID) (Snapshot, error) {
	c, err := ReadSpec(dirs, id)
	if err != nil {
		return Snapshot{}, err
	}
	st, err := stateOf(dirs, id)
	return Snapshot{c, st}, err
}

func stateOf(dirs Dirs, id spec.ContainerID) (State, error) {
	st, err := ReadState(dirs, id)
	if errors.Is(err, fs.ErrNotExist) {
		return State{Status: Created}, nil
	}
	return st, err
}

// List reads every container, the youngest first. One that goes while we read, or is only
// being made, is left out; what cannot be read is told in the error, beside the others.
func List(dirs Dirs) ([]Snapshot, error) { return list(dirs, Load) }

func list(dirs Dirs, load func(Dirs, spec.ContainerID) (Snapshot, error)) ([]Snapshot, error) {
	ids, err := IDs(dirs)
	if err != nil {
		return nil, err
	}
	found, failed := make([]Snapshot, len(ids)), make([]error, len(ids))
	each(len(ids), func(i int) {
		found[i], failed[i] = load(dirs, ids[i])
		if unready(failed[i]) {
			failed[i] = nil
		}
	})
	found = slices.DeleteFunc(found, func(s Snapshot) bool { return s.Spec == nil })
	slices.SortFunc(found, func(a, b Snapshot) int { return b.Spec.Created.Compare(a.Spec.Created) })
	return found, errors.Join(failed...)
}

// each calls do for 0 to n-1, on all processors.
func each(n int, do func(i int)) {
	var wait sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), n/16+1)
	for w := range workers {
		wait.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	wait.Wait()
}

// unready reports whether a container could not be read because it is only being made, has
// just gone, or is one to be removed whose description is still empty.
func unready(err error) bool {
	var syntax *json.SyntaxError
	return missing(err) || errors.As(err, &syntax) && syntax.Offset == 0
}
