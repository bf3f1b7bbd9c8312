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
	for _ in $(seq 30); do [ "$(as systemctl --user show corten-boot -p ActiveState --value)" = active ] && break; sleep 1; done
	check "user: who is back" web "$(as corten ps --format '{{.Names}}')"
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

as() { runuser -u user -- env -i HOME=/home/user PATH=$PATH XDG_RUNTIME_DIR=/run/user/1000 "$@"; }

# As in a login session: this service is in no group that was delegated to the user.
ordinary_user() {
	useradd -m -u 1000 user
	modprobe -a overlay tun
	loginctl enable-linger user
	for _ in $(seq 30); do [ -S /run/user/1000/systemd/private ] && break; sleep 1; done
	mkdir -p /tmp/box/bin && cp /bin/busybox /tmp/box/bin/ && ln -s busybox /tmp/box/bin/sh && tar -C /tmp/box -cf /tmp/box.tar . && chmod 644 /tmp/box.tar
	as corten import /tmp/box.tar box >/dev/null
	check "user: the doctor" "corten run works here." "$(as corten doctor | tail -n 1)"
	check "user: root is he" "$(printf '0 0 1\n1 1 65536')" "$(as corten run --rm --network none box busybox awk '{print $1, $2, $3}' /proc/self/uid_map)"
	check "user: a limit is held by his systemd" 67108864 "$(as corten run --rm --network none -m 64m box busybox cat /sys/fs/cgroup/memory.max)"
	as corten run -d --name web --restart always --network none -m 64m box busybox sleep 1000 >/dev/null
	as corten run -d --name plain --network none box busybox sleep 1000 >/dev/null
	check "user: enters a container with limits" "7" "$(as corten exec web sh -c 'exit 7'; echo $?)"
	check "user: enters one without" "7" "$(as corten exec plain sh -c 'exit 7'; echo $?)"
	check "user: in its group" "$(cat /proc/"$(as corten inspect -f '{{.State.Pid}}' web)"/cgroup)" \
		"0::/user.slice/user-1000.slice/user@1000.service/corten/$(as corten inspect -f '{{.Id}}' web)"
	ip link add world type veth peer name nobody && ip addr add 192.0.2.2/24 dev world && ip link set world up && ip link set nobody up
	ip route add default via 192.0.2.1
	check "user: pasta" 192.0.2.2/24 "$(as corten run --rm --network pasta box busybox ip -o -4 addr show eth0 | awk '{print $4}')"
	ip link del world
	as corten rm -f plain >/dev/null
	as systemctl --user -q enable corten-boot
}

first() {
	echo # what the console begins with is not the first check's
	ordinary_user
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
