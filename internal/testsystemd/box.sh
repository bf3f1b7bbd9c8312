# Boots the host's systemd as PID 1 of namespaces of its own, in control groups named $1, with the
# hierarchies of the host; but for those nothing of the host is its to change. It has no units
# but the bus of the system, where that is installed.
set -e
hierarchies=$(awk -F: '$1 != 0 { print $2 }' /proc/self/cgroup)
base=/sys/fs/cgroup
for h in $hierarchies; do
	dir=$base/${h#name=}
	[ -d "$dir" ] || continue
	mkdir -p "$dir/$1"
	case $h in cpuset)
		for f in cpuset.cpus cpuset.mems; do cat $dir/$f > $dir/$1/$f; done ;;
	esac
	echo 0 > "$dir/$1/cgroup.procs"
done
v2=$base
[ -e $base/cgroup.controllers ] || v2=$base/unified
if [ -e $v2/cgroup.controllers ]; then
	mkdir -p "$v2/$1"
	echo 0 > "$v2/$1/cgroup.procs"
fi
export hierarchies
exec unshare -fpmCuin --propagation private sh -ec '
mount -t proc proc /proc
mount -o bind,ro /proc/sys /proc/sys # it would raise fs.file-max
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/systemd
mount -t tmpfs tmpfs /etc/systemd/system
mount -t tmpfs tmpfs /usr/lib/systemd/system
mount -t tmpfs tmpfs /usr/lib/systemd/user
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
	mount -t tmpfs tmpfs /sys/fs/cgroup
	mkdir /sys/fs/cgroup/unified
	for h in $hierarchies; do
		mkdir -p /sys/fs/cgroup/${h#name=}
		case $h in
		name=*) mount -t cgroup -o none,$h cgroup /sys/fs/cgroup/${h#name=} ;;
		*) mount -t cgroup -o $h cgroup /sys/fs/cgroup/$h ;;
		esac
	done
	mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
fi
mkdir -p /run/systemd
for t in test basic sysinit shutdown; do
	printf "[Unit]\nDefaultDependencies=no\n" | tee /etc/systemd/system/$t.target > /usr/lib/systemd/user/$t.target
done
if [ -x /usr/bin/dbus-daemon ]; then
	printf "Wants=dbus.service\n" >> /etc/systemd/system/test.target
	printf "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n" > /etc/systemd/system/dbus.socket
	cat > /etc/systemd/system/dbus.service <<-X
	[Unit]
	DefaultDependencies=no
	Requires=dbus.socket
	[Service]
	Type=notify
	NotifyAccess=main
	ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
	X
fi
container=corten exec /lib/systemd/systemd --system --unit=test.target --show-status=0 --log-target=console --log-level=err
'
