package scope

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/systemd"
)

// prefix is that of annotations that are properties of the scope: runc and crun know it too.
const prefix = "org.systemd.property."

// Annotated is the properties that annotations ask for. They are written as GVariant has it: 'text',
// true, 5, uint64 5, ['a', 'b'].
func Annotated(annotations map[string]string) (list []systemd.Property, err error) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		value, ok := variant(strings.TrimSpace(annotations[key]))
		if rest, isSec := strings.CutSuffix(name, "Sec"); ok && isSec && !strings.HasSuffix(rest, "U") {
			name, value, ok = inMicroseconds(rest, value)
		}
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < '0' || r > 'z' }) || !ok {
			return nil, errs.Newf(errs.Invalid, "use annotation", key, strconv.Quote(annotations[key])+" is no value").
				WithHint(`write it as for gdbus: 'text', true, 5, uint64 5 or ['a', 'b']`)
		}
		list = append(list, systemd.Property{Name: name, Value: value})
	}
	return list, nil
}

// inMicroseconds turns TimeoutStopSec, which is for people, to the property TimeoutStopUSec.
func inMicroseconds(name string, value any) (string, any, bool) {
	seconds := 0.0
	switch v := value.(type) {
	case int32:
		seconds = float64(v)
	case uint64:
		seconds = float64(v)
	case float64:
		seconds = v
	default:
		return "", nil, false
	}
	return name + "USec", uint64(seconds * 1e6), seconds >= 0
}

// variant reads a value: a number is an int32 unless its type is before it.
func variant(text string) (any, bool) {
	switch {
	case text == "true" || text == "false":
		return text == "true", true
	case strings.HasPrefix(text, "["):
		return texts(text)
	case strings.HasPrefix(text, "'") || strings.HasPrefix(text, `"`):
		s, rest, ok := quoted(text)
		return s, ok && rest == ""
	}
	kind, digits, typed := strings.Cut(text, " ")
	if !typed {
		kind, digits = "int32", text
		if strings.ContainsAny(text, ".eE") {
			kind = "double"
		}
	}
	digits = strings.TrimSpace(digits)
	var value any
	var err error
	switch kind {
	case "boolean":
		value, err = strconv.ParseBool(digits)
	case "byte":
		var n uint64
		n, err = strconv.ParseUint(digits, 0, 8)
		value = byte(n)
	case "int32":
		var n int64
		n, err = strconv.ParseInt(digits, 0, 32)
		value = int32(n)
	case "uint32":
		var n uint64
		n, err = strconv.ParseUint(digits, 0, 32)
		value = uint32(n)
	case "int64":
		value, err = strconv.ParseInt(digits, 0, 64)
	case "uint64":
		value, err = strconv.ParseUint(digits, 0, 64)
	case "double":
		value, err = strconv.ParseFloat(digits, 64)
	default:
		return nil, false
	}
	return value, err == nil
}

// texts reads a list of texts.
func texts(text string) (list []string, ok bool) {
	list = []string{}
	rest := strings.TrimSpace(text[1:])
	for rest != "]" {
		var s string
		if s, rest, ok = quoted(rest); !ok {
			return nil, false
		}
		list = append(list, s)
		if rest = strings.TrimSpace(rest); strings.HasPrefix(rest, ",") {
			rest = strings.TrimSpace(rest[1:])
		} else if rest != "]" {
			return nil, false
		}
	}
	return list, true
}

// quoted reads a text between quotes, in which a backslash takes the next character as it is.
func quoted(text string) (s, rest string, ok bool) {
	if text == "" || text[0] != '\'' && text[0] != '"' {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == text[0]:
			return b.String(), text[i+1:], true
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		b.WriteByte(text[i])
	}
	return "", "", false
}
