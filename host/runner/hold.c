/*
 * RECORDS: the data thread that reads them, and the memory in which they are decoded for put(). A hold (frame,
 * record array, arena) is used again, so a steady stream allocates nothing; a sink that keeps its batch keeps
 * the hold until release().
 *
 * Threads: runner_data_thread is the data thread; decode the task thread; get and put any.
 */
#include "runner_int.h"

#include <stdlib.h>
#include <string.h>

enum { SPARE_HOLDS = 4 };
#define SPARE_BYTES ((size_t)4 << 20)

/* ---- memory ---- */

static void hold_free(struct runner_hold *h)
{
    if (h != NULL) {
        free(h->bytes);
        free(h->records);
        arena_free(h->arena);
        free(h);
    }
}

struct runner_hold *runner_hold_get(struct runner *r, size_t bytes)
{
    mutex_lock(&r->hold_lock);
    struct runner_hold *h = r->hold_spare;
    if (h != NULL) {
        r->hold_spare = h->next;
        r->n_hold_spare--;
    }
    mutex_unlock(&r->hold_lock);
    if (h == NULL) {
        h = calloc(1, sizeof(*h));
        if (h == NULL || (h->arena = arena_new((size_t)1 << 30)) == NULL) {
            free(h);
            return NULL;
        }
    }
    if (h->cap < bytes) {
        free(h->bytes);
        h->cap = 0;
        h->bytes = malloc(bytes);
        if (h->bytes == NULL) {
            hold_free(h);
            return NULL;
        }
        h->cap = bytes;
    }
    h->next = NULL;
    h->task = NULL;
    h->len = bytes;
    h->n_records = 0;
    h->state = RUNNER_HOLD_OURS;
    h->counted = 0;
    return h;
}

void runner_hold_put(struct runner *r, struct runner_hold *h)
{
    arena_reset(h->arena);
    mutex_lock(&r->hold_lock);
    int keep = r->n_hold_spare < SPARE_HOLDS && h->cap <= SPARE_BYTES;
    if (keep) {
        h->next = r->hold_spare;
        r->hold_spare = h;
        r->n_hold_spare++;
    }
    mutex_unlock(&r->hold_lock);
    if (!keep) {
        hold_free(h);
    }
}

/* ---- decoding ---- */

struct decoding {
    struct runner_task *t;
    struct runner_hold *h;
    ctd_arena arena;
    ctd_error e; /* preset once: a call that succeeds leaves it alone */
    struct runner_fail *fail;
};

static ctd_record *next_record(struct runner_hold *h)
{
    if (h->n_records == h->cap_records) {
        size_t cap = h->cap_records != 0 ? 2 * h->cap_records : 1024;
        ctd_record *records = realloc(h->records, cap * sizeof(*records));
        if (records == NULL) {
            return NULL;
        }
        h->records = records;
        h->cap_records = cap;
    }
    return &h->records[h->n_records];
}

static int decode_value(struct decoding *d, int is_key, ctd_record *r, struct slice bytes,
                        const ctd_schema **ret_schema, ctd_value *ret)
{
    *ret = (ctd_value){.type = CTD_NULL};
    *ret_schema = NULL;
    if (bytes.ptr == NULL) {
        return 0;
    }
    struct runner_converter *c = is_key ? &d->t->key : &d->t->value;
    ctd_status status = c->ops->decode(c->self, &d->arena, is_key, r,
                                       (ctd_slice){bytes.ptr, bytes.len}, ret_schema, ret, &d->e);
    return status == CTD_OK ? 0 : runner_fail_call(d->fail, LINK_STAGE_CONVERT, status, &d->e);
}

/* Header values come as they were stored: text where it is UTF-8, else bytes. */
static int decode_headers(struct decoding *d, const struct record_view *v, ctd_record *r)
{
    if (v->n_headers <= 0) {
        return 0;
    }
    ctd_header *headers =
        arena_alloc(d->h->arena, (size_t)v->n_headers * sizeof(*headers), _Alignof(ctd_header));
    if (headers == NULL) {
        return runner_fail_set(d->fail, LINK_STAGE_CONVERT, CTD_E_NOMEM, "out of memory");
    }
    struct cursor c;
    cursor_init(&c, v->headers, v->headers_len);
    int32_t n = 0;
    for (; n < v->n_headers; n++) {
        struct record_header stored;
        if (record_headers_next(&c, &stored) != 1) {
            return runner_fail_set(d->fail, LINK_STAGE_CONVERT, CTD_E_DATA,
                                   "header %d is malformed", n);
        }
        ctd_header *h = &headers[n];
        *h = (ctd_header){.name = {stored.name.ptr, stored.name.len}};
        if (stored.value.ptr != NULL) {
            int text = str_is_utf8(stored.value.ptr, stored.value.len);
            h->value.type = text ? CTD_STRING : CTD_BYTES;
            h->value.len = (uint32_t)stored.value.len;
            h->value.u.bytes = stored.value.ptr;
        }
    }
    r->headers = headers;
    r->n_headers = (uint64_t)n;
    return 0;
}

