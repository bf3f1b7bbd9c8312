package runflags

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/cli/refused"
	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// parse translates a command line without the word run; an image is added.
func parse(args ...string) (engine.RunRequest, Options, error) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	f := Bind(fs, Run)
	if err := fs.Parse(append(args, "image", "command")); err != nil {
		return engine.RunRequest{}, Options{}, err
	}
	return f.Request(fs.Arg(0), fs.Args()[1:], Caller{LookupEnv: func(name string) (string, bool) {
		if name == "FROM_CALLER" {
			return "caller's", true
		}
		return "", false
	}})
}

func mustParse(t *testing.T, args ...string) *spec.Container {
	t.Helper()
	req, _, err := parse(args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return req.Spec
}

// write makes a file for a test to name in a flag.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// sample is a value for each flag, with what else has to be given for it to make sense. A
// flag without a line here takes "true" or "64m".
func samples(t *testing.T) map[string][]string {
	return map[string][]string{
		"name":                  {"--name", "ship"},
		"plan":                  {"--plan"},
		"pull":                  {"--pull", "always"},
		"platform":              {"--platform", "linux/arm64"},
		"cidfile":               {"--cidfile", "f"},
		"label":                 {"--label", "a=b"},
		"label-file":            {"--label-file", write(t, "labels", "a=b\n")},
		"init":                  {"--init=false"},
		"sig-proxy":             {"--sig-proxy=false"},
		"attach":                {"--attach", "stderr"},
		"detach-keys":           {"--detach-keys", "ctrl-a,d"},
		"preserve-fds":          {"--preserve-fds", "2"},
		"restart":               {"--restart", "on-failure:3"},
		"systemd":               {"--systemd", "always"},
		"sdnotify":              {"--sdnotify", "container"},
		"health-cmd":            {"--health-cmd", "true"},
		"health-interval":       {"--health-interval", "1s"},
		"health-timeout":        {"--health-timeout", "1s"},
		"health-start-period":   {"--health-start-period", "1s"},
		"health-start-interval": {"--health-start-interval", "1s"},
		"health-retries":        {"--health-retries", "1"},
		"health-on-failure":     {"--health-on-failure", "kill"},
		"log-driver":            {"--log-driver", "none"},
		"log-opt":               {"--log-opt", "max-size=1m"},
		"stop-signal":           {"--stop-signal", "INT"},
		"stop-timeout":          {"--stop-timeout", "3"},
		"env":                   {"--env", "A=b"},
		"env-file":              {"--env-file", write(t, "env", "A=b\n")},
		"workdir":               {"--workdir", "/w"},
		"user":                  {"--user", "1:2"},
		"group-add":             {"--group-add", "7"},
		"entrypoint":            {"--entrypoint", "sh"},
		"umask":                 {"--umask", "077"},
		"ulimit":                {"--ulimit", "nofile=10"},
		"oom-score-adj":         {"--oom-score-adj", "100"},
		"volume":                {"--volume", "/a:/b"},
		"mount":                 {"--mount", "type=bind,src=/a,dst=/b"},
		"tmpfs":                 {"--tmpfs", "/t"},
		"network":               {"--network", "host"},
		"net":                   {"--net", "host"},
		"network-opt":           {"--network-opt", "rate-in=1mbit"},
		"publish":               {"--publish", "80:80"},
		"expose":                {"--expose", "80"},
		"ip":                    {"--ip", "10.0.0.5"},
		"ip6":                   {"--ip6", "fd00::5"},
		"mac-address":           {"--mac-address", "02:00:00:00:00:05"},
		"network-alias":         {"--network", "a", "--network-alias", "b"},
		"net-alias":             {"--network", "a", "--net-alias", "b"},
		"dns":                   {"--dns", "9.9.9.9"},
		"dns-search":            {"--dns-search", "."},
		"dns-option":            {"--dns-option", "ndots:2"},
		"dns-opt":               {"--dns-opt", "ndots:2"},
		"add-host":              {"--add-host", "a:1.2.3.4"},
		"hostname":              {"--hostname", "h"},
		"domainname":            {"--domainname", "d"},
		"userns":                {"--userns", "host"},
		"uidmap":                {"--uidmap", "0:1:2"},
		"gidmap":                {"--gidmap", "0:1:2"},
		"pid":                   {"--pid", "host"},
		"ipc":                   {"--ipc", "host"},
		"uts":                   {"--uts", "host"},
		"cgroupns":              {"--cgroupns", "host"},
		"time-offset":           {"--time-offset", "boottime=1h"},
		"sysctl":                {"--sysctl", "net.ipv4.ip_forward=1"},
		"cap-add":               {"--cap-add", "SYS_TIME"},
		"cap-drop":              {"--cap-drop", "CHOWN"},
		"security-opt":          {"--security-opt", "seccomp=unconfined"},
		"device":                {"--device", "/dev/null"},
		"device-cgroup-rule":    {"--device-cgroup-rule", "c 1:3 r"},
		"memory-swap":           {"--memory", "64m", "--memory-swap", "70m"},
		"memory-swappiness":     {"--memory-swappiness", "0"},
		"cpus":                  {"--cpus", "1.5"},
		"cpu-period":            {"--cpu-period", "50000"},
		"cpu-quota":             {"--cpu-quota", "50000"},
		"cpu-shares":            {"--cpu-shares", "512"},
		"cpuset-cpus":           {"--cpuset-cpus", "0"},
		"cpuset-mems":           {"--cpuset-mems", "0"},
		"cpu-rt-period":         {"--cpu-rt-period", "1000"},
		"cpu-rt-runtime":        {"--cpu-rt-runtime", "1000"},
		"pids-limit":            {"--pids-limit", "10"},
		"storage-opt":           {"--storage-opt", "size=10m"},
		"blkio-weight":          {"--blkio-weight", "100"},
		"blkio-weight-device":   {"--blkio-weight-device", blockDevice(t) + ":100"},
		"device-read-bps":       {"--device-read-bps", blockDevice(t) + ":1m"},
		"device-write-bps":      {"--device-write-bps", blockDevice(t) + ":1m"},
		"device-read-iops":      {"--device-read-iops", blockDevice(t) + ":9"},
		"device-write-iops":     {"--device-write-iops", blockDevice(t) + ":9"},
	}
}

// blockDevice is some block device of this machine.
func blockDevice(t *testing.T) string {
	t.Helper()
	all, err := walkDevices("/dev", "/dev", "r")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Type == "b" {
			return d.HostPath
		}
	}
	t.Skip("no block device in /dev")
	return ""
}

