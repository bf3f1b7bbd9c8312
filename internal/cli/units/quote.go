package units

import (
	"fmt"
	"strings"
)

// word writes an argument of an ExecStart line so that systemd reads it as it is: quoted where
// need be, and with nothing in it that stands for something else (systemd.service(5), "Command
// lines", and systemd.unit(5), "Specifiers").
func word(s string) string {
	plain := s != ""
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '%':
			b.WriteString("%%")
		case c == '$':
			b.WriteString("$$")
		case c == '"' || c == '\\':
			plain = false
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			plain = false
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			if strings.IndexByte(" ';#", c) >= 0 {
				plain = false
			}
			b.WriteByte(c)
		}
	}
	if plain {
		return b.String()
	}
	return `"` + b.String() + `"`
}

// text writes a value that is taken as a whole, such as a description.
func text(s string) string {
	return strings.ReplaceAll(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s), "%", "%%")
}

// command writes a command line: before its flags, in lines of their own, and what follows them.
func command(words, flags, rest []string) string {
	const next = " \\\n    "
	out := quoted(words)
	for _, f := range flags {
		out += next + word(f)
	}
	if len(flags) > 0 && len(rest) > 0 {
		out += next + quoted(rest)
	}
	return out
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = word(w)
	}
	return strings.Join(out, " ")
}
