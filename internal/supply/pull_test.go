package supply_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/store"
	"github.com/cortenhq/corten/internal/supply"
	"github.com/cortenhq/corten/internal/testimage"
)

// A pulled image shows the files that unpacking its layers one over the other makes.
func TestPull(t *testing.T) {
	needRoot(t)
	images := map[string]testimage.Image{
		"busybox":    testimage.Busybox(t),
		"configured": testimage.Configured(t),
	}
	if !testing.Short() { // they take their time: one has a file of a gigabyte
		images["features"], images["debian"] = testimage.Features(t), testimage.Debian(t)
	}
	hosts := map[string]string{"in-process": testimage.Registry(t), "debian": testimage.DebianRegistry(t).Host}
	for what, im := range images {
		want := rootFS(t, im)
		for server, host := range hosts {
			if what == "features" && server == "debian" || what == "debian" && server == "in-process" {
				continue // large ones come from one of them
			}
			im.Push(t, host, what+":1")
			t.Run(what+"/"+server, func(t *testing.T) {
				eachKind(t, func(t *testing.T, l *library) {
					x := l.pull(t, host+"/"+what+":1")
					if x.Manifest != im.Digest() || x.ID != oci.FromBytes(im.ConfigFile()) {
						t.Errorf("pulled manifest %s and configuration %s", x.Manifest, x.ID)
					}
					if diff := cmp.Diff(want, look(t, l.show(t, x))); diff != "" {
						t.Errorf("the image shows (+) what it should not (-):\n%s", diff)
					}
					l.sound(t)
				})
			})
		}
	}
}

func TestPullAgain(t *testing.T) {
	eachKind(t, func(t *testing.T, l *library) {
		p := newProxy(t, testimage.Registry(t))
		one, two := testimage.Busybox(t), testimage.Configured(t)
		one.Push(t, p.host, "app:1")
		first := l.pull(t, p.host+"/app:1")
		p.fetched()

		x, news, err := supply.Pull(t.Context(), l.Library, client(), ref(t, p.host+"/app:1"), nil, quiet)
		if err != nil || news || x.ID != first.ID {
			t.Errorf("pulled again: news %v, id %s, %v", news, x.ID, err)
		}
		if got := p.fetched(); len(got) != 0 {
			t.Errorf("asked for %v", got)
		}
		// The name goes to another image, and the first one stays without it.
		two.Push(t, p.host, "app:1")
		if second := l.pull(t, p.host+"/app:1"); second.ID == first.ID {
			t.Error("the old image was pulled")
		}
		list, err := l.Store().Images()
		if err != nil || len(list) != 2 || list[0].Ref != "" || list[0].Descriptor.Digest != first.Manifest {
			t.Errorf("images are %v, %v", list, err)
		}
		l.sound(t)
	})
}

func TestPullByDigest(t *testing.T) {
	host, im := testimage.Registry(t), testimage.True(t)
	im.Push(t, host, "app:1")
	l := newLibrary(t, "dir")
	byDigest := host + "/app@" + string(im.Digest())
	l.pull(t, byDigest)
	if x, err := l.Find(byDigest, nil); err != nil || x.Ref != byDigest {
		t.Errorf("found %q, %v", x.Ref, err)
	}
	if _, err := l.Find(host+"/app:1", nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("the tag was not pulled: %v", err)
	}
	// With both, the digest decides.
	if x := l.pull(t, host+"/app:9@"+string(im.Digest())); x.Ref != byDigest {
		t.Errorf("pulled as %q", x.Ref)
	}
	other := oci.FromBytes([]byte("something else"))
	if _, _, err := supply.Pull(t.Context(), l.Library, client(), ref(t, host+"/app@"+string(other)), nil, quiet); !errs.Is(err, errs.NotFound) {
		t.Errorf("pulled what is not there: %v", err)
	}
}

