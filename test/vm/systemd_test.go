package vm_test

import (
	"strings"
	"testing"

	"github.com/cortenhq/corten/test/vm/machine"
)

// keeperOf is a script that prints the number of the only keeper's process.
const keeperOf = "cat /run/corten/keep/*/keeper"

// check compares what a script in the guest prints with what it has to.
func check(t *testing.T, m *machine.Machine, what, want, script string) {
	t.Helper()
	got, err := try(t.Context(), m, script)
	if err != nil {
		got += " and " + err.Error()
	}
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// until waits for what happens by itself: a script prints what is wanted, at last.
func until(t *testing.T, m *machine.Machine, what, want, script string) {
	t.Helper()
	loop := "for i in $(seq 300); do out=$(" + script + "); [ \"$out\" = '" + want + "' ] && break; sleep 0.2; done; echo \"$out\""
	check(t, m, what, want, loop)
}

// up waits until systemd in a container has started all.
func up(t *testing.T, m *machine.Machine, name string) {
	t.Helper()
	until(t, m, "systemd in "+name+" starts", "up",
		"case $(corten exec "+name+" systemctl is-system-running 2>&1) in running | degraded) echo up; esac")
}

// unit writes a unit that lives as long as the test.
func unit(t *testing.T, m *machine.Machine, name, text string) {
	t.Helper()
	c := m.Shell("cat >/etc/systemd/system/" + name + " && systemctl daemon-reload")
	c.Stdin = strings.NewReader(text)
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		clean(t, m, "systemctl stop "+name+"; systemctl disable -q "+name+"; rm /etc/systemd/system/"+name+"; systemctl daemon-reload; systemctl reset-failed")
	})
}

