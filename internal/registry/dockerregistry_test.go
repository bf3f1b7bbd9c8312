package registry

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// testHash is bcrypt of testSecret.
const testHash = "$2b$04$i24wcOHmITRMkTUnrAsWau3UitmeCD2Q6rZbXczrc7z35gdXO1i56"

// startDockerRegistry runs Debian's docker-registry behind htpasswd and returns its address.
func startDockerRegistry(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry (Debian package docker-registry) is not installed")
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "htpasswd"), testUser+":"+testHash+"\n")
	config := filepath.Join(dir, "config.yml")
	writeFile(t, config, fmt.Sprintf(`version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: "127.0.0.1:0"}
auth: {htpasswd: {realm: test, path: %q}}
`, filepath.Join(dir, "data"), filepath.Join(dir, "htpasswd")))
	cmd := exec.Command(program, "serve", config)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), "listening on "); ok {
			go io.Copy(io.Discard, out)
			host, _, _ := strings.Cut(after, `"`)
			return host
		}
	}
	t.Fatal("docker-registry ended")
	return ""
}

func TestDockerRegistry(t *testing.T) {
	host := startDockerRegistry(t)
	img := push(t, host+"/team/app:1", 200_000, 3, remote.WithAuth(&authn.Basic{Username: testUser, Password: testSecret}))
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.json"), filepath.Join(dir, "bad.json")
	writeFile(t, good, `{"auths":{"`+host+`/team":{"auth":"`+auth64(testUser+":"+testSecret)+`"}}}`)
	writeFile(t, bad, `{"auths":{"`+host+`":{"auth":"`+auth64(testUser+":wrong-secret")+`"}}}`)
	ref := mustRef(t, host+"/team/app:1")

	c := newClient(t, Config{Auth: Keychain{Files: []string{good}}.Lookup})
	desc, err := c.Head(t.Context(), ref)
	if err != nil || string(desc.Digest) != want.String() {
		t.Fatalf("Head = %v, %v; want %s", desc, err, want)
	}
	if _, err := pull(t.Context(), c, ref); err != nil {
		t.Error(err)
	}
	_, err = pull(t.Context(), c, mustRef(t, host+"/team/app:2"))
	wantError(t, err, errs.NotFound, "tag")
	_, err = pull(t.Context(), newClient(t, Config{Auth: Keychain{Files: []string{bad}}.Lookup}), ref)
	wantError(t, err, errs.Denied, bad, `"alice"`)
	_, err = pull(t.Context(), newClient(t, Config{}), ref)
	wantError(t, err, errs.Denied)
}

// The same registry behind connections that are cut again and again.
func TestDockerRegistryCuts(t *testing.T) {
	host := startDockerRegistry(t)
	push(t, host+"/app:1", 300_000, 3, remote.WithAuth(&authn.Basic{Username: testUser, Password: testSecret}))
	g := &rig{next: reverseProxy(host)}
	g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if isBlob(r) && n%2 == 0 {
			g.next.ServeHTTP(&cutWriter{w, goodRun + n}, r)
			return true
		}
		return false
	}
	c := newClient(t, Config{Auth: fixed(Credential{Username: testUser, Password: testSecret})})
	if _, err := pull(t.Context(), c, mustRef(t, serve(t, g)+"/app:1")); err != nil {
		t.Error(err)
	}
}
