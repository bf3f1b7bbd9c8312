package cgroup

import "strings"

// Full reports whether the limit of processes is met. The kernel says so itself to a process
// that is born in a group, but a v1 group takes in any number of those that move to it.
func (g Group) Full() bool {
	for _, dir := range g {
		limit, err := readFile(dir + "/pids.max")
		if err != nil || strings.HasPrefix(limit, "max") {
			continue
		}
		most, err1 := number(strings.TrimSuffix(limit, "\n"))
		now, err2 := readNumber(dir + "/pids.current")
		if err1 == nil && err2 == nil && now >= most {
			return true
		}
	}
	return false
}