// No flag may be taken and then forgotten: each has to change the request or the options.
func TestEveryFlagCounts(t *testing.T) {
	values := samples(t)
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	Bind(fs, Run)
	fs.VisitAll(func(f *pflag.Flag) {
		args, ok := values[f.Name]
		switch {
		case ok:
		case f.Value.Type() == "bool":
			args = []string{"--" + f.Name + "=true"}
		default:
			args = []string{"--" + f.Name, "64m"}
		}
		given := len(args)
		if strings.Contains(args[given-1], "=") && strings.HasPrefix(args[given-1], "--") || f.NoOptDefVal != "" {
			given++ // name and value in one word
		}
		plain := describe(t, args[:given-2])
		if with := describe(t, args); bytes.Equal(plain, with) {
			t.Errorf("--%s changes nothing:\n%s", f.Name, with)
		}
		if len(f.Annotations[GroupKey]) == 0 {
			t.Errorf("--%s has no heading", f.Name)
		}
		if value, usage := pflag.UnquoteUsage(f); f.Value.Type() != "bool" && (value == "string" || value == "stringArray") || usage == "" {
			t.Errorf("--%s: the help does not name its value", f.Name)
		}
	})
	for name := range values {
		if fs.Lookup(name) == nil {
			t.Errorf("--%s is gone", name)
		}
	}
}

