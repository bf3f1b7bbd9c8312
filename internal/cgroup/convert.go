package cgroup

import (
	"math"
	"strconv"
)

// weightOfShares turns v1 CPU shares (2 to 262144, by default 1024) into a v2 weight (1 to
// 10000, by default 100), as runc 1.3.2, crun 1.23 and Kubernetes do since 2025: a curve
// through both ends and the default,
//
//	log10(weight) = (l*l + 125*l)/612 - 7/34   with l = log2(shares), rounded up.
//
// The straight line used before, 1 + (shares-2)*9999/262142, met both ends but made 39 of
// the default, so that containers lost to everything else on the machine
// (github.com/kubernetes/kubernetes/issues/131216, github.com/opencontainers/cgroups/pull/20).
func weightOfShares(shares uint64) uint64 {
	if shares <= 2 {
		return 1
	}
	if shares >= 262144 {
		return 10000
	}
	// The conversions keep the compiler from fusing multiplication and addition, which rounds
	// differently on arm64.
	l := math.Log2(float64(shares))
	exponent := float64(float64(l*l)+float64(125*l))/612 - 7.0/34
	return uint64(math.Ceil(math.Pow(10, exponent)))
}

// ioWeight turns a v1 block weight (10 to 1000) into a v2 io.weight (1 to 10000): a straight
// line, as in runc and crun, although it makes 4950 of the default 500. The files of the BFQ scheduler
// take the v1 number as it is: their range is 1 to 1000 on both.
func ioWeight(weight uint16) uint64 { return 1 + (uint64(weight)-10)*9999/990 }

// limit writes a number the way v2 does: -1 is "max".
func limit(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

// to says what a limit does: "limit memory to 64 MiB".
func to(what string, n int64, words func(int64) string) string {
	if n < 0 {
		return "take the limit off " + what
	}
	return "limit " + what + " to " + words(n)
}

// size is a number of bytes in words: "64 MiB".
func size(n int64) string {
	for _, u := range [...]struct {
		shift uint
		name  string
	}{{40, " TiB"}, {30, " GiB"}, {20, " MiB"}, {10, " KiB"}} {
		if n >= 1<<u.shift && n&(1<<u.shift-1) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// micros is a number of microseconds in words: "50 ms".
func micros(n int64) string {
	if n%1000 == 0 {
		return strconv.FormatInt(n/1000, 10) + " ms"
	}
	return strconv.FormatInt(n, 10) + " us"
}
