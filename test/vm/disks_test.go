package vm_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cortenhq/corten/test/vm/machine"
)

// disk is the spare disk with a new file system, and a state folder and an image of its own.
type disk struct {
	*machine.Machine
	words string // that begin each script
}

// formatted makes the file system; with tells how, of the device that follows.
func formatted(t *testing.T, with, mount string) disk {
	t.Helper()
	d := disk{guest(t), `set -e
export CORTEN_ROOT=/mnt/disk/corten CORTEN_RUN=/run/disk DEV=$(readlink -f /dev/disk/by-id/virtio-spare)
`}
	// What is asked of a file in the image: where its object is, and where that begins on the disk.
	d.words += `object() { d=$(corten run --rm --network none small sha256sum $1 | cut -d ' ' -f 1); echo $CORTEN_ROOT/store/objects/$(echo $d | cut -c 1-2)/$(echo $d | cut -c 3-); }
block() { filefrag -v $1 | awk '$1 == "0:" { print int($4); exit }'; }
forget() { sync; echo 3 >/proc/sys/vm/drop_caches; }
`
	t.Cleanup(func() {
		if out, err := try(context.Background(), d.Machine, d.words+"set +e; corten rm -f $(corten ps -aq); umount /mnt/disk; wipefs -aq $DEV; rm -rf $CORTEN_RUN /mnt/disk"); err != nil {
			t.Log(out, err)
		}
	})
	d.sh(t, `mkdir -p /mnt/disk; `+with+` $DEV; mount `+mount+` $DEV /mnt/disk
rm -rf /tmp/small; mkdir -p /tmp/small/bin; cp /bin/busybox /tmp/small/bin
for x in sh hostname tail sha256sum cat chown dd df echo ls md5sum sleep touch true; do ln -s busybox /tmp/small/bin/$x; done
head -c 300000 /dev/urandom >/tmp/small/data; head -c 200000 /dev/urandom >/tmp/small/other
tar -C /tmp/small -cf /tmp/small.tar .; corten import /tmp/small.tar small`)
	return d
}

func (d disk) sh(t *testing.T, script string) string {
	t.Helper()
	return sh(t, d.Machine, d.words+script)
}

// try runs a script that need not succeed, and returns all it says.
func (d disk) try(t *testing.T, script string) string {
	t.Helper()
	out, err := try(t.Context(), d.Machine, d.words+"set +e; exec 2>&1\n"+script)
	if err != nil {
		t.Log(err)
	}
	return out
}

