package spec_test

import (
	"reflect"
	"testing"

	"github.com/cortenhq/corten/internal/spec"
)

func TestParseIDMaps(t *testing.T) {
	got, err := spec.ParseIDMaps("         0    1000000      65536\n     65536          0          1\n")
	want := []spec.IDMap{{Container: 0, Host: 1000000, Size: 65536}, {Container: 65536, Host: 0, Size: 1}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"1 2\n", "1 2 3 4\n", "0 0 4294967296\n", "a b c\n"} {
		if got, err := spec.ParseIDMaps(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestHasLabels(t *testing.T) {
	labels := map[string]string{"a": "1", "b": ""}
	for _, wanted := range [][]string{nil, {"a"}, {"a=1", "b"}, {"b="}} {
		if !spec.HasLabels(labels, wanted) {
			t.Errorf("%q are there", wanted)
		}
	}
	for _, wanted := range [][]string{{"c"}, {"a=2"}, {"a", "b=1"}} {
		if spec.HasLabels(labels, wanted) {
			t.Errorf("%q are not there", wanted)
		}
	}
}
