// What convolutions need beside the convolution: the bias and its gradient, and weights whose channels are padded (the stem reads
// an image of `pitch` channels in memory, of which only c are the network's).
#include "columns.cuh"

template <class T, int V> __global__ void __launch_bounds__(COLUMN_THREADS, 2) bias_add(struct columns m, const float *b, T *y)
{
	place p = place_of<V>(m, blockIdx.x);
	float bias[V];

	read_columns<V>(b, p.column, bias);
	walk<4>(p, [&](auto many, int64_t row) {
		enum { N = decltype(many)::N };
		group<T, V> v[N];

		for (int u = 0; u < N; u++)
			v[u] = load<V>(y + p.at(row + u * p.step));
		for (int u = 0; u < N; u++) {
			for (int i = 0; i < V; i++)
				v[u].v[i] = from_float<T>(to_float(v[u].v[i]) + bias[i]);
			store(y + p.at(row + u * p.step), v[u]);
		}
	});
}

template <class T, int V> static void add_columns(struct stream *s, int64_t rows, int c, const float *b, T *y)
{
	struct columns m = columns_of<V>(rows, c);

	launch(s, "bias_add", m.grid, m.block, bias_add<T, V>, m, b, y);
}

template <class T> static void add(struct stream *s, int64_t rows, int c, const float *b, void *y)
{
	enum { N = 16 / sizeof(T) };

	if (c % N == 0 && aligned(16, b, y))
		add_columns<T, N>(s, rows, c, b, (T *)y);
	else
		add_columns<T, 1>(s, rows, c, b, (T *)y);
}

void cuda_bias_add(struct stream *s, int64_t rows, int c, const float *b, void *y) { ACTIVATION(s, add, rows, c, b, y); }

template <class T, int V> __global__ void __launch_bounds__(COLUMN_THREADS, 2) bias_sums(struct columns m, const T *dy, float *part)
{
	__shared__ float shared[V * COLUMN_THREADS];
	place p = place_of<V>(m, blockIdx.x);
	float sum[V] = { 0 };

	walk<4>(p, [&](auto many, int64_t row) {
		enum { N = decltype(many)::N };
		group<T, V> v[N];

		for (int u = 0; u < N; u++)
			v[u] = load<V>(dy + p.at(row + u * p.step));
		for (int u = 0; u < N; u++) {
			for (int i = 0; i < V; i++)
				sum[i] += to_float(v[u].v[i]);
		}
	});
	sum_rows<V>(sum, shared);
	if (threadIdx.y == 0 && p.inside)
		write_columns<V>(part + (int64_t)blockIdx.x * m.c, p.column, sum);
}

__global__ static void __launch_bounds__(TOTAL_COLUMNS * TOTAL_ROWS)
bias_add_sums(struct columns m, unsigned spans, const float *part, float *db)
{
	__shared__ float shared[TOTAL_COLUMNS * TOTAL_ROWS];
	int c = (int)(blockIdx.x * TOTAL_COLUMNS + threadIdx.x);
	float sum = total(c < m.c ? spans : 0, shared, [&](unsigned b) { return part[(int64_t)b * m.c + c]; });

	if (threadIdx.y == 0 && c < m.c)
		db[c] = sum;
}

template <class T, int V> static void sum_columns(struct stream *s, int64_t rows, int c, const T *dy, float *db)
{
	struct columns m = columns_of<V>(rows, c);
	float *part = partial_sums(s, m, 1);

	launch(s, "bias_sum", m.grid, m.block, bias_sums<T, V>, m, dy, part);
	launch(s, "bias_sum: add sums", total_grid(m), total_block(m), bias_add_sums, m, m.grid.x, part, db);
}

template <class T> static void sum(struct stream *s, int64_t rows, int c, const void *dy, float *db)
{
	enum { N = 16 / sizeof(T) };

	if (c % N == 0 && aligned(16, dy))
		sum_columns<T, N>(s, rows, c, (const T *)dy, db);
	else
		sum_columns<T, 1>(s, rows, c, (const T *)dy, db);
}

void cuda_bias_sum(struct stream *s, int64_t rows, int c, const void *dy, float *db) { ACTIVATION(s, sum, rows, c, dy, db); }

// Rows of `from` values become rows of `to`: cut, or filled up with zeros. Small (a stem's filter), so one value a thread.
template <class T> struct resize_op : each_op {
	const T *x;
	T *y;
	int from, to;

	template <int N> __device__ void at(int64_t i) const
	{
		for (int64_t j = i; j < i + N; j++)
			y[j] = j % to < from ? x[j / to * from + j % to] : from_float<T>(0);
	}
};

template <class T> static void resize(struct stream *s, const char *what, int64_t rows, int from, int to, const void *x, void *y)
{
	struct resize_op<T> f;

	f.x = (const T *)x;
	f.y = (T *)y;
	f.from = from;
	f.to = to;
	run_each(s, what, rows * to, false, f);
}

void cuda_weight_pad(struct stream *s, int64_t rows, int c, int pitch, const void *w, void *padded)
{
	ACTIVATION(s, resize, "weight_pad", rows, c, pitch, w, padded);
}

void cuda_weight_trim(struct stream *s, int64_t rows, int c, int pitch, const float *padded, float *dw)
{
	resize<float>(s, "weight_trim", rows, pitch, c, padded, dw);
}
