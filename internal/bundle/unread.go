package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// unread says why a config.json cannot be read, in its own words rather than the decoder's.
func unread(text []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	why, hint := err.Error(), "the specification of the OCI runtime says what belongs there"
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		why, hint = "it is empty", "corten-oci spec writes one"
	case errors.As(err, &syntax):
		line := 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
		why, hint = fmt.Sprintf("line %d: %s", line, why), "it has to be JSON: jq . shows where it is not"
	case errors.As(err, &kind) && kind.Field == "":
		why, hint = "it is no object, but "+kind.Value, "corten-oci spec writes one"
	case errors.As(err, &kind):
		field := strings.ReplaceAll("."+kind.Field, ".Spec.", ".")
		field = strings.TrimPrefix(strings.ReplaceAll(field, ".Linux.", "."), ".")
		why = field + " cannot be of the type " + kind.Value
	}
	return errs.Newf(errs.Invalid, "", "", why).WithHint(hint)
}

// hasNUL reports whether a string in JSON has the character that ends strings for the kernel: what comes
// after would be left out without a word.
func hasNUL(text []byte) bool {
	const nul = `\u0000`
	for {
		i := bytes.Index(text, []byte(nul))
		if i < 0 {
			return false
		}
		escapes := i - len(bytes.TrimRight(text[:i], `\`))
		if escapes%2 == 0 {
			return true
		}
		text = text[i+len(nul):]
	}
}
