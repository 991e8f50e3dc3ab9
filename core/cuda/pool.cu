// Pooling and ResNet's option A shortcut. A thread makes V neighbouring channels of one pixel: forward of the output, backward of
// the input, where it gathers from the windows that cover the pixel. So nothing is added by two threads, and gradients are summed
// in the order of the windows, as on the CPU.
//
// The grid is (pixels of an image x groups of channels, images): positions within an image fit 32 bits, whose divisions are cheap.
#include "../die.h"
#include "each.cuh"

enum { POOL_THREADS = 256, POOL_IMAGES = 65535 };

// h x w pixels of `groups` groups of V channels, for each of n images.
struct image_grid {
	int n, h, w, groups;
};

static void launch_shape(const struct image_grid &g, dim3 *grid, dim3 *block)
{
	int64_t items = (int64_t)g.h * g.w * g.groups;
	unsigned threads = items < POOL_THREADS ? (unsigned)(items + 31) / 32 * 32 : (unsigned)POOL_THREADS;

	CHECK(items > 0 && items <= INT32_MAX - POOL_THREADS && g.n > 0);
	*grid = dim3((unsigned)((items + threads - 1) / threads), (unsigned)(g.n < POOL_IMAGES ? g.n : (int)POOL_IMAGES));
	*block = dim3(threads);
}

// The thread's place in an image; false: it has none.
struct pixel {
	int y, x, group;
};

__device__ static inline bool pixel_of(const struct image_grid &g, struct pixel *p)
{
	unsigned item = blockIdx.x * blockDim.x + threadIdx.x, groups = (unsigned)g.groups, w = (unsigned)g.w;

	p->group = (int)(item % groups);
	p->x = (int)(item / groups % w);
	p->y = (int)(item / groups / w);
	return p->y < g.h;
}

// ---- pooling ----

struct pool {
	struct pool_desc d;
	int oh, ow;
};

// The part of an output's window that lies inside the image: rows [top, bottom), columns [left, right).
struct window {
	int top, bottom, left, right;
};

__device__ static inline struct window window_of(const struct pool &p, int oy, int ox)
{
	const struct pool_desc &d = p.d;
	int y = oy * d.stride - d.pad, x = ox * d.stride - d.pad;

	return { y < 0 ? 0 : y, y + d.kernel < d.h ? y + d.kernel : d.h, x < 0 ? 0 : x, x + d.kernel < d.w ? x + d.kernel : d.w };
}

// Where channels 0 … of a pixel begin.
__device__ static inline int64_t offset(int64_t image, int h, int w, int c, int y, int x) { return ((image * h + y) * w + x) * c; }

// The first of equals wins, a NaN always does. A position counts row-major in the whole window, padding included.
template <class T, int V>
__global__ void __launch_bounds__(POOL_THREADS, 4) pool_max(struct image_grid g, struct pool p, const T *x, T *y, uint8_t *index)
{
	const struct pool_desc &d = p.d;
	struct pixel out;
	struct window w;

	if (!pixel_of(g, &out))
		return;
	w = window_of(p, out.y, out.x);
	for (int64_t image = blockIdx.y; image < g.n; image += gridDim.y) {
		int64_t to = offset(image, p.oh, p.ow, d.c, out.y, out.x) + out.group * V;
		int at = (w.top + d.pad - out.y * d.stride) * d.kernel + w.left + d.pad - out.x * d.stride, place[V];
		group<T, V> best = load<V>(x + offset(image, d.h, d.w, d.c, w.top, w.left) + out.group * V);
		group<uint8_t, V> where;

		for (int i = 0; i < V; i++)
			place[i] = at;
		for (int r = w.top; r < w.bottom; r++, at += d.kernel) {
			for (int q = w.left; q < w.right; q++) {
				group<T, V> v = load<V>(x + offset(image, d.h, d.w, d.c, r, q) + out.group * V);

				for (int i = 0; i < V; i++) {
					float a = to_float(v.v[i]);

					if (a > to_float(best.v[i]) || a != a) {
						best.v[i] = v.v[i];
						place[i] = at + q - w.left;
					}
				}
			}
		}
		for (int i = 0; i < V; i++)
			where.v[i] = (uint8_t)place[i];
		store(y + to, best);
		store(index + to, where);
	}
}

template <class T, int V>
__global__ void __launch_bounds__(POOL_THREADS) pool_average(struct image_grid g, struct pool p, const T *x, T *y)
{
	const struct pool_desc &d = p.d;
	struct pixel out;
	struct window w;
	float count;

	if (!pixel_of(g, &out))
		return;
	w = window_of(p, out.y, out.x);
	count = (float)((w.bottom - w.top) * (w.right - w.left));
	for (int64_t image = blockIdx.y; image < g.n; image += gridDim.y) {
		float sum[V] = { 0 };
		group<T, V> mean;

		for (int r = w.top; r < w.bottom; r++) {
			for (int q = w.left; q < w.right; q++) {
				group<T, V> v = load<V>(x + offset(image, d.h, d.w, d.c, r, q) + out.group * V);

				for (int i = 0; i < V; i++)
					sum[i] += to_float(v.v[i]);
			}
		}
		for (int i = 0; i < V; i++)
			mean.v[i] = from_float<T>(sum[i] / count);
		store(y + offset(image, p.oh, p.ow, d.c, out.y, out.x) + out.group * V, mean);
	}
}

