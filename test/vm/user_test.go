package vm_test

import (
	"strings"
	"testing"

	"github.com/cortenhq/corten/test/vm/machine"
)

// asUser is what commands of the ordinary user begin with, as in a session of his: that of the agent
// is in no group which was delegated to him.
const asUser = "runuser -u user -- env -i HOME=/home/user PATH=$PATH XDG_RUNTIME_DIR=/run/user/1000 "

// makeUser makes the user who has a systemd of his own, and an image called box.
func makeUser(t *testing.T, m *machine.Machine) {
	t.Helper()
	sh(t, m, `id user >/dev/null 2>&1 && exit 0
		useradd -m -u 1000 user
		modprobe -a overlay tun
		loginctl enable-linger user
		mkdir -p /tmp/box/bin && cp /bin/busybox /tmp/box/bin/ && ln -s busybox /tmp/box/bin/sh && tar -C /tmp/box -cf /home/user/box.tar . && rm -r /tmp/box`)
	until(t, m, "the user's systemd", "running", asUser+"systemctl --user is-system-running 2>&1 || true")
	sh(t, m, asUser+"corten image inspect box >/dev/null 2>&1 || "+asUser+"corten import /home/user/box.tar box")
}

func TestOrdinaryUser(t *testing.T) {
	m := guest(t)
	makeUser(t, m)
	defer clean(t, m, asUser+"corten rm -f limited plain")
	check(t, m, "the doctor", "corten run works here.", asUser+"corten doctor | tail -n 1")
	check(t, m, "root is he", "0 0 1\n1 1 65536", asUser+"corten run --rm --network none box busybox awk '{print $1, $2, $3}' /proc/self/uid_map")
	sh(t, m, asUser+"corten run -d --name limited --network none -m 64m box busybox sleep 1000\n"+
		asUser+"corten run -d --name plain --network none box busybox sleep 1000")
	check(t, m, "he enters a container with limits", "7", asUser+"corten exec limited sh -c 'exit 7'; echo $?")
	check(t, m, "he enters one without", "7", asUser+"corten exec plain sh -c 'exit 7'; echo $?")
	// Debian 12's profile of passt keeps pasta from joining namespaces: TestAppArmorOfUsers.
	sh(t, m, "apparmor_parser -R /etc/apparmor.d/usr.bin.passt")
	defer clean(t, m, "apparmor_parser -r /etc/apparmor.d/usr.bin.passt")
	check(t, m, "pasta gives him the host's address", "10.0.2.15/24", asUser+"corten run --rm --network pasta box busybox ip -o -4 addr show eth0 2>&1 | awk '{print $4}'")
}

// TestDelegatedLimits says that limits of an ordinary user's containers are those of groups that his
// systemd delegates, and that the kernel holds them.
func TestDelegatedLimits(t *testing.T) {
	m := guest(t)
	makeUser(t, m)
	defer clean(t, m, asUser+"corten rm -f held")
	check(t, m, "what systemd delegates", "cpu memory pids", "cat /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers")
	sh(t, m, asUser+"corten run -d --name held --network none -m 64m --memory-swap 64m --pids-limit 10 --cpus 0.5 box busybox sleep 1000")
	pid := sh(t, m, asUser+"corten inspect -f '{{.State.Pid}}' held")
	group := strings.TrimPrefix(sh(t, m, "cat /proc/"+pid+"/cgroup"), "0::")
	if !strings.HasPrefix(group, "/user.slice/user-1000.slice/user@1000.service/") {
		t.Errorf("the group is %s", group)
	}
	for file, want := range map[string]string{"memory.max": "67108864", "memory.swap.max": "0", "pids.max": "10", "cpu.max": "50000 100000"} {
		check(t, m, file, want, asUser+"corten exec held busybox cat /sys/fs/cgroup/"+file)
	}
	check(t, m, "too many processes", "refused", asUser+`corten exec held sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done' >/dev/null 2>&1 && echo started || echo refused`)
	sh(t, m, asUser+"corten restart -t 0 held")
	check(t, m, "too much memory", "137", asUser+"corten exec held sh -c 'busybox dd if=/dev/zero of=/dev/null bs=200M count=1' >/dev/null 2>&1; echo $?")
}
