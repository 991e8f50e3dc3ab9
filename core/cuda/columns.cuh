// A matrix of rows x c activations, cut up for kernels that know their columns: batch norm and biases (rows are pixels, columns
// channels).
//
// A thread stays in V neighbouring columns, which it reads with one access (16 bytes, or a single value where c or the alignment
// forbids that), and walks down the rows of its block. threadIdx.x counts such groups of columns, threadIdx.y rows; blockIdx.x
// counts spans of rows, blockIdx.y tiles of columns. Usually one tile is as wide as the matrix, and a block reads its span from
// the first byte to the last.
//
// Sums of columns take two kernels: each block writes its partial sums, then a small kernel adds those (total()). The cut depends
// on the shape alone and every sum has a fixed order, so the bits of a result depend neither on the GPU nor on chance.
#ifndef COCOD_COLUMNS_CUH
#define COCOD_COLUMNS_CUH

#include "../die.h"
#include "each.cuh"

enum {
	COLUMN_THREADS = 256,   // a block, at most
	COLUMN_GROUPS = 32,     // groups of columns in a tile, at most
	COLUMN_ROWS = 8,        // rows a thread should have before there are more blocks than COLUMN_BLOCKS …
	COLUMN_BLOCKS = 1024,   // … which is what all tiles together get: several for every processor of the largest GPUs
	TOTAL_COLUMNS = 8,      // the block that adds partial sums, at most
	TOTAL_ROWS = 64,
};

struct columns {
	int64_t rows, span;     // span: rows of a block; the last block may have fewer, none has 0
	int c;
	dim3 grid, block;
};

template <int V> static struct columns columns_of(int64_t rows, int c)
{
	int groups = c / V, tiles = (groups + COLUMN_GROUPS - 1) / COLUMN_GROUPS, width = (groups + tiles - 1) / tiles;
	int height = COLUMN_THREADS / width, step = height * 4;         // spans of whole batches of four rows a thread
	unsigned blocks = blocks_for(rows, height * COLUMN_ROWS, tiles < COLUMN_BLOCKS ? COLUMN_BLOCKS / tiles : 1);
	struct columns m = { rows, (rows + blocks - 1) / blocks, c, dim3(1), dim3((unsigned)width, (unsigned)height) };

	CHECK(rows > 0 && c > 0 && c % V == 0 && tiles <= 65535);
	m.span = (m.span + step - 1) / step * step;
	m.grid = dim3((unsigned)((rows + m.span - 1) / m.span), (unsigned)tiles);
	return m;
}

// The thread's place: its first column and its rows, row, row + step, … < end. `inside` is false behind the last column; such a
// thread has no rows, but takes part in the block's sums.
struct place {
	int column;
	bool inside;
	int64_t row, end, rows_of_block;
	int c, step, count;     // count: how many rows are the thread's own

	__device__ int64_t at(int64_t r) const { return r * c + column; }       // where the thread's columns of row r begin
};

template <int V> __device__ static place place_of(const struct columns &m, unsigned span)
{
	place p;
	int64_t first = span * m.span;

	p.c = m.c;
	p.column = (int)(blockIdx.y * blockDim.x + threadIdx.x) * V;
	p.inside = p.column < m.c;
	p.column = p.inside ? p.column : 0;
	p.rows_of_block = m.rows - first < m.span ? m.rows - first : m.span;
	p.row = first + threadIdx.y;
	p.end = p.inside ? first + p.rows_of_block : 0;
	p.step = (int)blockDim.y;
	p.count = p.row < p.end ? (int)((p.end - p.row + p.step - 1) / p.step) : 0;
	return p;
}

// Calls visit(batch<U>(), row) for the thread's rows, U at a time as long as there are so many, then one by one. A visit first
// loads all of its rows (row, row + step, …), then works: so U accesses are under way at once.
template <int LENGTH> struct batch {
	enum { N = LENGTH };
};

template <int U, class F> __device__ static void walk(const place &p, F visit)
{
	int64_t row = p.row;

	for (; row + (int64_t)(U - 1) * p.step < p.end; row += (int64_t)U * p.step)
		visit(batch<U>(), row);
	for (; row < p.end; row += p.step)
		visit(batch<1>(), row);
}

// V floats that belong to the thread's columns.
template <int V> __device__ static void read_columns(const float *x, int column, float (&out)[V])
{
	enum { N = V < 4 ? V : 4 };

	for (int i = 0; i < V; i += N) {
		group<float, N> g = load<N>(x + column + i);

		for (int j = 0; j < N; j++)
			out[i + j] = g.v[j];
	}
}

template <int V> __device__ static void write_columns(float *x, int column, const float (&in)[V])
{
	for (int i = 0; i < V; i++)
		x[column + i] = in[i];
}

// Adds v over the block's rows of threads, halving their number again and again; all threads get the sums. All of the block must
// call it. shared: V floats a thread.
template <int V> __device__ static void sum_rows(float (&v)[V], float *shared)
{
	unsigned threads = blockDim.x * blockDim.y, me = threadIdx.y * blockDim.x + threadIdx.x;

	__syncthreads();                // what is in `shared` from the last time was read
	for (int i = 0; i < V; i++)
		shared[i * threads + me] = v[i];
	for (unsigned rows = blockDim.y, half; rows > 1; rows = half) {
		half = (rows + 1) / 2;
		__syncthreads();
		if (threadIdx.y < rows - half) {
			for (int i = 0; i < V; i++)
				shared[i * threads + me] += shared[i * threads + me + half * blockDim.x];
		}
	}
	__syncthreads();
	for (int i = 0; i < V; i++)
		v[i] = shared[i * threads + threadIdx.x];
}

// ---- the small kernel behind: total_grid(), total_block(); a thread has one column and some of its partial sums ----

// Partial sums of block b lie at part + (b * sums + which) * c.
static inline float *partial_sums(struct stream *s, const struct columns &m, int sums)
{
	return (float *)cuda_scratch(s, sizeof(float) * (size_t)m.grid.x * (size_t)sums * (size_t)m.c);
}

static inline dim3 total_grid(const struct columns &m) { return dim3((unsigned)((m.c + TOTAL_COLUMNS - 1) / TOTAL_COLUMNS)); }
static inline dim3 total_block(const struct columns &m)
{
	return dim3(TOTAL_COLUMNS, m.grid.x < TOTAL_ROWS ? m.grid.x : (unsigned)TOTAL_ROWS);
}

// The sum of value(b) over all blocks b; all threads of the block must call it, those behind the last column with blocks = 0.
template <class F> __device__ static float total(unsigned blocks, float *shared, F value)
{
	float sum[1] = { 0 };

	for (unsigned b = threadIdx.y; b < blocks; b += blockDim.y)
		sum[0] += value(b);
	sum_rows<1>(sum, shared);
	return sum[0];
}

#endif