// pushIndex pushes an index of one image for each platform.
func pushIndex(t *testing.T, host string, images map[string]testimage.Image) oci.Digest {
	t.Helper()
	var idx v1.ImageIndex = empty.Index
	for platform, im := range images {
		p := oci.ParsePlatform(platform)
		// An image says too what it is for.
		raw, err := im.V1(t).ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c := raw.DeepCopy()
		c.Architecture, c.Variant = p.Architecture, p.Variant
		v, err := mutate.ConfigFile(im.V1(t), c)
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: v, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: p.Architecture, Variant: p.Variant}}})
	}
	tag, err := name.NewTag(host + "/many:1")
	if err == nil {
		err = remote.WriteIndex(tag, idx)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return oci.Digest(d.String())
}

func TestPlatforms(t *testing.T) {
	host := testimage.Registry(t)
	here, other := image.Host(), oci.Platform{OS: "linux", Architecture: "s390x"}
	index := pushIndex(t, host, map[string]testimage.Image{here.String(): testimage.True(t), other.String(): testimage.Busybox(t)})
	l := newLibrary(t, "dir")
	name := host + "/many:1"

	x, news, err := supply.Pull(t.Context(), l.Library, client(), ref(t, name), &other, quiet)
	if err != nil || !news || x.Platform.Architecture != "s390x" || x.Target.Digest != index {
		t.Fatalf("pulled %v of %s, %v", x.Platform, x.Target.Digest, err)
	}
	// It is what the name means as long as nothing else was pulled.
	if x, err := l.Find(name, nil); err != nil || x.Platform.Architecture != "s390x" {
		t.Errorf("found %v, %v", x.Platform, err)
	}
	if _, err := l.Find(name, &here); !errs.Is(err, errs.NotFound) {
		t.Errorf("found what was not pulled: %v", err)
	}
	// The same name, now for this machine.
	if x, news, err = supply.Pull(t.Context(), l.Library, client(), ref(t, name), nil, quiet); err != nil || !news || x.Platform.Architecture != here.Architecture {
		t.Fatalf("pulled %v, news %v, %v", x.Platform, news, err)
	}
	for _, want := range []*oci.Platform{nil, &here, &other} {
		x, err := l.Find(name, want)
		if want == nil {
			want = &here
		}
		if err != nil || x.Platform.Architecture != want.Architecture {
			t.Errorf("found %v for %v, %v", x.Platform, want, err)
		}
	}
	if l.count(t) != 1 {
		t.Errorf("%d images", l.count(t))
	}
	sparc := oci.Platform{OS: "linux", Architecture: "sparc64"}
	if _, _, err := supply.Pull(t.Context(), l.Library, client(), ref(t, name), &sparc, quiet); !errs.Is(err, errs.NotFound) || !strings.Contains(errs.HintOf(err), "linux/s390x") {
		t.Errorf("pulled for a platform that there is not: %v (%s)", err, errs.HintOf(err))
	}
	l.sound(t)
}

func TestWrongPlatform(t *testing.T) {
	host := testimage.Registry(t)
	testimage.True(t).Push(t, host, "true:1")
	l := newLibrary(t, "dir")
	other := oci.Platform{OS: "linux", Architecture: "s390x"}
	if _, _, err := supply.Pull(t.Context(), l.Library, client(), ref(t, host+"/true:1"), &other, quiet); !errs.Is(err, errs.NotFound) {
		t.Errorf("pulled for %v: %v", other, err)
	}
	if l.count(t) != 0 {
		t.Error("it was published")
	}
}

// A next version of an image costs its changed layer.
func TestPullFetchesWhatIsNew(t *testing.T) {
	p := newProxy(t, testimage.Registry(t))
	layer := func(s string) testimage.Layer {
		return testimage.Layer{Files: []testimage.File{{Name: s, Data: []byte(strings.Repeat(s, 1000))}}}
	}
	testimage.Build(t, oci.Config{}, layer("a"), layer("b"), layer("c")).Push(t, p.host, "app:1")
	v2 := testimage.Build(t, oci.Config{}, layer("a"), layer("b2"), layer("c"))
	v2.Push(t, p.host, "app:2")
	// The same content in other clothes is not fetched again.
	zstd := layer("a")
	zstd.Compression = testimage.Zstd
	testimage.Build(t, oci.Config{}, zstd, layer("c")).Push(t, p.host, "app:3")
	l := newLibrary(t, "dir")
	for i, want := range []int{4, 2, 1} { // with the configuration
		p.fetched()
		l.pull(t, p.host+"/app:"+string(rune('1'+i)))
		if got := p.fetched(); len(got) != want {
			t.Errorf("version %d: %d blobs fetched, want %d", i+1, len(got), want)
		}
	}
	l.sound(t)
}

