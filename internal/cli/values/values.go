// Package values reads what people write after flags: sizes, numbers, spans of time, lists. A
// wrong one is refused in one voice: which flag, what was written, why not, and what to write.
package values

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

// SizeHint says how a size is written.
const SizeHint = "write a number and b, k, m, g or t, in steps of 1024: 512m"

// Size reads a flag that holds a size; an empty one is 0.
func Size(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, ok := spec.ParseSize(s)
	switch {
	case !ok && strings.HasPrefix(s, "-"):
		return 0, Bad(flag, s, "a size cannot be negative", "leave the flag out")
	case !ok:
		return 0, Bad(flag, s, "not a size", SizeHint)
	}
	return n, nil
}

// Int reads a flag that holds a whole number from lo to hi; an empty one is 0.
func Int(flag, s string, lo, hi int64) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, Bad(flag, s, "not a whole number", rangeWords(lo, hi))
	}
	if n < lo || n > hi {
		return 0, Bad(flag, s, "out of range", rangeWords(lo, hi))
	}
	return n, nil
}

func rangeWords(lo, hi int64) string {
	least := strconv.FormatInt(lo, 10)
	if hi == math.MaxInt64 {
		return "the least is " + least
	}
	return "it goes from " + least + " to " + strconv.FormatInt(hi, 10)
}

// IsList reports whether s is a list of numbers and ranges as cpuset(7) has it:
// "0-3,7".
func IsList(s string) bool {
	for part := range strings.SplitSeq(s, ",") {
		a, b, isRange := strings.Cut(part, "-")
		lo, err := strconv.ParseUint(a, 10, 16)
		if err != nil {
			return false
		}
		if !isRange {
			continue
		}
		if hi, err := strconv.ParseUint(b, 10, 16); err != nil || hi < lo {
			return false
		}
	}
	return true
}

// Bool takes a "=true" or "=false" off an option; without one the option is true.
func Bool(value string, given bool) (on, ok bool) {
	if !given {
		return true, true
	}
	switch strings.ToLower(value) {
	case "1", "true":
		return true, true
	case "0", "false":
		return false, true
	}
	return false, false
}

// Time reads a span of time; an empty one is 0. As for Docker none is shorter than 1 ms.
func Time(flag, s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d != 0 && d < time.Millisecond {
		return 0, Bad(flag, s, "not a span of time of at least 1ms", "write a number with a unit: 500ms, 30s, 5m or 1h30m")
	}
	return d, nil
}

// Bad is a refusal of a flag's value.
func Bad(flag, value, why, hint string) error {
	return errs.Newf(errs.Invalid, "--"+flag, strconv.Quote(value), why).WithHint(hint)
}

// Conflict is a refusal of two flags that cannot both be meant.
func Conflict(a, b, why string) error {
	return errs.Newf(errs.Invalid, "", a+" with "+b, why).WithHint("leave one of them out")
}

// NotBuilt is a refusal of something that Docker or Podman can do.
func NotBuilt(what, hint string) error {
	return errs.Newf(errs.Unsupported, "", what, "not built yet").WithHint(hint)
}

// Repeated is a flag that may be given several times: pflag's string array, which would write
// each list as CSV to find out that it is empty.
func Repeated(list *[]string) pflag.Value { return repeated{list} }

type repeated struct{ list *[]string }

func (r repeated) String() string     { return strings.Join(*r.list, ",") }
func (r repeated) Set(v string) error { *r.list = append(*r.list, v); return nil }
func (r repeated) Type() string       { return "stringArray" }
