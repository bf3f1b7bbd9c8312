package decide

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// imageInput is a plain container on an image, as run makes it without flags.
func imageInput() Input {
	return Input{
		Container: &spec.Container{
			Process: spec.Process{Args: []string{"sh", "-c", "true"}, Cwd: "/"},
			Namespaces: spec.Namespaces{Hostname: "box", User: spec.UserNS{
				UIDMap: []spec.IDMap{{Container: 0, Host: 1 << 30, Size: 65536}},
				GIDMap: []spec.IDMap{{Container: 0, Host: 1 << 30, Size: 65536}},
			}},
			Security: spec.Security{Capabilities: plan.DefaultCaps(), Masked: plan.DefaultMasked(), ReadOnlyPaths: plan.DefaultReadOnly()},
		},
		Root: plan.Root{
			Open: []plan.Step{
				plan.MountImage{File: "/s/trees/t.erofs", What: "the image's tree", As: "tree"},
				plan.CloneMount{Path: "/s/objects", What: "the objects that the tree points into", As: "objects"},
				plan.CloneMount{Path: "/c/ID", What: "the writable layer", As: "layer"},
			},
			Overlay: plan.Overlay{Lower: []plan.Handle{"tree"}, Data: []plan.Handle{"objects"}, Writable: "layer", Volatile: true},
		},
		Made: []plan.Made{{Target: "/etc/hosts", Content: "127.0.0.1 localhost\n"}},
		Accounts: plan.Accounts{
			Passwd: []byte("root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv/www:/bin/sh\n"),
			Group:  []byte("root:x:0:\nweb:x:33:\naudio:x:29:web\n"),
		},
		Groups: plan.Groups{Make: plan.MakeGroups{Dirs: []string{"/sys/fs/cgroup/corten/ID"}}, V2: "/sys/fs/cgroup/corten/ID",
			Mount: []plan.MountFS{{Type: "cgroup2", Target: "/sys/fs/cgroup", ReadOnly: true, NoSuid: true, NoDev: true, NoExec: true}}},
		Filter: &plan.Filter{Name: "default", Program: make([]plan.Instruction, 3)},
		Host:   plan.Facts{Init: "/usr/libexec/corten/corten-init", Hidden: true, Tied: true},
	}
}

