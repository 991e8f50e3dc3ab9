/* Optimizers against PyTorch's numbers, in place, out of place and by ranges; learning-rate schedules. */
#include "net_kit.h"
#include "tap.h"

#define SETS(...) (const char *const[]){ __VA_ARGS__, NULL }

enum { N = 4, STEPS = 4 };

/*
 * PyTorch 1.13 in double precision: x starts at `start`, the gradient of step t = 0 … 3 is ((7 i + 3 t) mod 11 - 5) / 8, the
 * learning rate 0.1, 0.1, 0.01, 0.01; this is x after the last step.
 */
static const float start[N] = { 0.5f, -1.25f, 2.0f, 0.0f };
static const double rates[STEPS] = { 0.1, 0.1, 0.01, 0.01 };

static const struct expected {
	const char *name, *optimizer, *set[5];
	int slots;
	double x[N];
} expected[] = {
	{ "SGD", "sgd", { "optimizer.momentum=0.0", "optimizer.weight_decay=0.0" }, 0, { 0.58125, -1.33375, 2.0125, -0.02875 } },
	{ "SGD with weight decay", "sgd", { "optimizer.momentum=0.0", "optimizer.weight_decay=0.05" }, 0,
	  { 0.57536857055, -1.31983354998, 1.99043557311, -0.0284128186719 } },
	{ "SGD with momentum", "sgd", { "optimizer.weight_decay=0.05" }, 1,
	  { 0.64093006505, -1.34519793498, 1.99696799361, -0.0877221436719 } },
	{ "SGD with Nesterov momentum", "sgd", { "optimizer.nesterov=true", "optimizer.weight_decay=0.05" }, 1,
	  { 0.701438840602, -1.40517157259, 1.9875792152, -0.106691234494 } },
	{ "AdamW", "adamw", { "optimizer.weight_decay=0.05" }, 2, { 0.689657707378, -1.43545398116, 2.10050864319, -0.123750154299 } },
	{ "AdamW, other constants", "adamw", { "optimizer.beta1=0.8", "optimizer.beta2=0.95", "optimizer.epsilon=1e-3" }, 2,
	  { 0.6908289899, -1.4465571035, 2.11215451371, -0.118053228881 } },
};

static void gradient(int t, float *g)
{
	for (int i = 0; i < N; i++)
		g[i] = (float)((7 * i + 3 * t) % 11 - 5) / 8;
}

static void open_optimizer(struct optimizer *o, const struct expected *e, struct kit *kit)
{
	struct config *config = kit_optimizer_config(e->optimizer, e->set);

	CHECK(config);
	optimizer_init(o, optimizer_find(e->optimizer), config);
	optimizer_bind(o, kit->device, N);
	config_free(config);
}

static void check_numbers(const struct expected *e, struct kit *kit, const char *device)
{
	struct optimizer o;
	float x[N], g[N];
	double worst = 0;

	open_optimizer(&o, e, kit);
	ok(o.ops->slots(&o) == e->slots, "%s keeps %d vectors", e->name, e->slots);
	memcpy(x, start, sizeof(x));
	for (int t = 0; t < STEPS; t++) {
		gradient(t, g);
		optimizer_begin(&o, kit->stream, rates[t]);
		optimizer_step(&o, kit->stream, 0, 1, g, x);            /* two ranges of one step */
		optimizer_step(&o, kit->stream, 1, N - 1, g, x);
	}
	for (int i = 0; i < N; i++)
		worst = fabs(x[i] - e->x[i]) <= worst ? worst : fabs(x[i] - e->x[i]);
	ok(worst <= 1e-6, "%s on %s is PyTorch's: off by %.2g", e->name, device, worst);
	optimizer_release(&o);
}

