#!/bin/sh
# Makes what every virtual machine of these tests begins with, in the current folder: guest/, a
# Debian with systemd, and with what ordinary users need; guest.tar, Debian with systemd as an image for
# containers; vmlinuz and initrd.gz.
set -e
suite=bookworm
packages=systemd,systemd-sysv,dbus,kmod,procps,busybox-static
debootstrap --variant=minbase --include=$packages $suite image
debootstrap --variant=minbase --include=$packages,libpam-systemd,dbus-user-session,udev,iproute2,uidmap,passt $suite guest

# A kernel with cgroup v2 alone and what containers want, as modules.
package=$(apt-cache search --names-only '^linux-image-6\.12\.[^ ]*-cloud-amd64$' | sort -V | tail -n 1 | cut -d ' ' -f 1)
test -n "$package" || { echo "apt knows no linux-image-6.12 for the cloud: call apt-get update" >&2; exit 1; }
apt-get download "$package"
dpkg-deb -x "$package"_*.deb kernel
version=$(ls kernel/lib/modules)
find kernel/lib/modules -name '*.xz' -exec xz -d {} +

tar -C image --numeric-owner -cf guest.tar .
rm -rf image
mv kernel/lib/modules guest/usr/lib/
mv kernel/boot/vmlinuz-* vmlinuz
rm -rf kernel "$package"_*.deb
chroot guest depmod "$version"

# What has to be there before the disk is.
mkdir -p initrd/bin initrd/dev initrd/mnt
cp guest/bin/busybox initrd/bin/
ln -s busybox initrd/bin/sh
n=10
for module in virtio_pci virtio_blk ext4; do
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
while ! test -e /dev/vda; do $busybox sleep 1; done
$busybox mount -t ext4 /dev/vda /mnt
$busybox umount /dev
exec $busybox switch_root /mnt /sbin/init
X
chmod +x initrd/init
(cd initrd && find . | cpio -o -H newc --quiet | gzip -1) >initrd.gz
rm -rf initrd

# Nothing but what is tested, and it begins when all else has.
cd guest
rm -f etc/machine-id
echo vm >etc/hostname
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \
	systemd-timesyncd.service systemd-networkd-wait-online.service getty.target; do
	ln -sf /dev/null etc/systemd/system/$unit
done
cat >etc/systemd/system/checks.service <<'X'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/root/checks.sh
ExecStopPost=systemctl --force --force poweroff
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
X
mkdir -p etc/systemd/system/multi-user.target.wants
ln -s ../checks.service etc/systemd/system/multi-user.target.wants/