// describe is everything that a command line comes to. The name that is made up is left out.
func describe(t *testing.T, args []string) []byte {
	t.Helper()
	req, opts, err := parse(args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	if opts.Unnamed {
		req.Spec.Name = ""
	}
	b, err := json.Marshal([]any{req.Spec, req.Pull, req.Platform, opts})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A flag may not be both ours and refused, and a refusal has something to say.
func TestRefusals(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	Bind(fs, Run)
	for _, r := range refused.Flags() {
		if fs.Lookup(r.Name) != nil || r.Short != "" && fs.ShorthandLookup(r.Short) != nil {
			t.Errorf("--%s is built and refused", r.Name)
		}
		err := refused.Flag(r.Name)
		if err == nil || errs.HintOf(err) == "" || !strings.Contains(err.Error(), r.Name) {
			t.Errorf("--%s: %v", r.Name, err)
		}
		if r.Short != "" && refused.Flag(r.Short).Error() != err.Error() {
			t.Errorf("-%s is not --%s", r.Short, r.Name)
		}
	}
	if err := refused.Flag("volume"); err != nil {
		t.Error(err)
	}
	if err := refused.Flag(""); err != nil {
		t.Error(err)
	}
}

// Docker's own list of flags, as docker run --help of version 29 has it: each has to be
// built or refused by name.
func TestDockersFlags(t *testing.T) {
	const docker = `add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns
cidfile cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems
detach detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops
disable-content-trust dns dns-opt dns-option dns-search domainname entrypoint env env-file expose gpus group-add
health-cmd health-interval health-retries health-start-interval health-start-period health-timeout hostname init
interactive io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label label-file link link-local-ip
log-driver log-opt mac-address memory memory-reservation memory-swap memory-swappiness mount name net net-alias network
network-alias no-healthcheck oom-kill-disable oom-score-adj pid pids-limit platform privileged publish publish-all pull
quiet read-only restart rm runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl tmpfs tty
ulimit use-api-socket user userns uts volume volume-driver volumes-from workdir`
	letters := map[string]string{"attach": "a", "cpu-shares": "c", "detach": "d", "env": "e", "hostname": "h", "interactive": "i",
		"label": "l", "memory": "m", "publish": "p", "publish-all": "P", "quiet": "q", "tty": "t", "user": "u", "volume": "v", "workdir": "w"}
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	Bind(fs, Run)
	for _, name := range strings.Fields(docker) {
		f := fs.Lookup(name)
		switch {
		case f == nil && refused.Flag(name) == nil:
			t.Errorf("--%s is neither built nor refused", name)
		case f != nil && f.Shorthand != letters[name]:
			t.Errorf("--%s has the letter %q, Docker's is %q", name, f.Shorthand, letters[name])
		case f == nil && letters[name] != "" && refused.Flag(letters[name]) == nil:
			t.Errorf("-%s is not refused", letters[name])
		}
	}
}

func TestFlagsEndAtTheImage(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	f := Bind(fs, Run)
	if err := fs.Parse([]string{"-i", "host", "ls", "--rm", "-t"}); err != nil {
		t.Fatal(err)
	}
	req, _, err := f.Request(fs.Arg(0), fs.Args()[1:], Caller{})
	if err != nil {
		t.Fatal(err)
	}
	c := req.Spec
	if diff := cmp.Diff([]string{"ls", "--rm", "-t"}, c.Process.Args); diff != "" || c.Life.Remove || c.Process.Terminal {
		t.Error(diff, c)
	}
	if !c.Image.Platform || c.Image.Name != "host" {
		t.Error(c.Image)
	}
}

// What a container is without any flag.
func TestDefaults(t *testing.T) {
	req, opts, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	if !values.ValidName(req.Spec.Name) {
		t.Errorf("name %q", req.Spec.Name)
	}
	req.Spec.Name = ""
	got, err := json.MarshalIndent(req.Spec, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if req.Pull != engine.PullMissing || req.Platform != "" {
		t.Errorf("%+v", req)
	}
	golden(t, "defaults.json", got)
	if want := (Options{SigProxy: true, Unnamed: true, DetachKeys: values.DefaultKeys}); opts != want {
		t.Errorf("%+v", opts)
	}
}

func TestPrivileged(t *testing.T) {
	c := mustParse(t, "--privileged", "--name", "x1", "--cap-drop", "sys_module", "--security-opt", "no-new-privileges")
	s := c.Security
	if !s.Privileged || !s.Unconfined || s.AllowNewPrivs || len(s.Masked)+len(s.ReadOnlyPaths) != 0 || s.AppArmor != "unconfined" {
		t.Errorf("%+v", s)
	}
	if c.Namespaces.User.Mode != spec.UserAuto {
		t.Error("privileged gave up the user namespace")
	}
	if len(c.Devices) == 0 {
		t.Error("no devices")
	}
	for _, d := range c.Devices {
		if isOwnDevice(d.Path) || !strings.HasPrefix(d.Path, "/dev/") || d.Type == "" {
			t.Errorf("%+v", d)
		}
	}
	for _, name := range s.Capabilities {
		if name == "CAP_SYS_MODULE" {
			t.Error("a dropped capability is there")
		}
	}
	if len(s.Capabilities) < 35 {
		t.Error(s.Capabilities)
	}
}

// Each wrong flag and what the user is told.
func TestErrorTexts(t *testing.T) {
	var b bytes.Buffer
	for _, line := range strings.Split(strings.TrimSpace(wrong), "\n") {
		args := strings.Fields(line)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "␣", " ")
		}
		_, _, err := parse(args...)
		if err == nil {
			t.Errorf("%s: no error", line)
			continue
		}
		hint := errs.HintOf(err)
		if hint == "" {
			t.Errorf("%s: no hint", line)
		}
		if kind := errs.KindOf(err); kind == errs.Other || kind == errs.Internal {
			t.Errorf("%s: of kind %v", line, kind)
		}
		b.WriteString(line + "\n\terror: " + err.Error() + "\n\thint: " + hint + "\n")
	}
	golden(t, "errors.txt", b.Bytes())
}

const wrong = `
--plan=xml
--name x
--name -x
--name a/b
--pull sometimes
--platform linux//v8
--platform a/b/c/d
--init --no-init
--stop-signal SIGFOO
--stop-signal 65
--stop-timeout soon
--stop-timeout -2
--restart sometimes
--restart always:3
--restart on-failure:
--restart on-failure:-1
--restart :3
--rm --restart always
--systemd maybe
--sdnotify healthy
--sdnotify me
--attach stdlog
--attach stdin
--detach --attach stdout
--tty --attach stderr
--detach-keys ctrl-1
--detach-keys ab
--detach-keys a,,b
--health-interval 30
--health-timeout -1s
--health-start-period 1us
--health-retries -1
--health-on-failure panic
--no-healthcheck --health-retries 3
--log-driver syslog
--log-driver json-file
--log-driver paper
--log-driver none --log-opt max-size=1m
--log-opt max-size
--log-opt max-size=big
--log-opt max-size=0
--log-opt max-size=-1 --log-opt max-file=3
--log-opt max-file=0
--log-opt compress=maybe
--log-opt mode=fast
--log-opt max-buffer-size=1m
--log-opt tag=x
--log-opt shiny=1
--label =x
--workdir tmp
--group-add=
--umask 888
--umask 01000
--oom-score-adj 1001
--oom-score-adj low
--env =x
--env=
--ulimit nofile
--ulimit nofil=3
--ulimit nofile=a
--ulimit nofile=10:5
--ulimit nofile=-1:5
--ulimit nofile=-2
--ulimit nofile=
--volume a
--volume /a:b
--volume /a:/
--volume a/b:/c
--volume a:/c:ro:x
--volume :/c
--volume /a:/c:
--volume /a:/c:ro,rw
--volume /a:/c:rprivate,rslave
--volume /a:/c:shiny
--volume /a:/c:U
--volume /a:/c:O
--volume /a:/c:nocopy
--volume a1:/c:rshared
--volume ~/a:/c
--volume /a:/c --volume /b:/c/
--volume /a:/c --tmpfs /c
--mount type=bind,source=/a
--mount type=bind,target=/a
--mount type=bind,source=a,target=/a
--mount type=bind,source=/a,target=a
--mount type=ufo,target=/a
--mount type=image,target=/a
--mount type=tmpfs,source=/a,target=/a
--mount type=tmpfs,target=/a,tmpfs-size=big
--mount type=tmpfs,target=/a,tmpfs-mode=9
--mount type=tmpfs,target=/a,bind-propagation=shared
--mount type=bind,source=/a,target=/a,volume-nocopy
--mount type=bind,source=/a,target=/a,tmpfs-size=3
--mount type=bind,source=/a,target=/a,bind-propagation=up
--mount type=bind,source=/a,target=/a,relabel=maybe
--mount type=tmpfs,target=/a,relabel=shared
--mount type=bind,source=/a,target=/a,bind-recursive=writable
--mount type=bind,source=/a,target=/a,bind-recursive=readonly
--mount type=bind,source=/a,target=/a,bind-recursive=no
--mount type=bind,source=/a,target=/a,bind-nonrecursive
--mount type=bind,source=/a,target=/a,readonly=maybe
--mount type=bind,source=,target=/a
--mount type=bind,␣source=/a,target=/a
--mount source=a/b,target=/a
--mount source=ab,target=/a,volume-driver=x
--mount source=ab,target=/a,volume-opt=x=y
--mount source=ab,target=/a,shiny=1
--mount "
--mount target
--tmpfs a
--tmpfs /a:size=big
--tmpfs /a:size=0
--tmpfs /a:mode=abc
--tmpfs /a:uid=3
--tmpfs /a:suid
--tmpfs /a:shiny
--shm-size 0
--shm-size -1
--network cni:
--network pod:x
--network container:
--network ns:run
--network a/b
--network a:alias
--network a:colour=red
--network a:alias=b_-
--network bridge:alias=web
--network none:alias=web
--network a:ip=10.0.0
--network a:ip=127.0.0.1
--network a:ip6=10.0.0.5
--network a:mac=01:00:00:00:00:00
--network a:mac=02
--network a:interface-name=lo
--network a:interface-name=a_name_too_long_
--network a:rate-in=fast
--network a:gw-priority=1
--network a:driver-opt=x=y
--network alias=web
--network name=a,web
--network a --network a
--network a:interface_name=x1 --network b:interface_name=x1
--network none --network host
--network a --network host
--network a --network b --ip 10.0.0.5
--network a:ip=10.0.0.5 --ip 10.0.0.6
--network a:alias=x --network-alias y
--network a:mac=02:00:00:00:00:01 --mac-address 02:00:00:00:00:02
--network-alias web
--network host --ip 10.0.0.5
--network none --publish 80
--network none --publish-all
--network container:x --publish 80
--network container:x --expose 80
--network container:x --dns 1.2.3.4
--network container:x --add-host a:1.2.3.4
--network container:x --hostname a
--network ns:/x --publish 80
--network ns:/x --sysctl net.core.somaxconn=1
--network container:x --sysctl net.core.somaxconn=1
--network-opt rate-in
--network-opt rate-in=999
--network-opt rate-out=1mb
--network-opt burst=-1
--network-opt colour=red
--ip fd00::5
--ip6 10.0.0.5
--mac-address 00:00:00:00:00:00
--publish=
--publish 0
--publish 65536
--publish 80:
--publish 80:0
--publish a:80
--publish 80/icmp
--publish 1.2.3:80:80
--publish [::1]:80
--publish [::1:80:80
--publish 8000-8001:80-82
--publish 8000:80-82
--publish 82-80
--publish 0-5:80
--publish 80:80 --publish 127.0.0.1:80:81
--publish published=80
--publish published=80,target=80,colour=red
--expose 0
--expose 80-
--expose 80/icmp
--expose 80:80
--dns dns.example.org
--dns-search -a.org
--dns-search . --dns-search a.org
--dns-option=
--add-host a
--add-host a:b
--add-host a:[::1
--add-host =1.2.3.4
--network none --net host
--network=
--hostname -a
--hostname a..b
--hostname a_very_long_name_that_the_kernel_would_have_no_room_for_in_its_64_bytes
--domainname a/b
--uts host --hostname a
--ipc host --shm-size 1m
--ipc none --shm-size 1m
--userns container:x
--userns keep-id:uid=3
--userns auto:size=3
--userns other
--userns host:x
--userns map
--userns map:0:1
--userns map:1:100000:1
--userns map:0:100000:0
--userns map:0:4294967295:1
--userns map:0:100000:10,5:200000:10
--userns map:0:100000:10 --uidmap 0:0:1
--userns host --uidmap 0:1:2
--uidmap 0:100000:10 --uidmap 20:100005:10
--uidmap a:b:c
--pid container:x
--pid public
--ipc container:x
--ipc shared
--uts container:x
--cgroupns ns:/proc/1/ns/cgroup
--time-offset realtime=1h
--time-offset boottime
--time-offset boottime=1h --time-offset boottime=2h
--time-offset boottime=fast
--sysctl net.ipv4.ip_forward
--sysctl kernel.panic=1
--sysctl kernel.hostname=a
--sysctl net.ipv4/../../kernel/panic=1
--sysctl net.core.somaxconn=1 --network host
--sysctl kernel.msgmax=1 --ipc host
--cap-add SYS_ADMINN
--cap-drop CAP_
--cap-add ALL --cap-drop ALL
--cap-add SYS_TIME --cap-drop CAP_SYS_TIME
--security-opt shiny=1
--security-opt seccomp
--security-opt seccomp=/nonexistent/profile.json
--security-opt no-new-privileges=maybe
--security-opt label=shiny:x
--security-opt label=disable --security-opt label=type:x
--security-opt mask=proc
--security-opt unmask=/tmp
--security-opt unmask=proc
--security-opt unmask=/proc/[
--security-opt systempaths=confined
--device null
--device /dev/nonexistent
--device /dev/null:rwx:r
--device /dev/null:/dev/x:rr
--device /dev/null:/tmp/x
--device /etc/passwd
--device /etc
--device vendor.com/class=name
--device-cgroup-rule c
--device-cgroup-rule x␣1:3␣r
--device-cgroup-rule c␣1:3␣x
--device-cgroup-rule c␣1␣r
--memory lots
--memory -5m
--memory 5m
--memory 1e9
--memory 9999999p
--memory 64m --memory-reservation 65m
--memory-swap 64m
--memory 64m --memory-swap 63m
--memory-swappiness 101
--cpus many
--cpus -1
--cpus 0.001
--cpus 0x10
--cpus 1 --cpu-quota 5000
--cpu-period 10
--cpu-quota 10
--cpu-shares 1
--cpu-shares 300000
--cpuset-cpus 3-1
--cpuset-cpus a
--cpuset-mems ,
--pids-limit -2
--pids-limit some
--blkio-weight 5
--blkio-weight-device /dev/null:100
--blkio-weight-device sda:100
--device-read-bps /dev/nonexistent:1m
--device-read-bps /dev/sda
`

// update rewrites the golden files.
func update() bool {
	return flag.Lookup("update") != nil && flag.Lookup("update").Value.String() == "true"
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write what the tests get to testdata")
	flag.Parse()
	os.Exit(m.Run())
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if update() {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s differs (-want +got); go test -update writes it anew:\n%s", path, diff)
	}
}

// Every value that a shell offers is one that the flag takes, if nothing has to follow it.
func TestValues(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	Bind(fs, Run)
	found := 0
	fs.VisitAll(func(f *pflag.Flag) {
		for _, v := range values.Words(f.Name) {
			found++
			if strings.HasSuffix(v, "=") || strings.HasSuffix(v, ":") {
				continue
			}
			if _, _, err := parse("--" + f.Name + "=" + v); err != nil {
				t.Error(err)
			}
		}
	})
	if found < 60 {
		t.Errorf("only %d values", found)
	}
}

func TestLife(t *testing.T) {
	c := mustParse(t, "-i", "--restart", "on-failure:5", "--systemd", "always", "--sdnotify", "keeper", "--stop-timeout", "3",
		"--health-cmd", "wget -q localhost", "--health-interval", "90s", "--health-timeout", "2s", "--health-start-period", "1m",
		"--health-start-interval", "500ms", "--health-retries", "4", "--health-on-failure", "restart",
		"--log-driver", "cri", "--log-opt", "max-size=10m", "--log-opt", "max-file=2", "--log-opt", "compress=false",
		"--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=4m")
	three := 3
	want := spec.Life{
		StopTimeout: &three,
		Restart:     spec.Restart{Policy: spec.RestartOnFailure, Max: 5},
		Health: &spec.Health{Test: []string{"CMD-SHELL", "wget -q localhost"}, Interval: 90 * time.Second, Timeout: 2 * time.Second,
			StartPeriod: time.Minute, StartInterval: 500 * time.Millisecond, Retries: 4, OnFailure: "restart"},
		Log:    spec.Log{MaxSize: 10 << 20, MaxFiles: 2, Uncompressed: true, NonBlocking: true, Buffer: 4 << 20},
		Notify: spec.NotifyKeeper, Systemd: spec.SystemdAlways,
	}
	if diff := cmp.Diff(want, c.Life); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]spec.RestartPolicy{"no": spec.RestartNo, "always": spec.RestartAlways,
		"unless-stopped": spec.RestartUnlessStopped, "on-failure": spec.RestartOnFailure} {
		if got := mustParse(t, "--restart", text).Life.Restart; got.Policy != want || got.Max != 0 {
			t.Errorf("%s: %+v", text, got)
		}
	}
	if !mustParse(t, "--no-healthcheck").Life.Health.Off || !mustParse(t, "--log-driver", "none").Life.Log.Off {
		t.Error("what is not wanted is there")
	}
	mustParse(t, "--rm", "--restart", "no")
}

func TestStreams(t *testing.T) {
	_, o, err := parse("-d", "-i", "--detach-keys", "ctrl-a,d,ctrl-[,ctrl-_")
	if err != nil || !o.Detach || o.DetachKeys != "\x01d\x1b\x1f" {
		t.Errorf("%+v, %v", o, err)
	}
	_, o, err = parse("-i", "-a", "STDIN", "--attach", "stderr")
	if want := (Streams{Stdin: true, Stderr: true}); err != nil || o.Attach != want {
		t.Errorf("%+v, %v", o, err)
	}
}

// What concerns only a container's running is no business of create.
func TestCreate(t *testing.T) {
	run, create := pflag.NewFlagSet("run", pflag.ContinueOnError), pflag.NewFlagSet("create", pflag.ContinueOnError)
	Bind(run, Run)
	Bind(create, Create)
	var missing []string
	run.VisitAll(func(f *pflag.Flag) {
		if create.Lookup(f.Name) == nil {
			missing = append(missing, f.Name)
		}
	})
	if diff := cmp.Diff([]string{"plan", "detach", "detach-keys", "preserve-fds", "sig-proxy"}, missing); diff != "" {
		t.Error(diff)
	}
}