// What output (oy, ox) gives to the pixel at this position of its window.
template <class T, int V> __device__ static inline void
pool_gather(const struct pool &p, const T *dy, const uint8_t *index, int64_t from, int position, float count, float (&sum)[V])
{
	group<T, V> g = load<V>(dy + from);

	if (p.d.max) {
		group<uint8_t, V> where = load<V>(index + from);

		for (int i = 0; i < V; i++)
			sum[i] += where.v[i] == position ? to_float(g.v[i]) : 0;
	} else {
		for (int i = 0; i < V; i++)
			sum[i] += to_float(g.v[i]) / count;
	}
}

template <class T, int V> __global__ void __launch_bounds__(POOL_THREADS, 4)
pool_gradient(struct image_grid g, struct pool p, const T *dy, const uint8_t *index, T *dx, bool accumulate)
{
	const struct pool_desc &d = p.d;
	struct pixel in;

	if (!pixel_of(g, &in))
		return;
	// The first window whose last row (column) is not before the pixel, and the last that begins at it or before.
	int y0 = in.y + d.pad - d.kernel, y1 = (in.y + d.pad) / d.stride;
	int x0 = in.x + d.pad - d.kernel, x1 = (in.x + d.pad) / d.stride;

	y0 = y0 < 0 ? 0 : y0 / d.stride + 1;
	x0 = x0 < 0 ? 0 : x0 / d.stride + 1;
	y1 = y1 < p.oh ? y1 : p.oh - 1;
	x1 = x1 < p.ow ? x1 : p.ow - 1;
	for (int64_t image = blockIdx.y; image < g.n; image += gridDim.y) {
		T *to = dx + offset(image, d.h, d.w, d.c, in.y, in.x) + in.group * V;
		float sum[V] = { 0 };
		group<T, V> result;

		if (accumulate) {
			result = load<V>(to);
			for (int i = 0; i < V; i++)
				sum[i] = to_float(result.v[i]);
		}
		for (int oy = y0; oy <= y1; oy++) {
			for (int ox = x0; ox <= x1; ox++) {
				struct window w = window_of(p, oy, ox);
				int position = (in.y + d.pad - oy * d.stride) * d.kernel + in.x + d.pad - ox * d.stride;

				pool_gather<T, V>(p, dy, index, offset(image, p.oh, p.ow, d.c, oy, ox) + in.group * V, position,
				                  (float)((w.bottom - w.top) * (w.right - w.left)), sum);
			}
		}
		for (int i = 0; i < V; i++)
			result.v[i] = from_float<T>(sum[i]);
		store(to, result);
	}
}

static struct pool pool_of(const struct pool_desc *d)
{
	CHECK(d->kernel >= 1 && d->stride >= 1 && d->pad <= d->kernel / 2);     // every window sees a pixel of the image
	CHECK(!d->max || d->kernel <= 16);                                       // its positions fit a byte
	return { *d, conv_out(d->h, d->kernel, d->stride, d->pad), conv_out(d->w, d->kernel, d->stride, d->pad) };
}

template <class T, int V> static void pool_forward(struct stream *s, const struct pool &p, const T *x, T *y, uint8_t *index)
{
	struct image_grid g = { p.d.n, p.oh, p.ow, p.d.c / V };
	dim3 grid, block;

	launch_shape(g, &grid, &block);
	if (p.d.max)
		launch(s, "pool_fwd (max)", grid, block, pool_max<T, V>, g, p, x, y, index);
	else
		launch(s, "pool_fwd (average)", grid, block, pool_average<T, V>, g, p, x, y);
}

template <class T> static void pool_fwd(struct stream *s, const struct pool &p, const void *x, void *y, uint8_t *index)
{
	enum { N = 16 / sizeof(T) };

	if (p.d.c % N == 0 && aligned(16, x, y, index))
		pool_forward<T, N>(s, p, (const T *)x, (T *)y, index);
	else
		pool_forward<T, 1>(s, p, (const T *)x, (T *)y, index);
}

void cuda_pool_fwd(struct stream *s, const struct pool_desc *d, const void *x, void *y, uint8_t *index)
{
	ACTIVATION(s, pool_fwd, pool_of(d), x, y, index);
}

template <class T, int V>
static void pool_backward(struct stream *s, const struct pool &p, const T *dy, const uint8_t *index, T *dx, bool accumulate)
{
	struct image_grid g = { p.d.n, p.d.h, p.d.w, p.d.c / V };
	dim3 grid, block;

	launch_shape(g, &grid, &block);
	launch(s, "pool_bwd", grid, block, pool_gradient<T, V>, g, p, dy, index, dx, accumulate);
}

