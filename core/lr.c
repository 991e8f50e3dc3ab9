/*
 * The learning rate as a function of the epoch: see lr.h. It may be asked at any fraction of an epoch, so a resumed run, or one
 * with more workers and fewer steps, follows the same curve.
 */
#include <math.h>
#include <string.h>

#include "config.h"
#include "die.h"
#include "lr.h"

const struct option lr_options[] = {
	{ "lr", OPTION_FLOAT, "0.1", 0, 1000, 0, "learning rate after the warm-up" },
	{ "schedule", OPTION_STRING, "\"cosine\"", 0, 0, "constant|step|cosine", "how it goes on from there" },
	{ "milestones", OPTION_LIST | OPTION_FLOAT, "[]", 0, 1e6, 0, "step: the epochs at which it is multiplied by gamma" },
	{ "gamma", OPTION_FLOAT, "0.1", 0, 1, 0, "step: the factor at each milestone" },
	{ "warmup_epochs", OPTION_FLOAT, "0", 0, 1e6, 0, "it rises linearly over so many epochs (0: starts at its full value)" },
	{ "warmup_from", OPTION_FLOAT, "0.1", 0, 1, 0, "where the warm-up starts, as a share of lr" },
	{ 0 },
};

static int check_milestones(const struct lr_schedule *s, const struct config *config)
{
	const char *origin = config_origin(config, "optimizer.milestones");
	const int most = (int)(sizeof(s->milestone) / sizeof(*s->milestone));

	if (s->milestones > most) {
		error("%s: optimizer.milestones has %d entries, and %d is the most", origin, s->milestones, most);
		return hint("optimizer.schedule = \"cosine\" falls smoothly");
	}
	for (int i = 1; i < s->milestones; i++)
		if (!(s->milestone[i] > s->milestone[i - 1]))
			return error("%s: optimizer.milestones must increase, but %g comes after %g", origin, s->milestone[i],
			             s->milestone[i - 1]);
	if (s->kind == LR_STEP && !s->milestones) {
		error("%s: optimizer.schedule = \"step\" needs milestones", config_origin(config, "optimizer.schedule"));
		return hint("for example optimizer.milestones = [ %g, %g ]", floor(s->epochs * 0.5), floor(s->epochs * 0.75));
	}
	return 0;
}

int lr_init(struct lr_schedule *s, const struct config *config, double epochs)
{
	const char *kind = config_string(config, "optimizer.schedule");

	memset(s, 0, sizeof(*s));
	s->kind = strcmp(kind, "step") == 0 ? LR_STEP : strcmp(kind, "cosine") == 0 ? LR_COSINE : LR_CONSTANT;
	s->base = config_float(config, "optimizer.lr");
	s->gamma = config_float(config, "optimizer.gamma");
	s->warmup = config_float(config, "optimizer.warmup_epochs");
	s->warmup_from = config_float(config, "optimizer.warmup_from");
	s->epochs = epochs;
	s->milestones = config_list(config, "optimizer.milestones", s->milestone, (int)(sizeof(s->milestone) / sizeof(double)));
	if (s->warmup > 0 && !(s->warmup <= epochs))
		return error("%s: optimizer.warmup_epochs is %g, longer than the run of %g epochs",
		             config_origin(config, "optimizer.warmup_epochs"), s->warmup, epochs);
	return check_milestones(s, config);
}

/* Cosine starts where the warm-up ends, so that the two never overlap. */
static double factor(const struct lr_schedule *s, double epoch)
{
	double f = 1, span = s->epochs - s->warmup;

	if (s->kind == LR_STEP)
		for (int i = 0; i < s->milestones && s->milestone[i] <= epoch; i++)
			f *= s->gamma;
	if (s->kind == LR_COSINE && epoch > s->warmup && span > 0)
		f = 0.5 * (1 + cos(acos(-1) * fmin((epoch - s->warmup) / span, 1)));
	return f;
}

double lr_at(const struct lr_schedule *s, double epoch)
{
	double lr = s->base * factor(s, epoch);

	if (epoch < s->warmup)
		lr *= s->warmup_from + (1 - s->warmup_from) * epoch / s->warmup;
	return lr;
}
