// Package corten_test keeps the house in order: how big things may grow, who may import
// whom, what is linked into the programs that have to be small. An exemption is a line in
// one of the tables here, with its reason.
package corten_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

// The caps. Beauty is decided in the tail.
const (
	maxFunction  = 70   // lines
	maxPackage   = 2500 // lines of non-test code
	maxInterface = 5    // methods
	maxStruct    = 15   // fields
)

// exempt names what is over a cap: "package.Name", or a package's path for its size.
var exempt = map[string]string{
	"spec.Mount":     "a wire format: what --mount can say",
	"spec.Container": "a wire format: all that can be said of a container",
}

// mutable names package variables that are not constant in effect, and why.
var mutable = map[string]string{
	"erofs.le": "a short name for binary.LittleEndian",
	// corten-init has no runtime and so no heap: its memory is these.
	"cmd/corten-init.tls": "", "cmd/corten-init.signals": "", "cmd/corten-init.number": "",
	"cmd/corten-init.file": "", "cmd/corten-init.pause": "", "cmd/corten-init.sent": "",
	// kernel/nest begins before the runtime, too
	"kernel/nest.stack": "", "kernel/nest.tls": "", "kernel/nest.path": "", "kernel/nest.text": "", "kernel/nest.uidArgs": "",
	"kernel/nest.gidArgs": "", "kernel/nest.digits": "", "kernel/nest.target": "", "kernel/nest.entries": "", "kernel/nest.file": "",
	"kernel/nest.own": "", "kernel/nest.number": "", "kernel/nest.pause": "", "kernel/nest.outcome": "", "kernel/nest.reason": "",
	"kernel/nest.helper": "", "kernel/nest.caller": "",
}

// band is the height of each package: imports go down. Packages of one height are
// neighbours and leave each other alone, but for those in sideways.
var band = map[string]int{
	"errs": 0, "oci": 0, "spec": 0, "tree": 0, "inflate": 0, "programs": 0,
	"kernel": 1, "kernel/nest": 1, "kernel/lsm": 1, "kernel/probe": 1, "kernel/probe/ordinary": 1, "disk": 1, "disk/watch": 1, "advice": 1,
	"plan": 2, "plan/decide": 2, "plan/bundled": 2, "wiring": 2,
	"registry": 3, "archive": 3, "store": 3, "erofs": 3, "layer": 3, "dirtree": 3, "rootfs": 3, "launch": 3, "launch/rows": 3, "launch/copytree": 3, "launch/detached": 3, "launch/compile": 3, "launch/numbers": 3,
	"cgroup": 3, "resctrl": 3, "seccomp": 3, "events": 3, "about": 3, "logs": 3, "logs/gz": 3, "logs/read": 3, "logs/records": 3, "wire": 3, "wire/rules": 3, "wire/standing": 3, "wire/walls": 3, "hostnet": 3, "attendant": 3, "cni": 3, "criu": 3, "cni/execute": 3, "ports": 3, "callers": 3, "resolve": 3, "registry/registries": 3, "store/layout": 3,
	"seal": 3, "quota": 3,
	"cgroup/counts": 3, "cgroup/scope": 3, "systemd": 3,
	"bundle": 4, "bundle/record": 4,
	"image": 4, "supply": 4, "container": 4, "keeper": 4, "platform": 4, "volume": 4, "content": 4, "network": 4, "usernet": 4,
	// works: what becomes of a container, each of these from what is before it
	"ending": 5, "relay": 5, "connect": 5, "checkpoint": 5,
	"draft":      6,
	"foreground": 7, "enter": 7, "kept": 7, "suspend": 7, "bundle/life": 7,
	"engine": 8,
	"cli":    9, "cli/runflags": 9, "cli/show": 9, "cli/shell": 9, "cli/look": 9, "cli/past": 9, "cli/volumes": 9, "cli/files": 9,
	"cli/values": 9, "cli/refused": 9, "cli/runline": 9, "cli/units": 9, "cli/library": 9, "cli/life": 9,
	"cli/attend": 9, "cli/netflags": 9, "cli/networks": 9, "cli/declare": 9, "cli/front": 9, "cli/keep": 9, "cli/oci": 9, "cli/checkpoints": 9,
	// support for tests; nothing of the product may import it
	"testimage": 12, "testnet": 12, "testworld": 12, "testsystemd": 12,
}

