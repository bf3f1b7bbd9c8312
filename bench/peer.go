package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cortenhq/corten/internal/testimage"
)

// command is a command line, split at blanks, in which {key} stands for a value of the
// session: {store} and {run} are its folders, {id} a name never used before, and the others
// are what the benchmark sets: {image}, {archive}, {rootfs}, {bundle}, {ref}, {tag}.
type command string

// peer is a program that does Corten's work, or part of it, and the commands for that. An
// empty command is a part that it does not do.
type peer struct {
	name    string
	needs   []need
	version []command
	daemon  command   // must run while the others do
	ready   command   // succeeds once the daemon does its work
	load    command   // brings the image of {archive} into the store
	run     command   // runs /true of {image} or {rootfs}, without a network
	host    command   // runs /bin/true on the host's own root, read-only
	up      command   // starts the container {name}, which sleeps, from {image} or {bundle}
	exec    command   // executes /bin/true in it
	write   command   // starts the container {name} from {image}, which executes {lines} {count}
	wait    command   // waits for the end of {name}
	down    command   // removes {name}, which may be running
	pull    []command // brings {ref} into the store, ready to run
	own     bool      // it works on a machine of its own, as far as networks go
}

// need is a file that a peer cannot do without and how to get it.
type need struct{ path, hint string }

func debian(pkg string, paths ...string) (ns []need) {
	for _, p := range paths {
		ns = append(ns, need{p, "apt-get install " + pkg})
	}
	return ns
}

// peers is the table of who is measured, in the order of the results.
func (r *bench) peers() []peer {
	corten := command(r.corten + " --root {store} --run {run} ")
	podman := command("/usr/bin/podman --root {store} --runroot {run} --cgroup-manager cgroupfs --events-backend file ")
	docker := command("/usr/bin/docker --host unix://{run}/docker.sock ")
	podmanRun := podman + "run --rm --network none --log-driver k8s-file "
	if !r.deviceRules() {
		podmanRun += "--cgroups disabled "
	}
	podmanKept := command(strings.Replace(string(podmanRun), "--rm ", "", 1))
	built := []need{{r.corten, "make build"}}
	return []peer{
		{name: "corten", needs: built, version: []command{command(r.corten + " version")},
			load: corten + "load -i {archive}", run: corten + "run --rm --network none {image} /true",
			host: corten + "run --rm --network none host /bin/true",
			up:   corten + "run -d --network none --name {name} {image} sleep 3600", exec: corten + "exec {name} /bin/true",
			write: corten + "run -d --network none --name {name} -v {lines}:/lines:ro {image} /lines {count}", wait: corten + "wait {name}", down: corten + "rm -f {name}",
			pull: []command{corten + "pull {ref}"}},
		{name: "corten, no init", needs: built,
			load: corten + "load -i {archive}", run: corten + "run --rm --network none --init=false {image} /true",
			host: corten + "run --rm --network none --init=false host /bin/true"},
		{name: "crun", needs: debian("crun", "/usr/bin/crun"), version: []command{"/usr/bin/crun --version"},
			run: "/usr/bin/crun --root {run} run --bundle {bundle} {id}",
			up:  "/usr/bin/crun --root {run} run --detach --bundle {bundle} {name}", exec: "/usr/bin/crun --root {run} exec {name} /bin/true"},
		{name: "runc", needs: debian("runc", "/usr/sbin/runc"), version: []command{"/usr/sbin/runc --version"},
			run: "/usr/sbin/runc --root {run} run --bundle {bundle} {id}",
			up:  "/usr/sbin/runc --root {run} run --detach --bundle {bundle} {name}", exec: "/usr/sbin/runc --root {run} exec {name} /bin/true"},
		{name: "bwrap", needs: debian("bubblewrap", "/usr/bin/bwrap"), version: []command{"/usr/bin/bwrap --version"},
			run:  "/usr/bin/bwrap --unshare-all --die-with-parent --ro-bind {rootfs} / --proc /proc --dev /dev /true",
			host: "/usr/bin/bwrap --unshare-all --die-with-parent --ro-bind / / --proc /proc --dev /dev /bin/true"},
		{name: "podman", needs: debian("podman crun", "/usr/bin/podman", "/usr/bin/crun"), version: []command{"/usr/bin/podman --version"},
			load: podman + "load --input {archive}", run: podmanRun + "{image} /true",
			up: podmanRun + "-d --name {name} {image} sleep 3600", exec: podman + "exec {name} /bin/true",
			write: podmanKept + "-d --name {name} -v {lines}:/lines:ro {image} /lines {count}", wait: podman + "wait {name}", down: podman + "rm -f -i -t 0 {name}",
			pull: []command{podman + "pull --quiet --tls-verify=false {ref}"}},
		{name: "docker", needs: debian("docker.io", "/usr/bin/docker", "/usr/sbin/dockerd", "/usr/bin/containerd", "/usr/sbin/runc"),
			version: []command{"/usr/sbin/dockerd --version"},
			daemon: "/usr/sbin/dockerd --host unix://{run}/docker.sock --data-root {store} --exec-root {run}/exec --pidfile {run}/docker.pid " +
				"--bridge=none --iptables=false --ip6tables=false --ip-masq=false --ip-forward=false",
			ready: docker + "version", load: docker + "load --input {archive}",
			run: docker + "run --rm --network none {image} /true",
			up:  docker + "run -d --network none --name {name} {image} sleep 3600", exec: docker + "exec {name} /bin/true",
			write: docker + "run -d --network none --name {name} -v {lines}:/lines:ro {image} /lines {count}", wait: docker + "wait {name}", down: docker + "rm -f {name}",
			pull: []command{docker + "pull --quiet {ref}"}},
		{name: "skopeo+umoci", needs: append(debian("skopeo", "/usr/bin/skopeo"), debian("umoci", "/usr/bin/umoci")...),
			version: []command{"/usr/bin/skopeo --version", "/usr/bin/umoci --version"},
			pull: []command{"/usr/bin/skopeo copy --quiet --src-tls-verify=false docker://{ref} oci:{store}/oci:{tag}",
				"/usr/bin/umoci unpack --image {store}/oci:{tag} {store}/{tag}"}},
	}
}

