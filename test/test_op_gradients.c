/*
 * Gradients by central differences: the loss is sum(w y) with random w, in double, so that w is the gradient of the output; each
 * operation's backward must agree with differences of its forward, away from kinks. A check that cannot fail is worth nothing:
 * every gradient is checked again with a mistake planted in it, which must be seen, and none may be all zero.
 */
#include "ops_kit.h"

enum { MOST = 512 };
static const double STEP = 0.02, TOLERANCE = 1e-3;

struct scene {
	struct rig *r;
	double (*loss)(struct scene *);
	float x[MOST], other[MOST], gamma[8], beta[8];  /* inputs */
	float y[MOST], w[MOST];                         /* output and its gradient */
	float dx[MOST], dother[MOST], dgamma[8], dbeta[8];
	float mean[8], invstd[8];
	uint8_t index[MOST];
	int n, out;
	struct bn_desc bn;
	struct pool_desc pool;
	int64_t step;
	bool use_other;
};

static double weigh(const struct scene *s)
{
	double sum = 0;

	for (int i = 0; i < s->out; i++)
		sum += (double)s->w[i] * s->y[i];
	return sum;
}

/* Differences of fourth order: their error is h^4, so h can be large enough for the loss's float rounding not to matter. */
static double slope(struct scene *s, float *x)
{
	float keep = *x;
	double f[4];

	for (int i = 0; i < 4; i++) {
		*x = keep + (float)(STEP * (i < 2 ? i - 2 : i - 1));
		f[i] = s->loss(s);
	}
	*x = keep;
	return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * STEP);
}

/* The distance of the gradient from the differences, relative to its norm. */
static double off_by(const float *g, const double *slopes, int n)
{
	double d = 0, norm = 0;

	for (int i = 0; i < n; i++) {
		d += (g[i] - slopes[i]) * (g[i] - slopes[i]);
		norm += slopes[i] * slopes[i];
	}
	return sqrt(d / norm);          /* NaN, which fails, if all differences are zero */
}

static int largest(const float *g, int n)
{
	int best = 0;

	for (int i = 1; i < n; i++)
		if (fabsf(g[i]) > fabsf(g[best]))
			best = i;
	return best;
}

static void check(struct scene *s, const char *name, float *x, const float *g, int n)
{
	double slopes[MOST] = { 0 }, norm = 0, right, scaled, flipped;
	float wrong[MOST] = { 0 };

	for (int i = 0; i < n; i++) {
		slopes[i] = slope(s, &x[i]);
		norm += (double)g[i] * g[i];
		wrong[i] = g[i] * 1.01f;
	}
	right = off_by(g, slopes, n);
	ok(right <= TOLERANCE && norm > 0, "%s: %s: off by %.2g", s->r->name, name, right);
	scaled = off_by(wrong, slopes, n);
	memcpy(wrong, g, (size_t)n * sizeof(*wrong));
	wrong[largest(g, n)] *= -1;
	flipped = off_by(wrong, slopes, n);
	ok(!(scaled <= TOLERANCE) && !(flipped <= TOLERANCE), "%s: %s: 1 %% too much or a wrong sign is seen (%.2g, %.2g)", s->r->name,
	   name, scaled, flipped);
}

static struct scene scene(struct rig *r, int n, int out)
{
	struct scene s = { .r = r, .n = n, .out = out, .step = 3 };

	fill(s.x, MOST, 1, 0, 1);
	fill(s.other, MOST, 2, 0, 1);
	fill(s.w, MOST, 3, 0, 1);
	fill(s.gamma, 8, 4, 1, 0.2);
	fill(s.beta, 8, 5, 0, 0.5);
	return s;
}

/* Pushes values away from the kink at 0. */
static void avoid_zero(float *x, int n)
{
	for (int i = 0; i < n; i++)
		x[i] += x[i] < 0 ? -0.2f : 0.2f;
}

/* ---- ReLU and addition ---- */

