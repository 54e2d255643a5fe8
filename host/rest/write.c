/*
 * POST /topics/NAME/records: a JSON list of {"partition"?,"key"?,"value"?,"headers"?,"timestamp"?}. Bytes are a
 * string, null or {"base64":"..."}; a header is [name, value]. One request is one commit unit: all of it becomes durable, or
 * nothing. The answer, [{"topic","partition","offset"}] in the order given, is sent when it is.
 */
#include "rest/rest_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "codec/codec.h"

enum { MAX_HEADERS = 100, ARENA_BYTES = 64 << 20 };

/* What goes to one partition. */
struct part {
    int32_t partition;
    struct buf batches;
    struct record_builder builder;
    int building;
    int64_t n;
};

/* Where record i of the request went. */
struct place {
    uint32_t part;
    int64_t index; /* within the part */
};

struct write {
    json_t *body;
    struct arena *arena;
    struct topic_info topic;
    struct part *parts;
    size_t n_parts;
    int32_t *part_of; /* partition -> index in parts + 1 */
    struct place *places;
    size_t n;
    int32_t sticky;
    int64_t now_ms;
    struct topic_unit unit;
    struct topic_append *appends;
    struct mutex lock; /* of the two below, which the engine sets */
    int done;
    struct err result;
};

static void write_free(void *data)
{
    struct write *w = data;
    for (size_t i = 0; i < w->n_parts; i++) {
        buf_free(&w->parts[i].batches);
    }
    json_decref(w->body);
    arena_free(w->arena);
    free(w->parts);
    free(w->part_of);
    free(w->places);
    free(w->appends);
    mutex_destroy(&w->lock);
    free(w);
}

/* ---- one record ---- */

/* A string, null or {"base64":...}; absent is null. */
static int bytes_of(struct write *w, const json_t *v, struct slice *ret, struct err *err)
{
    const json_t *base64 = json_object_get(v, "base64");
    if (v == NULL || json_is_null(v)) {
        *ret = slice_of(NULL, 0);
        return 0;
    }
    if (json_is_string(v)) {
        *ret = slice_of(json_string_value(v), json_string_length(v));
        return 0;
    }
    if (!json_is_string(base64) || json_object_size(v) != 1) {
        return err_set(err, ERR_DATA, "must be a string, null or {\"base64\":\"...\"}");
    }
    struct buf raw;
    buf_init(&raw, 0);
    int rc = codec_base64_get(json_string_value(base64), json_string_length(base64), &raw, err);
    void *copy = rc == 0 ? arena_alloc(w->arena, raw.len + 1, 1) : NULL;
    if (copy != NULL) {
        if (raw.len > 0) {
            memcpy(copy, raw.data, raw.len);
        }
        *ret = slice_of(copy, raw.len);
    } else if (rc == 0) {
        rc = err_set(err, ERR_NOMEM, "out of memory");
    }
    buf_free(&raw);
    return rc;
}

static int headers_of(struct write *w, const json_t *list, struct record_header *ret, size_t *ret_n,
                      struct err *err)
{
    size_t n = json_array_size(list);
    if (list != NULL && (!json_is_array(list) || n > MAX_HEADERS)) {
        return err_set(err, ERR_DATA, "headers must be a list of at most %d [name, value]",
                       MAX_HEADERS);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list, i);
        const json_t *name = json_array_get(pair, 0);
        if (json_array_size(pair) != 2 || !json_is_string(name)) {
            return err_set(err, ERR_DATA, "header %zu is not [name, value]", i);
        }
        ret[i].name = slice_of(json_string_value(name), json_string_length(name));
        if (bytes_of(w, json_array_get(pair, 1), &ret[i].value, err) != 0) {
            return err_prefix(err, "header %zu", i);
        }
    }
    *ret_n = n;
    return 0;
}

static int partition_of(const struct write *w, const json_t *record, struct slice key, int32_t *ret,
                        struct err *err)
{
    const json_t *v = json_object_get(record, "partition");
    if (v != NULL && !json_is_null(v)) {
        json_int_t p = json_integer_value(v);
        if (!json_is_integer(v) || p < 0 || p >= w->topic.partitions) {
            return err_set(err, ERR_DATA, "partition must be 0 to %d",
                           (int)w->topic.partitions - 1);
        }
        *ret = (int32_t)p;
        return 0;
    }
    *ret = key.ptr != NULL ? record_partition_for_key(key, w->topic.partitions) : w->sticky;
    return 0;
}

