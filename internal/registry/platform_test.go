package registry

import (
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

func TestSelect(t *testing.T) {
	index := func(platforms ...string) oci.Index {
		var idx oci.Index
		for _, p := range platforms {
			d := oci.Descriptor{Digest: oci.Digest(p)}
			if p != "none" {
				platform := oci.ParsePlatform(p)
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
		got, err := Select(index(tt.have...), oci.ParsePlatform(tt.want))
		if string(got.Digest) != tt.got || (err == nil) != (tt.got != "") {
			t.Errorf("%s of %v: %q, %v; want %q", tt.want, tt.have, got.Digest, err, tt.got)
		}
		if err != nil {
			wantError(t, err, errs.NotFound, tt.want)
		}
	}
	_, err := Select(index("linux/arm64", "unknown/unknown", "linux/s390x", "linux/arm64"), oci.ParsePlatform("amd64"))
	wantError(t, err, errs.NotFound, "linux/amd64", "linux/arm64, linux/s390x;")
}
