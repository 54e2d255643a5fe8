/* connectd topic read and write: records between the host and stdin or stdout. */
#include "daemon/cmd_topic_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "codec/codec.h"
#include "topic/topic.h"

enum {
    MAX_POSITIONS = 1000,    /* partitions that are read at once: REST's limit */
    READ_RECORDS = 1000,     /* a request of `read` */
    POLL_MS = 1000,          /* how long a request of `read` waits for records */
    STDIN_BYTES = 256 << 10, /* read at once by `write` */
    LINE_BYTES = 1536 << 10,
    BATCH_BYTES = 1 << 20, /* of lines in a request of `write` */
    BATCH_LINES = 5000,
};

/* ---- read ---- */

struct position {
    int64_t partition, next, until;
};

struct reading {
    const struct topic_args *a;
    struct position at[MAX_POSITIONS];
    size_t n;
    int64_t records;
    int64_t last_ms; /* when a record came, or the reading began */
};

/* Where to begin, from what the topic is now. */
static int begin_reading(struct reading *r, const json_t *topic, struct err *err)
{
    const struct topic_args *a = r->a;
    json_t *list = json_object_get(topic, "partitions");
    size_t n = json_array_size(list);
    if (a->partition >= (int64_t)n) {
        return err_set(err, ERR_NOT_FOUND, "%s has partitions 0 to %zu only", a->topic, n - 1);
    }
    if (a->partition < 0 && n > MAX_POSITIONS) {
        return err_set(err, ERR_CONFIG, "%s has %zu partitions; name one with --partition",
                       a->topic, n);
    }
    if (a->offset >= 0 && a->partition < 0 && n > 1) {
        return err_set(err, ERR_CONFIG, "--offset needs --partition: %s has %zu partitions",
                       a->topic, n);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *p = json_array_get(list, i);
        if (a->partition >= 0 && cmd_topic_number(p, "partition") != a->partition) {
            continue;
        }
        struct position *to = &r->at[r->n++];
        int64_t start = cmd_topic_number(p, "start_offset");
        int64_t end = cmd_topic_number(p, "end_offset");
        to->partition = cmd_topic_number(p, "partition");
        to->next = a->from_beginning ? start : a->offset >= 0 ? a->offset : end;
        to->until = a->until_end ? end : INT64_MAX;
        if (to->next > end || to->next < start) {
            return err_set(err, ERR_LIMIT,
                           "offset %lld of %s-%lld is out of range, it has %lld to %lld",
                           (long long)to->next, a->topic, (long long)to->partition,
                           (long long)start, (long long)end);
        }
    }
    return 0;
}

static int at_end(const struct reading *r)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->at[i].next < r->at[i].until) {
            return 0;
        }
    }
    return 1;
}

/* How long the next request may wait for a record. */
static int64_t wait_ms(const struct reading *r)
{
    int64_t left = r->a->until_end ? 0 : POLL_MS;
    if (r->a->timeout_ms >= 0) {
        int64_t until = r->last_ms + r->a->timeout_ms - clock_mono_ms();
        left = until < left ? until : left;
    }
    return left < 0 ? 0 : left;
}

static void build_path(const struct reading *r, struct buf *out)
{
    int64_t most = READ_RECORDS;
    if (r->a->max_messages >= 0 && r->a->max_messages - r->records < most) {
        most = r->a->max_messages - r->records;
    }
    buf_printf(out,
               "/topics/%s/records?format=%s&max_records=%lld&wait_ms=%lld&positions=", r->a->topic,
               r->a->format != NULL && strcmp(r->a->format, "value") == 0 ? "value" : "lines",
               (long long)most, (long long)wait_ms(r));
    for (size_t i = 0; i < r->n; i++) {
        const struct position *p = &r->at[i];
        buf_printf(out, "%s%lld:%lld", i == 0 ? "" : ",", (long long)p->partition,
                   (long long)p->next);
        if (p->until != INT64_MAX) {
            buf_printf(out, ":%lld", (long long)p->until);
        }
    }
}

/* "P:NEXT:END,..." in the order asked for. 1 if any position moved. */
static int move_on(struct reading *r, const char *text)
{
    int moved = 0;
    for (size_t i = 0; i < r->n; i++) {
        const char *colon = strchr(text, ':');
        const char *comma = strchrnul(text, ',');
        if (colon == NULL) {
            break;
        }
        int64_t next = strtoll(colon + 1, NULL, 10);
        moved |= next != r->at[i].next;
        r->at[i].next = next;
        text = *comma == ',' ? comma + 1 : comma;
    }
    return moved;
}

