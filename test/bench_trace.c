/*
 * What a trace costs: nanoseconds a span, kept, not kept (outside of the steps that are traced), and without a trace, on the computing stream and
 * on a queued one. The fastest of many tries, so that others on the machine do not count.
 */
#include <stdio.h>

#include "../core/clock.h"
#include "../core/timeline.h"
#include "../core/trace.h"

enum { TRIES = 200, SPANS = 1000 };

static double fastest(struct device *dev, struct stream *s)
{
	double best = 1e9;

	for (int i = 0; i < TRIES; i++) {
		double start = clock_now(), took;

		for (int j = 0; j < SPANS; j++) {
			trace_begin(s, "span", NULL, j);
			trace_end(s);
		}
		dev->ops->stream->sync(s);
		took = clock_now() - start;
		best = took < best ? took : best;
	}
	return 1e9 * best / SPANS;
}

int main(void)
{
	struct device_config config = { .threads = 1, .progress = PROGRESS_HOOK, .conv = "auto" };
	struct device *dev = device_find("cpu")->open(&config);
	static const enum stream_kind kind[] = { STREAM_COMPUTE, STREAM_COMM };
	static const char *const name[] = { "computing", "queued" };

	printf("ns a span      none   not kept       kept\n");
	for (int k = 0; k < 2; k++) {
		struct stream *s = dev->ops->stream->open(dev, kind[k]);
		double none = fastest(dev, s), off, on;

		dev->ops->stream->close(s);
		timeline_open(dev);
		s = dev->ops->stream->open(dev, kind[k]);
		trace_open(dev, TRIES * SPANS);
		trace_stream(s, true);
		off = fastest(dev, s);
		trace_on(dev, true);
		on = fastest(dev, s);
		printf("%-10s %8.1f %10.1f %10.1f\n", name[k], none, off, on);
		dev->ops->stream->close(s);
		timeline_close(dev);
	}
	dev->ops->close(dev);
	return 0;
}
