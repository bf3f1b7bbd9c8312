package bundle

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cortenhq/corten/internal/errs"
)

// refuse names what config.json says and Corten cannot honour.
func refuse(c *config) error {
	if !strings.HasPrefix(c.Version, "1.") {
		return errs.Newf(errs.Unsupported, "", "", "ociVersion "+strconv.Quote(c.Version)+" is none that is known").WithHint("versions 1.0 to 1.3 are")
	}
	for _, x := range []struct {
		there bool
		name  string
	}{
		{said(c.Windows) || said(c.Solaris) || said(c.ZOS) || said(c.FreeBSD), "another platform than linux"},
		{said(c.VM), "vm"},
	} {
		if x.there {
			return notYet(x.name)
		}
	}
	if err := refuseNamespaces(c.Linux.Namespaces); err != nil {
		return err
	}
	if c.Process == nil {
		return errs.Newf(errs.Invalid, "", "", "it has no process").WithHint("fill in process")
	}
	return nil
}

func refuseNamespaces(list []specs.LinuxNamespace) error {
	var mount, user *specs.LinuxNamespace
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, n := range list {
		if seen[n.Type] {
			return errs.Newf(errs.Invalid, "", "", "linux.namespaces has "+string(n.Type)+" twice").WithHint("leave one out")
		}
		seen[n.Type] = true
		switch n.Type {
		case specs.MountNamespace:
			mount = &n
		case specs.UserNamespace:
			user = &n
		case specs.TimeNamespace:
			// It cannot be joined by who shares memory with another (setns(2), EUSERS), as a process does
			// with its launcher up to its exec.
			if n.Path != "" {
				return notYet("linux.namespaces: time by path")
			}
		case specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace:
		default:
			return errs.Newf(errs.Invalid, "", "", "linux.namespaces: there is no "+string(n.Type)).WithHint("the specification lists them")
		}
	}
	if user != nil && (mount == nil || mount.Path != "" && user.Path == "") {
		return errs.Newf(errs.Invalid, "", "", "in a user namespace the container needs a mount namespace of its own: it may not mount in that of others").
			WithHint(`have {"type": "mount"} without a path in linux.namespaces`)
	}
	return nil
}

func notYet(what string) error {
	return errs.Newf(errs.Unsupported, "", "", what+" is not there yet").WithHint("leave it out of config.json, or use another runtime for this container")
}

// said reports whether there is something in a part of config.json that was not read.
func said(part json.RawMessage) bool { return len(part) > 0 && string(part) != "null" }
