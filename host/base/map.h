/*
 * Hash map from text to pointer. Keys are copied; values are borrowed unless a free function is
 * given. Iteration is in insertion order, so what is printed from a map is stable. Not thread-safe.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>

#include "base/err.h"

struct map;

/* `free_value` may be NULL; it is called for values that are replaced, deleted or left at
 * map_free(). */
struct map *map_new(void (*free_value)(void *)); /* NULL without memory */
void map_free(struct map *m);                    /* NULL-safe */

void *map_get(const struct map *m, const char *key);               /* NULL when absent; borrowed */
int map_put(struct map *m, const char *key, void *value) MUST_USE; /* 0 or ERR_NOMEM; replaces */
int map_del(struct map *m, const char *key);                       /* 1 if it was there, else 0 */
size_t map_count(const struct map *m);

/* for (size_t i = 0; map_next(m, &i, &key, &value);) ... ; deleting the current key is allowed. */
int map_next(const struct map *m, size_t *i, const char **ret_key, void **ret_value);

#endif
