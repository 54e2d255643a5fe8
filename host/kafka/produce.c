/*
 * Units on their way to the cluster: taken apart into messages, followed by their delivery reports, step
 * by step (appends, state, offsets), one at a time within a stream.
 *
 * Threads: the first step runs where the unit is submitted, later steps and `done` on the event thread. A
 * unit that a topic has to be looked up for starts on the worker, and units without a stream that come
 * behind it follow there, so order within a partition is the order of submission.
 * Durable: acks=all, so when `done` says 0 every in-sync replica has all of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/kafka_int.h"
#include "record/record.h"

#define AGAIN_MS 50

enum step { STEP_APPENDS, STEP_STATE, STEP_OFFSETS };

struct mark { /* a message's opaque: which append of which job */
    struct kafka_job *job;
    int64_t base_offset;
};

struct kafka_job {
    struct kafka_job *next;   /* among those that ended */
    struct kafka_job *behind; /* in its stream's queue, at the same time */
    struct kafka *k;
    struct kafka_unit *u;
    struct kafka_task task;
    int step;
    int cancelled; /* never was in its stream's queue, or was taken out of it */
    size_t bytes, msgs;
    size_t remaining;                 /* messages of this step without a report */
    int64_t again_ms, again_until_ms; /* a commit that is repeated: when, and how long */
    struct err err;
    struct mark marks[]; /* appends, then state */
};

struct kafka_stream {
    struct kafka *k;
    struct kafka_job *head, *tail; /* the head is on its way, the others wait */
    int failed;
};

static void push(struct kafka_job_list *l, struct kafka_job *j)
{
    j->next = NULL;
    if (l->tail != NULL) {
        l->tail->next = j;
    } else {
        l->head = j;
    }
    l->tail = j;
}

static struct kafka_job *pop(struct kafka_job_list *l)
{
    struct kafka_job *j = l->head;
    if (j != NULL) {
        l->head = j->next;
        if (l->head == NULL) {
            l->tail = NULL;
        }
    }
    return j;
}

static void enqueue(struct kafka_stream *s, struct kafka_job *j)
{
    j->behind = NULL;
    if (s->tail != NULL) {
        s->tail->behind = j;
    } else {
        s->head = j;
    }
    s->tail = j;
}

static struct kafka_job *dequeue(struct kafka_stream *s)
{
    struct kafka_job *j = s->head;
    if (j != NULL) {
        s->head = j->behind;
        if (s->head == NULL) {
            s->tail = NULL;
        }
    }
    return j;
}

int kafka_stream_open(struct kafka *k, struct kafka_stream **ret, struct err *err)
{
    struct kafka_stream *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a stream");
    }
    s->k = k;
    *ret = s;
    return 0;
}

void kafka_stream_reset(struct kafka_stream *s)
{
    mutex_lock(&s->k->lock);
    s->failed = 0;
    mutex_unlock(&s->k->lock);
}

void kafka_stream_close(struct kafka_stream *s)
{
    free(s);
}

/* ---- the producer ---- */

int kafka_producer_start(struct kafka *k, struct err *err)
{
    /* Admission is ours (KAFKA_IN_FLIGHT_*), so librdkafka's own limits are out of the way. */
    static const char *const ours[] = {"enable.idempotence",
                                       "true",
                                       "acks",
                                       "all",
                                       "queue.buffering.max.messages",
                                       "2000000",
                                       "queue.buffering.max.kbytes",
                                       "1048576",
                                       "linger.ms",
                                       "1",
                                       NULL};
    rd_kafka_conf_t *conf = kafka_conf(k, ours, err);
    if (conf == NULL) {
        return ERR_CONFIG;
    }
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    rd_kafka_t *rk = kafka_handle(RD_KAFKA_PRODUCER, conf, err);
    if (rk == NULL) {
        return ERR_CONFIG;
    }
    k->producer = rk;
    k->producer_queue = rd_kafka_queue_get_main(rk);
    kafka_queue_kicks(k, k->producer_queue);
    return 0;
}

void kafka_producer_stop(struct kafka *k)
{
    if (k->producer != NULL) {
        rd_kafka_queue_cb_event_enable(k->producer_queue, NULL, NULL);
        rd_kafka_queue_destroy(k->producer_queue);
        rd_kafka_destroy(k->producer);
        k->producer = NULL;
    }
}

