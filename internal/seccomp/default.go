package seccomp

import (
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/spec"
)

// DefaultVersion is the version of the default profile. It goes up with every change of
// what the profile allows.
const DefaultVersion = 1

// Default returns the profile of a container whose bounding set is caps ("CAP_CHOWN") and
// for which no other profile was chosen. It allows what Docker's default profile allows, or
// less. Only the native ABI is open; abis opens further ones, spec.ArchX86 or spec.ArchARM,
// for images and hosts with 32-bit programs.
func Default(caps []string, abis ...spec.SeccompArch) *spec.Seccomp {
	refuse := uint(eperm)
	p := &spec.Seccomp{
		DefaultAction:   spec.ActErrno,
		DefaultErrnoRet: &refuse,
		Architectures:   append([]spec.SeccompArch{spec.ArchX86_64, spec.ArchAARCH64}, abis...),
	}
	allow := func(groups []group) {
		for i := range groups {
			if g := &groups[i]; g.caps == "" || hasAny(caps, g.caps) {
				p.Syscalls = append(p.Syscalls, spec.SeccompRule{Names: strings.Fields(g.names), Action: spec.ActAllow})
			}
		}
	}
	allow(allowed[:])
	if len(abis) > 0 {
		allow(forms32[:])
	}
	allow(forCaps[:])
	for i := range limits {
		if l := &limits[i]; l.holds(caps) {
			p.Syscalls = append(p.Syscalls, l.rules()...)
		}
	}
	return p
}

// hasAny says whether caps has one of the capabilities in list.
func hasAny(caps []string, list string) bool {
	for one := range strings.FieldsSeq(list) {
		if slices.Contains(caps, one) {
			return true
		}
	}
	return false
}

func (l *limit) holds(caps []string) bool {
	return !slices.Contains(caps, l.unless) && (l.with == "" || slices.Contains(caps, l.with))
}

func (l *limit) rules() []spec.SeccompRule {
	rules := make([]spec.SeccompRule, 0, len(l.when))
	for _, k := range l.when {
		r := spec.SeccompRule{Names: []string{l.names}, Action: spec.ActAllow}
		if k.errno != 0 {
			errno := k.errno
			r.Action, r.ErrnoRet = spec.ActErrno, &errno
		}
		switch {
		case k.mask != 0:
			r.Args = []spec.SeccompArg{{Index: k.arg, Op: spec.OpMaskedEqual, Value: k.mask, ValueTwo: k.want}}
		case len(l.when) > 1:
			// A rule without a condition would hide its neighbours; this one is met by
			// every value and tried after them.
			r.Args = []spec.SeccompArg{{Index: k.arg, Op: spec.OpGreaterEqual, Value: 0}}
		}
		rules = append(rules, r)
	}
	return rules
}
