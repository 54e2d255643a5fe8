/*
 * A poll's records into one commit unit: converted, partitioned, built into batches, one pass. The memory is
 * the packer's and the topics', used again for the next unit. The task thread alone.
 */
#include "runner_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Batches end about here: what is read as a whole must not be large. A larger record gets a batch of
 * its own, up to the topic's max.message.bytes. */
#define BATCH_TARGET_BYTES ((size_t)1 << 20)

enum { MAX_HEADERS = 1000 };
#define KEPT_BYTES                                                                                 \
    ((size_t)4 << 20) /* a partition's buffer above this is given back after the unit */

struct packing {
    struct runner_task *t;
    struct runner_packer *p;
    struct runner_unit *unit;
    int results; /* the class wants to know where each record went */
    ctd_arena arena;
    ctd_error e; /* preset once: a call that succeeds leaves it alone */
    int64_t now_ms;
    struct runner_fail *fail;
};

static void *grow(void *p, size_t *cap, size_t need, size_t element)
{
    size_t n = *cap != 0 ? *cap : 16;
    while (n < need) {
        n *= 2;
    }
    void *q = realloc(p, n * element);
    if (q != NULL) {
        *cap = n;
    }
    return q;
}

static int out_of_memory(struct packing *k)
{
    return runner_fail_set(k->fail, LINK_STAGE_CONVERT, CTD_E_NOMEM, "out of memory");
}

/* ---- one record's parts ---- */

/* JSON text that the plugin has checked: as it is, without the blanks around it. */
static struct slice trimmed(const ctd_value *v)
{
    const uint8_t *from = v->u.bytes;
    const uint8_t *to = from + v->len;
    while (from < to && (*from == ' ' || *from == '\t' || *from == '\n' || *from == '\r')) {
        from++;
    }
    while (to > from && (to[-1] == ' ' || to[-1] == '\t' || to[-1] == '\n' || to[-1] == '\r')) {
        to--;
    }
    return slice_of(from, (size_t)(to - from));
}

static int encode(struct packing *k, const ctd_record *r, int is_key, struct slice *ret)
{
    const ctd_value *v = is_key ? &r->key : &r->value;
    if (v->type == CTD_NULL) {
        *ret = (struct slice){NULL, 0};
        return 0;
    }
    if (v->type == CTD_STRING && (v->flags & CTD_VF_RAW_JSON) != 0) {
        *ret = trimmed(v);
        return 0;
    }
    struct runner_converter *c = is_key ? &k->t->key : &k->t->value;
    ctd_slice out = {NULL, 0};
    ctd_status status = c->ops->encode(c->self, &k->arena, is_key, r,
                                       is_key ? r->key_schema : r->value_schema, v, &out, &k->e);
    if (status != CTD_OK) {
        return runner_fail_call(k->fail, LINK_STAGE_CONVERT, status, &k->e);
    }
    *ret = (struct slice){out.ptr, (size_t)out.len};
    return 0;
}

static int encode_headers(struct packing *k, const ctd_record *r, struct record_header **ret)
{
    *ret = NULL;
    if (r->n_headers == 0) {
        return 0;
    }
    if (r->n_headers > MAX_HEADERS || r->headers == NULL) {
        return runner_fail_abi(k->fail, LINK_STAGE_POLL, "a record has %llu headers, at most %d",
                               (unsigned long long)r->n_headers, MAX_HEADERS);
    }
    struct err err = ERR_INIT;
    struct record_header *h = arena_zalloc(k->t->arena, r->n_headers * sizeof(*h));
    if (h == NULL) {
        return out_of_memory(k);
    }
    for (uint64_t i = 0; i < r->n_headers; i++) {
        const ctd_slice name = r->headers[i].name;
        if (name.ptr == NULL) {
            return runner_fail_abi(k->fail, LINK_STAGE_POLL,
                                   "a record has a header without a name");
        }
        h[i].name = (struct slice){name.ptr, (size_t)name.len};
        int rc = runner_header_encode(&r->headers[i].value, k->t->arena, &h[i].value, &err);
        if (rc != 0) {
            return runner_fail_err(k->fail, LINK_STAGE_CONVERT, &err);
        }
    }
    *ret = h;
    return 0;
}

static int choose_topic(struct packing *k, const ctd_record *r)
{
    const struct slice name = {r->topic.ptr, (size_t)r->topic.len};
    struct runner_topic *last = k->p->last;
    if (last != NULL && slice_eq(last->slice, name)) {
        return 0;
    }
    return runner_topic_get(k->t, &k->p->topics, name, &k->p->last, k->fail);
}

