package network

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/cortenhq/corten/internal/wire/standing"
	"github.com/cortenhq/corten/internal/wiring"
)

// Mend has the host's rules made again if somebody has removed them while containers are connected. On
// a host where none is, it is one system call.
func Mend(d Dirs) error {
	st, err := os.Stat(d.wired())
	if err != nil {
		return nil // nobody was connected since the machine started
	}
	if time.Since(st.ModTime()) < time.Second {
		return nil // somebody is just being connected or disconnected: between rules and documents
	}
	if names, err := fileNames(d.wired()); err != nil || len(names) == 0 {
		return err
	}
	if there, err := standing.Look(d.Run); there || err != nil {
		return nil // a kernel that cannot say has none
	}
	if all, err := Documents(d); err == nil && !slices.ContainsFunc(all, func(doc *wiring.Document) bool { return !doc.Plugged() }) {
		return nil // there are no rules for those that plugins connect
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return Restore(ctx, d)
}