static struct part *part_for(struct write *w, int32_t partition)
{
    if (w->part_of[partition] == 0) {
        struct part *grown = realloc(w->parts, (w->n_parts + 1) * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        w->parts = grown;
        struct part *p = &grown[w->n_parts++];
        memset(p, 0, sizeof(*p));
        p->partition = partition;
        buf_init(&p->batches, 0);
        w->part_of[partition] = (int32_t)w->n_parts;
    }
    return &w->parts[w->part_of[partition] - 1];
}

static int finish_batch(struct part *p, struct err *err)
{
    if (!p->building) {
        return 0;
    }
    p->building = 0;
    p->builder.out = &p->batches; /* the array of parts may have moved */
    int64_t n = record_builder_finish(&p->builder, err);
    return n < 0 ? (int)n : 0;
}

static int add_record(struct write *w, size_t i, struct err *err)
{
    const json_t *record = json_array_get(w->body, i);
    struct slice key;
    struct slice value;
    struct record_header headers[MAX_HEADERS];
    size_t n_headers = 0;
    int32_t partition = 0;
    if (!json_is_object(record)) {
        return err_set(err, ERR_DATA, "must be an object");
    }
    if (bytes_of(w, json_object_get(record, "key"), &key, err) != 0) {
        return err_prefix(err, "key");
    }
    if (bytes_of(w, json_object_get(record, "value"), &value, err) != 0) {
        return err_prefix(err, "value");
    }
    TRY(headers_of(w, json_object_get(record, "headers"), headers, &n_headers, err));
    TRY(partition_of(w, record, key, &partition, err));
    const json_t *timestamp = json_object_get(record, "timestamp");
    int64_t ts = timestamp == NULL ? w->now_ms : (int64_t)json_integer_value(timestamp);
    if (timestamp != NULL && (!json_is_integer(timestamp) || ts < 0)) {
        return err_set(err, ERR_DATA, "timestamp must be milliseconds since 1970");
    }
    size_t most = (size_t)w->topic.max_batch_bytes;
    size_t bytes = record_size_bound(key.len, value.len, headers, n_headers);
    if (RECORD_BATCH_OVERHEAD + bytes > most) {
        return err_set(err, ERR_DATA, "has %zu bytes, a batch of this topic at most %zu", bytes,
                       most);
    }
    struct part *p = part_for(w, partition);
    if (p == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    p->builder.out = &p->batches;
    if (p->building && record_builder_bytes(&p->builder) + bytes > most) {
        TRY(finish_batch(p, err));
    }
    if (!p->building) {
        record_builder_begin(&p->builder, &p->batches);
        p->building = 1;
    }
    record_builder_add(&p->builder, ts, key, value, headers, n_headers);
    w->places[i].part = (uint32_t)(p - w->parts);
    w->places[i].index = p->n++;
    return 0;
}

/* ---- the unit ---- */

static int prepare(struct job *j, struct write *w, struct err *err)
{
    struct slice text = net_request_body(j->req);
    w->body = codec_json_parse((const char *)text.ptr, text.len, err);
    if (w->body == NULL) {
        return err_prefix(err, "the body is not JSON");
    }
    w->n = json_array_size(w->body);
    if (w->n == 0) {
        return err_set(err, ERR_DATA, "the body must be a list of records, not empty");
    }
    TRY(topic_resolve(j->rest->engine, j->seg[1], &w->topic, err));
    w->arena = arena_new(ARENA_BYTES);
    w->part_of = calloc((size_t)w->topic.partitions, sizeof(*w->part_of));
    w->places = calloc(w->n, sizeof(*w->places));
    if (w->arena == NULL || w->part_of == NULL || w->places == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    w->now_ms = clock_wall_ms();
    uint32_t turn = __atomic_fetch_add(&j->rest->sticky, 1, __ATOMIC_RELAXED);
    w->sticky = (int32_t)(turn % (uint32_t)w->topic.partitions);
    for (size_t i = 0; i < w->n; i++) {
        if (add_record(w, i, err) != 0) {
            return err_prefix(err, "record %zu", i);
        }
    }
    return 0;
}

static int build_unit(struct write *w, const char *topic, struct err *err)
{
    w->appends = calloc(w->n_parts, sizeof(*w->appends));
    if (w->appends == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < w->n_parts; i++) {
        struct part *p = &w->parts[i];
        TRY(finish_batch(p, err));
        w->appends[i] = (struct topic_append){.topic = topic,
                                              .topic_id = w->topic.id,
                                              .partition = p->partition,
                                              .batches = p->batches.data,
                                              .len = p->batches.len,
                                              .n_records = p->n};
    }
    w->unit.appends = w->appends;
    w->unit.n_appends = w->n_parts;
    w->unit.generation = -1;
    return 0;
}

static void on_done(struct topic_unit *u, const struct err *err)
{
    struct job *j = u->arg;
    struct write *w = j->data;
    mutex_lock(&w->lock);
    err_copy(&w->result, err);
    w->done = 1;
    mutex_unlock(&w->lock);
    rest_job_wake(j);
}

static void write_answer(struct job *j)
{
    struct write *w = j->data;
    mutex_lock(&w->lock);
    int done = w->done;
    mutex_unlock(&w->lock);
    if (!done) { /* woken because the client hung up: the unit still holds our memory */
        rest_job_wait(j, INT64_MAX);
        return;
    }
    if (w->result.code != 0) {
        rest_job_reply_err(j, &w->result);
        return;
    }
    struct buf body;
    buf_init(&body, ARENA_BYTES);
    buf_append_u8(&body, '[');
    for (size_t i = 0; i < w->n; i++) {
        const struct topic_append *a = &w->appends[w->places[i].part];
        int64_t base = a->ret_base_offset;
        buf_append_str(&body, i == 0 ? "{\"topic\":" : ",{\"topic\":");
        rest_json_bytes(&body, slice_str(a->topic));
        buf_printf(&body, ",\"partition\":%d,\"offset\":%lld}", (int)a->partition,
                   (long long)(base < 0 ? -1 : base + w->places[i].index));
    }
    buf_append_u8(&body, ']');
    rest_job_reply(j, 200, REST_JSON, &body);
    buf_free(&body);
}

void rest_write_records(struct job *j)
{
    struct err err = ERR_INIT;
    struct write *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        rest_job_reply_error(j, 503, "out of memory");
        return;
    }
    mutex_init(&w->lock);
    j->data = w;
    j->free_data = write_free;
    if (topic_is_internal(j->seg[1])) {
        rest_job_reply_error(j, 403, "%s is one of the host's own topics", j->seg[1]);
        return;
    }
    int rc = prepare(j, w, &err);
    if (rc == 0) {
        rc = build_unit(w, j->seg[1], &err);
    }
    if (rc == 0) {
        w->unit.done = on_done;
        w->unit.arg = j;
        j->step = write_answer;
        rc = topic_submit(j->rest->engine, &w->unit, &err);
    }
    if (rc != 0) {
        rest_job_reply_err(j, &err);
    } else {
        rest_job_wait(j, INT64_MAX);
    }
}
