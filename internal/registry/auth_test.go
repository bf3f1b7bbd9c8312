package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

const (
	testUser   = "alice"
	testSecret = "hunter2-secret"
	testIDT    = "refresh-me-secret"
	testPrefix = "issued-secret-" // of the tokens that tokenServer gives
)

// tokenServer is a registry behind bearer tokens, and the server that gives them.
type tokenServer struct {
	rig       // the token server's own requests
	registry  http.Handler
	challenge func(r *http.Request) string // WWW-Authenticate; "" for the usual
	anonymous bool                         // tokens without credentials

	mu     sync.Mutex
	valid  map[string]bool
	issued int
	forms  []string
	host   string
}

func newTokenServer(t *testing.T, registry http.Handler) *tokenServer {
	s := &tokenServer{registry: registry, valid: map[string]bool{}}
	s.next = http.HandlerFunc(s.serve)
	s.host = serve(t, s)
	return s
}

func (s *tokenServer) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		s.token(w, r)
		return
	}
	s.mu.Lock()
	ok := s.valid[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	s.mu.Unlock()
	if ok {
		s.registry.ServeHTTP(w, r)
		return
	}
	ch := fmt.Sprintf(`Bearer realm="http://%s/token",service="svc",scope="repository:%s:pull"`, s.host, repoOf(r.URL.Path))
	if s.challenge != nil {
		ch = s.challenge(r)
	}
	w.Header().Set("WWW-Authenticate", ch)
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
}

func repoOf(path string) string {
	path = strings.TrimPrefix(path, "/v2/")
	for _, part := range []string{"/manifests/", "/blobs/"} {
		path, _, _ = strings.Cut(path, part)
	}
	return path
}

