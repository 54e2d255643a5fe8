/*
 * The batch builder: one memory per batch, an array of records and a list of chunks, given back by
 * release().
 *
 * Threads: a builder has one user at a time, release() may run anywhere. What both touch is in
 * `struct pool`: a count (the builder and each batch that is out) and one spare memory, taken and
 * put by atomic exchange, so that a source in its steady state allocates nothing.
 */
#include <connectd/sdk.h>

#include <stdatomic.h>
#include <stdlib.h>

#define FIRST_RECORDS ((uint64_t)64)
#define FIRST_CHUNK   ((uint64_t)16 << 10)
#define MAX_CHUNK     ((uint64_t)4 << 20)
#define KEEP_BYTES    ((uint64_t)16 << 20) /* a larger memory is freed, not kept as spare */

struct chunk {
    struct chunk *older;
    uint64_t cap, used;
    _Alignas(16) unsigned char bytes[];
};

struct mem {
    struct pool *pool;
    ctd_record *records;
    uint64_t n, cap;
    struct chunk *newest;
};

struct pool {
    atomic_uint refs;
    _Atomic(struct mem *) spare;
};

struct ctd_builder {
    struct pool *pool;
    struct mem *mem; /* NULL until something is added */
    int failed;
};

static void free_chunks(struct chunk *c)
{
    while (c != NULL) {
        struct chunk *older = c->older;
        free(c);
        c = older;
    }
}

static void mem_free(struct mem *m)
{
    if (m != NULL) {
        free_chunks(m->newest);
        free(m->records);
        free(m);
    }
}

static void pool_unref(struct pool *p)
{
    if (atomic_fetch_sub(&p->refs, 1) == 1) {
        mem_free(atomic_load(&p->spare));
        free(p);
    }
}

/* Empties `m` and leaves it as the spare one; frees it when it is large, and whatever was spare
 * before. */
static void mem_recycle(struct pool *p, struct mem *m)
{
    m->n = 0;
    if (m->newest != NULL) {
        free_chunks(m->newest->older);
        m->newest->older = NULL;
        m->newest->used = 0;
    }
    uint64_t held = m->cap * sizeof(ctd_record) + (m->newest != NULL ? m->newest->cap : 0);
    mem_free(held > KEEP_BYTES ? m : atomic_exchange(&p->spare, m));
}

static void release_batch(ctd_batch *b)
{
    struct mem *m = b->priv;
    struct pool *p = m->pool;
    b->release = NULL;
    b->records = NULL;
    b->n = 0;
    b->priv = NULL;
    mem_recycle(p, m);
    pool_unref(p);
}

ctd_builder *ctd_builder_new(void)
{
    ctd_builder *b = calloc(1, sizeof(*b));
    struct pool *p = malloc(sizeof(*p));
    if (b == NULL || p == NULL) {
        free(b);
        free(p);
        return NULL;
    }
    atomic_init(&p->refs, 1);
    atomic_init(&p->spare, NULL);
    b->pool = p;
    return b;
}

void ctd_builder_free(ctd_builder *b)
{
    if (b == NULL) {
        return;
    }
    mem_free(b->mem);
    pool_unref(b->pool);
    free(b);
}

void ctd_builder_reset(ctd_builder *b)
{
    if (b->mem != NULL) {
        mem_recycle(b->pool, b->mem);
    }
    b->mem = NULL;
    b->failed = 0;
}

static struct mem *get_mem(ctd_builder *b)
{
    if (b->mem == NULL) {
        b->mem = atomic_exchange(&b->pool->spare, NULL);
    }
    if (b->mem == NULL) {
        b->mem = calloc(1, sizeof(*b->mem));
        b->failed |= b->mem == NULL;
    }
    if (b->mem != NULL) {
        b->mem->pool = b->pool;
    }
    return b->mem;
}

ctd_record *ctd_builder_add(ctd_builder *b)
{
    struct mem *m = get_mem(b);
    if (m == NULL || b->failed) {
        return NULL;
    }
    if (m->n == m->cap) {
        uint64_t cap = m->cap != 0 ? m->cap * 2 : FIRST_RECORDS;
        ctd_record *records = realloc(m->records, cap * sizeof(*records));
        if (records == NULL) {
            b->failed = 1;
            return NULL;
        }
        m->records = records;
        m->cap = cap;
    }
    ctd_record *r = &m->records[m->n++];
    *r = (ctd_record){
        .partition = -1, .timestamp_ms = INT64_MIN, .offset = -1, .original_partition = -1};
    return r;
}

