package runflags

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

func mode(m uint32) *uint32 { return &m }

func TestVolumes(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	dir, _ = os.Getwd() // as the kernel names it
	bind := func(m spec.Mount) spec.Mount {
		m.Type, m.Recursive, m.Create = spec.Bind, true, true
		return m
	}
	for text, want := range map[string]spec.Mount{
		"/a:/b":               bind(spec.Mount{Source: "/a", Target: "/b"}),
		"/a/../c/:/b/":        bind(spec.Mount{Source: "/c", Target: "/b"}),
		"/a:/b:ro":            bind(spec.Mount{Source: "/a", Target: "/b", ReadOnly: true}),
		"/a:/b:rw":            bind(spec.Mount{Source: "/a", Target: "/b"}),
		"/a:/b:ro,z":          bind(spec.Mount{Source: "/a", Target: "/b", ReadOnly: true, Relabel: spec.RelabelShared}),
		"/a:/b:rw,Z,cached":   bind(spec.Mount{Source: "/a", Target: "/b", Recursive: true, Relabel: spec.RelabelPrivate}),
		"/a:/b:rslave,noexec": bind(spec.Mount{Source: "/a", Target: "/b", Propagation: "rslave", NoExec: true}),
		"/a:/b:shared":        bind(spec.Mount{Source: "/a", Target: "/b", Propagation: "shared"}),
		"/a:/b:nosuid,nodev":  bind(spec.Mount{Source: "/a", Target: "/b", NoSuid: true, NoDev: true}),
		"/a:/b:exec,suid":     bind(spec.Mount{Source: "/a", Target: "/b"}),
		"/a:/b:noidmap":       bind(spec.Mount{Source: "/a", Target: "/b", NoIDMap: true}),
		"/a:/b:idmap,rbind":   bind(spec.Mount{Source: "/a", Target: "/b"}),
		"/a:/b:bind":          {Type: spec.Bind, Source: "/a", Target: "/b", Create: true},
		"./x:/b":              bind(spec.Mount{Source: filepath.Join(dir, "x"), Target: "/b"}),
		".:/b":                bind(spec.Mount{Source: dir, Target: "/b"}),
		"../x:/b":             bind(spec.Mount{Source: filepath.Join(filepath.Dir(dir), "x"), Target: "/b"}),
		"/data":               {Type: spec.Volume, Target: "/data"},
		"vol:/data":           {Type: spec.Volume, Source: "vol", Target: "/data"},
		"vol:/data:ro,nocopy": {Type: spec.Volume, Source: "vol", Target: "/data", ReadOnly: true, NoCopy: true},
		"vol:/data:copy":      {Type: spec.Volume, Source: "vol", Target: "/data"},
		"vol:/data:noexec,z":  {Type: spec.Volume, Source: "vol", Target: "/data", NoExec: true, Relabel: spec.RelabelShared},
	} {
		got := mustParse(t, "-v", text).Mounts
		if diff := cmp.Diff([]spec.Mount{want}, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestMounts(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	dir, _ = os.Getwd()
	for text, want := range map[string]spec.Mount{
		"type=bind,source=/a,target=/b":                       {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true},
		"type=bind,src=/a,dst=/b,ro":                          {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true, ReadOnly: true},
		"src=/a,destination=/b,readonly=true,type=bind":       {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true, ReadOnly: true},
		"TYPE=BIND,Source=/a,Target=/b,ReadOnly=0":            {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true},
		"type=bind,src=./x,dst=/b":                            {Type: spec.Bind, Source: filepath.Join(dir, "x"), Target: "/b", Recursive: true},
		`type=bind,"src=/a,b","dst=/b:c"`:                     {Type: spec.Bind, Source: "/a,b", Target: "/b:c", Recursive: true},
		`type=bind,"src=/a ""q""",dst=/b`:                     {Type: spec.Bind, Source: `/a "q"`, Target: "/b", Recursive: true},
		"type=bind,src=/a=b,dst=/b":                           {Type: spec.Bind, Source: "/a=b", Target: "/b", Recursive: true},
		"type=bind,src=/a,dst=/b,bind-propagation=RSLAVE":     {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true, Propagation: "rslave"},
		"type=bind,src=/a,dst=/b,bind-recursive=disabled":     {Type: spec.Bind, Source: "/a", Target: "/b"},
		"type=bind,src=/a,dst=/b,bind-recursive=enabled":      {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true},
		"type=bind,src=/a,dst=/b,ro,bind-recursive=readonly":  {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true, ReadOnly: true},
		"type=bind,src=/a,dst=/b,bind-create-src":             {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true, Create: true},
		"type=bind,src=/a,dst=/b,noexec,nosuid,nodev,noidmap": {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true, NoExec: true, NoSuid: true, NoDev: true, NoIDMap: true},
		"type=bind,src=/a,dst=/b,consistency=cached":          {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true},
		"type=volume,src=vol,dst=/b,volume-nocopy":            {Type: spec.Volume, Source: "vol", Target: "/b", NoCopy: true},
		"src=vol,dst=/b":                                      {Type: spec.Volume, Source: "vol", Target: "/b"},
		"dst=/b":                                              {Type: spec.Volume, Target: "/b"},
		"type=tmpfs,dst=/b":                                   {Type: spec.Tmpfs, Target: "/b"},
		"type=bind,src=/a,dst=/b,relabel=private":             {Type: spec.Bind, Source: "/a", Target: "/b", Recursive: true, Relabel: spec.RelabelPrivate},
		"type=tmpfs,dst=/b,tmpfs-size=64m,tmpfs-mode=0700,ro": {Type: spec.Tmpfs, Target: "/b", Size: 64 << 20, Mode: mode(0o700), ReadOnly: true},
		"type=tmpfs,dst=/b,exec":                              {Type: spec.Tmpfs, Target: "/b", Exec: true},
	} {
		got := mustParse(t, "--mount", text).Mounts
		if diff := cmp.Diff([]spec.Mount{want}, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestTmpfs(t *testing.T) {
	for text, want := range map[string]spec.Mount{
		"/t":                                {Type: spec.Tmpfs, Target: "/t"},
		"/t:size=64m":                       {Type: spec.Tmpfs, Target: "/t", Size: 64 << 20},
		"/t:rw,exec,mode=755":               {Type: spec.Tmpfs, Target: "/t", Exec: true, Mode: mode(0o755)},
		"/t:ro,noexec,nosuid,nodev,size=1g": {Type: spec.Tmpfs, Target: "/t", ReadOnly: true, Size: 1 << 30},
	} {
		got := mustParse(t, "--tmpfs", text).Mounts
		if diff := cmp.Diff([]spec.Mount{want}, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestRoot(t *testing.T) {
	c := mustParse(t, "--read-only", "--shm-size", "1.5m")
	if want := (spec.Root{ReadOnly: true, ShmSize: 3 << 19}); c.Root != want {
		t.Errorf("%+v", c.Root)
	}
}

func FuzzMounts(f *testing.F) {
	for _, s := range []string{"/a:/b:ro", "vol:/x", "type=bind,src=/a,dst=/b", `type=tmpfs,"dst=/a,b"`, "/t:size=1m,mode=700", "::", `"`, "=,="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, flag := range []string{"-v", "--mount", "--tmpfs"} {
			req, _, err := parse(flag, s)
			if err != nil {
				continue
			}
			for _, m := range req.Spec.Mounts {
				if !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) != m.Target || m.Target == "/" {
					t.Errorf("%s %q: target %q", flag, s, m.Target)
				}
				if m.Type == spec.Bind && !filepath.IsAbs(m.Source) {
					t.Errorf("%s %q: source %q", flag, s, m.Source)
				}
				if m.Type == spec.Volume && m.Source != "" && (!values.ValidName(m.Source) || strings.Contains(m.Source, "/")) {
					t.Errorf("%s %q: volume %q", flag, s, m.Source)
				}
			}
		}
	})
}