static double loss_relu(struct scene *s)
{
	s->r->ops->nn->relu_fwd(s->r->stream, s->n, s->x, s->y);
	return weigh(s);
}

static void check_relu(struct rig *r)
{
	struct scene s = scene(r, 40, 40);

	s.loss = loss_relu;
	avoid_zero(s.x, s.n);
	s.loss(&s);
	r->ops->nn->relu_bwd(r->stream, s.n, s.y, s.w, s.dx, false);
	check(&s, "ReLU", s.x, s.dx, s.n);
}

static double loss_add(struct scene *s)
{
	s->r->ops->nn->add_fwd(s->r->stream, s->n, s->x, s->other, true, s->y);
	return weigh(s);
}

static void check_add(struct rig *r)
{
	struct scene s = scene(r, 40, 40);

	s.loss = loss_add;
	for (int i = 0; i < s.n; i++)
		s.other[i] += s.x[i] + s.other[i] < 0 ? -0.2f : 0.2f;
	s.loss(&s);
	r->ops->nn->relu_bwd(r->stream, s.n, s.y, s.w, s.dx, false);
	check(&s, "addition with ReLU, a", s.x, s.dx, s.n);
	check(&s, "addition with ReLU, b", s.other, s.dx, s.n);
}

/* ---- batch norm ---- */

static double loss_bn(struct scene *s)
{
	float running_mean[8] = { 0 }, running_var[8] = { 0 };

	s->r->ops->nn->bn_train(s->r->stream, &s->bn, s->x, s->use_other ? s->other : NULL, s->gamma, s->beta, running_mean,
	                        running_var, s->mean, s->invstd, s->y);
	return weigh(s);
}

/* With ReLU the residual carries every sum at least 0.5 away from the kink, about half of them to either side. */
static void bn_avoid_zero(struct scene *s)
{
	s->bn.relu = false;
	loss_bn(s);
	for (int i = 0; i < s->n; i++)
		s->other[i] += s->y[i] < 0 ? -0.5f : 0.5f;
	s->bn.relu = true;
}

static void check_bn(struct rig *r, bool relu)
{
	struct scene s = scene(r, 5 * 17, 5 * 17);
	const char *with = relu ? "batch norm + residual + ReLU" : "batch norm";
	double slopes[MOST] = { 0 };
	char name[64];

	s.loss = loss_bn;
	s.bn = (struct bn_desc){ 17, 5, 1e-3f, 0.1f, false };
	s.use_other = relu;
	if (relu)
		bn_avoid_zero(&s);
	s.loss(&s);
	memcpy(s.dother, s.w, sizeof(s.w));     /* dy, which becomes the residual's gradient */
	r->ops->nn->bn_bwd(r->stream, &s.bn, s.x, s.y, s.gamma, s.mean, s.invstd, s.dother, s.dx, false, relu ? s.dother : NULL, false,
	                   s.dgamma, s.dbeta);
	snprintf(name, sizeof(name), "%s, x", with);
	check(&s, name, s.x, s.dx, s.n);
	snprintf(name, sizeof(name), "%s, residual", with);
	if (relu)
		check(&s, name, s.other, s.dother, s.n);
	snprintf(name, sizeof(name), "%s, gamma", with);
	check(&s, name, s.gamma, s.dgamma, s.bn.c);
	snprintf(name, sizeof(name), "%s, beta", with);
	check(&s, name, s.beta, s.dbeta, s.bn.c);

	/* the classic mistake: mean and deviation taken for constants */
	for (int i = 0; i < s.n; i++)
		slopes[i] = slope(&s, &s.x[i]);
	s.loss(&s);
	for (int i = 0; i < s.n; i++)
		s.dx[i] = s.gamma[i % 5] * s.invstd[i % 5] * (relu && !(s.y[i] > 0) ? 0 : s.w[i]);
	ok(!(off_by(s.dx, slopes, s.n) <= TOLERANCE), "%s: %s: statistics taken for constants are seen", r->name, with);
}