// sideways are the neighbours that may be imported, and why.
var sideways = map[string]string{
	"suspend -> kept":                       "a checkpoint is an end of a container that lives on, and a restore a start",
	"kept -> enter":                         "a health check is a command in the container",
	"programs -> errs":                      "words of one language",
	"spec -> oci":                           "a container is completed from its image's configuration",
	"spec -> errs":                          "words of one language",
	"oci -> errs":                           "words of one language",
	"tree -> oci":                           "files are named by digests",
	"tree -> errs":                          "words of one language",
	"advice -> kernel/nest":                 "what root may do depends on where",
	"kernel/probe/ordinary -> kernel/probe": "what root is told, revised",
	"kernel/probe -> kernel":                "probes are made of the same system calls",
	"kernel/probe/ordinary -> kernel/lsm":   "which profile confines a program is asked in one way",
	"kernel/probe -> kernel/lsm":            "which security module is active is asked in one way",
	"disk -> kernel":                        "files are made durable by system calls",
	"launch -> launch/copytree":             "a volume's first content is copied by itself",
	"launch -> launch/compile":              "what a new process does is compiled apart from who makes it",
	"launch -> launch/rows":                 "what a plan means is apart from how a process walks it",
	"launch -> launch/numbers":              "the words of plans are the same on both sides",
	"launch/compile -> launch/rows":         "rows are what steps are compiled to",
	"launch/compile -> launch/numbers":      "the words of plans are the same on both sides",
	"launch -> launch/detached":             "what is mounted nowhere yet is made apart from who uses it",
	"plan/decide -> plan":                   "what a plan is, is apart from how one is made",
	"plan/bundled -> plan/decide":           "what both kinds of plans have in common",
	"cgroup/scope -> cgroup":                "systemd is told what a plan writes",
	"cgroup/scope -> systemd":               "a scope is one of systemd's units",
	"plan/bundled -> plan":                  "a view that is described mount by mount is planned apart, with the same steps",
	"store -> store/layout":                 "the OCI layout is a part of the store with a format of its own",
	"cli -> cli/runflags":                   "the flags of run are a language of their own",
	"logs/gz -> logs":                       "what needs a compressor is apart from what the keeper links",
	"supply -> image":                       "what is brought becomes part of the library",
	"cli -> cli/show":                       "how things are put before people is the same in every verb",
	"cli -> cli/shell":                      "what every verb has in hand",
	"cli -> cli/look":                       "the table of verbs",
	"cli -> cli/library":                    "the table of verbs",
	"cli -> cli/life":                       "the table of verbs",
	"cli/life -> cli/shell":                 "a family of verbs",
	"cli/life -> cli/show":                  "how things are put before people is the same in every verb",
	"cli/life -> cli/values":                "how values are written is the same for every flag",
	"cli/life -> cli/runflags":              "update and rename read what run reads",
	"cli/library -> cli/shell":              "a family of verbs",
	"cli/library -> cli/show":               "how things are put before people is the same in every verb",
	"cli/shell -> cli/show":                 "how things are put before people is the same in every verb",
	"cli -> cli/volumes":                    "the table of verbs",
	"cli -> cli/values":                     "how values are written is the same for every flag",
	"cli -> cli/refused":                    "a table of flags that are not there",
	"cli -> cli/files":                      "the table of verbs",
	"cli/files -> cli/shell":                "a family of verbs",
	"cli -> cli/units":                      "the table of verbs",
	"cli/units -> cli/shell":                "a family of verbs",
	"cli/units -> cli/runline":              "a unit has a command line in it",
	"cli/units -> cli/values":               "how values are written is the same for every flag",
	"cli/runflags -> cli/values":            "how values are written is the same for every flag",
	"cli -> cli/past":                       "the table of verbs",
	"cli/past -> cli/shell":                 "a family of verbs",
	"cli/past -> cli/values":                "how values are written is the same for every flag",
	"cli/look -> cli/shell":                 "a family of verbs",
	"cli/look -> cli/show":                  "how things are put before people is the same in every verb",
	"cli/look -> cli/volumes":               "inspect shows volumes too",
	"cli/volumes -> cli/values":             "how values are written is the same for every flag",
	"cli/volumes -> cli/shell":              "a family of verbs",
	"cli/volumes -> cli/show":               "how things are put before people is the same in every verb",
	"cli/attend -> cli/shell":               "a family of verbs",
	"cli/attend -> cli/runflags":            "it does what the flags of run ask for",
	"cli/attend -> cli/values":              "how values are written is the same for every flag",
	"cli/declare -> cli/shell":              "a family of verbs",
	"cli/keep -> cli/shell":                 "a family of verbs",
	"cni/execute -> cni":                    "what needs the library is apart from what corten links",
	"wire -> wire/rules":                    "rules are a language of their own",
	"cli -> cli/networks":                   "the table of verbs",
	"cli -> cli/checkpoints":                "the table of verbs",
	"cli/checkpoints -> cli/shell":          "a family of verbs",
	"cli/checkpoints -> cli/declare":        "what constructors of verbs have in common",
	"cli/networks -> cli/shell":             "a family of verbs",
	"cli/networks -> cli/show":              "how things are put before people is the same in every verb",
	"cli/networks -> cli/declare":           "what constructors of verbs have in common",
	"cli/networks -> cli/netflags":          "connect reads what run reads",
	"cli/networks -> cli/values":            "how values are written is the same for every flag",
	"cli/netflags -> cli/values":            "how values are written is the same for every flag",
	"cli/runflags -> cli/netflags":          "the flags of networks are a language of their own",
	"cli/runline -> cli/netflags":           "a command line has the flags of networks in it",
	"cli/look -> cli/networks":              "inspect shows networks too",
	"cli/front -> cli/shell":                "what every verb has in hand",
	"cli/front -> cli/runflags":             "the flags of run are a language of their own",
	"cli/front -> cli/attend":               "what run and exec do once their flags are read",
	"cli/front -> cli/keep":                 "what keepers ask for",
	"cli -> cli/attend":                     "what run and exec do once their flags are read",
	"cli -> cli/declare":                    "what constructors of verbs have in common",
	"cli -> cli/keep":                       "what keepers ask for",
	"cli/files -> cli/declare":              "what constructors of verbs have in common",
	"cli/library -> cli/declare":            "what constructors of verbs have in common",
	"cli/life -> cli/declare":               "what constructors of verbs have in common",
	"cli/look -> cli/declare":               "what constructors of verbs have in common",
	"cli/past -> cli/declare":               "what constructors of verbs have in common",
	"cli/units -> cli/declare":              "what constructors of verbs have in common",
	"cli/volumes -> cli/declare":            "what constructors of verbs have in common",
	"logs/records -> logs":                  "how records look is the log's own",
	"logs/read -> logs":                     "the keeper writes logs, and links nothing that reads them",
	"testworld -> testnet":                  "a world has a network",
	"registry -> registry/registries":       "the configuration file of registries is a language of its own",
}

