package events

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, root string, q Query) []Event {
	t.Helper()
	var all []Event
	ok(t, Read(root, q, func(e Event) error { all = append(all, e); return nil }))
	return all
}

func ids(list []Event) string {
	var all []string
	for _, e := range list {
		all = append(all, e.ID)
	}
	return strings.Join(all, " ")
}

func TestFormat(t *testing.T) {
	root := t.TempDir()
	ok(t, Append(root, Event{Time: time.Unix(0, 1763726400000000001), Type: TypeContainer, Action: "start", ID: "4711",
		Attributes: map[string]string{"name": "web", "image": "debian:12", "note": "a \"b\"\n"}}))
	ok(t, Append(root, Event{Time: time.Unix(1, 0), Type: TypeVolume, Action: "create", ID: "v"}))
	got, err := os.ReadFile(filepath.Join(root, "events/1.jsonl"))
	ok(t, err)
	want := `{"time":1763726400000000001,"type":"container","action":"start","id":"4711","attributes":{"image":"debian:12","name":"web","note":"a \"b\"\n"}}` +
		"\n" + `{"time":1000000000,"type":"volume","action":"create","id":"v"}` + "\n"
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.String()
		e := Event{time.Unix(0, rapid.Int64().Draw(t, "time")), "t" + word.Draw(t, "type"), word.Draw(t, "action"), word.Draw(t, "id"), nil}
		if rapid.Bool().Draw(t, "more") {
			e.Attributes = rapid.MapOfN(word, word, 1, 5).Draw(t, "attributes")
		}
		line := encode(&e)
		if n := strings.Count(string(line), "\n"); n != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("not one line: %q", line)
		}
		got, whole := decode(line)
		if d := cmp.Diff(e, got); !whole || d != "" {
			t.Fatal(d)
		}
		if at, whole := timeOf(line); !whole || !at.Equal(e.Time) {
			t.Fatalf("time %v", at)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"time":1,"type":"image","action":"pull","id":"x","attributes":{"name":"y"}}`))
	f.Add([]byte(`{"time":`))
	f.Add([]byte(`{"type":"x","attributes":{}}`))
	f.Add([]byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, whole := decode(line)
		if !whole {
			return
		}
		again, whole := decode(encode(&e))
		if d := cmp.Diff(e, again, cmpopts.EquateEmpty()); d != "" || !whole {
			t.Errorf("%q is not what it was when it is written again: %s", line, d)
		}
	})
}

func TestQuery(t *testing.T) {
	root := t.TempDir()
	for i := range 5 {
		kind := TypeContainer
		if i == 2 {
			kind = TypeImage
		}
		ok(t, Append(root, Event{Time: time.Unix(int64(i), 0), Type: kind, ID: strconv.Itoa(i)}))
	}
	for _, x := range []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{}, "0 1 2 3 4"},
		{"since", Query{Since: time.Unix(3, 0)}, "3 4"},
		{"until", Query{Until: time.Unix(1, 0)}, "0 1"},
		{"between", Query{Since: time.Unix(1, 0), Until: time.Unix(3, 999)}, "1 2 3"},
		{"match", Query{Match: func(e *Event) bool { return e.Type == TypeImage }}, "2"},
	} {
		if got := ids(readAll(t, root, x.q)); got != x.want {
			t.Errorf("%s: got %s, want %s", x.name, got, x.want)
		}
	}
	if got := readAll(t, filepath.Join(root, "nowhere"), Query{}); got != nil {
		t.Errorf("without a log: %v", got)
	}
	stop := errors.New("enough")
	if err := Read(root, Query{}, func(Event) error { return stop }); err != stop {
		t.Errorf("the caller's error became %v", err)
	}
}

// TestKilledWriter has a writer end in the middle of a line.
func TestKilledWriter(t *testing.T) {
	root := t.TempDir()
	ok(t, Append(root, Event{Type: TypeImage, ID: "1"}))
	path := filepath.Join(root, "events/1.jsonl")
	b, err := os.ReadFile(path)
	ok(t, err)
	ok(t, os.WriteFile(path, append(b, b[:len(b)-3]...), 0o600))
	if got := ids(readAll(t, root, Query{})); got != "1" {
		t.Errorf("got %s", got)
	}
	ok(t, Append(root, Event{Type: TypeImage, ID: "2"}))
	if got := ids(readAll(t, root, Query{})); got != "1 2" {
		t.Errorf("got %s", got)
	}
}

// big makes an event of about size bytes.
func big(id string, size int) Event {
	return Event{Type: TypeContainer, ID: id, Attributes: map[string]string{"x": strings.Repeat("y", size)}}
}

func TestRotation(t *testing.T) {
	root := t.TempDir()
	const each = 512 << 10
	for i := range 60 { // 30 MiB: seven files, of which four stay
		ok(t, Append(root, big(strconv.Itoa(i), each)))
	}
	all, err := list(filepath.Join(root, "events"))
	ok(t, err)
	if len(all) != maxFiles || all[0] < 4 {
		t.Errorf("files %v", all)
	}
	got := readAll(t, root, Query{})
	if len(got) < 24 || got[len(got)-1].ID != "59" {
		t.Errorf("%d events are left: %s", len(got), ids(got))
	}
	for i := range got {
		if want := strconv.Itoa(60 - len(got) + i); got[i].ID != want {
			t.Fatalf("event %d is %s, want %s", i, got[i].ID, want)
		}
	}
}

// TestFollow has writers race over rotations while somebody follows: each event once.
func TestFollow(t *testing.T) {
	root := t.TempDir()
	ok(t, Append(root, Event{Type: TypeImage, ID: "before"}))
	const writers, each = 4, 700 // of 4 KiB: 11 MiB, three files
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			<-begin
			for i := range each {
				if err := Append(root, big(strconv.Itoa(w)+"."+strconv.Itoa(i), 4<<10)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := errors.New("all seen")
	seen := map[string]int{}
	close(begin)
	err := Follow(ctx, root, Query{Since: time.Unix(1, 0)}, func(e Event) error {
		seen[e.ID]++
		if len(seen) == writers*each+1 {
			return done
		}
		return nil
	})
	wg.Wait()
	if err != done {
		t.Errorf("%v after %d events", err, len(seen))
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was seen %d times", id, n)
		}
	}
}

func TestFollowEnds(t *testing.T) {
	root := t.TempDir()
	ok(t, Append(root, Event{Type: TypeImage, ID: "1"}))
	var got []Event
	note := func(e Event) error { got = append(got, e); return nil }
	ok(t, Follow(context.Background(), root, Query{Until: time.Now().Add(20 * time.Millisecond)}, note))
	if ids(got) != "1" {
		t.Errorf("until a time: %s", ids(got))
	}
	why := errors.New("the user has gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	got = nil
	if err := Follow(ctx, root, Query{}, note); err != why || len(got) > 0 {
		t.Errorf("%v, %s", err, ids(got))
	}
}

// TestLateWriter has a writer write to the file that it chose before the next was begun.
func TestLateWriter(t *testing.T) {
	root := t.TempDir()
	ok(t, Append(root, Event{Type: TypeImage, ID: "1"}))
	dir := filepath.Join(root, "events")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := errors.New("seen")
	err := Follow(ctx, root, Query{Since: time.Unix(1, 0)}, func(e Event) error {
		switch e.ID {
		case "1":
			_, err := begin(dir, 1)
			return errors.Join(err, Append(root, Event{Type: TypeImage, ID: "2"}))
		case "2":
			_, err := writeLine(filepath.Join(dir, "1.jsonl"), encode(&Event{Time: time.Now(), Type: TypeImage, ID: "late"}))
			return err
		}
		return done
	})
	if err != done {
		t.Error(err)
	}
}

func BenchmarkAppend(b *testing.B) {
	root := b.TempDir()
	for b.Loop() {
		ok(b, Append(root, Event{Type: TypeContainer, Action: "start", ID: strings.Repeat("5", 64), Attributes: map[string]string{"name": "web", "image": "debian:12"}}))
	}
}
