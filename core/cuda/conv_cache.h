/*
 * What was measured before: for each convolution, by a key in words, the engine that served it fastest. Kept in a text file, one line
 * each, so that the next run need not measure again.
 *
 *     fprop 512x32x32x64 64x3x3 s1 p1 bf16 = 62:2=4,13=0 14.2 us
 *
 * The file is $XDG_CACHE_HOME/cocod/plans-GPU-LIBRARY.txt, by default below ~/.cache. It may be deleted at any time.
 */
#ifndef COCOD_CONV_CACHE_H
#define COCOD_CONV_CACHE_H

#include <stdbool.h>

struct conv_cache;

#define CONV_NONE "-"   /* in place of an engine: none does it right */


/* Reads the file of this GPU ("NVIDIA H100 80GB HBM3") and this version of the library, if there is one. Never NULL: without a
 * place for a file the cache lasts as long as the program. */
struct conv_cache *conv_cache_open(const char *gpu, const char *library);
void conv_cache_close(struct conv_cache *);                             /* NULL-safe */
const char *conv_cache_path(const struct conv_cache *);                 /* NULL: no file */

/* The engine (valid until the next conv_cache_add) and its time in µs; NULL: not known. */
const char *conv_cache_find(const struct conv_cache *, const char *key, float *us);
/* Remembers it here and in the file. The key holds no " = ", the engine no blank; CONV_NONE takes 0 µs. */
void conv_cache_add(struct conv_cache *, const char *key, const char *engine, float us);

#endif