static int decode_record(struct decoding *d, const struct record_batch *b,
                         const struct record_view *v)
{
    ctd_record *r = next_record(d->h);
    if (r == NULL) {
        return runner_fail_set(d->fail, LINK_STAGE_CONVERT, CTD_E_NOMEM, "out of memory");
    }
    const struct link_records *f = &d->h->frame;
    memset(r, 0, sizeof(*r));
    r->topic = (ctd_slice){f->topic.ptr, f->topic.len};
    r->original_topic = r->topic;
    r->partition = f->partition;
    r->original_partition = f->partition;
    r->timestamp_type = b->attributes >> 3 & 1;
    r->timestamp_ms = v->timestamp_ms;
    r->offset = v->offset;
    int rc = decode_headers(d, v, r);
    rc = rc != 0 ? rc : decode_value(d, 1, r, v->key, &r->key_schema, &r->key);
    rc = rc != 0 ? rc : decode_value(d, 0, r, v->value, &r->value_schema, &r->value);
    if (rc == 0) {
        d->h->n_records++;
    } else {
        d->fail->record_index = (int64_t)d->h->n_records;
        runner_fail_prefix(d->fail, "%.*s-%d at offset %lld", (int)f->topic.len,
                           (const char *)f->topic.ptr, f->partition, (long long)v->offset);
    }
    return rc;
}

static int decode_batch(struct decoding *d, const struct record_batch *b)
{
    struct err err = ERR_INIT;
    struct record_iter it;
    struct record_view v;
    if (b->base_offset + b->last_offset_delta < d->h->frame.offset) {
        return 0;
    }
    int rc = record_batch_crc_ok(b) ? record_iter_init(&it, b, &err)
                                    : err_set(&err, ERR_CORRUPT, "its checksum is wrong");
    while (rc == 0) {
        int more = record_iter_next(&it, &v, &err);
        if (more <= 0) {
            rc = more;
            break;
        }
        if (v.offset >= d->h->frame.offset) {
            int failed = decode_record(d, b, &v);
            if (failed != 0) {
                return failed;
            }
        }
    }
    if (rc != 0) {
        (void)runner_fail_err(d->fail, LINK_STAGE_CONVERT, &err);
        runner_fail_prefix(d->fail, "%.*s-%d: the batch at offset %lld", (int)d->h->frame.topic.len,
                           (const char *)d->h->frame.topic.ptr, d->h->frame.partition,
                           (long long)b->base_offset);
    }
    return rc;
}

int runner_hold_decode(struct runner_task *t, struct runner_hold *h, struct runner_fail *fail)
{
    struct decoding d = {.t = t, .h = h, .fail = fail};
    struct err err = ERR_INIT;
    record_abi_arena(h->arena, &d.arena);
    runner_error_preset(&d.e);
    h->n_records = 0;
    const uint8_t *p = h->frame.batches.ptr;
    size_t left = h->frame.batches.len;
    int rc = 0;
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_CONVERT);
    while (rc == 0 && left > 0) {
        struct record_batch b;
        rc = record_batch_peek(p, left, LINK_DATA_MAX, &b, &err);
        if (rc != 0) {
            rc = runner_fail_err(fail, LINK_STAGE_CONVERT, &err);
            runner_fail_prefix(fail, "%.*s-%d", (int)h->frame.topic.len,
                               (const char *)h->frame.topic.ptr, h->frame.partition);
            break;
        }
        rc = decode_batch(&d, &b);
        p += b.bytes;
        left -= b.bytes;
    }
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    return rc;
}

/* ---- the data thread ---- */

static _Noreturn void bad_frame(struct runner *r, const char *what)
{
    struct runner_fail fail;
    (void)runner_fail_set(&fail, LINK_STAGE_NONE, CTD_E_FATAL, "data socket: %s", what);
    runner_die(r, &fail);
}

void *runner_data_thread(void *arg)
{
    struct runner *r = arg;
    for (;;) {
        uint8_t head[LINK_HEAD];
        struct link_frame f;
        size_t bytes = 0;
        struct err err = ERR_INIT;
        runner_read_full(r->data_fd, head, sizeof(head));
        if (link_frame_peek(head, sizeof(head), LINK_DATA_MAX, &f, &bytes, &err) < 0) {
            bad_frame(r, err.msg);
        }
        struct cursor c;
        cursor_init(&c, head + 4, sizeof(head) - 4);
        f.type = cursor_le16(&c);
        (void)cursor_le16(&c);
        f.task = cursor_le32(&c);
        struct runner_hold *h = runner_hold_get(r, bytes - LINK_HEAD);
        if (h == NULL) {
            bad_frame(r, "out of memory");
        }
        runner_read_full(r->data_fd, h->bytes, h->len);
        f.payload = (struct slice){h->bytes, h->len};
        h->task = runner_task_get(r, f.task);
        if (f.type != LINK_RECORDS || link_get_records(&f, &h->frame, &err) != 0 ||
            h->task == NULL || h->frame.topic.ptr == NULL) {
            bad_frame(r, err.msg[0] != '\0' ? err.msg : "a frame that isn't RECORDS of a task");
        }
        runner_sink_queue(h->task, h);
    }
    return NULL;
}
