/* The pool of blocks and batches; see lines.h. A mutex guards the free lists and all reference
 * counts: it is taken a few times a batch, not a line. */
#include "lines.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

/* How many unused blocks and batches are kept; more are freed. */
enum { KEEP_FREE = 3 };

struct lines_pool {
    pthread_mutex_t lock;
    uint32_t refs; /* the owner, and each block and batch that is out */
    size_t block_bytes;
    uint32_t batch_records;
    struct lines_block *free_blocks;
    struct lines_batch *free_batches;
    uint32_t n_free_blocks, n_free_batches;
    char *topic, *path;
    ctd_value partition[2]; /* "filename", path */
};

struct lines_pool *lines_pool_new(const char *topic, const char *path, size_t block_bytes,
                                  uint32_t batch_records)
{
    struct lines_pool *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->topic = strdup(topic);
    p->path = strdup(path);
    if (p->topic == NULL || p->path == NULL || pthread_mutex_init(&p->lock, NULL) != 0) {
        free(p->topic);
        free(p->path);
        free(p);
        return NULL;
    }
    p->refs = 1;
    p->block_bytes = block_bytes;
    p->batch_records = batch_records;
    p->partition[0] = (ctd_value){.type = CTD_STRING, .len = 8, .u.str = "filename"};
    p->partition[1] =
        (ctd_value){.type = CTD_STRING, .len = (uint32_t)strlen(p->path), .u.str = p->path};
    return p;
}

static void pool_free(struct lines_pool *p)
{
    while (p->free_blocks != NULL) {
        struct lines_block *b = p->free_blocks;
        p->free_blocks = b->next_free;
        free(b);
    }
    while (p->free_batches != NULL) {
        struct lines_batch *b = p->free_batches;
        p->free_batches = b->next_free;
        free(b);
    }
    (void)pthread_mutex_destroy(&p->lock);
    free(p->topic);
    free(p->path);
    free(p);
}

/* Gives one reference back and unlocks. */
static void unref_unlock(struct lines_pool *p)
{
    int last = --p->refs == 0;
    (void)pthread_mutex_unlock(&p->lock);
    if (last) {
        pool_free(p);
    }
}

void lines_pool_drop(struct lines_pool *p)
{
    if (p != NULL) {
        (void)pthread_mutex_lock(&p->lock);
        unref_unlock(p);
    }
}

uint32_t lines_pool_batch_records(const struct lines_pool *p)
{
    return p->batch_records;
}

struct lines_block *lines_block_get(struct lines_pool *p)
{
    (void)pthread_mutex_lock(&p->lock);
    struct lines_block *b = p->free_blocks;
    if (b != NULL) {
        p->free_blocks = b->next_free;
        p->n_free_blocks--;
    }
    p->refs++;
    (void)pthread_mutex_unlock(&p->lock);
    if (b == NULL) {
        b = malloc(sizeof(*b) + p->block_bytes);
    }
    if (b == NULL) {
        lines_pool_drop(p);
        return NULL;
    }
    b->pool = p;
    b->next_free = NULL;
    b->refs = 1;
    b->cap = p->block_bytes;
    b->len = 0;
    return b;
}

/* The lock is held; returns what the caller frees once it is not. */
static struct lines_block *block_unref_locked(struct lines_pool *p, struct lines_block *b)
{
    if (--b->refs > 0) {
        return NULL;
    }
    p->refs--; /* never the last one: the caller holds another */
    if (p->n_free_blocks >= KEEP_FREE) {
        return b;
    }
    b->next_free = p->free_blocks;
    p->free_blocks = b;
    p->n_free_blocks++;
    return NULL;
}

void lines_block_unref(struct lines_block *b)
{
    if (b == NULL) {
        return;
    }
    struct lines_pool *p = b->pool;
    (void)pthread_mutex_lock(&p->lock);
    p->refs++;
    struct lines_block *dead = block_unref_locked(p, b);
    unref_unlock(p);
    free(dead);
}

int lines_block_is_sole(struct lines_block *b)
{
    (void)pthread_mutex_lock(&b->pool->lock);
    int sole = b->refs == 1;
    (void)pthread_mutex_unlock(&b->pool->lock);
    return sole;
}

