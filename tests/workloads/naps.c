// SPDX-License-Identifier: Apache-2.0
/* naps: for each line "TIMES USECS" on standard input sleeps TIMES times for USECS microseconds, always in inner(),
 * called by middle(), called by outer(), each with a frame pointer; prints a line and waits for the next one.
 * Compiled with -DPLAIN they have none, and it is the C library that sleeps.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>

#ifdef PLAIN
#define FRAME __attribute__((noinline, noclone))
#else
#define FRAME __attribute__((noinline, optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")))
#endif

static FRAME long inner(long usecs)
{
	struct timespec t = {usecs / 1000000, usecs % 1000000 * 1000};
	long result;

#ifdef PLAIN
	result = nanosleep(&t, 0);
#else
	/* The instruction itself: a library's function would have no frame pointer. */
	__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_nanosleep), "D"(&t), "S"(0) : "rcx", "r11", "memory");
#endif
	return result;
}

static FRAME long middle(long usecs)
{
	return inner(usecs) + 1;
}

static FRAME long outer(long usecs)
{
	return middle(usecs) + 1;
}

int FRAME main(void)
{
	char line[64];
	long times, usecs, sum;

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%ld %ld", &times, &usecs) != 2)
			return 2;
		for (sum = 0; times > 0; times--)
			sum += outer(usecs);
		printf("%ld\n", sum);
		fflush(stdout);
	}
	return 0;
}
