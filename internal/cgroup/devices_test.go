package cgroup

func tryDevices(arg string) int { return 0 }
func delegated(arg string) int  { return 0 }
