package values

import "strings"

// DiskLimit reads the options of what is limited on the disk, of which size=SIZE is the only one: the others
// that people write belong to storage drivers of other engines. 0 is no limit.
func DiskLimit(flag string, options []string) (size int64, err error) {
	const least = 1 << 20 // bytes; what an overlay and the places of mounts take is some 100 KiB
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		if key != "size" {
			return 0, Bad(flag, o, "no such option", "write --"+flag+" size=SIZE")
		}
		if size, err = Size(flag+" size", value); err != nil {
			return 0, err
		}
		if size < least {
			return 0, Bad(flag, o, "less than 1 MiB, which is hardly enough for anything", "give it at least size=1m")
		}
	}
	return size, nil
}
