package values

import (
	"strconv"
	"strings"
	"time"
)

// When reads a point in time as Docker does: a span before now ("10m", "1h30m"), seconds since
// 1970 ("1763726400", "1763726400.5"), or a date ("2026-11-21", "2026-11-21T12:00",
// "2026-11-21T12:00:00.5Z"), of this place if it says no other. The empty string is the zero time.
func When(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, ok := unixTime(s); ok {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02Z07:00",
		"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, Bad(flag, s, "neither a span of time nor a time",
		"write how long ago (10m, 1h30m), a time (2026-11-21T12:00:00Z, 2026-11-21) or seconds since 1970")
}

// unixTime reads seconds since 1970, with up to nine digits of a fraction.
func unixTime(s string) (time.Time, bool) {
	whole, fraction, point := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || whole[0] == '+' {
		return time.Time{}, false
	}
	if !point {
		return time.Unix(sec, 0), true
	}
	if len(fraction) > 9 {
		return time.Time{}, false
	}
	ns, err := strconv.ParseUint(fraction+"000000000"[len(fraction):], 10, 32)
	if err != nil {
		return time.Time{}, false
	}
	if whole[0] == '-' {
		return time.Unix(sec, -int64(ns)), true
	}
	return time.Unix(sec, int64(ns)), true
}