func (s *tokenServer) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	user, password, basic := r.BasicAuth()
	ok := s.anonymous && !basic && r.Method == http.MethodGet ||
		basic && user == testUser && password == testSecret && r.Method == http.MethodGet ||
		r.Method == http.MethodPost && r.Form.Get("refresh_token") == testIDT && r.Form.Get("grant_type") == "refresh_token"
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forms = append(s.forms, r.Method+" "+r.Form.Get("service")+" "+r.Form.Get("scope"))
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"details":"wrong password %s or token %s"}`, password, r.Form.Get("refresh_token"))
		return
	}
	s.issued++
	token := testPrefix + strconv.Itoa(s.issued)
	s.valid[token] = true
	key := "token"
	if r.Method == http.MethodPost {
		key = "access_token"
	}
	json.NewEncoder(w).Encode(map[string]any{key: token, "expires_in": 300})
}

// revoke makes all tokens useless, as their expiry does.
func (s *tokenServer) revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.valid)
}

func fixed(c Credential) Auth {
	return func(context.Context, string, string) (Credential, error) { return c, nil }
}

func TestTokenAuth(t *testing.T) {
	registry := newRegistry()
	push(t, serve(t, registry)+"/a/b:1", 1000, 4)
	tests := []struct {
		name      string
		cred      Credential
		anonymous bool
		form      string // of the token request
	}{
		{"anonymous", Credential{}, true, "GET svc repository:a/b:pull"},
		{"password", Credential{Username: testUser, Password: testSecret}, false, "GET svc repository:a/b:pull"},
		{"identity token", Credential{IdentityToken: testIDT}, false, "POST svc repository:a/b:pull"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTokenServer(t, registry)
			s.anonymous = tt.anonymous
			c := newClient(t, Config{Auth: fixed(tt.cred)})
			for range 2 {
				if _, err := pull(t.Context(), c, mustRef(t, s.host+"/a/b:1")); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Equal(s.forms, []string{tt.form}) {
				t.Errorf("token requests %q, want one %q", s.forms, tt.form)
			}
		})
	}
}

func TestRegistryToken(t *testing.T) {
	registry := newRegistry()
	push(t, serve(t, registry)+"/a/b:1", 1000, 1)
	s := newTokenServer(t, registry)
	s.valid["ready-made"] = true
	c := newClient(t, Config{Auth: fixed(Credential{RegistryToken: "ready-made"})})
	if _, err := pull(t.Context(), c, mustRef(t, s.host+"/a/b:1")); err != nil {
		t.Fatal(err)
	}
	if s.issued != 0 {
		t.Errorf("%d tokens were asked for", s.issued)
	}
}

// A token that runs out is replaced: by the clock before it is used, by the server's
// refusal after. Many readers at once cause one request.
func TestTokenExpiry(t *testing.T) {
	h, _, desc := blobServer(1000)
	s := newTokenServer(t, h)
	s.anonymous = true
	c := newClient(t, Config{})
	ref := mustRef(t, s.host+"/x")
	if err := readBlob(t.Context(), c, ref, desc); err != nil {
		t.Fatal(err)
	}
	for _, expire := range []func(){
		s.revoke,
		func() { c.authorizer(newEndpoint(ref.Name(), false, false)).expires = time.Now() },
	} {
		expire()
		before := s.issued
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := readBlob(t.Context(), c, ref, desc); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s.issued != before+1 {
			t.Errorf("%d tokens were issued, want 1", s.issued-before)
		}
	}
}

func TestReadToken(t *testing.T) {
	tests := []struct {
		body  string
		token string
		life  time.Duration // 0: refused
	}{
		{`{"token":"a"}`, "a", defaultTokenLife - tokenMargin},
		{`{"access_token":"b","expires_in":300}`, "b", 300*time.Second - tokenMargin},
		{`{"token":"a","access_token":"b","expires_in":10}`, "a", 5 * time.Second},
		{`{"token":"a","expires_in":9999999999}`, "a", 24*time.Hour - tokenMargin},
		{`{"token":"a","issued_at":"2001-01-01T00:00:00Z"}`, "a", defaultTokenLife - tokenMargin},
		{`{"token":""}`, "", 0},
		{`{"token":"a\nb"}`, "", 0},
		{`<html>`, "", 0},
	}
	for _, tt := range tests {
		before := time.Now()
		token, expires, err := readToken(strings.NewReader(tt.body), "h")
		if tt.life == 0 {
			if err == nil {
				t.Errorf("%s: token %q", tt.body, token)
			}
			continue
		}
		if err != nil || token != tt.token || expires.Before(before.Add(tt.life)) || expires.After(time.Now().Add(tt.life)) {
			t.Errorf("%s: %q %v %v", tt.body, token, expires.Sub(before), err)
		}
	}
}

// Refusals say which credentials were used or where they were looked for.
func TestDenied(t *testing.T) {
	s := newTokenServer(t, newRegistry())
	ref := mustRef(t, s.host+"/a/b:1")
	_, _, err := newClient(t, Config{Auth: fixed(Credential{Origin: "looked in /some/file"})}).Resolve(t.Context(), ref)
	wantError(t, err, errs.Denied, "401", "looked in /some/file", s.host)
	_, _, err = newClient(t, Config{}).Resolve(t.Context(), ref)
	wantError(t, err, errs.Denied, "no credentials are configured")

	wrong := Credential{Username: testUser, Password: "wrong-secret", Origin: "those of alice"}
	_, _, err = newClient(t, Config{Auth: fixed(wrong)}).Resolve(t.Context(), ref)
	wantError(t, err, errs.Denied, "those of alice", "wrong password ***")

	basic := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	_, _, err = newClient(t, Config{Auth: fixed(wrong)}).Resolve(t.Context(), mustRef(t, basic+"/a"))
	wantError(t, err, errs.Denied, "those of alice")
	_, _, err = newClient(t, Config{}).Resolve(t.Context(), mustRef(t, basic+"/a"))
	wantError(t, err, errs.Denied, "no credentials are configured")
}

func TestStrangeChallenges(t *testing.T) {
	for _, tt := range []struct {
		challenge string
		kind      errs.Kind
		says      string
	}{
		{"Negotiate", errs.Unsupported, "neither Bearer nor Basic"},
		{`Bearer service="x"`, errs.Unsupported, "token server"},
		{`Bearer realm="file:///etc/passwd"`, errs.Unsupported, "token server"},
		{`Bearer realm="http://token.example/x"`, errs.Denied, "plain http"},
	} {
		s := newTokenServer(t, newRegistry())
		s.challenge = func(*http.Request) string { return tt.challenge }
		c := newClient(t, Config{Auth: fixed(Credential{Username: testUser, Password: testSecret})})
		_, _, err := c.Resolve(t.Context(), mustRef(t, s.host+"/a"))
		wantError(t, err, tt.kind, tt.says)
	}
}

// The credentials of a registry do not follow a redirect to another server, and come back
// with one that leads back.
func TestRedirect(t *testing.T) {
	h, _, desc := blobServer(1000)
	cdn := &rig{next: h}
	cdnHost := serve(t, cdn)
	s := newTokenServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+cdnHost+"/v2/x/blobs/y?signature=signed-secret", http.StatusTemporaryRedirect)
	}))
	c := newClient(t, Config{Auth: fixed(Credential{Username: testUser, Password: testSecret})})
	if err := readBlob(t.Context(), c, mustRef(t, s.host+"/x"), desc); err != nil {
		t.Fatal(err)
	}
	for _, h := range cdn.heads {
		if h.Get("Authorization") != "" {
			t.Errorf("the other server was sent %q", h.Get("Authorization"))
		}
	}
	// A signed address is a secret too.
	cdn.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	err := readBlob(t.Context(), c, mustRef(t, s.host+"/x"), desc)
	wantError(t, err, errs.Denied)
	if strings.Contains(err.Error()+errs.HintOf(err), "signed-secret") {
		t.Errorf("secret in %v", err)
	}
}

// Nor can the other server ask for them.
func TestRedirectChallenge(t *testing.T) {
	thief := &rig{next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
		w.WriteHeader(http.StatusUnauthorized)
	})}
	thiefHost := serve(t, thief)
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+thiefHost+"/x", http.StatusFound)
	}))
	c := newClient(t, Config{Auth: fixed(Credential{Username: testUser, Password: testSecret})})
	_, _, err := c.Resolve(t.Context(), mustRef(t, host+"/a"))
	wantError(t, err, errs.Denied)
	if thief.count("GET /token") != 0 {
		t.Error("the other server's token realm was asked")
	}
}

func TestRedirectLoop(t *testing.T) {
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
	}))
	_, _, err := newClient(t, Config{}).Resolve(t.Context(), mustRef(t, host+"/a"))
	if err == nil || !strings.Contains(err.Error(), "circle") {
		t.Error(err)
	}
}

// From https no redirect leads to plain http.
func TestRedirectDowngrade(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
	}))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "https://")
	c := newClient(t, Config{CertDirs: []string{trust(t, s, host)}})
	_, _, err := c.Resolve(t.Context(), mustRef(t, host+"/a"))
	wantError(t, err, errs.Denied, "without TLS")
}

// Whatever goes wrong, no secret is in what a user or a log gets to see.
func TestNoSecretsInErrors(t *testing.T) {
	secrets := []string{testSecret, testIDT, testPrefix, "YWxpY2U6"} // the last is base64 of "alice:"
	creds := []Credential{
		{Username: testUser, Password: testSecret},
		{Username: testUser, Password: testSecret + "-wrong"},
		{IdentityToken: testIDT}, {IdentityToken: testIDT + "-wrong"}, {RegistryToken: testSecret},
	}
	faults := []func(w http.ResponseWriter, r *http.Request, n int) bool{
		nil,
		func(w http.ResponseWriter, r *http.Request, n int) bool { w.WriteHeader(503); return true },
		func(w http.ResponseWriter, r *http.Request, n int) bool { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, r *http.Request, n int) bool {
			if r.URL.Path == "/token" {
				fmt.Fprintf(w, `{"token":"%s`, testPrefix) // ends too early
			}
			return r.URL.Path == "/token"
		},
		func(w http.ResponseWriter, r *http.Request, n int) bool {
			if r.URL.Path == "/token" {
				panic(http.ErrAbortHandler)
			}
			return false
		},
	}
	for i, fault := range faults {
		for j, cred := range creds {
			s := newTokenServer(t, newRegistry())
			s.fault = fault
			said := ""
			c := newClient(t, Config{Auth: fixed(cred), Progress: func(e Event) { said += fmt.Sprint(e) }})
			_, _, err := c.Resolve(t.Context(), mustRef(t, s.host+"/a"))
			if err == nil {
				t.Fatalf("fault %d, credential %d: no error", i, j)
			}
			said += fmt.Sprintf("%v %+v %#v %s", err, err, err, errs.HintOf(err))
			for _, secret := range secrets {
				if strings.Contains(said, secret) {
					t.Errorf("fault %d, credential %d: secret %q in %s", i, j, secret, said)
				}
			}
		}
	}
}