/* ---- steps ---- */

static void finish(struct kafka_job *j)
{
    struct kafka *k = j->k;
    mutex_lock(&k->lock);
    push(&k->finished, j);
    mutex_unlock(&k->lock);
    kafka_kick(k);
}

static void fail(struct kafka_job *j, const struct err *err)
{
    err_copy(&j->err, err);
    finish(j);
}

static rd_kafka_headers_t *headers_of(const struct record_view *v)
{
    if (v->n_headers == 0) {
        return NULL;
    }
    rd_kafka_headers_t *h = rd_kafka_headers_new((size_t)v->n_headers);
    struct cursor c;
    struct record_header header;
    cursor_init(&c, v->headers, v->headers_len);
    while (record_headers_next(&c, &header) == 1) {
        (void)rd_kafka_header_add(h, (const char *)header.name.ptr, (ssize_t)header.name.len,
                                  header.value.ptr, (ssize_t)header.value.len);
    }
    return h;
}

/* librdkafka only reads what it is lent. */
static void *lent(const void *p)
{
    return (void *)(uintptr_t)p;
}

static int produce_record(struct kafka *k, rd_kafka_topic_t *t, int32_t partition,
                          const struct record_view *v, struct mark *mark, struct err *err)
{
    rd_kafka_headers_t *h = headers_of(v);
    rd_kafka_vu_t vus[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = t},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {lent(v->key.ptr), v->key.len}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {lent(v->value.ptr), v->value.len}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = v->timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = mark},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = h},
    };
    size_t n = sizeof(vus) / sizeof(vus[0]) - (h == NULL);
    rd_kafka_error_t *e = rd_kafka_produceva(k->producer, vus, n);
    if (e == NULL) {
        return 0;
    }
    rd_kafka_resp_err_t code = rd_kafka_error_code(e);
    rd_kafka_error_destroy(e);
    if (h != NULL) {
        rd_kafka_headers_destroy(h);
    }
    return kafka_err(err, code, "sending a record");
}

/* *ret_sent counts the messages that will have a report. */
static int produce_append(struct kafka *k, const struct kafka_append *a, struct mark *mark,
                          size_t *ret_sent, struct err *err)
{
    rd_kafka_topic_t *t = rd_kafka_topic_new(k->producer, a->topic, NULL);
    if (t == NULL) {
        return kafka_err(err, rd_kafka_last_error(), "topic %s", a->topic);
    }
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < a->len;) {
        struct record_batch b;
        struct record_iter it;
        struct record_view v;
        rc = record_batch_peek(a->batches + at, a->len - at, a->len - at, &b, err);
        if (rc == 0) {
            rc = record_iter_init(&it, &b, err);
        }
        while (rc == 0 && (rc = record_iter_next(&it, &v, err)) == 1) {
            rc = produce_record(k, t, a->partition, &v, mark, err);
            *ret_sent += rc == 0;
        }
        at += rc == 0 ? b.bytes : 0;
    }
    rd_kafka_topic_destroy(t);
    return rc < 0 ? err_prefix(err, "%s-%d", a->topic, a->partition) : 0;
}

static int64_t count_records(const struct kafka_append *a, size_t n, struct err *err)
{
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t at = 0; at < a[i].len;) {
            struct record_batch b;
            TRY(record_batch_peek(a[i].batches + at, a[i].len - at, a[i].len - at, &b, err));
            if ((b.attributes & 7) != RECORD_CODEC_NONE) {
                return err_set(err, ERR_UNSUPPORTED,
                               "%s-%d: compressed batches cannot be sent to Kafka yet", a[i].topic,
                               a[i].partition);
            }
            count += b.count;
            at += b.bytes;
        }
    }
    return count;
}

static void advance(struct kafka_job *j);

/* Sends one step's messages. `remaining` counts all of them first, so that reports that come meanwhile don't
 * end the step. @locks none */
