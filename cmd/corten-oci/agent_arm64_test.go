package main

import "golang.org/x/sys/unix"

func mkdir() int { return unix.SYS_MKDIRAT } // what busybox calls