func TestPlans(t *testing.T) {
	mode := uint32(0o700)
	score := 500
	cases := map[string]func(*Input){
		"image":  func(*Input) {},
		"sealed": func(in *Input) { in.Root.Overlay.Sealed = plan.Always },
		"host-platform": func(in *Input) {
			in.Container.Image = spec.Image{Name: "host", Platform: true}
			in.Made = nil
			in.Root = plan.Root{
				Open: []plan.Step{
					plan.MountImage{File: "/p/mask.erofs", What: "the mask", As: "mask"},
					plan.CloneMount{Path: "/", What: "the host's root", As: "host"},
					plan.CloneMount{Path: "/c/ID", What: "the writable layer", As: "layer"},
				},
				Overlay:   plan.Overlay{Lower: []plan.Handle{"mask", "host"}, Writable: "layer"},
				Unshifted: []plan.Handle{"host"},
				Binds:     []plan.File{{Source: plan.Source{Path: "/usr"}, Target: "/usr", ReadOnly: true, Hide: []string{"/usr/home"}, What: "the host's /usr"}},
			}
		},
		"terminal": func(in *Input) { in.Container.Process.Terminal, in.Container.Process.Stdin = true, true },
		"connected": func(in *Input) {
			in.Connect = []string{"eth0 to the network bridge (bridge): 10.133.0.2/16, to the world by 10.133.0.1",
				"lead 0.0.0.0:8080/tcp of the host to 10.133.0.2:80"}
		},
		"guards": func(in *Input) {
			in.FDs, in.Guards = []plan.Handle{"one", "two"}, []plan.Handle{"stdout", "stderr"}
			in.Root.Open = append(in.Root.Open, plan.OpenFile{Path: "/1", As: "one"}, plan.OpenFile{Path: "/2", As: "two"},
				plan.OpenFile{Path: "/3", As: "stdout"}, plan.OpenFile{Path: "/4", As: "stderr"})
		},
		"terminal-guard": func(in *Input) {
			in.Container.Process.Terminal, in.Guards = true, []plan.Handle{plan.Master}
		},
		"systemd": func(in *Input) {
			in.Container.ID, in.Container.Process.Args = "0123456789abcdef0123456789abcdef4567", []string{"/sbin/init"}
			in.Container.Complete(oci.Config{})
			in.Sources = make([]plan.Source, len(in.Container.Mounts))
			in.Groups.Mount[0].ReadOnly = false
		},
		"notify": func(in *Input) {
			in.Container.Mounts = []spec.Mount{{Type: spec.Tmpfs, Target: "/run"}}
			in.Sources = make([]plan.Source, 1)
			in.Files = []plan.File{{Source: plan.Source{Path: "/r/notify", File: true}, Target: "/run/corten/notify", ReadOnly: true, Over: true, What: "the socket"}}
			in.Env, in.FDs = []string{"NOTIFY_SOCKET=/run/corten/notify", "LISTEN_FDS=1", "LISTEN_PID=2"}, []plan.Handle{"passed0"}
			in.Root.Open = append(in.Root.Open, plan.OpenFile{Path: "/1", As: "passed0"})
		},
		"no-init":     func(in *Input) { in.Container.Life.NoInit = true },
		"userns-host": func(in *Input) { in.Container.Namespaces.User = spec.UserNS{Mode: spec.UserHost} },
		"read-only":   func(in *Input) { in.Container.Root.ReadOnly = true },
		"named-user":  func(in *Input) { in.Container.Process.User, in.Container.Process.Groups = "web", []string{"7"} },
		"new-privs":   func(in *Input) { in.Container.Security.AllowNewPrivs = true },
		"unconfined": func(in *Input) {
			in.Filter = nil
			in.Container.Security.Masked, in.Container.Security.ReadOnlyPaths = nil, nil
		},
		"time-offset": func(in *Input) {
			in.Container.Namespaces.TimeOffset = map[string]int64{"boottime": 86400e9, "monotonic": -1500e6}
		},
		"sysctl": func(in *Input) {
			in.Container.Sysctls = map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "8192"}
		},
		"labels": func(in *Input) { in.Host.AppArmor = true; in.Container.Security.AppArmor = "corten-default" },
		"selinux": func(in *Input) {
			in.Host.SELinux, in.Container.Process.Terminal = true, true
			in.Container.Security.SELinux = "system_u:system_r:container_t:s0:c1,c2"
			in.Container.Security.SELinuxMount = "system_u:object_r:container_file_t:s0:c1,c2"
			in.Container.Mounts = []spec.Mount{{Type: spec.Tmpfs, Target: "/tmp"}, {Type: spec.Bind, Source: "/data", Target: "/data", Relabel: spec.RelabelPrivate}}
			in.Sources = []plan.Source{{}, {Path: "/data"}}
		},
		"cgroup-v1": func(in *Input) {
			in.Groups = plan.Groups{Make: plan.MakeGroups{Dirs: []string{"/sys/fs/cgroup/memory/corten/ID"},
				Writes: []string{`limit memory to 64 MiB: write "67108864" to memory.limit_in_bytes`}},
				Enter: []string{"/sys/fs/cgroup/memory/corten/ID/tasks"}}
		},
		"shared-namespaces": func(in *Input) {
			n := &in.Container.Namespaces
			n.Net, n.UTS, n.IPC, n.PID = spec.Namespace{Mode: spec.Host}, spec.Namespace{Mode: spec.Host},
				spec.Namespace{Mode: spec.Host}, spec.Namespace{Mode: spec.Host}
		},
		"joined-network": func(in *Input) {
			in.Container.Namespaces.Net = spec.Namespace{Mode: spec.Path, Path: "/run/netns/blue"}
		},
		"nested": func(in *Input) { // of an ordinary user
			in.Host.Nested, in.Host.Hidden = true, false
			maps := []spec.IDMap{{Container: 0, Host: 0, Size: 1}, {Container: 1, Host: 1, Size: 65536}}
			in.Container.Namespaces.User = spec.UserNS{UIDMap: maps, GIDMap: maps}
			in.Container.Devices = []spec.Device{{HostPath: "/dev/fuse", Path: "/dev/fuse", Type: "c", Access: "rw"}}
			in.Root = plan.Root{
				Open: []plan.Step{
					plan.CloneMount{Path: "/s/trees/t/root", What: "the image's tree", As: "tree"},
					plan.CloneMount{Path: "/c/ID", What: "the writable layer", As: "layer"},
				},
				Overlay: plan.Overlay{Lower: []plan.Handle{"tree"}, Writable: "layer", User: true},
			}
			in.Container.Mounts = []spec.Mount{{Type: spec.Bind, Source: "/data", Target: "/data"}}
			in.Sources, in.Groups = []plan.Source{{Path: "/data"}}, plan.Groups{}
		},
		"limits": func(in *Input) {
			in.Container.Process.OOMScore = &score
			in.Container.Process.Rlimits = []spec.Rlimit{{Name: "nofile", Soft: 1024, Hard: ^uint64(0)}}
		},
		"mounts": func(in *Input) {
			in.Container.Mounts = []spec.Mount{
				{Type: spec.Bind, Source: "/data", Target: "/srv/data/deep", ReadOnly: true, Recursive: true},
				{Type: spec.Tmpfs, Target: "/tmp", Size: 1 << 20, Mode: &mode, Exec: true},
				{Type: spec.Volume, Source: "db", Target: "/srv/data"},
				{Type: spec.Bind, Source: "/etc/app.conf", Target: "/etc/hosts"},
			}
			in.Sources = []plan.Source{{Path: "/data"}, {}, {Path: "/v/db/_data", Seed: true}, {Path: "/etc/app.conf", File: true}}
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			in := imageInput()
			change(&in)
			p, err := Make(in)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(plan.Report); err != nil {
				t.Error(err)
			}
			var b bytes.Buffer
			if err := p.Print(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.Bytes())
			if _, err := json.Marshal(p); err != nil {
				t.Error(err)
			}
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the plan is not as %s has it (-update rewrites it):\n%s", path, d)
	}
}

