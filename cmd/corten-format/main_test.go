package main

import (
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	const value = `{"Id":"sha256:ab","Size":12345678901234567,"Tags":["a:1","b<2>"],"Config":{"Env":null,"Labels":{"x.y":"z"}},"Ok":true,"Half":0.5,"Huge":18446744073709551615}`
	for _, x := range []struct{ text, want string }{
		{"{{.Id}}", "sha256:ab\n"},
		{"{{.Size}}", "12345678901234567\n"},
		{"{{if gt .Size 5}}large{{end}} {{.Half}} {{.Huge}} {{json .Huge}}", "large 0.5 18446744073709551615 18446744073709551615\n"},
		{"{{json .Tags}}", `["a:1","b<2>"]` + "\n"},
		{"{{json .Config.Env}}", "null\n"},
		{`{{join .Tags ", "}}`, "a:1, b<2>\n"},
		{`{{index .Config.Labels "x.y"}}`, "z\n"},
		{`{{index .Config.Labels "none"}}`, "\n"},
		{`{{join (split .Id ":") "/"}} {{join .Config.Env ","}} {{title "up"}}`, "sha256/ab  Up\n"},
		{"{{range .Tags}}{{println .}}{{end}}", "a:1\nb<2>\n\n"},
		{"{{if .Ok}}yes{{else}}no{{end}}", "yes\n"},
		{"{{upper .Id}} {{lower \"AB\"}} {{len .Tags}}", "SHA256:AB ab 2\n"},
		{`{{index (split .Id ":") 1}}`, "ab\n"},
		{`[{{pad "x" 1 2}}] [{{pad "" 1 2}}]`, "[ x  ] []\n"},
		{`{{truncate .Id 3}} {{truncate "ä" 5}}`, "sha ä\n"},
		{"", "\n"},
	} {
		var b strings.Builder
		if err := format(&b, x.text, strings.NewReader(value)); err != nil || b.String() != x.want {
			t.Errorf("%s: %q %v, want %q", x.text, b.String(), err, x.want)
		}
	}
}

func TestEachValue(t *testing.T) {
	var b strings.Builder
	if err := format(&b, "{{.A}}", strings.NewReader(`{"A":1} {"A":"two"}`)); err != nil || b.String() != "1\ntwo\n" {
		t.Errorf("%q %v", b.String(), err)
	}
	if err := format(&b, "{{.A}}", strings.NewReader("")); err != nil || b.String() != "1\ntwo\n" {
		t.Errorf("%q %v", b.String(), err)
	}
}

func TestWrongTemplates(t *testing.T) {
	for text, want := range map[string]string{
		"{{":           "unclosed action",
		"{{.B}}":       `map has no entry for key "B"`,
		"{{shiny .A}}": `function "shiny" not defined`,
		"{{.A.B}}":     "can't evaluate field B",
	} {
		var b strings.Builder
		if err := format(&b, text, strings.NewReader(`{"A":1}`)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if err := format(&strings.Builder{}, "{{.A}}", strings.NewReader(`{"A":`)); err == nil {
		t.Error("half a value is no error")
	}
}

func TestLabel(t *testing.T) {
	const value = `{"Labels":"a=1,b=x,y,c="}`
	for text, want := range map[string]string{
		`{{.Label "a"}} {{.Label "b"}} {{.Label "c"}} {{.Label "d"}}.`: "1 x,y  .\n",
		`{{.Labels}} {{json .}}`: "a=1,b=x,y,c= " + value + "\n",
	} {
		var b strings.Builder
		if err := format(&b, text, strings.NewReader(value)); err != nil || b.String() != want {
			t.Errorf("%s: %q %v, want %q", text, b.String(), err, want)
		}
	}
}
