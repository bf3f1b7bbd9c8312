package vm_test

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/testimage"
	"github.com/cortenhq/corten/test/vm/machine"
)

// TestPowerCuts takes the machine's power at random moments while it pulls, runs, commits, removes and
// logs, and starts it again. What a command had reported when the power went, by its end or its
// output, has to be there; nothing may be wedged; the file system has to be sound. The disk
// has a write cache that is lost (machine.Options.Volatile).
//
// CORTEN_POWER_CUTS says how often.
func TestPowerCuts(t *testing.T) {
	needVM(t)
	cuts := 3
	if s := os.Getenv("CORTEN_POWER_CUTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("CORTEN_POWER_CUTS: %v", err)
		}
		cuts = n
	}
	w := newWorld(t)
	for n := 1; n <= cuts; n++ {
		w.load(t, n)
		if n%5 == 0 || n == cuts {
			w.fsck(t)
		}
		early := w.start(t)
		begun := time.Now()
		failed := w.verify(t)
		t.Logf("cut %d of %d: %s; %s; checked in %.0f s", n, cuts, w.said, early, time.Since(begun).Seconds())
		if failed {
			t.Fatalf("after cut %d", n)
		}
		w.forget(t)
	}
	if err := w.m.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.fsck(t)
}

// world is a machine under load, and what it has reported.
type world struct {
	m        *machine.Machine
	registry string
	busybox  []testimage.File
	said     string // of the last load

	mu      sync.Mutex
	number  int // of names
	images  []string
	commits map[string]string // by name, what is in /token
	living  map[string]line   // by name, the last line that was read from the log
	exits   map[string]int    // by name, the status that was waited for
	removed []string
	written int // the last number that was synced in the volume
}

// line is a line of a container's log: the boot in which it was written, and its number.
type line struct {
	boot string
	n    int
}

const maxLiving = 4

func newWorld(t *testing.T) *world {
	w := &world{commits: map[string]string{}, living: map[string]line{}, exits: map[string]int{}, registry: testimage.Registry(t)}
	m, err := prepared(t, machine.Options{Volatile: true, Reach: w.registry})
	if m != nil {
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.m = m
	testimage.Busybox(t).Push(t, w.registry, "base:1")
	w.busybox = []testimage.File{{Name: "bin", Type: tar.TypeDir}, {Name: "bin/busybox", Mode: 0o755, Path: "/bin/busybox"}}
	for _, name := range []string{"sh", "cat", "sha256sum"} {
		w.busybox = append(w.busybox, testimage.File{Name: "bin/" + name, Type: tar.TypeSymlink, Link: "busybox"})
	}
	sh(t, m, `mkdir -p /etc/corten; echo '{"registries": [{"prefix": "`+machine.Reached+`", "insecure": true}]}' >/etc/corten/registries.json
		systemctl enable -q corten-boot
		sync # what is of others
		corten pull `+machine.Reached+`/base:1 && corten tag `+machine.Reached+`/base:1 base
		corten run -d --name vol --restart always --network none -v data:/data base sleep 1000000
		corten run -d --name pen --restart always --network none base sleep 1000000`)
	return w
}

// next is a name that nothing else has.
func (w *world) next(kind string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.number++
	return kind + strconv.Itoa(w.number)
}

// report notes what a command of the guest has said.
func (w *world) report(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// load has everything done at once, until the power goes.
func (w *world) load(t *testing.T, n int) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	refs := make(chan string, 2)
	all.Go(func() {
		defer close(refs)
		for i := 0; ; i++ {
			ref := fmt.Sprintf("image%d:%d", n, i)
			w.image(t).Push(t, w.registry, ref)
			select {
			case refs <- machine.Reached + "/" + ref:
			case <-ctx.Done():
				return
			}
		}
	})
	var ends [5]error
	for i, work := range []func(context.Context) error{
		func(ctx context.Context) error { return w.pull(ctx, <-refs) }, w.run, w.end, w.commit, w.write,
	} {
		all.Go(func() {
			for ends[i] == nil {
				ends[i] = work(ctx)
			}
		})
	}
	span := time.Duration(2000+rand.IntN(12000)) * time.Millisecond
	select {
	case <-time.After(span):
	case <-w.m.Off():
		t.Error("the machine went off by itself:\n" + w.m.Console())
	}
	if err := w.m.PowerCut(); err != nil {
		t.Error(err)
	}
	cancel()
	all.Wait()
	for _, err := range ends {
		// A command may fail because the power goes, but not while it is there.
		if exit, ok := err.(*machine.ExitError); ok {
			t.Errorf("under load: %v", exit)
		}
	}
	w.said = fmt.Sprintf("power for %.1f s, %d images, %d commits, %d that run, %d that ended, %d removed, %d writes",
		span.Seconds(), len(w.images), len(w.commits), len(w.living), len(w.exits), len(w.removed), w.written)
	if t.Failed() {
		t.FailNow()
	}
}

// image is an image of new files and their checksums, beside a busybox.
func (w *world) image(t *testing.T) testimage.Image {
	files := []testimage.File{{Name: "data", Type: tar.TypeDir}}
	sums := ""
	for i := range 20 {
		b := make([]byte, 1<<(6+rand.IntN(12)))
		for j := range b {
			b[j] = byte(rand.Uint32())
		}
		name := fmt.Sprintf("data/%d", i)
		files = append(files, testimage.File{Name: name, Data: b})
		sums += fmt.Sprintf("%x  /%s\n", sha256.Sum256(b), name)
	}
	files = append(files, testimage.File{Name: "sums", Data: []byte(sums)})
	return testimage.Build(t, oci.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}, testimage.Layer{Files: w.busybox}, testimage.Layer{Files: files})
}

