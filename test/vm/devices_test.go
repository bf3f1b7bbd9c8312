package vm_test

import "testing"

// TestDevices says which devices the BPF program of a container's group lets it open: control groups of
// version 2 have no other way to say it. The nodes are there in each case.
func TestDevices(t *testing.T) {
	m := guest(t)
	// A root that may make and open nodes as far as the filter lets it: the initial user namespace has all.
	const run = "corten run --rm --userns host --cap-add MKNOD "
	open := func(node string) string {
		return " debian sh -c 'mknod /n " + node + " && head -c1 /n 2>&1 >/dev/null | grep -o \"Operation not permitted\" || echo opened'"
	}
	for _, c := range []struct{ name, flags, node, want string }{
		{"null, which all have", "", "c 1 3", "opened"},
		{"the root disk", "", "b 254 0", "Operation not permitted"},
		{"another disk", "", "b 254 16", "Operation not permitted"},
		{"a disk that was given", "--device /dev/vdb", "b 254 16", "opened"},
		{"not the one beside it", "--device /dev/vdb", "b 254 0", "Operation not permitted"},
		{"a rule", "--device-cgroup-rule 'b 254:* rm'", "b 254 0", "opened"},
		{"a rule of all", "--device-cgroup-rule 'a *:* rwm'", "b 254 0", "opened"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check(t, m, c.node, c.want, run+c.flags+open(c.node))
		})
	}
	t.Run("writing where a rule allows to read", func(t *testing.T) {
		check(t, m, "vdb", "Operation not permitted", run+"--device /dev/vdb:/dev/vdb:r debian sh -c 'head -c1 /dev/vdb >/dev/null && : >/dev/vdb' 2>&1 | grep -o 'Operation not permitted'")
	})
	t.Run("a filter stays while its container does", func(t *testing.T) {
		sh(t, m, "corten run -d --name dev --userns host --cap-add MKNOD debian sleep 1000")
		defer clean(t, m, "corten rm -f dev")
		check(t, m, "exec", "Operation not permitted", "corten exec dev sh -c 'mknod /n b 254 0; head -c1 /n' 2>&1 | grep -o 'Operation not permitted'")
		check(t, m, "update keeps it", "Operation not permitted", "corten update -m 100m dev >/dev/null; corten exec dev sh -c 'head -c1 /n' 2>&1 | grep -o 'Operation not permitted'")
	})
}
