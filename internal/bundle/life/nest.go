package life

import (
	"strconv"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/spec"
)

// inNest turns the ids that config.json maps, which are those of the host, to those of the namespace that
// an ordinary user's command has made itself root of.
func inNest(u *spec.UserNS) error {
	if !nest.Inside() {
		return nil
	}
	uids, gids, err := nest.Outside()
	if err != nil {
		return err
	}
	if u.UIDMap, err = inside(u.UIDMap, uids, "uidMappings"); err != nil {
		return err
	}
	u.GIDMap, err = inside(u.GIDMap, gids, "gidMappings")
	return err
}

// inside finds each range of host ids in a namespace, which may have them in pieces.
func inside(list, nest []spec.IDMap, name string) (out []spec.IDMap, err error) {
	for _, m := range list {
		for m.Size > 0 {
			piece, ok := first(m, nest)
			if !ok {
				return nil, errs.Newf(errs.Denied, "use linux."+name, strconv.FormatUint(uint64(m.Host), 10), "the host id is none of this user's").
					WithHint("he has his own, and those of /etc/subuid and /etc/subgid")
			}
			out = append(out, piece)
			m.Container, m.Host, m.Size = m.Container+piece.Size, m.Host+piece.Size, m.Size-piece.Size
		}
	}
	return out, nil
}

// first is the first part of a range that is in one piece.
func first(m spec.IDMap, nest []spec.IDMap) (spec.IDMap, bool) {
	for _, n := range nest {
		if m.Host >= n.Host && m.Host-n.Host < n.Size {
			skip := m.Host - n.Host
			return spec.IDMap{Container: m.Container, Host: n.Container + skip, Size: min(m.Size, n.Size-skip)}, true
		}
	}
	return spec.IDMap{}, false
}