uint64_t ctd_builder_count(const ctd_builder *b)
{
    return b->mem != NULL ? b->mem->n : 0;
}

void ctd_builder_drop_last(ctd_builder *b)
{
    if (b->mem != NULL && b->mem->n > 0) {
        b->mem->n--;
    }
}

static struct chunk *add_chunk(struct mem *m, uint64_t at_least)
{
    uint64_t cap = m->newest != NULL ? m->newest->cap * 2 : FIRST_CHUNK;
    cap = cap > MAX_CHUNK ? MAX_CHUNK : cap;
    cap = cap < at_least ? at_least : cap;
    struct chunk *c = malloc(sizeof(*c) + cap);
    if (c != NULL) {
        c->older = m->newest;
        c->cap = cap;
        c->used = 0;
        m->newest = c;
    }
    return c;
}

void *ctd_builder_alloc(ctd_builder *b, uint64_t size, uint64_t align)
{
    struct mem *m = get_mem(b);
    if (m == NULL || b->failed) {
        return NULL;
    }
    struct chunk *c = m->newest;
    uint64_t at = c != NULL ? (c->used + align - 1) & ~(align - 1) : 0;
    if (c == NULL || at > c->cap || size > c->cap - at) {
        c = size <= SIZE_MAX / 2 ? add_chunk(m, size) : NULL;
        at = 0;
    }
    if (c == NULL) {
        b->failed = 1;
        return NULL;
    }
    c->used = at + size;
    return c->bytes + at;
}

ctd_slice ctd_builder_slice(ctd_builder *b, const void *p, uint64_t len)
{
    char *copy = p != NULL ? ctd_builder_alloc(b, len, 1) : NULL;
    if (copy == NULL) {
        return ctd_slice_of(NULL, 0);
    }
    memcpy(copy, p, len);
    return ctd_slice_of(copy, len);
}

ctd_value ctd_builder_string(ctd_builder *b, const char *s, uint64_t len)
{
    if (len > UINT32_MAX) {
        b->failed = 1;
        return ctd_v_null();
    }
    ctd_slice copy = ctd_builder_slice(b, s, len);
    return copy.ptr != NULL ? ctd_v_string(copy.ptr, (uint32_t)len) : ctd_v_null();
}

ctd_value ctd_builder_raw_json(ctd_builder *b, const char *s, uint64_t len)
{
    ctd_value v = ctd_builder_string(b, s, len);
    v.flags = v.type == CTD_STRING ? CTD_VF_RAW_JSON : 0;
    return v;
}

ctd_value ctd_builder_bytes(ctd_builder *b, const void *p, uint64_t len)
{
    ctd_value v = ctd_builder_string(b, p, len);
    v.type = v.type == CTD_STRING ? CTD_BYTES : v.type;
    return v;
}

ctd_value ctd_builder_copy(ctd_builder *b, const ctd_value *v)
{
    if (v->type == CTD_STRING || v->type == CTD_BYTES) {
        ctd_value copy = ctd_builder_string(b, v->u.str, v->len);
        if (copy.type != CTD_NULL) {
            copy.type = v->type;
            copy.flags = v->flags;
        }
        return copy;
    }
    if (v->type != CTD_ARRAY && v->type != CTD_MAP && v->type != CTD_STRUCT) {
        return *v;
    }
    size_t n = v->type == CTD_MAP ? 2 * (size_t)v->len : v->len;
    ctd_value *items = ctd_builder_alloc(b, n * sizeof(*items), 16);
    if (items == NULL) {
        return ctd_v_null();
    }
    for (size_t i = 0; i < n; i++) {
        items[i] = ctd_builder_copy(b, &v->u.items[i]);
    }
    ctd_value copy = *v;
    copy.u.items = items;
    return copy;
}

ctd_status ctd_builder_finish(ctd_builder *b, ctd_batch *out, ctd_error *err)
{
    if (b->failed) {
        ctd_builder_reset(b);
        return ctd_fail(err, CTD_E_NOMEM, "no memory for a batch of records");
    }
    struct mem *m = b->mem;
    *out = (ctd_batch){0};
    if (m == NULL || m->n == 0) {
        ctd_builder_reset(b);
        return CTD_OK;
    }
    atomic_fetch_add(&b->pool->refs, 1);
    b->mem = NULL;
    out->n = m->n;
    out->records = m->records;
    out->priv = m;
    out->release = release_batch;
    return CTD_OK;
}
