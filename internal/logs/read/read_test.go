package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cortenhq/corten/internal/logs"
	"github.com/cortenhq/corten/internal/logs/gz"
)

type tb interface {
	Helper()
	Fatal(...any)
}

func ok(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// book writes a log: record i was written at second i and says "i".
type book struct {
	t   tb
	dir string
	w   *logs.Writer
	n   int
}

func newBook(t tb, dir string, l logs.Limits) *book {
	w, err := logs.OpenWriter(dir, l)
	ok(t, err)
	return &book{t: t, dir: dir, w: w}
}

func (b *book) record(i int) logs.Record {
	return logs.Record{Time: int64(i) * 1e9, Stream: logs.Stream(i % 2), Content: []byte(strconv.Itoa(i))}
}

func (b *book) write(count int) {
	b.t.Helper()
	for range count {
		line := logs.Append(nil, b.record(b.n))
		b.n++
		if b.w.Room() < int64(len(line)) {
			ok(b.t, b.w.Rotate())
		}
		ok(b.t, b.w.Append(line))
	}
}

func (b *book) rotate() {
	b.t.Helper()
	ok(b.t, b.w.Rotate())
}

func (b *book) compress() {
	b.t.Helper()
	ok(b.t, gz.Folder(b.dir))
}

// text is what entries say, "!N" for N lost files.
func text(list []Entry) string {
	var all []string
	for _, e := range list {
		if e.Lost > 0 {
			all = append(all, "!"+strconv.Itoa(e.Lost))
			continue
		}
		all = append(all, string(e.Content))
	}
	return strings.Join(all, " ")
}

func numbers(from, to int) string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return strings.Join(all, " ")
}

func keep(list *[]Entry) func(Entry) error {
	return func(e Entry) error {
		e.Content = bytes.Clone(e.Content)
		*list = append(*list, e)
		return nil
	}
}

func readAll(t tb, dir string, req Request) []Entry {
	t.Helper()
	var all []Entry
	ok(t, Read(context.Background(), dir, req, keep(&all)))
	return all
}

// next reads what there is for now.
func next(t tb, r *Reader) string {
	t.Helper()
	var all []Entry
	for {
		e, err := r.Next()
		if err == io.EOF {
			return text(all)
		}
		ok(t, err)
		_ = keep(&all)(e)
	}
}

func TestParts(t *testing.T) {
	b := newBook(t, filepath.Join(t.TempDir(), "log"), logs.Limits{Size: 420}) // ten records a file
	b.write(45)
	all := Request{Tail: -1}
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, form := range []string{"plain", "compressed"} {
		for _, x := range []struct {
			name string
			req  Request
			want string
		}{
			{"all", all, numbers(0, 45)},
			{"no line", Request{}, ""},
			{"last line", Request{Tail: 1}, "44"},
			{"last of this file", Request{Tail: 4}, numbers(41, 45)},
			{"last of several files", Request{Tail: 27}, numbers(18, 45)},
			{"all lines", Request{Tail: 45}, numbers(0, 45)},
			{"more lines than there are", Request{Tail: 1000}, numbers(0, 45)},
			{"since", Request{Tail: -1, Since: at(33)}, numbers(33, 45)},
			{"since the beginning of a file", Request{Tail: -1, Since: at(30)}, numbers(30, 45)},
			{"since before all", Request{Tail: -1, Since: at(-5)}, numbers(0, 45)},
			{"since after all", Request{Tail: -1, Since: at(45)}, ""},
			{"until", Request{Tail: -1, Until: at(12)}, numbers(0, 13)},
			{"between", Request{Tail: -1, Since: at(8), Until: at(21)}, numbers(8, 22)},
			{"last lines since", Request{Tail: 5, Since: at(43)}, numbers(43, 45)},
		} {
			if got := text(readAll(t, b.dir, x.req)); got != x.want {
				t.Errorf("%s, %s: got %s, want %s", form, x.name, got, x.want)
			}
		}
		entries := readAll(t, b.dir, all)
		for i, e := range entries {
			if e.Time != at(i) || int(e.Stream) != i%2 || e.Partial {
				t.Errorf("%s, entry %d: %+v", form, i, e)
			}
			if got := text(readAll(t, b.dir, Request{From: e.After})); got != numbers(i+1, 45) {
				t.Errorf("%s, after entry %d: %s", form, i, got)
			}
		}
		b.compress()
	}
	if got := readAll(t, filepath.Join(b.dir, "none"), all); got != nil {
		t.Errorf("without a log: %v", got)
	}
}