func (w *world) pull(ctx context.Context, ref string) error {
	if err := w.m.Command("corten", "pull", "-q", ref).Run(ctx); err != nil {
		return err
	}
	w.report(func() { w.images = append(w.images, ref) })
	return nil
}

// run has containers that write lines for ever: it makes some, reads their logs and removes some.
func (w *world) run(ctx context.Context) error {
	name := w.next("lives")
	const lines = `i=0; boot=$(cat /proc/sys/kernel/random/boot_id); while :; do i=$((i+1)); echo "$boot $i"; usleep 20000; done`
	if err := w.m.Command("corten", "run", "-d", "--name", name, "--restart", "always", "--network", "none", "base", "sh", "-c", lines).Run(ctx); err != nil {
		return err
	}
	w.report(func() { w.living[name] = line{} })
	for range 3 {
		out, err := w.m.Command("corten", "logs", "-n", "1", name).Output(ctx)
		if err != nil {
			return err
		}
		if boot, n, ok := strings.Cut(strings.TrimSpace(out), " "); ok {
			number, err := strconv.Atoi(n)
			if err != nil {
				return err
			}
			w.report(func() { w.living[name] = line{boot, number} })
		}
	}
	var old string
	w.report(func() {
		for name := range w.living {
			if len(w.living) > maxLiving {
				old = name
			}
		}
		delete(w.living, old)
	})
	if old == "" {
		return nil
	}
	if err := w.m.Command("corten", "rm", "-f", old).Run(ctx); err != nil {
		return err
	}
	w.report(func() { w.removed = append(w.removed, old) })
	return nil
}

// end has containers that end, and waits for them.
func (w *world) end(ctx context.Context) error {
	name, status := w.next("ends"), 1+rand.IntN(100)
	script := fmt.Sprintf("echo begin; echo end; exit %d", status)
	if err := w.m.Command("corten", "run", "-d", "--name", name, "--network", "none", "base", "sh", "-c", script).Run(ctx); err != nil {
		return err
	}
	out, err := w.m.Command("corten", "wait", name).Output(ctx)
	if err != nil {
		return err
	}
	if strings.TrimSpace(out) != strconv.Itoa(status) {
		return &machine.ExitError{Args: []string{"corten", "wait", name}, Reason: fmt.Sprintf("says %q, not %d", out, status)}
	}
	w.report(func() { w.exits[name] = status })
	return nil
}

// commit makes images of a container that was changed.
func (w *world) commit(ctx context.Context) error {
	name := w.next("made")
	if err := w.m.Command("corten", "exec", "pen", "sh", "-c", "echo "+name+" >/token").Run(ctx); err != nil {
		return err
	}
	if err := w.m.Command("corten", "commit", "pen", name).Run(ctx); err != nil {
		return err
	}
	w.report(func() { w.commits[name] = name })
	return nil
}

// write appends a number to a file in a volume, and syncs it as a database does.
func (w *world) write(ctx context.Context) error {
	n := w.written + 1
	if err := w.m.Command("corten", "exec", "vol", "sh", "-c", fmt.Sprintf("echo %d | dd of=/data/numbers oflag=append conv=notrunc,fsync 2>/dev/null", n)).Run(ctx); err != nil {
		return err
	}
	w.report(func() { w.written = n })
	return nil
}

