package registry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

// request asks an endpoint for something below /v2/REPOSITORY/.
type request struct {
	method string
	path   string // "manifests/12"
	accept string
	span   string // of the Range header; "" for the whole
	event  Event  // how progress reports call it
}

// outgoing is a request to any server.
type outgoing struct {
	method, url string
	header      http.Header
	body        string
	insecure    bool
}

const maxRedirects = 10

// do sends r to ep until it gets an answer that a further try would not change. The
// response is a success (2xx); the caller closes its body.
func (c *Client) do(ctx context.Context, ep endpoint, r request) (*http.Response, error) {
	resp, err := c.retry(ctx, ep, r.event, func() (*http.Response, error) { return c.authorized(ctx, ep, r) })
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, statusError(resp, ep, c.origin(ctx, ep))
	}
	return resp, nil
}

// origin says which credentials were used for ep.
func (c *Client) origin(ctx context.Context, ep endpoint) string {
	a := c.authorizer(ep)
	select {
	case <-ctx.Done():
		return ""
	case <-a.turn:
	}
	defer func() { a.turn <- struct{}{} }()
	return a.origin
}

// retry calls try until it succeeds, fails for good, or has failed too often. A response
// whose status will not pass is a success here.
func (c *Client) retry(ctx context.Context, ep endpoint, e Event, try func() (*http.Response, error)) (*http.Response, error) {
	attempts := c.cfg.Retry.Attempts
	if ep.mirror {
		attempts = min(attempts, 2) // there is another place to look
	}
	for n := 1; ; n++ {
		resp, err := try()
		if err == nil && !passing(resp.StatusCode) {
			return resp, nil
		}
		var again bool
		pause := c.backoff(n)
		if err != nil {
			err, again = c.judge(ep, err)
		} else {
			asked := retryAfter(resp.Header, time.Now())
			again = asked <= c.cfg.Retry.MaxDelay
			pause = max(pause, asked)
		}
		if !again || n >= attempts {
			return resp, err
		}
		if err == nil {
			err = statusError(resp, ep, "")
		}
		e.Retry = err
		c.report(e)
		if err := wait(ctx, pause); err != nil {
			return nil, errs.New(errs.Canceled, "", ep.host, err)
		}
	}
}

// judge words err; a server that never answered and refuses or ignores a connection is not
// asked again, for that is nearly always a wrong name or port.
func (c *Client) judge(ep endpoint, err error) (error, bool) {
	again := false
	host := ep.host
	var at *hostError
	if errors.As(err, &at) {
		host, err = at.host, at.err
		var op *net.OpError
		silent := errors.As(err, &op) && op.Op == "dial" && op.Timeout()
		again = at.reached || !silent && !errors.Is(err, syscall.ECONNREFUSED)
	}
	worded, passing := connError(host, err)
	return worded, again && passing
}

// hostError is a failure to exchange a request and a response header with host.
type hostError struct {
	host    string
	reached bool // it answered earlier
	err     error
}

func (e *hostError) Error() string { return e.host + ": " + e.err.Error() }
func (e *hostError) Unwrap() error { return e.err }

// backoff is the pause after the n-th failure: by chance up to half of it less, so that many
// clients which were cut off together do not come back together.
func (c *Client) backoff(n int) time.Duration {
	d := c.cfg.Retry.Delay << min(n-1, 16)
	if d <= 0 || d > c.cfg.Retry.MaxDelay {
		d = c.cfg.Retry.MaxDelay
	}
	return d/2 + rand.N(d/2+1)
}