static int choose_partition(struct packing *k, const ctd_record *r, struct slice key, int32_t *ret)
{
    struct runner_topic *topic = k->p->last;
    if (r->partition >= topic->partitions || r->partition < -1) {
        return runner_fail_abi(k->fail, LINK_STAGE_POLL,
                               "a record asks for partition %d of topic %s, which has %d",
                               r->partition, topic->name, topic->partitions);
    }
    if (r->partition >= 0) {
        *ret = r->partition;
    } else if (key.ptr != NULL) {
        *ret = record_partition_for_key(key, topic->partitions);
    } else {
        *ret = topic->sticky;
        topic->sticky_used = 1;
    }
    return 0;
}

/* ---- batches ---- */

/* The partition's place among the unit's appends, made at its first record. */
static int join_unit(struct packing *k, struct runner_topic *topic, int32_t partition)
{
    struct runner_packer *p = k->p;
    struct runner_unit *u = k->unit;
    size_t n = p->n_appends;
    if (n >= p->cap_appends) {
        size_t cap = p->cap_appends;
        void *topics = grow(p->topic_of, &cap, n + 1, sizeof(*p->topic_of));
        p->topic_of = topics != NULL ? topics : p->topic_of;
        cap = p->cap_appends;
        void *partitions = grow(p->partition_of, &cap, n + 1, sizeof(*p->partition_of));
        p->partition_of = partitions != NULL ? partitions : p->partition_of;
        if (topics == NULL || partitions == NULL) {
            return out_of_memory(k);
        }
        p->cap_appends = cap;
    }
    if (n >= u->cap_appends) {
        void *appends = grow(u->appends, &u->cap_appends, n + 1, sizeof(*u->appends));
        if (appends == NULL) {
            return out_of_memory(k);
        }
        u->appends = appends;
    }
    p->topic_of[n] = topic;
    p->partition_of[n] = partition;
    u->appends[n] = (struct runner_unit_append){topic, partition, -1};
    topic->parts[partition].append = (uint32_t)n;
    p->n_appends = u->n_appends = n + 1;
    return 0;
}

static int finish_batch(struct packing *k, struct runner_part *part)
{
    struct err err = ERR_INIT;
    int open = part->open;
    part->open = 0;
    if (!open || record_builder_finish(&part->builder, &err) >= 0) {
        return 0;
    }
    if (part->bytes.error == ERR_LIMIT) {
        return runner_fail_set(k->fail, LINK_STAGE_CONVERT, CTD_E_DATA, RUNNER_UNIT_TOO_LARGE,
                               LINK_DATA_MAX);
    }
    return runner_fail_err(k->fail, LINK_STAGE_CONVERT, &err);
}

static int append(struct packing *k, int32_t partition, int64_t timestamp_ms, struct slice key,
                  struct slice value, const struct record_header *headers, size_t n_headers)
{
    struct runner_topic *topic = k->p->last;
    struct runner_part *part = &topic->parts[partition];
    if (part->n_records == 0) {
        int rc = join_unit(k, topic, partition);
        if (rc != 0) {
            return rc;
        }
    }
    size_t most = (size_t)topic->max_batch_bytes;
    size_t bound = record_size_bound(key.len, value.len, headers, n_headers);
    size_t target = most < BATCH_TARGET_BYTES ? most : BATCH_TARGET_BYTES;
    if (part->open && record_builder_bytes(&part->builder) + bound > target) {
        int rc = finish_batch(k, part);
        if (rc != 0) {
            return rc;
        }
    }
    int first = !part->open;
    if (first) {
        record_builder_begin(&part->builder, &part->bytes);
        part->open = 1;
    }
    record_builder_add(&part->builder, timestamp_ms, key, value, headers, n_headers);
    if (first && record_builder_bytes(&part->builder) > most && part->bytes.error == 0) {
        return runner_fail_set(k->fail, LINK_STAGE_CONVERT, CTD_E_DATA,
                               "a record of %zu bytes is too large for topic %s: its batches have "
                               "at most %zu (max.message.bytes)",
                               record_builder_bytes(&part->builder), topic->name, most);
    }
    part->n_records++;
    return 0;
}

static int pack_record(struct packing *k, const ctd_record *r, uint64_t i)
{
    struct slice key;
    struct slice value;
    struct record_header *headers = NULL;
    int32_t partition = 0;
    int rc = choose_topic(k, r);
    rc = rc != 0 ? rc : encode(k, r, 1, &key);
    rc = rc != 0 ? rc : encode(k, r, 0, &value);
    rc = rc != 0 ? rc : encode_headers(k, r, &headers);
    rc = rc != 0 ? rc : choose_partition(k, r, key, &partition);
    if (rc != 0) {
        return rc;
    }
    int64_t timestamp_ms = r->timestamp_ms == INT64_MIN ? k->now_ms : r->timestamp_ms;
    if (timestamp_ms < 0) {
        return runner_fail_set(k->fail, LINK_STAGE_CONVERT, CTD_E_DATA,
                               "a record's timestamp is before 1970: %lld ms",
                               (long long)timestamp_ms);
    }
    struct runner_part *part = &k->p->last->parts[partition];
    uint32_t index = part->n_records;
    rc = append(k, partition, timestamp_ms, key, value, headers, r->n_headers);
    if (rc == 0 && k->results) {
        k->unit->records[i] = (struct runner_unit_record){part->append, index};
    }
    return rc;
}

