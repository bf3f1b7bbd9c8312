package oci

import (
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
)

func TestSelect(t *testing.T) {
	index := func(platforms ...string) Index {
		var idx Index
		for _, p := range platforms {
			d := Descriptor{Digest: Digest(p)}
			if p != "none" {
				platform := ParsePlatform(p)
				d.Platform = &platform
			}
			idx.Manifests = append(idx.Manifests, d)
		}
		return idx
	}
	tests := []struct {
		want string
		have []string
		got  string // "" for none
	}{
		{"linux/amd64", []string{"linux/arm64", "linux/amd64", "windows/amd64"}, "linux/amd64"},
		{"linux/amd64", []string{"linux/amd64/v2"}, ""},
		{"linux/amd64", []string{"linux/amd64/v1"}, "linux/amd64/v1"},
		{"linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4"}, "linux/amd64/v2"},
		{"linux/amd64/v3", []string{"linux/amd64/v3", "linux/amd64/v2"}, "linux/amd64/v3"},
		{"linux/x86_64", []string{"linux/amd64"}, "linux/amd64"},
		{"linux/amd64", []string{"linux/386"}, ""},
		{"linux/arm", []string{"linux/arm/v6", "linux/arm/v5", "linux/arm/v7"}, "linux/arm/v7"},
		{"linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v5"}, "linux/arm/v5"},
		{"linux/arm/v7", []string{"linux/arm"}, "linux/arm"},
		{"linux/arm/v6", []string{"linux/arm"}, ""},
		{"linux/armhf", []string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7"},
		{"linux/arm64", []string{"linux/arm64/v8"}, "linux/arm64/v8"},
		{"linux/arm64/v8", []string{"linux/arm64"}, "linux/arm64"},
		{"linux/aarch64", []string{"linux/arm/v7", "linux/arm64/v8"}, "linux/arm64/v8"},
		{"linux/arm64", []string{"linux/arm/v7"}, ""},
		{"linux/arm64", []string{"linux/arm64/v9"}, ""},
		{"linux/arm64/v8.2", []string{"linux/arm64/v8", "linux/arm64/v8.1", "linux/arm64/v9"}, "linux/arm64/v8.1"},
		{"linux/riscv64", []string{"linux/riscv64"}, "linux/riscv64"},
		{"linux/riscv64", []string{"linux/riscv64/rva22u64"}, ""},
		{"linux/amd64/odd", []string{"linux/amd64", "linux/amd64/odd"}, "linux/amd64/odd"},
		{"linux/amd64", []string{"unknown/unknown", "linux/amd64"}, "linux/amd64"},
		{"linux/amd64", []string{"none"}, "none"},
		{"linux/amd64", []string{"none", "linux/amd64"}, "linux/amd64"},
		{"linux/amd64", []string{"none", "none"}, ""},
		{"linux/amd64", nil, ""},
	}
	for _, tt := range tests {
		got, err := Select(index(tt.have...), ParsePlatform(tt.want))
		if string(got.Digest) != tt.got || (err == nil) != (tt.got != "") {
			t.Errorf("%s of %v: %q, %v; want %q", tt.want, tt.have, got.Digest, err, tt.got)
		}
		if err != nil {
			wantError(t, err, errs.NotFound, tt.want)
		}
	}
	_, err := Select(index("linux/arm64", "unknown/unknown", "linux/s390x", "linux/arm64"), ParsePlatform("amd64"))
	wantError(t, err, errs.NotFound, "linux/amd64", "linux/arm64, linux/s390x;")
}

func wantError(t *testing.T, err error, kind errs.Kind, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v %q", kind, says)
	}
	if !errs.Is(err, kind) {
		t.Errorf("%v: kind %v, want %v", err, errs.KindOf(err), kind)
	}
	if errs.HintOf(err) == "" && kind != errs.Canceled {
		t.Errorf("%v: no hint", err)
	}
	text := err.Error() + " [" + errs.HintOf(err) + "]"
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("%s: does not say %q", text, s)
		}
	}
}
