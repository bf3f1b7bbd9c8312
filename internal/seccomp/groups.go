package seccomp

// group is a set of system calls that the default profile treats alike, and why.
type group struct {
	title string
	names string // system calls, separated by spaces
	caps  string // capabilities, separated by spaces, any of which opens the group; "": it needs none
	why   string // one sentence
	inNS  string // what the container's own user namespace changes about it; "": nothing
}

// limit is a set of system calls of which the default profile allows some arguments.
type limit struct {
	names  string
	unless string // a capability with which these clauses do not count
	with   string // a capability without which these clauses do not count
	when   []clauseText
	why    string
	inNS   string
}

// clauseText is one rule of a limit: what happens if the argument, masked, is want. No
// mask at all is a rule for every argument. A call's clauses count from the first on.
type clauseText struct {
	errno uint // 0: allow
	arg   uint
	mask  uint64
	want  uint64
	words string
}

// The masks are 32 bits wide where the kernel takes an int from the register: what stands
// in the upper half does not reach it, so it may not reach the comparison either.
const low32 = 0xffffffff

// Numbers of errno(3) that the profile answers with.
const (
	eperm        = 1
	enosys       = 38
	eafnosupport = 97
)

// newNamespaces are the CLONE_NEW* flags of clone(2). CLONE_NEWTIME is not among them:
// its bit belongs to the exit signal there.
const newNamespaces = 0x02000000 | // cgroup
	0x04000000 | // UTS
	0x08000000 | // IPC
	0x10000000 | // user
	0x20000000 | // PID
	0x40000000 | // network
	0x00020000 // mount

// askedCaps are the capabilities that the profile depends on.
const askedCaps = "CAP_BPF CAP_DAC_READ_SEARCH CAP_NET_ADMIN CAP_PERFMON CAP_SYSLOG CAP_SYS_ADMIN CAP_SYS_BOOT " +
	"CAP_SYS_CHROOT CAP_SYS_MODULE CAP_SYS_NICE CAP_SYS_PACCT CAP_SYS_PTRACE CAP_SYS_RAWIO CAP_SYS_TIME " +
	"CAP_SYS_TTY_CONFIG"