/* ---- the unit ---- */

static int prepare_results(struct packing *k, uint64_t n)
{
    const ctd_class_ops *ops = k->t->runner->class->ops;
    k->results = CTD_HAS_OP((const ctd_source *)(const void *)ops, on_result);
    if (k->results && n > k->unit->cap_records) {
        void *records = grow(k->unit->records, &k->unit->cap_records, n, sizeof(*k->unit->records));
        if (records == NULL) {
            return out_of_memory(k);
        }
        k->unit->records = records;
    }
    return 0;
}

static int send_unit(struct packing *k, const ctd_batch *batch)
{
    struct runner_packer *p = k->p;
    struct err err = ERR_INIT;
    struct link_commit c = {.generation = -1, .n_appends = (uint32_t)p->n_appends};
    c.appends = arena_zalloc(k->t->arena, (p->n_appends + 1) * sizeof(*c.appends));
    if (c.appends == NULL) {
        return out_of_memory(k);
    }
    for (size_t i = 0; i < p->n_appends; i++) {
        struct runner_topic *topic = p->topic_of[i];
        struct runner_part *part = &topic->parts[p->partition_of[i]];
        int rc = finish_batch(k, part);
        if (rc != 0) {
            return rc;
        }
        c.appends[i] = (struct link_append){.topic = topic->slice,
                                            .epoch = topic->epoch,
                                            .partition = p->partition_of[i],
                                            .n_records = part->n_records,
                                            .batches = {part->bytes.data, part->bytes.len}};
        memcpy(c.appends[i].topic_id, topic->id, sizeof(topic->id));
    }
    buf_clear(&p->offsets);
    int rc = runner_source_offsets(batch, k->t->arena, &p->offsets, &c.source_offsets,
                                   &c.n_source_offsets, &err);
    if (rc != 0) {
        (void)runner_fail_err(k->fail, LINK_STAGE_CONVERT, &err);
        runner_fail_prefix(k->fail, "source offsets");
        return rc;
    }
    struct runner_unit *u = k->unit;
    k->unit = NULL; /* the commit's, also when it fails */
    return runner_task_commit(k->t, &c, u, k->fail);
}

/* Leaves topics and partitions ready for the next unit, whatever became of this one. */
static void clear_unit(struct runner_packer *p)
{
    for (size_t i = 0; i < p->n_appends; i++) {
        struct runner_topic *topic = p->topic_of[i];
        struct runner_part *part = &topic->parts[p->partition_of[i]];
        part->n_records = 0;
        part->open = 0;
        if (part->bytes.cap > KEPT_BYTES) {
            buf_free(&part->bytes);
        } else {
            buf_clear(&part->bytes);
        }
        if (topic->sticky_used) {
            topic->sticky_used = 0;
            topic->sticky = (topic->sticky + 1) % topic->partitions;
        }
    }
    p->n_appends = 0;
}

int runner_pack(struct runner_task *t, struct runner_packer *p, const ctd_batch *batch,
                int64_t now_ms, struct runner_unit *unit, struct runner_fail *fail)
{
    struct packing k = {.t = t, .p = p, .unit = unit, .now_ms = now_ms, .fail = fail};
    arena_reset(t->arena);
    record_abi_arena(t->arena, &k.arena);
    runner_error_preset(&k.e);
    unit->first_seq = batch->first_seq;
    unit->n_records = batch->n;
    int rc = prepare_results(&k, batch->n);
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_CONVERT);
    for (uint64_t i = 0; rc == 0 && i < batch->n; i++) {
        rc = pack_record(&k, &batch->records[i], i);
        if (rc != 0) {
            fail->record_index = (int64_t)i;
        }
    }
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    if (rc == 0) {
        rc = send_unit(&k, batch);
    }
    runner_unit_drop(t, k.unit);
    clear_unit(p);
    return rc;
}

void runner_packer_free(struct runner_packer *p)
{
    runner_topics_free(p->topics);
    free(p->topic_of);
    free(p->partition_of);
    buf_free(&p->offsets);
    memset(p, 0, sizeof(*p));
}
