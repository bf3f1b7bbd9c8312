package runline

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/cli/runflags"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// said are ways to use each flag of run. A flag that says nothing about the container has
// none.
func said(dir string) map[string][]string {
	disk := "/dev/loop0"
	return map[string][]string{
		"name":                  {"web", "a.b-c_d"},
		"label":                 {"a=b", "k=", "k", "x=1,2 $3 %4"},
		"label-file":            {filepath.Join(dir, "env")},
		"rm":                    {""},
		"restart":               {"no", "always", "unless-stopped", "on-failure", "on-failure:3"},
		"init":                  {"", "false"},
		"no-init":               {""},
		"stop-signal":           {"INT", "9", "37", "SIGRTMIN+3", "rtmin+30"},
		"stop-timeout":          {"0", "-1", "90"},
		"systemd":               {"auto", "always", "false"},
		"sdnotify":              {"ignore", "container", "keeper"},
		"health-cmd":            {"curl -f http://localhost/ || exit 1"},
		"health-interval":       {"1s", "1m30s"},
		"health-timeout":        {"5ms"},
		"health-start-period":   {"1h"},
		"health-start-interval": {"3s"},
		"health-retries":        {"0", "7"},
		"health-on-failure":     {"none", "kill", "restart"},
		"no-healthcheck":        {""},
		"log-driver":            {"none", "cri"},
		"log-opt":               {"max-size=1m", "max-size=-1", "max-file=3", "compress=false", "compress=true", "mode=non-blocking", "max-buffer-size=64k"},
		"interactive":           {""},
		"tty":                   {""},
		"env":                   {"A=b", "A", "B=", "C=%n $HOME \"x\" 'y' \\"},
		"env-file":              {filepath.Join(dir, "env")},
		"workdir":               {"/", "/a b"},
		"user":                  {"1:2", "web"},
		"group-add":             {"7", "audio"},
		"entrypoint":            {"", "/bin/sh"},
		"umask":                 {"0", "077"},
		"ulimit":                {"nofile=10", "nofile=10:20", "core=-1", "nproc=5:unlimited"},
		"oom-score-adj":         {"0", "-5", "1000"},
		"volume":                {"/a:/b", "/a:/c:ro,noexec,rslave", "data:/d:nocopy", "/e", "/f,g:/h", "/i:/j:bind,nosuid,nodev,noidmap", "/k:/l:Z", "data:/m:z"},
		"mount":                 {"type=bind,src=/k,dst=/l,bind-recursive=disabled", "type=volume,dst=/m,ro", `type=bind,"src=/n,""o",dst=/p`, "type=tmpfs,dst=/q,tmpfs-size=1m,exec"},
		"tmpfs":                 {"/r", "/s:size=64m,mode=700,exec,ro"},
		"read-only":             {""},
		"shm-size":              {"1g"},
		"storage-opt":           {"size=1m", "size=10g"},
		"network": {"none", "host", "container:web", "ns:/run/netns/x", "bridge", "default", "lab", "lab:alias=a,alias=b.c,ip=10.0.0.5,mac=02-00-00-00-00-05",
			"name=dmz,alias=x,ip6=fd00::5,driver-opt=com.docker.network.endpoint.ifname=eth7,rate-in=1gbit", "wan:interface_name=wan0,rate-out=1500kbit,burst=9k"},
		"net":           {"none", "lan"},
		"network-opt":   {"rate-in=10mbit", "rate-out=1gbps,burst=64k", "rate-in=12345,rate-out=0"},
		"publish":       {"80", "8080:80", "127.0.0.1:8081:80/udp", "[::1]:8082:80", "[::]::81", "9000-9009:82", "9010-9012:90-92/sctp", "0.0.0.0:8083:83"},
		"publish-all":   {""},
		"expose":        {"80", "53/udp", "7000-7003"},
		"ip":            {"10.0.0.9"},
		"ip6":           {"fd00::9"},
		"mac-address":   {"02:00:00:00:00:09"},
		"network-alias": {"db", "db.local"},
		"net-alias":     {"store"},
		"dns":           {"9.9.9.9", "2620:fe::fe"},
		"dns-search":    {".", "example.org", "a.example.org"},
		"dns-option":    {"ndots:2", "edns0"},
		"dns-opt":       {"rotate"},
		"add-host":      {"a:1.2.3.4", "b=[fd00::1]", "c=host-gateway", "d;e:5.6.7.8"},
		"hostname":      {"box"},
		"domainname":    {"example.org"},
		"userns":        {"auto", "host", "keep-id", "map:0:100000:65536"},
		"uidmap":        {"0:100000:1000"},
		"gidmap":        {"0:200000:1000"},
		"pid":           {"private", "host"},
		"ipc":           {"host", "none", "shareable"},
		"uts":           {"host"},
		"cgroupns":      {"host"},
		"time-offset":   {"boottime=+24h", "monotonic=-90s", "boottime=1.5"},
		"sysctl":        {"net.ipv4.ip_forward=1", "kernel.msgmax=1 2"},
		"cap-add":       {"SYS_TIME", "ALL", "net_admin,sys_admin"},
		"cap-drop":      {"CHOWN", "ALL", "cap_kill"},
		"privileged":    {""},
		"security-opt": {"seccomp=unconfined", "no-new-privileges=false", "no-new-privileges", "apparmor=x", "apparmor=unconfined", "label=type:t",
			"label=level:s0:c1,c2", "label=disable", "mask=/proc/cpuinfo:/sys/x", "unmask=/proc/kcore", "unmask=ALL", "unmask=/proc/sys", "mask=/proc/kcore"},
		"device":              {"/dev/null", "/dev/null:/dev/other:r"},
		"device-cgroup-rule":  {"c 1:3 r", "a *:* rwm", "b 8:* rw"},
		"memory":              {"64m", "0"},
		"memory-swap":         {"70m", "-1", "64m"},
		"memory-reservation":  {"32m"},
		"memory-swappiness":   {"0", "60"},
		"oom-kill-disable":    {""},
		"cpus":                {"1.5", "0.01"},
		"cpu-period":          {"50000"},
		"cpu-quota":           {"25000", "-1"},
		"cpu-shares":          {"512"},
		"cpuset-cpus":         {"0", "0-3,7"},
		"cpuset-mems":         {"0"},
		"cpu-rt-period":       {"1000"},
		"cpu-rt-runtime":      {"500"},
		"pids-limit":          {"10", "-1", "0"},
		"blkio-weight":        {"100"},
		"blkio-weight-device": {disk + ":200"},
		"device-read-bps":     {disk + ":1m"},
		"device-write-bps":    {disk + ":0"},
		"device-read-iops":    {disk + ":5"},
		"device-write-iops":   {disk + ":6"},
	}
}

