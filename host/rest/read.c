/*
 * GET /topics/NAME/records: records from several positions, waiting for some if there are none.
 *
 *   partition=P & offset=N|earliest|latest      one position (offset: latest when absent), or
 *   positions=P:OFFSET[:UNTIL],...              several; UNTIL is the first offset not wanted
 *   max_records=1000  max_bytes=1048576  wait_ms=0
 *   format=json       {"records":[...],"positions":[{"partition","next_offset","start_offset","end_offset"}],
 *                      "skipped":["..."]} and, for one position, its fields beside "records"
 *   format=lines      one record a line, as `topic read` prints them
 *   format=value      the values' bytes, each with a line feed
 *
 * The last two tell the rest in headers: Connectd-Records, Connectd-Positions (P:NEXT:END,...), and
 * Connectd-Skipped for a bad batch that was passed over.
 */
#include "rest/rest_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
    MAX_POSITIONS = 1000,
    MAX_RECORDS = 100000,
    MAX_BYTES = 8 << 20,
    MAX_WAIT_MS = 60000,
    CHUNK_BYTES = 256 << 10, /* asked of one position at a time, so that all get their turn */
    OUT_BYTES = 64 << 20,
};
#define FROM_EARLIEST (-2)
#define FROM_LATEST   (-1)

enum format { FORMAT_JSON, FORMAT_LINES, FORMAT_VALUE };

struct position {
    int32_t partition;
    int64_t next; /* or FROM_* until it is opened */
    int64_t until;
    int64_t start, end;
    struct topic_reader *reader;
};

struct read {
    struct position *positions;
    size_t n;
    size_t turn; /* the position that is read first */
    int single;
    int opened;
    enum format format;
    int64_t max_records, max_bytes;
    int64_t deadline_ms;
    int64_t records;
    struct buf out;
    struct buf batches;
    char skipped[1024]; /* about the last bad batch */
};

static void read_free(void *data)
{
    struct read *w = data;
    for (size_t i = 0; i < w->n; i++) {
        topic_reader_close(w->positions[i].reader);
    }
    free(w->positions);
    buf_free(&w->out);
    buf_free(&w->batches);
    free(w);
}

/* ---- the query ---- */

static int parse_offset(const char *text, int64_t *ret, struct err *err)
{
    if (strcmp(text, "earliest") == 0) {
        *ret = FROM_EARLIEST;
    } else if (strcmp(text, "latest") == 0) {
        *ret = FROM_LATEST;
    } else if (str_to_i64(text, ret) != 0 || *ret < 0) {
        return err_set(err, ERR_CONFIG, "offset '%s' is not a number, earliest or latest", text);
    }
    return 0;
}

static int parse_partition(const char *text, int32_t *ret, struct err *err)
{
    int64_t v = 0;
    if (str_to_i64(text, &v) != 0 || v < 0 || v > INT32_MAX) {
        return err_set(err, ERR_CONFIG, "partition '%s' is not a number", text);
    }
    *ret = (int32_t)v;
    return 0;
}

/* "P:OFFSET" or "P:OFFSET:UNTIL"; `text` is changed. */
static int parse_position(char *text, struct position *ret, struct err *err)
{
    char *offset = strchr(text, ':');
    if (offset == NULL) {
        return err_set(err, ERR_CONFIG, "position '%s' is not PARTITION:OFFSET", text);
    }
    *offset++ = '\0';
    char *until = strchr(offset, ':');
    ret->until = INT64_MAX;
    if (until != NULL) {
        *until++ = '\0';
        if (str_to_i64(until, &ret->until) != 0 || ret->until < 0) {
            return err_set(err, ERR_CONFIG, "offset '%s' is not a number", until);
        }
    }
    TRY(parse_partition(text, &ret->partition, err));
    return parse_offset(offset, &ret->next, err);
}