/* One step out of place, then the same step in place: same bits; and the first left everything alone. */
static void check_out_of_place(const struct expected *e, struct kit *kit)
{
	float x[N], before[N], g[N], x_out[N], out[2][N] = { { 0 } }, state_before[2][N] = { { 0 } };
	float *const state_out[2] = { out[0], out[1] };
	struct optimizer o;
	bool untouched = true, same;

	open_optimizer(&o, e, kit);
	memcpy(x, start, sizeof(x));
	for (int t = 0; t < STEPS; t++) {
		gradient(t, g);
		memcpy(before, x, sizeof(x));
		for (int s = 0; s < e->slots; s++)
			memcpy(state_before[s], o.state[s], sizeof(x));
		optimizer_begin(&o, kit->stream, rates[t]);
		optimizer_step_to(&o, kit->stream, 0, N, g, x, x_out, state_out);
		untouched &= !memcmp(before, x, sizeof(x));
		for (int s = 0; s < e->slots; s++)
			untouched &= !memcmp(state_before[s], o.state[s], sizeof(x));
		optimizer_step(&o, kit->stream, 0, N, g, x);
	}
	same = !memcmp(x, x_out, sizeof(x));
	for (int s = 0; s < e->slots; s++)
		same &= !memcmp(out[s], o.state[s], sizeof(x));
	ok(untouched && same, "%s out of place changes nothing else and gives the same bits", e->name);
	optimizer_release(&o);
}

static double rate(const char *const *sets, double epochs, double epoch)
{
	struct config *config = kit_optimizer_config("sgd", sets);
	struct lr_schedule s;

	CHECK(config && !lr_init(&s, config, epochs));
	config_free(config);
	return lr_at(&s, epoch);
}

static void check_schedules(void)
{
	const char *const *step = SETS("optimizer.lr=0.4", "optimizer.schedule=step", "optimizer.milestones=[3, 6]", "optimizer.gamma=0.5");
	const char *const *cosine = SETS("optimizer.lr=0.4", "optimizer.schedule=cosine");
	const char *const *warm = SETS("optimizer.lr=0.4", "optimizer.schedule=cosine", "optimizer.warmup_epochs=2",
	                               "optimizer.warmup_from=0.25");

	near(rate(SETS("optimizer.lr=0.4", "optimizer.schedule=constant"), 10, 7.5), 0.4, 1e-12, "constant");
	near(rate(step, 10, 2.999), 0.4, 1e-12, "before the first milestone");
	near(rate(step, 10, 3), 0.2, 1e-12, "at the first milestone");
	near(rate(step, 10, 9), 0.1, 1e-12, "after the second one");
	near(rate(cosine, 10, 0), 0.4, 1e-12, "cosine starts full");
	near(rate(cosine, 10, 5), 0.2, 1e-12, "is half in the middle");
	near(rate(cosine, 10, 2.5), 0.2 * (1 + sqrt(0.5)), 1e-12, "follows the cosine");
	near(rate(cosine, 10, 10), 0, 1e-12, "ends at zero");
	near(rate(warm, 10, 0), 0.1, 1e-12, "warm-up starts at its share");
	near(rate(warm, 10, 1), 0.25, 1e-12, "rises linearly");
	near(rate(warm, 10, 2), 0.4, 1e-12, "ends full");
	near(rate(warm, 10, 6), 0.2, 1e-12, "and the cosine spans the rest");
}

static void refused(const char *const *sets, const char *word)
{
	struct config *config = kit_optimizer_config("sgd", sets);
	struct lr_schedule s;
	bool refusal = config && lr_init(&s, config, 10);

	ok(refusal && strstr(errors_text(), word), "refused: %.*s", (int)strcspn(errors_text(), "\n"), errors_text());
	errors_clear();
	config_free(config);
}

int main(void)
{
	static const char *const devices[] = { "reference", "cpu" };

	for (int d = 0; d < 2; d++) {
		struct kit kit = kit_open(devices[d], "auto");

		for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
			check_numbers(&expected[i], &kit, devices[d]);
			check_out_of_place(&expected[i], &kit);
		}
		kit_close(&kit);
	}
	check_schedules();
	refused(SETS("optimizer.warmup_epochs=11"), "warmup_epochs");
	refused(SETS("optimizer.schedule=step"), "milestones");
	refused(SETS("optimizer.schedule=step", "optimizer.milestones=[4, 4]"), "increase");
	return done_testing();
}