// retryAfter reads the header of that name: seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// authorized sends r with the authorization known for ep, and once more with a new one if
// the server asks for it.
func (c *Client) authorized(ctx context.Context, ep endpoint, r request) (*http.Response, error) {
	header, err := c.authorization(ctx, ep, "", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.ask(ctx, ep, r, header)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	ch := parseChallenges(resp.Header.Values("WWW-Authenticate"))
	if len(ch) == 0 || resp.Request.URL.Host != ep.host {
		return resp, nil // a server that ep redirects to has no right to ep's credentials
	}
	fresh, err := c.authorization(ctx, ep, header, ch)
	if err != nil || fresh == "" || fresh == header {
		if err != nil {
			resp.Body.Close()
			return nil, err
		}
		return resp, nil
	}
	drain(resp)
	return c.ask(ctx, ep, r, fresh)
}

// ask sends r to ep over https, or over http where that is allowed and https turned out
// not to be spoken.
func (c *Client) ask(ctx context.Context, ep endpoint, r request, authorization string) (*http.Response, error) {
	h, err := c.host(ep.host, ep.insecure)
	if err != nil {
		return nil, err
	}
	rq := outgoing{method: r.method, header: http.Header{}, insecure: ep.insecure}
	if r.accept != "" {
		rq.header.Set("Accept", r.accept)
	}
	if authorization != "" {
		rq.header.Set("Authorization", authorization)
	}
	if r.span != "" {
		rq.header.Set("Range", r.span)
	}
	rest := "://" + ep.host + "/v2/" + ep.repo + "/" + r.path
	if !h.plain.Load() {
		rq.url = "https" + rest
		resp, err := c.send(ctx, rq)
		if err == nil || !ep.plainAllowed() || !wantsPlain(ep.host, err) {
			return resp, err
		}
	}
	rq.url = "http" + rest
	resp, err := c.send(ctx, rq)
	if err == nil {
		h.plain.Store(true)
	}
	return resp, err
}

// wantsPlain: the server answered TLS with plain http, or nothing listens at the port that
// https has when none is given.
func wantsPlain(host string, err error) bool {
	at := &hostError{}
	if !errors.As(err, &at) || at.host != host {
		return false
	}
	noPort := !strings.Contains(host[strings.LastIndexByte(host, ']')+1:], ":")
	return speaksPlain(err) || noPort && errors.Is(err, syscall.ECONNREFUSED)
}

// send sends rq and follows redirects. The credentials go to the first server only; so do
// the certificates that belong to it, for each server has its own transport.
func (c *Client) send(ctx context.Context, rq outgoing) (*http.Response, error) {
	at, err := url.Parse(rq.url)
	if err != nil {
		return nil, errs.Newf(errs.Invalid, "ask", "", "the address is not valid")
	}
	origin := *at
	for range maxRedirects {
		header := rq.header
		if at.Host != origin.Host || at.Scheme != origin.Scheme {
			header = header.Clone()
			header.Del("Authorization")
		}
		resp, err := c.exchange(ctx, at, rq, header)
		if err != nil {
			return nil, err
		}
		next, ok := redirect(resp, at, rq.method)
		if !ok {
			return resp, nil
		}
		drain(resp)
		if next.Scheme != "https" && origin.Scheme == "https" && !rq.insecure {
			return nil, errs.Newf(errs.Denied, "", at.Host, "the server redirects to "+clean(next.Host)+" without TLS").
				WithHint("if that is intended, mark the registry insecure in Corten's registries.json")
		}
		at = next
	}
	return nil, errs.Newf(errs.Unavailable, "", origin.Host, "the server redirects in a circle")
}

// redirect returns where resp sends the client on to. Only requests without a body follow.
func redirect(resp *http.Response, at *url.URL, method string) (*url.URL, bool) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, false
	}
	location := resp.Header.Get("Location")
	if location == "" || method != http.MethodGet && method != http.MethodHead {
		return nil, false
	}
	next, err := at.Parse(location)
	if err != nil || next.Host == "" || next.Scheme != "https" && next.Scheme != "http" {
		return nil, false
	}
	next.User = nil // not ours, and not to be sent as ours
	return next, true
}

// exchange sends one request to one server. The response's body fails when no byte comes
// for the idle time.
func (c *Client) exchange(ctx context.Context, at *url.URL, rq outgoing, header http.Header) (*http.Response, error) {
	h, err := c.host(at.Host, rq.insecure)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, rq.method, at.String(), strings.NewReader(rq.body))
	if err != nil {
		cancel(nil)
		return nil, errs.Newf(errs.Invalid, "ask", clean(at.Host), "the address is not valid")
	}
	if rq.body == "" {
		req.Body = http.NoBody
	}
	req.Header = header.Clone()
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := h.transport.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, &hostError{host: at.Host, reached: h.reached.Load(), err: err}
	}
	h.reached.Store(true)
	resp.Body = &watchedBody{rc: resp.Body, ctx: ctx, cancel: cancel, idle: c.cfg.IdleTimeout}
	return resp, nil
}

// watchedBody cancels its request when one Read waits longer than idle. The time that the
// reader spends elsewhere does not count.
type watchedBody struct {
	rc     io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   time.Duration
	timer  *time.Timer
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.timer == nil {
		b.timer = time.AfterFunc(b.idle, func() { b.cancel(errIdle) })
	} else {
		b.timer.Reset(b.idle)
	}
	n, err := b.rc.Read(p)
	b.timer.Stop()
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.rc.Close()
	b.cancel(nil)
	return err
}

// drain reads the rest of a short body, so that its connection can be used again.
func drain(resp *http.Response) {
	const most = 64 << 10                                // bytes; a longer one costs more than a new connection
	io.Copy(io.Discard, io.LimitReader(resp.Body, most)) //nolint:errcheck // the content is of no interest
	resp.Body.Close()
}
