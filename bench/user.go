package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cortenhq/corten/internal/testimage"
)

// userPrefix stands before the first word of a command that an ordinary user executes.
const userPrefix = "user:"

// firstUser is the first of the run's ordinary users, whom the host does not know. Each has a home of
// his number in the run's folder.
const firstUser = 64321

// as makes the command that of an ordinary user.
func (r *bench) as(cmd *exec.Cmd, id int) {
	home := filepath.Join(r.dir, strconv.Itoa(id))
	cmd.Dir, cmd.Env = home, []string{r.env[0], "HOME=" + home, "XDG_RUNTIME_DIR=" + home, "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}}
}

// users makes ordinary users, with sub-ids, in this mount namespace.
func (s *scope) users(n int) {
	lines := map[string]string{}
	for i := range n {
		id, dir := firstUser+i, filepath.Join(s.bench.dir, strconv.Itoa(firstUser+i))
		s.must(errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, id, id), os.Chmod(s.bench.dir, 0o711)))
		s.Cleanup(func() { os.RemoveAll(dir); os.RemoveAll(fmt.Sprintf("/tmp/corten-nest-%d", id)) })
		lines["passwd"] += fmt.Sprintf("bench%d:x:%d:%d::%s:/bin/sh\n", i, id, id, dir)
		lines["group"] += fmt.Sprintf("bench%d:x:%d:\n", i, id)
		sub := fmt.Sprintf("bench%d:%d:65536\n", i, 1<<30+i<<16)
		lines["subuid"], lines["subgid"] = lines["subuid"]+sub, lines["subgid"]+sub
	}
	for name, text := range lines {
		file, etc := filepath.Join(s.TempDir(), name), "/etc/"+name
		old, err := os.ReadFile(etc)
		s.must(err)
		s.must(errors.Join(os.WriteFile(file, append(old, text...), 0o644), unix.Mount(file, etc, "", unix.MS_BIND, "")))
		s.Cleanup(func() { _ = unix.Unmount(etc, unix.MNT_DETACH) })
	}
}

// benchStartUser measures the same start for root and for ordinary users: for one whose user
// namespace has to be made each time, and for one who has it, since a container of his runs.
func benchStartUser(s *scope) []*table {
	t := &table{Name: "start-rootless", Title: "run and exit, static true, no network, by ordinary users", Metrics: []metric{wallMs}}
	values, box := s.material(testimage.True(s), "true"), s.material(testimage.Busybox(s), "busybox")
	for _, path := range []string{values["archive"], box["archive"]} {
		s.must(errors.Join(os.Chmod(path, 0o644), os.Chmod(filepath.Dir(path), 0o755)))
	}
	corten := command(s.corten)
	rows := []struct{ name, load, up, run command }{
		{"corten, ordinary user", corten + " load -i {archive}", "", corten + " run --rm --network none {image} /true"},
		{"corten, while another of his runs", corten + " load -i {archive}", corten + " run -d --network none {box} sleep 3600", corten + " run --rm --network none {image} /true"},
		{"podman, ordinary user", "/usr/bin/podman load --input {archive}", "", "/usr/bin/podman --cgroup-manager cgroupfs --events-backend file run --rm --network none --cgroups disabled --log-driver k8s-file {image} /true"},
	}
	s.users(len(rows))
	var cs []*contender
	for i, x := range rows {
		if i > 0 && !s.whom.MatchString(string(x.name)) && !strings.HasPrefix(string(x.name), "corten") {
			continue
		}
		ss := &session{serial: func() int64 { return s.serial.Add(1) }, values: values}
		argv := func(c command) []string {
			return ss.argv(command(userPrefix+strconv.Itoa(firstUser+i)+":") + c)
		}
		r := t.row(string(x.name))
		r.Note = s.try(func() {
			_, err := s.exec(argv(x.load))
			s.must(err)
			if x.up != "" {
				_, err := s.exec(argv(command(strings.ReplaceAll(string(x.load), "{archive}", box["archive"]))))
				s.must(err)
				_, err = s.exec(argv(command(strings.ReplaceAll(string(x.up), "{box}", box["image"]))))
				s.must(err)
			}
		})
		cs = append(cs, &contender{row: r, argv: func() []string { return argv(x.run) }})
	}
	for _, p := range s.peers()[:1] {
		p.name = "corten, root"
		cs = append(cs, s.contend(t, p, values, p.run))
	}
	s.rounds(cs)
	return []*table{t}
}