// TestTail compares with the way through the whole log.
func TestTail(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "")
		ok(t, err)
		defer os.RemoveAll(dir)
		b := newBook(t, dir, logs.Limits{Size: rapid.Int64Range(0, 500<<10).Draw(t, "size")})
		defer b.w.Close()
		size := rapid.OneOf(rapid.IntRange(0, 50), rapid.IntRange(0, logs.MaxContent))
		var ends []logs.Position // of lines
		last := true
		for i := range rapid.IntRange(0, 60).Draw(t, "records") {
			rec := logs.Record{Time: int64(i), Partial: rapid.IntRange(0, 3).Draw(t, "partial") == 0,
				Content: bytes.Repeat([]byte{'x'}, size.Draw(t, "content"))}
			line := logs.Append(nil, rec)
			if b.w.Room() < int64(len(line)) {
				b.rotate()
			}
			ok(t, b.w.Append(line))
			if !last && len(ends) > 0 {
				ends = ends[:len(ends)-1]
			}
			ends, last = append(ends, b.w.Position()), !rec.Partial
		}
		if rapid.Bool().Draw(t, "compressed") {
			b.compress()
		}
		for n := range len(ends) + 1 {
			got, err := lastLines(dir, n)
			ok(t, err)
			want := logs.Position{}
			if n < len(ends) {
				want = ends[len(ends)-1-n]
			}
			if got != want {
				t.Fatalf("the last %d of %d lines begin at %+v, want %+v", n, len(ends), got, want)
			}
		}
	})
}

// TestAsleep has things happen between two looks.
func TestAsleep(t *testing.T) {
	for _, x := range []struct {
		name  string
		files int
		do    func(b *book)
		want  string
	}{
		{"nothing", 0, func(*book) {}, ""},
		{"more", 0, func(b *book) { b.write(2) }, "5 6"},
		{"rotation", 0, func(b *book) { b.write(1); b.rotate(); b.write(1) }, "5 6"},
		{"rotation only", 0, func(b *book) { b.rotate() }, ""},
		{"rotations", 0, func(b *book) {
			b.write(1)
			b.rotate()
			b.write(1)
			b.rotate()
			b.rotate()
			b.write(1)
		}, "5 6 7"},
		{"compressed", 0, func(b *book) {
			b.write(1)
			b.rotate()
			b.write(1)
			b.rotate()
			b.write(1)
			b.compress()
		}, "5 6 7"},
		// The file that is open is read to its end; the two after it are gone.
		{"removed", 2, func(b *book) {
			for range 4 {
				b.write(1)
				b.rotate()
			}
			b.write(1)
		}, "5 !2 8 9"},
		{"all removed but one", 1, func(b *book) { b.write(1); b.rotate(); b.write(1); b.rotate(); b.write(1) }, "5 !1 7"},
		{"the folder", 0, func(b *book) { ok(b.t, os.RemoveAll(b.dir)) }, ""},
		{"damaged", 0, func(b *book) {
			b.rotate()
			b.write(1)
			b.rotate()
			b.write(1)
			b.compress()
			ok(b.t, os.WriteFile(filepath.Join(b.dir, "2.log.gz"), []byte("no gzip"), 0o600))
		}, "!1 6"},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBook(t, t.TempDir(), logs.Limits{Files: x.files})
			defer b.w.Close()
			b.write(5)
			r := NewReader(b.dir, logs.Position{})
			defer r.Close()
			if got := next(t, r); got != numbers(0, 5) {
				t.Fatalf("got %s", got)
			}
			x.do(b)
			if got := next(t, r); got != x.want {
				t.Errorf("got %s, want %s", got, x.want)
			}
		})
	}
}

// TestTorn has a record that is written in two parts, as one is whose keeper was killed and
// whose next keeper writes it again, and lines that are no records.
func TestTorn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "1.log")
	line := func(i int) string { return string(logs.Append(nil, (*book)(nil).record(i))) }
	r := NewReader(dir, logs.Position{})
	defer r.Close()
	for _, x := range []struct{ content, want string }{
		{"", ""},
		{line(0) + line(1)[:20], "0"},
		{line(0), ""},
		{line(0) + line(1)[:41], ""},
		{line(0) + line(1), "1"},
		{line(0) + line(1) + "no record\n" + strings.Repeat("\x00", 3*bufSize), ""},
		{line(0) + line(1) + "no record\n" + strings.Repeat("\x00", 3*bufSize) + "\n" + line(2), "2"},
	} {
		ok(t, os.WriteFile(path, []byte(x.content), 0o600))
		if got := next(t, r); got != x.want {
			t.Errorf("of %.80q: got %s, want %s", x.content, got, x.want)
		}
	}
	for n, want := range []string{"", "2", "1 2", "0 1 2", "0 1 2"} {
		if got := text(readAll(t, dir, Request{Tail: n})); got != want {
			t.Errorf("the last %d: got %s, want %s", n, got, want)
		}
	}
}