/* One request, and what it brought to stdout. *ret_done: there is nothing more to come. */
static int read_some(struct topic_host *h, struct reading *r, char *room, size_t cap, int *ret_done,
                     struct err *err)
{
    struct buf path;
    struct net_response resp;
    char text[32];
    buf_init(&path, 64 << 10);
    build_path(r, &path);
    int rc = cmd_topic_ask(h, "GET", buf_cstr(&path), NULL, 200, &resp, err);
    buf_free(&path);
    TRY(rc);
    if (net_response_header(&resp, "Connectd-Skipped", room, cap)) {
        (void)fprintf(stderr, "connectd topic read: passed over: %s\n", room);
    }
    int moved = net_response_header(&resp, "Connectd-Positions", room, cap) && move_on(r, room);
    int64_t n = 0;
    if (net_response_header(&resp, "Connectd-Records", text, sizeof(text))) {
        n = strtoll(text, NULL, 10);
    }
    rc = cmd_topic_put(resp.body.data, resp.body.len, err);
    net_response_free(&resp);
    int64_t now = clock_mono_ms();
    r->records += n;
    r->last_ms = n > 0 ? now : r->last_ms;
    *ret_done = cmd_topic_interrupted ||
                (r->a->max_messages >= 0 && r->records >= r->a->max_messages) ||
                (r->a->until_end && (at_end(r) || (n == 0 && !moved))) ||
                (r->a->timeout_ms >= 0 && now - r->last_ms >= r->a->timeout_ms);
    return rc;
}

int cmd_topic_read(struct topic_host *h, const struct topic_args *a, struct err *err)
{
    enum { ROOM = 100 << 10 };
    json_t *topic = NULL;
    TRY(cmd_topic_describe(h, a->topic, &topic, err));
    struct reading *r = calloc(1, sizeof(*r));
    char *room = malloc(ROOM);
    int rc = r != NULL && room != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    if (rc == 0) {
        r->a = a;
        r->last_ms = clock_mono_ms();
        rc = begin_reading(r, topic, err);
    }
    int done = rc == 0 && (a->max_messages == 0 || (a->until_end && at_end(r)));
    while (rc == 0 && !done) {
        rc = read_some(h, r, room, ROOM, &done, err);
    }
    json_decref(topic);
    free(room);
    free(r);
    return rc;
}

/* ---- write ---- */

struct writing {
    struct topic_host *h;
    const struct topic_args *a;
    struct buf in;    /* what was read and not written yet */
    struct buf body;  /* the request being made */
    size_t raw_bytes; /* of the lines in it */
    int64_t in_body;  /* lines in it */
    int64_t line;     /* of stdin, from 1, for messages */
};

/* JSON text of bytes: plain text as a string, all else as base64. */
static void put_bytes(struct buf *out, struct slice s)
{
    int plain = str_is_utf8(s.ptr, s.len);
    for (size_t i = 0; plain && i < s.len; i++) {
        plain = s.ptr[i] >= ' ' || s.ptr[i] == '\t';
    }
    if (!plain) {
        buf_append_str(out, "{\"base64\":\"");
        codec_base64_put(out, s.ptr, s.len);
        buf_append_str(out, "\"}");
        return;
    }
    buf_append_u8(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\t') {
            buf_append_str(out, "\\t");
            continue;
        }
        if (s.ptr[i] == '"' || s.ptr[i] == '\\') {
            buf_append_u8(out, '\\');
        }
        buf_append_u8(out, s.ptr[i]);
    }
    buf_append_u8(out, '"');
}