template <class T>
static void pool_bwd(struct stream *s, const struct pool &p, const void *dy, const uint8_t *index, void *dx, bool accumulate)
{
	enum { N = 16 / sizeof(T) };

	if (p.d.c % N == 0 && aligned(16, dy, index, dx))
		pool_backward<T, N>(s, p, (const T *)dy, index, (T *)dx, accumulate);
	else
		pool_backward<T, 1>(s, p, (const T *)dy, index, (T *)dx, accumulate);
}

void cuda_pool_bwd(struct stream *s, const struct pool_desc *d, const void *dy, const uint8_t *index, void *dx, bool accumulate)
{
	ACTIVATION(s, pool_bwd, pool_of(d), dy, index, dx, accumulate);
}

// ---- the shortcut: every second pixel, channels with zeros on both sides ----

struct shortcut {
	int n, h, w, c, oh, ow, out, front;
};

template <class T, int V>
__global__ void __launch_bounds__(POOL_THREADS) shortcut_widen(struct image_grid g, struct shortcut a, const T *x, T *y)
{
	struct pixel p;

	if (!pixel_of(g, &p))
		return;
	for (int64_t image = blockIdx.y; image < g.n; image += gridDim.y) {
		int channel = p.group * V - a.front;
		group<T, V> v;

		if (channel >= 0 && channel < a.c) {
			v = load<V>(x + offset(image, a.h, a.w, a.c, 2 * p.y, 2 * p.x) + channel);
		} else {
			for (int i = 0; i < V; i++)
				v.v[i] = from_float<T>(0);
		}
		store(y + offset(image, a.oh, a.ow, a.out, p.y, p.x) + p.group * V, v);
	}
}

// By pixels of the input: odd ones get nothing.
template <class T, int V> __global__ void __launch_bounds__(POOL_THREADS)
shortcut_narrow(struct image_grid g, struct shortcut a, const T *dy, T *dx, bool accumulate)
{
	struct pixel p;
	bool even;

	if (!pixel_of(g, &p))
		return;
	even = p.y % 2 == 0 && p.x % 2 == 0;
	if (accumulate && !even)
		return;
	for (int64_t image = blockIdx.y; image < g.n; image += gridDim.y) {
		T *to = dx + offset(image, a.h, a.w, a.c, p.y, p.x) + p.group * V;
		group<T, V> v, sum;

		if (even)
			v = load<V>(dy + offset(image, a.oh, a.ow, a.out, p.y / 2, p.x / 2) + a.front + p.group * V);
		if (accumulate)
			sum = load<V>(to);
		for (int i = 0; i < V; i++) {
			float add = even ? to_float(v.v[i]) : 0;

			v.v[i] = from_float<T>(accumulate ? to_float(sum.v[i]) + add : add);
		}
		store(to, v);
	}
}

static struct shortcut shortcut_of(int n, int h, int w, int c, int out)
{
	CHECK(out >= c);
	return { n, h, w, c, (h + 1) / 2, (w + 1) / 2, out, (out - c) / 2 };
}

template <class T> static bool shortcut_wide(const struct shortcut &a)
{
	enum { N = 16 / sizeof(T) };

	return a.c % N == 0 && a.out % N == 0 && a.front % N == 0;
}

template <class T, int V> static void shortcut_forward(struct stream *s, const struct shortcut &a, const T *x, T *y)
{
	struct image_grid g = { a.n, a.oh, a.ow, a.out / V };
	dim3 grid, block;

	launch_shape(g, &grid, &block);
	launch(s, "shortcut_fwd", grid, block, shortcut_widen<T, V>, g, a, x, y);
}

template <class T> static void shortcut_fwd(struct stream *s, const struct shortcut &a, const void *x, void *y)
{
	if (shortcut_wide<T>(a) && aligned(16, x, y))
		shortcut_forward<T, 16 / sizeof(T)>(s, a, (const T *)x, (T *)y);
	else
		shortcut_forward<T, 1>(s, a, (const T *)x, (T *)y);
}

void cuda_shortcut_fwd(struct stream *s, int n, int h, int w, int c, int out, const void *x, void *y)
{
	ACTIVATION(s, shortcut_fwd, shortcut_of(n, h, w, c, out), x, y);
}

template <class T, int V>
static void shortcut_backward(struct stream *s, const struct shortcut &a, const T *dy, T *dx, bool accumulate)
{
	struct image_grid g = { a.n, a.h, a.w, a.c / V };
	dim3 grid, block;

	launch_shape(g, &grid, &block);
	launch(s, "shortcut_bwd", grid, block, shortcut_narrow<T, V>, g, a, dy, dx, accumulate);
}

template <class T> static void shortcut_bwd(struct stream *s, const struct shortcut &a, const void *dy, void *dx, bool accumulate)
{
	if (shortcut_wide<T>(a) && aligned(16, dy, dx))
		shortcut_backward<T, 16 / sizeof(T)>(s, a, (const T *)dy, (T *)dx, accumulate);
	else
		shortcut_backward<T, 1>(s, a, (const T *)dy, (T *)dx, accumulate);
}

void cuda_shortcut_bwd(struct stream *s, int n, int h, int w, int c, int out, const void *dy, void *dx, bool accumulate)
{
	ACTIVATION(s, shortcut_bwd, shortcut_of(n, h, w, c, out), dy, dx, accumulate);
}
