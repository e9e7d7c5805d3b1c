// SPDX-License-Identifier: Apache-2.0
/* stairs: for each line "DEPTH TIMES" on standard input goes DEPTH functions deep, each with a frame pointer, and asks
 * for its process group TIMES times there; prints a line and waits for the next one.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>

#define FRAME __attribute__((noinline, optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")))

static FRAME long ask(void)
{
	long result;

	/* The instruction itself: a library's function would have no frame pointer. */
	__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getpgid), "D"(0) : "rcx", "r11", "memory");
	return result;
}

static FRAME long down(int depth, int times)
{
	long result = 0;

	if (depth > 1)
		return down(depth - 1, times) + 1;
	while (times--)
		result += ask();
	return result;
}

int FRAME main(void)
{
	char line[64];
	int depth, times;

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%d %d", &depth, &times) == 2)
			printf("%ld\n", down(depth, times));
		fflush(stdout);
	}
	return 0;
}