// allowed are the calls that every container may make, without a look at the arguments.
var allowed = [...]group{
	{
		title: "files and directories",
		names: "access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 " +
			"fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync flock fstat fstatfs " +
			"fsync ftruncate futimesat getcwd getdents getdents64 ioctl lchown link linkat listmount lseek lstat mkdir " +
			"mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 readahead readlink readlinkat " +
			"rename renameat renameat2 rmdir stat statfs statmount statx symlink symlinkat sync sync_file_range " +
			"syncfs truncate umask unlink unlinkat utime utimensat utimes",
		why: "No program does without files, and which of them it reaches is decided by the container's mounts, not here.",
		inNS: "mknod makes fifos and sockets but no device there, and chown reaches no further than the container's " +
			"own ids, so neither needs a rule.",
	},
	{
		title: "extended attributes",
		names: "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat " +
			"llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat",
		why:  "Package managers and archivers keep file capabilities and labels in them.",
		inNS: "A file capability set there counts in the container alone (Linux 4.14), and trusted attributes are out of reach.",
	},
	{
		title: "reading, writing and waiting",
		names: "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 " +
			"inotify_add_watch inotify_init inotify_init1 inotify_rm_watch pipe pipe2 poll ppoll pread64 preadv preadv2 " +
			"pselect6 pwrite64 pwritev pwritev2 read readv select sendfile splice tee vmsplice write writev",
		why: "They act on descriptors that the program holds already.",
	},
	{
		title: "asynchronous I/O of old",
		names: "io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit",
		why:   "Databases use it, and unlike io_uring it does nothing that the program could not do by read and write.",
	},
	{
		title: "memory",
		names: "brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall " +
			"mmap mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages",
		why: "They shape the program's own address space, within the container's memory limit.",
	},
	{
		title: "processes and threads",
		names: "arch_prctl execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv futex_wake " +
			"get_robust_list getcpu getpgid getpgrp getpid getppid getsid gettid pidfd_open prctl process_mrelease " +
			"restart_syscall rseq set_robust_list set_tid_address setpgid setsid uretprobe vfork wait4 waitid",
		why: "Programs start programs and threads, and see only those of their own PID namespace; " +
			"uretprobe is made by the kernel's own trampoline when somebody on the host traces the program.",
	},
	{
		title: "users, groups and capabilities",
		names: "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid " +
			"setgroups setregid setresgid setresuid setreuid setuid",
		why:  "Daemons start as root and become somebody else, and the kernel lets no one gain by it.",
		inNS: "The ids are those of the container's range, so even its root is nobody on the host.",
	},
	{
		title: "signals",
		names: "kill pause pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn " +
			"rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4 tgkill tkill",
		why: "A signal reaches only the processes of the container's own PID namespace.",
	},
	{
		title: "clocks and timers",
		names: "adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep " +
			"setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create " +
			"timerfd_gettime timerfd_settime times",
		why:  "Everybody may read the clocks, and adjtimex and clock_adjtime do no more than that without CAP_SYS_TIME.",
		inNS: "CAP_SYS_TIME counts only in the host's user namespace, so the clocks cannot be set even with it.",
	},
	{
		title: "scheduling and limits",
		names: "getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max " +
			"sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler " +
			"sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield " +
			"setpriority setrlimit",
		why:  "They divide among the container's processes what its control group allows all of them together.",
		inNS: "Raising a hard limit or taking a real-time class needs a capability on the host, which the container does not have.",
	},
	{
		title: "messages, semaphores and shared memory",
		names: "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl " +
			"semget semop semtimedop shmat shmctl shmdt shmget",
		why: "Databases share memory by them, and the IPC namespace keeps containers apart.",
	},
	{
		title: "sockets",
		names: "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg " +
			"sendmsg sendto setsockopt shutdown",
		why: "They act on sockets that exist, and which sockets may be made is a rule of its own below.",
		inNS: "The container is root over its own network namespace, so setsockopt reaches code that asks for " +
			"CAP_NET_ADMIN; that is why rare kinds of sockets are held back.",
	},
	{
		title: "facts about the system",
		names: "getrandom sysinfo uname",
		why:   "They tell what /proc tells as well, and hand out random bytes.",
	},
	{
		title: "confining oneself",
		names: "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
		why:   "A program that gives up rights of its own should never be kept from it.",
	},
	{
		title: "debugging one's own processes",
		names: "process_vm_readv process_vm_writev ptrace",
		why: "A tracer gains nothing over what it may trace, and since Linux 4.8 the filter sees a call after the tracer " +
			"has changed it.",
		inNS: "Processes of the host and of other containers live in other user namespaces, which the kernel refuses to trace.",
	},
}

// forms32 are allowed in addition if one of the host's 32-bit ABIs is opened.
var forms32 = [...]group{
	{
		title: "the 32-bit forms of what is allowed above",
		names: "_llseek _newselect arm_fadvise64_64 arm_sync_file_range chown32 clock_adjtime64 clock_getres_time64 " +
			"clock_gettime64 clock_nanosleep_time64 fadvise64_64 fchown32 fcntl64 fstat64 fstatat64 fstatfs64 " +
			"ftruncate64 futex_time64 getegid32 geteuid32 getgid32 getgroups32 getresgid32 getresuid32 getuid32 " +
			"io_pgetevents_time64 ipc lchown32 lstat64 mmap2 mq_timedreceive_time64 mq_timedsend_time64 ppoll_time64 " +
			"pselect6_time64 recv recvmmsg_time64 rt_sigtimedwait_time64 sched_rr_get_interval_time64 " +
			"semtimedop_time64 send sendfile64 setfsgid32 setfsuid32 setgid32 setgroups32 setregid32 setresgid32 " +
			"setresuid32 setreuid32 setuid32 sigprocmask sigreturn stat64 statfs64 timer_gettime64 timer_settime64 " +
			"timerfd_gettime64 timerfd_settime64 truncate64 ugetrlimit utimensat_time64 waitpid",
		why: "Wider ids, offsets and times came to these ABIs as new system calls.",
	},
	{
		title: "32-bit segments and ARM's private calls",
		names: "breakpoint cacheflush get_thread_area modify_ldt set_thread_area set_tls",
		why: "Threads of 32-bit programs are built on them; modify_ldt, which had many faults in its time, stays closed " +
			"where no 32-bit program is expected.",
	},
	{
		title: "socketcall",
		names: "socketcall",
		why: "The C libraries of 32-bit x86 still make sockets by it, and a filter cannot see which kind: opening this " +
			"ABI opens AF_ALG and AF_VSOCK and every rare kind of socket with it.",
	},
}

