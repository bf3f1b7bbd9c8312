package vm_test

import (
	"strings"
	"testing"

	"github.com/cortenhq/corten/test/vm/machine"
)

// bundle makes a bundle in a folder of the guest, with a config.json by which it sleeps, and changes
// of it in Python.
func bundle(dir, flags, changes string) string {
	return `set -e; rm -rf ` + dir + `; mkdir -p ` + dir + `/rootfs; cd ` + dir + `
for d in bin proc sys dev etc tmp; do mkdir rootfs/$d; done
cp /bin/busybox rootfs/bin/
for p in sh cat id sleep dd true ls; do ln -s busybox rootfs/bin/$p; done
corten-oci spec ` + flags + `
python3 - <<'P'
import json
c = json.load(open('config.json'))
c['process'].update(terminal=False, args=['sleep', '1000'], oomScoreAdj=0) # else it would be that of the agent
` + changes + `
json.dump(c, open('config.json', 'w'))
P
`
}

// limits is what container "c" is given.
const limits = `
c['linux'].setdefault('resources', {}).update({
  'memory': {'limit': 64 << 20, 'swap': 96 << 20, 'reservation': 32 << 20},
  'cpu': {'shares': 512, 'quota': 20000, 'period': 50000, 'burst': 5000, 'cpus': '0-1', 'mems': '0'},
  'pids': {'limit': 30}, 'unified': {'memory.min': '4194304'},
  'hugepageLimits': [{'pageSize': '2MB', 'limit': 4 << 20}]})
c['linux']['cgroupsPath'] = PATH
`

// facts runs lines of a shell in the guest, and compares what each prints.
func facts(t *testing.T, m *machine.Machine, prelude string, lines [][2]string) {
	t.Helper()
	for _, l := range lines {
		if got := sh(t, m, prelude+l[0]); got != l[1] {
			t.Errorf("%s\ngot  %q\nwant %q", l[0], got, l[1])
		}
	}
}

// TestLimits has cgroup v2 limit a container, in a group of its own and in a scope of systemd.
func TestLimits(t *testing.T) {
	m := guest(t)
	for _, manager := range []struct{ name, flag, path, group string }{
		{"files", "", "/corten-test/c", "/sys/fs/cgroup/corten-test/c"},
		{"systemd", "--systemd-cgroup", "machine-test.slice:try:c", "/sys/fs/cgroup/machine.slice/machine-test.slice/try-c.scope"},
	} {
		t.Run(manager.name, func(t *testing.T) {
			oci := "corten-oci " + manager.flag
			sh(t, m, bundle("/root/limits", "", "PATH = '"+manager.path+"'"+limits)+oci+" run -d c </dev/null >/dev/null 2>&1")
			defer sh(t, m, "corten-oci delete -f c; rmdir /sys/fs/cgroup/corten-test 2>/dev/null; true")
			in := "cd " + manager.group + "; "
			facts(t, m, in, [][2]string{
				{"cat memory.max memory.swap.max memory.low memory.min | tr '\\n' ' '", "67108864 33554432 33554432 4194304"},
				{"cat cpu.weight cpu.max cpu.max.burst cpuset.cpus cpuset.mems | tr '\\n' ' '", "59 20000 50000 5000 0-1 0"},
				{"cat pids.max hugetlb.2MB.max hugetlb.2MB.rsvd.max | tr '\\n' ' '", "30 4194304 4194304"},
				{"corten-oci exec c cat /proc/self/cgroup", "0::/"},
				{"corten-oci exec c cat /sys/fs/cgroup/memory.max", "67108864"},
				{"corten-oci events --stats c | grep -o '\"pids\":{[^}]*}'", `"pids":{"current":1,"limit":30}`},
				{"corten-oci pause c; cat cgroup.freeze; corten-oci resume c; cat cgroup.freeze", "1\n0"},
			})
			if manager.flag != "" {
				facts(t, m, "systemctl daemon-reload; show() { for p; do systemctl show try-c.scope --value -p $p; done | tr '\\n' ' '; }; ", [][2]string{
					{"show MemoryMax MemorySwapMax MemoryLow MemoryMin TasksMax", "67108864 33554432 33554432 4194304 30"},
					{"show CPUWeight CPUQuotaPerSecUSec CPUQuotaPeriodUSec AllowedCPUs Delegate Slice", "59 400ms 50ms 0-1 yes machine-test.slice"},
				})
			}
			sh(t, m, "corten-oci update --memory 128m --memory-swap 128m --pids-limit 20 --cpu-quota 25000 c")
			facts(t, m, "systemctl daemon-reload; "+in, [][2]string{{"cat memory.max memory.swap.max pids.max cpu.max | tr '\\n' ' '", "134217728 0 20 25000 50000"}})
			out := sh(t, m, `corten-oci events --interval 1h c >/tmp/events & until grep -qs 'FDSize' /proc/$!/status && ls -l /proc/$!/fd | grep -q memory.events; do sleep 0.1; done
corten-oci exec c dd if=/dev/zero of=/dev/null bs=300M count=1; until test -s /tmp/events; do sleep 0.1; done
corten-oci kill -a c KILL; wait; cat /tmp/events`)
			if out != `{"type":"oom","id":"c"}` {
				t.Errorf("events: %s", out)
			}
			sh(t, m, "corten-oci delete c; test ! -e "+manager.group)
		})
	}
}