// A plan must not depend on the order of maps.
func TestPlanIsDeterministic(t *testing.T) {
	in := imageInput()
	in.Container.Sysctls = map[string]string{"a.b": "1", "c.d": "2", "e.f": "3", "g.h": "4"}
	var first string
	for range 20 {
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		_ = p.Print(&b)
		if first == "" {
			first = b.String()
		}
		if b.String() != first {
			t.Fatal("two plans of one input differ")
		}
	}
}

// The command waits for corten-init wherever it could get at it.
func TestGate(t *testing.T) {
	user := func(container, host, size uint32) func(*Input) {
		return func(in *Input) {
			in.Container.Namespaces.User.UIDMap = append(in.Container.Namespaces.User.UIDMap, spec.IDMap{Container: container, Host: host, Size: size})
		}
	}
	for name, c := range map[string]struct {
		change func(*Input)
		want   bool
	}{
		"default":           {func(*Input) {}, false},
		"readable init":     {func(in *Input) { in.Host.Hidden = false }, true},
		"the host's users":  {func(in *Input) { in.Container.Namespaces.User = spec.UserNS{Mode: spec.UserHost} }, true},
		"the host's root":   {user(100000, 0, 1), true},
		"another":           {user(100000, 1, 1), false},
		"a group":           {func(in *Input) { in.Container.Namespaces.User.GIDMap = []spec.IDMap{{Host: 0, Size: 5}} }, true},
		"the host's pids":   {func(in *Input) { in.Container.Namespaces.PID.Mode = spec.Host }, true},
		"no init, no gate":  {func(in *Input) { in.Host.Hidden, in.Container.Life.NoInit = false, true }, false},
		"the host's net":    {func(in *Input) { in.Container.Namespaces.Net.Mode = spec.Host }, false},
		"no capability":     {func(in *Input) { in.Container.Security.Capabilities = nil }, false},
		"all capabilities":  {func(in *Input) { in.Container.Security.Privileged = true }, false},
		"an ordinary user":  {func(in *Input) { in.Container.Process.User = "web" }, false},
		"no new privileges": {func(in *Input) { in.Container.Security.AllowNewPrivs = true }, false},
	} {
		in := imageInput()
		c.change(&in)
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		made := slices.ContainsFunc(p.Host, func(s plan.Step) bool { return s.Kind() == "make-gate" })
		waits := slices.ContainsFunc(p.Child, func(s plan.Step) bool { i, ok := s.(plan.Init); return ok && i.Gated })
		if made != c.want || waits != c.want {
			t.Errorf("%s: a gate: %v, waits: %v", name, made, waits)
		}
	}
}

