package registries

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const podmanConf = `
# What a distribution ships, and what an administrator adds.
unqualified-search-registries = ["docker.io",
  'quay.io', # a comment
]
short-name-mode = "enforcing"
[[registry]]
prefix = "example.com/foo"
location = "internal.example.net/bar" # trailing
  [[registry.mirror]]
  location = "mirror-0.local/for-foo/"
  [[registry.mirror]]
  location = "mirror-1.local:5000/foo"
  insecure = true
  pull-from-mirror = "digest-only"

[[registry]]
location = "registry.com"
blocked = true
mirror-by-digest-only = false

[[registry]]
prefix = "*.wild.com"
mirror = [{location = "m.local", insecure = true}]
`

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	conf, own := filepath.Join(dir, "registries.conf"), filepath.Join(dir, "registries.json")
	list, err := Load(own, conf)
	if err != nil || len(list) != 0 {
		t.Fatalf("without files: %v, %v", list, err)
	}
	write(t, conf, podmanConf)
	aliases := filepath.Join(conf+".d", "000-shortnames.conf")
	write(t, aliases, "[aliases]\n  # x\n  \"alpine\" = \"docker.io/library/alpine\"\n")
	dropIn := filepath.Join(conf+".d", "010-more.conf")
	write(t, dropIn, "[[registry]]\nprefix=\"registry.com\"\ninsecure=true\n")
	write(t, own, `{"registries":[{"prefix":"docker.io","mirrors":[{"location":"m:5000"}]},{"prefix":"*.wild.com","blocked":true}]}`)
	list, err = Load(own, conf)
	if err != nil {
		t.Fatal(err)
	}
	want := []Registry{
		{Prefix: "example.com/foo", Location: "internal.example.net/bar", File: conf, Mirrors: []Mirror{
			{Location: "mirror-0.local/for-foo"}, {Location: "mirror-1.local:5000/foo", Insecure: true, PullFromMirror: "digest-only"}}},
		{Prefix: "registry.com", Insecure: true, File: dropIn},
		{Prefix: "*.wild.com", Blocked: true, File: own},
		{Prefix: "docker.io", File: own, Mirrors: []Mirror{{Location: "m:5000"}}},
	}
	if !reflect.DeepEqual(list, want) {
		t.Errorf("got  %+v\nwant %+v", list, want)
	}
}

// The file that Debian's package of Podman's libraries installs, if it is here.
func TestLoadDebian(t *testing.T) {
	const conf = "/etc/containers/registries.conf"
	if _, err := os.Stat(conf); err != nil {
		t.Skip(conf + " is not there")
	}
	if _, err := Load("", conf); err != nil {
		t.Error(err)
	}
}

// A setting that would be overlooked is refused: it may be the one that keeps someone safe.
func TestLoadErrors(t *testing.T) {
	for _, tt := range []struct{ conf, json, says string }{
		{conf: "[registries.insecure]\nregistries = ['x']\n", says: "version 1"},
		{conf: "registry = \"x\"\n", says: "[[registry]]"},
		{conf: "[registry]\nprefix = \"x\"\n", says: "[[registry]]"},
		{conf: "[[registry]]\nblocked = true\n", says: "neither prefix nor location"},
		{conf: "[[registry]]\nprefix = \"https://x\"\n", says: "scheme"},
		{conf: "[[registry]]\nprefix = \"x\"\n[[registry.mirror]]\ninsecure=true\n", says: "no host"},
		{conf: "[[registry]]\nprefix = \"x\"\n[[registry.mirror]]\nlocation=\"y\"\npull-from-mirror=\"never\"\n", says: "never"},
		{conf: "[[registry]]\nprefix = \"x\"\nblocked = \"true\"\n", says: "blocked must be true or false"},
		{conf: "[[registry]]\nprefix = \"x\"\n[[registry.mirror]]\nlocation=1\n", says: "location must be"},
		{conf: "a = 1\nb = \n", says: "line 2"},
		{json: `{"registries":[{"prefix":"x","blokced":true}]}`, says: "blokced"},
		{json: `{"registries":[{"prefix":"x/../y"}]}`, says: "x/../y"},
		{json: `{`, says: "EOF"},
	} {
		dir := t.TempDir()
		conf, own := filepath.Join(dir, "c"), filepath.Join(dir, "j")
		write(t, conf, tt.conf)
		write(t, own, tt.json)
		list, err := Load(own, conf)
		if err == nil {
			t.Errorf("%q %q: %+v", tt.conf, tt.json, list)
			continue
		}
		if !errs.Is(err, errs.Invalid) || errs.HintOf(err) == "" || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%q %q: %v, want it to say %q", tt.conf, tt.json, err, tt.says)
		}
	}
}

func TestParseTOML(t *testing.T) {
	tests := []struct {
		in   string
		want table // nil: refused
	}{
		{"", table{}},
		{"# only\r\n\n", table{}},
		{"a = 'x\\n'\nb=\"q\\\"\\t\\u00e9\\U0001F600\"\nc = true", table{"a": `x\n`, "b": "q\"\té😀", "c": true}},
		{"n = -1_000\nd = 2020-01-01\nf=+1.5e3", table{"n": bare("-1_000"), "d": bare("2020-01-01"), "f": bare("+1.5e3")}},
		{"a = [ [1], [], {x = 'y', z=false} ]", table{"a": []any{[]any{bare("1")}, []any{}, table{"x": "y", "z": false}}}},
		{"[a.b]\nx='1'\n[a]\ny='2'", table{"a": table{"b": table{"x": "1"}, "y": "2"}}},
		{"[[a]]\nx='1'\n[[a.b]]\n[a.c]\n[[a]]", table{"a": []table{{"x": "1", "b": []table{{}}, "c": table{}}, {}}}},
		{"\"quoted key\" = 'v'\n[ 'x' . y ]", table{"quoted key": "v", "x": table{"y": table{}}}},
		{"a", nil}, {"a =", nil}, {"= 1", nil}, {"a = b", nil}, {"a = 1 b = 2", nil}, {"a = 1\na = 2", nil},
		{"a = \"x", nil}, {"a = \"x\n\"", nil}, {"a = \"\\q\"", nil}, {"a = \"\\ud800\"", nil}, {"a = '''x'''", nil},
		{"a = [1", nil}, {"a = [1 2]", nil}, {"a = {x = 1", nil}, {"a = {x}", nil}, {"a.b = 1", nil},
		{"[a", nil}, {"[[a]", nil}, {"[]", nil}, {"a = 1\n[a]", nil}, {"[a]\n[[a]]", nil}, {"\xff", nil},
		{"a = " + strings.Repeat("[", 100_000), nil},
	}
	for _, tt := range tests {
		got, err := parseTOML(tt.in)
		if (err == nil) != (tt.want != nil) || err == nil && !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%.60q: %#v, %v", tt.in, got, err)
		}
	}
}

func FuzzParseRegistriesConf(f *testing.F) {
	f.Add(podmanConf)
	f.Add("[[registry]]\nprefix='a'\nmirror=[{location=\"\\u0041\"}]\n")
	f.Add("[a.b]\n[[a.b]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseRegistriesConf(text)
		if err == nil {
			checkRegistries(list, "f")
		}
	})
}
