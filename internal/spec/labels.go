package spec

import "strings"

// HasLabels reports whether labels have all that are wanted: each NAME=VALUE, or NAME with any
// value.
func HasLabels(labels map[string]string, wanted []string) bool {
	for _, w := range wanted {
		name, value, exact := strings.Cut(w, "=")
		if v, ok := labels[name]; !ok || exact && v != value {
			return false
		}
	}
	return true
}
