package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cortenhq/corten/internal/cli/shell"
	"github.com/cortenhq/corten/internal/errs"
)

// result is what a command line came to.
type result struct {
	code           int
	stdout, stderr string
}

// corten carries out a command line in this process.
func corten(t *testing.T, args ...string) result {
	t.Helper()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	env := Env{Stdin: stdin, Stdout: open("stdout"), Stderr: open("stderr"), UID: 0}
	root, run := t.TempDir(), t.TempDir()
	env.LookupEnv = func(name string) (string, bool) {
		switch name {
		case "CORTEN_ROOT":
			return root, true
		case "CORTEN_RUN":
			return run, true
		}
		return "", false
	}
	code := Main(context.Background(), args, env)
	read := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return result{code, read(env.Stdout), read(env.Stderr)}
}

func TestUsageErrors(t *testing.T) {
	for _, x := range []struct {
		args string
		code int
		want string
	}{
		{"rnu", 1, "error: unknown command: corten rnu\nhint: did you mean corten run? corten --help lists the commands"},
		{"zebra", 1, "error: unknown command: corten zebra\nhint: corten --help lists the commands"},
		{"comp", 1, "error: unknown command: corten comp\nhint: did you mean corten completion? corten --help lists the commands"},
		{"help zebra", 1, "error: unknown command: corten zebra\nhint: corten --help lists the commands"},
		{"completion ksh", 1, "error: unknown command: corten completion ksh\nhint: did you mean corten completion zsh? corten completion --help lists the commands"},
		{"--shiny", 125, "error: unknown flag: --shiny\nhint: corten --help lists the flags"},
		{"--rot x version", 125, "error: unknown flag: --rot\nhint: did you mean --root? corten --help lists the flags"},
		{"-x version", 125, "error: unknown flag: -x\nhint: corten --help lists the flags"},
		{"version --root", 125, "error: --root: a value is missing\nhint: corten version --help lists the flags"},
		{"version -p", 125, "error: unknown flag: -p\nhint: corten version --help lists the flags"},
		{"version now", 1, "error: corten version: too many arguments\nhint: write corten version [flags]"},
		{"run", 125, "error: corten run: too few arguments\nhint: write corten run [flags] IMAGE|host [COMMAND [ARGUMENT...]]"},
		{"run --rmm x", 125, "error: unknown flag: --rmm\nhint: did you mean --rm? corten run --help lists the flags"},
		{"run --network none -p 80:80 x", 125, "error: --network none with --publish: the container has no network\nhint: leave one of them out"},
		{"run --link db x", 125, "error: --link: not built yet\nhint: put both on a network of their own, where they find each other by name: corten network create NAME, then --network NAME"},
		{"run -it --volumes-from db x", 125, "error: --volumes-from: not built yet\nhint: give both containers the same named volume: -v NAME:TARGET"},
		{"run --rm --restart=always x", 125, "error: --rm with --restart: a container that is removed cannot be started again\nhint: leave one of them out"},
		{"run --rm=perhaps x", 125, "error: --rm \"perhaps\": neither true nor false\nhint: write --rm or --rm=false"},
		{"run -m", 125, "error: --memory: a value is missing\nhint: corten run --help lists the flags"},
		{"run --memory 5m x", 125, "error: --memory \"5m\": less than 6 MiB, in which no container starts\nhint: give it at least 6m"},
		{"run ---x", 125, "error: flags: bad flag syntax: ---x\nhint: corten run --help lists the flags"},
		{"run -it host", 125, "error: -i with -t: the input device is not a TTY\nhint: leave -t out to feed the command from a pipe or a file"},
		{"run --cidfile /etc/passwd host true", 125, "error: --cidfile: open /etc/passwd: file exists\nhint: remove it if the container that it names is gone"},
	} {
		got := corten(t, strings.Fields(x.args)...)
		want := "corten: " + strings.ReplaceAll(x.want, "\n", "\ncorten: ") + "\n"
		if got.code != x.code || got.stderr != want || got.stdout != "" {
			t.Errorf("corten %s: exit code %d, want %d\n%s%s", x.args, got.code, x.code, got.stdout, got.stderr)
		}
	}
}

func TestDebugShowsTheChain(t *testing.T) {
	got := corten(t, "--debug", "run", "--memory", "5m", "x")
	if !strings.Contains(got.stderr, "corten: debug: operation \"--memory\", object \"\\\"5m\\\"\", invalid\n") {
		t.Error(got.stderr)
	}
	if again := corten(t, "run", "--debug", "--memory", "5m", "x"); again.stderr != got.stderr {
		t.Error(again.stderr)
	}
}

// A name that an image or a registry chose must not command the terminal.
func TestSayIsHarmless(t *testing.T) {
	got := corten(t, "run\x1b[2J\a\u009b5n")
	if strings.ContainsAny(got.stderr, "\x1b\a\u009b") || !strings.Contains(got.stderr, "run?[2J??5n") {
		t.Errorf("%q", got.stderr)
	}
}

