/*
 * Readers: librdkafka fetches in the background, messages become batches again.
 *
 * A consumer of librdkafka has one position a partition, so readers share a consumer (a fetcher) only as long as their
 * partitions differ; a second reader of a partition opens a second one. Each reader has a queue of its own,
 * made anew at every seek, so that nothing of an earlier position can come after it.
 *
 * Threads: reads run where they are called, one at a time a reader; wakes on the event thread.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka/kafka_int.h"
#include "record/record.h"

#define CONSUME_MAX 256 /* messages taken out of the queue at once */

struct kafka_fetcher {
    struct kafka_fetcher *next;
    rd_kafka_t *rk;
    struct map *used; /* "topic-partition" */
};

enum range { RANGE_FINE, RANGE_ASKED, RANGE_KNOWN };

struct kafka_reader {
    struct kafka_reader *next;
    struct kafka *k;
    struct kafka_fetcher *fetcher;
    char *topic;
    char *place; /* "topic-partition" */
    int32_t partition;
    rd_kafka_topic_t *rkt;
    rd_kafka_queue_t *queue; /* NULL: not started */
    int64_t position;        /* what the queue gives next */
    rd_kafka_message_t *messages[CONSUME_MAX];
    size_t n_messages, at_message;
    struct record_header *headers;
    size_t cap_headers;
    void (*wake)(void *arg);
    void *arg;
    atomic_int armed; /* a read found nothing */
    atomic_int due;   /* something came since */
    /* @locks lock */
    int waking;
    enum range range; /* the position lies outside; the worker asks for the bounds */
    int busy;         /* the worker has the task */
    int64_t start, end;
    struct kafka_task task;
};

/* ---- fetchers ---- */

/* @locks lock */
static int take_place(struct kafka *k, const char *place, struct kafka_fetcher **ret,
                      struct err *err)
{
    static const char *const ours[] = {"auto.offset.reset",
                                       "error",
                                       "isolation.level",
                                       "read_committed",
                                       "allow.auto.create.topics",
                                       "false",
                                       "enable.auto.commit",
                                       "false",
                                       "check.crcs",
                                       "true",
                                       "queued.max.messages.kbytes",
                                       "16384",
                                       NULL};
    struct kafka_fetcher *f = k->fetchers;
    while (f != NULL && map_get(f->used, place) != NULL) {
        f = f->next;
    }
    if (f == NULL) {
        rd_kafka_conf_t *conf = kafka_conf(k, ours, err);
        rd_kafka_t *rk = conf != NULL ? kafka_handle(RD_KAFKA_CONSUMER, conf, err) : NULL;
        if (rk == NULL) {
            return ERR_CONFIG;
        }
        f = calloc(1, sizeof(*f));
        struct map *used = map_new(NULL);
        if (f == NULL || used == NULL) {
            free(f);
            map_free(used);
            rd_kafka_destroy(rk);
            return err_set(err, ERR_NOMEM, "no memory for a reader of %s", place);
        }
        f->rk = rk;
        f->used = used;
        f->next = k->fetchers;
        k->fetchers = f;
    }
    if (map_put(f->used, place, f) < 0) {
        return err_set(err, ERR_NOMEM, "no memory for a reader of %s", place);
    }
    *ret = f;
    return 0;
}

void kafka_fetchers_free(struct kafka *k)
{
    while (k->fetchers != NULL) {
        struct kafka_fetcher *f = k->fetchers;
        k->fetchers = f->next;
        rd_kafka_destroy(f->rk);
        map_free(f->used);
        free(f);
    }
}

/* ---- starting and seeking ---- */

static void on_arrival(rd_kafka_t *rk, void *opaque)
{
    struct kafka_reader *r = opaque;
    (void)rk;
    atomic_store(&r->due, 1);
    kafka_kick(r->k);
}

static void drop_messages(struct kafka_reader *r)
{
    while (r->at_message < r->n_messages) {
        rd_kafka_message_destroy(r->messages[r->at_message++]);
    }
    r->n_messages = 0;
    r->at_message = 0;
}

static void stop(struct kafka_reader *r)
{
    drop_messages(r);
    if (r->queue != NULL) {
        rd_kafka_queue_cb_event_enable(r->queue, NULL, NULL);
        (void)rd_kafka_consume_stop(r->rkt, r->partition);
        rd_kafka_queue_destroy(r->queue);
        r->queue = NULL;
    }
}

