package engines_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// dockerd is a daemon with files of its own.
func (p *place) dockerd(t *testing.T, name string, more ...string) *daemon {
	run := "/run/" + name
	docker := []string{"/usr/bin/docker", "--host", "unix://" + run + ".sock"}
	p.wrap(t, map[string]string{"d1": "docker", "d2": "docker2"}[name], docker...)
	return &daemon{t: t, env: p.env(), log: filepath.Join(p.dir, name+".log"), ready: append(docker, "version"),
		argv: append([]string{"/usr/sbin/dockerd", "--host", "unix://" + run + ".sock", "--data-root", filepath.Join(p.dir, name),
			"--exec-root", run, "--pidfile", run + ".pid", "--add-runtime", "tested=" + p.runtime, "--default-runtime", "tested",
			"--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge=none"}, more...)}
}

func beginDocker(t *testing.T, p *place) {
	// What builds images in dockerd finds its runtime by this name.
	must(t, os.Symlink(p.runtime, filepath.Join(p.dir, "bin", "runc")))
	p.dockerd(t, "d1").run()
	p.do(t, "docker", "load", "--input", p.archive)
	p.second = p.dockerd(t, "d2", "--live-restore", "--iptables=false")
	t.Cleanup(func() {
		p.second.stop(syscall.SIGTERM)
		_ = unix.Unmount(filepath.Join(p.dir, "d2"), unix.MNT_DETACH) // it mounts that for itself, and was killed
	})
}

// daemon2 is the second daemon's life: scripts may end it.
func (p *place) daemon2(ts *testscript.TestScript, _ bool, args []string) {
	switch args[0] {
	case "start":
		ts.Check(p.second.start())
	case "stop":
		p.second.stop(syscall.SIGTERM)
	case "kill":
		p.second.stop(syscall.SIGKILL)
	}
}

func beginContainerd(t *testing.T, p *place) {
	config := filepath.Join(p.dir, "containerd.toml")
	must(t, os.WriteFile(config, []byte(`version = 2
root = "`+p.dir+`/root"
state = "/run/containerd-test"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd-test.sock"
`), 0o644))
	ctr := []string{"/usr/bin/ctr", "--address", "/run/containerd-test.sock"}
	p.wrap(t, "ctr", ctr...)
	d := &daemon{t: t, env: p.env(), log: filepath.Join(p.dir, "containerd.log"), ready: append(ctr, "version"),
		argv: []string{"/usr/bin/containerd", "--config", config}}
	d.run()
	p.do(t, "ctr", "image", "import", p.archive)
}

func beginPodman(t *testing.T, p *place) {
	must(t, os.WriteFile(filepath.Join(p.dir, "containers.conf"), []byte("[containers]\nnetns = \"none\"\n"), 0o644))
	t.Setenv("CONTAINERS_CONF", filepath.Join(p.dir, "containers.conf"))
	p.wrap(t, "podman", "/usr/bin/podman", "--root", p.dir+"/root", "--runroot", "/run/podman-test", "--tmpdir", "/run/podman-tmp",
		"--runtime", p.runtime, "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--network-config-dir", p.dir+"/networks")
	p.do(t, "podman", "load", "--input", p.archive)
}

func beginBuildah(t *testing.T, p *place) {
	p.wrap(t, "buildah", "/usr/bin/buildah", "--root", p.dir+"/root", "--runroot", "/run/buildah-test")
	p.do(t, "buildah", "pull", "docker-archive:"+p.archive)
}
