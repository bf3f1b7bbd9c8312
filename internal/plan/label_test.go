package plan

import (
	"slices"
	"testing"
)

func TestLabelFiles(t *testing.T) {
	shared := make([]string, 1, 8) // of which no step may write what another has
	shared[0] = "size=1m"
	made := func() []Step {
		return []Step{MountFS{Type: "tmpfs", Options: shared}, MountFS{Type: "proc"}, MountFS{Type: "ext4", Options: shared}, MakeTmpfs{Options: shared}, MakeDev{}, OpenTerminal{}, Overlay{}, Pivot{}}
	}
	for _, private := range []bool{true, false} {
		steps := made()
		LabelFiles(steps, "a:b:c:s0:c1,c2", private)
		var got []bool
		for _, s := range steps {
			got = append(got, s.String() != made()[len(got)].String())
		}
		want := []bool{true, false, !private, true, true, true, true, false}
		if !slices.Equal(got, want) {
			t.Errorf("private %v: labelled are %v, want %v", private, got, want)
		}
		if o := steps[3].(MakeTmpfs).Options; !slices.Equal(o, []string{"size=1m", "context=a:b:c:s0:c1,c2"}) {
			t.Errorf("the options of the tmpfs are %q", o)
		}
	}
	steps := made()
	if LabelFiles(steps, "", false); steps[0].String() != made()[0].String() {
		t.Error("a container without a label has one")
	}
}
