package oci

import (
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/distribution/reference"
)

const (
	hex64  = "3eb10792d1f0c7e07e7248273540f1952d9a5a2996f4b5df70ab026cd9f05517"
	sum256 = "sha256:" + hex64
	sum512 = "sha512:" + hex64 + hex64
)

func TestParseRef(t *testing.T) {
	tests := []struct {
		in       string
		want     Ref
		familiar string
	}{
		{"debian", Ref{"docker.io", "library/debian", "latest", ""}, "debian:latest"},
		{"debian:12", Ref{"docker.io", "library/debian", "12", ""}, "debian:12"},
		{"me/app", Ref{"docker.io", "me/app", "latest", ""}, "me/app:latest"},
		{"docker.io/debian", Ref{"docker.io", "library/debian", "latest", ""}, "debian:latest"},
		{"index.docker.io/debian:12", Ref{"docker.io", "library/debian", "12", ""}, "debian:12"},
		{"docker.io/library/a/b", Ref{"docker.io", "library/a/b", "latest", ""}, "library/a/b:latest"},
		{"localhost", Ref{"docker.io", "library/localhost", "latest", ""}, "localhost:latest"},
		{"localhost/x", Ref{"localhost", "x", "latest", ""}, "localhost/x:latest"},
		{"localhost:5000/x", Ref{"localhost:5000", "x", "latest", ""}, "localhost:5000/x:latest"},
		{"[::1]:5000/x/y:t", Ref{"[::1]:5000", "x/y", "t", ""}, "[::1]:5000/x/y:t"},
		{"Host/x", Ref{"Host", "x", "latest", ""}, "Host/x:latest"},
		{"debian@" + sum256, Ref{"docker.io", "library/debian", "", sum256}, "debian@" + sum256},
		{"q.io/a/b:1@" + sum512, Ref{"q.io", "a/b", "1", sum512}, "q.io/a/b:1@" + sum512},
		{"docker.io/localhost/x", Ref{"docker.io", "localhost/x", "latest", ""}, "docker.io/localhost/x:latest"},
		{"docker.io/a.b/x", Ref{"docker.io", "a.b/x", "latest", ""}, "docker.io/a.b/x:latest"},
		{"library/" + hex64, Ref{"docker.io", "library/" + hex64, "latest", ""}, hex64 + ":latest"},
	}
	for _, tt := range tests {
		got, err := ParseRef(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("ParseRef(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
			continue
		}
		if got.Familiar() != tt.familiar {
			t.Errorf("Familiar(%q) = %q, want %q", tt.in, got.Familiar(), tt.familiar)
		}
	}
}

// Every refusal names the part that is wrong and offers a way out.
func TestParseRefErrors(t *testing.T) {
	tests := []struct{ in, says string }{
		{"", "name is empty"},
		{hex64, "identifier"},
		{"Debian", "capital letters"},
		{"debian:", "tag"},
		{"debian:-x", "tag"},
		{"debian:" + strings.Repeat("a", 129), "tag"},
		{"debian@sha256:12", "digest"},
		{"debian@sha384:" + hex64 + hex64[:32], "digest"},
		{"a//b", "empty component"},
		{"docker.io/", "repository is missing"},
		{"host.io/:x", "repository is missing"},
		{"a..b", "component"},
		{"a___b", "component"},
		{"-a", "component"},
		{"under_score.io/x", "registry"},
		{"host.io:/x", "registry"},
		{"host.io:80x/x", "registry"},
		{"[::1/x", "registry"},
		{"a b\n\x00", "component"},
		{strings.Repeat("a", 256), "longer than 255"},
		{"häuser", "component"},
	}
	for _, tt := range tests {
		r, err := ParseRef(tt.in)
		if err == nil {
			t.Errorf("ParseRef(%q) = %+v, want an error", tt.in, r)
			continue
		}
		if !strings.Contains(err.Error(), tt.says) || errs.HintOf(err) == "" || !errs.Is(err, errs.Invalid) {
			t.Errorf("ParseRef(%q): %v (hint %q), want it to say %q", tt.in, err, errs.HintOf(err), tt.says)
		}
		if strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("ParseRef(%q): control characters in %q", tt.in, err.Error())
		}
	}
}

func TestParseRefAllocations(t *testing.T) {
	for in, most := range map[string]float64{"debian:12": 1, "localhost:5000/a/b:1@" + sum256: 0} {
		got := testing.AllocsPerRun(100, func() {
			if _, err := ParseRef(in); err != nil {
				t.Fatal(err)
			}
		})
		if got > most {
			t.Errorf("ParseRef(%q): %v allocations, want at most %v", in, got, most)
		}
	}
}

// FuzzParseRef compares with the reference implementation of Docker's rules.
func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"debian", "debian:12", "a/b/c:d@" + sum256, "localhost:5000/x", "[::1]:5000/x", "[fe80::1]/x",
		"index.docker.io/x", "docker.io/x", "A/b", "a.b_c/d", "a_b/c", "a__b", "a--b/c", "x:y/z", "x@" + sum512, "localhost/x",
		"X", "a.b:80", "a.b:80/c:80", hex64, hex64 + ":x", "x/" + hex64, "a@b/c", "docker.io:443/x", "x@sha384:" + hex64 + hex64[:32],
		"Host.:5/a", "a-/b.c", "a.-b/c", "\xff", "x:\xff", "ä/b", "1.2.3.4/x", strings.Repeat("a/", 127) + "a", strings.Repeat("a", 248)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseRef(s)
		named, oracleErr := reference.ParseNormalizedNamed(s)
		if oracleErr == nil && oracleRefused(named) {
			oracleErr = reference.ErrReferenceInvalidFormat
		}
		if (err == nil) != (oracleErr == nil) {
			t.Fatalf("ParseRef(%q) = %+v, %v; distribution/reference: %v, %v", s, got, err, named, oracleErr)
		}
		if err != nil {
			if errs.HintOf(err) == "" {
				t.Fatalf("no hint in %v", err)
			}
			return
		}
		checkAgainstOracle(t, s, got, reference.TagNameOnly(named))
	})
}

// oracleRefused names the two differences that ParseRef documents.
func oracleRefused(n reference.Named) bool {
	if reference.Domain(n) == "" {
		return true
	}
	d, ok := n.(reference.Digested)
	return ok && strings.HasPrefix(string(d.Digest()), "sha384:")
}

func checkAgainstOracle(t *testing.T, s string, got Ref, named reference.Named) {
	t.Helper()
	want := Ref{Registry: reference.Domain(named), Repository: reference.Path(named)}
	if x, ok := named.(reference.Tagged); ok {
		want.Tag = x.Tag()
	}
	if x, ok := named.(reference.Digested); ok {
		want.Digest = Digest(x.Digest())
	}
	if got != want || got.String() != named.String() {
		t.Fatalf("ParseRef(%q) = %+v (%s), distribution/reference: %+v (%s)", s, got, got, want, named)
	}
	for _, form := range []string{got.String(), got.Familiar()} {
		if back, err := ParseRef(form); err != nil || back != got {
			t.Fatalf("ParseRef(%q) = %+v, %v; want %+v", form, back, err, got)
		}
	}
	// Docker's own short form is the same, where it can be read back.
	if docker := reference.FamiliarString(named); docker != got.Familiar() {
		if back, err := ParseRef(docker); err == nil && back == got {
			t.Fatalf("Familiar = %q, distribution/reference: %q", got.Familiar(), docker)
		}
	}
}

func BenchmarkParseRef(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRef("debian:12"); err != nil {
			b.Fatal(err)
		}
	}
}
