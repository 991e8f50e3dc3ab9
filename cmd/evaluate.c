/*
 * Evaluation of the averaged model. It works on copies (mean_x, mean_buffer) that take the place of the net's arenas for its
 * duration, so that the trajectory is bit for bit the same with evaluation on or off.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/sha256.h"
#include "run.h"
#include "tensorboard.h"

/* The workers' average of parameters, and of batch-norm statistics (or the own ones), in the mean arenas. */
static void make_mean(struct run *run)
{
	struct comm *comm = run->comm;
	const struct device_ops *dev = run->device->ops;

	run->sync.ops->consensus(&run->sync, run->mean_x);
	if (run->net.buffer_n == 0)
		return;
	if (run->sync.own_batchnorm) {
		dev->mem->copy(run->compute, run->mean_buffer, run->net.buffer, (size_t)run->net.buffer_n * sizeof(float), COPY_DEVICE);
		return;
	}
	dev->vec->scale(run->compute, run->net.buffer_n, (float)run->sync.weight[run->world.rank], run->net.buffer, run->mean_buffer);
	comm_fork(comm, run->compute);
	comm_allreduce(comm, run->mean_buffer, run->net.buffer_n, DTYPE_F32, REDUCE_SUM);
	comm_mark(comm, comm->forked);
	dev->stream->wait(run->compute, comm->forked);
}

static void swap(float **a, float **b)
{
	float *t = *a;

	*a = *b;
	*b = t;
}

void run_evaluate(struct run *run)
{
	double start = clock_now(), values[3], virtual_s = run_virtual_now(run);
	struct net_hooks hooks = run->net.hooks;
	struct loss_stats sums;
	struct batch batch;

	make_mean(run);
	swap(&run->net.x, &run->mean_x);
	swap(&run->net.buffer, &run->mean_buffer);
	run->net.hooks = (struct net_hooks){ 0 };
	loader_start(run->test, 0, 0);
	while (loader_next(run->test, &batch)) {
		run_load(run, &batch);
		net_forward(&run->net, false);
		net_loss(&run->net, 0);
	}
	sums = net_take_stats(&run->net);
	run->net.hooks = hooks;
	swap(&run->net.x, &run->mean_x);
	swap(&run->net.buffer, &run->mean_buffer);

	values[0] = sums.loss;
	values[1] = (double)sums.correct;
	values[2] = (double)sums.count;
	comm_host_reduce(run->team, values, 3, REDUCE_SUM);
	CHECK(values[2] == (double)run->data.test.count);       /* every sample once, whatever the number of workers */
	comm_host_reduce(run->team, &virtual_s, 1, REDUCE_MAX);
	run->test_loss = values[0] / values[2];
	run->test_accuracy = values[1] / values[2];
	if (run->test_accuracy > run->best_accuracy)
		run->best_accuracy = run->test_accuracy;
	run->evaluated_at = run->step;
	run->eval_seconds += clock_now() - start;
	if (run->world.rank == 0) {
		double epoch = run_epochs(run, run->samples);

		fprintf(run->dir.eval, "%.6g,%lld,%.6g,%.6g,%.3f,", epoch, (long long)run->step, run->test_loss, run->test_accuracy,
		        clock_now() - run->started);
		rundir_virtual(run->dir.eval, virtual_s);
		rundir_flush(run->dir.eval, "eval.csv");
		if (run->dir.events) {
			tensorboard_scalar(run->dir.events, run->step, "test/loss", run->test_loss);
			tensorboard_scalar(run->dir.events, run->step, "test/accuracy", run->test_accuracy);
		}
		note("epoch %6.2f  test loss %.4f  test accuracy %5.2f %%  (%s, %.1f s)", epoch, run->test_loss, 100 * run->test_accuracy,
		     run->workers > 1 ? "averaged model" : "model", clock_now() - start);
	}
}

struct ordered {
	const struct tensor_info *tensor;
	const float *arena;
};

static int by_order(const void *a, const void *b)
{
	const struct ordered *x = a, *y = b;

	return x->tensor->order < y->tensor->order ? -1 : x->tensor->order > y->tensor->order;
}

static float *to_host(struct run *run, const float *arena, int64_t n)
{
	float *host = run->device->ops->mem->alloc_host(run->device, (size_t)n * sizeof(float) + 1);

	run->device->ops->mem->copy(run->compute, host, arena, (size_t)n * sizeof(float), COPY_TO_HOST);
	run->device->ops->stream->sync(run->compute);
	return host;
}

void run_fingerprint(struct run *run, char hex[65])
{
	const struct net *net = &run->net;
	int count = net->tensors + net->buffer_tensors;
	struct ordered *order = xcalloc((size_t)count, sizeof(*order));
	float *x, *buffer, *torch;
	int64_t longest = 1;
	struct sha256 hash;

	make_mean(run);
	x = to_host(run, run->mean_x, net->n);
	buffer = to_host(run, run->mean_buffer, net->buffer_n);
	for (int i = 0; i < count; i++) {
		bool parameter = i < net->tensors;

		order[i].tensor = parameter ? &net->tensor[i] : &net->buffer_tensor[i - net->tensors];
		order[i].arena = parameter ? x : buffer;
		longest = order[i].tensor->n > longest ? order[i].tensor->n : longest;
	}
	qsort(order, (size_t)count, sizeof(*order), by_order);
	torch = xcalloc((size_t)longest, sizeof(float));
	sha256_init(&hash);
	for (int i = 0; i < count; i++) {
		tensor_to_torch(order[i].tensor, order[i].arena, torch);
		sha256_add(&hash, torch, (size_t)order[i].tensor->n * sizeof(float));
	}
	sha256_end(&hash, hex);
	free(torch);
	free(order);
	run->device->ops->mem->free_host(run->device, x);
	run->device->ops->mem->free_host(run->device, buffer);
}