/* ---- pooling and shortcut ---- */

static double loss_pool(struct scene *s)
{
	s->r->ops->nn->pool_fwd(s->r->stream, &s->pool, s->x, s->y, s->pool.max ? s->index : NULL);
	return weigh(s);
}

static void check_pool(struct rig *r, struct pool_desc d, const char *name)
{
	int out = d.n * conv_out(d.h, d.kernel, d.stride, d.pad) * conv_out(d.w, d.kernel, d.stride, d.pad) * d.c;
	struct scene s = scene(r, d.n * d.h * d.w * d.c, out);

	s.loss = loss_pool;
	s.pool = d;
	for (int i = 0; i < s.n; i++)           /* all different by 0.1 at least, in no order */
		s.x[i] = (float)(i * 89 % 509) * 0.1f;
	s.loss(&s);
	r->ops->nn->pool_bwd(r->stream, &d, s.w, s.index, s.dx, false);
	check(&s, name, s.x, s.dx, s.n);
}

static double loss_shortcut(struct scene *s)
{
	s->r->ops->nn->shortcut_fwd(s->r->stream, 2, 5, 4, 3, 6, s->x, s->y);
	return weigh(s);
}

static void check_shortcut(struct rig *r)
{
	struct scene s = scene(r, 2 * 5 * 4 * 3, 2 * 3 * 2 * 6);

	s.loss = loss_shortcut;
	r->ops->nn->shortcut_bwd(r->stream, 2, 5, 4, 3, 6, s.w, s.dx, false);
	check(&s, "option A shortcut", s.x, s.dx, s.n);
}

/* ---- dropout and the loss ---- */

static double loss_dropout(struct scene *s)
{
	s->r->ops->nn->dropout(s->r->stream, s->n, 0.4f, 9, &s->step, 1, s->x, s->y);
	return weigh(s);
}

static void check_dropout(struct rig *r)
{
	struct scene s = scene(r, 60, 60);

	s.loss = loss_dropout;
	r->ops->nn->dropout(r->stream, s.n, 0.4f, 9, &s.step, 1, s.w, s.dx);
	check(&s, "dropout", s.x, s.dx, s.n);
}

static const int32_t labels[6] = { 0, 3, -1, 4, 2, 2 };

static double loss_softmax(struct scene *s)
{
	struct loss_stats stats = { 0 };

	s->r->ops->nn->softmax_xent(s->r->stream, 6, 5, s->x, labels, 0, NULL, &stats);
	return stats.loss * 0.2;
}

static void check_softmax(struct rig *r)
{
	struct scene s = scene(r, 30, 0);
	struct loss_stats stats = { 0 };

	s.loss = loss_softmax;
	r->ops->nn->softmax_xent(r->stream, 6, 5, s.x, labels, 0.2f, s.dx, &stats);
	check(&s, "softmax cross-entropy", s.x, s.dx, s.n);
}

static void check_all(struct rig *r)
{
	check_relu(r);
	check_add(r);
	check_bn(r, false);
	check_bn(r, true);
	check_pool(r, (struct pool_desc){ 2, 6, 6, 3, 2, 2, 0, true }, "max pooling");
	check_pool(r, (struct pool_desc){ 1, 7, 6, 3, 3, 2, 1, true }, "max pooling, overlapping, padded");
	check_pool(r, (struct pool_desc){ 1, 7, 6, 3, 3, 2, 1, false }, "average pooling, padded");
	check_pool(r, (struct pool_desc){ 3, 4, 4, 5, 4, 1, 0, false }, "global pooling");
	check_shortcut(r);
	check_dropout(r);
	check_softmax(r);
}

int main(void)
{
	struct rig reference = rig_open("reference", "", 1), fast = rig_open("cpu", "", 1);

	check_all(&reference);
	check_all(&fast);
	rig_close(&reference);
	rig_close(&fast);
	return done_testing();
}
