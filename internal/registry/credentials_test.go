package registry

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

func auth64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func lookup(t *testing.T, registry, repo string, files ...string) (Credential, error) {
	t.Helper()
	return Keychain{Files: files}.Lookup(t.Context(), registry, repo)
}

func TestKeychain(t *testing.T) {
	dir := t.TempDir()
	podman, docker := filepath.Join(dir, "auth.json"), filepath.Join(dir, "config.json")
	writeFile(t, podman, `{"auths":{
		"q.io":{"auth":"`+auth64("host:1")+`"},
		"q.io/a":{"auth":"`+auth64("a:p:with:colons")+`"},
		"q.io/a/b":{"auth":"`+auth64("ab:3")+`"},
		"docker.io/me":{"auth":"`+auth64("me:4")+`"}}}`)
	writeFile(t, docker, `{"auths":{
		"https://index.docker.io/v1/":{"auth":"`+auth64("hub:5\x00\x00")+`"},
		"q.io":{"auth":"`+auth64("later:6")+`"},
		"https://old.io/v2/":{"auth":"`+auth64("old:7")+`"},
		"plain.io":{"username":"plain","password":"8"},
		"token.io":{"auth":"`+auth64("00000000-0000-0000-0000-000000000000:")+`","identitytoken":"idt"},
		"ready.io":{"registrytoken":"rt"},
		"empty.io":{}},"HttpHeaders":{"X":"y"},"credHelpers":{}}`)
	tests := []struct {
		registry, repo string
		user, password string
	}{
		{"q.io", "x", "host", "1"},
		{"q.io", "a", "a", "p:with:colons"},
		{"q.io", "a/c/d", "a", "p:with:colons"},
		{"q.io", "a/b", "ab", "3"},
		{"q.io", "a/b/c", "ab", "3"},
		{"q.io", "a/bc", "a", "p:with:colons"},
		{"docker.io", "me/x", "me", "4"},
		{"docker.io", "library/x", "hub", "5"},
		{"old.io", "x", "old", "7"},
		{"plain.io", "x", "plain", "8"},
		{"empty.io", "x", "", ""},
		{"none.io", "x", "", ""},
	}
	for _, tt := range tests {
		got, err := lookup(t, tt.registry, tt.repo, filepath.Join(dir, "missing"), podman, docker)
		if err != nil || got.Username != tt.user || string(got.Password) != tt.password {
			t.Errorf("%s/%s: %q %q, %v; want %q", tt.registry, tt.repo, got.Username, string(got.Password), err, tt.user)
		}
		if tt.user == "" && (!strings.Contains(got.Origin, podman) || !strings.Contains(got.Origin, "missing (does not exist)")) {
			t.Errorf("%s: origin %q", tt.registry, got.Origin)
		}
	}
	if got, err := lookup(t, "token.io", "x", docker); err != nil || got.IdentityToken != "idt" {
		t.Errorf("identity token: %v, %v", got, err)
	}
	if got, err := lookup(t, "ready.io", "x", docker); err != nil || got.RegistryToken != "rt" || !strings.Contains(got.Origin, "a token from") {
		t.Errorf("registry token: %v, %v", got, err)
	}
}

func TestKeychainErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	for _, text := range []string{
		`{"auths":{"q.io":{"auth":"` + testSecret,
		`{"auths":{"q.io":{"auth":["` + testSecret + `"]}}}`,
		`{"auths":{"q.io":{"auth":"!` + testSecret + `"}}}`,
		`{"auths":{"q.io":{"auth":"` + auth64(testSecret) + `"}}}`,
	} {
		writeFile(t, file, text)
		_, err := lookup(t, "q.io", "x", file)
		wantError(t, err, errs.Invalid, file)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("secret in %v", err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := lookup(t, "q.io", "x", file); err == nil {
		t.Error("a folder was read as a file")
	}
	if got, err := lookup(t, "q.io", "x", os.DevNull); err != nil || !got.empty() {
		t.Errorf("/dev/null: %v, %v", got, err)
	}
}

// helper puts a program docker-credential-NAME into PATH.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, helperPrefix+name)
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestHelpers(t *testing.T) {
	helper(t, "good", `read -r server; echo "{\"ServerURL\":\"$server\",\"Username\":\"for $1 $server\",\"Secret\":\"s\"}"`)
	helper(t, "token", `echo '{"Username":"<token>","Secret":"idt"}'`)
	helper(t, "none", `echo 'credentials not found in native keychain'; exit 1`)
	helper(t, "angry", `echo 'keyring is locked'; exit 3`)
	helper(t, "leaky", `echo '{"Secret":"`+testSecret+`"}'; exit 3`)
	helper(t, "garbled", `echo '{"Secret":"`+testSecret+`'`)
	helper(t, "endless", `exec yes '`+testSecret+`'`)
	file := filepath.Join(t.TempDir(), "config.json")
	use := func(text, registry string) (Credential, error) {
		writeFile(t, file, text)
		return Keychain{Files: []string{file}, HelperTimeout: 100 * time.Millisecond}.Lookup(t.Context(), registry, "x")
	}
	patient := func(text, registry string) (Credential, error) {
		writeFile(t, file, text)
		return lookup(t, registry, "x", file)
	}

	got, err := patient(`{"credHelpers":{"q.io":"good"},"auths":{"q.io":{"auth":"`+auth64("not:me")+`"}}}`, "q.io")
	if err != nil || got.Username != "for get q.io" || got.Password != "s" || !strings.Contains(got.Origin, "docker-credential-good") {
		t.Errorf("credHelpers: %v, %v", got, err)
	}
	got, err = patient(`{"credsStore":"good"}`, "docker.io")
	if err != nil || got.Username != "for get https://index.docker.io/v1/" {
		t.Errorf("credsStore: %v, %v", got, err)
	}
	got, err = patient(`{"credsStore":"token"}`, "q.io")
	if err != nil || got.IdentityToken != "idt" || got.Username != "" {
		t.Errorf("token: %v, %v", got, err)
	}
	for _, name := range []string{"good", "none"} {
		got, err = patient(`{"credHelpers":{"other.io":"good"},"credsStore":"none"}`, "q.io")
		if err != nil || !got.empty() {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	// The helper for all registries may fail, the one for this registry may not.
	for name, says := range map[string]string{"missing": "not in PATH", "angry": "keyring is locked", "leaky": "exit status 3", "garbled": "JSON", "../x": "slash"} {
		got, err = patient(`{"credsStore":"`+name+`"}`, "q.io")
		if err != nil || !got.empty() || !strings.Contains(got.Origin, says) || strings.Contains(got.Origin, testSecret) {
			t.Errorf("credsStore %s: %v, %v", name, got, err)
		}
		_, err = patient(`{"credHelpers":{"q.io":"`+name+`"}}`, "q.io")
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), testSecret) {
			t.Errorf("credHelpers %s: %v", name, err)
		}
	}
	_, err = use(`{"credHelpers":{"q.io":"endless"}}`, "q.io")
	if err == nil || !strings.Contains(err.Error(), "did not answer") || strings.Contains(err.Error(), testSecret) {
		t.Errorf("endless: %v", err)
	}
}

func TestAuthFiles(t *testing.T) {
	tests := []struct {
		env  map[string]string
		want []string
	}{
		{map[string]string{"HOME": "/h"}, []string{"/run/containers/0/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"}},
		{map[string]string{"HOME": "/h", "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"},
			[]string{"/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"}},
		{map[string]string{"HOME": "/h", "REGISTRY_AUTH_FILE": "/a"}, []string{"/a"}},
		{nil, []string{"/run/containers/0/auth.json"}},
	}
	for _, tt := range tests {
		if got := AuthFiles(func(k string) string { return tt.env[k] }, 0); !slices.Equal(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.env, got, tt.want)
		}
	}
}
