/* Engines for the suite, and the helpers that its cases share. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
/* needs the one above */
#include <librdkafka/rdkafka_mock.h>

#include "base/clock.h"
#include "base/file.h"
#include "plog/plog.h"
#include "suite.h"

#define WAIT_MS 30000
/* A mock group waits 3 s for its first members, and they must live as long; every later rebalance takes this less a
 * second. */
#define SESSION_MS "3500"

/* ---- waiting ---- */

void signal_init(struct signal *s)
{
    mutex_init(&s->lock);
    cond_init(&s->cond);
    s->count = 0;
}

void signal_destroy(struct signal *s)
{
    cond_destroy(&s->cond);
    mutex_destroy(&s->lock);
}

void signal_raise(void *signal)
{
    struct signal *s = signal;
    mutex_lock(&s->lock);
    s->count++;
    cond_broadcast(&s->cond);
    mutex_unlock(&s->lock);
}

int signal_count(struct signal *s)
{
    mutex_lock(&s->lock);
    int n = s->count;
    mutex_unlock(&s->lock);
    return n;
}

void signal_wait(struct signal *s, int beyond)
{
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    mutex_lock(&s->lock);
    while (s->count <= beyond && clock_mono_ms() < deadline) {
        (void)cond_wait_until(&s->cond, &s->lock, deadline);
    }
    int came = s->count > beyond;
    mutex_unlock(&s->lock);
    if (!came) {
        fail_msg("nothing came within %d ms", WAIT_MS);
    }
}

/* ---- the log ---- */

static int on_disk_call(void *arg, const char *op, const char *path)
{
    struct disk *d = arg;
    (void)path;
    if (strcmp(op, "write") != 0) {
        return 0;
    }
    mutex_lock(&d->lock);
    d->waiting++;
    cond_broadcast(&d->cond);
    while (d->hold) {
        cond_wait(&d->cond, &d->lock);
    }
    d->waiting--;
    int code = d->fail ? ENOSPC : 0;
    mutex_unlock(&d->lock);
    return code;
}

static void log_open(struct fixture *f)
{
    if (f->dir[0] == '\0') {
        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/test_topic.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        mutex_init(&f->disk.lock);
        cond_init(&f->disk.cond);
    }
    struct plog_options o = {.dir = f->dir, .fault = on_disk_call, .fault_arg = &f->disk};
    OK(plog_open(&o, &f->log, &err));
    struct topic_plog_options t = {.log = f->log};
    OK(topic_open_plog(&t, &f->engine, &err));
}

static void log_close(struct fixture *f)
{
    topic_close(f->engine);
    plog_close(f->log);
    f->engine = NULL;
    f->log = NULL;
}

static void log_destroy(struct fixture *f)
{
    OK(file_remove_tree(f->dir, &err));
    cond_destroy(&f->disk.cond);
    mutex_destroy(&f->disk.lock);
}

static void log_make_topic(struct fixture *f, const char *name, int32_t partitions)
{
    OK(topic_create(f->engine, name, partitions, NULL, 0, &err));
}

static void log_break(struct fixture *f)
{
    mutex_lock(&f->disk.lock);
    f->disk.fail = 1;
    mutex_unlock(&f->disk.lock);
}

static void log_heal(struct fixture *f)
{
    mutex_lock(&f->disk.lock);
    f->disk.fail = 0;
    mutex_unlock(&f->disk.lock);
}

/* ---- Kafka: librdkafka's mock cluster, one broker ---- */

static void mock_log(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
    (void)rk, (void)level, (void)fac, (void)text;
}

static void kafka_fixture_open(struct fixture *f)
{
    if (f->mock_cluster == NULL) {
        char text[256];
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_conf_set_log_cb(conf, mock_log);
        f->mock_client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
        assert_non_null(f->mock_client);
        f->mock_cluster = rd_kafka_mock_cluster_new(f->mock_client, 1);
        assert_non_null(f->mock_cluster);
        if (f->slow) {
            /* The mock group refuses a follower whose SyncGroup comes behind the leader's. The leader asks for
             * metadata in between, so with a time on the wire it is always the later one. */
            (void)rd_kafka_mock_broker_set_rtt(f->mock_cluster, 1, 40);
        }
    }
    /* Members of a mock group are told of a rebalance by their next heartbeat. */
    const char *const config[] = {"session.timeout.ms",
                                  SESSION_MS,
                                  "heartbeat.interval.ms",
                                  "50",
                                  "fetch.wait.max.ms",
                                  "20",
                                  getenv("TOPIC_TEST_DEBUG") != NULL ? "debug" : NULL,
                                  getenv("TOPIC_TEST_DEBUG"),
                                  NULL};
    struct topic_kafka_options o = {.bootstrap_servers =
                                        rd_kafka_mock_cluster_bootstraps(f->mock_cluster),
                                    .client_config = config};
    OK(topic_open_kafka(&o, &f->engine, &err));
}