// deviceRules reports whether crun and podman can be given device rules: on cgroup v2 they
// are BPF programs, for which crun wants to lock memory without limit.
func (r *bench) deviceRules() bool { return r.cgroup == 1 || r.memlock }

// session is a peer at work on a store of its own.
type session struct {
	peer
	values map[string]string
	serial func() int64
	pid    int      // of the daemon, or 0
	on     *machine // that it works on; nil: the benchmark's own network
}

// open starts a session of p on an empty store; it ends with the scope.
func (s *scope) open(p peer) *session {
	run := fmt.Sprintf("/run/b%d", s.serial.Add(1)) // short: it holds sockets
	s.must(os.Mkdir(run, 0o755))
	ss := &session{peer: p, serial: func() int64 { return s.serial.Add(1) }, values: map[string]string{"store": s.TempDir(), "run": run}}
	if p.own {
		ss.on = s.machine()
	}
	if p.daemon != "" {
		s.startDaemon(ss)
	}
	return ss
}

func (s *scope) startDaemon(ss *session) {
	log, err := os.Create(filepath.Join(s.TempDir(), "daemon.log"))
	s.must(err)
	defer log.Close()
	cmd := s.command(ss.argv(ss.daemon))
	cmd.Stdout, cmd.Stderr = log, log
	s.must(inNet(ss.net(), cmd.Start))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	})
	ss.pid = cmd.Process.Pid
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err = s.exec(ss.argv(ss.ready)); err == nil {
			return
		}
		if len(ended) > 0 || time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			s.Fatalf("start %s: %v: %s", ss.name, err, text[max(0, len(text)-400):])
		}
	}
}

// net is the network namespace that the peer works in, "" the benchmark's own.
func (ss *session) net() string {
	if ss.on == nil {
		return ""
	}
	return ss.on.name
}

// argv is the command line of c with its values.
func (ss *session) argv(c command) []string {
	pairs := []string{"{id}", fmt.Sprint("bench", ss.serial())}
	for k, v := range ss.values {
		pairs = append(pairs, "{"+k+"}", v)
	}
	fill := strings.NewReplacer(pairs...)
	argv := strings.Fields(string(c))
	for i := range argv {
		argv[i] = fill.Replace(argv[i])
	}
	return argv
}

// set gives the session further values.
func (ss *session) set(values map[string]string) {
	for k, v := range values {
		ss.values[k] = v
	}
}

// missing says what a peer lacks on this machine, or "".
func (p peer) missing() string {
	for _, n := range p.needs {
		if _, err := os.Stat(n.path); err != nil {
			return "not installed: " + n.hint
		}
	}
	return ""
}

// versions is the first line of what each of the peer's programs says of its version.
func (p peer) versions() string {
	var lines []string
	for _, c := range p.version {
		argv := strings.Fields(string(c))
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		line, _, _ := strings.Cut(string(out), "\n")
		if err != nil {
			line = err.Error()
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, ", ")
}

// material is an image in the forms that the peers want.
func (s *scope) material(i testimage.Image, name string) map[string]string {
	dir := s.TempDir()
	bundle := filepath.Join(dir, "bundle")
	v := map[string]string{"image": "localhost/bench/" + name + ":1", "archive": filepath.Join(dir, "archive.tar"),
		"rootfs": filepath.Join(dir, "rootfs"), "bundle": bundle}
	i.WriteDockerArchive(s, v["archive"], v["image"])
	i.WriteRootFS(s, v["rootfs"])
	for _, d := range []string{"dev", "proc", "sys"} { // bwrap mounts on what is there
		s.must(os.MkdirAll(filepath.Join(v["rootfs"], d), 0o755))
	}
	raw, err := json.Marshal(runtimeConfig(v["rootfs"], s.deviceRules()))
	s.must(errors.Join(err, os.Mkdir(bundle, 0o755), os.WriteFile(filepath.Join(bundle, "config.json"), raw, 0o644)))
	return v
}

// runtimeConfig is what "runc spec" writes, less the terminal, for /true.
func runtimeConfig(rootfs string, deviceRules bool) map[string]any {
	type m = map[string]any
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	mount := func(at, kind string, opts ...string) m {
		return m{"destination": at, "type": kind, "source": kind, "options": opts}
	}
	resources := m{}
	if deviceRules {
		resources = m{"devices": []m{{"allow": false, "access": "rwm"}}}
	}
	var namespaces []m
	for _, n := range []string{"pid", "network", "ipc", "uts", "mount", "cgroup"} {
		namespaces = append(namespaces, m{"type": n})
	}
	return m{
		"ociVersion": "1.0.2",
		"hostname":   "bench",
		"root":       m{"path": rootfs, "readonly": true},
		"process": m{"user": m{"uid": 0, "gid": 0}, "args": []string{"/true"}, "env": []string{"PATH=/bin"}, "cwd": "/", "noNewPrivileges": true,
			"capabilities": m{"bounding": caps, "effective": caps, "permitted": caps},
			"rlimits":      []m{{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}}},
		"mounts": []m{
			mount("/proc", "proc"),
			mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
			mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
			mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
			mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
			mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
			mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
		},
		"linux": m{"resources": resources, "namespaces": namespaces,
			"maskedPaths":   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}},
	}
}
