package oci

import (
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// Select returns the manifest in idx that suits the machine want best. A machine runs what
// was built for an older variant of its architecture too (arm v7 runs v6, amd64 v3 runs v2),
// so the newest variant that is not newer than want's is taken, and of equal ones the
// first. Other architectures are never taken, even where the processor could run them:
// the user says so with --platform. An entry that names no platform serves if nothing else does
// and it is alone; it may be an index again.
func Select(idx Index, want Platform) (Descriptor, error) {
	wantOS, wantArch, wantLevel := normalise(want)
	best, bestLevel := -1, -1
	nameless, namelessCount := -1, 0
	for i, d := range idx.Manifests {
		if d.Platform == nil || d.Platform.OS == "" && d.Platform.Architecture == "" {
			nameless = i
			namelessCount++
			continue
		}
		os, arch, level := normalise(*d.Platform)
		if os == wantOS && arch == wantArch && level <= wantLevel && level > bestLevel {
			best, bestLevel = i, level
		}
	}
	if best < 0 && namelessCount == 1 {
		best = nameless
	}
	if best >= 0 {
		return idx.Manifests[best], nil
	}
	e := errs.Newf(errs.NotFound, "select platform", want.String(), "the image is not built for it")
	if list := available(idx); list != "" {
		return Descriptor{}, e.WithHint("it is built for " + list + "; choose one with --platform")
	}
	return Descriptor{}, e.WithHint("it is built for no platform at all")
}

// normalise gives the names that kernels, compilers and distributions use for the same
// machine one spelling, and the variant as a number to compare. Without a variant arm
// means v7, and arm64 and amd64 their first. A variant of unknown order becomes part of the
// architecture, so that it suits only an equal one.
func normalise(p Platform) (os, arch string, level int) {
	os, arch = strings.ToLower(p.OS), strings.ToLower(p.Architecture)
	variant := strings.ToLower(p.Variant)
	standard := ""
	switch arch {
	case "x86_64", "x86-64":
		arch = "amd64"
	case "i386", "i486", "i586", "i686":
		arch = "386"
	case "aarch64":
		arch = "arm64"
	case "armhf":
		arch, standard = "arm", "v7"
	case "armel":
		arch, standard = "arm", "v6"
	}
	switch {
	case standard != "":
	case arch == "arm":
		standard = "v7"
	case arch == "arm64":
		standard = "v8"
	case arch == "amd64":
		standard = "v1"
	}
	if variant == "" {
		variant = standard
	}
	if variant == "" {
		return os, arch, 0
	}
	level, known := variantLevel(variant)
	if standard == "" || !known {
		return os, arch + "/" + variant, 0
	}
	return os, arch, level
}

// variantLevel reads "v8" as 800 and "v8.2" as 802.
func variantLevel(variant string) (int, bool) {
	major, minor, dotted := strings.Cut(strings.TrimPrefix(variant, "v"), ".")
	if !dotted {
		minor = "0"
	}
	a, err := strconv.ParseUint(major, 10, 8)
	if err != nil {
		return 0, false
	}
	b, err := strconv.ParseUint(minor, 10, 6)
	return int(a*100 + b), err == nil
}

// available lists the platforms of idx for people, without the "unknown/unknown" that marks
// attestations.
func available(idx Index) string {
	var list []string
	seen := map[string]bool{}
	for _, d := range idx.Manifests {
		if d.Platform == nil || d.Platform.OS == "unknown" || d.Platform.OS == "" {
			continue
		}
		s := strings.Trim(strconv.Quote(d.Platform.String()), `"`) // foreign bytes
		if !seen[s] {
			seen[s] = true
			list = append(list, s)
		}
	}
	return strings.Join(list, ", ")
}
