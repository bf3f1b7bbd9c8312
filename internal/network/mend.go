package network

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/wire/standing"
	"github.com/cortenhq/corten/internal/wiring"
)

// Mend has the host's rules made again if somebody has removed them while containers are connected. On
// a host where none is, it is one system call.
func Mend(d Dirs) error {
	f, err := os.Open(d.wired())
	if err != nil {
		return nil // nobody was connected since the machine started
	}
	st, serr := f.Stat()
	names, _ := f.Readdirnames(-1)
	f.Close()
	if serr != nil || time.Since(st.ModTime()) < time.Second {
		return nil // somebody is just being connected or disconnected: between rules and documents
	}
	for _, n := range names {
		if strings.HasPrefix(n, ".") {
			continue
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
	return nil
}
