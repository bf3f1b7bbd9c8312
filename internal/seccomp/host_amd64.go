package seccomp

// Host is the kind of host that this binary is for.
const Host = AMD64
