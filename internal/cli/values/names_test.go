package values

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"ab": true, "a1": true, "1a": true, "a_b.c-d": true, "A-": true,
		"": false, "a": false, ".a": false, "-a": false, "_a": false, "a b": false, "a/b": false, "ä1": false,
	} {
		if ValidName(name) != want {
			t.Errorf("%q: valid is not %v", name, want)
		}
	}
	seen := map[string]bool{}
	for range 200 {
		for _, name := range []string{RandomName(), OtherName()} {
			if !ValidName(name) {
				t.Errorf("made up %q", name)
			}
			seen[name] = true
		}
	}
	if len(seen) < 300 {
		t.Errorf("only %d names of 400 differ", len(seen))
	}
	for _, words := range []string{qualities, things} {
		once := map[string]bool{}
		for _, w := range strings.Fields(words) {
			if once[w] {
				t.Errorf("%q is listed twice", w)
			}
			once[w] = true
		}
		if len(once) < 100 {
			t.Errorf("%d words, 100 are said", len(once))
		}
	}
}