// clean runs a script after a test, whatever became of it.
func clean(t *testing.T, m *machine.Machine, script string) {
	t.Helper()
	if out, err := m.Shell(script + "\ntrue").Output(ctxAfter(t)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestSystemdInContainer(t *testing.T) {
	m := guest(t)
	sh(t, m, "corten run -d --name sys -t --memory 256m debian /sbin/init")
	defer clean(t, m, "corten rm -f sys")
	up(t, m, "sys")
	check(t, m, "state", "running", "corten exec sys systemctl is-system-running")
	check(t, m, "failed units", "", "corten exec sys systemctl --failed --no-legend --plain")
	check(t, m, "machine id", sh(t, m, "corten inspect -f '{{.Id}}' sys | cut -c1-32"), "corten exec sys cat /etc/machine-id")
	check(t, m, "it knows where it is", "container-other", "corten exec sys systemd-detect-virt")
	check(t, m, "a service with limits", "0", "corten exec sys sh -c 'systemd-run -q --wait -p MemoryMax=20M -p PrivateTmp=yes -p User=daemon true; echo $?'")
	check(t, m, "its own limit is not its to change", "268435456",
		"corten exec sys sh -c 'echo max >/sys/fs/cgroup/memory.max; cat /sys/fs/cgroup/memory.max' 2>/dev/null")
	sh(t, m, "corten stop -t 120 sys")
	check(t, m, "it stops in order", "0", "corten inspect -f '{{.State.ExitCode}}' sys")
	check(t, m, "it says so on its console", "1", "corten logs sys | grep -c 'Exiting container'")
	sh(t, m, "corten rm sys")
	check(t, m, "nothing is left", "0", "ls /sys/fs/cgroup/corten | grep -cE '^[0-9a-f]{64}$' || true")
}

func TestUnit(t *testing.T) {
	m := guest(t)
	text := sh(t, m, `corten create --name web -e 'A=50% of $HOME "x" \' debian sh -c 'echo "[$A]"; exec sleep 1000' >/dev/null
		corten systemd unit --new --restart always web; corten rm web >/dev/null`)
	unit(t, m, "web.service", text+"\n")
	check(t, m, "systemd reads it", "", "systemd-analyze verify --man=no /etc/systemd/system/web.service 2>&1")
	sh(t, m, "systemctl start web")
	check(t, m, "it runs", "active", "systemctl is-active web")
	sh(t, m, "corten kill -s KILL web")
	until(t, m, "it runs again", "1 active 1", "echo $(systemctl show web -p NRestarts --value) $(systemctl is-active web) $(corten ps -q | wc -l)")
	sh(t, m, "systemctl stop web")
	check(t, m, "it stops", "inactive success", "systemctl show web -p ActiveState -p Result --value | sort -r | xargs | awk '{print $2, $1}'")
	check(t, m, "the journal has its output", `[50% of $HOME "x" \]`, `journalctl -u web -o cat | grep -m1 '^\['`)
}

// TestUnitOfSystemd says that a service of Type=notify counts as started when what is in its container says so.
func TestUnitOfSystemd(t *testing.T) {
	m := guest(t)
	text := sh(t, m, "corten create --name sys --sdnotify container -t debian /sbin/init >/dev/null; corten systemd unit --new sys; corten rm sys >/dev/null")
	unit(t, m, "sys.service", text+"\n")
	check(t, m, "type", "notify", "systemctl show sys -p Type --value")
	sh(t, m, "systemctl start sys")
	check(t, m, "started means that systemd inside has started", "active running", "echo $(systemctl is-active sys) $(corten exec sys systemctl is-system-running)")
	sh(t, m, "systemctl stop sys")
	check(t, m, "systemd inside stops in order", "inactive success", "echo $(systemctl show sys -p ActiveState --value) $(systemctl show sys -p Result --value)")
}

// TestKeeperInService says whose process a keeper is.
func TestKeeperInService(t *testing.T) {
	m := guest(t)
	defer clean(t, m, "systemctl stop behind session 2>/dev/null; corten rm -f ends kept 2>/dev/null; systemctl reset-failed")
	text := sh(t, m, "corten create --name ends --sdnotify keeper debian sh -c 'while ! test -e /tmp/end; do sleep 0.2; done; exit 5' >/dev/null; corten systemd unit --restart no ends")
	unit(t, m, "ends.service", text+"\n")
	sh(t, m, "systemctl start ends")
	check(t, m, "it is the service's process", sh(t, m, keeperOf), "systemctl show ends -p MainPID --value")
	sh(t, m, "corten exec ends touch /tmp/end")
	until(t, m, "it ends as its container", "failed exit-code 5", "echo $(systemctl show ends -p ActiveState --value) $(systemctl show ends -p Result --value) $(systemctl show ends -p ExecMainStatus --value)")
	sh(t, m, "corten rm ends")

	sh(t, m, "systemd-run -q --unit=behind -p Type=notify -p NotifyAccess=all corten run -d --name kept --sdnotify keeper debian sleep 1000")
	check(t, m, "of a service whose command ends", "active "+sh(t, m, keeperOf), "echo $(systemctl is-active behind) $(systemctl show behind -p MainPID --value)")
	sh(t, m, "systemctl stop behind; corten rm -f kept")

	sh(t, m, "systemd-run -q --unit=session -p RemainAfterExit=yes corten run -d --name kept debian sleep 1000")
	until(t, m, "it starts", "kept", "corten ps --format '{{.Names}}'")
	sh(t, m, "systemctl stop session")
	check(t, m, "it outlives who started it", "0::/corten/keepers", "cat /proc/$("+keeperOf+")/cgroup")
	check(t, m, "and so does its container", "kept", "corten ps --format '{{.Names}}'")
}

func TestSocketActivation(t *testing.T) {
	m := guest(t)
	unit(t, m, "so.service", `[Service]
ExecStart=/usr/local/bin/corten run --rm debian sh -c 'echo "$$LISTEN_FDS $$LISTEN_PID $$LISTEN_FDNAMES $$(readlink /proc/self/fd/3 | cut -c1-7)"; exec sleep 1000'
`)
	unit(t, m, "so.socket", "[Socket]\nListenStream=127.0.0.1:8080\nFileDescriptorName=web\n")
	sh(t, m, "systemctl start so.socket; exec 5<>/dev/tcp/127.0.0.1/8080")
	until(t, m, "sockets reach the command", "1 2 web socket:", "journalctl -u so.service -o cat | grep -m1 socket:")
	sh(t, m, "systemctl stop so.socket so.service")
}

// TestBoot says who is back after a reboot and after a power cut.
func TestBoot(t *testing.T) {
	m := guest(t)
	makeUser(t, m)
	check(t, m, "systemd reads the unit", "", "systemd-analyze verify --man=no /usr/local/lib/systemd/system/corten-boot.service 2>&1")
	sh(t, m, `systemctl enable -q corten-boot
		for policy in always unless-stopped no; do corten run -d --name ${policy%-*} --restart $policy debian sleep 1000; done
		corten rename no none
		corten run -d --name stopped --restart unless-stopped debian sleep 1000
		corten stop -t 1 stopped`)
	defer clean(t, m, "corten rm -f always unless none stopped; systemctl disable -q corten-boot")
	sh(t, m, asUser+"corten run -d --name web --restart always --network none -m 64m box busybox sleep 1000\n"+asUser+"systemctl --user -q enable corten-boot")
	defer clean(t, m, asUser+"corten rm -f web\n"+asUser+"systemctl --user -q disable corten-boot")
	check(t, m, "before", "always none unless", "corten ps --format '{{.Names}}' | sort | xargs")
	for _, again := range []struct {
		name string
		do   func() error
	}{
		{"a reboot", func() error { return m.Reboot(t.Context()) }},
		{"a power cut", func() error {
			sh(t, m, "sync")
			if err := m.PowerCut(); err != nil {
				return err
			}
			return m.Start(t.Context())
		}},
	} {
		t.Run(again.name, func(t *testing.T) {
			if err := again.do(); err != nil {
				t.Fatal(err)
			}
			until(t, m, "the service", "active", "systemctl is-active corten-boot || true")
			check(t, m, "who is back", "always unless", "corten ps --format '{{.Names}}' | sort | xargs")
			check(t, m, "who is not", "none stopped", "corten ps -a --filter status=exited --format '{{.Names}}' | sort | xargs")
			until(t, m, "the user's service", "active", asUser+"systemctl --user is-active corten-boot || true")
			check(t, m, "the user's who is back", "web", asUser+"corten ps --format '{{.Names}}'")
			check(t, m, "commands work", "hello", "corten exec always echo hello; corten run --rm debian true")
		})
	}
}
