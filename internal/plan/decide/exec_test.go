package decide

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// execInput is a plain command in the container of imageInput.
func execInput() ExecInput {
	in := imageInput()
	in.Container.Process.Env = []string{"A=1", "B=2"}
	return ExecInput{Container: in.Container, Process: spec.Process{Args: []string{"id"}, Env: []string{"A=3"}}, Accounts: in.Accounts,
		V2: "/sys/fs/cgroup/corten/ID", Filter: in.Filter}
}

func TestExecPlans(t *testing.T) {
	score := 300
	for name, change := range map[string]func(*ExecInput){
		"exec": func(*ExecInput) {},
		"exec-terminal": func(in *ExecInput) {
			in.Process.Terminal, in.Process.Stdin, in.Process.User = true, true, "web"
		},
		"exec-detached": func(in *ExecInput) { in.Detached = true },
		"exec-shared": func(in *ExecInput) {
			n := &in.Container.Namespaces
			host := spec.Namespace{Mode: spec.Host}
			*n = spec.Namespaces{User: spec.UserNS{Mode: spec.UserHost}, PID: host, Net: host, IPC: host, UTS: host, Cgroup: host}
		},
		"exec-limits": func(in *ExecInput) {
			in.V2, in.Enter = "", []string{"/sys/fs/cgroup/memory/corten/ID/tasks"}
			in.Container.Process.OOMScore = &score
			in.Container.Process.Rlimits = []spec.Rlimit{{Name: "nofile", Soft: 100, Hard: 200}, {Name: "nproc", Soft: 50, Hard: 50}}
			in.Container.Namespaces.TimeOffset = map[string]int64{"boottime": 86400e9}
		},
		"exec-attributes": func(in *ExecInput) { // of a container of a bundle
			in.Container.ID, in.Container.Created = "box", time.Unix(1, 0)
			in.Container.Root.Path, in.Enter = "/bundle/rootfs", []string{"/sys/fs/cgroup/cpuset/corten/ID/tasks"}
			in.Process = spec.Process{Args: []string{"id"}, Cwd: "/", User: "0:0", Attributes: spec.Attributes{
				Scheduler:  &spec.Scheduler{Policy: "SCHED_DEADLINE", Runtime: 1e6, Deadline: 2e6, Period: 3e6},
				IOPriority: &spec.IOPriority{Class: "IOPRIO_CLASS_BE", Priority: 7}, CPUs: spec.Affinity{Initial: "0", Final: "0-1"},
				Memory: &spec.MemoryPolicy{Mode: "MPOL_BIND", Nodes: "0"}, Personality: &spec.Personality{Domain: "LINUX32"}}}
		},
		"exec-listener":   func(in *ExecInput) { in.Filter.Listener = "/run/agent.sock" },
		"exec-privileged": func(in *ExecInput) { in.Privileged, in.Filter = true, nil },
	} {
		t.Run(name, func(t *testing.T) {
			in := execInput()
			change(&in)
			before := in.Container.Process
			p, err := MakeExec(in)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(plan.Target, plan.TargetRoot); err != nil {
				t.Error(err)
			}
			var b bytes.Buffer
			if err := p.Print(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.Bytes())
			if in.Container.Process.Args[0] != before.Args[0] || in.Container.Life.NoInit || len(in.Container.Security.Capabilities) != len(plan.DefaultCaps()) {
				t.Error("the container's description was changed")
			}
		})
	}
}

// TestExecEnvironment: a variable of the request replaces the container's, and a name alone
// takes it away.
func TestExecEnvironment(t *testing.T) {
	in := execInput()
	in.Process.Env, in.Process.User = []string{"B", "C=4", "HOME=/elsewhere"}, "33"
	p, err := MakeExec(in)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(p.Child[len(p.Child)-1].(plan.Exec).Env, " ")
	if want := "PATH=" + plan.DefaultPath + " HOSTNAME=box A=1 C=4 HOME=/elsewhere"; got != want {
		t.Errorf("environment %q, want %q", got, want)
	}
}

func TestExecRefusals(t *testing.T) {
	for name, change := range map[string]func(*ExecInput){
		"no command":           func(in *ExecInput) { in.Process.Args = nil },
		"an empty command":     func(in *ExecInput) { in.Process.Args = []string{""} },
		"an unknown user":      func(in *ExecInput) { in.Process.User = "nobody-here" },
		"a user off the map":   func(in *ExecInput) { in.Process.User, in.Process.Terminal = "70000", true },
		"a group that is none": func(in *ExecInput) { in.Process.User = "0:none" },
	} {
		in := execInput()
		change(&in)
		if _, err := MakeExec(in); !errs.Is(err, errs.Invalid) || errs.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