static int start_at(struct kafka_reader *r, int64_t offset, struct err *err)
{
    stop(r);
    r->queue = rd_kafka_queue_new(r->fetcher->rk);
    rd_kafka_queue_cb_event_enable(r->queue, on_arrival, r);
    if (rd_kafka_consume_start_queue(r->rkt, r->partition, offset, r->queue) != 0) {
        rd_kafka_resp_err_t e = rd_kafka_last_error();
        rd_kafka_queue_destroy(r->queue);
        r->queue = NULL;
        return kafka_err(err, e, "reading %s", r->place);
    }
    r->position = offset;
    return 0;
}

/* On the worker. */
static void ask_range(struct kafka *k, void *arg)
{
    struct kafka_reader *r = arg;
    int64_t lo = 0;
    int64_t hi = 0;
    rd_kafka_resp_err_t e = rd_kafka_query_watermark_offsets(r->fetcher->rk, r->topic, r->partition,
                                                             &lo, &hi, KAFKA_WAIT_MS);
    mutex_lock(&k->lock);
    if (r->range == RANGE_ASKED) {
        r->range = e == RD_KAFKA_RESP_ERR_NO_ERROR ? RANGE_KNOWN : RANGE_FINE;
        r->start = lo;
        r->end = hi;
    }
    r->busy = 0;
    atomic_store(&r->due, 1);
    cond_broadcast(&k->settled);
    mutex_unlock(&k->lock);
    kafka_kick(k);
}

static void out_of_range(struct kafka_reader *r)
{
    struct kafka *k = r->k;
    mutex_lock(&k->lock);
    r->range = RANGE_ASKED;
    if (!r->busy) {
        r->busy = 1;
        r->task.run = ask_range;
        r->task.arg = r;
        kafka_task_add(k, &r->task);
    }
    mutex_unlock(&k->lock);
}

/* ---- messages to batches ---- */

struct building {
    struct record_builder b;
    struct buf *out;
    size_t max_bytes;
    size_t begin;       /* out->len before */
    size_t batch_at;    /* where the open batch begins */
    int64_t base, next; /* offsets of the open batch: first, and what may follow */
    int open;
};

static int close_batch(struct building *w, struct err *err)
{
    if (!w->open) {
        return 0;
    }
    w->open = 0;
    int64_t n = record_builder_finish(&w->b, err);
    if (n < 0) {
        return (int)n;
    }
    (void)record_batches_stamp(w->out->data + w->batch_at, (size_t)n, w->base, 0);
    return 0;
}

static int get_headers(struct kafka_reader *r, const rd_kafka_message_t *m, size_t *ret_n,
                       struct err *err)
{
    rd_kafka_headers_t *h = NULL;
    *ret_n = 0;
    if (rd_kafka_message_headers(m, &h) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return 0;
    }
    size_t n = rd_kafka_header_cnt(h);
    if (n > r->cap_headers) {
        struct record_header *v = realloc(r->headers, n * sizeof(*v));
        if (v == NULL) {
            return err_set(err, ERR_NOMEM, "no memory for %zu headers", n);
        }
        r->headers = v;
        r->cap_headers = n;
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = NULL;
        const void *value = NULL;
        size_t len = 0;
        (void)rd_kafka_header_get_all(h, i, &name, &value, &len);
        r->headers[i] =
            (struct record_header){.name = slice_str(name), .value = slice_of(value, len)};
    }
    *ret_n = n;
    return 0;
}

/* 1: added; 0: it does not fit any more. */
static int add_message(struct kafka_reader *r, struct building *w, const rd_kafka_message_t *m,
                       struct err *err)
{
    size_t n = 0;
    TRY(get_headers(r, m, &n, err));
    size_t used = w->out->len - w->begin;
    size_t need = RECORD_BATCH_OVERHEAD + record_size_bound(m->key_len, m->len, r->headers, n);
    if (used > 0 && used + need > w->max_bytes) {
        return 0;
    }
    if (w->open && (m->offset != w->next || w->out->len - w->batch_at >= KAFKA_BATCH_BYTES)) {
        TRY(close_batch(w, err));
    }
    if (!w->open) {
        w->batch_at = w->out->len;
        w->base = m->offset;
        w->open = 1;
        record_builder_begin(&w->b, w->out);
    }
    rd_kafka_timestamp_type_t type;
    int64_t timestamp = rd_kafka_message_timestamp(m, &type);
    record_builder_add(&w->b, timestamp > 0 ? timestamp : 0, slice_of(m->key, m->key_len),
                       slice_of(m->payload, m->len), r->headers, n);
    w->next = m->offset + 1;
    return 1;
}

