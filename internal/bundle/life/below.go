package life

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/cgroup"
	"github.com/cortenhq/corten/internal/errs"
)

// below is how a process gets into groups below the container's own, which the container has made: each is
// said as runc has it, [CONTROLLER[,CONTROLLER...]:]PATH. Without a controller it is in every hierarchy.
func below(host cgroup.Host, g cgroup.Group, list []string) (v2 string, tasks []string, err error) {
	bad := func(text, why, hint string) (string, []string, error) {
		return "", nil, errs.Newf(errs.Invalid, "use --cgroup", text, why).WithHint(hint)
	}
	paths, left := map[string]string{}, []string{}
	for _, text := range list {
		names, path, named := strings.Cut(text, ":")
		if !named {
			names, path = "", text
		}
		if path = strings.Trim(path, "/"); !filepath.IsLocal(path) {
			return bad(text, "it is no path below the container's group", "[CONTROLLER:]PATH, without ..")
		}
		for name := range strings.SplitSeq(names, ",") {
			if _, twice := paths[name]; twice || !named && len(list) > 1 {
				return bad(text, "it says twice where to go", "name each controller once, or one path for all")
			}
			paths[name] = path
			left = append(left, name)
		}
	}
	enter := func(dir string, names []string) string {
		for _, name := range append(names, "") {
			if path, ok := paths[name]; ok {
				left = slices.DeleteFunc(left, func(n string) bool { return n == name })
				return filepath.Join(dir, path)
			}
		}
		return dir
	}
	v2, tasks = g.Enter()
	if v2 != "" {
		v2 = enter(v2, nil)
	}
	for i, file := range tasks {
		dir := filepath.Dir(file)
		tasks[i] = filepath.Join(enter(dir, strings.Split(hierarchy(host, dir), ",")), "tasks")
	}
	if len(left) > 0 {
		return bad(left[0], "the container is in no group of this controller", "/proc/PID/cgroup shows those that it is in; with cgroup v2 no controller is named")
	}
	return v2, tasks, nil
}