// want asks for words in a text.
func want(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

const sealing = "mkfs.ext4 -Fq -O verity"

// TestSealed says that a container reads of its image what was pulled, or nothing.
func TestSealed(t *testing.T) {
	d := formatted(t, sealing, "")
	want(t, d.sh(t, "corten info; corten doctor -a"), "erofs, sealed")
	want(t, d.sh(t, "corten run --rm --network none small cat /proc/mounts"), "verity=require")
	sums := d.sh(t, "sha256sum </tmp/small/data; sha256sum </tmp/small/other")
	read := "corten run --rm --network none small sh -c 'sha256sum </data; sha256sum </other'"
	if got := d.sh(t, read); got != sums {
		t.Errorf("got %s, want %s", got, sums)
	}

	t.Run("a byte that was flipped on the disk", func(t *testing.T) {
		out := d.try(t, `o=$(object /data); at=$(( $(block $o) * 4096 + 100000 )); forget
dd if=$DEV of=/tmp/was bs=1 skip=$at count=1 status=none; printf '\377' >/tmp/is; cmp -s /tmp/was /tmp/is && printf '\0' >/tmp/is
dd if=/tmp/is of=$DEV bs=1 seek=$at conv=notrunc status=none; forget
`+read+`
corten image verify
dd if=/tmp/was of=$DEV bs=1 seek=$at conv=notrunc status=none; forget`)
		_, other, _ := strings.Cut(sums, "\n")
		want(t, out, "Input/output error", other, "small:latest: file /data: read object", "input/output error")
		if got := d.sh(t, read); got != sums {
			t.Errorf("after it was put right: %s", got)
		}
	})
	for name, swap := range map[string]string{
		"without a seal":           "cp /tmp/small/other $o",
		"with the seal of another": "cp /tmp/small/other $o; fsverity enable --hash-alg=sha256 --block-size=4096 $o",
		"a copy of itself":         "cp /tmp/small/data $o",
	} {
		t.Run("an object that was swapped, "+name, func(t *testing.T) {
			out := d.try(t, `o=$(object /data); rm $o; `+swap+`; forget
`+read+`
rm $o; cp /tmp/small/data $o; corten image verify; forget`)
			_, other, _ := strings.Cut(sums, "\n")
			want(t, out, "Input/output error", other, "Files that were sealed: 1")
			if got := d.sh(t, read); got != sums {
				t.Errorf("after it was put right: %s", got)
			}
		})
	}
	t.Run("a tree that was swapped", func(t *testing.T) {
		out := d.try(t, `tree=$(ls $CORTEN_ROOT/store/trees/*/tree.erofs); mv $tree /mnt/disk/keep
cp /mnt/disk/keep $tree; printf x | dd of=$tree bs=1 seek=1500 conv=notrunc status=none; corten run --rm --network none small true; echo $?
rm $tree; mv /mnt/disk/keep $tree`)
		want(t, out, "another tree than was sealed", "125")
		if got := d.sh(t, read); got != sums {
			t.Errorf("after it was put right: %s", got)
		}
	})
	t.Run("what the container changes is its own", func(t *testing.T) {
		out := d.sh(t, `corten create --name changes --network none small sh -c 'chown 1 /data; echo more >>/other; ls -ln /data; sha256sum </data; cat /other | sha256sum' >/dev/null
corten start -a changes; corten start -a changes`)
		data, _, _ := strings.Cut(sums, "\n")
		if strings.Count(out, data) != 2 || strings.Count(out, " 1        0 ") != 2 {
			t.Error(out)
		}
		// What looks at a container from outside is shown the same.
		want(t, d.sh(t, `corten diff changes; corten cp changes:/data - | tar -xO | sha256sum; corten export changes | tar -xO --wildcards "*data" | sha256sum
corten commit changes more:1 >/dev/null; corten run --rm --network none more:1 sh -c 'ls -ln /data; sha256sum </data; cat /proc/mounts'; corten rm changes`),
			"C /data", "C /other", data+"\n"+data, " 1        0 ", "verity=require")
	})
	t.Run("kill -9 while files are sealed", func(t *testing.T) {
		out := d.sh(t, `rm -rf /tmp/many; mkdir /tmp/many; for i in $(seq 300); do head -c 20000 /dev/urandom >/tmp/many/$i; done; tar -C /tmp/many -cf /tmp/many.tar .
for s in 0.4 0.8 1.2 1.6; do corten import /tmp/many.tar many >/dev/null & sleep $s; kill -9 $! || true; wait $! || true; done
corten import /tmp/many.tar many >/dev/null; corten image verify; rm -rf /tmp/many /tmp/many.tar`)
		want(t, out, "all as they came")
		if strings.Contains(out, "Files that were sealed") {
			t.Error(out)
		}
	})
}

// TestSealsOfCopies says that a store goes on where it is copied to, with seals and without.
func TestSealsOfCopies(t *testing.T) {
	d := formatted(t, sealing, "")
	out := d.sh(t, `cp -a $CORTEN_ROOT /mnt/disk/copy; export CORTEN_ROOT=/mnt/disk/copy
corten run --rm --network none small sha256sum /data; fsverity measure $CORTEN_ROOT/store/trees/*/tree.erofs
echo $(find $CORTEN_ROOT/store/objects -type f -exec fsverity measure {} + | wc -l) of $(find $CORTEN_ROOT/store/objects -type f | wc -l)`)
	want(t, out, "sha256:", "3 of 3")
	// What was changed in a copy is not sealed there, however often it is tried.
	out = d.try(t, `o=$(object /data); cp -a $CORTEN_ROOT /mnt/disk/changed; export CORTEN_ROOT=/mnt/disk/changed
o=/mnt/disk/changed${o#/mnt/disk/corten}; printf 'other bytes' | dd of=$o conv=notrunc bs=1 seek=7000 status=none
for n in 1 2; do corten run --rm --network none small true; echo status $?; done; fsverity measure $o`)
	if strings.Count(out, "the bytes on disk are others") != 2 || strings.Count(out, "status 125") != 2 || !strings.Contains(out, "no verity digest") && strings.Contains(out, "sha256:"+strings.Repeat("0", 4)) {
		t.Error(out)
	}
	// No seals are to be had there: other trees are made, and it is started as it was.
	out = d.sh(t, `mkdir /tmp/mem; mount -t tmpfs none /tmp/mem
corten create --name old --network none small sh -c 'chown 2 /data; ls -ln /data; sha256sum </data' >/dev/null
cp -a $CORTEN_ROOT /tmp/mem/copy; (export CORTEN_ROOT=/tmp/mem/copy CORTEN_RUN=/run/mem; corten start -a old; cat $CORTEN_ROOT/store/trees/*/key | grep kind | sort; corten rm old)
rm -rf /tmp/mem/copy /run/mem; umount /tmp/mem; rmdir /tmp/mem; corten rm old; sha256sum </tmp/small/data`)
	want(t, out, "kind erofs\nkind sealed")
	if sum := out[strings.LastIndex(out, "\n")+1:]; strings.Count(out, sum) != 2 {
		t.Error(out)
	}
}

// TestSealsOfBefore says that images and containers from before there were seals go on, and that
// bringing the image again seals it.
func TestSealsOfBefore(t *testing.T) {
	d := formatted(t, sealing, "")
	d.words += "export CORTEN_ROOT=/mnt/disk/before\n"
	out := d.sh(t, `export CORTEN_TREE=erofs; corten import /tmp/small.tar small >/dev/null
corten create --name old --network none small sh -c 'chown 1 /data; sha256sum </data; cat /proc/mounts' >/dev/null; corten start -a old`)
	if strings.Contains(out, "verity=") {
		t.Error(out)
	}
	if out := d.sh(t, "corten start -a old; corten run --rm --network none small true; ls $CORTEN_ROOT/store/trees | wc -l"); strings.Contains(out, "verity=") || !strings.HasSuffix(out, "\n1") {
		t.Error("a start has sealed:", out)
	}
	want(t, d.sh(t, `corten import /tmp/small.tar small >/dev/null; corten run --rm --network none small cat /proc/mounts`), "verity=require")
	// The file whose owner it changed has metadata without a seal.
	out = d.sh(t, "corten start -a old; sha256sum </tmp/small/data")
	want(t, out, "verity=on")
	if sum := out[strings.LastIndex(out, "\n")+1:]; strings.Count(out, sum) != 2 {
		t.Error(out)
	}
}

// TestSealsAfterPowerCut says that an image which is there has its seals.
func TestSealsAfterPowerCut(t *testing.T) {
	d := formatted(t, sealing, "")
	sum := d.sh(t, "sha256sum </tmp/small/data; corten import /tmp/small.tar again >/dev/null; sync -f /") // the machine is for others, too
	if err := d.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := d.sh(t, "mkdir -p /mnt/disk; mount $DEV /mnt/disk; corten run --rm --network none small sha256sum /data; corten image verify")
	want(t, out, sum[:64], "Images: 2, all as they came")
	if strings.Contains(out, "Files that were sealed") {
		t.Error("seals were lost:", out)
	}
}