// What arrived before a pull ended is not fetched again.
func TestPullGoesOn(t *testing.T) {
	p := newProxy(t, testimage.Registry(t))
	layer := func(s string) testimage.Layer {
		return testimage.Layer{Files: []testimage.File{{Name: s, Data: []byte(strings.Repeat(s, 1000))}}}
	}
	im := testimage.Build(t, oci.Config{}, layer("a"), layer("b"), layer("c"))
	im.Push(t, p.host, "app:1")
	m, err := im.V1(t).Manifest()
	if err != nil {
		t.Fatal(err)
	}
	stuck := m.Layers[1].Digest.String()
	p.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, stuck) {
			<-r.Context().Done()
			return true
		}
		return false
	}
	l := newLibrary(t, "dir")
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	arrived := 0
	_, _, err = supply.Pull(ctx, l.Library, client(), ref(t, p.host+"/app:1"), nil, func(ev image.Event) {
		mu.Lock()
		defer mu.Unlock()
		if ev.Stage == image.Complete {
			if arrived++; arrived == 2 {
				cancel()
			}
		}
	})
	if !errs.Is(err, errs.Canceled) {
		t.Errorf("the pull ended with %v", err)
	}
	if l.count(t) != 0 {
		t.Error("half an image was published")
	}
	p.fetched()
	p.answer = nil
	l.pull(t, p.host+"/app:1")
	if got := p.fetched(); !slices.Contains(got, stuck) || len(got) != 2 {
		t.Errorf("fetched %v", got)
	}
	l.sound(t)
}

func TestTwoPullsAtOnce(t *testing.T) {
	host := testimage.Registry(t)
	im := testimage.Configured(t)
	im.Push(t, host, "app:1")
	eachKind(t, func(t *testing.T, l *library) {
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				if _, _, err := supply.Pull(t.Context(), l.Library, client(), ref(t, host+"/app:1"), nil, quiet); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if l.count(t) != 1 {
			t.Errorf("%d images", l.count(t))
		}
		l.sound(t)
	})
}

// damage changes a byte in the middle of a blob that Debian's registry keeps.
func damage(t *testing.T, dir string, d oci.Digest) (repair func()) {
	t.Helper()
	path := filepath.Join(dir, "docker/registry/v2/blobs/sha256", d.Hex()[:2], d.Hex(), "data")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(good)
	bad[len(bad)/2] ^= 1
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(bad)
	return func() { write(good) }
}

func TestDamagedBlobs(t *testing.T) {
	server := testimage.DebianRegistry(t)
	layer := func(name string, c testimage.Compression) testimage.Layer {
		data := make([]byte, 300_000) // neither small nor compressible
		rand.NewChaCha8([32]byte{byte(c)}).Read(data)
		return testimage.Layer{Files: []testimage.File{{Name: name, Data: data}}, Compression: c}
	}
	im := testimage.Build(t, oci.Config{}, layer("a", testimage.Gzip), layer("b", testimage.Zstd), layer("c", testimage.Plain))
	im.Push(t, server.Host, "app:1")
	m, err := im.V1(t).Manifest()
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string]oci.Digest{"manifest": im.Digest(), "configuration": oci.Digest(m.Config.Digest.String())}
	for _, d := range m.Layers {
		blobs["layer "+string(d.MediaType)] = oci.Digest(d.Digest.String())
	}
	for what, d := range blobs {
		t.Run(what, func(t *testing.T) {
			l := newLibrary(t, "dir")
			repair := damage(t, server.Dir, d)
			_, _, err := supply.Pull(t.Context(), l.Library, client(), ref(t, server.Host+"/app:1"), nil, quiet)
			repair()
			if err == nil {
				t.Fatal("it was pulled")
			}
			if what != "manifest" && !errs.Is(err, errs.Corrupt) { // which the registry itself looks at
				t.Errorf("the error is %v, of kind %v", err, errs.KindOf(err))
			}
			if l.count(t) != 0 {
				t.Error("it was published")
			}
			l.sound(t)
			l.pull(t, server.Host+"/app:1")
			l.sound(t)
		})
	}
}

