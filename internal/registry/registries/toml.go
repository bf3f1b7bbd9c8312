package registries

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// table is a TOML table: its values are string, bool, bare (a number or date, kept as
// written), []any, table or []table.
type table map[string]any

type bare string

// reader takes values of known types out of a table and remembers the first of another type.
type reader struct {
	t   table
	err error
}

func (r *reader) text(key string) string {
	s, ok := r.t[key].(string)
	r.check(ok, key, "a string")
	return s
}

func (r *reader) flag(key string) bool {
	b, ok := r.t[key].(bool)
	r.check(ok, key, "true or false")
	return b
}

func (r *reader) check(ok bool, key, what string) {
	if _, there := r.t[key]; there && !ok && r.err == nil {
		r.err = errors.New(key + " must be " + what)
	}
}

// tables returns an array of tables, written as [[key]] or as key = [{...}].
func (t table) tables(key string) ([]table, error) {
	switch v := t[key].(type) {
	case nil:
		return nil, nil
	case []table:
		return v, nil
	case []any:
		var list []table
		for _, x := range v {
			one, ok := x.(table)
			if !ok {
				return nil, errors.New(key + " must be an array of tables")
			}
			list = append(list, one)
		}
		return list, nil
	}
	return nil, errors.New(key + " must be an array of tables, written [[" + key + "]]")
}

// parseTOML reads the part of TOML 1.0 that registries.conf is written in: tables, arrays
// of tables, one-line strings, booleans, arrays and inline tables. Strings over several
// lines and dotted keys in front of "=" are refused, not misread.
func parseTOML(text string) (table, error) {
	p := &tomlParser{rest: text, line: 1}
	if !utf8.ValidString(text) {
		return nil, errors.New("the file is not UTF-8")
	}
	root := table{}
	current := root
	for {
		p.skip(true)
		if p.rest == "" {
			return root, nil
		}
		var err error
		if p.rest[0] == '[' {
			current, err = p.header(root)
		} else {
			err = p.keyValue(current)
		}
		if err == nil {
			err = p.endOfLine()
		}
		if err != nil {
			return nil, errors.New("line " + strconv.Itoa(p.line) + ": " + err.Error())
		}
	}
}

type tomlParser struct {
	rest  string
	line  int
	depth int // of nested values
}

const tomlMaxDepth = 8 // registries.conf needs two; a hostile file must not exhaust the stack

// skip passes white space and comments, and line ends if lines is set.
func (p *tomlParser) skip(lines bool) {
	for p.rest != "" {
		switch c := p.rest[0]; {
		case c == ' ' || c == '\t' || c == '\r':
			p.rest = p.rest[1:]
		case c == '#':
			end := strings.IndexByte(p.rest, '\n')
			if end < 0 {
				end = len(p.rest)
			}
			p.rest = p.rest[end:]
		case c == '\n' && lines:
			p.rest = p.rest[1:]
			p.line++
		default:
			return
		}
	}
}