type file struct {
	path string // relative, with slashes
	pkg  string // relative to internal/, or the path of the command
	ast  *ast.File
	set  *token.FileSet
	len  int
}

func sources(t *testing.T) []file {
	t.Helper()
	var out []file
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, b, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		out = append(out, file{path, strings.TrimPrefix(dir, "internal/"), f, set, strings.Count(string(b), "\n")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCaps(t *testing.T) {
	size := map[string]int{}
	for _, f := range sources(t) {
		if !ast.IsGenerated(f.ast) {
			size[f.pkg] += f.len
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				lines := f.set.Position(n.End()).Line - f.set.Position(n.Pos()).Line + 1
				over(t, f, f.pkg+"."+n.Name.Name, "lines of a function", lines, maxFunction)
			case *ast.TypeSpec:
				switch x := n.Type.(type) {
				case *ast.InterfaceType:
					over(t, f, f.pkg+"."+n.Name.Name, "methods of an interface", x.Methods.NumFields(), maxInterface)
				case *ast.StructType:
					over(t, f, f.pkg+"."+n.Name.Name, "fields of a struct", x.Fields.NumFields(), maxStruct)
				}
			}
			return true
		})
	}
	for pkg, n := range size {
		if n > maxPackage && exempt[pkg] == "" {
			t.Errorf("%s: %d lines, the cap is %d: split it by meaning", pkg, n, maxPackage)
		}
	}
}

func over(t *testing.T, f file, name, what string, n, limit int) {
	if n > limit && exempt[name] == "" {
		t.Errorf("%s: %s has %d %s, the cap is %d", f.path, name, n, what, limit)
	}
}

func TestNoHiddenState(t *testing.T) {
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == "init" && d.Recv == nil {
					t.Errorf("%s: an init function; wire things in one place instead", f.path)
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR {
					checkVars(t, f, d)
				}
			}
		}
		for _, i := range f.ast.Imports {
			if i.Name != nil && i.Name.Name == "_" && i.Path.Value != `"embed"` && i.Path.Value != `"unsafe"` {
				t.Errorf("%s: imports %s for its effect", f.path, i.Path.Value)
			}
		}
	}
}