/* Everything in a record that is the same for all lines. */
static void fill_records(const struct lines_pool *p, ctd_record *r, uint32_t n)
{
    const ctd_record common = {
        .topic = {p->topic, strlen(p->topic)},
        .partition = -1,
        .timestamp_ms = INT64_MIN,
        .offset = -1,
        .key = {.type = CTD_NULL},
        .value = {.type = CTD_STRING},
        .source_partition = {.type = CTD_NULL},
        .source_offset = {.type = CTD_NULL},
        .original_partition = -1,
    };
    for (uint32_t i = 0; i < n; i++) {
        r[i] = common;
    }
}

struct lines_batch *lines_batch_get(struct lines_pool *p, struct lines_block *block)
{
    (void)pthread_mutex_lock(&p->lock);
    struct lines_batch *b = p->free_batches;
    if (b != NULL) {
        p->free_batches = b->next_free;
        p->n_free_batches--;
    }
    p->refs++;
    block->refs++;
    (void)pthread_mutex_unlock(&p->lock);
    if (b == NULL) {
        b = malloc(sizeof(*b) + p->batch_records * sizeof(b->records[0]));
        if (b == NULL) {
            lines_block_unref(block);
            lines_pool_drop(p);
            return NULL;
        }
        b->pool = p;
        fill_records(p, b->records, p->batch_records);
    }
    b->next_free = NULL;
    b->block = block;
    b->n = 0;
    return b;
}

void lines_batch_put(struct lines_batch *b)
{
    if (b == NULL) {
        return;
    }
    struct lines_pool *p = b->pool;
    if (b->n > 0) {
        b->records[b->n - 1].source_partition = (ctd_value){.type = CTD_NULL};
        b->records[b->n - 1].source_offset = (ctd_value){.type = CTD_NULL};
    }
    (void)pthread_mutex_lock(&p->lock);
    struct lines_block *dead_block = block_unref_locked(p, b->block);
    struct lines_batch *dead = b;
    if (p->n_free_batches < KEEP_FREE) {
        b->next_free = p->free_batches;
        p->free_batches = b;
        p->n_free_batches++;
        dead = NULL;
    }
    unref_unlock(p);
    free(dead_block);
    free(dead);
}

/* Most lines are ASCII: eight bytes at a time, and the exact check only for the others. */
static int is_utf8(const char *s, size_t n)
{
    const uint64_t high = 0x8080808080808080u;
    uint64_t seen = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, s + i, 8);
        seen |= word;
    }
    for (; i < n; i++) {
        seen |= (uint64_t)(unsigned char)s[i];
    }
    return (seen & high) == 0 || str_is_utf8(s, n);
}

void lines_batch_add(struct lines_batch *b, const char *line, size_t len)
{
    ctd_value *v = &b->records[b->n++].value;
    v->type = is_utf8(line, len) ? CTD_STRING : CTD_BYTES;
    v->len = (uint32_t)len;
    v->u.str = line;
}

static void release(ctd_batch *out)
{
    lines_batch_put(out->priv);
    out->priv = NULL;
    out->release = NULL;
}

static void put_pair(ctd_value *at, const char *name, int64_t i)
{
    at[0] = (ctd_value){.type = CTD_STRING, .len = (uint32_t)strlen(name), .u.str = name};
    at[1] = (ctd_value){.type = CTD_I64, .u.i = i};
}

void lines_batch_hand_over(struct lines_batch *b, int64_t position, int64_t device, int64_t inode,
                           ctd_batch *out)
{
    put_pair(b->offset, "position", position);
    put_pair(b->offset + 2, "device", device);
    put_pair(b->offset + 4, "inode", inode);
    ctd_record *last = &b->records[b->n - 1];
    last->source_partition = (ctd_value){.type = CTD_MAP, .len = 1, .u.items = b->pool->partition};
    last->source_offset = (ctd_value){.type = CTD_MAP, .len = 3, .u.items = b->offset};
    *out = (ctd_batch){.n = b->n, .records = b->records, .priv = b, .release = release};
}