static int parse_positions(const char *text, struct read *w, struct err *err)
{
    char *copy = strdup(text);
    w->positions = calloc(MAX_POSITIONS, sizeof(*w->positions));
    if (copy == NULL || w->positions == NULL) {
        free(copy);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    int rc = 0;
    char *save = NULL;
    for (char *one = strtok_r(copy, ",", &save); one != NULL && rc == 0;
         one = strtok_r(NULL, ",", &save)) {
        if (w->n == MAX_POSITIONS) {
            rc = err_set(err, ERR_CONFIG, "more than %d positions", MAX_POSITIONS);
        } else {
            rc = parse_position(one, &w->positions[w->n], err);
            w->n += rc == 0;
        }
    }
    free(copy);
    return rc != 0 || w->n > 0 ? rc : err_set(err, ERR_CONFIG, "positions is empty");
}

static int parse_single(struct job *j, struct read *w, struct err *err)
{
    const char *partition = net_request_query(j->req, "partition");
    const char *offset = net_request_query(j->req, "offset");
    w->single = 1;
    w->positions = calloc(1, sizeof(*w->positions));
    if (w->positions == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    w->n = 1;
    w->positions[0].until = INT64_MAX;
    w->positions[0].next = FROM_LATEST;
    TRY(parse_partition(partition == NULL ? "0" : partition, &w->positions[0].partition, err));
    return offset == NULL ? 0 : parse_offset(offset, &w->positions[0].next, err);
}

static int parse_number(struct job *j, const char *name, int64_t least, int64_t most, int64_t *ret,
                        struct err *err)
{
    const char *text = net_request_query(j->req, name);
    int64_t v = *ret;
    if (text != NULL && (str_to_i64(text, &v) != 0 || v < least)) {
        return err_set(err, ERR_CONFIG, "%s '%s' is not a number from %lld", name, text,
                       (long long)least);
    }
    *ret = v > most ? most : v;
    return 0;
}

static int parse_format(const char *text, enum format *ret, struct err *err)
{
    static const char *const names[] = {"json", "lines", "value"};
    for (size_t i = 0; text != NULL && i < 3; i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum format)i;
            return 0;
        }
    }
    *ret = FORMAT_JSON;
    return text == NULL ? 0 : err_set(err, ERR_CONFIG, "format is json, lines or value");
}

static int parse_query(struct job *j, struct read *w, struct err *err)
{
    int64_t wait_ms = 0;
    w->max_records = 1000;
    w->max_bytes = 1 << 20;
    TRY(parse_number(j, "max_records", 1, MAX_RECORDS, &w->max_records, err));
    TRY(parse_number(j, "max_bytes", 1, MAX_BYTES, &w->max_bytes, err));
    TRY(parse_number(j, "wait_ms", 0, MAX_WAIT_MS, &wait_ms, err));
    w->deadline_ms = clock_mono_ms() + wait_ms;
    TRY(parse_format(net_request_query(j->req, "format"), &w->format, err));
    const char *positions = net_request_query(j->req, "positions");
    return positions != NULL ? parse_positions(positions, w, err) : parse_single(j, w, err);
}

/* ---- reading ---- */

static int open_position(struct job *j, struct position *p, struct err *err)
{
    struct topic_partition_status s;
    struct topic_engine *e = j->rest->engine;
    TRY(topic_partition_status(e, j->seg[1], p->partition, &s, err));
    p->start = s.start_offset;
    p->end = s.end_offset;
    if (p->next == FROM_EARLIEST) {
        p->next = s.start_offset;
    } else if (p->next == FROM_LATEST) {
        p->next = s.end_offset;
    }
    return topic_reader_open(e, j->seg[1], p->partition, rest_job_wake, j, &p->reader, err);
}

static int full(const struct read *w)
{
    return w->records >= w->max_records || (int64_t)w->out.len >= w->max_bytes;
}