static rd_kafka_message_t *peek_message(struct kafka_reader *r)
{
    if (r->at_message == r->n_messages) {
        ssize_t n = rd_kafka_consume_batch_queue(r->queue, 0, r->messages, CONSUME_MAX);
        r->n_messages = n > 0 ? (size_t)n : 0;
        r->at_message = 0;
    }
    return r->at_message < r->n_messages ? r->messages[r->at_message] : NULL;
}

/* What an error among the messages means: 0 go on, 1 the position is out of range. */
static int message_error(struct kafka_reader *r, const rd_kafka_message_t *m, struct err *err)
{
    switch (m->err) {
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
        return 1;
    default:
        break;
    }
    int code = kafka_code(m->err);
    if (code == ERR_RETRIABLE || code == ERR_LIMIT) {
        return 0; /* librdkafka goes on by itself */
    }
    (void)kafka_err(err, m->err, "reading %s at offset %lld", r->place, (long long)r->position);
    return code;
}

/* Fills `out` from the queue. Returns 0, 1 (out of range) or an error. */
static int fill(struct kafka_reader *r, size_t max_bytes, struct buf *out, struct err *err)
{
    struct building w = {.out = out, .max_bytes = max_bytes, .begin = out->len};
    rd_kafka_message_t *m;
    int rc = 0;
    while ((m = peek_message(r)) != NULL) {
        if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            if (w.next > 0) {
                break; /* what is there first */
            }
            rc = message_error(r, m, err);
        } else if (m->offset >= r->position) {
            rc = add_message(r, &w, m, err);
            if (rc <= 0) {
                break;
            }
            r->position = m->offset + 1;
            rc = 0;
        }
        r->at_message++;
        rd_kafka_message_destroy(m);
        if (rc != 0) {
            break;
        }
    }
    int closed = close_batch(&w, rc < 0 ? NULL : err);
    return rc < 0 ? rc : closed < 0 ? closed : rc;
}

/* Bounds as last heard, without asking. */
static void last_heard(struct kafka_reader *r, struct kafka_read *ret)
{
    int64_t lo = 0;
    int64_t hi = 0;
    if (rd_kafka_get_watermark_offsets(r->fetcher->rk, r->topic, r->partition, &lo, &hi) !=
            RD_KAFKA_RESP_ERR_NO_ERROR ||
        hi < 0) {
        lo = 0;
        hi = 0;
    }
    ret->start_offset = lo > 0 ? lo : 0;
    ret->end_offset = hi > r->position ? hi : r->position;
    ret->next_offset = r->position;
}

/* A position that was found out of range: 0 while its bounds are asked for, then ERR_LIMIT with them; 1 when the
 * position is another now. */
static int range_state(struct kafka_reader *r, int64_t offset, struct kafka_read *ret,
                       struct err *err)
{
    mutex_lock(&r->k->lock);
    enum range range = r->range;
    int64_t start = r->start;
    int64_t end = r->end;
    if (range == RANGE_KNOWN || offset != r->position) {
        r->range = RANGE_FINE;
    }
    mutex_unlock(&r->k->lock);
    *ret = (struct kafka_read){.next_offset = offset, .start_offset = start, .end_offset = end};
    if (range == RANGE_FINE || offset != r->position) {
        return 1;
    }
    if (range == RANGE_ASKED) {
        return 0;
    }
    if (offset >= start && offset <= end) {
        return 1; /* it has come into range meanwhile */
    }
    return err_set(err, ERR_LIMIT, "%s has offsets %lld to %lld, not %lld", r->place,
                   (long long)start, (long long)end, (long long)offset);
}