// TestFollow reads while another writes, rotates and compresses.
func TestFollow(t *testing.T) {
	for _, files := range []int{0, 2} {
		t.Run(fmt.Sprint(files, " files"), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			const count = 20_000
			written := make(chan struct{})
			go func() {
				defer close(written)
				b := newBook(t, dir, logs.Limits{Size: 20 << 10, Files: files})
				defer b.w.Close()
				for b.n < count {
					b.write(1000)
					b.compress()
				}
				ok(t, os.WriteFile(filepath.Join(filepath.Dir(dir), "over"), nil, 0o600))
			}()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			over := func() bool {
				_, err := os.Stat(filepath.Join(filepath.Dir(dir), "over"))
				return err == nil
			}
			seen, lost := 0, 0
			err := Follow(ctx, dir, Request{Tail: -1}, Live{Over: over, Wake: []string{filepath.Dir(dir)}}, func(e Entry) error {
				if e.Lost > 0 {
					lost += e.Lost
					return nil
				}
				i, err := strconv.Atoi(string(e.Content))
				if i < seen || i > seen && lost == 0 && files == 0 || err != nil {
					return fmt.Errorf("%q after %d", e.Content, seen-1)
				}
				seen = i + 1
				return nil
			})
			<-written
			if err != nil || seen != count {
				t.Errorf("%v, %d lines, %d files lost", err, seen, lost)
			}
			if files == 0 && lost > 0 {
				t.Errorf("%d files lost", lost)
			}
		})
	}
}

func TestFollowEnds(t *testing.T) {
	b := newBook(t, t.TempDir(), logs.Limits{})
	defer b.w.Close()
	b.write(5)
	never := Live{Over: func() bool { return false }}
	var got []Entry
	ok(t, Follow(context.Background(), b.dir, Request{Tail: 2, Until: time.Now().Add(20 * time.Millisecond)}, never, keep(&got)))
	if text(got) != "3 4" {
		t.Errorf("until a time: %s", text(got))
	}
	why := errors.New("the user has gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	live := never
	live.Idle = func() error { cancel(why); return nil }
	if err := Follow(ctx, b.dir, Request{}, live, keep(&got)); err != why {
		t.Errorf("canceled: %v", err)
	}
	live.Idle = func() error { return why }
	if err := Follow(context.Background(), b.dir, Request{}, live, keep(&got)); err != why {
		t.Errorf("Idle's error became %v", err)
	}
	if err := Read(context.Background(), b.dir, Request{Tail: 1}, func(Entry) error { return why }); err != why {
		t.Errorf("the caller's error became %v", err)
	}
}

// TestEnd has more written after somebody asked for the end.
func TestEnd(t *testing.T) {
	b := newBook(t, filepath.Join(t.TempDir(), "log"), logs.Limits{})
	defer b.w.Close()
	for _, x := range []struct {
		name string
		do   func()
	}{
		{"of an empty folder", func() { ok(t, os.Remove(filepath.Join(b.dir, "1.log"))) }},
		{"of an empty file", func() { b.w.Close(); b.w = newBook(t, b.dir, logs.Limits{}).w }},
		{"of a file", func() {}},
		{"of a new file", b.rotate},
		{"of compressed files", b.compress},
	} {
		x.do()
		end, err := End(b.dir)
		ok(t, err)
		from := b.n
		if b.n == 0 && x.name == "of an empty folder" {
			b.w.Close()
			b.w = newBook(t, b.dir, logs.Limits{}).w
		}
		b.write(2)
		if got := text(readAll(t, b.dir, Request{From: end})); got != numbers(from, from+2) {
			t.Errorf("after the end %s: %s", x.name, got)
		}
	}
}

// FuzzFile reads a file of any bytes: each way through it gives the same records.
func FuzzFile(f *testing.F) {
	f.Add([]byte("1970-01-01T00:00:01.000000000Z stdout F a\n1970-01-01T00:00:02.000000000Z stderr P b\n"))
	f.Add([]byte("1970-01-01T00:00:01.000000000Z stdout P a\nx\n\n1970-01-01T00:00:02.000000000Z stderr F"))
	f.Add([]byte("\n\x00\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		ok(t, os.WriteFile(filepath.Join(dir, "1.log"), b, 0o600))
		all := readAll(t, dir, Request{Tail: -1})
		lines := 0
		for i, e := range all {
			if !e.Partial || i == len(all)-1 {
				lines++
			}
		}
		for n := range lines + 1 {
			got := readAll(t, dir, Request{Tail: n})
			tail := 0
			for i, e := range got {
				if !e.Partial || i == len(got)-1 {
					tail++
				}
			}
			if tail != n || !strings.HasSuffix(text(all), text(got)) {
				t.Fatalf("the last %d lines of %q are %q, of %q", n, b, text(got), text(all))
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	k := newBook(b, dir, logs.Limits{})
	defer k.w.Close()
	line := logs.Append(nil, logs.Record{Content: bytes.Repeat([]byte{'x'}, 80)})
	batch := bytes.Repeat(line, 1000)
	for range 200 {
		ok(b, k.w.Append(batch))
	}
	b.SetBytes(k.w.Position().Offset)
	for b.Loop() {
		ok(b, Read(context.Background(), dir, Request{Tail: -1}, func(Entry) error { return nil }))
	}
}

func BenchmarkTail(b *testing.B) {
	dir := b.TempDir()
	k := newBook(b, dir, logs.Limits{})
	defer k.w.Close()
	k.write(300_000)
	for b.Loop() {
		ok(b, Read(context.Background(), dir, Request{Tail: 10}, func(Entry) error { return nil }))
	}
}
