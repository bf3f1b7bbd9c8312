// Bench measures Corten and its peers side by side: the same work, in the same run, on the
// same machine, in rounds that take turns, so that a machine that grows slower is slower for
// all of them.
//
//	go run ./bench [-run REGEX] [-peer REGEX] [-n ROUNDS] [-json FILE] [-md]
//
// It needs root. A run lives in a process, mount and cgroup namespace of its own (package stage);
// when it ends, however it ends, its processes, mounts, cgroups and files are gone. Inside,
// each benchmark (start.go, pull.go, net.go, flow.go) fills a table (table.go) from the commands of the peers
// (peer.go), those of networks on a machine for each peer (machine.go); the tables go to the terminal, to a JSON file and, with -md, to SPECIFICATION.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/cortenhq/corten/bench/stage"
)

// options is what the command line says.
type options struct {
	which    *regexp.Regexp // benchmarks
	whom     *regexp.Regexp // peers
	n        int            // rounds
	json     string
	markdown bool
	corten   string // the binary
	cgroup   int    // version of the cgroup view, 1 or 2
	module   string // the module's root folder
}

func main() {
	// Children are killed when the thread that started them ends, so that must be this one.
	runtime.LockOSThread()
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	code := 2
	if err == nil {
		code, err = stage.Run(o.cgroup, func(dir string) (int, error) { return innerStage(o, dir) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func parse(args []string, usage io.Writer) (options, error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(usage)
	run := f.String("run", ".", "run the benchmarks whose name matches `regex`: "+names(benchmarks()))
	peer := f.String("peer", ".", "measure the peers whose name matches `regex`; corten always takes part")
	var o options
	f.IntVar(&o.n, "n", 20, "measure starts in so many `rounds`, pulls in a tenth of them")
	f.StringVar(&o.json, "json", "", "write the results to `file` (default bench/results/DATE.json)")
	f.BoolVar(&o.markdown, "md", false, "write the tables into SPECIFICATION.md as well")
	f.StringVar(&o.corten, "corten", "", "measure this `binary` (default bin/corten)")
	f.IntVar(&o.cgroup, "cgroup", 2, "show the peers cgroups of this `version`")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("argument %q is not understood", f.Arg(0))
	}
	if o.n < 1 || o.cgroup != 1 && o.cgroup != 2 {
		return o, errors.New("want at least one round, and cgroup version 1 or 2")
	}
	var err error
	if o.which, err = regexp.Compile(*run); err != nil {
		return o, err
	}
	if o.whom, err = regexp.Compile(*peer); err != nil {
		return o, err
	}
	if o.module, err = moduleRoot(); err != nil {
		return o, err
	}
	if o.corten == "" {
		o.corten = filepath.Join(o.module, "bin", "corten")
	}
	o.corten, err = filepath.Abs(o.corten)
	return o, err
}

// moduleRoot is the folder of go.mod above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == "/" {
			return "", fmt.Errorf("no go.mod in %s or above it: run from the source tree", dir)
		}
	}
}

// benchmark is one table to fill.
type benchmark struct {
	name string
	run  func(*scope) []*table
}

func benchmarks() []benchmark {
	return []benchmark{
		{"binary", benchBinary},
		{"start", benchStart},
		{"start-tree", benchStartTree},
		{"start-host", benchStartHost},
		{"start-rootless", benchStartUser},
		{"starts-100", func(s *scope) []*table { return benchMany(s, 100) }},
		{"starts-1000", func(s *scope) []*table { return benchMany(s, 1000) }},
		{"exec", benchExec},
		{"oci", benchOCI},
		{"detach", benchDetach},
		{"idle-1000", func(s *scope) []*table { return benchIdle(s, 1000) }},
		{"logs", benchLogs},
		{"pull", benchPull},
		{"start-bridge", benchStartBridge},
		{"net-starts-200", func(s *scope) []*table { return benchNetStarts(s, 200) }},
		{"net-tcp", benchTCP},
		{"net-http", benchHTTP},
	}
}

func names(bs []benchmark) string {
	var ns []string
	for _, b := range bs {
		ns = append(ns, b.name)
	}
	return strings.Join(ns, ", ")
}
