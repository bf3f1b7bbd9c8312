// Package show is how things are put before people: sizes and ages in words, and the
// progress of an image on its way here.
package show

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Size writes bytes as Docker does: three digits, powers of 1,000.
func Size(n int64) string {
	units := [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	v, i := float64(n), 0
	for v >= 999.5 && i < len(units)-1 { // which three digits would round up
		v, i = v/1000, i+1
	}
	return strconv.FormatFloat(v, 'g', 3, 64) + units[i]
}

// Memory writes bytes as Docker does where they are memory: four digits, powers of 1,024.
func Memory(n int64) string {
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	v, i := float64(n), 0
	for v >= 1023.5 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return strconv.FormatFloat(v, 'g', 4, 64) + units[i]
}

// Age writes a span of time as Docker does: "3 weeks".
func Age(d time.Duration) string {
	day := 24 * time.Hour
	count := func(n int, one, many string) string {
		if n == 1 {
			return one
		}
		return fmt.Sprintf("%d %s", n, many)
	}
	switch {
	case d < time.Second:
		return "Less than a second"
	case d < time.Minute:
		return count(int(d.Seconds()), "1 second", "seconds")
	case d < time.Hour:
		return count(int(d.Minutes()), "About a minute", "minutes")
	case d < 2*day:
		return count(int(d.Hours()+0.5), "About an hour", "hours")
	case d < 14*day:
		return count(int(d/day), "1 day", "days")
	case d < 60*day:
		return count(int(d/(7*day)), "1 week", "weeks")
	case d < 2*365*day:
		return count(int(d/(30*day)), "1 month", "months")
	}
	return count(int(d/(365*day)), "1 year", "years")
}

// Printable keeps control characters, which may be in a name or in what a registry said,
// from the terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
