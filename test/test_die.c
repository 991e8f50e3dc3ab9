/* Failures: what is recorded for later, what die() says and with which status the process ends, and memory. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/die.h"
#include "tap.h"

static char said[4096];

/* Runs fn in a child; its exit status is returned and what it wrote to stderr is in `said`. */
static int child(void (*fn)(void))
{
	int pipes[2], status = 0;
	size_t length = 0;
	ssize_t got;
	pid_t pid;

	fflush(stdout);
	CHECK(!pipe(pipes));
	pid = fork();
	if (!pid) {
		dup2(pipes[1], 2);
		fn();
		_exit(99);
	}
	close(pipes[1]);
	while ((got = read(pipes[0], said + length, sizeof said - 1 - length)) > 0)
		length += (size_t)got;
	said[length] = 0;
	close(pipes[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void abort_all(int status)
{
	fprintf(stderr, "all ranks end with %d\n", status);
}

static void abort_all_fails(int status)
{
	die(STATUS_FAILURE, "the abort itself fails (%d)", status);
}

static void dies(void)
{
	die_identity(3, 8, "node-1", abort_all);
	die_step(42);
	die(STATUS_COMM, "the link to rank %d is down", 5);
}

static void dies_early(void)
{
	die(STATUS_DATA, "no step yet");
}

static void dies_twice(void)
{
	die_identity(0, 2, "node-1", abort_all_fails);
	die(STATUS_COMM, "first");
}

static void breaks(void)
{
	CHECK(1 + 1 == 3);
}

static void asks_too_much(void)
{
	xaligned(SIZE_MAX - 10);       /* no sanitizer sees this one */
}

static void test_mistakes(void)
{
	ok(!errors_count() && !*errors_text(), "nothing is recorded at the start");
	ok(error("%s:%d: wrong", "run.cfg", 7) == -1 && hint("do %s", "this") == -1, "error() and hint() return -1");
	error("another");
	ok(errors_count() == 2, "two mistakes and a hint are two mistakes");
	ok(!strcmp(errors_text(), "error: run.cfg:7: wrong\n  hint: do this\nerror: another\n"), "their text, in order");
	errors_clear();
	ok(!errors_count() && !*errors_text(), "cleared");
}

static void test_die(void)
{
	ok(child(dies) == STATUS_COMM, "die() ends with its status");
	ok(!strcmp(said, "rank 3 of 8 (node-1), step 42: the link to rank 5 is down\nall ranks end with 5\n"),
	   "it says who, where, when and why, and ends all ranks");
	ok(child(dies_early) == STATUS_DATA && !strcmp(said, "rank 0 of 1: no step yet\n"), "without host and step it names none");
	ok(child(dies_twice) == STATUS_FAILURE && strstr(said, "first") && strstr(said, "the abort itself fails (5)"),
	   "a failure while ending does not go round in circles");
	ok(child(breaks) == STATUS_FAILURE && strstr(said, "test_die.c:") && strstr(said, "1 + 1 == 3"), "CHECK() shows the expression");
	ok(child(asks_too_much) == STATUS_FAILURE && strstr(said, "out of memory"), "memory that is not there");
}

static void test_memory(void)
{
	unsigned char *p = xaligned(1000), *q = xcalloc(10, 100);
	char *s = xasprintf("%d-%s", 12, "ab");
	int sum = 0;

	for (int i = 0; i < 1000; i++)
		sum += p[i] + q[i];
	ok((uintptr_t)p % 64 == 0 && !sum, "xaligned is aligned to 64 bytes; memory is zeroed");
	ok(!strcmp(s, "12-ab"), "xasprintf");
	free(p);
	free(q);
	free(s);
}

int main(void)
{
	test_mistakes();
	test_die();
	test_memory();
	return done_testing();
}
