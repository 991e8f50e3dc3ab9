// Batch norm, with the residual addition and the ReLU behind it. Bound by memory: training reads x twice and writes y, backward
// reads x and dy (and y, for ReLU's mask) twice and writes dx. The second pass takes the blocks in the opposite order, to meet
// what the first left in the cache.
//
// The moments are taken in one pass without trusting that the mean is small against the deviation. Each thread sums distances to
// the first value of its own rows. If that value lies D away from the others, it spoils the sum of n squares by about n D^2 units
// in the last place; but it is itself part of the variance, with about D^2, and n is small (the rows of a thread). Moments are
// then joined as in Chan, Golub, LeVeque (1979): squares about the own mean plus the distance of the means, squared. Means are
// kept as distances to the channel's first value in x, so that they are small numbers and lose nothing when they are added.
#include "columns.cuh"

// ---- forward ----

struct bn_forward {
	const void *x, *residual;       // residual may be NULL
	const float *gamma, *beta;
	float *mean, *invstd;           // of the batch
	float *running_mean, *running_var;
	void *y;
	float epsilon, momentum;
	bool relu;
	float *part;                    // a block's mean (relative to x's first row) and sum of squares about it
};

template <class T, int V> __global__ void __launch_bounds__(COLUMN_THREADS, 2) bn_moments(struct columns m, struct bn_forward f)
{
	__shared__ float shared[V * COLUMN_THREADS];
	const T *x = (const T *)f.x;
	place p = place_of<V>(m, blockIdx.x);
	float n = (float)p.count, origin[V], first[V], sum[V] = { 0 }, square[V] = { 0 }, off[V], mean[V];
	group<T, V> top = load<V>(x + p.at(0)), own = p.count ? load<V>(x + p.at(p.row)) : top;

	for (int i = 0; i < V; i++) {
		origin[i] = to_float(top.v[i]);
		first[i] = to_float(own.v[i]);
	}
	walk<4>(p, [&](auto many, int64_t row) {
		enum { N = decltype(many)::N };
		group<T, V> in[N];

		for (int u = 0; u < N; u++)
			in[u] = load<V>(x + p.at(row + u * p.step));
		for (int u = 0; u < N; u++) {
			for (int i = 0; i < V; i++) {
				float d = to_float(in[u].v[i]) - first[i];

				sum[i] += d;
				square[i] += d * d;
			}
		}
	});
	for (int i = 0; i < V; i++) {
		float about_mean = square[i] - (n > 0 ? sum[i] * sum[i] / n : 0);

		square[i] = about_mean < 0 ? 0 : about_mean;    // rounding; a NaN stays
		off[i] = n > 0 ? first[i] - origin[i] + sum[i] / n : 0;
		mean[i] = n * off[i];
	}
	sum_rows<V>(mean, shared);
	for (int i = 0; i < V; i++) {
		mean[i] /= (float)p.rows_of_block;
		square[i] += n * (off[i] - mean[i]) * (off[i] - mean[i]);
	}
	sum_rows<V>(square, shared);
	if (threadIdx.y == 0 && p.inside) {
		write_columns<V>(f.part + (int64_t)blockIdx.x * 2 * m.c, p.column, mean);
		write_columns<V>(f.part + (int64_t)blockIdx.x * 2 * m.c + m.c, p.column, square);
	}
}

// Joins the blocks' moments and moves the running ones.
template <class T>
__global__ void __launch_bounds__(TOTAL_COLUMNS * TOTAL_ROWS) bn_join(struct columns m, unsigned spans, struct bn_forward f)
{
	__shared__ float shared[TOTAL_COLUMNS * TOTAL_ROWS];
	int c = (int)(blockIdx.x * TOTAL_COLUMNS + threadIdx.x);
	unsigned blocks = c < m.c ? spans : 0;
	float n = (float)m.rows, last = (float)(m.rows - (int64_t)(spans - 1) * m.span), mean, var, batch;
	auto rows = [&](unsigned b) { return b + 1 < spans ? (float)m.span : last; };
	auto part = [&](unsigned b, int which) { return f.part[((int64_t)b * 2 + which) * m.c + c]; };

	mean = total(blocks, shared, [&](unsigned b) { return rows(b) * part(b, 0); }) / n;
	var = total(blocks, shared, [&](unsigned b) {
		float off = part(b, 0) - mean;

		return part(b, 1) + rows(b) * off * off;
	}) / n;
	if (threadIdx.y != 0 || c >= m.c)
		return;
	batch = to_float(((const T *)f.x)[c]) + mean;
	f.mean[c] = batch;
	f.invstd[c] = 1 / sqrtf(var + f.epsilon);
	f.running_mean[c] = (1 - f.momentum) * f.running_mean[c] + f.momentum * batch;
	f.running_var[c] = (1 - f.momentum) * f.running_var[c] + f.momentum * var * (m.rows > 1 ? n / (n - 1) : 1);
}

