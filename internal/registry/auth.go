package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

// Auth looks the credentials for a repository up, when the registry has asked for some.
// Having none is not an error; then Credential.Origin says where they were looked for.
type Auth func(ctx context.Context, registry, repository string) (Credential, error)

// Credential is what someone is known by at a registry. At most one of the secrets is used:
// RegistryToken, else IdentityToken, else Password.
type Credential struct {
	Username      string
	Password      Secret
	IdentityToken Secret // an OAuth2 refresh token
	RegistryToken Secret // a bearer token, ready to use
	Origin        string // for messages: where this came from, or where nothing was found
}

// Secret is a string that prints as stars, whatever it is printed with.
type Secret string

// Format hides the secret from package fmt.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "***") } //nolint:errcheck // fmt.State keeps its own errors

// MarshalText hides the secret from encoders and from package slog.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

func (c Credential) empty() bool {
	return c.Username == "" && c.Password == "" && c.IdentityToken == "" && c.RegistryToken == ""
}

// hide replaces the secrets in a text that a server wrote.
func (c Credential) hide(s string) string {
	for _, secret := range []Secret{c.Password, c.IdentityToken, c.RegistryToken} {
		if len(secret) >= 4 { // a shorter one would blank out ordinary words
			s = strings.ReplaceAll(s, string(secret), "***")
		}
	}
	return s
}

type authKey struct {
	host, repo string
	insecure   bool
}

// authorizer keeps the Authorization header for one repository of one server.
type authorizer struct {
	turn    chan struct{} // holds one value: whoever took it may read and change what follows
	header  string
	expires time.Time // zero: never
	asked   challenge // how the server wants it
	origin  string    // of the credentials
}

// These bound the life of a token (distribution's token specification: expires_in is 60
// seconds unless it says otherwise).
const (
	defaultTokenLife = 60 * time.Second
	tokenMargin      = 10 * time.Second // a token is not used in its last seconds
	maxTokenBytes    = 1 << 20          // of a token server's answer
)

func (c *Client) authorizer(ep endpoint) *authorizer {
	key := authKey{ep.host, ep.repo, ep.insecure}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.auths[key]
	if a == nil {
		a = &authorizer{turn: make(chan struct{}, 1), origin: "no credentials were used"}
		a.turn <- struct{}{}
		c.auths[key] = a
	}
	return a
}

// authorization returns the header to send, "" for none. The first request of a repository
// goes without; stale is the header that the server just refused with the challenges ch, so
// that of several readers whose token ran out only one fetches the next.
func (c *Client) authorization(ctx context.Context, ep endpoint, stale string, ch []challenge) (string, error) {
	a := c.authorizer(ep)
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-a.turn:
	}
	defer func() { a.turn <- struct{}{} }()
	fresh := a.header != "" && (a.expires.IsZero() || time.Now().Before(a.expires))
	if ch == nil {
		if fresh || a.header == "" {
			return a.header, nil
		}
	} else {
		if fresh && a.header != stale {
			return a.header, nil
		}
		best, ok := pick(ch)
		if !ok {
			return "", errs.Newf(errs.Unsupported, "authenticate at", ep.host, "the server offers neither Bearer nor Basic authentication").
				WithHint("check that the address is that of a registry")
		}
		a.asked = best
	}
	return a.header, c.renew(ctx, ep, a)
}

// renew gets a new header by a.asked. The caller has a's turn.
func (c *Client) renew(ctx context.Context, ep endpoint, a *authorizer) error {
	cred := Credential{Origin: "no credentials are configured"}
	if c.cfg.Auth != nil {
		var err error
		if cred, err = c.cfg.Auth(ctx, ep.registry, ep.repo); err != nil {
			return err
		}
	}
	a.origin = cred.Origin
	a.header, a.expires = "", time.Time{}
	switch {
	case cred.RegistryToken != "":
		a.header = "Bearer " + string(cred.RegistryToken)
	case a.asked.scheme == "bearer":
		token, expires, err := c.fetchToken(ctx, ep, a.asked, cred)
		if err != nil {
			return err
		}
		a.header, a.expires = "Bearer "+token, expires
	case !cred.empty():
		a.header = basic(cred)
	}
	return nil
}

func basic(cred Credential) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(cred.Username+":"+string(cred.Password)))
}

