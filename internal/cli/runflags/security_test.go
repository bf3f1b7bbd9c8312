package runflags

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

func TestCapabilities(t *testing.T) {
	without := func(list []string, names ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(names, s) })
	}
	inOrder := func(names ...string) []string {
		return slices.DeleteFunc(plan.AllCaps(), func(s string) bool { return !slices.Contains(names, s) })
	}
	base := inOrder(plan.DefaultCaps()...)
	for args, want := range map[string][]string{
		"":                                     base,
		"--cap-drop all":                       {},
		"--cap-drop ALL --cap-add net_admin":   {"CAP_NET_ADMIN"},
		"--cap-drop CAP_CHOWN":                 without(base, "CAP_CHOWN"),
		"--cap-drop chown --cap-drop cap_kill": without(base, "CAP_CHOWN", "CAP_KILL"),
		"--cap-add SYS_TIME,Sys_Nice":          inOrder(append(base, "CAP_SYS_TIME", "CAP_SYS_NICE")...),
		"--cap-add CHOWN":                      base,
		"--cap-add ALL":                        plan.AllCaps(),
		"--cap-add ALL --cap-drop MKNOD":       without(plan.AllCaps(), "CAP_MKNOD"),
		"--cap-drop ALL --cap-drop CHOWN":      {},
		"--privileged":                         plan.AllCaps(),
		"--privileged --cap-drop ALL":          {},
	} {
		if diff := cmp.Diff(want, mustParse(t, strings.Fields(args)...).Security.Capabilities); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	}
}

func TestSecurityOptions(t *testing.T) {
	base := mustParse(t).Security
	profile := write(t, "p.json", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},
		{"names":["reboot"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_BOOT"]}}]}`)
	for _, x := range []struct {
		args   string
		change func(s *spec.Security)
	}{
		{"seccomp=unconfined", func(s *spec.Security) { s.Unconfined = true }},
		{"seccomp:unconfined", func(s *spec.Security) { s.Unconfined = true }},
		{"seccomp=builtin", func(*spec.Security) {}},
		{"seccomp=" + profile, func(s *spec.Security) {
			s.Seccomp = &spec.Seccomp{DefaultAction: "SCMP_ACT_ERRNO", Syscalls: []spec.SeccompRule{{Names: []string{"read"}, Action: "SCMP_ACT_ALLOW"}}}
		}},
		{"no-new-privileges", func(*spec.Security) {}},
		{"no-new-privileges:true", func(*spec.Security) {}},
		{"no-new-privileges=false", func(s *spec.Security) { s.AllowNewPrivs = true }},
		{"no-new-privileges:false", func(s *spec.Security) { s.AllowNewPrivs = true }},
		{"apparmor=corten-web", func(s *spec.Security) { s.AppArmor = "corten-web" }},
		{"apparmor:unconfined", func(s *spec.Security) { s.AppArmor = "unconfined" }},
		{"label=disable", func(*spec.Security) {}},
		{"label=level:s0:c1,c2", func(s *spec.Security) {
			s.SELinux, s.SELinuxMount = "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"
		}},
		{"label:type:my_t label=user:me_u label=role:me_r label=level:s0 label=filetype:f_t", func(s *spec.Security) {
			s.SELinux, s.SELinuxMount = "me_u:me_r:my_t:s0", "me_u:object_r:f_t:s0"
		}},
		{"systempaths=unconfined", func(s *spec.Security) { s.Masked, s.ReadOnlyPaths = []string{}, []string{} }},
		{"unmask=ALL", func(s *spec.Security) { s.Masked, s.ReadOnlyPaths = []string{}, []string{} }},
		{"unmask=/proc/kcore:/proc/sys", func(s *spec.Security) {
			s.Masked = without(s.Masked, "/proc/kcore")
			s.ReadOnlyPaths = without(s.ReadOnlyPaths, "/proc/sys")
		}},
		{"unmask=/proc/*", func(s *spec.Security) {
			s.Masked = slices.DeleteFunc(slices.Clone(s.Masked), func(p string) bool { return strings.HasPrefix(p, "/proc/") })
			s.ReadOnlyPaths = []string{}
		}},
		{"mask=/proc/cpuinfo:/proc/kcore/", func(s *spec.Security) { s.Masked = append(slices.Clone(s.Masked), "/proc/cpuinfo") }},
	} {
		want := base
		x.change(&want)
		var args []string
		for _, o := range strings.Fields(x.args) {
			args = append(args, "--security-opt", o)
		}
		if diff := cmp.Diff(want, mustParse(t, args...).Security); diff != "" {
			t.Errorf("%s: %s", x.args, diff)
		}
	}
}

func without(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == name })
}

// Containers that share no level get categories of their own.
func TestSELinuxCategories(t *testing.T) {
	re := regexp.MustCompile(`^system_u:system_r:my_t:s0:c\d+,c\d+$`)
	seen := map[string]bool{}
	for range 20 {
		label := mustParse(t, "--security-opt", "label=type:my_t").Security.SELinux
		if !re.MatchString(label) {
			t.Error(label)
		}
		seen[label] = true
	}
	if len(seen) < 15 {
		t.Error(seen)
	}
}

// A rule for a capability counts for those that the flags leave, wherever they stand.
func TestSeccompSeesCapabilities(t *testing.T) {
	profile := write(t, "p.json", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
		{"names":["reboot"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_BOOT"]}}]}`)
	c := mustParse(t, "--security-opt", "seccomp="+profile, "--cap-add", "SYS_BOOT")
	if len(c.Security.Seccomp.Syscalls) != 1 {
		t.Errorf("%+v", c.Security.Seccomp)
	}
	c = mustParse(t, "--privileged", "--security-opt", "seccomp="+profile)
	if c.Security.Unconfined || c.Security.Seccomp == nil {
		t.Error("a profile does not count with --privileged")
	}
	for _, text := range []string{"", "{}", "[", `{"defaultAction":3}`} {
		if _, _, err := parse("--security-opt", "seccomp="+write(t, "bad.json", text)); err == nil {
			t.Errorf("%q is taken for a profile", text)
		}
	}
}