// start starts the machine again. Sometimes the power goes in the middle of that.
func (w *world) start(t *testing.T) string {
	begun := time.Now()
	early := ""
	if rand.IntN(5) == 0 {
		span := time.Duration(4000+rand.IntN(16000)) * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), span)
		if err := w.m.Start(ctx); err == nil {
			if err := w.m.PowerCut(); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		early = fmt.Sprintf("after %.1f s again, ", span.Seconds())
	}
	if err := w.m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return early + fmt.Sprintf("started in %.0f s", time.Since(begun).Seconds())
}

// verify asks for everything that was reported.
func (w *world) verify(t *testing.T) (failed bool) {
	var s strings.Builder
	want := func(what, want, script string) {
		fmt.Fprintf(&s, "got=$(%s 2>&1)\n[ \"$got\" = '%s' ] || echo \"%s: got $got\"\n", script, want, what)
	}
	want("systemd", "running", "systemctl is-system-running")
	want("corten boot", "active", "systemctl is-active corten-boot")
	want("a new container", "new", "corten run --rm --network none base echo new")
	if w.written > 0 {
		want("the volume", "there", fmt.Sprintf("corten exec vol grep -qx %d /data/numbers && echo there", w.written))
	}
	for _, ref := range w.images {
		want("image "+ref, "whole", "corten run --rm --network none "+ref+" sh -c 'sha256sum -c -s /sums && echo whole'")
	}
	for name, token := range w.commits {
		want("commit "+name, token, "corten run --rm --network none "+name+" cat /token")
	}
	for name, status := range w.exits {
		want("exit status of "+name, strconv.Itoa(status), "corten inspect -f '{{.State.ExitCode}}' "+name)
		want("log of "+name, "begin end", "echo $(corten logs "+name+")")
	}
	for name, last := range w.living {
		want("container "+name, "running", "corten inspect -f '{{.State.Status}}' "+name)
		if last.n > 0 {
			want("log of "+name, strconv.Itoa(last.n), fmt.Sprintf("corten logs %s | awk -v last=%d '$1 == \"%s\" && $2 == n + 1 && n < last { n++ } END { print n + 0 }'", name, last.n, last.boot))
		}
	}
	for _, name := range w.removed {
		want("removed "+name, "gone", "corten inspect "+name+" >/dev/null 2>&1 || echo gone")
	}
	want("folders of containers", "same", `[ "$(corten ps -aq --no-trunc | sort)" = "$(ls /var/lib/corten/containers | sort)" ] && echo same || { corten ps -a; ls /var/lib/corten/containers; }`)
	want("pulling", "", "corten pull -q "+machine.Reached+"/base:1 >/dev/null")
	out, err := w.m.Shell(s.String()).Output(t.Context())
	if err != nil {
		t.Error(err)
	}
	if out != "" {
		t.Error("what was reported is not there:\n" + out)
		t.Log(sh(t, w.m, "journalctl -b -u corten-boot -o cat; corten ps -a; corten images; ls -la /var/lib/corten /var/lib/corten/*"))
	}
	return t.Failed()
}

// forget removes most of what there is, so that checks do not take longer and longer.
func (w *world) forget(t *testing.T) {
	names := []string{}
	for name := range w.exits {
		names = append(names, name)
	}
	script := "corten rm " + strings.Join(names, " ")
	if len(names) == 0 {
		script = ""
	}
	w.removed, w.exits = names, map[string]int{}
	images := w.images
	for name := range w.commits {
		images = append(images, name)
	}
	if len(images) > 0 {
		script += "\ncorten rmi " + strings.Join(images, " ")
	}
	w.images, w.commits = nil, map[string]string{}
	sh(t, w.m, "set -e\n"+script)
}

// fsck says whether the file system is sound, by a copy of the disk, which the guest is to find as it is.
func (w *world) fsck(t *testing.T) {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	defer os.Remove(disk)
	for _, args := range [][]string{
		{"cp", "--sparse=always", w.m.Disk(), disk},
		// The journal and files that were open, as every mount does it; what then is amiss is damage.
		{"e2fsck", "-p", disk},
		// Quotas are counted by the kernel; mkfs and e2fsck themselves leave them a block off.
		{"tune2fs", "-O", "^quota", disk},
		{"e2fsck", "-f", "-n", disk},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		out, err := cmd.CombinedOutput()
		if err != nil && (args[1] != "-p" || cmd.ProcessState.ExitCode() != 1) {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
}
