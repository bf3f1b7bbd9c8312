package runflags

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/spec"
)

func TestEnvironment(t *testing.T) {
	file := write(t, "env", "\ufeff# a comment\n\n  A=from file\nB=b b \nFROM_CALLER\nUNSET\r\nC=#no comment\n  # blanks before\nD='quoted'\n")
	for _, x := range []struct {
		args []string
		want []string
	}{
		{nil, nil},
		{[]string{"-e", "A=1", "-e", "B=x=y", "-e", "C="}, []string{"A=1", "B=x=y", "C="}},
		{[]string{"-e", "A=1", "-e", "B=2", "-e", "A=3"}, []string{"A=3", "B=2"}},
		{[]string{"-e", "FROM_CALLER"}, []string{"FROM_CALLER=caller's"}},
		{[]string{"-e", "UNSET"}, []string{"UNSET"}},
		{[]string{"--env-file", file}, []string{"A=from file", "B=b b ", "FROM_CALLER=caller's", "C=#no comment", "D='quoted'"}},
		{[]string{"-e", "A=flag", "--env-file", file},
			[]string{"A=flag", "B=b b ", "FROM_CALLER=caller's", "C=#no comment", "D='quoted'"}},
		{[]string{"-e", "A=a,b"}, []string{"A=a,b"}},
	} {
		if diff := cmp.Diff(x.want, mustParse(t, x.args...).Process.Env); diff != "" {
			t.Errorf("%q: %s", x.args, diff)
		}
	}
}

func TestBadFiles(t *testing.T) {
	for text, want := range map[string]string{
		"A=1\nB C=2\n":     "line 2: the name has a blank",
		"=1\n":             "line 1: no name",
		"A=\xff\n":         "line 1: not UTF-8",
		"export A=1\n":     "line 1: the name has a blank",
		"A=1\nB=\x00\nC=3": "line 2: not UTF-8",
	} {
		for _, flag := range []string{"--env-file", "--label-file"} {
			_, _, err := parse(flag, write(t, "f", text))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s of %q: %v, want %q", flag, text, err, want)
			}
		}
	}
	if _, _, err := parse("--env-file", "/nonexistent/x"); err == nil {
		t.Error("a missing file is no error")
	}
}

func TestLabels(t *testing.T) {
	file := write(t, "labels", "a=file\nb=2=3\nc\n")
	got := mustParse(t, "--label-file", file, "-l", "a=flag", "-l", "d", "--label", "e=x,y").Labels
	want := map[string]string{"a": "flag", "b": "2=3", "c": "", "d": "", "e": "x,y"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEntrypoint(t *testing.T) {
	for _, x := range []struct {
		args []string
		want []string
	}{
		{nil, nil},
		{[]string{"--entrypoint", "/bin/sh"}, []string{"/bin/sh"}},
		{[]string{"--entrypoint", "sh -c"}, []string{"sh -c"}},
		{[]string{"--entrypoint", ""}, []string{}},
		{[]string{"--entrypoint="}, []string{}},
	} {
		got := mustParse(t, x.args...).Process.Entrypoint
		if diff := cmp.Diff(x.want, got); diff != "" {
			t.Errorf("%q: %s", x.args, diff)
		}
	}
}

func TestUlimits(t *testing.T) {
	const none = math.MaxUint64
	for _, x := range []struct {
		text string
		want spec.Rlimit
	}{
		{"nofile=1024", spec.Rlimit{Name: "nofile", Soft: 1024, Hard: 1024}},
		{"nofile=1024:4096", spec.Rlimit{Name: "nofile", Soft: 1024, Hard: 4096}},
		{"nofile=0:0", spec.Rlimit{Name: "nofile"}},
		{"NPROC=5", spec.Rlimit{Name: "nproc", Soft: 5, Hard: 5}},
		{"memlock=-1", spec.Rlimit{Name: "memlock", Soft: none, Hard: none}},
		{"memlock=-1:-1", spec.Rlimit{Name: "memlock", Soft: none, Hard: none}},
		{"core=0:-1", spec.Rlimit{Name: "core", Soft: 0, Hard: none}},
		{"core=unlimited", spec.Rlimit{Name: "core", Soft: none, Hard: none}},
	} {
		got := mustParse(t, "--ulimit", x.text).Process.Rlimits
		if diff := cmp.Diff([]spec.Rlimit{x.want}, got); diff != "" {
			t.Errorf("%s: %s", x.text, diff)
		}
	}
	got := mustParse(t, "--ulimit", "nofile=1", "--ulimit", "core=2", "--ulimit", "nofile=3").Process.Rlimits
	want := []spec.Rlimit{{Name: "core", Soft: 2, Hard: 2}, {Name: "nofile", Soft: 3, Hard: 3}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestProcessNumbers(t *testing.T) {
	c := mustParse(t, "--umask", "0027", "--oom-score-adj", "-500", "--stop-timeout", "0", "-u", "www:7", "-w", "/srv", "--group-add", "a", "--group-add", "5", "-it")
	p := c.Process
	if *p.Umask != 0o27 || *p.OOMScore != -500 || *c.Life.StopTimeout != 0 || p.User != "www:7" || p.Cwd != "/srv" || !p.Stdin || !p.Terminal {
		t.Errorf("%+v %+v", p, c.Life)
	}
	if diff := cmp.Diff([]string{"a", "5"}, p.Groups); diff != "" {
		t.Error(diff)
	}
	if p := mustParse(t).Process; p.Umask != nil || p.OOMScore != nil {
		t.Errorf("%+v", p)
	}
}

func TestStopSignals(t *testing.T) {
	for text, want := range map[string]string{
		"TERM": "SIGTERM", "sigterm": "SIGTERM", "15": "SIGTERM", "SIGUSR1": "SIGUSR1", "usr2": "SIGUSR2", "9": "SIGKILL",
		"37": "37", "SIGWINCH": "SIGWINCH",
	} {
		if got := mustParse(t, "--stop-signal", text).Life.StopSignal; got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestInit(t *testing.T) {
	for _, x := range []struct {
		args string
		none bool
	}{
		{"", false}, {"--init", false}, {"--init=true", false}, {"--init=false", true}, {"--no-init", true},
		{"--no-init --init=false", true}, {"--no-init=false", false},
	} {
		if got := mustParse(t, strings.Fields(x.args)...).Life.NoInit; got != x.none {
			t.Errorf("%q: NoInit %v", x.args, got)
		}
	}
}

func TestName(t *testing.T) {
	if c := mustParse(t, "--name", "/ship"); c.Name != "ship" {
		t.Error(c.Name)
	}
}