// y = relu?((x - mean) scale + beta + residual?). In training the batch's moments, else the running ones.
template <class T, int V>
__global__ void __launch_bounds__(COLUMN_THREADS, 2) bn_normalise(struct columns m, struct bn_forward f, bool train)
{
	const T *x = (const T *)f.x, *residual = (const T *)f.residual;
	T *y = (T *)f.y;
	place p = place_of<V>(m, gridDim.x - 1 - blockIdx.x);
	float mean[V], scale[V], beta[V], gamma[V];

	read_columns<V>(train ? f.mean : f.running_mean, p.column, mean);
	read_columns<V>(train ? f.invstd : f.running_var, p.column, scale);
	read_columns<V>(f.gamma, p.column, gamma);
	read_columns<V>(f.beta, p.column, beta);
	for (int i = 0; i < V; i++)
		scale[i] = gamma[i] * (train ? scale[i] : 1 / sqrtf(scale[i] + f.epsilon));
	walk<4>(p, [&](auto many, int64_t row) {
		enum { N = decltype(many)::N };
		group<T, V> in[N], more[N];

		for (int u = 0; u < N; u++) {
			in[u] = load<V>(x + p.at(row + u * p.step));
			if (residual)
				more[u] = load<V>(residual + p.at(row + u * p.step));
		}
		for (int u = 0; u < N; u++) {
			for (int i = 0; i < V; i++) {
				float v = (to_float(in[u].v[i]) - mean[i]) * scale[i] + beta[i];

				if (residual)
					v += to_float(more[u].v[i]);
				in[u].v[i] = from_float<T>(f.relu && v <= 0 ? 0 : v);   // not a maximum: a NaN gets through
			}
			store(y + p.at(row + u * p.step), in[u]);
		}
	});
}

template <class T, int V> static void forward_train(struct stream *s, const struct bn_desc *d, struct bn_forward f)
{
	struct columns m = columns_of<V>(d->pixels, d->c);

	f.part = partial_sums(s, m, 2);
	launch(s, "bn_train: moments", m.grid, m.block, bn_moments<T, V>, m, f);
	launch(s, "bn_train: join", total_grid(m), total_block(m), bn_join<T>, m, m.grid.x, f);
	launch(s, "bn_train: normalise", m.grid, m.block, bn_normalise<T, V>, m, f, true);
}

template <class T, int V> static void forward_infer(struct stream *s, const struct bn_desc *d, struct bn_forward f)
{
	struct columns m = columns_of<V>(d->pixels, d->c);

	launch(s, "bn_infer", m.grid, m.block, bn_normalise<T, V>, m, f, false);
}

template <class T> static void forward(struct stream *s, const struct bn_desc *d, const struct bn_forward &f, bool train)
{
	enum { N = 16 / sizeof(T) };
	bool wide = d->c % N == 0 && aligned(16, f.x, f.residual, f.y, f.gamma, f.beta, f.mean, f.invstd, f.running_mean,
	                                     f.running_var);

	if (train)
		wide ? forward_train<T, N>(s, d, f) : forward_train<T, 1>(s, d, f);
	else
		wide ? forward_infer<T, N>(s, d, f) : forward_infer<T, 1>(s, d, f);
}

void cuda_bn_train(struct stream *s, const struct bn_desc *d, const void *x, const void *residual, const float *gamma, const float *beta,
                   float *running_mean, float *running_var, float *mean, float *invstd, void *y)
{
	struct bn_forward f = { x, residual, gamma, beta, mean, invstd, running_mean, running_var, y,
		                d->epsilon, d->momentum, d->relu, NULL };

	ACTIVATION(s, forward, d, f, true);
}

