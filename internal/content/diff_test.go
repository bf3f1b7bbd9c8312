package content

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/launch"
)

func (b box) diff(t *testing.T) string {
	t.Helper()
	list, err := Diff(context.Background(), b.parts, b.layer+"/upper", []string{"/proc", "/etc/hosts", "/dev"})
	ok(t, err)
	var words []string
	for _, c := range list {
		words = append(words, string(c.Kind)+c.Path)
	}
	return strings.Join(words, " ")
}

// What was done in a container, what diff says of it, and what the layer of it holds.
func TestDiff(t *testing.T) {
	base := files{"f": "F", "d/a": "A", "d/b": "B", "d/sub/c": "C", "e/": "", "l": "-> f"}
	for _, x := range []struct{ do, diff, layer string }{
		{"true", "", ""},
		{"echo new > f", "C/f", "f"},
		{"chmod 600 f", "C/f", "f"},
		{"touch n", "A/n", "n"},
		{"rm f", "D/f", ".wh.f"},
		{"touch n; rm n", "", ""},
		{"rm l; echo > l", "C/l", "l"},
		{"touch d/n", "C/d A/d/n", "d/ d/n"},
		{"echo >> d/sub/c", "C/d C/d/sub C/d/sub/c", "d/ d/sub/ d/sub/c"},
		{"chmod 700 d", "C/d", "d/"},
		{"rm d/a", "C/d D/d/a", "d/ d/.wh.a"},
		{"rm -r d", "D/d", ".wh.d"},
		{"rm -r d; mkdir d; touch d/a d/n", "C/d C/d/a D/d/b A/d/n D/d/sub", "d/ d/.wh.b d/.wh.sub d/a d/n"},
		{"rm -r d; touch d", "C/d", "d"},
		{"rm f; mkdir -p f/x; touch f/x/y", "C/f A/f/x A/f/x/y", "f/ f/x/ f/x/y"},
		{"mkdir -p x/y; touch x/y/z", "A/x A/x/y A/x/y/z", "x/ x/y/ x/y/z"},
		{"mv d g", "D/d A/g A/g/a A/g/b A/g/sub A/g/sub/c", ".wh.d g/ g/a g/b g/sub/ g/sub/c"},
		{"mv d g; echo >> g/sub/c; rm g/a", "D/d A/g A/g/b A/g/sub A/g/sub/c", ".wh.d g/ g/b g/sub/ g/sub/c"},
		{"mkdir proc dev etc; touch etc/hosts", "A/etc", "etc/"},
		{"mkdir dev; mknod dev/x p", "A/dev A/dev/x", "dev/ dev/x"},
	} {
		t.Run(x.do, func(t *testing.T) {
			b := newBox(t, base)
			b.change(t, x.do)
			if got := b.diff(t); got != x.diff {
				t.Errorf("diff: %s\nwant: %s", got, x.diff)
			}
			var buf bytes.Buffer
			ok(t, Layer(context.Background(), b.parts, b.layer+"/upper", []string{"/proc", "/etc/hosts", "/dev"}, &buf))
			if got := list1(t, &buf); got != x.layer {
				t.Errorf("layer: %s\nwant:  %s", got, x.layer)
			}
		})
	}
}

// A layer that says a file with the name of a mark was removed would lie.
func TestMarkInLayer(t *testing.T) {
	b := newBox(t, files{"f": "F"})
	b.change(t, "touch .wh.f")
	var buf bytes.Buffer
	if err := Layer(context.Background(), b.parts, b.layer+"/upper", nil, &buf); err == nil {
		t.Error("it was written")
	}
}

func TestExport(t *testing.T) {
	b := newBox(t, files{"d/a": "A", "z": "Z", "l": "-> z"})
	b.change(t, "ln z d/z; chown 5:6 z; rm d/a; mkdir new")
	var one, two bytes.Buffer
	ok(t, Export(context.Background(), b.parts, &one))
	ok(t, Export(context.Background(), b.parts, &two))
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two exports differ")
	}
	if got := list1(t, &one); got != "d/ d/z l@ new/ z" {
		t.Error(got)
	}
}

// A view for reading does not take the layer from a container that has it.
func TestReadBesideWriter(t *testing.T) {
	b := newBox(t, files{"f": "F"})
	w := b.open(t, true)
	for _, v := range []launch.RootView{launch.RootBase, launch.RootRead} {
		f, err := launch.OpenRoot(b.parts, v, nil)
		ok(t, err)
		f.Close()
	}
	_, err := w.InTar(context.Background(), bytes.NewReader(make([]byte, 1024)), "/", Options{})
	ok(t, err)
}