// forCaps are allowed to containers that were given a capability.
var forCaps = [...]group{
	{
		title: "file handles",
		names: "open_by_handle_at",
		caps:  "CAP_DAC_READ_SEARCH",
		why:   "A handle names a file by its inode number, past every directory and every mount that should hide it.",
		inNS: "The kernel asks for the capability over the file system's owner, which is the host for all that the " +
			"container was given.",
	},
	{
		title: "mounts",
		names: "fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree umount umount2",
		caps:  "CAP_SYS_ADMIN",
		why:   "A mount can uncover what a masked path hides, and parsing file systems is where kernels break.",
		inNS: "It needs no capability of the host there, only one in the container's own namespace; therefore the " +
			"capability opens it and nothing else does.",
	},
	{
		title: "namespaces",
		names: "clone clone3 setns unshare",
		caps:  "CAP_SYS_ADMIN",
		why: "A new user namespace gives all capabilities over new namespaces, and most local root exploits of recent " +
			"years began with that.",
		inNS: "It would allow one namespace within the other, with capabilities that the container was not given; being " +
			"in one is no reason to open this.",
	},
	{
		title: "host names",
		names: "setdomainname sethostname",
		caps:  "CAP_SYS_ADMIN",
		why:   "The name is the engine's to give, because others find the container by it.",
		inNS:  "It changes the name in the container's own UTS namespace, so the capability is enough of a lock.",
	},
	{
		title: "quotas and file notifications",
		names: "fanotify_init fanotify_mark quotactl quotactl_fd",
		caps:  "CAP_SYS_ADMIN",
		why:   "They act on a whole file system, of which the container owns a part.",
		inNS: "The kernel asks for the capability over the file system's owner, which is the host for all that the " +
			"container was given.",
	},
	{
		title: "security modules",
		names: "lsm_get_self_attr lsm_list_modules lsm_set_self_attr",
		caps:  "CAP_SYS_ADMIN",
		why:   "They are new (Linux 6.8), few programs know them, and /proc gives the same.",
		inNS:  "No difference: the labels are the host's.",
	},
	{
		title: "BPF",
		names: "bpf",
		caps:  "CAP_BPF CAP_SYS_ADMIN",
		why:   "It loads programs into the kernel, whose verifier has been wrong more than once.",
		inNS: "The kernel refuses all but the simplest programs there, unless the host hands in a BPF file system with a " +
			"token (Linux 6.9).",
	},
	{
		title: "performance counters",
		names: "perf_event_open",
		caps:  "CAP_PERFMON CAP_SYS_ADMIN",
		why:   "Counters see other tenants of the same processor, and their code has been a way to root.",
		inNS:  "The capability counts only on the host; what is left is what kernel.perf_event_paranoid gives to everybody.",
	},
	{
		title: "the kernel's log",
		names: "syslog",
		caps:  "CAP_SYSLOG CAP_SYS_ADMIN",
		why:   "The log is the host's and shows kernel addresses.",
		inNS:  "With kernel.dmesg_restrict set the kernel refuses it; without, everybody may read it, and this rule is the lock.",
	},
	{
		title: "reboot",
		names: "reboot",
		caps:  "CAP_SYS_BOOT",
		why:   "It stops the machine.",
		inNS:  "It kills the init of the container's own PID namespace instead, which does no harm.",
	},
	{
		title: "chroot",
		names: "chroot",
		caps:  "CAP_SYS_CHROOT",
		why:   "Root can leave a chroot through another one, so it is for those who were given it.",
		inNS:  "The capability counts in the container's own namespace, and all that it reaches is the container's tree.",
	},
	{
		title: "kernel modules",
		names: "delete_module finit_module init_module",
		caps:  "CAP_SYS_MODULE",
		why:   "A module is the kernel.",
		inNS:  "The kernel refuses it whatever the filter says: it takes the host's user namespace as well.",
	},
	{
		title: "process accounting",
		names: "acct",
		caps:  "CAP_SYS_PACCT",
		why:   "It writes a record of every process of a PID namespace to a file.",
		inNS:  "The kernel refuses it whatever the filter says: it takes the host's user namespace as well.",
	},
	{
		title: "other processes' descriptors and memory",
		names: "kcmp pidfd_getfd process_madvise",
		caps:  "CAP_SYS_PTRACE",
		why:   "They reach into another process without stopping it, and only debuggers and checkpoint tools need them.",
		inNS:  "They reach the container's own processes alone, so the capability is enough of a lock.",
	},
	{
		title: "I/O ports",
		names: "ioperm iopl",
		caps:  "CAP_SYS_RAWIO",
		why:   "A port is hardware.",
		inNS:  "The kernel refuses it whatever the filter says: it takes the host's user namespace as well.",
	},
	{
		title: "setting the clock",
		names: "clock_settime clock_settime64 settimeofday stime",
		caps:  "CAP_SYS_TIME",
		why:   "There is one clock for all.",
		inNS:  "The kernel refuses it whatever the filter says: it takes the host's user namespace as well.",
	},
	{
		title: "hanging up the terminal",
		names: "vhangup",
		caps:  "CAP_SYS_TTY_CONFIG",
		why:   "Login programs use it on a terminal that they hand on, and nothing else does.",
		inNS:  "The kernel refuses it whatever the filter says: it takes the host's user namespace as well.",
	},
	{
		title: "placing memory on nodes",
		names: "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
		caps:  "CAP_SYS_NICE",
		why:   "Where memory lies on a large machine is the host's business, and tells about its other tenants.",
		inNS:  "The kernel asks for no capability here, so this rule is the only lock.",
	},
}

