package values

import (
	"testing"
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

func TestWhen(t *testing.T) {
	zone := time.FixedZone("here", 2*3600)
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, zone)
	for _, x := range []struct{ s, want string }{
		{"10m", "2026-11-21T09:50:00Z"},
		{"1h30m", "2026-11-21T08:30:00Z"},
		{"-1m", "2026-11-21T10:01:00Z"},
		{"0", "1970-01-01T00:00:00Z"},
		{"1763726400", "2025-11-21T12:00:00Z"},
		{"1763726400.000000001", "2025-11-21T12:00:00.000000001Z"},
		{"1763726400.5", "2025-11-21T12:00:00.5Z"},
		{"-1.5", "1969-12-31T23:59:58.5Z"},
		{"2026-11-21T12:00:00Z", "2026-11-21T12:00:00Z"},
		{"2026-11-21T12:00:00.123456789+01:00", "2026-11-21T11:00:00.123456789Z"},
		{"2026-11-21T12:00+01:00", "2026-11-21T11:00:00Z"},
		{"2026-11-21T12:00:00", "2026-11-21T10:00:00Z"},
		{"2026-11-21T12:00:00.25", "2026-11-21T10:00:00.25Z"},
		{"2026-11-21T12:00", "2026-11-21T10:00:00Z"},
		{"2026-11-21", "2026-11-20T22:00:00Z"},
		{"2026-11-21Z", "2026-11-21T00:00:00Z"},
	} {
		got, err := When("since", x.s, now)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != x.want {
			t.Errorf("%s: %v, %v, want %s", x.s, got.UTC(), err, x.want)
		}
	}
	for _, bad := range []string{"yesterday", "1763726400.0000000001", "1763726400.x", ".5", "+5", "2026-13-01", "12:00"} {
		if got, err := When("since", bad, now); errs.HintOf(err) == "" {
			t.Errorf("%s: %v, %v", bad, got, err)
		}
	}
	if got, err := When("since", "", now); err != nil || !got.IsZero() {
		t.Errorf("nothing: %v, %v", got, err)
	}
}