// checkVars lets pass what cannot change: checks of interfaces, tables (arrays and slices
// of literals, which tests of their packages keep from being written to) and errors.
func checkVars(t *testing.T, f file, d *ast.GenDecl) {
	for _, s := range d.Specs {
		v := s.(*ast.ValueSpec)
		for i, name := range v.Names {
			key := f.pkg + "." + name.Name
			if name.Name == "_" || has(mutable, key) {
				continue
			}
			if len(v.Values) > i {
				switch x := v.Values[i].(type) {
				case *ast.CompositeLit:
					if _, isMap := x.Type.(*ast.MapType); !isMap {
						continue
					}
				case *ast.CallExpr:
					if sel, ok := x.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "New" {
						continue // errors.New
					}
				}
			}
			if hasEmbed(d) {
				continue
			}
			t.Errorf("%s: package variable %s; if it cannot be avoided, say why in tidy_test.go", f.path, name.Name)
		}
	}
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

func hasEmbed(d *ast.GenDecl) bool {
	return d.Doc != nil && strings.Contains(d.Doc.Text()+commentText(d.Doc), "go:embed")
}

func commentText(g *ast.CommentGroup) string {
	var b strings.Builder
	for _, c := range g.List {
		b.WriteString(c.Text)
	}
	return b.String()
}

const module = "github.com/cortenhq/corten/internal/"

func TestImportsGoDown(t *testing.T) {
	for _, f := range sources(t) {
		from, known := band[f.pkg]
		if !known && strings.HasPrefix(f.path, "internal/") && !strings.Contains(f.pkg, "/gen") {
			t.Errorf("%s: package %s has no band in tidy_test.go", f.path, f.pkg)
			continue
		}
		for _, i := range f.ast.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if path == "unsafe" && (!strings.HasSuffix(f.path, "_unsafe.go") || f.pkg != "kernel" && f.pkg != "launch" && f.pkg != "launch/rows" && f.pkg != "kernel/nest" && f.pkg != "cmd/corten-init") {
				t.Errorf("%s: unsafe belongs in *_unsafe.go of kernel, launch, launch/rows and corten-init", f.path)
			}
			to, ours := strings.CutPrefix(path, module)
			if !ours || !known {
				continue
			}
			if band[to] > from || band[to] == from && sideways[f.pkg+" -> "+to] == "" {
				t.Errorf("%s: %s may not import %s", f.path, f.pkg, to)
			}
			if to == "testimage" {
				t.Errorf("%s: imports support for tests", f.path)
			}
		}
		if band[f.pkg] == 0 && known {
			onlyStandard(t, f)
		}
	}
}

// onlyStandard keeps the words free of other people's packages.
func onlyStandard(t *testing.T, f file) {
	for _, i := range f.ast.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if strings.Contains(strings.Split(path, "/")[0], ".") && !strings.HasPrefix(path, module) {
			t.Errorf("%s: a package of words imports %s", f.path, path)
		}
	}
}

// TestSmallPrograms holds the packages that the programs inside containers link against a
// checked-in list, so that growth is a decision.
func TestSmallPrograms(t *testing.T) {
	for _, program := range []string{"corten-init", "corten-keeper"} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/"+program).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Fields(string(out))
		sort.Strings(got)
		b, err := os.ReadFile("testdata/deps/" + program + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Fields(string(b)); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s links\n%s\nand testdata/deps/%s.txt says\n%s", program, strings.Join(got, "\n"), program, strings.Join(want, "\n"))
		}
		std, err := exec.Command("go", "list", "-deps", "./cmd/"+program).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, heavy := range []string{"net", "net/http", "regexp", "fmt", "encoding/json", "text/template"} {
			for _, p := range strings.Fields(string(std)) {
				if p == heavy {
					t.Errorf("%s links %s", program, heavy)
				}
			}
		}
	}
}

// TestLeanCommand keeps from the program corten what every start of a container would pay for,
// and only other commands need: package front leaves those to corten-image.
func TestLeanCommand(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/corten").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(out))
	for _, heavy := range []string{"github.com/spf13/cobra", "text/template", "net/http", "compress/gzip", "github.com/klauspost/compress/gzip",
		"github.com/vishvananda/netlink", "github.com/google/nftables", "github.com/containernetworking/cni/libcni"} {
		if slices.Contains(linked, heavy) {
			t.Errorf("corten links %s", heavy)
		}
	}
}

// TestLeanRuntime is the same for corten-oci: nothing of images, and no command line larger than its own.
func TestLeanRuntime(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/corten-oci").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(out))
	for _, heavy := range []string{"github.com/spf13/cobra", "text/template", "net/http", "compress/gzip", "github.com/vishvananda/netlink", module + "engine", module + "store", module + "image"} {
		if slices.Contains(linked, heavy) {
			t.Errorf("corten-oci links %s", heavy)
		}
	}
}
