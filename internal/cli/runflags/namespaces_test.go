package runflags

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/spec"
)

func TestNamespaces(t *testing.T) {
	one := []spec.IDMap{{Container: 0, Host: 100000, Size: 65536}}
	other := []spec.IDMap{{Container: 0, Host: 5, Size: 1}, {Container: 1, Host: 200000, Size: 10}}
	none := spec.Namespace{Mode: spec.None}
	for args, want := range map[string]spec.Namespaces{
		"":                            {},
		"--network none":              {Net: none},
		"--network host":              {Net: spec.Namespace{Mode: spec.Host}},
		"--net host":                  {Net: spec.Namespace{Mode: spec.Host}},
		"--pid private --pid host":    {PID: spec.Namespace{Mode: spec.Host}},
		"--ipc private":               {},
		"--ipc host":                  {IPC: spec.Namespace{Mode: spec.Host}},
		"--ipc none":                  {IPC: none},
		"--ipc shareable":             {IPC: spec.Namespace{Mode: spec.Shareable}},
		"--uts host":                  {UTS: spec.Namespace{Mode: spec.Host}},
		"--cgroupns host":             {Cgroup: spec.Namespace{Mode: spec.Host}},
		"-h web-1.a --domainname b":   {Hostname: "web-1.a", Domainname: "b"},
		"--userns auto":               {},
		"--userns host":               {User: spec.UserNS{Mode: spec.UserHost}},
		"--userns keep-id":            {User: spec.UserNS{Mode: spec.UserKeepID}},
		"--userns map:0:100000:65536": {User: spec.UserNS{Mode: spec.UserMap, UIDMap: one, GIDMap: one}},
		"--uidmap 0:100000:65536":     {User: spec.UserNS{Mode: spec.UserMap, UIDMap: one, GIDMap: one}},
		"--gidmap 0:100000:65536":     {User: spec.UserNS{Mode: spec.UserMap, UIDMap: one, GIDMap: one}},
		"--userns map --uidmap 0:100000:65536 --gidmap 0:5:1 --gidmap 1:200000:10": {
			User: spec.UserNS{Mode: spec.UserMap, UIDMap: one, GIDMap: other}},
		"--userns map:0:5:1,1:200000:10": {User: spec.UserNS{Mode: spec.UserMap, UIDMap: other, GIDMap: other}},
		"--time-offset boottime=+24h --time-offset monotonic=-90": {
			TimeOffset: map[string]int64{"boottime": int64(24 * time.Hour), "monotonic": -int64(90 * time.Second)}},
		"--time-offset boottime=0.5": {TimeOffset: map[string]int64{"boottime": int64(time.Second / 2)}},
	} {
		if diff := cmp.Diff(want, mustParse(t, strings.Fields(args)...).Namespaces); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	}
}

func TestSysctls(t *testing.T) {
	got := mustParse(t, "--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.sem=250 32000 32 128", "--sysctl", "net/core/somaxconn=9",
		"--sysctl", "fs.mqueue.msg_max=8", "--sysctl", "net.ipv4.conf.lo.log_martians=").Sysctls
	want := map[string]string{"net.ipv4.ip_forward": "1", "kernel.sem": "250 32000 32 128", "net.core.somaxconn": "9", "fs.mqueue.msg_max": "8",
		"net.ipv4.conf.lo.log_martians": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzIDMaps(f *testing.F) {
	f.Add("0:100000:65536,65536:300000:1")
	f.Add("0:4294967294:1")
	f.Fuzz(func(t *testing.T, s string) {
		maps, err := idMaps("uidmap", strings.Split(s, ","))
		if err != nil {
			return
		}
		seen := map[uint32]bool{}
		for _, m := range maps {
			if m.Size == 0 || m.Container+m.Size < m.Container || m.Host+m.Size < m.Host {
				t.Errorf("%q: %+v", s, m)
			}
			if seen[m.Container] {
				t.Errorf("%q: %d twice", s, m.Container)
			}
			seen[m.Container] = true
		}
	})
}
