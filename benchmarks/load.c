// SPDX-License-Identifier: Apache-2.0
// The load of the benchmarks: opens or execs of one path, at a rate, counted.
//
//   load open PATH RATE SECONDS    opens of PATH
//   load fail PATH RATE SECONDS    opens of the last part of PATH below a descriptor that is not open: no open is faster
//   load exec PATH RATE SECONDS    processes that execute PATH, which is a link to this program
//
// RATE is per second, 0 means as fast as possible.  When it ends, by itself or by SIGTERM, it prints one line: the
// opens made, the nanoseconds they took, and the nanoseconds of CPU that this process used for them.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static long long now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void once_open(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd >= 0)
		close(fd);
}

static void once_fail(const char *path)
{
	openat(1000, path, O_RDONLY);
}

static void once_exec(const char *path)
{
	char *argv[] = { (char *)path, "leaf", NULL };
	pid_t pid;

	if (!posix_spawn(&pid, path, NULL, NULL, argv, environ))
		waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	long long start, end, due, made = 0, batch, gap;
	void (*once)(const char *);
	double rate, seconds;

	if (argc == 2 && !strcmp(argv[1], "leaf"))
		return 0;
	if (argc != 5)
		return 2;
	once = !strcmp(argv[1], "exec") ? once_exec : !strcmp(argv[1], "fail") ? once_fail : once_open;
	if (once == once_fail && strrchr(argv[2], '/'))
		argv[2] = strrchr(argv[2], '/') + 1;
	rate = atof(argv[3]);
	seconds = atof(argv[4]);
	signal(SIGTERM, on_term);
	// Looking at the clock costs a tenth of an open: do it once for many, but at least every 0.1 ms.
	batch = rate == 0 ? 1000 : rate < 10000 ? 1 : (long long)(rate / 10000);
	gap = rate == 0 ? 0 : (long long)(batch * 1e9 / rate);
	start = due = now(CLOCK_MONOTONIC);
	end = start + (long long)(seconds * 1e9);
	while (!stop && due < end && now(CLOCK_MONOTONIC) < end + 1000000000LL) {
		for (long long i = 0; i < batch; i++)
			once(argv[2]);
		made += batch;
		if (!gap) {
			due = now(CLOCK_MONOTONIC);
			continue;
		}
		due += gap;
		long long left = due - now(CLOCK_MONOTONIC);
		if (left > 200000) {
			struct timespec t = { 0, left - 60000 };

			nanosleep(&t, NULL);
		}
		while (!stop && now(CLOCK_MONOTONIC) < due)
			;
	}
	printf("%lld %lld %lld\n", made, now(CLOCK_MONOTONIC) - start, now(CLOCK_PROCESS_CPUTIME_ID));
	return 0;
}