static int put_record(struct job *j, struct read *w, const struct position *p,
                      const struct record_view *v, struct err *err)
{
    if (w->format == FORMAT_VALUE) {
        buf_append(&w->out, v->value.ptr, v->value.len);
        buf_append_u8(&w->out, '\n');
    } else {
        if (w->format == FORMAT_JSON && w->records > 0) {
            buf_append_u8(&w->out, ',');
        }
        TRY(rest_record_json(&w->out, j->seg[1], p->partition, v, err));
        if (w->format == FORMAT_LINES) {
            buf_append_u8(&w->out, '\n');
        }
    }
    w->records++;
    return 0;
}

/* Puts the batch's records from p->next on; p->next moves along. */
static int put_batch(struct job *j, struct read *w, struct position *p,
                     const struct record_batch *b, struct err *err)
{
    struct record_iter it;
    struct record_view v;
    TRY(record_iter_init(&it, b, err));
    for (;;) {
        int more = record_iter_next(&it, &v, err);
        if (more <= 0) {
            return more;
        }
        if (v.offset < p->next) {
            continue;
        }
        if (v.offset >= p->until) {
            p->next = p->until;
            return 1;
        }
        if (full(w)) {
            return 1;
        }
        TRY(put_record(j, w, p, &v, err));
        p->next = v.offset + 1;
    }
}

/* Notes a batch that can't be shown and goes on behind it. */
static void skip(struct read *w, struct position *p, int64_t to, const struct err *err)
{
    (void)snprintf(w->skipped, sizeof(w->skipped), "%s", err->msg);
    p->next = to > p->next ? to : p->next + 1;
}

static int put_batches(struct job *j, struct read *w, struct position *p,
                       const struct topic_read *got)
{
    size_t at = 0;
    while (at < w->batches.len) {
        struct record_batch b;
        struct err err = ERR_INIT;
        size_t left = w->batches.len - at;
        int rc = record_batch_peek(w->batches.data + at, left, left, &b, &err);
        if (rc != 0) { /* the engine checked it: only a batch of another shape */
            skip(w, p, got->next_offset, &err);
            return 0;
        }
        rc = put_batch(j, w, p, &b, &err);
        if (rc > 0) {
            return 1;
        }
        int64_t behind = b.base_offset + b.last_offset_delta + 1;
        if (rc < 0) {
            (void)err_prefix(&err, "%s-%d at offset %lld", j->seg[1], (int)p->partition,
                             (long long)p->next);
            skip(w, p, behind, &err);
        }
        p->next = behind > p->next ? behind : p->next;
        at += b.bytes;
    }
    return 0;
}

/* 1: read something, or passed something over; 0: at its end; else an error. */
static int read_position(struct job *j, struct read *w, struct position *p, struct err *err)
{
    struct topic_read got = {0};
    buf_clear(&w->batches);
    if (p->next >= p->until) {
        return 0;
    }
    int rc = topic_read(p->reader, p->next, CHUNK_BYTES, &w->batches, &got, err);
    if (rc == ERR_CORRUPT) {
        skip(w, p, got.next_offset, err);
        return 1;
    }
    if (rc == ERR_LIMIT) {
        return err_set(err, ERR_LIMIT, "offset %lld of %s-%d is out of range, it has %lld to %lld",
                       (long long)p->next, j->seg[1], (int)p->partition,
                       (long long)got.start_offset, (long long)got.end_offset);
    }
    if (rc != 0) {
        return rc;
    }
    p->start = got.start_offset;
    p->end = got.end_offset;
    if (got.bytes == 0) {
        return 0;
    }
    int64_t before = p->next;
    if (put_batches(j, w, p, &got) == 0 && p->next == before) {
        p->next = got.next_offset; /* nothing but records from before the position */
    }
    return 1;
}

