// Command corten-format executes a Go template for each JSON value on its standard input.
// It is what corten starts for --format, since package text/template is heavy to link.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/template"
	"unicode"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	err := errors.New("usage: corten-format TEMPLATE < JSON")
	if len(os.Args) == 2 {
		err = format(out, os.Args[1], patient{os.Stdin, out})
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, strings.TrimPrefix(err.Error(), "template: "))
		os.Exit(1)
	}
}

// patient writes what there is before it waits for more: values may be minutes apart.
type patient struct {
	io.Reader
	out *bufio.Writer
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.out.Flush(); err != nil {
		return 0, err
	}
	return p.Reader.Read(b)
}

// format ends the output of each value with a newline, as Docker does.
func format(w io.Writer, text string, values io.Reader) error {
	t, err := template.New("format").Funcs(functions()).Option("missingkey=error").Parse(text)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(values)
	dec.UseNumber() // a size in bytes is no floating-point number
	for {
		var v any
		if err := dec.Decode(&v); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		v = numbers(v)
		if members, ok := v.(map[string]any); ok {
			v = listed(members)
		}
		if err := t.Execute(w, v); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
}

// numbers makes whole numbers such as templates compare: {{if eq .State.ExitCode 0}}.
func numbers(v any) any {
	switch x := v.(type) {
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
	case map[string]any:
		for name, member := range x {
			x[name] = texts(numbers(member))
		}
	case []any:
		for i, member := range x {
			x[i] = numbers(member)
		}
	}
	return v
}

// texts makes a map of texts of a member that has nothing else, such as labels: what such a
// map does not have, index finds to be empty, as it does in Docker's.
func texts(v any) any {
	members, ok := v.(map[string]any)
	if !ok {
		return v
	}
	m := make(map[string]string, len(members))
	for name, member := range members {
		text, ok := member.(string)
		if !ok {
			return v
		}
		m[name] = text
	}
	return m
}

// listed is a value of a list. Docker's have a method besides their members.
type listed map[string]any

// Label is the value of one label, of those that the member Labels has as "a=1,b=2". What
// follows a comma and has no = belongs to the value before it.
func (l listed) Label(name string) string {
	text, _ := l["Labels"].(string)
	value, found := "", false
	for part := range strings.SplitSeq(text, ",") {
		key, v, pair := strings.Cut(part, "=")
		switch {
		case pair && found:
			return value
		case pair:
			value, found = v, key == name
		default:
			value += "," + part
		}
	}
	if !found {
		return ""
	}
	return value
}

// functions are Docker's, in name and meaning.
func functions() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return strings.TrimSpace(b.String()), err
		},
		"join":  join,
		"split": strings.Split,
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"title": func(s string) string {
			r := []rune(s)
			if len(r) > 0 {
				r[0] = unicode.ToTitle(r[0])
			}
			return string(r)
		},
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
		},
		"truncate": func(s string, n int) string {
			r := []rune(s)
			return string(r[:max(0, min(n, len(r)))])
		},
		"println": func(args ...any) string { return fmt.Sprintln(args...) },
	}
}

// join takes a list of the JSON's, or of words that split has made.
func join(list any, sep string) (string, error) {
	switch x := list.(type) {
	case nil:
		return "", nil
	case []string:
		return strings.Join(x, sep), nil
	case []any:
		words := make([]string, len(x))
		for i, v := range x {
			words[i] = fmt.Sprint(v)
		}
		return strings.Join(words, sep), nil
	}
	return "", errors.New("not a list")
}
