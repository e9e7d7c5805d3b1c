// SPDX-License-Identifier: Apache-2.0
// The load of the benchmarks: opens or execs of one path, at a rate, counted.
//
//   load open PATH RATE SECONDS    opens of PATH
//   load fail PATH RATE SECONDS    opens of the last part of PATH below a descriptor that is not open: no open is faster
//   load mix PATH RATE SECONDS     opens of 4,096 paths of many lengths that end as PATH does, under 64 names in turn
//   load exec PATH RATE SECONDS    processes that execute PATH, which is a link to this program
//   load read PATH RATE SECONDS    reads of 4 KiB of the block device PATH, past the page cache
//   load call PATH RATE SECONDS    calls of getppid(); PATH is not used
//   load switch PATH RATE SECONDS  a byte to a thread on the same CPU and one back: two switches; PATH is not used
//   load connect PATH RATE SECONDS TCP connections to a port of this process, accepted and closed; PATH is not used
//
// RATE is per second, 0 means as fast as possible.  When it ends, by itself or by SIGTERM, it prints one line: the
// opens made, the nanoseconds they took, and the nanoseconds of CPU that this process used for them.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

static void once_mix(const char *path)
{
	static char *paths[4096], names[64][16];
	static unsigned number;

	if (!number) {
		const char *last = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

		for (unsigned i = 0; i < 4096; i++) {
			char text[512] = "/osmia-bench-missing-tree";

			for (unsigned level = 0; level <= i % 9; level++)
				sprintf(text + strlen(text), "/%x-level-%u", i * 2654435761u >> (level + 4), level);
			sprintf(text + strlen(text), "/%.200s", last);
			paths[i] = strdup(text);
		}
		for (unsigned i = 0; i < 64; i++)
			sprintf(names[i], "worker/%u", i * 37);
	}
	if (number % 64 == 0)
		prctl(PR_SET_NAME, names[number / 64 % 64]);
	open(paths[number++ % 4096], O_RDONLY);
}

static void once_exec(const char *path)
{
	char *argv[] = { (char *)path, "leaf", NULL };
	pid_t pid;

	if (!posix_spawn(&pid, path, NULL, NULL, argv, environ))
		waitpid(pid, NULL, 0);
}

static int disk = -1;
static char block[4096] __attribute__((aligned(4096)));

static void once_read(const char *path)
{
	static long long place;

	if (disk < 0)
		disk = open(path, O_RDONLY | O_DIRECT);
	if (pread(disk, block, sizeof block, place++ % 1024 * sizeof block) != sizeof block)
		exit(3);
}

static void once_call(const char *path)
{
	(void)path;
	syscall(SYS_getppid);
}

static int there[2], back[2];

static void echo(void)
{
	char byte;

	while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
		;
	_exit(0);
}

static void once_switch(const char *path)
{
	static int ready;
	char byte = 0;
	cpu_set_t one;

	(void)path;
	if (!ready) {
		ready = 1;
		CPU_ZERO(&one);
		CPU_SET(0, &one);
		if (sched_setaffinity(0, sizeof one, &one) || pipe(there) || pipe(back))
			exit(3);
		if (!fork()) {
			close(there[1]);
			echo();
		}
	}
	if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
		exit(3);
}

static void once_connect(const char *path)
{
	static struct sockaddr_in at = { .sin_family = AF_INET };
	static int server = -1;
	struct linger now = { 1, 0 };
	socklen_t size = sizeof at;
	int client, accepted;

	(void)path;
	if (server < 0) {
		at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		server = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(server, (void *)&at, sizeof at) || listen(server, 16) || getsockname(server, (void *)&at, &size))
			exit(3);
	}
	client = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now); // no port waits for what may still come
	if (connect(client, (void *)&at, sizeof at))
		exit(3);
	accepted = accept(server, NULL, NULL);
	close(client);
	close(accepted);
}

static const struct {
	const char *name;
	void (*once)(const char *);
} kinds[] = {
	{ "open", once_open }, { "fail", once_fail }, { "mix", once_mix }, { "exec", once_exec }, { "read", once_read },
	{ "call", once_call }, { "switch", once_switch }, { "connect", once_connect },
};

int main(int argc, char **argv)
{
	long long start, end, due, made = 0, batch, gap;
	void (*once)(const char *) = NULL;
	double rate, seconds;

	if (argc == 2 && !strcmp(argv[1], "leaf"))
		return 0;
	if (argc != 5)
		return 2;
	for (unsigned kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
		if (!strcmp(argv[1], kinds[kind].name))
			once = kinds[kind].once;
	if (!once)
		return 2;
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