/* Goes around the positions until enough is there or all are at their end. */
static int read_round(struct job *j, struct read *w, struct err *err)
{
    int rc = 0;
    size_t idle = 0;
    while (rc >= 0 && idle < w->n && !full(w)) {
        rc = read_position(j, w, &w->positions[w->turn], err);
        idle = rc > 0 ? 0 : idle + 1;
        w->turn = (w->turn + 1) % w->n;
    }
    /* What was read before the error goes out; the next request meets it again. */
    return rc < 0 && w->records == 0 ? rc : 0;
}

/* ---- the answer ---- */

static void answer_json(struct job *j, struct read *w)
{
    struct buf body;
    buf_init(&body, OUT_BYTES + (1 << 20));
    buf_append_str(&body, "{\"records\":[");
    buf_append(&body, w->out.data, w->out.len);
    buf_append_str(&body, "],");
    if (!w->single) {
        buf_append_str(&body, "\"positions\":[");
    }
    for (size_t i = 0; i < w->n; i++) {
        const struct position *p = &w->positions[i];
        buf_printf(&body,
                   "%s%s\"partition\":%d,\"next_offset\":%lld,\"start_offset\":%lld,"
                   "\"end_offset\":%lld%s",
                   i == 0 ? "" : ",", w->single ? "" : "{", (int)p->partition, (long long)p->next,
                   (long long)p->start, (long long)p->end, w->single ? "" : "}");
    }
    buf_append_str(&body, w->single ? ",\"skipped\":" : "],\"skipped\":");
    rest_json_bytes(&body, slice_str(w->skipped[0] != '\0' ? w->skipped : NULL));
    buf_append_u8(&body, '}');
    rest_job_reply(j, 200, REST_JSON, &body);
    buf_free(&body);
}

static void answer_lines(struct job *j, struct read *w)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < w->n; i++) {
        const struct position *p = &w->positions[i];
        buf_printf(&text, "%s%d:%lld:%lld", i == 0 ? "" : ",", (int)p->partition,
                   (long long)p->next, (long long)p->end);
    }
    net_reply_header(j->req, "Connectd-Positions", buf_cstr(&text));
    buf_clear(&text);
    buf_printf(&text, "%lld", (long long)w->records);
    net_reply_header(j->req, "Connectd-Records", buf_cstr(&text));
    buf_free(&text);
    if (w->skipped[0] != '\0') {
        net_reply_header(j->req, "Connectd-Skipped", w->skipped);
    }
    struct buf body = w->out;
    buf_init(&w->out, 0);
    rest_job_reply(j, 200,
                   w->format == FORMAT_LINES ? "application/x-ndjson" : "application/octet-stream",
                   &body);
    buf_free(&body);
}

static void read_step(struct job *j)
{
    struct read *w = j->data;
    struct err err = ERR_INIT;
    int rc = 0;
    for (size_t i = 0; !w->opened && i < w->n && rc == 0; i++) {
        rc = open_position(j, &w->positions[i], &err);
    }
    w->opened = 1;
    if (rc == 0) {
        rc = read_round(j, w, &err);
    }
    if (rc != 0) {
        if (rc == ERR_LIMIT) {
            rest_job_reply_error(j, 416, "%s", err.msg);
        } else {
            rest_job_reply_err(j, &err);
        }
    } else if (w->records == 0 && w->skipped[0] == '\0' && clock_mono_ms() < w->deadline_ms &&
               !rest_job_is_gone(j)) {
        rest_job_wait(j, w->deadline_ms);
    } else if (w->format == FORMAT_JSON) {
        answer_json(j, w);
    } else {
        answer_lines(j, w);
    }
}

void rest_read_records(struct job *j)
{
    struct err err = ERR_INIT;
    struct read *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        rest_job_reply_error(j, 503, "out of memory");
        return;
    }
    buf_init(&w->out, OUT_BYTES);
    buf_init(&w->batches, OUT_BYTES);
    j->data = w;
    j->free_data = read_free;
    if (parse_query(j, w, &err) != 0) {
        rest_job_reply_err(j, &err);
        return;
    }
    j->step = read_step;
    read_step(j);
}