static void produce_step(struct kafka_job *j, const struct kafka_append *a, size_t n,
                         struct mark *marks)
{
    struct kafka *k = j->k;
    struct err err = ERR_INIT;
    size_t sent = 0;
    int64_t total = count_records(a, n, &err);
    int rc = total < 0 ? (int)total : 0;
    mutex_lock(&k->lock);
    if (rc == 0 && k->broken) {
        rc = err_set(&err, ERR_RETRIABLE, "%s", k->reason);
    }
    size_t counted = rc == 0 ? (size_t)total : 0;
    j->remaining = counted;
    k->outstanding += counted;
    k->producing++;
    mutex_unlock(&k->lock);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = produce_append(k, &a[i], &marks[i], &sent, &err);
    }
    mutex_lock(&k->lock);
    k->producing--;
    int over = rc == 0 && counted == 0;
    if (rc <
        0) { /* the rest will have no report; this thread ends the step if nothing else is out */
        size_t unsent = counted - sent;
        if (j->err.code == 0) {
            err_copy(&j->err, &err);
        }
        j->remaining -= unsent;
        k->outstanding -= unsent;
        over = j->remaining == 0;
    }
    mutex_unlock(&k->lock);
    if (over) {
        advance(j);
    }
}

/* What follows when a step is over. @locks none */
static void advance(struct kafka_job *j)
{
    struct kafka_unit *u = j->u;
    if (j->err.code != 0) {
        finish(j);
        return;
    }
    j->step++;
    if (j->step == STEP_STATE && u->n_state == 0) {
        j->step++;
    }
    if (j->step == STEP_STATE) {
        produce_step(j, u->state, u->n_state, j->marks + u->n_appends);
    } else if (j->step == STEP_OFFSETS && u->n_offsets > 0) {
        kafka_offsets_commit(j->k, j, u);
    } else {
        finish(j);
    }
}

void kafka_job_committed(struct kafka_job *j, const struct err *err)
{
    fail(j, err); /* with code 0: the unit is done */
}

void kafka_job_commit_again(struct kafka_job *j, const struct err *err)
{
    struct kafka *k = j->k;
    int64_t now = clock_mono_ms();
    if (j->again_until_ms == 0) {
        j->again_until_ms = now + KAFKA_WAIT_MS;
    }
    if (now > j->again_until_ms) {
        fail(j, err);
        return;
    }
    j->again_ms = now + AGAIN_MS;
    mutex_lock(&k->lock);
    push(&k->again, j);
    mutex_unlock(&k->lock);
}

static void commit_again(struct kafka *k)
{
    int64_t now = clock_mono_ms();
    for (;;) {
        mutex_lock(&k->lock);
        struct kafka_job *j = k->again.head; /* in the order of their times */
        if (j != NULL) {
            j = j->again_ms <= now ? pop(&k->again) : NULL;
        }
        mutex_unlock(&k->lock);
        if (j == NULL) {
            return;
        }
        kafka_offsets_commit(k, j, j->u);
    }
}

static void begin(struct kafka_job *j)
{
    if (j->u->n_appends > 0) {
        produce_step(j, j->u->appends, j->u->n_appends, j->marks);
    } else {
        advance(j);
    }
}

/* ---- starting ---- */

/* @locks lock */
static int all_known(struct kafka *k, const struct kafka_append *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!kafka_topic_known(k, a[i].topic)) {
            return 0;
        }
    }
    return 1;
}

static int look_up(struct kafka *k, const struct kafka_append *a, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        mutex_lock(&k->lock);
        int known = kafka_topic_known(k, a[i].topic);
        mutex_unlock(&k->lock);
        struct kafka_topic_info info;
        if (!known) {
            TRY(kafka_topic_info(k, a[i].topic, &info, err));
        }
    }
    return 0;
}

/* On the worker: a topic that was never seen would be made by the cluster's own rules when written to. */
static void start_deferred(struct kafka *k, void *arg)
{
    struct kafka_job *j = arg;
    struct err err = ERR_INIT;
    int rc = look_up(k, j->u->appends, j->u->n_appends, &err);
    if (rc == 0) {
        rc = look_up(k, j->u->state, j->u->n_state, &err);
    }
    if (rc == 0) {
        begin(j);
    } else {
        fail(j, &err);
    }
    mutex_lock(&k->lock);
    k->deferred--;
    mutex_unlock(&k->lock);
}

