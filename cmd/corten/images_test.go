package main

import (
	"net"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cortenhq/corten/internal/testimage"
)

// scriptT is a script as testimage knows tests.
type scriptT struct{ *testscript.TestScript }

func (scriptT) Helper() {}

func (t scriptT) Skipf(format string, args ...any) { t.Fatalf("this script needs: "+format, args...) }

func (t scriptT) Cleanup(f func()) { t.Defer(f) }

func (t scriptT) TempDir() string {
	dir, err := os.MkdirTemp("", "corten-script-")
	t.Check(err)
	t.Defer(func() { os.RemoveAll(dir) })
	return dir
}

// image is one of the images of package testimage.
func (t scriptT) image(name string) testimage.Image {
	switch name {
	case "true":
		return testimage.True(t)
	case "busybox":
		return testimage.Busybox(t)
	case "configured":
		return testimage.Configured(t)
	}
	t.Fatalf("no image %q: there are true, busybox and configured", name)
	return testimage.Image{}
}

// registry starts a registry that lives as long as the script: "registry VARIABLE" puts its
// HOST:PORT into the variable.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: registry VARIABLE")
	}
	ts.Setenv(args[0], testimage.Registry(scriptT{ts}))
}

// silent starts a server that takes connections and never says a word: "silent VARIABLE
// FILE" puts its port into the variable, and makes the file when somebody has come.
func silent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: silent VARIABLE FILE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
	came := ts.MkAbs(args[1])
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_ = os.WriteFile(came, nil, 0o644)
		}
	}()
}

// image makes an image: "image NAME push HOST REPOSITORY:TAG" in a registry, "image NAME
// docker-archive|oci-archive|layout PATH REFERENCE" in a file or folder, "image NAME rootfs
// PATH" unpacked.
func image(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "usage: image NAME push HOST REPOSITORY:TAG | image NAME docker-archive|oci-archive|layout PATH REFERENCE | image NAME rootfs PATH"
	t := scriptT{ts}
	if neg || len(args) < 3 || (len(args) < 4) != (args[1] == "rootfs") {
		ts.Fatalf(usage)
	}
	im, path := t.image(args[0]), ts.MkAbs(args[2])
	switch args[1] {
	case "push":
		im.Push(t, args[2], args[3])
	case "docker-archive":
		im.WriteDockerArchive(t, path, args[3])
	case "oci-archive":
		im.WriteOCIArchive(t, path, args[3])
	case "layout":
		im.WriteOCILayout(t, path, args[3])
	case "rootfs":
		im.WriteRootFS(t, path)
	default:
		ts.Fatalf(usage)
	}
}
