package bundled

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
)

func TestReadOptions(t *testing.T) {
	for _, c := range []struct {
		options string
		want    mountWords
	}{
		{"", mountWords{}},
		{"nosuid,noexec,mode=755,size=65536k", mountWords{set: []string{"nosuid", "noexec"}, data: []string{"mode=755", "size=65536k"}}},
		{"ro,rw", mountWords{clear: []string{"ro"}}},
		{"rw,ro", mountWords{set: []string{"ro"}}},
		{"rbind,rprivate,ro", mountWords{bind: true, below: true, propagation: "private", propagationAll: true, set: []string{"ro"}}},
		{"bind,shared", mountWords{bind: true, propagation: "shared"}},
		{"bind,private,slave", mountWords{bind: true, propagation: "slave"}},
		{"bind,unbindable", mountWords{bind: true, propagation: "unbindable"}},
		{"bind,runbindable", mountWords{bind: true, propagation: "unbindable", propagationAll: true}},
		{"bind,rslave", mountWords{bind: true, propagation: "slave", propagationAll: true}},
		{"rbind,rro,rnosuid,rexec", mountWords{bind: true, below: true, setAll: []string{"ro", "nosuid"}, clearAll: []string{"noexec"}}},
		{"noatime,strictatime", mountWords{set: []string{"strictatime"}}},
		{"rnoatime,rrelatime", mountWords{setAll: []string{"relatime"}}},
		{"atime,diratime", mountWords{clear: []string{"noatime", "nodiratime"}}},
		{"sync,async,dirsync", mountWords{data: []string{"dirsync"}}},
		{"rbind,ridmap", mountWords{bind: true, below: true, idmap: true, idmapAll: true}},
		{"remount,bind,ro,noexec", mountWords{remount: true, bind: true, set: []string{"ro", "noexec"}}},
		{"iversion,mand,acl,nomand", mountWords{data: []string{"acl"}}},
		{"defaults,ptmxmode=0666,newinstance", mountWords{data: []string{"ptmxmode=0666", "newinstance"}}},
	} {
		var list []string
		if c.options != "" {
			list = strings.Split(c.options, ",")
		}
		got, err := readOptions(list)
		norm(&got)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.options, got, err)
		}
	}
	for _, o := range []string{"copy-symlink", "src-nofollow"} {
		if _, err := readOptions([]string{o}); !errs.Is(err, errs.Unsupported) || errs.HintOf(err) == "" {
			t.Errorf("%s: %v", o, err)
		}
	}
}

// norm makes lists that lost all they had nil.
func norm(w *mountWords) {
	for _, l := range []*[]string{&w.set, &w.clear, &w.setAll, &w.clearAll, &w.data} {
		if len(*l) == 0 {
			*l = nil
		}
	}
}
