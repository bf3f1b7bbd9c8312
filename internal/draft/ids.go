package draft

import (
	"os"
	"strconv"

	"github.com/cortenhq/corten/internal/container"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/spec"
)

// mapUsers makes the map of the container's users.
func (d *Draft) mapUsers() error {
	u := &d.Spec.Namespaces.User
	switch {
	case nest.Inside():
		return d.mapNested()
	case u.Mode == spec.UserAuto:
		base, err := d.ownIDs()
		if err != nil {
			return err
		}
		m := container.Map(base)
		u.UIDMap, u.GIDMap = m, m
	case u.Mode == spec.UserKeepID:
		return d.mapKeepID()
	case u.Mode == spec.UserMap && (len(u.UIDMap) == 0 || len(u.GIDMap) == 0):
		return errs.Newf(errs.Invalid, "map users", "", "both a uid and a gid map are wanted")
	}
	return nil
}

// ownIDs is the first host id of the container's own range: claimed, unless the draft is a dry one.
func (d *Draft) ownIDs() (base uint32, err error) {
	if d.Box == nil {
		return container.LikelyIDs(d.Spec.ID), nil
	}
	if d.Claim == 0 {
		d.Claim, err = container.ClaimIDs(d.Site.Dirs, d.Spec.ID)
	}
	return d.Claim, err
}

// mapNested gives the container of an ordinary user all the ids that he has, as they are: the kernel
// shifts owners of files for root of the host alone.
func (d *Draft) mapNested() (err error) {
	u := &d.Spec.Namespaces.User
	switch u.Mode {
	case spec.UserAuto:
		u.UIDMap, u.GIDMap, err = nest.Maps()
	case spec.UserKeepID, spec.UserMap:
		err = errs.Newf(errs.Unsupported, "map users", string(u.Mode), "only root of the host may show files with other owners than they have").
			WithHint("leave --userns out: root of the container is you, outside")
	}
	return err
}

// mapKeepID makes the map of --userns keep-id: the caller's ids stay, all others come from the
// container's own range.
func (d *Draft) mapKeepID() error {
	u := &d.Spec.Namespaces.User
	if os.Getuid() == 0 {
		return errs.Newf(errs.Invalid, "map users", "keep-id", "the caller is root, and would be root of the host inside").
			WithHint("leave --userns out, or say --userns host if that is what you want")
	}
	base, err := d.ownIDs()
	if err != nil {
		return err
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	u.UIDMap, u.GIDMap = container.KeepMap(base, uid), container.KeepMap(base, gid)
	if d.Spec.Process.User == "" {
		d.Spec.Process.User = strconv.FormatUint(uint64(uid), 10) + ":" + strconv.FormatUint(uint64(gid), 10)
	}
	return nil
}
