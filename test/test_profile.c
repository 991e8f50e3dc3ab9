/*
 * The profile of backward: what it says can be, and the network is afterwards as if it had not been taken.
 */
#include "net_kit.h"
#include "tap.h"

enum { BATCH = 4 };

static void test_untouched(const char *device)
{
	struct kit kit = kit_open(device, "auto");
	struct net net[2];
	double ready[64], backward = 0;
	bool rises = true, counted = false;

	device = kit.device->ops->name;
	for (int i = 0; i < 2; i++) {
		CHECK(kit_tiny_net(&net[i], BATCH, false));
		net_bind(&net[i], kit.device, kit.stream, true);
		net_init_params(&net[i]);
		kit_load(&net[i], BATCH);
		net_pass(&net[i], 1.0f / BATCH);        /* statistics that are not the first ones */
	}
	CHECK(net[0].tensors <= 64);
	net[0].hooks.context = ready;
	backward = net_profile(&net[0], 0.02, ready);
	for (int i = 1; i < net[0].tensors; i++)
		rises = rises && ready[i] >= ready[i - 1];
	ok(rises && ready[0] > 0 && ready[net[0].tensors - 1] <= backward, "%s: gradients become final one after the other, within backward (%.3g ms)",
	   device, 1e3 * backward);
	for (int i = 0; i < net[0].nodes; i++)
		for (int phase = 0; phase < 2; phase++)
			counted = counted || net[0].node[i]->calls[phase][0] != net[1].node[i]->calls[phase][0];
	ok(!counted && net[0].hooks.context == ready && !net[0].hooks.grad_ready, "%s: its passes are not counted, hooks are as they were", device);
	ok(!memcmp(net[0].x, net[1].x, (size_t)net[0].n * 4) && !memcmp(net[0].buffer, net[1].buffer, (size_t)net[0].buffer_n * 4),
	   "%s: parameters and batch norm's statistics are as they were", device);
	kit_load(&net[0], BATCH);
	net_take_stats(&net[1]);
	for (int i = 0; i < 2; i++)
		net_pass(&net[i], 1.0f / BATCH);
	kit.device->ops->stream->sync(kit.stream);
	ok(!memcmp(net[0].g, net[1].g, (size_t)net[0].n * 4) && !memcmp(net[0].buffer, net[1].buffer, (size_t)net[0].buffer_n * 4) &&
	   !memcmp(net[0].stats, net[1].stats, sizeof(*net[0].stats)), "%s: the next step is what it would have been, to the bit", device);
	net_free(&net[0]);
	net_free(&net[1]);
	kit_close(&kit);
}

/* Nearly all of backward is spent in the convolution in front, or in the one at the end. */
static double share_of_last(struct kit *kit, bool front)
{
	struct net net = { 0 };
	double ready[16], backward;
	int at;

	net_init(&net, "heavy", 1);
	at = net_input(&net, BATCH, 24, 24, 3);
	at = net_conv(&net, "first", at, 64, 3, 1, 1, false);
	if (front)
		at = net_conv(&net, "second", at, 64, 3, 1, 1, false);
	at = net_avg_pool(&net, at, 12, 12, 0);
	at = net_conv(&net, "third", at, front ? 4 : 1024, 1, 1, 0, false);
	if (!front)
		at = net_conv(&net, "fourth", at, 1024, 3, 1, 1, false);
	at = net_global_pool(&net, at);
	net_linear(&net, "fc", at, 10);
	CHECK(net_finish(&net) == 0 && net.tensors <= 16);
	net_bind(&net, kit->device, kit->stream, true);
	net_init_params(&net);
	backward = net_profile(&net, 0.05, ready);
	at = 0;
	while (strncmp(net.tensor[at].name, front ? "second" : "fourth", 6))
		at++;
	backward = (ready[at] - ready[at - 1]) / backward;
	net_free(&net);
	return backward;
}

static void test_where(void)
{
	struct kit kit = kit_open("cpu", "auto");
	double front = 0, end = 0;

	for (int i = 0; i < 5 && !(front > 0.15 && end > 0.15); i++) {  /* on a busy machine other layers may be the ones that were interrupted */
		front = share_of_last(&kit, true);
		end = share_of_last(&kit, false);
	}
	ok(front > 0.15, "a heavy layer in front is where backward's time goes: %.0f %%", 100 * front);
	ok(end > 0.15, "a heavy layer at the end: %.0f %%", 100 * end);
	kit_close(&kit);
}

int main(void)
{
	test_untouched("reference");
	test_untouched("cpu");
	test_where();
	return done_testing();
}
