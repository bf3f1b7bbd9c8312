package crash_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kept is a container that lives on, whose command is the writer.
type kept struct {
	w     *world
	name  string
	id    string
	notes *notes
	path  string // of the notes
	lines int
	code  int
	story []string // who was killed, for people
}

// state is what the tests read of state.json.
type state struct {
	Status   string
	PID      int
	ExitCode int
	Restarts int
	Message  string
}

// patience bounds each command of the test: one that hangs is a failure and does not hang the
// test.
const patience = 20 * time.Second

// within runs a command that may fail, and returns its status and all that it said.
func (w *world) within(args ...string) (int, string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := w.corten(args...)
	cmd := exec.CommandContext(ctx, c.Path, c.Args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	_ = cmd.Run()
	if ctx.Err() != nil {
		w.t.Errorf("corten %s takes longer than %v\n%s\n%v", strings.Join(args, " "), patience, out.String(), w.processes())
	}
	return cmd.ProcessState.ExitCode(), strings.TrimSpace(out.String())
}

// plan prepares a container that writes so many lines and ends with a status.
func (w *world) plan(name string, lines, code int) *kept {
	w.t.Helper()
	k := &kept{w: w, name: name, path: filepath.Join(w.t.TempDir(), "notes"), lines: lines, code: code}
	n, f, err := openNotes(k.path)
	if err != nil {
		w.t.Fatal(err)
	}
	f.Close()
	k.notes = n
	return k
}

// args is the command line that starts it.
func (k *kept) args(flags ...string) []string {
	args := append([]string{"run", "-d", "--name", k.name, "-v", filepath.Dir(k.path) + ":/mnt", "-v", os.Getenv(inside) + ":/srv:ro"}, flags...)
	return append(args, "host", "/srv/"+writerName, "/mnt/notes", fmt.Sprint(k.lines), fmt.Sprint(k.code), "1000")
}

// find learns the id. It is empty if there is no such container.
func (k *kept) find() string {
	if id, err := linked(filepath.Join(k.w.root, "names", k.name)); err == nil {
		if _, err := os.Stat(filepath.Join(k.w.root, "containers", id)); err == nil {
			k.id = id
			return id
		}
	}
	return ""
}

func (k *kept) state() state {
	var s state
	b, err := os.ReadFile(filepath.Join(k.w.root, "containers", k.id, "state.json"))
	if err == nil {
		_ = json.Unmarshal(b, &s)
	}
	return s
}

// keeper is the process that looks after it; 0: none that is known.
func (k *kept) keeper() int {
	b, _ := os.ReadFile(filepath.Join(k.w.run, "keep", k.id, "keeper"))
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// text is what the log has of both streams.
func (k *kept) text() [2]string {
	k.w.t.Helper()
	var out [2]strings.Builder
	for _, record := range k.records() {
		fields := strings.SplitN(record, " ", 4)
		if len(fields) != 4 || fields[1] != "stdout" && fields[1] != "stderr" || fields[2] != "F" && fields[2] != "P" {
			k.w.t.Errorf("%s: no record: %.100q", k.name, record)
			continue
		}
		b := &out[0]
		if fields[1] == "stderr" {
			b = &out[1]
		}
		b.WriteString(fields[3])
		if fields[2] == "F" {
			b.WriteByte('\n')
		}
	}
	return [2]string{out[0].String(), out[1].String()}
}

// dump is the log for people.
func (k *kept) dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%+v, log: %v\n", strings.Join(k.story, "\n"), k.state(), names(filepath.Join(k.w.root, "containers", k.id, "log")))
	for _, r := range k.records() {
		fmt.Fprintf(&b, "%.70s (%d)\n", r, len(r))
	}
	return b.String()
}

func (k *kept) records() []string {
	k.w.t.Helper()
	folder := filepath.Join(k.w.root, "containers", k.id, "log")
	files := map[int][]byte{}
	for _, name := range names(folder) {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".log"))
		if err != nil {
			continue
		}
		f, err := os.Open(filepath.Join(folder, name))
		if err != nil {
			continue
		}
		var r io.Reader = f
		if strings.HasSuffix(name, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				k.w.t.Errorf("%s: %v", name, err)
				continue
			}
		}
		b, err := io.ReadAll(r)
		f.Close()
		if err != nil {
			k.w.t.Errorf("%s: %v", name, err)
		}
		files[n] = b
	}
	var all []string
	numbers := make([]int, 0, len(files))
	for n := range files {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		if b := files[n]; len(b) > 0 {
			all = append(all, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
		}
	}
	return all
}

// logged fails the test unless the log has each line that the kernel took from the writer,
// once and in order, and nothing else. Of one that is not whole the end may be missing: nobody
// had the FIFOs open when the container ended.
func (k *kept) logged(when string, whole bool) {
	k.w.t.Helper()
	k.w.ends() // who compresses it, too
	for stream, text := range k.text() {
		last := k.notes.begun[stream].Load()
		for n := uint64(1); n <= last; n++ {
			want := string(line(stream, n))
			if strings.HasPrefix(text, want) {
				text = text[len(want):]
				continue
			}
			if !whole && strings.HasPrefix(want, text) {
				return
			}
			if k.notes.cut(stream, n) {
				text = text[k.part(text, want, stream, n+1):]
				continue
			}
			k.w.t.Errorf("%s: stream %d: line %d of %d (taken: %d) is not next in the log, but %.60q\n%s", when, stream, n, last, k.notes.taken[stream].Load(), text, k.dump())
			return
		}
		if text != "" {
			k.w.t.Errorf("%s: stream %d: after line %d the log has %d bytes more: %.60q\n%s", when, stream, last, len(text), text, k.dump())
		}
	}
}