void cuda_bn_infer(struct stream *s, const struct bn_desc *d, const void *x, const void *residual, const float *gamma, const float *beta,
                   const float *running_mean, const float *running_var, void *y)
{
	struct bn_forward f = { x, residual, gamma, beta, NULL, NULL, (float *)running_mean, (float *)running_var, y,
		                d->epsilon, d->momentum, d->relu, NULL };

	ACTIVATION(s, forward, d, f, false);
}

// ---- backward ----
//
// With xhat = (x - mean) invstd: dx = gamma invstd (dz - dbeta / n - xhat dgamma / n), where dbeta = sum(dz) and
// dgamma = sum(dz xhat). dz is dy, masked by y > 0 if a ReLU is behind. Where dz is wanted and nothing is in its place, the first
// pass writes it, and the second reads it instead of dy and y: an access less.

struct bn_backward {
	const void *x, *mask, *dy;      // mask: y, or NULL
	void *kept;                     // pass 1 writes dz here; or NULL
	const float *gamma, *mean, *invstd;
	float *dgamma, *dbeta;
	void *dx, *dresidual;           // pass 2; either may be NULL; dz is added to dresidual
	bool add_dx;
	float *part;                    // a block's sum of dz and of dz (x - mean)
};

template <class T> __device__ static float masked(const T &dy, const T &y) { return to_float(y) > 0 ? to_float(dy) : 0; }

template <class T, int V> __global__ void __launch_bounds__(COLUMN_THREADS, 2) bn_sums(struct columns m, struct bn_backward b)
{
	__shared__ float shared[V * COLUMN_THREADS];
	const T *x = (const T *)b.x, *mask = (const T *)b.mask, *dy = (const T *)b.dy;
	T *kept = (T *)b.kept;
	place p = place_of<V>(m, blockIdx.x);
	float mean[V], sum[V] = { 0 }, dot[V] = { 0 };

	read_columns<V>(b.mean, p.column, mean);
	walk<2>(p, [&](auto many, int64_t row) {
		enum { N = decltype(many)::N };
		group<T, V> in[N], dz[N], y[N];

		for (int u = 0; u < N; u++) {
			in[u] = load<V>(x + p.at(row + u * p.step));
			dz[u] = load<V>(dy + p.at(row + u * p.step));
			if (mask)
				y[u] = load<V>(mask + p.at(row + u * p.step));
		}
		for (int u = 0; u < N; u++) {
			for (int i = 0; i < V; i++) {
				float v = mask ? masked(dz[u].v[i], y[u].v[i]) : to_float(dz[u].v[i]);

				sum[i] += v;
				dot[i] += v * (to_float(in[u].v[i]) - mean[i]);
				dz[u].v[i] = from_float<T>(v);
			}
			if (kept)
				store(kept + p.at(row + u * p.step), dz[u]);
		}
	});
	sum_rows<V>(sum, shared);
	sum_rows<V>(dot, shared);
	if (threadIdx.y == 0 && p.inside) {
		write_columns<V>(b.part + (int64_t)blockIdx.x * 2 * m.c, p.column, sum);
		write_columns<V>(b.part + (int64_t)blockIdx.x * 2 * m.c + m.c, p.column, dot);
	}
}

__global__ static void __launch_bounds__(TOTAL_COLUMNS * TOTAL_ROWS)
bn_add_sums(struct columns m, unsigned spans, struct bn_backward b)
{
	__shared__ float shared[TOTAL_COLUMNS * TOTAL_ROWS];
	int c = (int)(blockIdx.x * TOTAL_COLUMNS + threadIdx.x);
	unsigned blocks = c < m.c ? spans : 0;
	float sum = total(blocks, shared, [&](unsigned i) { return b.part[(int64_t)i * 2 * m.c + c]; });
	float dot = total(blocks, shared, [&](unsigned i) { return b.part[((int64_t)i * 2 + 1) * m.c + c]; });

	if (threadIdx.y == 0 && c < m.c) {
		b.dbeta[c] = sum;
		b.dgamma[c] = dot * b.invstd[c];
	}
}

