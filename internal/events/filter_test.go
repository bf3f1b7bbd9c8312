package events

import (
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
)

func TestFilter(t *testing.T) {
	all := []Event{
		{Type: TypeContainer, Action: "start", ID: "ab12", Attributes: map[string]string{"name": "web", "image": "localhost:5000/site:1", "tier": "front"}},
		{Type: TypeContainer, Action: "exec_start: sh -c date", ID: "ab34", Attributes: map[string]string{"name": "db", "image": "debian"}},
		{Type: TypeImage, Action: "pull", ID: "debian:12", Attributes: map[string]string{"name": "debian"}},
		{Type: TypeVolume, Action: "create", ID: "web"},
		{Type: TypeNetwork, Action: "connect", ID: "cd56", Attributes: map[string]string{"name": "lab", "container": "ab12"}},
	}
	for _, x := range []struct{ filters, want string }{
		{"", "0 1 2 3 4"},
		{"type=image", "2"},
		{"type=image type=volume", "2 3"},
		{"event=start", "0"},
		{"event=exec_start", "1"},
		{"container=web", "0"},
		{"container=/web", "0"},
		{"container=ab", "0 1"},
		{"container=ab3", "1"},
		{"container=we", ""},
		{"image=debian", "1 2"},
		{"image=debian:12", "2"},
		{"image=localhost:5000/site", "0"},
		{"image=localhost:5000/site:1", "0"},
		{"image=localhost", ""},
		{"volume=web", "3"},
		{"network=lab", "4"},
		{"network=cd56", "4"},
		{"network=web", ""},
		{"type=network", "4"},
		{"label=tier", "0"},
		{"label=tier=front", "0"},
		{"label=tier=back", ""},
		{"label=tier label=other", ""},
		{"type=container event=start event=pull", "0"},
	} {
		f, err := ParseFilter(strings.Fields(x.filters))
		ok(t, err)
		var got []string
		for i := range all {
			if f.Match(&all[i]) {
				got = append(got, string(rune('0'+i)))
			}
		}
		if s := strings.Join(got, " "); s != x.want {
			t.Errorf("%s: got %s, want %s", x.filters, s, x.want)
		}
	}
	for _, bad := range []string{"type", "type=", "shiny=1", "scope=x"} {
		if _, err := ParseFilter([]string{bad}); errs.HintOf(err) == "" {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
