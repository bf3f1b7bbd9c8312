package registry

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

// fetch reads a blob whole.
func fetch(t *testing.T, c *Client, host string, desc oci.Descriptor) ([]byte, error) {
	t.Helper()
	r, err := c.Blob(t.Context(), mustRef(t, host+"/x"), desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Whatever byte a connection is cut at, and whether or not the server knows ranges, every
// byte arrives once.
func TestBlobResume(t *testing.T) {
	const size = 300_000
	for _, ranges := range []string{"ranges", "no ranges"} {
		for _, cut := range []int{0, 1, 511, goodRun, goodRun + 1, size / 2, size - 1} {
			t.Run(ranges+" "+strconv.Itoa(cut), func(t *testing.T) {
				h, data, desc := blobServer(size)
				g := &rig{next: h}
				g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
					if ranges == "no ranges" {
						r.Header.Del("Range")
					}
					if n < 2 {
						g.next.ServeHTTP(&cutWriter{w, cut}, r)
						return true
					}
					return false
				}
				host := serve(t, g)
				retries := 0
				c := newClient(t, Config{Progress: func(e Event) {
					if e.Retry != nil {
						retries++
					}
				}})
				got, err := fetch(t, c, host, desc)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				if retries == 0 {
					t.Error("no retry was reported")
				}
				if cut > 0 && g.heads[1].Get("Range") != "bytes="+strconv.Itoa(cut)+"-"+strconv.Itoa(size-1) {
					t.Errorf("second request: Range %q", g.heads[1].Get("Range"))
				}
			})
		}
	}
}

// The same through readers that take odd amounts, as the io package's own tester demands.
func TestBlobReader(t *testing.T) {
	h, data, desc := blobServer(20_000)
	g := &rig{next: h}
	g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		g.next.ServeHTTP(&cutWriter{w, 7_000}, r)
		return true
	}
	host := serve(t, g)
	r, err := newClient(t, Config{}).Blob(t.Context(), mustRef(t, host+"/x"), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(r, data); err != nil {
		t.Error(err)
	}
}

// A server that keeps cutting is given up, and what was said is that.
func TestBlobGivesUp(t *testing.T) {
	h, _, desc := blobServer(300_000)
	g := &rig{next: h}
	g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		g.next.ServeHTTP(&cutWriter{w, 100}, r)
		return true
	}
	host := serve(t, g)
	got, err := fetch(t, newClient(t, Config{}), host, desc)
	wantError(t, err, errs.Unavailable, "in a row")
	if len(got) > 4*100 || g.count("GET") != quick().Attempts {
		t.Errorf("%d bytes after %d requests", len(got), g.count("GET"))
	}
}

// A server that cuts often, but late enough, is borne with: the number of cuts in a row is
// bounded, not their sum.
func TestBlobManyCuts(t *testing.T) {
	h, data, desc := blobServer(20 * (goodRun + 1))
	g := &rig{next: h}
	g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		g.next.ServeHTTP(&cutWriter{w, goodRun + 1}, r)
		return true
	}
	host := serve(t, g)
	got, err := fetch(t, newClient(t, Config{}), host, desc)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// Answers whose bytes would not belong where they would be put.
func TestBlobShiftedRanges(t *testing.T) {
	const size, cut = 10_000, 4_000
	tests := []struct {
		name         string
		contentRange string
		length       int
	}{
		{"later", "bytes 4001-9999/10000", 5_999},
		{"earlier", "bytes 3999-9999/10000", 6_001},
		{"whole", "bytes 0-9999/10000", 10_000},
		{"other total", "bytes 4000-9999/10001", 6_000},
		{"beyond the end", "bytes 4000-10000/*", 6_001},
		{"other length", "bytes 4000-9999/10000", 5_000},
		{"missing", "", 6_000},
		{"unit", "lines 4000-9999/10000", 6_000},
		{"backwards", "bytes 9999-4000/10000", 6_000},
		{"overflow", "bytes 4000-9223372036854775808/10000", 6_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, data, desc := blobServer(size)
			g := &rig{next: h}
			g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n == 0 {
					g.next.ServeHTTP(&cutWriter{w, cut}, r)
					return true
				}
				w.Header().Set("Content-Range", tt.contentRange)
				w.Header().Set("Content-Length", strconv.Itoa(tt.length))
				w.WriteHeader(http.StatusPartialContent)
				w.Write(make([]byte, tt.length))
				return true
			}
			got, err := fetch(t, newClient(t, Config{}), serve(t, g), desc)
			wantError(t, err, errs.Corrupt)
			if !bytes.Equal(got, data[:cut]) {
				t.Errorf("%d bytes were delivered, or wrong ones", len(got))
			}
		})
	}
}

// A server may send less than the range that was asked for.
func TestBlobParts(t *testing.T) {
	h, data, desc := blobServer(10_000)
	g := &rig{next: h}
	g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 0 {
			g.next.ServeHTTP(&cutWriter{w, 1_000}, r)
			return true
		}
		from, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			t.Errorf("Range %q", r.Header.Get("Range"))
		}
		last := min(first+1_499, 9_999)
		w.Header().Set("Content-Range", "bytes "+from+"-"+strconv.Itoa(last)+"/*")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(data[first : last+1])
		return true
	}
	got, err := fetch(t, newClient(t, Config{}), serve(t, g), desc)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// Bodies of another length than the manifest says.