// part is how much at the beginning of text is the beginning of a line whose writer was
// killed, so that what follows is the next line.
func (k *kept) part(text, cut string, stream int, next uint64) int {
	follow := string(line(stream, next))
	for n := min(len(cut), len(text)); n >= 0; n-- {
		if rest := text[n:]; text[:n] == cut[:n] && (rest == "" || strings.HasPrefix(rest, follow) || strings.HasPrefix(follow, rest)) {
			return n
		}
	}
	return 0
}

// settle has the next command make the state true, waits until the container has ended, and
// returns how. It is false if there is no such container.
func (k *kept) settle(when string) (state, bool) {
	k.w.t.Helper()
	for deadline, n := time.Now().Add(patience), 0; ; n++ {
		if n%100 == 0 { // a process that has only just been killed may not be dead
			if code, said := k.w.within("ps", "-a"); code != 0 {
				k.w.t.Errorf("%s: ps: status %d: %s", when, code, said)
			}
		}
		time.Sleep(time.Millisecond)
		_, err := os.Lstat(filepath.Join(k.w.run, "active", k.id))
		s := k.state()
		if k.find() == "" {
			return s, false
		}
		if err != nil && (s.Status == "exited" || s.Status == "created" || s.Status == "") {
			return s, true
		}
		if time.Now().After(deadline) {
			k.w.t.Fatalf("%s: still %+v, keeper %d, keep %v, processes %v", when, s, k.keeper(), names(filepath.Join(k.w.run, "keep", k.id)), k.w.processes())
		}
	}
}

// over removes the container and looks that nothing is left.
func (k *kept) over(when string) {
	k.w.t.Helper()
	if code, said := k.w.within("rm", "-v", k.name); code != 0 {
		k.w.t.Errorf("%s: rm: status %d: %s", when, code, said)
	}
	if !k.w.ends() {
		k.w.t.Error(when)
	}
	k.w.clean(when)
}

// rounds is how many rounds there are to be at random.
func rounds(short int) int {
	if n, err := strconv.Atoi(os.Getenv("CORTEN_CRASH_ROUNDS")); err == nil {
		return n
	}
	if full() {
		return 500
	}
	return short
}

// TestKillKept kills, at random times, whoever has to do with a container that lives on.
func TestKillKept(t *testing.T) {
	w := newWorld(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	victims := []string{"command line", "keeper", "keeper", "keeper", "init", "command", "keeper and init"}
	for n := range rounds(42) {
		k := w.plan(fmt.Sprintf("round%d", n), 1+random.IntN(300), random.IntN(90))
		victim := victims[n%len(victims)]
		k.round(random, victim, fmt.Sprintf("round %d, %s", n, victim))
		if t.Failed() {
			return
		}
	}
}

// round is one container and the death of somebody.
func (k *kept) round(random *rand.Rand, victim, when string) {
	k.w.t.Helper()
	flag := "--init"
	if victim == "keeper" && random.IntN(4) == 0 {
		flag = "--no-init"
	}
	cmd := k.w.corten(k.args(flag)...)
	said := k.w.listen(cmd)
	if err := cmd.Start(); err != nil {
		k.w.t.Fatal(err)
	}
	if victim == "command line" {
		time.Sleep(time.Duration(random.IntN(12000)) * time.Microsecond)
		_ = cmd.Process.Kill()
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 0 && victim != "command line" {
		k.w.t.Errorf("%s: status %d\n%s", when, code, said())
	}
	killed := false
	if victim != "command line" {
		k.find()
		for range 1 + random.IntN(3) {
			time.Sleep(time.Duration(random.IntN(30000)) * time.Microsecond)
			killed = k.kill(victim) || killed
			if random.IntN(2) == 0 && strings.HasPrefix(victim, "keeper") {
				_, _ = k.w.within("ps", "-a")
			}
		}
	}
	st, there := k.settle(when)
	if !there {
		if victim != "command line" {
			k.w.t.Errorf("%s: the container is lost", when)
		}
		k.w.ends()
		k.w.clean(when)
		return
	}
	if st.Status == "exited" {
		want := []int{k.code}
		switch victim {
		case "init", "command":
			want = append(want, 137)
		case "keeper and init":
			want = append(want, 137, 255)
		}
		if !slices.Contains(want, st.ExitCode) {
			k.w.t.Errorf("%s: %+v, want status %v", when, st, want)
		}
		k.logged(when, !killed || victim != "keeper and init" && flag != "--no-init")
	}
	if k.notes.twice.Load() > 0 {
		k.w.t.Errorf("%s: two at once", when)
	}
	k.over(when)
}

// strike kills a process that has to do with the container.
func (k *kept) strike(pid int) bool {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	k.story = append(k.story, fmt.Sprintf("%v: killed %d: %s; taken %d and %d; in its folder %v", time.Now().UTC(), pid,
		strings.ReplaceAll(string(line), "\x00", " "), k.notes.taken[0].Load(), k.notes.taken[1].Load(), names(filepath.Join(k.w.run, "keep", k.id))))
	return strike(pid)
}

// strike kills a process, and waits until it is dead. It reports whether it was alive.
func strike(pid int) bool {
	if pid <= 1 {
		return false
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// kill kills a victim, and reports whether it was there.
func (k *kept) kill(victim string) bool {
	st := k.state()
	switch victim {
	case "keeper":
		return k.strike(k.keeper())
	case "init":
		return k.strike(st.PID)
	case "keeper and init":
		a := k.strike(k.keeper())
		return k.strike(st.PID) || a
	case "command":
		for _, pid := range numbers(fmt.Sprintf("/proc/%d/task/%d/children", st.PID, st.PID)) {
			return k.strike(pid)
		}
	}
	return false
}