// unsaid are flags that are about the command alone.
var unsaid = []string{"help", "plan", "pull", "platform", "quiet", "cidfile", "attach", "detach", "detach-keys", "sig-proxy", "preserve-fds"}

func parse(args []string) (*spec.Container, error) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	flags := runflags.Bind(fs, runflags.Run)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	rest := fs.Args()
	command := rest[1:]
	if rest[0] == "host" && len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	req, _, err := flags.Request(rest[0], command, runflags.Caller{LookupEnv: func(string) (string, bool) { return "", false }})
	return req.Spec, err
}

func prepare(t *testing.T) map[string][]string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "env"), []byte("F=1\nG= 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return said(dir)
}

// Every flag has to be thought of here.
func TestSaid(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	runflags.Bind(fs, runflags.Run)
	samples := prepare(t)
	fs.VisitAll(func(f *pflag.Flag) {
		if (samples[f.Name] == nil) == !slices.Contains(unsaid, f.Name) {
			t.Errorf("--%s: give samples of it here, and have Of write it", f.Name)
		}
	})
}

// What Of writes is read as what it was written of.
func TestInverse(t *testing.T) {
	samples := prepare(t)
	var names []string
	for n := range samples {
		names = append(names, n)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		args := []string{"--name=web"}
		for range rapid.IntRange(0, 12).Draw(t, "flags") {
			name := rapid.SampledFrom(names).Draw(t, "flag")
			value := rapid.SampledFrom(samples[name]).Draw(t, "value")
			arg := "--" + name
			if value != "" || name == "entrypoint" {
				arg += "=" + value
			}
			if _, err := parse(append(slices.Clone(args), arg, "image")); err == nil {
				args = append(args, arg) // of those that contradict each other the first
			}
		}
		args = append(args, rapid.SampledFrom([]string{"debian:12", "host"}).Draw(t, "image"))
		args = append(args, rapid.SampledFrom([][]string{nil, {"sh", "-c", "echo $X %i"}, {"/sbin/init"}, {"true", "--", "-x"}}).Draw(t, "command")...)
		want, err := parse(args)
		if err != nil {
			t.Fatal(err)
		}
		line, rest, err := Of(want)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		line = append(line, rest...)
		got, err := parse(line)
		if err != nil {
			t.Fatalf("%q\nwas written as %q: %v", args, line, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Fatalf("%q\nwas written as %q: %s", args, line, diff)
		}
		if (want.Process.Entrypoint == nil) != (got.Process.Entrypoint == nil) {
			t.Fatalf("%q\nwas written as %q: the entry point", args, line)
		}
	})
}

// What no flag can say is not left out in silence.
func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*spec.Container){
		"profile":    func(c *spec.Container) { c.Security.Seccomp = &spec.Seccomp{} },
		"namespace":  func(c *spec.Container) { c.Namespaces.PID = spec.Namespace{Mode: spec.Path, Path: "/x"} },
		"entrypoint": func(c *spec.Container) { c.Process.Entrypoint = []string{"a", "b"} },
		"health":     func(c *spec.Container) { c.Life.Health = &spec.Health{Test: []string{"CMD", "a", "b"}} },
		"rule":       func(c *spec.Container) { c.Resources.Devices = []spec.DeviceRule{{Type: "a"}} },
	} {
		c, err := parse([]string{"--name=web", "image"})
		if err != nil {
			t.Fatal(err)
		}
		change(c)
		if _, _, err := Of(c); !errs.Is(err, errs.Unsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
