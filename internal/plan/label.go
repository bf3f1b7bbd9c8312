package plan

// LabelFiles gives the file systems that are made for a container the SELinux context of its
// files. Made in a user namespace of its own, only these may have one (selinux_set_mnt_opts,
// security/selinux/hooks.c); files of the kernel's own are labelled by the policy.
func LabelFiles(steps []Step, label string, private bool) {
	if label == "" {
		return
	}
	option := "context=" + label
	for i, s := range steps {
		switch s := s.(type) {
		case MountFS:
			if !takesLabel(s.Type, private) {
				continue
			}
			s.Options = append(s.Options[:len(s.Options):len(s.Options)], option)
			steps[i] = s
		case MakeTmpfs:
			s.Options = append(s.Options[:len(s.Options):len(s.Options)], option)
			steps[i] = s
		case MakeDev:
			s.Label = label
			steps[i] = s
		case OpenTerminal:
			s.Label = label
			steps[i] = s
		case Overlay:
			s.Label = label
			steps[i] = s
		}
	}
}

func takesLabel(fstype string, private bool) bool {
	switch fstype {
	case "tmpfs", "ramfs", "devpts", "overlay":
		return true
	case "proc", "sysfs", "cgroup", "cgroup2", "mqueue", "securityfs", "debugfs", "tracefs", "bpf":
		return false
	}
	return !private
}
