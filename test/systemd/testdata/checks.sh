#!/bin/bash
# Runs in the virtual machine, in each of its boots, and says "ok: NAME" or "FAIL: NAME".
export PATH=/usr/local/bin:/usr/sbin:/usr/bin
units=/etc/systemd/system

check() { # NAME WANT GOT
	if [ "$2" = "$3" ]; then echo "ok: $1"; else echo "FAIL: $1: got '$3', want '$2'"; fi
}
show() { systemctl show "$1" -p "$2" --value; }
up() { # waits until systemd in a container has started all
	for _ in $(seq 60); do
		case $(corten exec "$1" systemctl is-system-running 2>&1) in running | degraded) break ;; esac
		sleep 1
	done
}
keeper() { cat /run/corten/keep/*/keeper; }

second() {
	for _ in $(seq 30); do [ "$(show corten-boot ActiveState)" = activating ] || break; sleep 1; done
	check "boot: the service" active "$(show corten-boot ActiveState)"
	check "boot: who is back" "always unless" "$(corten ps --format '{{.Names}}' | sort | xargs)"
	check "boot: who is not" "none stopped" "$(corten ps -a --filter status=exited --format '{{.Names}}' | sort | xargs)"
	echo over
}

in_container() {
	corten run -d --name sys -t --memory 256m debian /sbin/init >/dev/null
	up sys
	check "systemd: state" running "$(corten exec sys systemctl is-system-running)"
	check "systemd: failed units" "" "$(corten exec sys systemctl --failed --no-legend --plain)"
	check "systemd: machine id" "$(corten inspect -f '{{.Id}}' sys | cut -c1-32)" "$(corten exec sys cat /etc/machine-id)"
	check "systemd: knows where it is" container-other "$(corten exec sys systemd-detect-virt)"
	check "systemd: a service with limits" 0 "$(corten exec sys sh -c 'systemd-run -q --wait -p MemoryMax=20M -p PrivateTmp=yes -p User=daemon true; echo $?')"
	check "systemd: its own limit is not its to change" 268435456 \
		"$(corten exec sys sh -c 'echo max >/sys/fs/cgroup/memory.max; cat /sys/fs/cgroup/memory.max' 2>/dev/null)"
	corten stop -t 60 sys >/dev/null
	check "systemd: stops in order" 0 "$(corten inspect -f '{{.State.ExitCode}}' sys)"
	check "systemd: says so on its console" 1 "$(corten logs sys | grep -c 'Exiting container')"
	corten rm sys >/dev/null
	check "systemd: nothing is left" 0 "$(ls /sys/fs/cgroup/corten | grep -cE '^[0-9a-f]{64}$')"
}

as_service() {
	corten create --name web -e 'A=50% of $HOME "x" \' debian sh -c 'echo "[$A]"; exec sleep 1000' >/dev/null
	corten systemd unit --new --restart always web >$units/web.service
	corten rm web >/dev/null
	check "unit: systemd reads it" "" "$(systemd-analyze verify --man=no $units/web.service 2>&1)"
	systemctl daemon-reload
	systemctl start web
	check "unit: runs" active "$(show web ActiveState)"
	corten kill -s KILL web >/dev/null
	for _ in $(seq 30); do [ "$(show web NRestarts)" = 0 ] || break; sleep 1; done
	sleep 3
	check "unit: runs again" "active 1" "$(show web ActiveState) $(corten ps -q | wc -l)"
	systemctl stop web
	check "unit: stops" "inactive success" "$(show web ActiveState) $(show web Result)"
	check "unit: the journal has its output" '[50% of $HOME "x" \]' "$(journalctl -u web -o cat | grep -m1 '^\[')"

	corten create --name sys --sdnotify container -t debian /sbin/init >/dev/null
	corten systemd unit --new sys >$units/sys.service
	corten rm sys >/dev/null
	systemctl daemon-reload
	systemctl start sys
	check "unit: started means that systemd inside has started" "active running" "$(show sys ActiveState) $(corten exec sys systemctl is-system-running)"
	systemctl stop sys
	check "unit: systemd inside stops in order" "inactive success" "$(show sys ActiveState) $(show sys Result)"
}

with_keeper() {
	corten create --name ends --sdnotify keeper debian sh -c 'sleep 3; exit 5' >/dev/null
	corten systemd unit --restart no ends >$units/ends.service
	systemctl daemon-reload
	systemctl start ends
	check "keeper: is the service's process" "$(keeper)" "$(show ends MainPID)"
	for _ in $(seq 30); do [ "$(show ends ActiveState)" = active ] || break; sleep 1; done
	check "keeper: ends as its container" "exit-code 5" "$(show ends Result) $(show ends ExecMainStatus)"
	corten rm ends >/dev/null

	systemd-run -q --unit=behind -p Type=notify -p NotifyAccess=all corten run -d --name kept --sdnotify keeper debian sleep 1000
	check "keeper: of a service that ends" "active $(keeper)" "$(show behind ActiveState) $(show behind MainPID)"
	systemctl stop behind
	corten rm -f kept >/dev/null

	systemd-run -q --unit=session -p RemainAfterExit=yes corten run -d --name kept debian sleep 1000
	for _ in $(seq 30); do [ -n "$(corten ps -q)" ] && break; sleep 1; done
	systemctl stop session
	check "keeper: outlives who started it" "0::/corten/keepers" "$(cat /proc/"$(keeper)"/cgroup)"
	corten rm -f kept >/dev/null
}

sockets() {
	printf '[Socket]\nListenStream=127.0.0.1:8080\nFileDescriptorName=web\n' >$units/so.socket
	cat >$units/so.service <<-'X'
		[Service]
		ExecStart=/usr/local/bin/corten run --rm debian sh -c 'echo "$$LISTEN_FDS $$LISTEN_PID $$LISTEN_FDNAMES $$(readlink /proc/self/fd/3 | cut -c1-7)"; exec sleep 1000'
	X
	systemctl daemon-reload
	systemctl start so.socket
	exec 5<>/dev/tcp/127.0.0.1/8080
	for _ in $(seq 30); do journalctl -u so.service -o cat | grep -q socket: && break; sleep 1; done
	check "sockets: reach the command" "1 2 web socket:" "$(journalctl -u so.service -o cat | grep -m1 socket:)"
	exec 5>&-
	systemctl stop so.socket so.service
}

first() {
	corten import /root/guest.tar debian >/dev/null
	in_container
	as_service
	with_keeper
	sockets
	check "boot: systemd reads the unit" "" "$(systemd-analyze verify --man=no $units/corten-boot.service 2>&1)"
	systemctl enable -q corten-boot
	for policy in always unless-stopped no; do
		corten run -d --name ${policy%-*} --restart $policy debian sleep 1000 >/dev/null
	done
	corten rename no none
	corten run -d --name stopped --restart unless-stopped debian sleep 1000 >/dev/null
	corten stop -t 1 stopped >/dev/null
	check "boot: before the power cut" "always none unless" "$(corten ps --format '{{.Names}}' | sort | xargs)"
	touch /root/second
	sync
	echo over
}

if [ -e /root/second ]; then second; else first; fi
