package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/image"
	"github.com/cortenhq/corten/internal/kernel/nest"
	"github.com/cortenhq/corten/internal/oci"
	"github.com/cortenhq/corten/internal/registry"
	"github.com/cortenhq/corten/internal/registry/registries"
	"github.com/cortenhq/corten/internal/supply"
)

// supplier is package supply as the engine asks for it.
type supplier struct{}

func (supplier) Pull(ctx context.Context, lib *image.Library, req engine.PullRequest) (engine.Pulled, error) {
	ref, err := oci.ParseRef(req.Name)
	if err != nil {
		return engine.Pulled{}, err
	}
	want, err := image.PlatformOf(req.Platform)
	if err != nil {
		return engine.Pulled{}, err
	}
	tell := listener(req.Progress)
	client, err := registryClient(ctx, tell)
	if err != nil {
		return engine.Pulled{}, err
	}
	defer client.Close()
	x, news, err := supply.Pull(ctx, lib, client, ref, want, tell)
	return engine.Pulled{Ref: ref, Image: x, News: news}, err
}

func (supplier) Load(ctx context.Context, lib *image.Library, req engine.LoadRequest) error {
	want, err := image.PlatformOf(req.Platform)
	if err != nil {
		return err
	}
	tell := listener(req.Progress)
	each := func(l supply.Loaded) { req.Each(engine.LoadedImage{Image: l.Image, Refs: l.Refs}) }
	if req.Path == "" {
		return supply.LoadStream(ctx, lib, req.Stream, want, tell, each)
	}
	return supply.LoadFile(ctx, lib, req.Path, want, tell, each)
}

func (supplier) Import(ctx context.Context, lib *image.Library, req engine.ImportRequest) (engine.Image, error) {
	in := supply.ImportRequest{Tar: req.Stream, From: "-", Message: req.Message, Changes: req.Changes,
		Platform: image.Host(), Now: time.Now()}
	if req.Name != "" {
		ref, err := oci.ParseRef(req.Name)
		if err != nil {
			return engine.Image{}, err
		}
		in.Ref = &ref
	}
	want, err := image.PlatformOf(req.Platform)
	if err != nil {
		return engine.Image{}, err
	}
	if want != nil {
		in.Platform = *want
	}
	if req.Path != "" {
		f, err := os.Open(req.Path)
		if err != nil {
			return engine.Image{}, errs.Wrap("import image", req.Path, err)
		}
		defer f.Close()
		in.Tar, in.From = f, req.Path
	}
	return supply.Import(ctx, lib, in)
}

func (supplier) Commit(ctx context.Context, lib *image.Library, l engine.NewLayer) (engine.Image, error) {
	in := supply.CommitRequest{Base: l.Base, Tar: l.Tar, Config: l.Config, Author: l.Author, Message: l.Message,
		CreatedBy: l.CreatedBy, Now: time.Now()}
	if l.Name != "" {
		ref, err := oci.ParseRef(l.Name)
		if err != nil {
			return engine.Image{}, err
		}
		in.Ref = &ref
	}
	return supply.Commit(ctx, lib, in)
}

func listener(f func(engine.ImageEvent)) func(engine.ImageEvent) {
	if f == nil {
		return func(engine.ImageEvent) {}
	}
	return f
}

// registryClient is made of what administrator and user say about registries, in Corten's
// files and in those of Docker and Podman.
func registryClient(ctx context.Context, tell func(engine.ImageEvent)) (*registry.Client, error) {
	settings, err := registries.Load(ownOr("corten/registries.json", "/etc/corten/registries.json"),
		ownOr("containers/registries.conf", "/etc/containers/registries.conf"))
	if err != nil {
		return nil, err
	}
	keys := registry.Keychain{Files: registry.AuthFiles(os.Getenv, nest.Caller())}
	return registry.New(registry.Config{
		Auth:       keys.Lookup,
		Registries: settings,
		CertDirs:   certDirs(),
		Progress: func(ev registry.Event) {
			if ev.Retry != nil && ctx.Err() == nil { // else it is not going to be tried again
				tell(engine.ImageEvent{Stage: image.Retrying, Name: ev.Object, Layer: ev.Digest, Err: ev.Retry})
			}
		},
	}), nil
}

// ownOr is a file among an ordinary user's own settings, or that of all if he has none.
func ownOr(name, all string) string {
	if dir, err := os.UserConfigDir(); err == nil && nest.Caller() != 0 {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return all
}

// certDirs are the folders that Podman and Docker know, the user's own first.
func certDirs() []string {
	dirs := []string{"/etc/corten/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"}
	if home, err := os.UserHomeDir(); err == nil && nest.Caller() != 0 {
		dirs = append([]string{filepath.Join(home, ".config/containers/certs.d")}, dirs...)
	}
	return dirs
}