func (p *tomlParser) take(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

func (p *tomlParser) endOfLine() error {
	p.skip(false)
	if p.rest != "" && p.rest[0] != '\n' {
		return errors.New("more follows where the line should end")
	}
	return nil
}

// header reads [a.b] or [[a.b]] and returns the table that the next lines fill.
func (p *tomlParser) header(root table) (table, error) {
	array := p.take("[[")
	if !array {
		p.take("[")
	}
	var path []string
	for {
		p.skip(false)
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		path = append(path, key)
		p.skip(false)
		if !p.take(".") {
			break
		}
	}
	if array && !p.take("]]") || !array && !p.take("]") {
		return nil, errors.New("a table header is not closed")
	}
	at := root
	for _, key := range path[:len(path)-1] {
		next, err := child(at, key)
		if err != nil {
			return nil, err
		}
		at = next
	}
	last := path[len(path)-1]
	if !array {
		return child(at, last)
	}
	list, ok := at[last].([]table)
	if _, taken := at[last]; taken && !ok {
		return nil, errors.New(last + " is not an array of tables")
	}
	t := table{}
	at[last] = append(list, t)
	return t, nil
}

// child is the table at key, the newest one of an array of tables, made if there is none.
func child(t table, key string) (table, error) {
	switch v := t[key].(type) {
	case nil:
		sub := table{}
		t[key] = sub
		return sub, nil
	case table:
		return v, nil
	case []table:
		return v[len(v)-1], nil
	}
	return nil, errors.New(key + " is not a table")
}

func (p *tomlParser) keyValue(t table) error {
	key, err := p.key()
	if err != nil {
		return err
	}
	p.skip(false)
	if !p.take("=") {
		return errors.New("expected = after " + key)
	}
	if _, twice := t[key]; twice {
		return errors.New(key + " is set twice")
	}
	v, err := p.value()
	if err != nil {
		return err
	}
	t[key] = v
	return nil
}

func (p *tomlParser) key() (string, error) {
	if p.rest != "" && (p.rest[0] == '"' || p.rest[0] == '\'') {
		return p.str()
	}
	n := 0
	for n < len(p.rest) && isBareKey(p.rest[n]) {
		n++
	}
	if n == 0 {
		return "", errors.New("expected a key")
	}
	key := p.rest[:n]
	p.rest = p.rest[n:]
	return key, nil
}

func isBareKey(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func (p *tomlParser) value() (any, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > tomlMaxDepth {
		return nil, errors.New("values are nested too deeply")
	}
	p.skip(false)
	if p.rest == "" {
		return nil, errors.New("expected a value")
	}
	switch p.rest[0] {
	case '"', '\'':
		return p.str()
	case '[':
		return p.array()
	case '{':
		return p.inlineTable()
	}
	n := strings.IndexAny(p.rest, ",]}#\r\n \t")
	if n < 0 {
		n = len(p.rest)
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	switch {
	case word == "true" || word == "false":
		return word == "true", nil
	case word == "" || !strings.ContainsRune("0123456789+-", rune(word[0])):
		return nil, errors.New("a value is neither a string in quotes, true, false, a number, an array nor a table")
	}
	return bare(word), nil
}

func (p *tomlParser) array() (any, error) {
	p.take("[")
	list := []any{}
	for {
		p.skip(true)
		if p.take("]") {
			return list, nil
		}
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		p.skip(true)
		if !p.take(",") && (p.rest == "" || p.rest[0] != ']') {
			return nil, errors.New("an array is not closed")
		}
	}
}

func (p *tomlParser) inlineTable() (any, error) {
	p.take("{")
	t := table{}
	p.skip(false)
	if p.take("}") {
		return t, nil
	}
	for {
		p.skip(false)
		if err := p.keyValue(t); err != nil {
			return nil, err
		}
		p.skip(false)
		if p.take("}") {
			return t, nil
		}
		if !p.take(",") {
			return nil, errors.New("an inline table is not closed")
		}
	}
}

// str reads a basic ("") or literal (single-quoted) string.
func (p *tomlParser) str() (string, error) {
	quote := p.rest[0]
	if strings.HasPrefix(p.rest, strings.Repeat(string(quote), 3)) {
		return "", errors.New("strings over several lines are not read here")
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == quote:
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case c == '\n':
			return "", errors.New("a string is not closed")
		case c == '\\' && quote == '"':
			s, used, err := unescape(p.rest[i:])
			if err != nil {
				return "", err
			}
			b.WriteString(s)
			i += used - 1
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a string is not closed")
}

// unescape reads the escape sequence that s begins with.
func unescape(s string) (string, int, error) {
	if len(s) > 1 {
		if i := strings.IndexByte(`"\bfnrt`, s[1]); i >= 0 {
			return "\"\\\b\f\n\r\t"[i : i+1], 2, nil
		}
		digits := map[byte]int{'u': 4, 'U': 8}[s[1]]
		if digits > 0 && len(s) >= 2+digits {
			n, err := strconv.ParseUint(s[2:2+digits], 16, 32)
			if r := rune(n); err == nil && n <= utf8.MaxRune && utf8.ValidRune(r) {
				return string(r), 2 + digits, nil
			}
		}
	}
	return "", 0, errors.New("a string has an unknown escape sequence")
}
