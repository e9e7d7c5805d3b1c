// SPDX-License-Identifier: Apache-2.0
// What profilers are measured with: computes for SECONDS at the end of a chain of sixteen functions, all with frame
// pointers.
//
//   spin CPU SECONDS
//
// prints one line: rounds that were computed, and the nanoseconds of CPU that they took.
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FRAME __attribute__((noinline, noclone, optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")))

static long long now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static FRAME unsigned compute(unsigned x)
{
	for (volatile int i = 0; i < 1000; i++)
		x = x * 1664525u + 1013904223u;
	return x;
}

static FRAME unsigned deeper(unsigned x, int depth)
{
	return depth ? deeper(x, depth - 1) + 1 : compute(x) + 1;
}

int main(int argc, char **argv)
{
	long long rounds = 0, begin, end;
	unsigned x = 1;
	cpu_set_t cpu;

	if (argc != 3)
		return 2;
	CPU_ZERO(&cpu);
	CPU_SET(atoi(argv[1]), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	begin = now(CLOCK_PROCESS_CPUTIME_ID);
	end = now(CLOCK_MONOTONIC) + (long long)(atof(argv[2]) * 1e9);
	while (now(CLOCK_MONOTONIC) < end)
		for (int i = 0; i < 100; i++, rounds++)
			x = deeper(x, 13);
	printf("%lld %lld\n", rounds, now(CLOCK_PROCESS_CPUTIME_ID) - begin + (x == 42));
	return 0;
}