static void kafka_fixture_close(struct fixture *f)
{
    topic_close(f->engine);
    f->engine = NULL;
}

static void kafka_fixture_destroy(struct fixture *f)
{
    rd_kafka_mock_cluster_destroy(f->mock_cluster);
    rd_kafka_destroy(f->mock_client);
}

static void kafka_make_topic(struct fixture *f, const char *name, int32_t partitions)
{
    assert_int_equal(rd_kafka_mock_topic_create(f->mock_cluster, name, partitions, 1), 0);
}

static void kafka_break(struct fixture *f)
{
    rd_kafka_mock_push_request_errors(f->mock_cluster, 0 /* Produce */, 1,
                                      RD_KAFKA_RESP_ERR_INVALID_RECORD);
}

static void kafka_heal(struct fixture *f)
{
    rd_kafka_mock_clear_request_errors(f->mock_cluster, 0);
}

const struct engine_kind engine_kinds[] = {
    {"log", ON_LOG, log_open, log_close, log_destroy, log_make_topic, log_break, log_heal},
    {"kafka", ON_KAFKA, kafka_fixture_open, kafka_fixture_close, kafka_fixture_destroy,
     kafka_make_topic, kafka_break, kafka_heal},
};
const size_t n_engine_kinds = sizeof(engine_kinds) / sizeof(engine_kinds[0]);

void reopen(struct fixture *f)
{
    f->kind->close(f);
    f->kind->open(f);
}

/* ---- records ---- */

struct topic_append append_of(struct buf *batches, const char *topic, int32_t partition,
                              const struct rec *recs, size_t n)
{
    struct record_builder b;
    record_builder_begin(&b, batches);
    for (size_t i = 0; i < n; i++) {
        record_builder_add(&b, recs[i].timestamp_ms, slice_str(recs[i].key),
                           slice_str(recs[i].value), recs[i].headers, recs[i].n_headers);
    }
    struct err err = ERR_INIT;
    int64_t bytes = record_builder_finish(&b, &err);
    if (bytes < 0) {
        fail_msg("%s", err.msg);
    }
    return (struct topic_append){.topic = topic,
                                 .partition = partition,
                                 .batches = batches->data + (batches->len - (size_t)bytes),
                                 .len = (size_t)bytes,
                                 .n_records = (int64_t)n,
                                 .ret_base_offset = -2};
}

int64_t put(struct fixture *f, const char *topic, int32_t partition, const char *value)
{
    struct buf b = BUF_INIT(1 << 20);
    struct rec r = {.value = value, .timestamp_ms = 1000};
    struct topic_append a = append_of(&b, topic, partition, &r, 1);
    struct topic_unit u = {.appends = &a, .n_appends = 1, .generation = -1};
    OK(topic_commit(f->engine, &u, &err));
    buf_free(&b);
    return a.ret_base_offset;
}

static size_t take_apart(const uint8_t *p, size_t n, int64_t from, struct got *ret, size_t max)
{
    size_t count = 0;
    for (size_t at = 0; at < n;) {
        struct record_batch b;
        struct record_iter it;
        struct record_view v;
        OK(record_batch_peek(p + at, n - at, n - at, &b, &err));
        assert_true(record_batch_crc_ok(&b));
        OK(record_iter_init(&it, &b, &err));
        while (record_iter_next(&it, &v, NULL) == 1) {
            if (v.offset >= from) {
                assert_true(count < max);
                ret[count++] = (struct got){v.offset,  v.timestamp_ms, v.key,      v.value,
                                            v.headers, v.headers_len,  v.n_headers};
            }
        }
        at += b.bytes;
    }
    return count;
}

