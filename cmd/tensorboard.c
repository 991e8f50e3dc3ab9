/* TensorBoard event files: see tensorboard.h. Numbers are written byte by byte, so that any host writes little-endian. */
#include <string.h>
#include <time.h>

#include "tensorboard.h"

struct bytes {
	unsigned char data[512];
	size_t n;
};

static void put(struct bytes *b, const void *data, size_t n)
{
	if (n > sizeof(b->data) - b->n)         /* tags are short; a longer one is cut, never overrun */
		n = sizeof(b->data) - b->n;
	memcpy(b->data + b->n, data, n);
	b->n += n;
}

static void put_little(struct bytes *b, uint64_t v, int size)
{
	unsigned char c[8];

	for (int i = 0; i < size; i++)
		c[i] = (unsigned char)(v >> 8 * i);
	put(b, c, (size_t)size);
}

static void put_varint(struct bytes *b, uint64_t v)
{
	for (; v >= 128; v >>= 7)
		put_little(b, (v & 127) | 128, 1);
	put_little(b, v, 1);
}

/* Protobuf: field number and wire type (0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes). */
static void put_key(struct bytes *b, int field, int type) { put_varint(b, (uint64_t)(field << 3 | type)); }

static void put_block(struct bytes *b, int field, const void *data, size_t n)
{
	put_key(b, field, 2);
	put_varint(b, n);
	put(b, data, n);
}

static void put_double(struct bytes *b, int field, double v)
{
	uint64_t bits;

	memcpy(&bits, &v, 8);
	put_key(b, field, 1);
	put_little(b, bits, 8);
}

static void put_float(struct bytes *b, int field, float v)
{
	uint32_t bits;

	memcpy(&bits, &v, 4);
	put_key(b, field, 5);
	put_little(b, bits, 4);
}

static uint32_t masked_crc32c(const unsigned char *p, size_t n)
{
	uint32_t crc = 0xffffffff;

	while (n--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	crc = ~crc;
	return (crc >> 15 | crc << 17) + 0xa282ead8;
}

static void write_record(FILE *f, const struct bytes *event)
{
	struct bytes head = { .n = 0 }, tail = { .n = 0 };

	put_little(&head, event->n, 8);
	put_little(&head, masked_crc32c(head.data, 8), 4);
	put_little(&tail, masked_crc32c(event->data, event->n), 4);
	fwrite(head.data, 1, head.n, f);
	fwrite(event->data, 1, event->n, f);
	fwrite(tail.data, 1, tail.n, f);
	rundir_flush(f, "TensorBoard events");
}

static double wall_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

FILE *tensorboard_open(const struct rundir *dir, const char *host)
{
	char name[128];
	struct bytes event = { .n = 0 };
	FILE *f;

	snprintf(name, sizeof(name), "events.out.tfevents.%lld.%s", (long long)time(NULL), host);
	f = rundir_file(dir, name);
	put_double(&event, 1, wall_time());
	put_block(&event, 3, "brain.Event:2", 13);
	write_record(f, &event);
	return f;
}

void tensorboard_scalar(FILE *f, int64_t step, const char *tag, double value)
{
	struct bytes event = { .n = 0 }, summary = { .n = 0 }, scalar = { .n = 0 };

	put_block(&scalar, 1, tag, strlen(tag));
	put_float(&scalar, 2, (float)value);
	put_block(&summary, 1, scalar.data, scalar.n);
	put_double(&event, 1, wall_time());
	put_key(&event, 2, 0);
	put_varint(&event, (uint64_t)step);
	put_block(&event, 5, summary.data, summary.n);
	write_record(f, &event);
}