// The second pass, dx = scale dz + slope x + shift: what multiplies is the same for all rows. (Forward subtracts the mean from x
// first, which costs registers and saves digits where the mean is large. Here only the small term of dgamma would gain.)
template <class T, int V> __global__ void __launch_bounds__(COLUMN_THREADS, 2) bn_apply(struct columns m, struct bn_backward b)
{
	const T *x = (const T *)b.x, *mask = (const T *)b.mask, *dy = (const T *)b.dy;
	T *dx = (T *)b.dx, *dresidual = (T *)b.dresidual;
	place p = place_of<V>(m, gridDim.x - 1 - blockIdx.x);
	float n = (float)m.rows, mean[V], scale[V], slope[V], shift[V], invstd[V];

	read_columns<V>(b.mean, p.column, mean);
	read_columns<V>(b.invstd, p.column, invstd);
	read_columns<V>(b.gamma, p.column, scale);
	read_columns<V>(b.dgamma, p.column, slope);
	read_columns<V>(b.dbeta, p.column, shift);
	for (int i = 0; i < V; i++) {
		scale[i] *= invstd[i];
		slope[i] *= -scale[i] * invstd[i] / n;
		shift[i] = -scale[i] * shift[i] / n - slope[i] * mean[i];
	}
	walk<2>(p, [&](auto many, int64_t row) {
		enum { N = decltype(many)::N };
		group<T, V> in[N], dz[N], y[N], sum;

		for (int u = 0; u < N; u++) {
			dz[u] = load<V>(dy + p.at(row + u * p.step));
			in[u] = load<V>(x + p.at(row + u * p.step));
			if (mask)
				y[u] = load<V>(mask + p.at(row + u * p.step));
		}
		for (int u = 0; u < N; u++) {
			if (mask) {
				for (int i = 0; i < V; i++)
					dz[u].v[i] = from_float<T>(masked(dz[u].v[i], y[u].v[i]));
			}
			if (dresidual) {
				sum = load<V>(dresidual + p.at(row + u * p.step));
				for (int i = 0; i < V; i++)
					sum.v[i] = from_float<T>(to_float(sum.v[i]) + to_float(dz[u].v[i]));
				store(dresidual + p.at(row + u * p.step), sum);
			}
			if (!dx)
				continue;
			if (b.add_dx)
				sum = load<V>(dx + p.at(row + u * p.step));
			for (int i = 0; i < V; i++) {
				float g = to_float(dz[u].v[i]) * scale[i] + (to_float(in[u].v[i]) * slope[i] + shift[i]);

				in[u].v[i] = from_float<T>(b.add_dx ? g + to_float(sum.v[i]) : g);
			}
			store(dx + p.at(row + u * p.step), in[u]);
		}
	});
}

template <class T, int V> static void backward_passes(struct stream *s, const struct bn_desc *d, struct bn_backward b)
{
	struct columns m = columns_of<V>(d->pixels, d->c);

	b.part = partial_sums(s, m, 2);
	launch(s, "bn_bwd: sums", m.grid, m.block, bn_sums<T, V>, m, b);
	launch(s, "bn_bwd: add sums", total_grid(m), total_block(m), bn_add_sums, m, m.grid.x, b);
	if (b.kept) {
		b.dy = b.kept;
		b.mask = NULL;
	}
	if (b.dx || b.dresidual)
		launch(s, "bn_bwd: apply", m.grid, m.block, bn_apply<T, V>, m, b);
}

template <class T> static void backward(struct stream *s, const struct bn_desc *d, const struct bn_backward &b)
{
	enum { N = 16 / sizeof(T) };

	if (d->c % N == 0 && aligned(16, b.x, b.mask, b.dy, b.kept, b.gamma, b.mean, b.invstd, b.dgamma, b.dbeta, b.dx, b.dresidual))
		backward_passes<T, N>(s, d, b);
	else
		backward_passes<T, 1>(s, d, b);
}

void cuda_bn_bwd(struct stream *s, const struct bn_desc *d, const void *x, const void *y, const float *gamma, const float *mean,
                 const float *invstd, void *dy, void *dx, bool add_dx, void *dresidual, bool add_dresidual, float *dgamma, float *dbeta)
{
	struct bn_backward b = { x, d->relu ? y : NULL, dy, NULL, gamma, mean, invstd, dgamma, dbeta, dx, NULL, dx && add_dx, NULL };

	if (dresidual == dy)
		b.kept = d->relu ? dy : NULL;           // without a ReLU it is there already
	else if (add_dresidual)
		b.dresidual = dresidual;
	else
		b.kept = dresidual;
	ACTIVATION(s, backward, d, b);
}