// fetchToken asks the server named in the challenge for a token: with POST for a refresh
// token, with GET otherwise (distribution's "token" and "oauth" specifications).
func (c *Client) fetchToken(ctx context.Context, ep endpoint, ch challenge, cred Credential) (string, time.Time, error) {
	realm, err := url.Parse(ch.params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" {
		return "", time.Time{}, errs.Newf(errs.Unsupported, "authenticate at", ep.host, "the server names no usable token server").
			WithHint("check that the address is that of a registry")
	}
	if realm.Scheme == "http" && !ep.insecure && !isLoopback(realm.Host) {
		return "", time.Time{}, errs.Newf(errs.Denied, "authenticate at", ep.host, "the token server "+clean(realm.Host)+" speaks plain http").
			WithHint("if that is intended, mark the registry insecure in Corten's registries.json")
	}
	rq := tokenRequest(realm, ep, ch, cred)
	resp, err := c.retry(ctx, ep, Event{Object: "token from " + realm.Host}, func() (*http.Response, error) { return c.send(ctx, rq) })
	if err != nil {
		return "", time.Time{}, errs.Wrap("get token", "", err)
	}
	if resp.StatusCode != http.StatusOK {
		at := endpoint{host: clean(realm.Host), registry: ep.registry, repo: ep.repo}
		return "", time.Time{}, errs.Wrap("get token", "", hideIn(statusError(resp, at, cred.Origin), cred))
	}
	defer resp.Body.Close()
	return readToken(resp.Body, realm.Host)
}

// tokenRequest builds the request; only one to an https server, or to one that may be
// spoken to in plain http, is ever built.
func tokenRequest(realm *url.URL, ep endpoint, ch challenge, cred Credential) outgoing {
	scope := ch.params["scope"]
	if scope == "" {
		scope = "repository:" + ep.repo + ":pull"
	}
	q := url.Values{"scope": strings.Fields(scope)}
	if s := ch.params["service"]; s != "" {
		q.Set("service", s)
	}
	rq := outgoing{method: http.MethodGet, header: http.Header{}, insecure: ep.insecure}
	if cred.IdentityToken != "" {
		q.Set("scope", scope)
		q.Set("grant_type", "refresh_token")
		q.Set("client_id", "corten")
		q.Set("refresh_token", string(cred.IdentityToken))
		rq.method, rq.url, rq.body = http.MethodPost, realm.String(), q.Encode()
		rq.header.Set("Content-Type", "application/x-www-form-urlencoded")
		return rq
	}
	if !cred.empty() {
		q.Set("account", cred.Username)
		rq.header.Set("Authorization", basic(cred))
	}
	full := *realm
	for key, values := range full.Query() {
		for _, v := range values {
			q.Add(key, v)
		}
	}
	full.RawQuery = q.Encode()
	rq.url = full.String()
	return rq
}

func readToken(body io.Reader, host string) (string, time.Time, error) {
	var doc struct {
		Token       string    `json:"token"`
		AccessToken string    `json:"access_token"`
		ExpiresIn   int64     `json:"expires_in"` // seconds
		IssuedAt    time.Time `json:"issued_at"`
	}
	bad := func(text string) (string, time.Time, error) {
		return "", time.Time{}, errs.Newf(errs.Corrupt, "get token", clean(host), text)
	}
	// The decoder's own error could quote the token.
	if json.NewDecoder(io.LimitReader(body, maxTokenBytes)).Decode(&doc) != nil {
		return bad("the answer is not the JSON object of a token server")
	}
	token := doc.Token
	if token == "" {
		token = doc.AccessToken
	}
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return bad("the answer holds no usable token")
	}
	life := defaultTokenLife
	if doc.ExpiresIn > 0 {
		life = time.Duration(min(doc.ExpiresIn, 86400)) * time.Second
	}
	// Counted from now and not from issued_at, for the two clocks may differ.
	return token, time.Now().Add(life - min(tokenMargin, life/2)), nil
}

// hideIn removes the secrets from what a server said about them.
func hideIn(err error, cred Credential) error {
	e, ok := err.(*errs.Error)
	if !ok || e.Err == nil {
		return err
	}
	return errs.Newf(e.Kind, e.Op, e.Object, cred.hide(e.Err.Error())).WithHint(cred.hide(e.Hint))
}
