package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/registry/registries"
)

// trust makes a certificate folder in which host's directory holds the test server's own
// certificate as its authority.
func trust(t *testing.T, s *httptest.Server, host string) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, host, "ca.crt"), pemBlock("CERTIFICATE", s.Certificate().Raw))
	return dir
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	h, _, desc := blobServer(1000)
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	s.Config.ErrorLog = quietLog()
	host := strings.TrimPrefix(s.URL, "https://")
	ref := mustRef(t, host+"/x")

	if err := readBlob(t.Context(), newClient(t, Config{CertDirs: []string{"/nonexistent", trust(t, s, host)}}), ref, desc); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	err := readBlob(t.Context(), newClient(t, Config{}), ref, desc)
	wantError(t, err, errs.Denied, "certificate is not trusted", "/etc/containers/certs.d/"+host+"/ca.crt")

	insecure := []registries.Registry{{Prefix: host, Insecure: true}}
	if err := readBlob(t.Context(), newClient(t, Config{Registries: insecure}), ref, desc); err != nil {
		t.Errorf("insecure: %v", err)
	}

	bad := t.TempDir()
	writeFile(t, filepath.Join(bad, host, "ca.crt"), "not PEM")
	err = readBlob(t.Context(), newClient(t, Config{CertDirs: []string{bad}}), ref, desc)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "ca.crt") {
		t.Error(err)
	}
}

func TestClientCertificate(t *testing.T) {
	h, _, desc := blobServer(1000)
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quietLog()
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "https://")
	ref := mustRef(t, host+"/x")
	dir := trust(t, s, host)

	err := readBlob(t.Context(), newClient(t, Config{CertDirs: []string{dir}}), ref, desc)
	wantError(t, err, errs.Denied, "client certificate", "NAME.key")

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "me"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, host, "me.key"), pemBlock("PRIVATE KEY", keyDER))
	err = readBlob(t.Context(), newClient(t, Config{CertDirs: []string{dir}}), ref, desc)
	wantError(t, err, errs.Invalid, "me.cert")

	writeFile(t, filepath.Join(dir, host, "me.cert"), pemBlock("CERTIFICATE", der))
	if err := readBlob(t.Context(), newClient(t, Config{CertDirs: []string{dir}}), ref, desc); err != nil {
		t.Error(err)
	}
}

// Plain http is spoken on loopback, and elsewhere only with a registry marked insecure.
func TestPlainHTTP(t *testing.T) {
	for name, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:80": true, "127.1.2.3": true, "[::1]:5000": true, "[::1]": true,
		"localhost.evil.com": false, "127.0.0.1.evil.com:80": false, "10.0.0.1:5000": false, "[::2]": false, "registry": false,
	} {
		if got := isLoopback(name); got != want {
			t.Errorf("isLoopback(%q) = %v", name, got)
		}
	}

	address := outsideAddress(t)
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	h, _, desc := blobServer(1000)
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = listener
	s.Start()
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	ref := mustRef(t, host+"/x")
	err = readBlob(t.Context(), newClient(t, Config{}), ref, desc)
	wantError(t, err, errs.Unavailable, "plain http", "insecure")
	insecure := []registries.Registry{{Prefix: host, Insecure: true}}
	if err := readBlob(t.Context(), newClient(t, Config{Registries: insecure}), ref, desc); err != nil {
		t.Errorf("insecure: %v", err)
	}
}

// outsideAddress is an address of this machine that is not loopback.
func outsideAddress(t *testing.T) string {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Skip(err)
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no IPv4 address but loopback")
	return ""
}

func TestUnreachable(t *testing.T) {
	c := newClient(t, Config{})
	_, _, err := c.Resolve(t.Context(), mustRef(t, "registry.invalid/x"))
	wantError(t, err, errs.Unavailable, "registry.invalid", "resolv")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	retries := 0
	c = newClient(t, Config{Progress: func(e Event) { retries++ }})
	_, _, err = c.Resolve(t.Context(), mustRef(t, host+"/x"))
	wantError(t, err, errs.Unavailable, "refused", host)
	if retries != 0 {
		t.Errorf("a server that never answered was asked %d times more", retries)
	}
}

// net/http reads the proxy variables once for a process, so the pulls run in other ones.
func TestProxy(t *testing.T) {
	const variable, target = "CORTEN_TEST_PROXY_CERTS", "example.com"
	if dir := os.Getenv(variable); dir != "" {
		c := newClient(t, Config{CertDirs: []string{dir}})
		if _, err := pull(t.Context(), c, mustRef(t, target+"/x:1")); err != nil {
			t.Fatalf("%v [%s]", err, errs.HintOf(err))
		}
		return
	}
	registry := newRegistry()
	push(t, serve(t, registry)+"/x:1", 100, 1)
	s := httptest.NewTLSServer(registry) // its certificate is for the target's name
	t.Cleanup(s.Close)
	var asked atomic.Int32
	proxy := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect && r.Host == target+":443" && r.Header.Get("Proxy-Authorization") != "" {
			asked.Add(1)
			tunnel(t, w, s.Listener.Addr().String())
			return
		}
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	dir := trust(t, s, target)
	run := func(proxyURL string) (string, error) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProxy$", "-test.count=1")
		cmd.Env = append(os.Environ(), variable+"="+dir, "HTTPS_PROXY="+proxyURL, "https_proxy=", "NO_PROXY=", "no_proxy=")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("http://user:pw-secret@" + proxy); err != nil || asked.Load() == 0 {
		t.Errorf("%v, %d connections: %s", err, asked.Load(), out)
	}
	for proxyURL, says := range map[string]string{
		"http://" + proxy:                   "Proxy Authentication Required",
		"http://user:pw-secret@127.0.0.1:1": "the proxy does not answer",
	} {
		out, err := run(proxyURL)
		if err == nil || !strings.Contains(out, says) || strings.Contains(out, "pw-secret") {
			t.Errorf("%s: %v: %s", proxyURL, err, out)
		}
	}
}

// tunnel is the CONNECT method of a proxy.
func tunnel(t *testing.T, w http.ResponseWriter, to string) {
	server, err := net.Dial("tcp", to)
	if err != nil {
		t.Error(err)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		io.Copy(server, buffered)
		server.Close()
	}()
	io.Copy(client, server)
	client.Close()
}

// A certificate folder is named by the host as it is dialled, and never leads elsewhere.
func TestCertDirNames(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "ca.crt"), "not PEM")
	for _, host := range []string{"..", ".", "", "a/../..", "../" + filepath.Base(dir)} {
		if cfg, err := loadTLS([]string{filepath.Join(dir, "sub"), dir}, host, false); cfg != nil || err != nil {
			t.Errorf("%q: %v, %v", host, cfg, err)
		}
	}
}
