package nest

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestSubordinate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subuid")
	text := "# nobody\nother:1:2\nme:100000:65536\n1000:300000:10\nme:bad:7\nme:1:0\nme:1\n10001:5:5\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := subordinate(path, "me", 1000)
	if want := [][2]uint64{{100000, 65536}, {300000, 10}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	if got, err := subordinate(path+".no", "me", 1000); got != nil || err != nil {
		t.Errorf("without a file %v %v", got, err)
	}
}

// What the environment says of root of the host is not believed: all ids would be a user's.
func TestVerify(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	t.Setenv(variable, "1000")
	if err := Enter(nil); err != nil || Inside() || Caller() != 0 {
		t.Errorf("%v, inside: %v, caller %d", err, Inside(), Caller())
	}
}

func TestMaps(t *testing.T) {
	uid, gid, err := Maps()
	if err != nil || len(uid) == 0 || len(gid) == 0 {
		t.Fatalf("%v %v %v", uid, gid, err)
	}
	for _, m := range append(uid, gid...) {
		if m.Host != m.Container {
			t.Errorf("%+v is shifted", m)
		}
	}
}
