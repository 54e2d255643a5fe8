/*
 * The table of group offsets and its bytes. group -> topic -> partitions sorted by number.
 *
 * Threads: see the header.
 */
#include "topic/offsets.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "record/record.h"

/* A batch of __consumer_offsets stays far below max.message.bytes. */
#define BATCH_BYTES ((size_t)256 << 10)

struct entry {
    int32_t partition;
    int64_t offset; /* -1: none, the place is kept */
};

struct topic_entries {
    struct entry *v;
    size_t n, cap;
};

struct topic_offsets {
    struct map *groups; /* name -> map of topic -> topic_entries */
};

static void entries_free(void *p)
{
    struct topic_entries *t = p;
    free(t->v);
    free(t);
}

static void group_free(void *p)
{
    map_free(p);
}

struct topic_offsets *topic_offsets_new(void)
{
    struct topic_offsets *o = calloc(1, sizeof(*o));
    if (o == NULL) {
        return NULL;
    }
    o->groups = map_new(group_free);
    if (o->groups == NULL) {
        free(o);
        return NULL;
    }
    return o;
}

void topic_offsets_free(struct topic_offsets *o)
{
    if (o != NULL) {
        map_free(o->groups);
        free(o);
    }
}

/* Index of the partition, or where it would go. */
static size_t find(const struct topic_entries *t, int32_t partition)
{
    size_t lo = 0;
    size_t hi = t->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->v[mid].partition < partition) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static struct entry *lookup(const struct topic_offsets *o, const char *group, const char *topic,
                            int32_t partition)
{
    const struct map *topics = map_get(o->groups, group);
    const struct topic_entries *t = topics != NULL ? map_get(topics, topic) : NULL;
    if (t == NULL) {
        return NULL;
    }
    size_t i = find(t, partition);
    return i < t->n && t->v[i].partition == partition ? &t->v[i] : NULL;
}

int topic_offsets_get(const struct topic_offsets *o, const char *group, const char *topic,
                      int32_t partition, int64_t *ret)
{
    const struct entry *e = lookup(o, group, topic, partition);
    if (e == NULL || e->offset < 0) {
        return ERR_NOT_FOUND;
    }
    *ret = e->offset;
    return 0;
}

static struct topic_entries *entries_of(struct topic_offsets *o, const char *group,
                                        const char *topic)
{
    struct map *topics = map_get(o->groups, group);
    if (topics == NULL) {
        topics = map_new(entries_free);
        if (topics == NULL || map_put(o->groups, group, topics) < 0) {
            map_free(topics);
            return NULL;
        }
    }
    struct topic_entries *t = map_get(topics, topic);
    if (t == NULL) {
        t = calloc(1, sizeof(*t));
        if (t == NULL || map_put(topics, topic, t) < 0) {
            free(t);
            return NULL;
        }
    }
    return t;
}

int topic_offsets_reserve(struct topic_offsets *o, const char *group, const char *topic,
                          int32_t partition)
{
    if (lookup(o, group, topic, partition) != NULL) {
        return 0;
    }
    struct topic_entries *t = entries_of(o, group, topic);
    if (t == NULL) {
        return ERR_NOMEM;
    }
    if (t->n == t->cap) {
        size_t cap = t->cap != 0 ? 2 * t->cap : 4;
        struct entry *v = realloc(t->v, cap * sizeof(*v));
        if (v == NULL) {
            return ERR_NOMEM;
        }
        t->v = v;
        t->cap = cap;
    }
    size_t i = find(t, partition);
    memmove(t->v + i + 1, t->v + i, (t->n - i) * sizeof(*t->v));
    t->v[i] = (struct entry){.partition = partition, .offset = -1};
    t->n++;
    return 0;
}

int topic_offsets_put(struct topic_offsets *o, const char *group, const char *topic,
                      int32_t partition, int64_t offset)
{
    struct entry *e = lookup(o, group, topic, partition);
    if (e == NULL) {
        if (offset < 0) {
            return 0;
        }
        TRY(topic_offsets_reserve(o, group, topic, partition));
        e = lookup(o, group, topic, partition);
    }
    e->offset = offset;
    return 0;
}

void topic_offsets_of_topic(const struct topic_offsets *o, const char *topic,
                            void (*each)(void *arg, const char *group, int32_t partition),
                            void *arg)
{
    const char *group;
    void *topics;
    for (size_t i = 0; map_next(o->groups, &i, &group, &topics);) {
        const struct topic_entries *t = map_get(topics, topic);
        for (size_t j = 0; t != NULL && j < t->n; j++) {
            if (t->v[j].offset >= 0) {
                each(arg, group, t->v[j].partition);
            }
        }
    }
}

