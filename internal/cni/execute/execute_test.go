package execute_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/cni"
	"github.com/cortenhq/corten/internal/cni/execute"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
	"github.com/cortenhq/corten/internal/wiring"
)

// task is one for a plugin that is a shell script. It is executed with the folder of the test as $DIR.
func task(t *testing.T, v cni.Verb, script string) (cni.Task, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plugin"), []byte("#!/bin/sh\nDIR="+dir+"\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return cni.Task{
		Verb: v, ID: "0a1b", Namespace: "/proc/self/ns/net", Cache: filepath.Join(dir, "cache"), Timeout: 20 * time.Second,
		Link: wiring.Link{Network: "cni:lab", Interface: "eth0", Plugins: &wiring.Plugins{
			File: "lab.conflist", Path: []string{"/nonexistent", dir},
			Config: json.RawMessage(`{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "plugin", "capabilities":
				{"portMappings": true, "ips": true, "mac": true, "aliases": true, "dns": true, "bandwidth": true}}]}`),
		}},
	}, dir
}

const result = `cat >$DIR/input; env >$DIR/env; cat <<END
{"cniVersion": "1.0.0", "interfaces": [{"name": "veth1", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/ns"}],
 "ips": [{"address": "10.9.0.1/24", "interface": 0}, {"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 1}, {"address": "fd00::2/64", "gateway": "fd00::1"}],
 "routes": [{"dst": "10.0.0.0/8"}, {"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::9"}], "dns": {"nameservers": ["10.9.0.53", "no address"]}}
END
`

func TestAdd(t *testing.T) {
	x, dir := task(t, cni.Add, result)
	x.Link.Names, x.Link.Rate = []string{"www"}, spec.Rate{In: 1e9, Out: 8000}
	x.Link.Plugins.IPs, x.Link.Plugins.MAC = []netip.Addr{netip.MustParseAddr("10.9.0.2")}, "02:00:00:00:00:02"
	x.DNS = []netip.Addr{netip.MustParseAddr("9.9.9.9")}
	tcp := spec.Service{Protocol: spec.TCP, Port: 80}
	x.Ports = []wiring.Forward{{Service: tcp, HostIP: netip.IPv4Unspecified(), HostPort: 8080}, {Service: tcp, HostIP: netip.IPv6Unspecified(), HostPort: 8080},
		{Service: tcp, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 81}}
	got := execute.Do(x)
	want := cni.Done{
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
		Gateways:  []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd00::9")},
		MAC:       "02:00:00:00:00:02", DNS: []netip.Addr{netip.MustParseAddr("10.9.0.53")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("done %+v %+v, want %+v", got, got.Failure, want)
	}
	var input struct{ RuntimeConfig map[string]any }
	b, err := os.ReadFile(filepath.Join(dir, "input"))
	if err == nil {
		err = json.Unmarshal(b, &input)
	}
	told, _ := json.Marshal(input.RuntimeConfig)
	const tell = `{"aliases":{"lab":["www"]},"bandwidth":{"egressBurst":524288,"egressRate":8000,"ingressBurst":20000000,"ingressRate":1000000000},"dns":{"servers":["9.9.9.9"]},` +
		`"ips":["10.9.0.2"],"mac":"02:00:00:00:00:02","portMappings":[{"containerPort":80,"hostPort":8080,"protocol":"tcp"},{"containerPort":80,"hostIP":"127.0.0.1","hostPort":81,"protocol":"tcp"}]}`
	if err != nil || string(told) != tell {
		t.Errorf("the plugin is told %s, want %s (%v)", told, tell, err)
	}
	env, _ := os.ReadFile(filepath.Join(dir, "env"))
	for _, want := range []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=0a1b", "CNI_IFNAME=eth0", "CNI_ARGS=IgnoreUnknown=1", "CNI_NETNS=/proc/self/ns/net"} {
		if !strings.Contains("\n"+string(env), "\n"+want+"\n") {
			t.Errorf("no %s in the plugin's environment", want)
		}
	}

	// At the end it is told what it answered, also when the namespace is gone.
	x.Verb, x.Namespace = cni.Del, ""
	if d := execute.Do(x); d.Failure != nil {
		t.Fatal(d.Failure)
	}
	b, _ = os.ReadFile(filepath.Join(dir, "input"))
	if !strings.Contains(string(b), `"prevResult"`) || !strings.Contains(string(b), "10.9.0.53") {
		t.Errorf("at the end the plugin is told %s", b)
	}
	if d := execute.Do(x); d.Failure != nil {
		t.Errorf("once more: %+v", d.Failure)
	}
}

func TestFailures(t *testing.T) {
	for name, x := range map[string]struct {
		script, says, hint string
		kind               errs.Kind
	}{
		"version":    {`echo '{"code": 1, "msg": "too new"}'; exit 1`, "too new (CNI error 1, version of the interface)", "cniVersion in lab.conflist", errs.Unsupported},
		"own code":   {`echo '{"code": 123, "msg": "no", "details": "never"}'; exit 1`, "no; never (CNI error 123)", "lab.conflist", errs.Unavailable},
		"no code":    {`echo '{"msg": "no"}'; exit 1`, "no", "lab.conflist", errs.Unavailable},
		"later":      {`echo '{"code": 11, "msg": "full"}'; exit 1`, "full (CNI error 11, try again later)", "try again", errs.Busy},
		"no words":   {`exit 3`, "exit status 3", "CNI_COMMAND=VERSION", errs.Unavailable},
		"stderr":     {`echo oh >&2; exit 3`, "exit status 3, and says: oh", "CNI_COMMAND=VERSION", errs.Unavailable},
		"no result":  {`echo '{'`, "unexpected", "CNI_COMMAND=VERSION", errs.Unavailable},
		"not at all": {`rm $DIR/plugin; exec $DIR/plugin`, "exit status 127", "lab.conflist", errs.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			task, dir := task(t, cni.Add, x.script)
			f := execute.Do(task).Failure
			if f == nil || f.Kind != x.kind || f.Op != "connect by plugin" || f.Object != filepath.Join(dir, "plugin") || !strings.Contains(f.Text, x.says) || !strings.Contains(f.Hint, x.hint) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	x, dir := task(t, cni.Add, "")
	if err := os.Remove(filepath.Join(dir, "plugin")); err != nil {
		t.Fatal(err)
	}
	f := execute.Do(x).Failure
	if f == nil || f.Kind != errs.NotFound || f.Object != "plugin" || !strings.Contains(f.Text, "in none of /nonexistent, "+dir) || f.Hint == "" {
		t.Errorf("%+v", f)
	}
}

// A plugin that does not come to an end is ended, with all that it has started.
func TestTime(t *testing.T) {
	x, dir := task(t, cni.Del, "sleep 1000 & echo $! >$DIR/child; wait")
	x.Timeout = 300 * time.Millisecond
	f := execute.Do(x).Failure
	if f == nil || f.Op != "disconnect by plugin" || !strings.Contains(f.Text, "not done in time") {
		t.Errorf("%+v", f)
	}
	child, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Skip("the machine is too busy:", err)
	}
	for { // until the kernel is through with it, or the test's time is over
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(child)) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