int kafka_read(struct kafka_reader *r, int64_t offset, size_t max_bytes, struct buf *out,
               struct kafka_read *ret, struct err *err)
{
    atomic_store(&r->armed, 1); /* before the look, so that what comes just behind it wakes */
    int rc = range_state(r, offset, ret, err);
    if (rc <= 0) {
        return rc;
    }
    if (offset < 0) {
        stop(r);
        r->position = offset;
        out_of_range(r);
        return 0;
    }
    if (r->queue == NULL || offset != r->position) {
        TRY(start_at(r, offset, err));
    }
    size_t before = out->len;
    rc = fill(r, max_bytes, out, err);
    last_heard(r, ret);
    ret->bytes = out->len - before;
    if (rc == 1) {
        stop(r); /* librdkafka has given up at this position */
        out_of_range(r);
        rc = 0;
    }
    if (rc == ERR_CORRUPT) {
        ret->next_offset = r->position + 1;
    }
    if (ret->bytes > 0) {
        atomic_store(&r->armed, 0);
    }
    return rc;
}

/* ---- readers ---- */

static void reader_free(struct kafka_reader *r)
{
    if (r->rkt != NULL) {
        rd_kafka_topic_destroy(r->rkt);
    }
    free(r->headers);
    free(r->place);
    free(r->topic);
    free(r);
}

int kafka_reader_open(struct kafka *k, const char *topic, int32_t partition,
                      void (*wake)(void *arg), void *arg, struct kafka_reader **ret,
                      struct err *err)
{
    struct kafka_topic_info info;
    TRY(kafka_topic_info(k, topic, &info, err));
    if (partition < 0 || partition >= info.partitions) {
        return err_set(err, ERR_NOT_FOUND, "topic %s has no partition %d", topic, partition);
    }
    struct kafka_reader *r = calloc(1, sizeof(*r));
    char place[300];
    (void)snprintf(place, sizeof(place), "%s-%d", topic, partition);
    if (r != NULL) {
        r->topic = strdup(topic);
        r->place = strdup(place);
    }
    if (r == NULL || r->topic == NULL || r->place == NULL) {
        if (r != NULL) {
            reader_free(r);
        }
        return err_set(err, ERR_NOMEM, "no memory for a reader of %s", place);
    }
    r->k = k;
    r->partition = partition;
    r->wake = wake;
    r->arg = arg;
    atomic_init(&r->armed, 1);
    atomic_init(&r->due, 0);
    mutex_lock(&k->lock);
    int rc = take_place(k, place, &r->fetcher, err);
    if (rc == 0) {
        r->rkt = rd_kafka_topic_new(r->fetcher->rk, topic, NULL);
        r->next = k->readers;
        k->readers = r;
        *ret = r;
    }
    mutex_unlock(&k->lock);
    if (rc < 0) {
        reader_free(r);
    }
    return rc;
}

void kafka_reader_close(struct kafka_reader *r)
{
    struct kafka *k = r->k;
    mutex_lock(&k->lock);
    r->wake = NULL;
    while (r->waking || r->busy) {
        cond_wait(&k->settled, &k->lock);
    }
    struct kafka_reader **at = &k->readers;
    while (*at != r) {
        at = &(*at)->next;
    }
    *at = r->next;
    mutex_unlock(&k->lock);
    stop(r);
    mutex_lock(&k->lock);
    (void)map_del(r->fetcher->used, r->place);
    mutex_unlock(&k->lock);
    reader_free(r);
}

static struct kafka_reader *wake_due(struct kafka *k)
{
    for (struct kafka_reader *r = k->readers; r != NULL; r = r->next) {
        if (atomic_load(&r->due) && atomic_exchange(&r->due, 0) && atomic_exchange(&r->armed, 0) &&
            r->wake != NULL) {
            return r;
        }
    }
    return NULL;
}

void kafka_readers_serve(struct kafka *k)
{
    struct kafka_reader *r;
    mutex_lock(&k->lock);
    while ((r = wake_due(k)) != NULL) {
        void (*wake)(void *arg) = r->wake;
        r->waking = 1;
        mutex_unlock(&k->lock);
        wake(r->arg);
        mutex_lock(&k->lock);
        r->waking = 0;
        cond_broadcast(&k->settled);
    }
    mutex_unlock(&k->lock);
}
