/* Arena of doubling blocks. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_FIRST_BLOCK   ((size_t)4096)
#define ARENA_DEFAULT_LIMIT ((size_t)64 << 20)

struct block {
    struct block *next; /* older block */
    size_t cap;
    size_t used;
    _Alignas(64) unsigned char bytes[];
};

struct arena {
    struct block *newest;
    size_t limit;
    size_t held; /* sum of the blocks' capacities */
    size_t used;
};

struct arena *arena_new(size_t limit_bytes)
{
    struct arena *a = calloc(1, sizeof(*a));
    if (a != NULL) {
        a->limit = limit_bytes != 0 ? limit_bytes : ARENA_DEFAULT_LIMIT;
    }
    return a;
}

static void free_blocks(struct block *b)
{
    while (b != NULL) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
}

void arena_free(struct arena *a)
{
    if (a == NULL) {
        return;
    }
    free_blocks(a->newest);
    free(a);
}

void arena_reset(struct arena *a)
{
    a->used = 0;
    if (a->newest == NULL) {
        return;
    }
    /* The newest block is the largest: keep that one. */
    free_blocks(a->newest->next);
    a->newest->next = NULL;
    a->newest->used = 0;
    a->held = a->newest->cap;
}

static struct block *add_block(struct arena *a, size_t at_least)
{
    size_t cap = a->newest != NULL ? a->newest->cap * 2 : ARENA_FIRST_BLOCK;
    if (cap < at_least) {
        cap = at_least;
    }
    size_t room = a->limit > a->held ? a->limit - a->held : 0;
    if (cap > room) {
        cap = room;
    }
    if (cap < at_least) {
        return NULL;
    }
    struct block *b = NULL;
    if (posix_memalign((void **)&b, 64, sizeof(*b) + cap) != 0) {
        return NULL;
    }
    b->next = a->newest;
    b->cap = cap;
    b->used = 0;
    a->newest = b;
    a->held += cap;
    return b;
}

void *arena_alloc(struct arena *a, size_t size, size_t align)
{
    struct block *b = a->newest;
    size_t at = b != NULL ? (b->used + align - 1) & ~(align - 1) : 0;
    if (b == NULL || at > b->cap || size > b->cap - at) {
        if (size > SIZE_MAX - align) {
            return NULL;
        }
        b = add_block(a, size + align);
        if (b == NULL) {
            return NULL;
        }
        at = 0;
    }
    b->used = at + size;
    a->used += size;
    return b->bytes + at;
}

void *arena_zalloc(struct arena *a, size_t size)
{
    void *p = arena_alloc(a, size, _Alignof(max_align_t));
    if (p != NULL) {
        memset(p, 0, size);
    }
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *p = arena_alloc(a, n + 1, 1);
    if (p != NULL) {
        memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n >= 0 ? arena_alloc(a, (size_t)n + 1, 1) : NULL;
    if (p != NULL) {
        (void)vsnprintf(p, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    return p;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}