// What is given up must be given up before what depends on it, and nothing may be given up
// too early.
func TestOrderOfPrivileges(t *testing.T) {
	for _, newPrivs := range []bool{false, true} {
		in := imageInput()
		in.Container.Security.AllowNewPrivs = newPrivs
		in.Host.AppArmor, in.Container.Security.AppArmor = true, "corten-default"
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]int{}
		for i, s := range p.Child {
			at[s.Kind()] = i
		}
		before := [][2]string{{"label", "enter-root"}, {"become-root", "enter-root"}, {"enter-root", "pivot"}, {"pivot", "mask"}, {"stdio", "keep-fds"},
			{"keep-fds", "chdir"}, {"drop-bounding", "set-user"}, {"set-user", "set-caps"}, {"set-user", "die-with-parent"}, {"seccomp", "init"}, {"die-with-parent", "init"}, {"init", "exec"}}
		if newPrivs {
			before = append(before, [2]string{"seccomp", "set-user"})
		} else {
			before = append(before, [2]string{"no-new-privs", "seccomp"}, [2]string{"set-caps", "seccomp"})
		}
		for _, b := range before {
			if at[b[0]] >= at[b[1]] {
				t.Errorf("new privileges %v: %s comes after %s", newPrivs, b[0], b[1])
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	cases := []struct {
		name, want string
		change     func(*Input)
	}{
		{"no command", "no command given", func(in *Input) { in.Container.Process.Args = nil }},
		{"unknown user", "look up user nobody-here", func(in *Input) { in.Container.Process.User = "nobody-here" }},
		{"unknown group", "look up groups", func(in *Input) { in.Container.Process.Groups = []string{"nobody-here"} }},
		{"pid namespace of another", "cannot join a pid namespace", func(in *Input) {
			in.Container.Namespaces.PID = spec.Namespace{Mode: spec.Path, Path: "/proc/7/ns/pid"}
		}},
		{"volume over /proc", "own /proc", mountAt("/proc")},
		{"volume in /proc", "own /proc", mountAt("/proc/self/attr")},
		{"volume in /proc by a detour", "own /proc", mountAt("/srv/../proc/sys")},
		{"unknown limit", "no such resource limit", func(in *Input) { in.Container.Process.Rlimits = []spec.Rlimit{{Name: "files"}} }},
	}
	for _, c := range cases {
		in := imageInput()
		c.change(&in)
		_, err := Make(in)
		if err == nil || !strings.Contains(err.Error(), c.want) || errs.HintOf(err) == "" {
			t.Errorf("%s: error %v, hint %q", c.name, err, errs.HintOf(err))
		}
	}
}

// mountAt gives a container a volume, as an image can ask for one.
func mountAt(target string) func(*Input) {
	return func(in *Input) {
		in.Container.Mounts = []spec.Mount{{Type: spec.Volume, Source: "v", Target: target}}
		in.Sources = []plan.Source{{Path: "/v/_data"}}
	}
}

func TestMountsInProcThatAreAllowed(t *testing.T) {
	for target, src := range map[string]plan.Source{
		"/proc":          {Path: "/proc"},
		"/proc/meminfo":  {Path: "/var/lib/lxcfs/proc/meminfo", File: true},
		"/proc/net/dev":  {Path: "/srv/dev", File: true},
		"/procession":    {Path: "/srv"},
		"/srv/proc/self": {Path: "/srv"},
	} {
		in := imageInput()
		in.Container.Mounts = []spec.Mount{{Type: spec.Bind, Source: src.Path, Target: target}}
		in.Sources = []plan.Source{src}
		if _, err := Make(in); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestCheckFindsUseBeforeOpen(t *testing.T) {
	p := plan.Plan{Host: []plan.Step{plan.IDMap{Mount: "tree"}, plan.CloneMount{As: "tree"}}}
	if err := p.Check(); !errs.Is(err, errs.Internal) {
		t.Errorf("got %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	c := &spec.Container{Process: spec.Process{Env: []string{"HOME=/x", "A=1"}, Terminal: true}, Namespaces: spec.Namespaces{Hostname: "h"}}
	got := environment(c, plan.Identity{Home: "/root"})
	want := []string{"PATH=" + plan.DefaultPath, "HOSTNAME=h", "TERM=xterm", "HOME=/x", "A=1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		want []string
	}{
		{"/bin/x", nil, []string{"/bin/x"}},
		{"./x", nil, []string{"./x"}},
		{"x", []string{"PATH=/a:/b"}, []string{"/a/x", "/b/x"}},
		{"x", []string{"PATH=:/b"}, []string{"x", "/b/x"}},
	} {
		if d := cmp.Diff(c.want, plan.Lookup(c.name, c.env)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestPlanCannotBeForged(t *testing.T) {
	in := imageInput()
	in.Container.Process.Args = []string{"true\n  99  hide nothing\x1b[2K\r"}
	in.Container.Process.Cwd = "/\n 100  nothing"
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.Print(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(b.String(), "\n")
	if want := len(p.Host) + len(p.Child) + 2; lines != want || strings.ContainsAny(b.String(), "\x1b\r") {
		t.Errorf("%d lines, want %d:\n%q", lines, want, b.String())
	}
}
