package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"github.com/cortenhq/corten/internal/errs"
)

// errIdle is the cause of a request that was given up because no byte came for too long.
var errIdle = errors.New("no data for too long")

// connError says what went wrong between this machine and host, and whether a second try
// makes sense.
func connError(host string, err error) (e error, again bool) {
	var known *errs.Error
	if errors.As(err, &known) {
		return err, false
	}
	var (
		dns    *net.DNSError
		record tls.RecordHeaderError
		op     *net.OpError
	)
	fail := func(kind errs.Kind, text, hint string) *errs.Error {
		return errs.Newf(kind, "", host, text).WithHint(hint)
	}
	switch {
	case err == context.Canceled, err == context.DeadlineExceeded: // not net/http's own timeouts, which claim to be the latter
		return errs.New(errs.Canceled, "", host, err), false
	case errors.As(err, &dns):
		return fail(errs.Unavailable, "the name cannot be resolved: "+dns.Err, "check the registry's name, the network and /etc/resolv.conf"), dns.IsTemporary || dns.IsTimeout
	case errors.As(err, &record) && speaksPlain(err):
		return fail(errs.Unavailable, "the server speaks plain http where https was expected",
			"if that is intended, mark the registry insecure in Corten's registries.json"), false
	case isCertError(err):
		return fail(errs.Denied, "the server's certificate is not trusted: "+clean(err.Error()),
			"put the authority's certificate into /etc/containers/certs.d/"+host+"/ca.crt"), false
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return fail(errs.Denied, "the server refuses the TLS connection: "+clean(op.Err.Error()),
			"if it wants a client certificate, put NAME.cert and NAME.key into /etc/containers/certs.d/"+host+"/"), false
	case op != nil && op.Op == "proxyconnect":
		return fail(errs.Unavailable, "the proxy does not answer: "+clean(err.Error()), "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"), true
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(errs.Unavailable, "the connection was refused", "check the registry's name and port, and that it is running"), true
	}
	return fail(errs.Unavailable, clean(err.Error()), "check the network; trying again may help"), true
}

// speaksPlain: did the answer to a TLS greeting begin like an HTTP response?
func speaksPlain(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/"
}

func isCertError(err error) bool {
	var (
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &name) || errors.As(err, &invalid)
}

// passing reports whether a status may be another one soon.
func passing(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// serverError is the body of an error response (distribution-spec, "Error Codes").
type serverError struct {
	Errors []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
	Details string `json:"details"` // token servers
}

// statusError turns a response that is not a success into an error and closes its body.
// origin says which credentials were used, for the hint.
func statusError(resp *http.Response, ep endpoint, origin string) error {
	defer resp.Body.Close()
	code, message := readServerError(resp)
	text := "the server answered " + strconv.Itoa(resp.StatusCode)
	if t := http.StatusText(resp.StatusCode); t != "" {
		text += " " + t
	}
	if message != "" {
		text += ": " + message
	}
	kind, hint := errs.Other, ""
	switch s := resp.StatusCode; {
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		kind = errs.Denied
		hint = origin + "; check the name too: a registry answers the same for a repository that does not exist"
	case s == http.StatusNotFound && code == "NAME_UNKNOWN":
		kind, text, hint = errs.NotFound, "the repository does not exist", "check the name for a typing error"
	case s == http.StatusNotFound:
		kind, text, hint = errs.NotFound, "not found in "+ep.name(), "check the tag or digest"
	case s == http.StatusTooManyRequests:
		kind, hint = errs.Unavailable, "the registry limits how much is pulled: wait, or use credentials with a higher limit; "+origin
		if after := resp.Header.Get("Retry-After"); after != "" {
			hint = "the registry asks to wait " + clean(after) + " s; " + hint
		}
	case s == http.StatusBadRequest && strings.HasSuffix(code, "_INVALID"):
		kind, hint = errs.Invalid, "check the name"
	case s >= 500 || passing(s):
		kind, hint = errs.Unavailable, "the trouble is on the server's side; trying again may help"
	case s >= 300 && s < 400:
		hint = "the server redirects in a way that cannot be followed"
	}
	return errs.Newf(kind, "", ep.host, text).WithHint(hint)
}

func readServerError(resp *http.Response) (code, message string) {
	const most = 64 << 10 // bytes of an error's body that are looked at
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return "", ""
	}
	var doc serverError
	if json.Unmarshal(body, &doc) != nil {
		return "", ""
	}
	if len(doc.Errors) == 0 {
		return "", clean(doc.Details)
	}
	return doc.Errors[0].Code, clean(doc.Errors[0].Message)
}

// clean makes one short line of text that a server chose.
func clean(s string) string {
	const most = 200 // bytes
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return ' '
		}
		return c
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return strings.TrimSpace(s)
}
