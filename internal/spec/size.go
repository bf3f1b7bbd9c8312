package spec

import (
	"math"
	"strconv"
	"strings"
)

// ParseSize reads a size as Docker does: a number, which may have a fraction, and a unit of
// one letter or three ("m", "mb", "MiB"), always in steps of 1024; no unit means bytes.
func ParseSize(s string) (int64, bool) {
	end := strings.LastIndexAny(s, "0123456789.") + 1
	number, unit := s[:end], strings.ToLower(strings.TrimPrefix(s[end:], " "))
	shift, ok := unitShift(unit)
	if !ok || number == "" || strings.ContainsAny(number, "+-eExX_") {
		return 0, false
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		return n << shift, n <= math.MaxInt64>>shift
	}
	f, err := strconv.ParseFloat(number, 64)
	f *= float64(int64(1) << shift)
	if err != nil || f >= math.MaxInt64 {
		return 0, false
	}
	return int64(f), true
}

func unitShift(unit string) (uint, bool) {
	switch unit {
	case "", "b":
		return 0, true
	case "k", "kb", "kib":
		return 10, true
	case "m", "mb", "mib":
		return 20, true
	case "g", "gb", "gib":
		return 30, true
	case "t", "tb", "tib":
		return 40, true
	case "p", "pb", "pib":
		return 50, true
	}
	return 0, false
}
