package spec

import (
	"strconv"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// ParseIDMaps reads what the kernel writes in uid_map and gid_map, user_namespaces(7).
func ParseIDMaps(text string) ([]IDMap, error) {
	var maps []IDMap
	for line := range strings.Lines(text) {
		var n [3]uint32
		f := strings.Fields(line)
		if len(f) != len(n) {
			return nil, errs.Newf(errs.Corrupt, "", "", "a line without three numbers")
		}
		for i := range n {
			v, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return nil, err
			}
			n[i] = uint32(v)
		}
		maps = append(maps, IDMap{Container: n[0], Host: n[1], Size: n[2]})
	}
	return maps, nil
}