// limits are allowed in part. They stand for every container but where a capability says
// otherwise.
var limits = [...]limit{
	{
		names:  "clone",
		unless: "CAP_SYS_ADMIN",
		when:   []clauseText{{0, 0, newNamespaces, 0, "without a CLONE_NEW flag"}},
		why:    "Threads and processes are made by it, and so are namespaces (see there).",
		inNS:   "No difference: the reason is what a further user namespace would give.",
	},
	{
		names:  "clone3",
		unless: "CAP_SYS_ADMIN",
		when:   []clauseText{{enosys, 0, 0, 0, "answers ENOSYS"}},
		why:    "Its flags lie in memory, where a filter cannot see them, and told that there is no clone3 every C library takes clone.",
		inNS:   "No difference: the reason is what a further user namespace would give.",
	},
	{
		names: "personality",
		when: []clauseText{
			{0, 0, low32, 0x0, "PER_LINUX"},
			{0, 0, low32, 0x8, "PER_LINUX32"},
			{0, 0, low32, 0x20000, "UNAME26"},
			{0, 0, low32, 0x20008, "PER_LINUX32 and UNAME26"},
			{0, 0, low32, 0xffffffff, "asking"},
		},
		why:  "These change what uname says; others switch off the randomness of addresses or make memory executable.",
		inNS: "No difference: it asks for no capability.",
	},
	{
		names:  "socket",
		unless: "CAP_NET_ADMIN",
		when: []clauseText{
			{0, 0, low32, 1, "AF_UNIX"},
			{0, 0, low32, 2, "AF_INET"},
			{0, 0, low32, 10, "AF_INET6"},
			{0, 0, low32, 16, "AF_NETLINK"},
			{0, 0, low32, 17, "AF_PACKET"},
			{eafnosupport, 0, 0, 0, "others answer EAFNOSUPPORT"},
		},
		why: "Each rare family is a kernel module that the first socket loads, and hardly anybody has looked at some of them; " +
			"EAFNOSUPPORT is what a host without the module says.",
		inNS: "The container is root over its own network namespace, which brings more of that code within reach, not less.",
	},
	{
		names: "socket",
		with:  "CAP_NET_ADMIN",
		when: []clauseText{
			{eafnosupport, 0, low32, 38, "not AF_ALG"},
			{eafnosupport, 0, low32, 40, "not AF_VSOCK"},
			{0, 0, 0, 0, "all others"},
		},
		why: "Who configures networks may need CAN, Bluetooth or IPsec keys; AF_ALG is the kernel's cryptography for " +
			"whoever asks, and AF_VSOCK talks to the hypervisor past the network namespace.",
		inNS: "Neither AF_ALG nor AF_VSOCK asks for a capability, so being in one does not keep anybody from them.",
	},
	{
		names: "socketpair",
		when: []clauseText{
			{0, 0, low32, 1, "AF_UNIX"},
			{eafnosupport, 0, 0, 0, "others answer EAFNOSUPPORT"},
		},
		why:  "Hardly another family has pairs, but asking for one loads its module all the same.",
		inNS: "No difference: it asks for no capability.",
	},
}

