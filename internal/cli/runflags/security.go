package runflags

import (
	"math/rand/v2"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// security is what the container may do.
type security struct {
	capAdd, capDrop, options []string
	privileged               bool
}

func (f *security) bind(g group) {
	g.list(&f.capAdd, "cap-add", "", "Grant the `CAPABILITY`, or ALL (repeatable)")
	g.list(&f.capDrop, "cap-drop", "", "Take the `CAPABILITY`, or ALL, away (repeatable)")
	g.yesNo(&f.privileged, "privileged", "", false, "Grant all capabilities and devices, without a system call filter or hidden paths; "+
		"root is still not the host's root unless --userns host is given too")
	g.list(&f.options, "security-opt", "", "Change a protection: `OPTION` is seccomp=FILE|unconfined, no-new-privileges=false, "+
		"apparmor=PROFILE|unconfined (corten-default where it is loaded), label=..., mask=PATH, unmask=PATH|ALL, systempaths=unconfined (repeatable)")
}

func (f *security) fill(c *spec.Container) error {
	s := &c.Security
	var err error
	if s.Capabilities, err = capabilities(f.capAdd, f.capDrop, f.privileged); err != nil {
		return err
	}
	s.Masked, s.ReadOnlyPaths = plan.DefaultMasked(), plan.DefaultReadOnly()
	if f.privileged {
		s.Privileged, s.Unconfined, s.AllowNewPrivs = true, true, true
		s.Masked, s.ReadOnlyPaths, s.AppArmor = []string{}, []string{}, "unconfined"
	}
	l := selinux{}
	for _, o := range f.options {
		if err := f.option(s, &l, o); err != nil {
			return inFlag("security-opt", o, err)
		}
	}
	return l.fill(s)
}

func (f *security) option(s *spec.Security, l *selinux, text string) error {
	key, value, given := strings.Cut(text, "=")
	if !given { // how Docker wrote them before version 1.11
		key, value, given = strings.Cut(text, ":")
	}
	if key == "no-new-privileges" {
		on, ok := values.Bool(value, given)
		if !ok {
			return refuseOption(errs.Invalid, text, "neither true nor false", "no-new-privileges is on by default; turn it off with no-new-privileges=false")
		}
		s.AllowNewPrivs = !on
		return nil
	}
	if value == "" {
		return refuseOption(errs.Invalid, text, "no value", "write --security-opt NAME=VALUE")
	}
	switch key {
	case "seccomp":
		return seccompOption(s, value)
	case "apparmor":
		s.AppArmor = value
		return nil
	case "label":
		return l.set(value)
	case "mask":
		return maskPaths(s, value)
	case "unmask":
		return unmask(s, value)
	case "systempaths":
		if value == "unconfined" {
			return unmask(s, "ALL")
		}
		return refuseOption(errs.Invalid, text, "no such choice", "write systempaths=unconfined")
	}
	return refuseOption(errs.Invalid, key, "no such option",
		"the options are seccomp, no-new-privileges, apparmor, label, mask, unmask and systempaths")
}

// capabilities is the set that the flags leave, in the kernel's order. Docker takes
// contradictions for a choice; for a protection it is safer to ask.
func capabilities(add, drop []string, privileged bool) ([]string, error) {
	added, addAll, err := capNames("cap-add", add)
	if err != nil {
		return nil, err
	}
	dropped, dropAll, err := capNames("cap-drop", drop)
	if err != nil {
		return nil, err
	}
	if addAll && dropAll {
		return nil, values.Conflict("--cap-add ALL", "--cap-drop ALL", "they say the opposite")
	}
	for _, c := range added {
		if slices.Contains(dropped, c) {
			return nil, values.Conflict("--cap-add "+c, "--cap-drop "+c, "they say the opposite")
		}
	}
	base := plan.DefaultCaps()
	switch {
	case dropAll:
		base = nil
	case addAll || privileged:
		base = plan.AllCaps()
	}
	out := []string{}
	for _, c := range plan.AllCaps() {
		if slices.Contains(added, c) || slices.Contains(base, c) && !slices.Contains(dropped, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

// capNames brings names to the kernel's form; ALL is told apart.
func capNames(flag string, texts []string) (names []string, all bool, err error) {
	for _, text := range texts {
		for s := range strings.SplitSeq(text, ",") {
			name := strings.ToUpper(s)
			if name == "ALL" {
				all = true
				continue
			}
			if !strings.HasPrefix(name, "CAP_") {
				name = "CAP_" + name
			}
			if _, ok := plan.CapNumber(name); !ok {
				return nil, false, values.Bad(flag, s, "no such capability", "capabilities(7) lists them; CAP_NET_ADMIN, net_admin and ALL are ways to write one")
			}
			names = append(names, name)
		}
	}
	return names, all, nil
}

// seccompOption reads a profile from a file, for this kernel and the container's
// capabilities.
func seccompOption(s *spec.Security, value string) error {
	s.Seccomp, s.Unconfined = nil, value == "unconfined"
	if s.Unconfined || value == "builtin" || value == "default" {
		return nil
	}
	data, err := os.ReadFile(value)
	if err != nil {
		return errs.New(errs.KindOf(err), "", "", err).WithHint("name a profile in Docker's or the OCI runtime specification's format, or write seccomp=unconfined")
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	on := spec.SeccompHost{Arch: runtime.GOARCH, Caps: s.Capabilities, Kernel: unix.ByteSliceToString(u.Release[:])}
	s.Seccomp, err = spec.ParseSeccomp(data, on)
	return err
}

func maskPaths(s *spec.Security, value string) error {
	for p := range strings.SplitSeq(value, ":") {
		if !path.IsAbs(p) || path.Clean(p) == "/" {
			return refuseOption(errs.Invalid, "mask="+value, "not a list of absolute paths", "write mask=/proc/cpuinfo:/sys/firmware")
		}
		if p = path.Clean(p); !slices.Contains(s.Masked, p) {
			s.Masked = append(s.Masked, p)
		}
	}
	return nil
}

// unmask shows paths that are hidden and lets those be written that are read-only. As with
// Podman a path may have * and ? in it, and ALL stands for every one.
func unmask(s *spec.Security, value string) error {
	if strings.EqualFold(value, "ALL") {
		s.Masked, s.ReadOnlyPaths = []string{}, []string{}
		return nil
	}
	for p := range strings.SplitSeq(value, ":") {
		if _, err := path.Match(p, "/"); err != nil || !path.IsAbs(p) {
			return refuseOption(errs.Invalid, "unmask="+value, "not a list of absolute paths", "write unmask=ALL or unmask=/proc/kcore:/sys/*")
		}
		match := func(have string) bool { ok, _ := path.Match(path.Clean(p), have); return ok }
		before := len(s.Masked) + len(s.ReadOnlyPaths)
		s.Masked = slices.DeleteFunc(s.Masked, match)
		s.ReadOnlyPaths = slices.DeleteFunc(s.ReadOnlyPaths, match)
		if before == len(s.Masked)+len(s.ReadOnlyPaths) {
			return refuseOption(errs.Invalid, "unmask="+p, "this path is neither hidden nor read-only",
				"those that are: "+strings.Join(append(slices.Clone(s.Masked), s.ReadOnlyPaths...), " "))
		}
	}
	return nil
}

// selinux collects the parts of a label; empty parts take the names of the policy that
// distributions ship for containers.
type selinux struct {
	user, role, kind, level, fileKind string
	disable                           bool
}

func (l *selinux) set(value string) error {
	if value == "disable" {
		l.disable = true
		return nil
	}
	key, v, _ := strings.Cut(value, ":")
	part := map[string]*string{"user": &l.user, "role": &l.role, "type": &l.kind, "level": &l.level, "filetype": &l.fileKind}[key]
	if part == nil || v == "" || strings.ContainsAny(v, " \t\n") {
		return refuseOption(errs.Invalid, "label="+value, "no such label", "write label=disable or label=type:container_t; the parts are user, role, type, level and filetype")
	}
	*part = v
	return nil
}

func (l *selinux) fill(s *spec.Security) error {
	parts := l.user + l.role + l.kind + l.level + l.fileKind
	if parts == "" {
		return nil
	}
	if l.disable {
		return values.Conflict("label=disable", "another label", "it turns labels off")
	}
	or := func(v, otherwise string) string {
		if v == "" {
			return otherwise
		}
		return v
	}
	level := l.level
	if level == "" { // two categories of 1024 keep containers apart, as the policy means them to
		a, b := rand.IntN(1023), 0
		b = a + 1 + rand.IntN(1023-a)
		level = "s0:c" + strconv.Itoa(a) + ",c" + strconv.Itoa(b)
	}
	user := or(l.user, "system_u")
	s.SELinux = user + ":" + or(l.role, "system_r") + ":" + or(l.kind, "container_t") + ":" + level
	s.SELinuxMount = user + ":object_r:" + or(l.fileKind, "container_file_t") + ":" + level
	return nil
}
