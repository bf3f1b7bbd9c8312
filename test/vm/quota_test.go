package vm_test

import (
	"strings"
	"testing"
)

// TestDiskLimit says that a container writes as much as it may, and leaves no limit behind.
func TestDiskLimit(t *testing.T) {
	for _, fs := range []struct{ name, make, full, other string }{
		{"ext4", "mkfs.ext4 -Fq -O project,quota", "Disk quota exceeded", "noquota"},
		{"xfs", "mkfs.xfs -fq", "No space left on device", "defaults"},
	} {
		t.Run(fs.name, func(t *testing.T) {
			d := formatted(t, fs.make, "-o prjquota")
			fill := "dd if=/dev/zero of=/big bs=64k count=800; df -m / | tail -n 1"
			d.sh(t, `corten create --name twenty --network none --storage-opt size=20m small sh -c '`+fill+`; echo went on; sleep 1000' >/dev/null
corten run -d --name thirty --network none --storage-opt size=30m small sh -c '`+fill+`; echo went on; sleep 1000' >/dev/null
corten start twenty; for c in twenty thirty; do until corten logs $c | grep -q 'went on'; do sleep 0.2; done; done`)
			want(t, d.try(t, "corten logs twenty"), fs.full, " 20 ")
			want(t, d.try(t, "corten logs thirty"), fs.full, " 30 ")
			want(t, d.sh(t, "corten ps -s; corten inspect twenty"), "of 21MB", "of 31.5MB", `"size": "20971520"`)
			want(t, d.try(t, "corten exec twenty sh -c 'cat /bin/busybox >/more'; corten exec twenty echo alive"), fs.full, "alive")
			// It ends, and begins again, as full as it is.
			want(t, d.sh(t, "corten restart -t 0 twenty >/dev/null; until test $(corten logs twenty | grep -c 'went on') = 2; do sleep 0.2; done; corten ps"), "twenty")
			if out := d.sh(t, "corten rm -f thirty >/dev/null; ls $CORTEN_ROOT/projects | wc -l; corten rm -f twenty >/dev/null; ls $CORTEN_ROOT/projects | wc -l"); out != "1\n0" {
				t.Error("claims are left:", out)
			}
			want(t, d.try(t, "corten run --rm --network none --storage-opt size=20m small sh -c '"+fill+"'"), fs.full)
			unlimited(t, d)

			// Whoever is killed while it is made leaves nothing for long.
			d.sh(t, `for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	corten run --rm --network none --storage-opt size=20m small true & sleep 0.$((i * 4 + 10)); kill -9 $! || true; wait $! || true
done; corten ps -a >/dev/null`)
			if out := d.sh(t, "ls $CORTEN_ROOT/projects $CORTEN_ROOT/containers"); strings.Contains(out, "\n1") {
				t.Error("left by the killed:", out)
			}
			unlimited(t, d)

			// A volume likewise, for all of its containers together.
			d.sh(t, "corten volume create -o size=10m data; corten volume create -o size=10m data")
			volume := "dd if=/dev/zero of=/v/$(hostname) bs=64k count=100; df -m /v | tail -n 1"
			out := d.try(t, "for i in 1 2; do corten run --rm --network none -v data:/v small sh -c '"+volume+"'; done")
			want(t, out, "100+0 records out", fs.full, " 10 ")
			want(t, d.sh(t, "corten volume inspect data"), `"size": "10485760"`)
			want(t, d.try(t, "corten volume create -o size=20m data"), "with another size")
			d.sh(t, "corten volume rm data; test -z \"$(ls $CORTEN_ROOT/projects)\"")
			unlimited(t, d)

			// Without enforcement there is no start.
			d.sh(t, "corten create --name later --network none --storage-opt size=20m small true >/dev/null; umount /mnt/disk; mount -o "+fs.other+" $DEV /mnt/disk")
			want(t, d.try(t, "corten start later; echo $?"), fs.name+" has no project quotas switched on", "prjquota")
			d.sh(t, "corten rm later; umount /mnt/disk; mount -o prjquota $DEV /mnt/disk")
		})
	}
}

// unlimited asks the kernel that no project of ours is limited.
func unlimited(t *testing.T, d disk) {
	t.Helper()
	if out := d.sh(t, "repquota -Pn /mnt/disk | awk '/^#1073/ && $5 != 0'"); out != "" {
		t.Error("limits are left:\n" + out)
	}
}