/* Whether the job may begin at once; else the worker begins it. @locks lock */
static int may_begin(struct kafka *k, struct kafka_job *j)
{
    const struct kafka_unit *u = j->u;
    if (k->deferred == 0 && all_known(k, u->appends, u->n_appends) &&
        all_known(k, u->state, u->n_state)) {
        return 1;
    }
    k->deferred++;
    j->task.run = start_deferred;
    j->task.arg = j;
    kafka_task_add(k, &j->task);
    return 0;
}

/* @locks lock */
static int admit(struct kafka *k, struct kafka_job *j, int *ret_begin, struct err *err)
{
    struct kafka_stream *s = j->u->stream;
    if (k->in_flight_msgs + k->in_flight_bytes > 0 &&
        (k->in_flight_bytes + j->bytes > KAFKA_IN_FLIGHT_BYTES ||
         k->in_flight_msgs + j->msgs > KAFKA_IN_FLIGHT_MSGS)) {
        return err_set(err, ERR_LIMIT, "%zu bytes are on their way to Kafka already",
                       k->in_flight_bytes);
    }
    if (j->u->n_offsets > 0) {
        TRY(kafka_members_check(k, j->u, err));
    }
    k->in_flight_bytes += j->bytes;
    k->in_flight_msgs += j->msgs;
    *ret_begin = 0;
    if (s != NULL && s->failed) {
        j->cancelled = 1;
        (void)err_set(&j->err, ERR_CANCELLED, "an earlier unit of the stream failed");
        push(&k->finished, j);
        return 0;
    }
    int waits = s != NULL && s->head != NULL;
    if (s != NULL) {
        enqueue(s, j);
    }
    *ret_begin = !waits && may_begin(k, j);
    return 0;
}

static size_t bytes_of(const struct kafka_append *a, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += a[i].len;
    }
    return bytes;
}

int kafka_submit(struct kafka *k, struct kafka_unit *u, struct err *err)
{
    int64_t appends = count_records(u->appends, u->n_appends, err);
    int64_t state = appends < 0 ? appends : count_records(u->state, u->n_state, err);
    if (state < 0) {
        return (int)state;
    }
    size_t n = u->n_appends + u->n_state;
    struct kafka_job *j = calloc(1, sizeof(*j) + n * sizeof(struct mark));
    if (j == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a commit unit");
    }
    j->k = k;
    j->u = u;
    j->bytes = bytes_of(u->appends, u->n_appends) + bytes_of(u->state, u->n_state) + sizeof(*j);
    j->msgs = (size_t)(appends + state);
    for (size_t i = 0; i < n; i++) {
        j->marks[i] = (struct mark){.job = j, .base_offset = -1};
    }
    int now = 0;
    mutex_lock(&k->lock);
    int rc = admit(k, j, &now, err);
    mutex_unlock(&k->lock);
    if (rc < 0) {
        free(j);
        return rc;
    }
    if (now) {
        begin(j);
    } else {
        kafka_kick(k);
    }
    return 0;
}

/* ---- the event thread ---- */

/* One message's report; the jobs whose step it ended go to `over`. @locks lock */
static void report(struct kafka *k, const rd_kafka_message_t *m, struct kafka_job_list *over)
{
    struct mark *mark = m->_private;
    struct kafka_job *j = mark->job;
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (j->err.code == 0) {
            (void)kafka_err(&j->err, m->err, "%s-%d: a record was not taken",
                            rd_kafka_topic_name(m->rkt), m->partition);
        }
    } else if (m->offset >= 0 && (mark->base_offset < 0 || m->offset < mark->base_offset)) {
        mark->base_offset = m->offset;
    }
    k->down = k->down && m->err != RD_KAFKA_RESP_ERR_NO_ERROR;
    k->outstanding--;
    if (--j->remaining == 0) {
        push(over, j);
    }
}

static void reports(struct kafka *k, rd_kafka_event_t *ev)
{
    struct kafka_job_list over = {NULL, NULL};
    const rd_kafka_message_t *m;
    mutex_lock(&k->lock);
    while ((m = rd_kafka_event_message_next(ev)) != NULL) {
        report(k, m, &over);
    }
    mutex_unlock(&k->lock);
    struct kafka_job *j;
    while ((j = pop(&over)) != NULL) {
        advance(j);
    }
}

