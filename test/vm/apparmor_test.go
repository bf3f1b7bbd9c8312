package vm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/test/vm/machine"
)

const (
	loadProfile   = "apparmor_parser --replace /etc/apparmor.d/corten-default"
	removeProfile = "apparmor_parser --remove /etc/apparmor.d/corten-default"
	confined      = "corten-default (enforce)"
)

// confining is the machine with the profile loaded.
func confining(t *testing.T) *machine.Machine {
	t.Helper()
	m := guest(t)
	if said := sh(t, m, loadProfile+" 2>&1"); said != "" {
		t.Fatalf("apparmor_parser says %q of the profile", said)
	}
	return m
}

// TestProfileCompiles needs no machine: the parser of this host compiles the profile for any.
func TestProfileCompiles(t *testing.T) {
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("needs apparmor_parser: apt-get install apparmor")
	}
	const file = "../../packaging/apparmor/" + spec.DefaultProfile
	if out, err := exec.Command(parser, "--skip-kernel-load", "--skip-cache", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.Command(parser, "--names", file).Output(); err != nil || string(out) != spec.DefaultProfile+"\n" {
		t.Errorf("the profile in it is %q, %v", out, err)
	}
}

// TestAppArmor says which containers have the profile, and that nothing in them is without.
func TestAppArmor(t *testing.T) {
	m := confining(t)
	run := func(flags string) string {
		return "corten run --rm --network none " + flags + " debian cat /proc/self/attr/current /proc/1/attr/current"
	}
	both := confined + "\n" + confined
	for _, c := range []struct{ name, script, want string }{
		{"by default", run(""), both},
		{"without an init", run("--no-init"), both},
		{"with the host's users", run("--userns host"), both},
		{"with new privileges", run("--security-opt no-new-privileges=false"), both},
		{"with all capabilities", run("--cap-add ALL"), both},
		{"with a profile of another name", "echo 'profile another { file, }' | apparmor_parser -r && " + run("--security-opt apparmor=another") +
			"; echo 'profile another { file, }' | apparmor_parser -R", "another (enforce)\nanother (enforce)"},
		{"privileged", run("--privileged"), "unconfined\nunconfined"},
		{"without one", run("--security-opt apparmor=unconfined"), "unconfined\nunconfined"},
		{"on the host's root", "corten run --rm --network none host cat /proc/self/attr/current", confined},
		{"on a network", "corten run --rm debian cat /proc/self/attr/current", confined},
		{"with one that is not there", run("--security-opt apparmor=nowhere") + " 2>&1; echo $?",
			"corten: error: take the AppArmor profile nowhere at exec: no such file or directory\n" +
				"corten: hint: it is not loaded: apparmor_parser -r FILE loads it, and aa-status lists those that are\n125"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sh(t, m, c.script); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestAppArmorInContainers says that what a container is for works under the profile.
func TestAppArmorInContainers(t *testing.T) {
	m := confining(t)
	defer sh(t, m, "corten rm -f lives system || true")
	sh(t, m, "corten run -d --name lives --health-cmd \"grep -qx '"+confined+"' /proc/self/attr/current\" --health-interval 1s debian sleep infinity")
	sh(t, m, "corten run -d --name system -t --memory 256m debian /sbin/init")
	for _, c := range []struct{ name, script, want string }{
		{"exec", "corten exec lives cat /proc/self/attr/current; corten exec --privileged lives cat /proc/self/attr/current", confined + "\n" + confined},
		{"a terminal", "corten exec -t lives cat /proc/self/attr/current | tr -d '\\r'", confined},
		{"health checks", "for i in $(seq 100); do corten inspect -f '{{.State.Health.Status}}' lives | grep -x healthy && break; sleep 0.1; done", "healthy"},
		{"inspect", "corten inspect -f '{{.AppArmorProfile}}' lives", "corten-default"},
		{"signals within", "corten exec lives sh -c 'sleep 99 & kill $!; wait; echo gone'", "gone"},
		{"signals from the host", "corten stop -t 60 lives >/dev/null; corten inspect -f '{{.State.ExitCode}}' lives", "143"},
		{"tracing within", "corten run --rm --cap-add SYS_PTRACE -v /usr:/usr:ro -v /lib:/lib:ro debian strace -f -e trace=none -o /dev/null echo traced", "traced"},
		{"another user", "corten run --rm debian su daemon -s /bin/sh -c 'id -un'", "daemon"},
		{"files", "corten run --rm debian sh -c 'mkdir /x && echo a >/x/y && mv /x/y /x/z && ln /x/z /x/l && chown daemon /x/z && rm -r /x && mkfifo /p && echo fine'", "fine"},
		{"packages", "corten run --rm --network none debian dpkg --purge --force-all bsdutils >/dev/null 2>&1; echo $?", "0"},
		{"systemd", "for i in $(seq 120); do case $(corten exec system systemctl is-system-running) in running|degraded) break;; esac; sleep 0.5; done; " +
			"corten exec system systemctl is-system-running; corten exec system systemctl --failed --no-legend --plain; corten exec system cat /proc/1/attr/current", "running\n" + confined},
		{"its services", "corten exec system systemd-run -q --wait --pipe -p MemoryMax=20M -p User=daemon cat /proc/self/attr/current", confined},
		{"stops in order", "corten stop -t 60 system >/dev/null; corten inspect -f '{{.State.ExitCode}}' system", "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sh(t, m, c.script); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestAppArmorWall takes the other walls down and tries what the profile forbids; and the same
// without it, so that it is known to be the profile.
func TestAppArmorWall(t *testing.T) {
	m := confining(t)
	const settings = "for f in kernel/core_pattern kernel/hostname vm/swappiness net/ipv4/ip_forward fs/file-max; do (: >>/proc/sys/$f) 2>/dev/null && echo $f; done; true"
	for _, c := range []struct{ name, flags, script, with, without string }{
		{"mount", "--cap-add SYS_ADMIN", "mount -t tmpfs t /mnt 2>/dev/null && echo done; true", "", "done"},
		{"bind mount", "--cap-add SYS_ADMIN", "mount --bind /etc /mnt 2>/dev/null && echo done; true", "", "done"},
		{"umount", "--cap-add SYS_ADMIN", "umount /dev/shm 2>/dev/null && echo done; true", "", "done"},
		{"remount", "--cap-add SYS_ADMIN", "mount -o remount,rw /proc/sys 2>/dev/null && echo done; true", "", "done"},
		{"settings of the machine", "--userns host --security-opt unmask=ALL", settings, "",
			"kernel/core_pattern\nkernel/hostname\nvm/swappiness\nnet/ipv4/ip_forward\nfs/file-max"},
		{"what is its own", "--userns host --security-opt unmask=ALL",
			"for f in kernel/shmmax kernel/msgmax kernel/sem fs/mqueue/msg_max; do (: >>/proc/sys/$f) && echo $f; done; echo x >/proc/self/comm && echo comm",
			"kernel/shmmax\nkernel/msgmax\nkernel/sem\nfs/mqueue/msg_max\ncomm", "kernel/shmmax\nkernel/msgmax\nkernel/sem\nfs/mqueue/msg_max\ncomm"},
		{"acting on the machine", "--userns host --security-opt unmask=ALL", "for f in sysrq-trigger irq/default_smp_affinity; do (: >>/proc/$f) 2>/dev/null && echo $f; done; true",
			"", "sysrq-trigger\nirq/default_smp_affinity"},
		{"kernel memory", "--userns host --cap-add SYS_RAWIO --security-opt unmask=ALL", "head -c 4 /proc/kcore 2>/dev/null | tail -c 3", "", "ELF"},
		{"the machine in /sys", "--userns host --cap-add SYS_ADMIN --security-opt unmask=ALL -v /sys:/sys",
			"for f in kernel/mm/ksm/run module/overlay/parameters/metacopy fs/ext4/vda/mb_stats; do (: >>/sys/$f) 2>/dev/null && echo $f; done; ls /sys/kernel/security/apparmor >/dev/null 2>&1 && echo policy; true",
			"", "kernel/mm/ksm/run\nmodule/overlay/parameters/metacopy\nfs/ext4/vda/mb_stats\npolicy"},
		{"processes of the host", "--userns host --pid host --cap-add SYS_PTRACE", "readlink /proc/1/exe >/dev/null 2>&1 && echo looked; kill -CONT 1 2>/dev/null && echo sent; true", "", "looked\nsent"},
		{"a way out of the profile", "", "for f in current exec; do (echo 'changeprofile unconfined' >/proc/self/attr/$f) 2>/dev/null && echo $f; (echo 'exec unconfined' >/proc/self/attr/$f) 2>/dev/null && echo $f; done; true", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			const script = "corten run --rm --network none "
			quoted := "'" + strings.ReplaceAll(c.script, "'", `'\''`) + "'"
			if got := sh(t, m, script+c.flags+" debian sh -c "+quoted); got != c.with {
				t.Errorf("under the profile: got\n%s\nwant\n%s", got, c.with)
			}
			if c.name == "a way out of the profile" {
				return
			}
			if got := sh(t, m, script+"--security-opt apparmor=unconfined "+c.flags+" debian sh -c "+quoted); got != c.without {
				t.Errorf("without it: got\n%s\nwant\n%s", got, c.without)
			}
		})
	}
}

// TestAppArmorUnloaded says that containers start without the profile, that they are told of, and
// that boot loads it.
func TestAppArmorUnloaded(t *testing.T) {
	m := confining(t)
	defer sh(t, m, "corten rm -f lives; "+loadProfile)
	sh(t, m, "corten run -d --name lives debian sleep infinity")
	const tell = "corten doctor --all | grep -o 'AppArmor: .*'; corten info | grep -o name=apparmor,profile=corten-default; true"
	for _, c := range []struct{ name, script, want string }{
		{"loaded", tell, "AppArmor: the profile corten-default is loaded: enforce\nname=apparmor,profile=corten-default"},
		{"removed", removeProfile + "; " + tell, "AppArmor: active, but the profile corten-default is not loaded"},
		{"one that ran", "corten inspect -f '{{.AppArmorProfile}}' lives; corten exec lives cat /proc/self/attr/current", "unconfined\nunconfined"},
		{"a new one", "corten run --rm debian cat /proc/self/attr/current", "unconfined"},
		{"one that names it", "corten run --rm --security-opt apparmor=corten-default debian true 2>/dev/null; echo $?", "125"},
		{"boot loads it", "corten boot; " + tell, "AppArmor: the profile corten-default is loaded: enforce\nname=apparmor,profile=corten-default"},
		{"from the next start on", "corten restart -t 0 lives >/dev/null; corten inspect -f '{{.AppArmorProfile}}' lives; corten stop -t 0 lives >/dev/null; corten inspect -f '{{.AppArmorProfile}}' lives",
			"corten-default\ncorten-default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sh(t, m, c.script); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestAppArmorOfUsers says that containers of ordinary users have the profile, which only root can
// have loaded.
func TestAppArmorOfUsers(t *testing.T) {
	m := confining(t)
	sh(t, m, "useradd -m confined && loginctl enable-linger confined && cp /bin/busybox /home/confined/ && chmod 755 /home/confined")
	defer sh(t, m, "loginctl disable-linger confined; loginctl terminate-user confined; for i in $(seq 50); do userdel -rf confined && break; sleep 0.2; done")
	const as = `u=$(id -u confined); for i in $(seq 100); do test -S /run/user/$u/bus && break; sleep 0.1; done
		as() { setpriv --reuid confined --regid confined --init-groups env HOME=/home/confined XDG_RUNTIME_DIR=/run/user/$u "$@"; }
		`
	got := sh(t, m, as+"as corten run --rm --network none host cat /proc/self/attr/current; as corten run -d --name mine --network none host sleep infinity >/dev/null; "+
		"as corten exec mine cat /proc/self/attr/current; as corten inspect -f '{{.AppArmorProfile}}' mine; as corten rm -f mine >/dev/null; as corten doctor --all | grep -o '^ *AppArmor: .*' | tr -s ' ' | cut -c2-")
	if want := confined + "\n" + confined + "\ncorten-default\nAppArmor: the profile corten-default is loaded: enforce"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Debian 12's profile of passt does not let pasta join namespaces; it is known for it.
	said := sh(t, m, as+"as corten run --rm --network pasta host echo connected 2>&1; as corten doctor --all | grep -A1 pasta:")
	if !strings.HasPrefix(said, "connected") && !strings.Contains(said, "--network slirp4netns does without it") {
		t.Error(said)
	}
}

// TestAppArmorOfBundles runs the program of the runtime validation suite, which wants a profile
// of a name of its own.
func TestAppArmorOfBundles(t *testing.T) {
	base := os.Getenv("CORTEN_TEST_CACHE")
	if base == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		base = filepath.Join(user, "corten-test")
	}
	suite := filepath.Join(base, "runtime-tools-0.9.0")
	if _, err := os.Stat(filepath.Join(suite, "done")); err != nil {
		t.Skip("needs what make conformance has compiled: ", suite)
	}
	m := confining(t)
	const dir = "/root/validation"
	sh(t, m, "mkdir "+dir)
	defer sh(t, m, "rm -r "+dir+"; apparmor_parser -R "+dir+".profile; rm -f "+dir+".profile")
	for _, name := range []string{"runtimetest", "rootfs-amd64.tar.gz", "bin/linux_process_apparmor_profile"} {
		if err := m.Copy(t.Context(), dir, filepath.Join(suite, name)); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, m, "echo 'profile acme_secure_profile flags=(attach_disconnected,mediate_deleted) { file, network, capability, signal, ptrace, }' >"+dir+".profile; apparmor_parser -r "+dir+".profile")
	said := sh(t, m, "cd "+dir+"; RUNTIME=corten-oci ./linux_process_apparmor_profile 2>&1")
	if !strings.Contains(said, "has expected apparmorProfile") || strings.Contains(said, "\nnot ok") {
		t.Error(said)
	}
}