// withheld are the calls that no container may make, whatever its capabilities.
var withheld = [...]group{
	{
		title: "io_uring",
		names: "io_uring_enter io_uring_register io_uring_setup",
		why: "It does the work of many other calls where no filter sees it, and most of the kernel exploits that Google's " +
			"bounty saw in 2022 used it.",
		inNS: "No difference: it asks for no capability.",
	},
	{
		title: "page faults in user space",
		names: "userfaultfd",
		why:   "It holds the kernel in the middle of a copy, which turns races into certainties.",
		inNS:  "No difference: faults of the own address space need no capability.",
	},
	{
		title: "keys",
		names: "add_key keyctl request_key",
		why:   "Keyrings belong to users and sessions, which containers may share, and request_key starts a program on the host.",
		inNS: "User keyrings are apart when the ids are, but the session keyring is inherited, and the quota and the upcall " +
			"are the host's.",
	},
	{
		title: "moving memory between nodes",
		names: "migrate_pages move_pages",
		why:   "It tells where other processes' memory lies and costs the whole machine time.",
		inNS:  "No difference: it works on the caller's own processes in any namespace.",
	},
	{
		title: "the root mount",
		names: "open_tree_attr pivot_root",
		why:   "The engine sets up the root before the filter is on; a container engine inside a container needs a profile of its own.",
		inNS:  "CAP_SYS_ADMIN in the container would be enough for the kernel, so this rule is the lock.",
	},
	{
		title: "swap and kexec",
		names: "kexec_file_load kexec_load swapoff swapon",
		why:   "They replace the kernel or decide over the host's memory.",
		inNS:  "The kernel refuses it whatever the filter says: it takes the host's user namespace as well.",
	},
	{
		title: "too new to be known",
		names: "file_getattr file_setattr listns rseq_slice_yield uprobe",
		why: "Programs fall back on older calls; uprobe, like uretprobe, passes every filter by the kernel's own rule when " +
			"the host traces a program.",
		inNS: "No difference: their age is the reason.",
	},
	{
		title: "left over from earlier kernels",
		names: "_sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg lookup_dcookie " +
			"nfsservctl putpmsg query_module security sysfs tuxcall uselib ustat vserver",
		why:  "They were removed, never came to be, or tell what /proc tells better.",
		inNS: "No difference: no program needs them.",
	},
}
