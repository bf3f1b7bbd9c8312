#!/bin/sh
# Makes, in the current folder, what every virtual machine begins with: disk, an ext4 with a Debian
# that has systemd and what the tests use; debian.tar, Debian with systemd as an image for
# containers; vmlinuz and initrd. Takes the names of the packages of the tests.
set -e
suite=bookworm
chosen=$*

# Where apt of this host finds Debian.
site=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' | sed -n "s/ $suite\$//p" | head -n 1)
export DEBIAN_FRONTEND=noninteractive LC_ALL=C SOURCE_DATE_EPOCH=1700000000
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,kmod,procps,busybox-static \
	$suite guest "${site:-http://deb.debian.org/debian}"
rm -rf guest/var/cache/apt/*.bin guest/var/cache/apt/archives/*.deb
tar -C guest --numeric-owner --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' \
	--exclude='./var/lib/apt/lists/*' --exclude=./etc/machine-id -cf debian.tar .

# No program of a package may start here; the guest's own systemd does that.
printf '#!/bin/sh\nexit 101\n' >guest/usr/sbin/policy-rc.d
chmod +x guest/usr/sbin/policy-rc.d
cp /etc/resolv.conf guest/etc/resolv.conf
mount -t proc proc guest/proc
chroot guest apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io -o APT::Sandbox::User=root \
	$chosen >install.log
umount guest/proc
rm -rf guest/usr/sbin/policy-rc.d guest/var/cache/apt/*.bin guest/var/cache/apt/archives/*.deb guest/var/lib/apt/lists/*
rm -f guest/etc/resolv.conf install.log

# A kernel with cgroup v2 alone and what containers want, as modules.
package=$(apt-cache search --names-only '^linux-image-6\.12\.[^ ]*-cloud-amd64$' | sort -V | tail -n 1 | cut -d ' ' -f 1)
test -n "$package" || { echo "apt knows no linux-image-6.12 for the cloud: call apt-get update" >&2; exit 1; }
apt-get download -q "$package"
dpkg-deb -x "$package"_*.deb kernel
version=$(ls kernel/lib/modules)
find kernel/lib/modules -name '*.xz' -exec xz -d {} +
mv kernel/lib/modules guest/usr/lib/
mv kernel/boot/vmlinuz-* vmlinuz
mv kernel/boot/config-* guest/boot/
rm -rf kernel "$package"_*.deb
chroot guest depmod "$version"

# What has to be there before the disk is. Whatever tests add to it comes behind it, in /run.
mkdir -p initrd/bin initrd/dev initrd/mnt initrd/run
cp guest/bin/busybox initrd/bin/
ln -s busybox initrd/bin/sh
n=10
for module in virtio_pci virtio_blk virtio_net quota_v2 ext4; do
	for file in $(chroot guest modprobe -S "$version" --show-depends $module | sed -n 's/^insmod //p'); do
		cp "guest$file" initrd/$n-"$(basename "$file")"
		n=$((n + 1))
	done
done
cat >initrd/init <<'X'
#!/bin/sh
busybox=/bin/busybox
$busybox mount -t devtmpfs dev /dev
for m in /*.ko; do $busybox insmod $m; done
while ! test -e /dev/vda; do $busybox sleep 0.1; done
$busybox mount -t ext4 -o noatime,prjquota /dev/vda /mnt || exec $busybox sh
$busybox mount -t tmpfs -o mode=755,nosuid,nodev run /mnt/run
$busybox cp -a /run/. /mnt/run/
$busybox umount /dev
exec $busybox switch_root /mnt /sbin/init
X
chmod +x initrd/init
(cd initrd && find . | cpio -o -H newc --quiet) >initrd.img
rm -rf initrd

# Nothing but what is tested.
cd guest
rm -f etc/machine-id
echo vm >etc/hostname
printf '127.0.0.1 localhost vm\n::1 localhost\n' >etc/hosts
printf '/dev/vda / ext4 noatime,prjquota 0 0\n' >etc/fstab
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
	man-db.timer logrotate.timer systemd-timesyncd.service systemd-networkd-wait-online.service systemd-pstore.service \
	getty.target serial-getty@ttyS0.service systemd-networkd.service systemd-networkd.socket systemd-network-generator.service systemd-binfmt.service \
	quota.service quotarpc.service docker-registry.service nftables.service cni-dhcp.socket cni-dhcp.service podman.service podman.socket \
	podman-restart.service podman-auto-update.timer docker.service docker.socket containerd.service; do
	ln -sf /dev/null etc/systemd/system/$unit
done
# A journal on the disk outlives reboots, and power cuts as far as it was synced.
mkdir -p var/log/journal etc/systemd/journald.conf.d
printf '[Journal]\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n' >etc/systemd/journald.conf.d/vm.conf
cat >etc/systemd/system/agent.service <<'X'
[Unit]
Description=Does what tests on the host ask for
DefaultDependencies=no
After=local-fs.target
[Service]
ExecStartPre=-/bin/sh -c 'ip link set dev eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2'
ExecStart=/run/agent
KillMode=process
TasksMax=infinity
LimitNOFILE=1048576
LimitMEMLOCK=infinity
X
mkdir -p etc/systemd/system/sysinit.target.wants
ln -s ../agent.service etc/systemd/system/sysinit.target.wants/
cd ..
# Unpacked, for tests that start many machines from it.
mkfs.ext4 -q -O verity,quota,project -E quotatype=usrquota:grpquota:prjquota,lazy_itable_init=1,lazy_journal_init=1,nodiscard -d guest disk 8G
# The quotas have not counted these files yet.
e2fsck -f -y disk >/dev/null || test $? = 1
rm -rf guest
