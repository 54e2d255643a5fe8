/*
 * The source offsets of a unit: for each distinct source partition the offset of its last record. Texts are
 * written once a partition, not once a record; most sources give the same partition again and again, so
 * the one before is looked at first. No state; the task thread's arena.
 */
#include "runner_int.h"

#include <string.h>

struct entry {
    const ctd_value *partition, *offset; /* borrowed from the batch; NULL: free */
    uint64_t hash;
};
struct table {
    struct entry *slot;
    size_t mask;
    struct entry **order; /* of first sight */
    size_t n;
};

enum { MAX_DEPTH = 64 };

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ b[i]) * 1099511628211ull;
    }
    return h;
}

static size_t children(const ctd_value *v)
{
    return v->type == CTD_MAP                                ? 2 * (size_t)v->len
           : (v->type == CTD_ARRAY || v->type == CTD_STRUCT) ? v->len
                                                             : 0;
}

static uint64_t hash_value(uint64_t h, const ctd_value *v, int depth)
{
    h = mix(h, &v->type, 1);
    if (v->type == CTD_STRING || v->type == CTD_BYTES) {
        return mix(h, v->u.bytes, v->len);
    }
    size_t n = children(v);
    if (n == 0) {
        return mix(h, &v->u.i, v->type == CTD_NULL || v->type >= CTD_ARRAY ? 0 : sizeof(v->u.i));
    }
    for (size_t i = 0; i < n && depth < MAX_DEPTH; i++) {
        h = hash_value(h, &v->u.items[i], depth + 1);
    }
    return h;
}

static int equal(const ctd_value *a, const ctd_value *b, int depth)
{
    if (a->type != b->type || a->len != b->len) {
        return 0;
    }
    if (a->type == CTD_STRING || a->type == CTD_BYTES) {
        return a->u.bytes == b->u.bytes || memcmp(a->u.bytes, b->u.bytes, a->len) == 0;
    }
    if (a->type < CTD_ARRAY) {
        return a->type == CTD_NULL || a->u.i == b->u.i;
    }
    if (a->u.items == b->u.items) {
        return 1;
    }
    size_t n = children(a);
    for (size_t i = 0; i < n; i++) {
        if (depth >= MAX_DEPTH || !equal(&a->u.items[i], &b->u.items[i], depth + 1)) {
            return 0;
        }
    }
    return 1;
}

static struct entry *find(struct table *t, const ctd_value *partition)
{
    uint64_t hash = hash_value(14695981039346656037ull, partition, 0);
    for (size_t i = hash & t->mask;; i = (i + 1) & t->mask) {
        struct entry *e = &t->slot[i];
        if (e->partition == NULL) {
            e->partition = partition;
            e->hash = hash;
            t->order[t->n++] = e;
            return e;
        }
        if (e->hash == hash && equal(e->partition, partition, 0)) {
            return e;
        }
    }
}

/* How many records differ in partition from the one before: bounds the table. */
static size_t count_changes(const ctd_batch *batch)
{
    size_t n = 0;
    const ctd_value *last = NULL;
    for (uint64_t i = 0; i < batch->n; i++) {
        const ctd_value *p = &batch->records[i].source_partition;
        if (p->type != CTD_NULL && (last == NULL || !equal(last, p, 0))) {
            n++;
            last = p;
        }
    }
    return n;
}

static int write_texts(const struct table *t, struct buf *text, struct link_source_offset *out,
                       struct err *err)
{
    /* The buffer moves as it grows: positions first, pointers when it is whole. */
    for (size_t i = 0; i < t->n; i++) {
        size_t at = text->len;
        TRY(record_json_write(t->order[i]->partition, text, err));
        out[i].partition.len = text->len - at;
        at = text->len;
        TRY(record_json_write(t->order[i]->offset, text, err));
        out[i].offset.len = text->len - at;
    }
    if (text->error != 0) {
        return err_set(err, text->error, "source offsets are too long");
    }
    const uint8_t *p = text->data;
    for (size_t i = 0; i < t->n; i++) {
        out[i].partition.ptr = p;
        p += out[i].partition.len;
        out[i].offset.ptr = p;
        p += out[i].offset.len;
        if (t->order[i]->offset->type == CTD_NULL) {
            out[i].offset = (struct slice){NULL, 0}; /* forget this partition */
        }
    }
    return 0;
}

int runner_source_offsets(const ctd_batch *batch, struct arena *a, struct buf *text,
                          struct link_source_offset **ret, uint32_t *ret_n, struct err *err)
{
    size_t most = count_changes(batch);
    *ret_n = 0;
    if (most == 0) {
        return 0;
    }
    size_t slots = 4;
    while (slots < 2 * most) {
        slots *= 2;
    }
    struct table t = {.mask = slots - 1};
    t.slot = arena_zalloc(a, slots * sizeof(*t.slot));
    t.order = arena_zalloc(a, most * sizeof(struct entry *));
    if (t.slot == NULL || t.order == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    struct entry *last = NULL;
    for (uint64_t i = 0; i < batch->n; i++) {
        const ctd_record *r = &batch->records[i];
        if (r->source_partition.type == CTD_NULL) {
            continue;
        }
        if (last == NULL || !equal(last->partition, &r->source_partition, 0)) {
            last = find(&t, &r->source_partition);
        }
        last->offset = &r->source_offset;
    }
    struct link_source_offset *out = arena_zalloc(a, t.n * sizeof(*out));
    if (out == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    TRY(write_texts(&t, text, out, err));
    *ret = out;
    *ret_n = (uint32_t)t.n;
    return 0;
}