/* Sends what is gathered and prints where it went. */
static int send_lines(struct writing *w, struct err *err)
{
    if (w->in_body == 0) {
        return 0;
    }
    char path[300];
    json_t *places = NULL;
    struct buf lines;
    buf_append_u8(&w->body, ']');
    if (w->body.error != 0) {
        return err_set(err, w->body.error, "line %lld: too much at once", (long long)w->line);
    }
    (void)snprintf(path, sizeof(path), "/topics/%s/records", w->a->topic);
    TRY(cmd_topic_ask_json(w->h, "POST", path, &w->body, 200, &places, err));
    buf_init(&lines, 0);
    for (size_t i = 0; i < json_array_size(places); i++) {
        codec_json_write(json_array_get(places, i), &lines);
        buf_append_u8(&lines, '\n');
    }
    int rc = cmd_topic_put(lines.data, lines.len, err);
    buf_free(&lines);
    json_decref(places);
    buf_clear(&w->body);
    w->raw_bytes = 0;
    w->in_body = 0;
    return rc;
}

static int add_line(struct writing *w, struct slice line, struct err *err)
{
    struct slice key = slice_of(NULL, 0);
    w->line++;
    if (line.len > LINE_BYTES) {
        return err_set(err, ERR_LIMIT, "line %lld has %zu bytes, the limit is %d",
                       (long long)w->line, line.len, LINE_BYTES);
    }
    if (w->a->separator != NULL) {
        size_t n = strlen(w->a->separator);
        const uint8_t *at = memmem(line.ptr, line.len, w->a->separator, n);
        if (at == NULL) {
            return err_set(err, ERR_DATA, "line %lld has no key separator '%s'", (long long)w->line,
                           w->a->separator);
        }
        key = slice_of(line.ptr, (size_t)(at - line.ptr));
        line = slice_of(at + n, line.len - key.len - n);
    }
    if (w->in_body > 0 &&
        (w->raw_bytes + key.len + line.len > BATCH_BYTES || w->in_body == BATCH_LINES)) {
        TRY(send_lines(w, err));
    }
    buf_append_str(&w->body, w->in_body == 0 ? "[{\"value\":" : ",{\"value\":");
    put_bytes(&w->body, line);
    if (key.ptr != NULL) {
        buf_append_str(&w->body, ",\"key\":");
        put_bytes(&w->body, key);
    }
    if (w->a->partition >= 0) {
        buf_printf(&w->body, ",\"partition\":%lld", (long long)w->a->partition);
    }
    buf_append_u8(&w->body, '}');
    w->raw_bytes += key.len + line.len;
    w->in_body++;
    return 0;
}

/* All whole lines of `in`, and at the end of stdin the rest. Lines before a bad one are written. */
static int take_lines(struct writing *w, int end, struct err *err)
{
    size_t from = 0;
    int rc = 0;
    while (rc == 0 && from < w->in.len) {
        const uint8_t *p = w->in.data + from;
        const uint8_t *lf = memchr(p, '\n', w->in.len - from);
        if (lf == NULL && !end && w->in.len - from <= LINE_BYTES) {
            break;
        }
        size_t n = lf != NULL ? (size_t)(lf - p) : w->in.len - from;
        rc = add_line(w, slice_of(p, n), err);
        from += n + (lf != NULL);
    }
    struct err first = ERR_INIT;
    err_copy(&first, err);
    int sent = send_lines(w, err);
    if (rc != 0 && sent == 0) {
        err_copy(err, &first);
    }
    memmove(w->in.data, w->in.data + from, w->in.len - from);
    w->in.len -= from;
    return sent != 0 ? sent : rc;
}

int cmd_topic_write(struct topic_host *h, const struct topic_args *a, struct err *err)
{
    struct writing w = {.h = h, .a = a};
    json_t *topic = NULL;
    /* An internal or a missing topic is told before a line is read. */
    if (topic_is_internal(a->topic)) {
        return err_set(err, ERR_CONFIG, "%s is one of the host's own topics", a->topic);
    }
    TRY(cmd_topic_describe(h, a->topic, &topic, err));
    json_decref(topic);
    buf_init(&w.in, (size_t)8 << 20);
    buf_init(&w.body, (size_t)16 << 20);
    int rc = 0;
    int end = 0;
    while (rc == 0 && !end && !cmd_topic_interrupted) {
        uint8_t *room = buf_reserve(&w.in, STDIN_BYTES);
        ssize_t n = room == NULL ? -1 : read(STDIN_FILENO, room, STDIN_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            rc = err_set_errno(err, ERR_IO, "stdin");
            break;
        }
        w.in.len += (size_t)n;
        end = n == 0;
        if (w.in.len > 0) {
            rc = take_lines(&w, end, err);
        }
    }
    buf_free(&w.in);
    buf_free(&w.body);
    return rc;
}
