package connect_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/network"
)

// Who starts a container is told once that others' rules stop what it sends, and nobody is whose container
// has no way out.
func TestWarning(t *testing.T) {
	l := newLab(t)
	l.host.sh("nft 'table inet host { chain f { type filter hook forward priority 0; policy drop; }; }'")
	inner := bridge("ct-i", 3)
	inner.Internal = true
	l.newBox(link(inner, 2)).up().down()
	if w := network.Warning(l.dirs); w != "" {
		t.Errorf("without a way out: %q", w)
	}
	for i, say := range []bool{true, false} { // each with a name of its own: a pair goes a little after its container
		b := l.newBox(link(bridge("ct-w", 1), 2+i)).up()
		w := network.Warning(l.dirs)
		if !say && w != "" || say && (!strings.Contains(w, "the chain f of the table inet host") || !strings.Contains(w, `nft insert rule inet host f iifname "ct-w" accept`)) {
			t.Errorf("the warning is %q", w)
		}
		if again := network.Warning(l.dirs); again != "" {
			t.Errorf("again: %q", again)
		}
		b.down()
	}
	_ = os.Remove(filepath.Join(l.dirs.Run, "net/told"))
	l.host.sh(`nft insert rule inet host f iifname "ct-w" accept; nft insert rule inet host f oifname "ct-w" accept`)
	b := l.newBox(link(bridge("ct-w", 1), 4))
	b.up()
	if w := network.Warning(l.dirs); w != "" {
		t.Errorf("after what it says was done: %q", w)
	}
	l.world.serve(7)
	b.sees("tcp", "192.0.2.2:7", "192.0.2.1")
	b.down()
}
