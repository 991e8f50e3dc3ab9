/* Batch norm in plain C: two passes over each channel, in double. */
#include <math.h>

#include "cpu_ops.h"

static void channel_moments(const struct bn_desc *d, const float *x, int c, double *mean, double *var)
{
	double sum = 0, square = 0;

	for (int64_t p = 0; p < d->pixels; p++)
		sum += x[p * d->c + c];
	*mean = sum / (double)d->pixels;
	for (int64_t p = 0; p < d->pixels; p++) {
		double delta = x[p * d->c + c] - *mean;

		square += delta * delta;
	}
	*var = square / (double)d->pixels;
}

static void channel_normalise(const struct bn_desc *d, const float *x, const float *residual, int c, double mean, double scale,
                              double shift, float *y)
{
	for (int64_t p = 0; p < d->pixels; p++) {
		int64_t i = p * d->c + c;
		double v = (x[i] - mean) * scale + shift + (residual ? residual[i] : 0);

		y[i] = d->relu && v <= 0 ? 0 : (float)v;
	}
}

void reference_bn_train(struct stream *s, const struct bn_desc *d, const void *x, const void *residual, const float *gamma,
                        const float *beta, float *running_mean, float *running_var, float *mean, float *invstd, void *y)
{
	double m = d->momentum, n = (double)d->pixels;

	(void)s;
	for (int c = 0; c < d->c; c++) {
		double mu, var, inverse;

		channel_moments(d, x, c, &mu, &var);
		inverse = 1 / sqrt(var + d->epsilon);
		mean[c] = (float)mu;
		invstd[c] = (float)inverse;
		running_mean[c] = (float)((1 - m) * running_mean[c] + m * mu);
		running_var[c] = (float)((1 - m) * running_var[c] + m * var * (n > 1 ? n / (n - 1) : 1));
		channel_normalise(d, x, residual, c, mu, gamma[c] * inverse, beta[c], y);
	}
}

void reference_bn_infer(struct stream *s, const struct bn_desc *d, const void *x, const void *residual, const float *gamma,
                        const float *beta, const float *running_mean, const float *running_var, void *y)
{
	(void)s;
	for (int c = 0; c < d->c; c++)
		channel_normalise(d, x, residual, c, running_mean[c], gamma[c] / sqrt((double)running_var[c] + d->epsilon), beta[c], y);
}

/* With xhat = (x - mean) invstd: dx = gamma invstd (dz - sum(dz) / n - xhat sum(dz xhat) / n). */
void reference_bn_bwd(struct stream *s, const struct bn_desc *d, const void *in, const void *out, const float *gamma,
                      const float *mean, const float *invstd, void *gradient, void *in_gradient, bool add_dx, void *shortcut_gradient,
                      bool add_dresidual, float *dgamma, float *dbeta)
{
	const float *x = in, *y = out;
	float *dy = gradient, *dx = in_gradient, *dresidual = shortcut_gradient;
	double n = (double)d->pixels;

	(void)s;
	for (int c = 0; c < d->c; c++) {
		double sum = 0, dot = 0;

		for (int64_t i = c; i < d->pixels * d->c; i += d->c) {
			double dz = d->relu && !(y[i] > 0) ? 0 : dy[i];

			sum += dz;
			dot += dz * ((double)x[i] - mean[c]) * invstd[c];
		}
		dgamma[c] = (float)dot;
		dbeta[c] = (float)sum;
		for (int64_t i = c; i < d->pixels * d->c; i += d->c) {
			float dz = d->relu && !(y[i] > 0) ? 0 : dy[i];
			double xhat = ((double)x[i] - mean[c]) * invstd[c];
			double v = (double)gamma[c] * invstd[c] * (dz - sum / n - xhat * dot / n);

			if (dx)
				dx[i] = (float)(v + (add_dx ? dx[i] : 0));
			if (dresidual)
				dresidual[i] = dz + (dresidual != dy && add_dresidual ? dresidual[i] : 0);
		}
	}
}
