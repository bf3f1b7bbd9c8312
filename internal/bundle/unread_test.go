package bundle

import (
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
)

// TestUnread: what is wrong is said in words of config.json, with a way out.
func TestUnread(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "it is empty",
		" \n":                         "it is empty",
		"{\n\"ociVersion\": \"1.0\",": "line 2: ",
		"{\n\n}}":                     "line 3: ",
		"[]":                          "it is no object, but array",
		`"x"`:                         "it is no object, but string",
		`{"ociVersion": 1}`:           "ociVersion cannot be of the type number",
		`{"ociVersion": "1.0.0", "process": {"args": "sh"}}`:                         "process.args cannot be of the type string",
		`{"ociVersion": "1.0.0", "linux": {"namespaces": {}}}`:                       "linux.namespaces cannot be of the type object",
		`{"ociVersion": "1.0.0", "annotations": {"a": "b\u0000"}}`:                   "NUL",
		`{"ociVersion": "1.0.0", "annotations": {"a": "b\\\u0000"}}`:                 "NUL",
		`{"ociVersion": "1.0.0", "annotations": {"a": "b\\u0000"}, "windows": {}}`:   "another platform",
		`{"ociVersion": "1.0.0", "windows": null, "linux": {}, "hostname": "x"}`:     "process",
		`{"ociVersion": "1.0.0", "vm": {"kernel": {"path": "/k"}}, "hostname": "x"}`: "vm",
	} {
		_, err := Parse("/b", []byte(text), 0)
		if err == nil || !strings.Contains(err.Error(), want) || errs.HintOf(err) == "" || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: %v, hint %q; want %q", text, err, errs.HintOf(err), want)
		}
	}
}