void topic_offsets_drop_topic(struct topic_offsets *o, const char *topic)
{
    void *topics;
    for (size_t i = 0; map_next(o->groups, &i, NULL, &topics);) {
        (void)map_del(topics, topic);
    }
}

/* ---- bytes ---- */

static void put_string(struct buf *b, const char *s)
{
    size_t n = strlen(s);
    buf_append_be16(b, (uint16_t)n);
    buf_append(b, s, n);
}

/* Key and value of one offset behind each other in `b`; *ret_key_len divides them. */
static void put_offset(struct buf *b, const char *group, const struct topic_group_offset *v,
                       int64_t now_ms, size_t *ret_key_len)
{
    buf_append_be16(b, 1);
    put_string(b, group);
    put_string(b, v->topic);
    buf_append_be32(b, (uint32_t)v->partition);
    *ret_key_len = b->len;
    if (v->offset >= 0) {
        buf_append_be16(b, 3);
        buf_append_be64(b, (uint64_t)v->offset);
        buf_append_be32(b, (uint32_t)-1);
        put_string(b, "");
        buf_append_be64(b, (uint64_t)now_ms);
    }
}

int topic_offsets_encode(struct buf *out, const char *group, const struct topic_group_offset *v,
                         size_t n, int64_t now_ms, int64_t *ret_records, struct err *err)
{
    if (strlen(group) > TOPIC_GROUP_MAX) {
        return err_set(err, ERR_INVAL, "a group's name has at most %d bytes", TOPIC_GROUP_MAX);
    }
    struct buf b = BUF_INIT(2 * TOPIC_GROUP_MAX);
    struct record_builder rb;
    int open = 0;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        size_t key_len = 0;
        buf_clear(&b);
        put_offset(&b, group, &v[i], now_ms, &key_len);
        if (b.error != 0) {
            rc = err_set(err, b.error, "no memory for a group offset");
            break;
        }
        if (!open) {
            record_builder_begin(&rb, out);
            open = 1;
        }
        struct slice value = {v[i].offset >= 0 ? b.data + key_len : NULL, b.len - key_len};
        record_builder_add(&rb, now_ms, slice_of(b.data, key_len), value, NULL, 0);
        if (i + 1 == n || record_builder_bytes(&rb) >= BATCH_BYTES) {
            int64_t bytes = record_builder_finish(&rb, err);
            rc = bytes < 0 ? (int)bytes : 0;
            open = 0;
        }
    }
    buf_free(&b);
    if (rc == 0) {
        *ret_records = (int64_t)n;
    }
    return rc;
}

/* A string of the key as text in `b`; one with a NUL inside cannot be a name here. */
static const char *get_string(struct cursor *c, struct buf *b)
{
    size_t n = cursor_be16(c);
    const uint8_t *p = n <= INT16_MAX ? cursor_bytes(c, n) : NULL;
    if (p == NULL || memchr(p, 0, n) != NULL) {
        c->error = ERR_DATA;
        return NULL;
    }
    buf_append(b, p, n);
    return b->error == 0 ? buf_cstr(b) : NULL;
}

int topic_offsets_apply(struct topic_offsets *o, struct slice key, struct slice value,
                        struct err *err)
{
    struct cursor c;
    cursor_init(&c, key.ptr, key.len);
    uint16_t version = cursor_be16(&c);
    if (c.error == 0 && version > 1) {
        return 0;
    }
    struct buf group = BUF_INIT(2 * TOPIC_GROUP_MAX);
    struct buf topic = BUF_INIT(2 * TOPIC_GROUP_MAX);
    int rc = 0;
    const char *g = get_string(&c, &group);
    const char *t = get_string(&c, &topic);
    int32_t partition = (int32_t)cursor_be32(&c);
    int64_t offset = -1;
    if (value.ptr != NULL) {
        struct cursor vc;
        cursor_init(&vc, value.ptr, value.len);
        (void)cursor_be16(&vc); /* every version begins with the offset */
        offset = (int64_t)cursor_be64(&vc);
        c.error = c.error != 0 ? c.error : vc.error;
    }
    if (group.error != 0 || topic.error != 0) {
        rc = err_set(err, ERR_NOMEM, "no memory for a group offset");
    } else if (c.error != 0 || g == NULL || t == NULL || partition < 0) {
        rc = err_set(err, ERR_DATA, "a malformed group offset");
    } else {
        rc = topic_offsets_put(o, g, t, partition, offset < 0 ? -1 : offset);
        if (rc < 0) {
            (void)err_set(err, rc, "no memory for a group offset");
        }
    }
    buf_free(&group);
    buf_free(&topic);
    return rc;
}
