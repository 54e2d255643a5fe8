/*
 * Arena: memory that is freed all at once. Not thread-safe; pass it as an argument, never keep one
 * in a global. All functions return NULL when the limit is reached or memory is out.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/err.h"

struct arena;

/* `limit_bytes` 0 means 64 MiB. Returns NULL without memory. Owned: arena_free(). */
struct arena *arena_new(size_t limit_bytes);
void arena_free(struct arena *a); /* NULL-safe */
/* Forgets everything but keeps one block, so that a batch loop allocates nothing in its steady
 * state. */
void arena_reset(struct arena *a);

/* `align` must be a power of two, at most 64. The memory is not zeroed. */
void *arena_alloc(struct arena *a, size_t size, size_t align);
void *arena_zalloc(struct arena *a, size_t size); /* zeroed, aligned for any type */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n); /* adds the NUL */
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
size_t arena_used(const struct arena *a); /* bytes handed out since the last reset */

#endif
