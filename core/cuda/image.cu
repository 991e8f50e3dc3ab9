// Images on their way into a network: a batch is cut out of the stored bytes, flipped and normalised in one pass, and the few
// channels of a pixel are padded to what convolutions read well. Also the way between fp32 and activations.
#include "each.cuh"

enum { THREADS = 256, PIXEL_BLOCKS = 32 };      // blocks: at most so many for each SM

// A pixel of less than 16 bytes is padded to 16 (8 bf16, 4 floats): cuDNN's tensor core kernels move so much at a time and would
// first pad a copy of the whole batch. For plain fp32 it is still one load a pixel. More would be zeros multiplied by zeros.
int cuda_input_pitch(struct device *dev, int c)
{
	int unit = 16 / (int)dtype_size(dev->activation);

	return c < 8 ? (c + unit - 1) / unit * unit : c;
}

// Writes a pixel: value(channel) for the first c, zeros behind; 16 bytes at a time if the caller knows that it may.
template <class T, class V> __device__ static inline void store_pixel(T *y, int c, int pitch, bool wide, const V &value)
{
	enum { N = 16 / sizeof(T) };

	if (!wide) {
		for (int k = 0; k < pitch; k++)
			y[k] = from_float<T>(k < c ? value(k) : 0);
		return;
	}
	for (int k = 0; k < pitch; k += N) {
		group<T, N> g;

		for (int j = 0; j < N; j++)
			g.v[j] = from_float<T>(k + j < c ? value(k + j) : 0);
		store(y + k, g);
	}
}

template <class T> static bool wide_pixels(const void *y, int pitch) { return pitch * sizeof(T) % 16 == 0 && aligned(16, y); }

// ---- fp32 and back ----

template <class T> struct from_op : each_op {
	const float *x;
	T *y;

	template <int N> __device__ void at(int64_t i) const
	{
		group<float, N> v = load<N>(x + i);
		group<T, N> w;

		for (int j = 0; j < N; j++)
			w.v[j] = from_float<T>(v.v[j]);
		store(y + i, w);
	}
};

struct float_channels {
	const float *x;

	__device__ float operator()(int k) const { return x[k]; }
};

template <class T> __global__ void __launch_bounds__(THREADS)
pad_pixels(int64_t pixels, int c, int pitch, bool wide, const float *x, T *y)
{
	int64_t stride = (int64_t)gridDim.x * THREADS;

	for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < pixels; i += stride) {
		struct float_channels value = { x + i * c };

		store_pixel(y + i * pitch, c, pitch, wide, value);
	}
}

template <class T> static void from_f32(struct stream *s, int64_t pixels, int c, int pitch, const float *x, void *y)
{
	const struct from_op<T> f = { {}, x, (T *)y };

	if (pixels == 0)
		return;
	if (c == pitch) {
		run_each(s, "from_f32", pixels * c, aligned(16, x) && aligned(4 * sizeof(T), y), f);
		return;
	}
	launch(s, "from_f32", blocks_for(pixels, THREADS, PIXEL_BLOCKS * s->dev->processors), THREADS, pad_pixels<T>, pixels, c, pitch,
	       wide_pixels<T>(y, pitch), x, (T *)y);
}

void cuda_from_f32(struct stream *s, int64_t pixels, int c, int pitch, const float *x, void *y)
{
	ACTIVATION(s, from_f32, pixels, c, pitch, x, y);
}

template <class T> struct to_op : each_op {
	const T *x;
	float *y;

	template <int N> __device__ void at(int64_t i) const
	{
		group<T, N> v = load<N>(x + i);
		group<float, N> w;

		for (int j = 0; j < N; j++)
			w.v[j] = to_float(v.v[j]);
		store(y + i, w);
	}
};

template <class T> static void to_f32(struct stream *s, int64_t n, const void *x, float *y)
{
	const struct to_op<T> f = { {}, (const T *)x, y };

	run_each(s, "to_f32", n, aligned(4 * sizeof(T), x) && aligned(16, y), f);
}

void cuda_to_f32(struct stream *s, int64_t n, const void *x, float *y)
{
	ACTIVATION(s, to_f32, n, x, y);
}

// ---- crop, flip, normalise ----

// The channels of a stored pixel through their tables; NULL: a pixel outside the image, of stored value 0.
struct stored_channels {
	const uint8_t *pixel;
	const float *table;

	__device__ float operator()(int k) const { return table[256 * k + (pixel ? pixel[k] : 0)]; }
};

struct no_channels {
	__device__ float operator()(int) const { return 0; }
};

// A thread a pixel, `parts` blocks an image: the draw is the same for a whole block.
template <class T> __global__ void __launch_bounds__(THREADS)
augment(struct augment_desc d, unsigned parts, bool wide, const uint8_t *image, const float *table, const struct image_draw *draw,
        T *y)
{
	unsigned n = blockIdx.x / parts;
	int64_t pixels = (int64_t)d.h * d.w, at = (int64_t)(blockIdx.x % parts) * THREADS + threadIdx.x;
	struct image_draw how = draw[n];
	T *out = y + (n * pixels + at) * d.pitch;
	int row, column;

	if (at >= pixels)
		return;
	if (how.empty) {
		store_pixel(out, d.c, d.pitch, wide, no_channels());
		return;
	}
	row = (int)((unsigned)at / (unsigned)d.w);
	column = (int)at - row * d.w;
	if (how.flip)
		column = d.w - 1 - column;
	row += how.dy - d.pad;
	column += how.dx - d.pad;

	struct stored_channels value = { NULL, table };

	if (row >= 0 && row < d.h && column >= 0 && column < d.w)
		value.pixel = image + (how.sample * pixels + (int64_t)row * d.w + column) * d.c;
	store_pixel(out, d.c, d.pitch, wide, value);
}

template <class T> static void run_augment(struct stream *s, const struct augment_desc *d, const uint8_t *image, const float *table,
                                           const struct image_draw *draw, void *y)
{
	unsigned parts = (unsigned)(((int64_t)d->h * d->w + THREADS - 1) / THREADS);

	if (d->n > 0)
		launch(s, "augment", parts * (unsigned)d->n, THREADS, augment<T>, *d, parts, wide_pixels<T>(y, d->pitch), image, table, draw,
		       (T *)y);
}

void cuda_augment(struct stream *s, const struct augment_desc *d, const uint8_t *image, const float *table,
                  const struct image_draw *draw, void *y)
{
	ACTIVATION(s, run_augment, d, image, table, draw, y);
}
