// SPDX-License-Identifier: Apache-2.0
// What a probe's hit costs: calls something that can be probed, so many times, and prints nanoseconds a call.
//
//   hits plain COUNT    a function as compilers make them, whose first instruction the kernel carries out itself
//   hits step COUNT     a function whose first instruction it has to run step by step
//   hits nop5 COUNT     a function that begins with a five-byte no-operation, which a kernel can replace by a call
//   hits usdt COUNT     a static probe
//   hits call COUNT     the system call getppid(), for tracepoints
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sdt.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef __x86_64__
#define FUNCTION(name, first)                                                                     \
	void name(long number);                                                                   \
	__asm__(".text\n.globl " #name "\n.type " #name ", @function\n" #name ":\n" first     \
		"\nret\n.size " #name ", .-" #name "\n")
FUNCTION(hit_plain, "push %rbp\npop %rbp");
FUNCTION(hit_step, "lea 8(%rdi), %rax");
FUNCTION(hit_nop5, ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00");
#else
__attribute__((noinline)) void hit_plain(long number)
{
	__asm__ volatile("" : : "r"(number) : "memory");
}
#define hit_nop5 hit_plain
#define hit_step hit_plain
#endif

__attribute__((noinline)) void hit_usdt(long number)
{
	DTRACE_PROBE1(osmia, hit, number);
}

static void hit_call(long number)
{
	(void)number;
	syscall(SYS_getppid);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*hit)(long);
	} kinds[] = { { "plain", hit_plain }, { "step", hit_step }, { "nop5", hit_nop5 }, { "usdt", hit_usdt }, { "call", hit_call } };
	struct timespec from, to;
	long count = argc == 3 ? atol(argv[2]) : 0;

	for (unsigned kind = 0; count && kind < sizeof kinds / sizeof *kinds; kind++) {
		if (strcmp(argv[1], kinds[kind].name))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &from);
		for (long number = 0; number < count; number++)
			kinds[kind].hit(number);
		clock_gettime(CLOCK_MONOTONIC, &to);
		printf("%.1f\n", ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / count);
		return 0;
	}
	return 2;
}
