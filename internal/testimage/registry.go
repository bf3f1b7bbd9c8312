package testimage

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Registry starts a registry in this process, on a loopback port, over plain HTTP, with its
// blobs on disk. It returns its host:port and ends with the test.
func Registry(t T) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(registry.NewDiskBlobHandler(t.TempDir())))
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// Server is a registry that runs as a process of its own.
type Server struct {
	Host string // host:port
	Dir  string // where its blobs are
	PID  int
}

// DebianRegistry starts Debian's docker-registry on a free loopback port, over plain HTTP,
// on an empty folder. It ends with the test.
func DebianRegistry(t T) Server {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skipf("no docker-registry: apt-get install docker-registry")
	}
	dir := t.TempDir()
	s := Server{Host: freeAddr(t), Dir: filepath.Join(dir, "blobs")}
	config := "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " + s.Dir + "}, delete: {enabled: true}}\nhttp: {addr: '" + s.Host + "'}\n"
	must(t, "write configuration", os.WriteFile(filepath.Join(dir, "config.yml"), []byte(config), 0o644))
	output, err := os.Create(filepath.Join(dir, "log"))
	must(t, "make log", err)
	defer output.Close()

	cmd := exec.Command(bin, "serve", filepath.Join(dir, "config.yml"))
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	must(t, "start docker-registry", cmd.Start())
	s.PID = cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if r, err := http.Get("http://" + s.Host + "/v2/"); err == nil {
			r.Body.Close()
			return s
		}
		select {
		case err := <-ended:
			ended <- err
			raw, _ := os.ReadFile(output.Name())
			t.Fatalf("testimage: docker-registry ended: %v: %s", err, raw)
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("testimage: docker-registry does not answer on %s", s.Host)
	return s
}

// freeAddr is a loopback address that nobody listens on at this moment.
func freeAddr(t T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, "find a free port", err)
	defer l.Close()
	return l.Addr().String()
}