func TestBlobLength(t *testing.T) {
	tests := []struct {
		name    string
		sent    int
		chunked bool
		kind    errs.Kind
	}{
		{"short", 999, false, errs.Corrupt},
		{"long", 1001, false, errs.Corrupt},
		{"short, chunked", 999, true, errs.Corrupt}, // the range for the rest ends beyond the server's bytes
		{"long, chunked", 1001, true, errs.Corrupt},
		{"empty", 0, true, errs.Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, data, desc := blobServer(1000)
			host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					w.Header().Set("Content-Range", "bytes 998-998/999")
					w.WriteHeader(http.StatusPartialContent)
					w.Write(data[998:999])
					return
				}
				if tt.chunked {
					w.(http.Flusher).Flush()
				}
				w.Write(append(data, 1)[:tt.sent])
			}))
			_, err := fetch(t, newClient(t, Config{}), host, desc)
			wantError(t, err, tt.kind)
		})
	}
}

func TestBlobEmpty(t *testing.T) {
	h, _, desc := blobServer(0)
	got, err := fetch(t, newClient(t, Config{}), serve(t, h), desc)
	if err != nil || len(got) != 0 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// A connection that is open but dead is noticed and replaced. The server never lets go.
func TestBlobIdle(t *testing.T) {
	h, data, desc := blobServer(10_000)
	release := make(chan struct{})
	g := &rig{next: h}
	g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		switch n {
		case 0: // dead after some bytes
			w.Header().Set("Content-Length", "10000")
			w.Write(data[:3_000])
			w.(http.Flusher).Flush()
			<-release
		case 1: // dead before the header
			<-release
		default:
			return false
		}
		return true
	}
	host := serve(t, g)
	defer close(release)
	var causes []error
	c := newClient(t, Config{IdleTimeout: 200 * time.Millisecond, Retry: Retry{Attempts: 10, Delay: 1}, Progress: func(e Event) {
		if e.Retry != nil {
			causes = append(causes, e.Retry)
		}
	}})
	got, err := fetch(t, c, host, desc)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if len(causes) < 2 || !strings.Contains(causes[0].Error(), errIdle.Error()) {
		t.Errorf("retries: %v", causes)
	}
}

func TestRetry(t *testing.T) {
	h, data, desc := blobServer(1000)
	tests := []struct {
		name     string
		status   int
		after    string
		failures int
		requests int
		kind     errs.Kind // Other: succeeds
	}{
		{"503", 503, "", 3, 4, errs.Other},
		{"429 with Retry-After", 429, "0", 2, 3, errs.Other},
		{"Retry-After as a date", 503, "Mon, 02 Jan 2006 15:04:05 GMT", 1, 2, errs.Other},
		{"too often", 502, "", 100, 4, errs.Unavailable},
		{"too long", 429, "3600", 100, 1, errs.Unavailable},
		{"400 is final", 400, "", 100, 1, errs.Other},
		{"404 is final", 404, "", 100, 1, errs.NotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := &rig{next: h}
			g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n >= tt.failures {
					return false
				}
				w.Header().Set("Retry-After", tt.after)
				w.WriteHeader(tt.status)
				return true
			}
			got, err := fetch(t, newClient(t, Config{}), serve(t, g), desc)
			if g.count("GET") != tt.requests {
				t.Errorf("%d requests, want %d", g.count("GET"), tt.requests)
			}
			switch {
			case tt.failures >= 100 && err == nil:
				t.Error("no error")
			case tt.kind != errs.Other:
				wantError(t, err, tt.kind)
			case tt.failures < 100 && (err != nil || !bytes.Equal(got, data)):
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-1": 0, "x": 0, "99999999999999": 0,
		"Wed, 01 May 2024 12:00:30 GMT": 30 * time.Second, "Wed, 01 May 2024 11:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {in}}, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	c := New(Config{})
	for n := 1; n < 100; n++ {
		most := min(c.cfg.Retry.Delay<<min(n-1, 10), c.cfg.Retry.MaxDelay)
		for range 20 {
			if d := c.backoff(n); d < most/2 || d > most {
				t.Fatalf("pause %d is %v, want %v to %v", n, d, most/2, most)
			}
		}
	}
}

// The manifest's own transfer is repeated too.
func TestManifestCut(t *testing.T) {
	g := &rig{next: newRegistry()}
	host := serve(t, g)
	push(t, host+"/x:1", 1000, 2)
	g.reset()
	g.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n < 2 && r.Method == http.MethodGet {
			g.next.ServeHTTP(&cutWriter{w, 50}, r)
			return true
		}
		return false
	}
	if _, err := pull(t.Context(), newClient(t, Config{}), mustRef(t, host+"/x:1")); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, err := parseContentRange(s)
		if err == nil && (first < 0 || last < first || total >= 0 && last >= total) {
			t.Errorf("%q: %d-%d/%d", s, first, last, total)
		}
	})
}

// Bytes after the end of a closed reader are never silently there.
func TestBlobClosed(t *testing.T) {
	h, _, desc := blobServer(1000)
	r, err := newClient(t, Config{}).Blob(t.Context(), mustRef(t, serve(t, h)+"/x"), desc)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if n, err := r.Read(make([]byte, 10)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Read after Close: %d, %v", n, err)
	}
}