// A credential itself can be printed and logged.
func TestSecretPrints(t *testing.T) {
	cred := Credential{Username: "u", Password: testSecret, IdentityToken: testSecret, RegistryToken: testSecret}
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb, cred)
		fmt.Fprintf(&b, verb, cred.Password)
		fmt.Fprintf(&b, verb, &cred)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "cred", cred, "secret", cred.Password)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "cred", cred, "secret", cred.Password)
	text, err := json.Marshal(cred)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(text)
	for _, s := range []string{testSecret, fmt.Sprintf("%x", testSecret)} {
		if strings.Contains(b.String(), s) {
			t.Errorf("%q in %s", s, b.String())
		}
	}
}

func TestParseChallenges(t *testing.T) {
	tests := []struct {
		in   []string
		want []challenge
	}{
		{[]string{`Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"`},
			[]challenge{{"bearer", map[string]string{"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"}}}},
		{[]string{`Basic realm="x y"`, `BEARER Realm = "z"`},
			[]challenge{{"basic", map[string]string{"realm": "x y"}}, {"bearer", map[string]string{"realm": "z"}}}},
		{[]string{`Basic realm="a", Bearer realm=b , service="c\"d"`},
			[]challenge{{"basic", map[string]string{"realm": "a"}}, {"bearer", map[string]string{"realm": "b", "service": `c"d`}}}},
		{[]string{`Negotiate, Basic realm="x"`}, []challenge{{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": "x"}}}},
		{[]string{`Bearer realm="open`}, []challenge{{"bearer", map[string]string{}}}},
		{[]string{``, `,`, `"`}, nil},
		{[]string{`Bearer realm="a",realm="b"`}, []challenge{{"bearer", map[string]string{"realm": "a"}}}},
	}
	for _, tt := range tests {
		if got := parseChallenges(tt.in); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %v, want %v", tt.in, got, tt.want)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service="s"`)
	f.Add(`Basic realm="a", Bearer realm=b , service="c\"d"`)
	f.Add(`Negotiate abc==, Basic`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, ch := range parseChallenges([]string{s}) {
			if ch.scheme == "" || ch.params == nil {
				t.Errorf("%q: %v", s, ch)
			}
		}
	})
}
