// SPDX-License-Identifier: Apache-2.0
/* wakes PID | wakes: two programs, one of which wakes the other.
 *
 * Without an argument it sleeps: reads bytes from standard input, each in doze(), called by rest(), and is called "sleepy".
 * With the PID of such a one it wakes it: for each line "TIMES USECS" on standard input does TIMES times: waits until
 * that one sleeps and USECS microseconds longer, and writes a byte to standard output, in knock(), called by reach().  A
 * line on standard error, the microseconds that all naps took, says that it is done.  All with frame pointers.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define FRAME __attribute__((noinline, optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")))

/* The instruction itself: a library's function would have no frame pointer.  Nor would one with nothing on its stack. */
static inline __attribute__((always_inline)) long call(long number, long fd, char *byte)
{
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(fd), "S"(byte), "d"(1L) : "rcx", "r11", "memory");
	return result;
}

static FRAME long doze(char *byte)
{
	volatile long number = SYS_read;

	return call(number, 0, byte);
}

static FRAME long rest(char *byte)
{
	return doze(byte) + 1;
}

static FRAME long knock(char *byte)
{
	volatile long number = SYS_write;

	return call(number, 1, byte);
}

static FRAME long reach(char *byte)
{
	return knock(byte) + 1;
}

static int sleeping(const char *stat)
{
	char text[512], *end;
	FILE *file = fopen(stat, "r");
	size_t length;

	if (!file)
		exit(3);
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = 0;
	end = strrchr(text, ')');
	return end && end[2] == 'S';
}

static long nap(long usecs)
{
	struct timespec t = {usecs / 1000000, usecs % 1000000 * 1000}, before, after;

	clock_gettime(CLOCK_MONOTONIC, &before);
	nanosleep(&t, NULL);
	clock_gettime(CLOCK_MONOTONIC, &after);
	return (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
}

int FRAME main(int argc, char **argv)
{
	char line[64], stat[64], byte = 'x';
	long times, usecs, took;

	if (argc == 1) {
		prctl(PR_SET_NAME, "sleepy");
		while (rest(&byte) == 2)
			;
		return 0;
	}
	snprintf(stat, sizeof(stat), "/proc/%s/stat", argv[1]);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%ld %ld", &times, &usecs) != 2)
			return 2;
		for (took = 0; times > 0; times--) {
			while (!sleeping(stat))
				nap(1000);
			took += nap(usecs);
			if (reach(&byte) != 2)
				return 4;
		}
		fprintf(stderr, "%ld\n", took);
	}
	return 0;
}