func TestHelp(t *testing.T) {
	top := corten(t)
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}} {
		if got := corten(t, args...); got != top {
			t.Errorf("%q shows something else than corten alone: %s", args, got.stdout)
		}
	}
	for _, v := range verbs() {
		if !strings.Contains(top.stdout, "\n  "+v.name+" ") || !strings.Contains(top.stdout, v.short) {
			t.Errorf("help does not list %s", v.name)
		}
		one := corten(t, "help", v.name)
		if one.code != 0 || !strings.Contains(one.stdout, "Usage:\n  corten "+v.name) {
			t.Errorf("help %s: %+v", v.name, one)
		}
		if got := corten(t, v.name, "--help"); got != one {
			t.Errorf("%s --help shows something else than help %s: %s", v.name, v.name, got.stdout)
		}
		if got := corten(t, "--help", v.name); got != one {
			t.Errorf("--help %s shows something else than help %s: %s", v.name, v.name, got.stdout)
		}
	}
	if got := corten(t, "help", "completion", "zsh"); !strings.Contains(got.stdout, "corten completion zsh") {
		t.Error(got)
	}
	run := corten(t, "run", "--help").stdout
	for _, want := range []string{"\nNamespaces:\n", "-h, --hostname NAME ", "--userns MODE", "\nGlobal flags:\n", "--root FOLDER"} {
		if !strings.Contains(run, want) {
			t.Errorf("run --help lacks %q", want)
		}
	}
	for _, lacks := range []string{"--net ", "`", "strings"} {
		if strings.Contains(run, lacks) {
			t.Errorf("run --help has %q", lacks)
		}
	}
}

func TestVersion(t *testing.T) {
	got := corten(t, "version")
	if got.code != 0 || !strings.HasPrefix(got.stdout, "corten "+shell.Version) || strings.Count(got.stdout, "\n") != 1 {
		t.Error(got)
	}
	for _, flag := range []string{"--version", "-v"} {
		if corten(t, flag) != got {
			t.Errorf("%s shows something else", flag)
		}
	}
	if got := corten(t, "version", "--format", "json"); !strings.HasPrefix(got.stdout, `{"Version":"`+shell.Version+`"`) {
		t.Error(got)
	}
}

// Only the verb that was typed is built: the others cost nothing.
func TestLazy(t *testing.T) {
	a := newApp(Env{})
	root := a.rootCommand()
	if err := a.addVerb(root, "version"); err != nil {
		t.Fatal(err)
	}
	if n := len(root.Commands()); n != 1 {
		t.Errorf("%d commands were built for one", n)
	}
}

// Every command of the tree can say what it is, and its flags too.
func TestTree(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Short == "" || !c.Runnable() && !c.HasSubCommands() {
			t.Errorf("%s: %+v", c.CommandPath(), c)
		}
		if strings.HasSuffix(c.Short, ".") || c.Short[:1] != strings.ToUpper(c.Short[:1]) {
			t.Errorf("%s: %q should begin with a capital and end without a stop", c.CommandPath(), c.Short)
		}
		for _, g := range FlagGroups(c) {
			if g.Name == "" || !g.Flags.HasFlags() {
				t.Errorf("%s: %+v", c.CommandPath(), g)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(Tree())
}

func TestCompletion(t *testing.T) {
	for shell, want := range map[string]string{"bash": "complete -o", "zsh": "#compdef corten", "fish": "complete -c corten"} {
		if got := corten(t, "completion", shell); got.code != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: %+v", shell, got)
		}
	}
	for _, x := range []struct{ typed, want string }{
		{"ru", "run\tRun a command in a new container\n"},
		{"run --cpuset-c", "--cpuset-cpus\tRun on the CPUs in LIST only: 0-3,7\n"},
		{"completion z", "zsh\tWrite the completion script of zsh\n"},
		{"help ver", "version\n"},
		{"run --network h", "host\n"},
		{"run --cap-add NET_A", "NET_ADMIN\n"},
		{"run --security-opt unm", "unmask=\n"},
	} {
		got := corten(t, append([]string{"__complete"}, strings.Split(x.typed, " ")...)...)
		if !strings.Contains(got.stdout, x.want) {
			t.Errorf("%q: %q", x.typed, got.stdout)
		}
	}
}

func TestFolders(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		uid  int
		env  string
		args []string
		root string
		run  string // empty: an error
	}{
		{0, "", nil, "/var/lib/corten", "/run/corten"},
		{0, "XDG_DATA_HOME=/d HOME=/h", nil, "/var/lib/corten", "/run/corten"},
		{0, "CORTEN_ROOT=/a CORTEN_RUN=b", nil, "/a", filepath.Join(wd, "b")},
		{7, "CORTEN_ROOT=/a CORTEN_RUN=/b", []string{"--root", "/c", "--run=d/../e"}, "/c", filepath.Join(wd, "e")},
		{7, "XDG_DATA_HOME=/d XDG_RUNTIME_DIR=/r", nil, "/d/corten", "/r/corten"},
		{7, "HOME=/h XDG_RUNTIME_DIR=/r", nil, "/h/.local/share/corten", "/r/corten"},
		{7, "XDG_RUNTIME_DIR=/r", nil, "", ""},
		{1234567, "HOME=/h", nil, "/h/.local/share/corten", "/tmp/corten-run-1234567"},
	} {
		a := newApp(Env{UID: x.uid, LookupEnv: func(name string) (string, bool) {
			for _, e := range strings.Fields(x.env) {
				if n, v, _ := strings.Cut(e, "="); n == name {
					return v, true
				}
			}
			return "", false
		}})
		if err := a.global.Parse(x.args); err != nil {
			t.Fatal(err)
		}
		cfg, err := a.shell.Folders()
		if x.run == "" {
			if errs.HintOf(err) == "" {
				t.Errorf("%+v: %+v %v", x, cfg, err)
			}
			continue
		}
		if err != nil || cfg.Root != x.root || cfg.Run != x.run {
			t.Errorf("%+v: %+v %v", x, cfg, err)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, x := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "ab", 2}, {"run", "run", 0}, {"rnu", "run", 2}, {"pul", "pull", 1}, {"images", "image", 1}, {"kitten", "sitting", 3}} {
		if got := editDistance(x.a, x.b); got != x.want {
			t.Errorf("%s to %s: %d, want %d", x.a, x.b, got, x.want)
		}
		if got := editDistance(x.b, x.a); got != x.want {
			t.Errorf("%s to %s: %d, want %d", x.b, x.a, got, x.want)
		}
	}
}
