package main

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cortenhq/corten/bench/procs"
	"github.com/cortenhq/corten/internal/testimage"
)

// pullStep is one of the pulls that follow each other on one store.
type pullStep struct {
	tag   string
	table *table
}

// benchPull measures pull and unpack of an image into an empty store, then of its next
// version and of a relation of it into the same store.
func benchPull(s *scope) []*table {
	set := testimage.Bench(s)
	server := testimage.DebianRegistry(s)
	s.aside = append(s.aside, server.PID)
	set.V1.Push(s, server.Host, "bench:1")
	set.V2.Push(s, server.Host, "bench:2")
	set.Other.Push(s, server.Host, "bench:other")
	proxy := s.countingProxy(server.Host)
	peak := s.build("peak")

	st := set.Stats
	metrics := []metric{wallS, cpuS, peakMB, fetchedMB, diskMB, syncS}
	steps := []pullStep{
		{"1", &table{Name: "pull", Metrics: metrics,
			Title: fmt.Sprintf("pull and unpack %d files, %.0f MB (%.0f MB packed), into an empty store", st.Files, mb(st.Bytes), mb(st.PackedV1))}},
		{"2", &table{Name: "pull-next", Metrics: metrics,
			Title: fmt.Sprintf("then the next version: %d files changed, %.1f MB (%.1f MB packed)", st.V2Files, mb(st.V2Bytes), mb(st.PackedChange))}},
		{"other", &table{Name: "pull-other", Metrics: metrics,
			Title: fmt.Sprintf("then another image that shares 95 %% of the files: %d differ, %.1f MB", st.OtherFiles, mb(st.OtherBytes))}},
	}
	var result []*table
	ps := s.chosen(func(p peer) bool { return len(p.pull) > 0 })
	for _, step := range steps {
		for _, p := range ps {
			step.table.row(p.name).Note = p.missing()
		}
		result = append(result, step.table)
	}
	for range max(1, s.n/10) {
		for i, p := range ps {
			s.say("pull with %s", p.name)
			err := s.within(func(turn *scope) { turn.pullAll(p, i, steps, proxy, server, peak) })
			if err != nil {
				for _, step := range steps {
					step.table.Rows[i].Note = "fails: " + err.Error()
				}
			}
		}
	}
	return result
}

// pullAll takes the steps with peer p, whose results are row i of each table.
func (s *scope) pullAll(p peer, i int, steps []pullStep, proxy *counter, server testimage.Server, peak string) {
	if steps[0].table.Rows[i].Note != "" {
		return
	}
	ss := s.open(p)
	for _, step := range steps {
		ss.set(map[string]string{"ref": proxy.host + "/bench:" + step.tag, "tag": step.tag})
		had := procs.DiskUse(ss.values["store"])
		s.must(evenCache(server.Dir))
		proxy.bytes.Store(0)
		var total usage
		for _, c := range p.pull {
			u, err := s.measure(peak, ss.pid, ss.argv(c))
			s.must(err)
			total.wall += u.wall
			total.cpu += u.cpu
			total.largest, total.together = max(total.largest, u.largest), max(total.together, u.together)
		}
		begin := time.Now()
		syscall.Sync()
		r := step.table.Rows[i]
		r.add(syncS, time.Since(begin).Seconds())
		r.add(wallS, total.wall.Seconds())
		r.add(cpuS, total.cpu.Seconds())
		r.add(peakMB, mb(total.peak()))
		r.add(fetchedMB, mb(proxy.bytes.Load()))
		r.add(diskMB, mb(procs.DiskUse(ss.values["store"])-had))
	}
}

// evenCache brings the page cache to the same state before each pull: empty, if this host
// lets us, but for the registry's files, so that the peers are measured and not the disk
// behind the registry.
func evenCache(registry string) error {
	dropCaches() // where it is not permitted, the report says so
	return filepath.WalkDir(registry, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		return err
	})
}

// counter is a proxy before a registry that counts the bytes of the bodies it passes on.
type counter struct {
	host  string
	bytes atomic.Int64
}

func (s *scope) countingProxy(to string) *counter {
	c := &counter{}
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	p.ModifyResponse = func(r *http.Response) error {
		r.Body = &countedBody{r.Body, &c.bytes}
		return nil
	}
	server := httptest.NewServer(p)
	s.Cleanup(server.Close)
	c.host = server.Listener.Addr().String()
	return c
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }
