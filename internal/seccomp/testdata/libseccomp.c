// Compiles a profile with libseccomp as runc does, for TestAgainstLibseccomp. Reads
// "default ACTION", "arch TOKEN", "rule ACTION NAME COUNT [ARG OP A B]..." with numbers in
// decimal, one a line; writes the program. The declarations stand here because the library
// is on more hosts than its headers are.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>

struct scmp_arg_cmp {
	unsigned int arg;
	int op;
	uint64_t a, b;
};
extern void *seccomp_init(uint32_t action);
extern int seccomp_attr_set(void *ctx, int attr, uint32_t value);
extern int seccomp_arch_add(void *ctx, uint32_t token);
extern int seccomp_syscall_resolve_name(const char *name);
extern int seccomp_rule_add_array(void *ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args);
extern int seccomp_export_bpf(const void *ctx, int fd);

static int fail(const char *what, int rc)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-rc));
	return 1;
}

int main(void)
{
	void *ctx = NULL;
	char word[32], name[64];
	uint32_t action;
	unsigned int n;
	int rc;

	while (scanf("%31s %" SCNu32, word, &action) == 2) {
		if (!strcmp(word, "default")) {
			ctx = seccomp_init(action);
			seccomp_attr_set(ctx, 2 /* SCMP_FLTATR_ACT_BADARCH */, 0x80000000u);
			continue;
		}
		if (!strcmp(word, "arch")) {
			rc = seccomp_arch_add(ctx, action);
			if (rc && rc != -EEXIST)
				return fail("arch", rc);
			continue;
		}
		struct scmp_arg_cmp args[6];
		if (scanf("%63s %u", name, &n) != 2 || n > 6)
			return 2;
		for (unsigned int i = 0; i < n; i++)
			if (scanf("%u %d %" SCNu64 " %" SCNu64, &args[i].arg, &args[i].op, &args[i].a, &args[i].b) != 4)
				return 2;
		int nr = seccomp_syscall_resolve_name(name);
		if (nr == -1)
			continue; // as runc does
		rc = seccomp_rule_add_array(ctx, action, nr, n, args);
		if (rc)
			return fail(name, rc);
	}
	rc = seccomp_export_bpf(ctx, 1);
	return rc ? fail("export", rc) : 0;
}