static void trouble(struct kafka *k, rd_kafka_event_t *ev)
{
    if (rd_kafka_event_error(ev) == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        mutex_lock(&k->lock);
        k->down = 1;
        (void)snprintf(k->reason, sizeof(k->reason), "Kafka: %s", rd_kafka_event_error_string(ev));
        mutex_unlock(&k->lock);
    }
}

/* Asked for rather than heard of: events name the cause and not always that it is fatal. */
static void notice_fatal(struct kafka *k)
{
    char text[200];
    if (rd_kafka_fatal_error(k->producer, text, sizeof(text)) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        return;
    }
    mutex_lock(&k->lock);
    int first = !k->broken;
    k->broken = 1;
    (void)snprintf(k->reason, sizeof(k->reason), "Kafka: %s", text);
    mutex_unlock(&k->lock);
    if (first) {
        LOG_ERROR("kafka", "the producer failed and is made anew: %s", text);
    }
}

/* A fatal error is for ever in librdkafka: when nothing is left inside, another producer takes over. */
static void replace_broken(struct kafka *k)
{
    mutex_lock(&k->lock);
    int ready = k->broken && k->outstanding == 0 && k->producing == 0;
    mutex_unlock(&k->lock);
    if (!ready) {
        return;
    }
    /* Nobody else reaches the producer while it is broken. */
    struct err err = ERR_INIT;
    rd_kafka_t *old = k->producer;
    rd_kafka_queue_t *old_queue = k->producer_queue;
    if (kafka_producer_start(k, &err) < 0) {
        LOG_ERROR("kafka", "%s", err.msg);
        return;
    }
    rd_kafka_queue_cb_event_enable(old_queue, NULL, NULL);
    rd_kafka_queue_destroy(old_queue);
    rd_kafka_destroy(old);
    mutex_lock(&k->lock);
    k->broken = 0;
    mutex_unlock(&k->lock);
}

/* Takes a finished job out of its stream. What waited behind a failed one ends with it; else the next one may
 * start: returned. @locks lock */
static struct kafka_job *leave_stream(struct kafka *k, struct kafka_job *j)
{
    struct kafka_stream *s = j->u->stream;
    if (s == NULL || j->cancelled) {
        return NULL;
    }
    BUG_ON(dequeue(s) != j);
    if (j->err.code != 0) {
        struct kafka_job *w;
        s->failed = 1;
        while ((w = dequeue(s)) != NULL) {
            w->cancelled = 1;
            (void)err_set(&w->err, ERR_CANCELLED, "an earlier unit of the stream failed");
            push(&k->finished, w);
        }
    }
    struct kafka_job *next = s->head;
    return next != NULL && may_begin(k, next) ? next : NULL;
}

static void finish_all(struct kafka *k)
{
    for (;;) {
        mutex_lock(&k->lock);
        struct kafka_job *j = pop(&k->finished);
        struct kafka_job *next = NULL;
        if (j != NULL) {
            next = leave_stream(k, j);
            k->in_flight_bytes -= j->bytes;
            k->in_flight_msgs -= j->msgs;
        }
        mutex_unlock(&k->lock);
        if (j == NULL) {
            return;
        }
        struct kafka_unit *u = j->u;
        for (size_t i = 0; i < u->n_appends; i++) {
            u->appends[i].ret_base_offset = j->marks[i].base_offset;
        }
        for (size_t i = 0; i < u->n_state; i++) {
            u->state[i].ret_base_offset = j->marks[u->n_appends + i].base_offset;
        }
        u->done(u, &j->err);
        free(j);
        if (next != NULL) {
            begin(next);
        }
    }
}

void kafka_producer_serve(struct kafka *k)
{
    rd_kafka_event_t *ev;
    while ((ev = rd_kafka_queue_poll(k->producer_queue, 0)) != NULL) {
        switch (rd_kafka_event_type(ev)) {
        case RD_KAFKA_EVENT_DR:
            reports(k, ev);
            break;
        case RD_KAFKA_EVENT_ERROR:
            trouble(k, ev);
            break;
        default:
            break;
        }
        rd_kafka_event_destroy(ev);
    }
    commit_again(k);
    finish_all(k);
    notice_fatal(k);
    replace_broken(k);
}
