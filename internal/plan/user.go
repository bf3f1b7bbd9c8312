package plan

import (
	"bytes"

	"github.com/moby/sys/user"

	"github.com/cortenhq/corten/internal/errs"
)

// Accounts is the content of the container's /etc/passwd and /etc/group; empty if it has
// none.
type Accounts struct {
	Passwd []byte
	Group  []byte
}

// Identity is a user of the container in numbers.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// Resolve looks up "USER[:GROUP]" and additional groups, as Docker does: a name must
// exist, a number need not.
func (a Accounts) Resolve(userSpec string, groups []string) (Identity, error) {
	u, err := user.GetExecUser(userSpec, &user.ExecUser{Home: "/"}, bytes.NewReader(a.Passwd), bytes.NewReader(a.Group))
	if err != nil {
		return Identity{}, errs.New(errs.Invalid, "look up user", userSpec, err).
			WithHint("the name must be in the container's /etc/passwd or /etc/group; a number always works")
	}
	id := Identity{UID: uint32(u.Uid), GID: uint32(u.Gid), Home: u.Home}
	for _, g := range u.Sgids {
		id.Groups = append(id.Groups, uint32(g))
	}
	if len(groups) > 0 {
		more, err := user.GetAdditionalGroups(groups, bytes.NewReader(a.Group))
		if err != nil {
			return Identity{}, errs.New(errs.Invalid, "look up groups", "", err).
				WithHint("the name must be in the container's /etc/group; a number always works")
		}
		for _, g := range more {
			id.Groups = append(id.Groups, uint32(g))
		}
	}
	if id.Home == "" {
		id.Home = "/"
	}
	return id, nil
}

// RlimitNumber is the number of a resource limit, <asm-generic/resource.h>, by the name
// that Docker's --ulimit uses.
func RlimitNumber(name string) (int, bool) {
	names := [...]string{"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as",
		"locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"}
	for i, n := range names {
		if n == name {
			return i, true
		}
	}
	return 0, false
}
