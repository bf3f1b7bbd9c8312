package netflags

import (
	"math"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/cli/values"
	"github.com/cortenhq/corten/internal/spec"
)

const rateHint = "write a number and kbit, mbit or gbit, or kbps, mbps or gbps for bytes: rate-in=10mbit"

// Rates reads --network-opt, KEY=VALUE,... each, to a change of a rate: what is not named stays,
// 0 is no limit.
func Rates(flag string, texts []string) (func(*spec.Rate), error) {
	var changes []func(*spec.Rate)
	for _, s := range texts {
		for option := range strings.SplitSeq(s, ",") {
			key, value, _ := strings.Cut(option, "=")
			switch key {
			case "rate-in", "rate-out":
				n, ok := ParseRate(value)
				if !ok {
					return nil, values.Bad(flag, option, "not a rate of at least 1kbit", rateHint)
				}
				if key == "rate-in" {
					changes = append(changes, func(r *spec.Rate) { r.In = n })
				} else {
					changes = append(changes, func(r *spec.Rate) { r.Out = n })
				}
			case "burst":
				n, ok := spec.ParseSize(value)
				if !ok || n > math.MaxUint32 {
					return nil, values.Bad(flag, option, "not a size below 4g", values.SizeHint)
				}
				changes = append(changes, func(r *spec.Rate) { r.Burst = uint64(n) })
			default:
				return nil, values.Bad(flag, option, "unknown option", "there are rate-in, rate-out and burst")
			}
		}
	}
	return func(r *spec.Rate) {
		for _, change := range changes {
			change(r)
		}
	}, nil
}

// unit is how many bits a second one of tc(8)'s units is.
func unit(s string) (bits float64, ok bool) {
	s = strings.ToLower(s)
	bits = 1
	rest, isBits := strings.CutSuffix(s, "bit")
	if !isBits {
		if rest, ok = strings.CutSuffix(s, "bps"); !ok {
			return 1, s == ""
		}
		bits = 8
	}
	switch rest {
	case "":
		return bits, true
	case "k", "m", "g", "t":
		return bits * math.Pow(1000, float64(strings.Index("kmgt", rest)+1)), true
	case "ki", "mi", "gi", "ti":
		return bits * math.Pow(1024, float64(strings.Index("kmgt", rest[:1])+1)), true
	}
	return 0, false
}

// ParseRate reads a rate as tc(8) does, to bits a second. A number alone is bits.
func ParseRate(s string) (uint64, bool) {
	const least, most = 1000, 1e15
	end := strings.LastIndexAny(s, "0123456789.") + 1
	if end == 0 || strings.Trim(s[:end], "0123456789.") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(s[:end], 64)
	bits, ok := unit(s[end:])
	n *= bits
	if err != nil || !ok || n != 0 && n < least || n > most {
		return 0, false
	}
	return uint64(math.Round(n)), true
}

// rateOptions writes a rate as options.
func rateOptions(r spec.Rate) []string {
	var out []string
	if r.In != 0 {
		out = append(out, "rate-in="+spec.RateText(r.In))
	}
	if r.Out != 0 {
		out = append(out, "rate-out="+spec.RateText(r.Out))
	}
	if r.Burst != 0 {
		out = append(out, "burst="+strconv.FormatUint(r.Burst, 10))
	}
	return out
}
