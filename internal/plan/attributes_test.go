package plan

import (
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func TestReadList(t *testing.T) {
	for text, want := range map[string][]uint64{
		"": nil, "0": {1}, "0-3,7": {0x8f}, " 1 ,63-64": {1<<63 | 2, 1}, "5,5": {32}, "130": {0, 0, 4},
	} {
		if got, err := ReadList(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	for _, text := range []string{",", "x", "3-1", "-1", "1-", "8192", "0-4294967295", "99999999999999999999"} {
		if _, err := ReadList(text); !errs.Is(err, errs.Invalid) || errs.HintOf(err) == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzReadList(f *testing.F) {
	for _, s := range []string{"0-3,7", "8191", "1,,2", "0-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		mask, err := ReadList(text)
		n := 0
		for _, m := range mask {
			n += bits.OnesCount64(m)
		}
		if err == nil && (n == 0) != (text == "") || len(mask) > mostListed/64 {
			t.Errorf("%q: %d numbers of %d words, %v", text, n, len(mask), err)
		}
	})
}

// TestAttributeNumbers: the numbers are the kernel's, and what it would pass over is refused.
func TestAttributeNumbers(t *testing.T) {
	policy, flags, err := Schedule{spec.Scheduler{Policy: "SCHED_DEADLINE", Runtime: 1, Deadline: 2, Period: 3,
		Flags: []string{"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"}}}.Numbers()
	if policy != 6 || flags != 5 || err != nil {
		t.Error(policy, flags, err)
	}
	if n, err := (SetIOPriority{spec.IOPriority{Class: "IOPRIO_CLASS_IDLE", Priority: 4}}).Number(); n != 3<<13|4 || err != nil {
		t.Error(n, err)
	}
	mode, nodes, err := UseMemory{spec.MemoryPolicy{Mode: "MPOL_BIND", Nodes: "1", Flags: []string{"MPOL_F_STATIC_NODES"}}}.Numbers()
	if mode != 2|1<<15 || !slices.Equal(nodes, []uint64{2}) || err != nil {
		t.Error(mode, nodes, err)
	}
	if n, err := (SeeMachine{"LINUX32"}).Number(); n != 8 || err != nil {
		t.Error(n, err)
	}
	for _, s := range []spec.Scheduler{
		{}, {Policy: "SCHED_EXT"}, {Policy: "SCHED_OTHER", Nice: 20}, {Policy: "SCHED_OTHER", Nice: -21}, {Policy: "SCHED_BATCH", Priority: 1},
		{Policy: "SCHED_FIFO"}, {Policy: "SCHED_RR", Priority: 100}, {Policy: "SCHED_FIFO", Priority: 1, Period: 1}, {Policy: "SCHED_IDLE", Flags: []string{"x"}},
	} {
		refused(t, s, func() error { _, _, err := Schedule{s}.Numbers(); return err }())
	}
	for _, p := range []spec.IOPriority{{}, {Class: "IOPRIO_CLASS_NONE"}, {Class: "IOPRIO_CLASS_BE", Priority: 8}, {Class: "IOPRIO_CLASS_BE", Priority: -1}} {
		_, err := SetIOPriority{p}.Number()
		refused(t, p, err)
	}
	for _, m := range []spec.MemoryPolicy{{}, {Mode: "MPOL_BIND"}, {Mode: "MPOL_LOCAL", Nodes: "0"}, {Mode: "MPOL_BIND", Nodes: "x"}, {Mode: "MPOL_LOCAL", Flags: []string{"x"}}} {
		_, _, err := UseMemory{m}.Numbers()
		refused(t, m, err)
	}
	_, err = SeeMachine{"BSD"}.Number()
	refused(t, "BSD", err)
}

func refused(t *testing.T, what any, err error) {
	t.Helper()
	if !errs.Is(err, errs.Invalid) || errs.HintOf(err) == "" || strings.HasPrefix(err.Error(), ":") {
		t.Errorf("%+v: %v, hint %q", what, err, errs.HintOf(err))
	}
}