void read_records(struct fixture *f, const char *topic, int32_t partition, int64_t offset,
                  struct buf *bytes, struct got *ret, size_t n)
{
    struct signal s;
    struct topic_reader *r = NULL;
    int64_t at = offset;
    size_t count = 0;
    signal_init(&s);
    OK(topic_reader_open(f->engine, topic, partition, signal_raise, &s, &r, &err));
    while (count < n) {
        struct topic_read tr = {0};
        int seen = signal_count(&s);
        OK(topic_read(r, at, 1 << 20, bytes, &tr, &err));
        if (tr.bytes == 0) {
            signal_wait(&s, seen);
            continue;
        }
        at = tr.next_offset;
        count = take_apart(bytes->data, bytes->len, offset, ret, n);
    }
    topic_reader_close(r);
    signal_destroy(&s);
}

int64_t end_offset(struct fixture *f, const char *topic, int32_t partition)
{
    struct topic_partition_status s;
    OK(topic_partition_status(f->engine, topic, partition, &s, &err));
    return s.end_offset;
}

/* ---- members ---- */

void owners_init(struct owners *o)
{
    memset(o, 0, sizeof(*o));
    signal_init(&o->signal);
    for (int i = 0; i < PARTITIONS_MAX; i++) {
        o->last_epoch[i] = -1;
    }
}

void sink_join(struct fixture *f, struct sink *s, struct owners *o, const char *group,
               const char *const *topics, size_t n)
{
    memset(s, 0, sizeof(*s));
    s->owners = o;
    OK(topic_member_join(f->engine, group, topics, n, signal_raise, &o->signal, &s->member, &err));
}

static void take(struct sink *s, const struct topic_assignment *a)
{
    int32_t p = a->partition;
    assert_true(p >= 0 && p < PARTITIONS_MAX);
    assert_null(s->owners->owner[p]); /* one owner at any time */
    assert_true(a->epoch > s->owners->last_epoch[p]);
    s->owners->owner[p] = s;
    s->owners->last_epoch[p] = a->epoch;
    s->owned[p] = 1;
    s->committed[p] = a->committed;
    s->epoch[p] = a->epoch;
    s->n_owned++;
}

void sink_answer(struct sink *s)
{
    for (int p = 0; p < PARTITIONS_MAX; p++) {
        if (s->to_return[p]) {
            s->to_return[p] = 0;
            s->owned[p] = 0;
            s->n_owned--;
            s->owners->owner[p] = NULL;
        }
    }
    s->revoking = 0;
    topic_member_revoked(s->member);
}

void sink_pump(struct sink *s)
{
    struct topic_event e;
    while (s->member != NULL && !s->revoking && topic_member_poll(s->member, &e) == 1) {
        assert_true(e.generation > s->generation);
        s->generation = e.generation;
        if (e.kind == TOPIC_EVENT_ASSIGNED) {
            s->assigned_events++;
            for (size_t i = 0; i < e.n; i++) {
                take(s, &e.partitions[i]);
            }
            continue;
        }
        assert_int_equal(e.kind, TOPIC_EVENT_REVOKED);
        for (size_t i = 0; i < e.n; i++) {
            assert_true(s->owned[e.partitions[i].partition]);
            s->to_return[e.partitions[i].partition] = 1;
        }
        s->revoking = 1;
        if (!s->keep) {
            sink_answer(s);
        }
    }
}

void sink_leave(struct sink *s)
{
    for (int p = 0; p < PARTITIONS_MAX; p++) {
        if (s->owned[p]) {
            s->owners->owner[p] = NULL;
            s->owned[p] = 0;
        }
    }
    s->n_owned = 0;
    topic_member_leave(s->member);
    s->member = NULL;
}

void pump_until(struct owners *o, struct sink *const *sinks, size_t n, int (*until)(void *arg),
                void *arg)
{
    for (;;) {
        int seen = signal_count(&o->signal);
        for (size_t i = 0; i < n; i++) {
            sink_pump(sinks[i]);
        }
        if (until(arg)) {
            return;
        }
        signal_wait(&o->signal, seen);
    }
}

int commit_offset(struct fixture *f, const char *group, int64_t generation, const char *topic,
                  int32_t partition, int64_t offset, struct err *err)
{
    struct topic_group_offset o = {.topic = topic, .partition = partition, .offset = offset};
    struct topic_unit u = {
        .group = group, .generation = generation, .group_offsets = &o, .n_group_offsets = 1};
    return topic_commit(f->engine, &u, err);
}
