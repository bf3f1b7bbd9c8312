package look

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/errs"
)

func TestProcessRows(t *testing.T) {
	const text = `UID   PID  PPID CMD
root    1     0 /sbin/init splash
app   471     1 sh -c while true;  do :; done
app  4711   471 sleep 1
`
	got, err := processRows(text, []int{471, 4711, 99})
	want := [][]string{{"UID", "PID", "PPID", "CMD"}, {"app", "471", "1", "sh -c while true; do :; done"}, {"app", "4711", "471", "sleep 1"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := processRows("COMMAND\nsh\n", []int{1}); err == nil || errs.HintOf(err) == "" {
		t.Error(err)
	}
	if got, err := processRows("", nil); err == nil {
		t.Error(got)
	}
}
