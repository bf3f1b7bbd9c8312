package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cortenhq/corten/internal/testimage"
)

// reno is the congestion control that every network namespace may have, whatever this host's default is: some
// wait for timers, and what is measured then is how well those are kept.
const reno = "net.ipv4.tcp_congestion_control=reno"

// networked is the table of who is measured with networks, each on a machine of its own. run has a
// published port. {publish}, {program} and {command} are words that are put in before the
// command line is split. Docker has IPv6 as far as it can: what its default bridge needs of
// it is off as it is installed.
func (r *bench) networked() []peer {
	corten := command(r.corten + " --root {store} --run {run} ")
	podman := command("/usr/bin/podman --root {store} --runroot {run} --cgroup-manager cgroupfs --events-backend file ")
	podmanRun := podman + "run --rm --log-driver k8s-file "
	if !r.deviceRules() {
		podmanRun += "--cgroups disabled "
	}
	built := []need{{r.corten, "make build"}}
	bridged := peer{name: "corten", own: true, needs: built, load: corten + "load -i {archive}",
		run: corten + "run --rm --network bridge -p 8080:80 {image} /true",
		up:  corten + "run -d --network bridge --sysctl " + reno + " {publish} --name {name} {image} {program}", exec: corten + "exec {name} {command}", down: corten + "rm -f {name}"}
	none := peer{name: "corten --network none", own: true, needs: built, load: bridged.load, run: corten + "run --rm --network none {image} /true"}
	plain := r.dockerOnBridge("docker, IPv4", "")
	plain.up = ""
	return []peer{bridged, none,
		r.dockerOnBridge("docker", " --experimental --ip6tables --ipv6 --fixed-cidr-v6 fd00:d0c::/64"), plain,
		{name: "podman, IPv4", own: true, needs: debian("podman crun containernetworking-plugins", "/usr/bin/podman", "/usr/bin/crun", "/usr/lib/cni/bridge"),
			load: podman + "load --input {archive}", run: podmanRun + "--network podman -p 8080:80 {image} /true"},
	}
}

func (r *bench) dockerOnBridge(name, flags command) peer {
	docker := command("/usr/bin/docker --host unix://{run}/docker.sock ")
	return peer{name: string(name), own: true,
		needs:  debian("docker.io iptables", "/usr/bin/docker", "/usr/sbin/dockerd", "/usr/bin/containerd", "/usr/sbin/runc", "/usr/sbin/iptables"),
		daemon: "/usr/sbin/dockerd --host unix://{run}/docker.sock --data-root {store} --exec-root {run}/exec --pidfile {run}/docker.pid" + flags,
		ready:  docker + "version", load: docker + "load --input {archive}",
		run: docker + "run --rm -p 8080:80 {image} /true",
		up:  docker + "run -d --sysctl " + reno + " {publish} --name {name} {image} {program}", exec: docker + "exec {name} {command}", down: docker + "rm -f {name}"}
}

// contendNet is contend for those of networked that do the work in question.
func (s *scope) contendNet(t *table, values map[string]string, work func(peer) command) (cs []*contender) {
	for _, p := range s.networked() {
		if work(p) != "" && (s.whom.MatchString(p.name) || strings.HasPrefix(p.name, "corten")) {
			cs = append(cs, s.contend(t, p, values, work(p)))
		}
	}
	return cs
}

// benchStartBridge measures run and exit on the default network, with a published port.
func benchStartBridge(s *scope) []*table {
	t := &table{Name: "start-bridge", Title: "run and exit, static true, on the default bridge with a published port, IPv4 and IPv6 where not said otherwise",
		Metrics: []metric{wallMs, peakMB, standingMB}}
	cs := s.contendNet(t, s.material(testimage.True(s), "true"), func(p peer) command { return p.run })
	s.rounds(cs)
	s.peaks(cs)
	return []*table{t}
}

// benchNetStarts measures n containers that stay, all on one bridge, eight at a time, and checks
// that no two have one address.
func benchNetStarts(s *scope, n int) []*table {
	t := &table{Name: fmt.Sprintf("net-starts-%d", n), Title: fmt.Sprintf("%d containers on one bridge that stay, started eight at a time; time per start", n), Metrics: []metric{wallMs}}
	for _, c := range s.contendNet(t, s.material(testimage.Busybox(s), "busybox"), func(p peer) command {
		return fill(p.up, "{publish}", "", "{name}", "{id}", "{program}", "sleep 3600")
	}) {
		if c.row.Note != "" {
			continue
		}
		wall, err := s.atATime(8, c, n)
		if err == nil {
			err = distinct(n)
		}
		if err != nil {
			c.row.Note = "fails: " + err.Error()
		}
		c.row.add(wallMs, ms(wall)/float64(n))
		if err := endAll(); err != nil { // the next peer is to have the machine for itself
			s.Fatalf("%v", err)
		}
	}
	return []*table{t}
}

// fill puts words into a command before it is split.
func fill(c command, pairs ...string) command {
	return command(strings.NewReplacer(pairs...).Replace(string(c)))
}

// distinct looks at the addresses in the network of each sleep.
func distinct(n int) error {
	local := regexp.MustCompile(`\|-- ([0-9.]+)\n\s+/32 host LOCAL`)
	holders := map[string]int{}
	pids := processesOf("sleep")
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/fib_trie", pid))
		if err != nil {
			return err
		}
		mine := map[string]bool{}
		for _, m := range local.FindAllSubmatch(b, -1) {
			if a := string(m[1]); !strings.HasPrefix(a, "127.") {
				mine[a] = true
			}
		}
		if len(mine) != 1 {
			return fmt.Errorf("process %d has %d addresses", pid, len(mine))
		}
		for a := range mine {
			if holders[a] != 0 {
				return fmt.Errorf("processes %d and %d have one address: %s", holders[a], pid, a)
			}
			holders[a] = pid
		}
	}
	if len(pids) != n {
		return fmt.Errorf("%d containers of %d are there", len(pids), n)
	}
	return nil
}

// endAll ends every sleep, which ends its container.
func endAll() (all error) {
	for _, pid := range processesOf("sleep") {
		p, err := os.FindProcess(pid)
		if err == nil {
			err = p.Kill()
		}
		all = errors.Join(all, err)
	}
	return all
}

// toolbox is an image with the programs that load networks, and what they need to serve: no file, so
// that no file system is measured.
func (s *scope) toolbox() map[string]string {
	programs := []string{"/usr/bin/iperf3", "/usr/bin/wrk", "/usr/sbin/nginx"}
	for _, p := range programs {
		if _, err := os.Stat(p); err != nil {
			s.Fatalf("no %s: apt-get install iperf3 wrk nginx-light", filepath.Base(p))
		}
	}
	const config = `user root; worker_processes 2; pid /tmp/pid; error_log stderr; daemon off;
events { worker_connections 1024; }
http { access_log off; sendfile on; keepalive_requests 1000000; client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;
uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5; default_type text/plain;
server { listen 80; listen [::]:80; location / { return 200 "CONTENT"; } } }
`
	return s.material(testimage.Tools(s, programs,
		testimage.File{Name: "nginx.conf", Data: []byte(strings.Replace(config, "CONTENT", strings.Repeat("x", 1000), 1))}), "tools")
}
