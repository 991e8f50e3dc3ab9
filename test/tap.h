/*
 * TAP in a page: ok(condition, "what is claimed", …) a line each, exit status 1 if any failed. A tolerance check is written
 * near(): !(fabs(d) <= tol), so that NaN fails it.
 */
#ifndef TAP_H
#define TAP_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_count, tap_failed;

__attribute__((format(printf, 2, 3), unused)) static bool ok(bool condition, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("%sok %d - ", condition ? "" : "not ", ++tap_count);
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
	va_end(ap);
	tap_failed += !condition;
	return condition;
}

__attribute__((unused)) static bool near(double got, double want, double tol, const char *what)
{
	bool good = fabs(got - want) <= tol;    /* false for NaN */

	return ok(good, "%s: %.9g, expected %.9g within %.3g", what, got, want, tol);
}

__attribute__((unused)) static void skip(const char *what, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tap_count, what, why);
}

__attribute__((unused)) static int done_testing(void)
{
	printf("1..%d\n", tap_count);
	if (tap_failed)
		printf("# %d of %d failed\n", tap_failed, tap_count);
	return tap_failed ? 1 : 0;
}

#endif
