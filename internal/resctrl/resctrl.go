// Package resctrl gives containers their share of the processors' caches and of the bandwidth to memory,
// by the kernel's file system of that name (Intel RDT, AMD QoS; Documentation/filesystems/resctrl.rst).
//
// A class there is a folder: what its processes get is in its file schemata, which they are in its file
// tasks. Of shares what is made is known before it is made (Plan), so that whoever dies in between leaves
// something that can be removed. The rules are those of the OCI runtime specification 1.3 (config-linux.md,
// "IntelRdt").
package resctrl

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

const op = "use linux.intelRdt"

// Share is the class that a container is in. It is what is to be remembered of it.
type Share struct {
	Dir     string `json:"dir,omitempty"`     // of the class; empty: there is none
	Own     bool   `json:"own,omitempty"`     // it goes with the container
	Monitor string `json:"monitor,omitempty"` // of the group that counts what the container alone uses; it goes too
}

// Mounted finds the file system.
func Mounted() (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", errs.Wrap(op, "", err)
	}
	if dir := mountedIn(string(text)); dir != "" {
		return dir, nil
	}
	return "", errs.Newf(errs.Unsupported, op, "", "no file system of type resctrl is mounted").
		WithHint("on a machine with Intel RDT or AMD QoS: mount -t resctrl resctrl /sys/fs/resctrl; else leave it out")
}

// mountedIn reads lines of proc_pid_mountinfo(5).
func mountedIn(text string) string {
	for line := range strings.Lines(text) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if kind, _, _ := strings.Cut(after, " "); kind == "resctrl" && len(f) > 4 {
			return f[4]
		}
	}
	return ""
}

// Plan decides which class a container gets.
func Plan(root, id string, want spec.IntelRdt) (Share, error) {
	if err := check(want); err != nil {
		return Share{}, err
	}
	s := Share{Dir: filepath.Join(root, want.Class)}
	there := exists(s.Dir)
	switch {
	case want.Class == "":
		s.Dir = filepath.Join(root, id)
		s.Own = !exists(s.Dir)
	case len(lines(want)) == 0 && !there:
		return Share{}, errs.Newf(errs.NotFound, op, "closID "+want.Class, "there is no such class").
			WithHint("make it first, or say what its processes get: l3CacheSchema, memBwSchema or schemata")
	}
	if want.Monitoring {
		s.Monitor = filepath.Join(s.Dir, "mon_groups", id)
	}
	return s, nil
}

// check refuses what is no name of a class and no line of schemata.
func check(want spec.IntelRdt) error {
	bad := func(what, text, hint string) error {
		return errs.Newf(errs.Invalid, op, what+" "+strconv.Quote(text), "it is none").WithHint(hint)
	}
	if c := want.Class; c == "." || c == ".." || c != "/" && strings.ContainsAny(c, "/\n") {
		return bad("closID", c, `a class is a name without a slash; "/" is what all others share`)
	}
	for _, line := range lines(want) {
		if name, shares, ok := strings.Cut(line, ":"); strings.ContainsRune(line, '\n') || !ok || name == "" || shares == "" {
			return bad("schema", line, `write it as in "L3:0=7f0;1=1f"`)
		}
	}
	if b := want.Bandwidth; b != "" && !strings.HasPrefix(b, "MB:") {
		return bad("memBwSchema", b, `write it as in "MB:0=20;1=70"`)
	}
	return nil
}

// lines is what is written to schemata, in this order.
func lines(want spec.IntelRdt) (list []string) {
	for _, line := range slices.Concat([]string{want.L3, want.Bandwidth}, want.Schemata) {
		if line != "" {
			list = append(list, line)
		}
	}
	return list
}

// Make makes the class, if it is not there, and the group that counts. One that is there has to give
// what is wanted.
func (s Share) Make(root string, want spec.IntelRdt) error {
	list := lines(want)
	err := os.Mkdir(s.Dir, 0o755)
	fresh := err == nil
	if err != nil && !errors.Is(err, os.ErrExist) {
		return errs.New(errs.KindOf(err), op, s.Dir, err).WithHint("the processor may have no more classes: remove one that is not used")
	}
	switch {
	case len(list) == 0:
	case fresh || want.Class == "":
		if err := write(filepath.Join(s.Dir, "schemata"), strings.Join(list, "\n")+"\n"); err != nil {
			return errs.New(errs.Invalid, op, "schemata of "+s.Dir, reason(root, err))
		}
	default:
		if err := s.compare(list); err != nil {
			return err
		}
	}
	if s.Monitor == "" {
		return nil
	}
	if err := os.Mkdir(s.Monitor, 0o755); err != nil {
		return errs.New(errs.KindOf(err), op, s.Monitor, reason(root, err)).
			WithHint("leave enableMonitoring out; the processor counts for few groups")
	}
	return nil
}

// compare refuses a class that gives something else.
func (s Share) compare(list []string) error {
	text, err := os.ReadFile(filepath.Join(s.Dir, "schemata"))
	if err != nil {
		return errs.Wrap(op, s.Dir, err)
	}
	has := map[string]string{}
	for line := range strings.Lines(string(text)) {
		parts(line, has)
	}
	want := map[string]string{}
	for _, line := range list {
		parts(line, want)
	}
	for place, v := range want {
		if has[place] != v {
			return errs.Newf(errs.Exists, op, "class "+s.Dir, "it gives "+strconv.Quote(has[place])+" of "+place+", where "+strconv.Quote(v)+" is wanted").
				WithHint("name another closID, or leave its schemata out")
		}
	}
	return nil
}

// parts reads a line of schemata, "L3:0=7f0;1=1f": by resource and number, with zeros and blanks left
// out as the kernel may add them.
func parts(line string, into map[string]string) {
	name, shares, _ := strings.Cut(line, ":")
	for share := range strings.SplitSeq(shares, ";") {
		at, value, _ := strings.Cut(share, "=")
		if value = strings.TrimLeft(strings.ToLower(strings.TrimSpace(value)), "0"); value == "" {
			value = "0"
		}
		into[strings.TrimSpace(name)+":"+strings.TrimSpace(at)] = value
	}
}

// Enter is the files by which a process enters the class, in this order: a zero that is written there
// stands for who writes it, as in control groups of version 1.
func (s Share) Enter() (files []string) {
	for _, dir := range []string{s.Dir, s.Monitor} {
		if dir != "" {
			files = append(files, filepath.Join(dir, "tasks"))
		}
	}
	return files
}

// Words is what Make does, for people.
func (s Share) Words(want spec.IntelRdt) (list []string) {
	if all := lines(want); len(all) > 0 {
		list = append(list, "have the class of caches and bandwidth "+s.Dir+" give "+strings.Join(all, ", "))
	}
	if s.Monitor != "" {
		list = append(list, "count what is used in "+s.Monitor)
	}
	return list
}

// Remove removes what is the container's own. It may be done twice.
func (s Share) Remove() error {
	var all error
	list := []string{s.Monitor}
	if s.Own {
		list = append(list, s.Dir)
	}
	for _, dir := range list {
		if dir == "" {
			continue
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, errs.Wrap("remove", dir, err))
		}
	}
	return all
}

func write(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// reason adds what the kernel says of what it did last.
func reason(root string, err error) error {
	said, _ := os.ReadFile(filepath.Join(root, "info/last_cmd_status"))
	if text := strings.TrimSpace(string(said)); text != "" && text != "ok" {
		return errs.New(errs.KindOf(err), "", "the kernel says "+strconv.Quote(text), err)
	}
	return err
}

func exists(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}