// An image whose manifest and configuration do not fit is refused before its layers come.
func TestLyingManifests(t *testing.T) {
	p := newProxy(t, testimage.Registry(t))
	good := testimage.Busybox(t)
	good.Push(t, p.host, "app:1")
	push := func(tag string, change func(*v1.ConfigFile)) {
		c, err := good.V1(t).ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c = c.DeepCopy()
		change(c)
		im, err := mutate.ConfigFile(good.V1(t), c)
		if err != nil {
			t.Fatal(err)
		}
		r, err := name.NewTag(p.host + "/app:" + tag)
		if err == nil {
			err = remote.Write(r, im)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	push("more", func(c *v1.ConfigFile) { c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, c.RootFS.DiffIDs[0]) })
	push("fewer", func(c *v1.ConfigFile) { c.RootFS.DiffIDs = nil })
	push("other", func(c *v1.ConfigFile) { c.RootFS.DiffIDs[0].Hex = strings.Repeat("a", 64) })
	push("path", func(c *v1.ConfigFile) { c.RootFS.DiffIDs[0].Hex = "../../../../etc/passwd" })
	push("windows", func(c *v1.ConfigFile) { c.OS = "windows" })
	l := newLibrary(t, "dir")
	for tag, kind := range map[string]errs.Kind{"more": errs.Corrupt, "fewer": errs.Corrupt, "other": errs.Corrupt, "path": errs.Corrupt, "windows": errs.Unsupported} {
		_, _, err := supply.Pull(t.Context(), l.Library, client(), ref(t, p.host+"/app:"+tag), nil, quiet)
		if !errs.Is(err, kind) {
			t.Errorf("%s: %v, of kind %v", tag, err, errs.KindOf(err))
		}
	}
	if l.count(t) != 0 {
		t.Error("something was published")
	}
	l.sound(t)
}

// An image that came for one kind of tree gets the other kind when it is needed.
func TestTreeOfAnotherKind(t *testing.T) {
	needMounts(t)
	host, im := testimage.Registry(t), testimage.Configured(t)
	im.Push(t, host, "app:1")
	l := newLibrary(t, "dir")
	x := l.pull(t, host+"/app:1")
	other := openLibrary(t, l.Root(), l.run, "erofs")
	if _, ok, err := other.Tree(x); ok || err != nil {
		t.Fatalf("there is one: %v", err)
	}
	made, err := other.MakeTree(t.Context(), x)
	if err != nil || made.Kind != store.EROFS {
		t.Fatal(made, err)
	}
	if diff := cmp.Diff(rootFS(t, im), look(t, other.show(t, x))); diff != "" {
		t.Error(diff)
	}
	a, _, _ := l.Tree(x)
	f, err := a.Facts()
	g, err2 := made.Facts()
	if err != nil || err2 != nil || !cmp.Equal(f, g) || f.Entries == 0 {
		t.Errorf("facts %v and %v, %v, %v", f, g, err, err2)
	}
	if _, err := other.Remove(host+"/app:1", false); err != nil {
		t.Error(err)
	}
	if _, err := other.Collect(t.Context()); err != nil {
		t.Error(err)
	}
	for _, l := range []*library{l, other} {
		if _, ok, _ := l.Tree(x); ok {
			t.Error("a tree is left")
		}
	}
}