// TestSystemBus reaches systemd by the bus of the system where its own socket is not there.
func TestSystemBus(t *testing.T) {
	m := guest(t)
	defer sh(t, m, "cd /run/systemd; test ! -e private.away || mv private.away private")
	out := sh(t, m, bundle("/root/bus", "", "c['linux']['cgroupsPath'] = ':bus:c'")+`
mv /run/systemd/private /run/systemd/private.away
corten-oci --systemd-cgroup run -d c </dev/null >/dev/null 2>&1
busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/bus_2dc_2escope org.freedesktop.systemd1.Unit ActiveState
corten-oci delete -f c
test ! -e /sys/fs/cgroup/system.slice/bus-c.scope && echo gone`)
	if out != "s \"active\"\ngone" {
		t.Error(out)
	}
}

// session is the beginning of a script of an ordinary user who is logged in.
const session = `id web >/dev/null 2>&1 || useradd -m -s /bin/bash web; loginctl enable-linger web
until test -S /run/user/$(id -u web)/bus && test -S /run/user/$(id -u web)/systemd/private; do sleep 0.1; done
cd /home/web; cat >script; chmod 755 script; su web -c 'XDG_RUNTIME_DIR=/run/user/$(id -u) bash script'`

// as has an ordinary user run a script.
func as(t *testing.T, m *machine.Machine, script string) string {
	t.Helper()
	cmd := m.Shell(session)
	cmd.Stdin = strings.NewReader("cd ~\n" + script)
	out, err := cmd.Output(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}

// TestPodman has Podman run containers by corten-oci, as root and as an ordinary user, who calls it in a
// user namespace of Podman's making.
func TestPodman(t *testing.T) {
	m := guest(t)
	sh(t, m, bundle("/root/image", "", "")+"tar -C rootfs -c . >/tmp/image.tar; chmod 644 /tmp/image.tar")
	const script = `set -e
exec 3>&1 >log 2>&1
podman import /tmp/image.tar bb
P="podman --runtime $(command -v corten-oci) --cgroup-manager MANAGER"
$P run --rm --network none bb id >&3
$P run -d --name a --network none -m 64m --pids-limit 40 bb sleep 1000
$P exec a cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max >&3
$P stats --no-stream --format '{{.PIDs}}' a >&3
$P pause a
$P ps -a --format '{{.Status}}' | grep -o Paused >&3
$P unpause a
$P stop -t 0 a
$P rm a
$P run --rm --network none --user 33 bb id -u >&3
`
	for _, manager := range []string{"systemd", "cgroupfs"} {
		script := strings.ReplaceAll(script, "MANAGER", manager)
		for who, run := range map[string]func(*testing.T, *machine.Machine, string) string{"root": sh, "ordinary user": as} {
			t.Run(who+" "+manager, func(t *testing.T) {
				if out := run(t, m, script); out != "uid=0 gid=0\n67108864\n40\n1\nPaused\n33" {
					t.Errorf("%s\n%s", out, run(t, m, "cat log"))
				}
			})
		}
	}
}
