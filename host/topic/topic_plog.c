/*
 * The engine over the built-in log: topics, readers, and the opening of the internal topics.
 *
 * Threads: any. The coordinator's table of topics is what resolves and groups see; it follows the log
 * under `admin`, so that it never names a topic that the log does not have.
 * Durability: creations, deletions and commits are durable when they return or are done, as the log says.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "record/record.h"
#include "topic/plog_engine.h"

#define LOAD_BYTES        ((size_t)1 << 20)
#define LOAD_LIMIT        ((size_t)64 << 20)
#define INCARNATION_GROUP "_connectd"
#define INCARNATION_TOPIC "_incarnation"

static struct topic_plog *self(struct topic_engine *e)
{
    return (struct topic_plog *)e;
}

/* ---- topics ---- */

static int learn(struct topic_plog *e, const char *name, struct err *err)
{
    struct plog_topic_info info;
    TRY(plog_topic_info(e->log, name, &info, err));
    struct topic_info t = {.partitions = info.partitions,
                           .epoch = info.partitions,
                           .max_batch_bytes = info.max_batch_bytes};
    memcpy(t.id, info.id, sizeof(t.id));
    return topic_coord_topic_set(e->coord, name, &t, err);
}

struct forget {
    struct buf groups; /* names, each with its NUL; partitions beside them */
    struct buf partitions;
};

static void forget_one(void *arg, const char *group, int32_t partition)
{
    struct forget *f = arg;
    buf_append(&f->groups, group, strlen(group) + 1);
    buf_append(&f->partitions, &partition, sizeof(partition));
}

static int commit_offsets(struct topic_plog *e, struct buf *batches, int64_t n, struct err *err)
{
    struct plog_append a = {
        .partition = e->offsets, .batches = batches->data, .len = batches->len, .n_records = n};
    struct plog_unit u = {.appends = &a, .n_appends = 1};
    return plog_commit(e->log, &u, err);
}

/* A topic of that name will not find the offsets of the one before it: they are forgotten, durably.
 * @locks admin */
static int forget_offsets(struct topic_plog *e, const char *name, struct err *err)
{
    struct forget f = {BUF_INIT(LOAD_LIMIT), BUF_INIT(LOAD_LIMIT)};
    struct buf batches = BUF_INIT(LOAD_LIMIT);
    int64_t total = 0;
    int rc = 0;
    topic_coord_topic_offsets(e->coord, name, forget_one, &f);
    if (f.groups.error != 0 || f.partitions.error != 0) {
        rc = err_set(err, ERR_NOMEM, "no memory for the group offsets of %s", name);
    }
    const char *group = (const char *)f.groups.data;
    for (size_t i = 0; rc == 0 && i < f.partitions.len / sizeof(int32_t); i++) {
        struct topic_group_offset o = {.topic = name, .offset = -1};
        memcpy(&o.partition, f.partitions.data + i * sizeof(int32_t), sizeof(int32_t));
        int64_t n = 0;
        rc = topic_offsets_encode(&batches, group, &o, 1, clock_wall_ms(), &n, err);
        total += n;
        group += strlen(group) + 1;
    }
    if (rc == 0 && total > 0) {
        rc = commit_offsets(e, &batches, total, err);
    }
    if (rc == 0) {
        topic_coord_topic_forget(e->coord, name);
    } else {
        (void)err_prefix(err, "topic %s: forgetting its group offsets", name);
    }
    buf_free(&f.groups);
    buf_free(&f.partitions);
    buf_free(&batches);
    return rc;
}

static int create(struct topic_engine *engine, const char *name, int32_t partitions,
                  const struct topic_config *config, size_t n_config, struct err *err)
{
    struct topic_plog *e = self(engine);
    struct plog_config_entry *entries = calloc(n_config + 1, sizeof(*entries));
    if (entries == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for the config of %s", name);
    }
    for (size_t i = 0; i < n_config; i++) {
        entries[i] = (struct plog_config_entry){config[i].key, config[i].value};
    }
    mutex_lock(&e->admin);
    struct topic_info known;
    int rc = 0;
    if (topic_coord_topic_get(e->coord, name, &known, NULL) < 0) {
        rc = forget_offsets(e, name, err);
    }
    if (rc == 0) {
        rc = plog_topic_create(e->log, name, partitions, entries, n_config, err);
    }
    if (rc == 0) {
        rc = learn(e, name, err);
    }
    mutex_unlock(&e->admin);
    free(entries);
    return rc;
}

static int grow(struct topic_engine *engine, const char *name, int32_t partitions, struct err *err)
{
    struct topic_plog *e = self(engine);
    mutex_lock(&e->admin);
    int rc = plog_topic_grow(e->log, name, partitions, err);
    if (rc == 0) {
        rc = learn(e, name, err);
    }
    mutex_unlock(&e->admin);
    return rc;
}

static int configure(struct topic_engine *engine, const char *name,
                     const struct topic_config *config, size_t n_config, struct err *err)
{
    struct topic_plog *e = self(engine);
    struct plog_config_entry *entries = calloc(n_config + 1, sizeof(*entries));
    if (entries == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for the config of %s", name);
    }
    for (size_t i = 0; i < n_config; i++) {
        entries[i] = (struct plog_config_entry){config[i].key, config[i].value};
    }
    mutex_lock(&e->admin);
    int rc = plog_topic_configure(e->log, name, entries, n_config, err);
    if (rc == 0) {
        rc = learn(e, name, err);
    }
    mutex_unlock(&e->admin);
    free(entries);
    return rc;
}

/* The topic is gone when the log says so; that its offsets could not be forgotten yet is an error of its own,
 * mended before a topic of that name is made again. */
static int remove_topic(struct topic_engine *engine, const char *name, struct err *err)
{
    struct topic_plog *e = self(engine);
    mutex_lock(&e->admin);
    int rc = plog_topic_delete(e->log, name, err);
    if (rc == 0) {
        topic_coord_topic_gone(e->coord, name);
        rc = forget_offsets(e, name, err);
    }
    mutex_unlock(&e->admin);
    return rc;
}

static int resolve(struct topic_engine *e, const char *name, struct topic_info *ret,
                   struct err *err)
{
    return topic_coord_topic_get(self(e)->coord, name, ret, err);
}

static int list(struct topic_engine *e, void (*each)(void *arg, const char *name), void *arg,
                struct err *err)
{
    (void)err;
    plog_topic_list(self(e)->log, each, arg);
    return 0;
}

static int get_config(struct topic_engine *e, const char *name,
                      void (*each)(void *arg, const char *key, const char *value), void *arg,
                      struct err *err)
{
    return plog_topic_config(self(e)->log, name, each, arg, err);
}

static int partition_status(struct topic_engine *e, const char *name, int32_t partition,
                            struct topic_partition_status *ret, struct err *err)
{
    struct plog_partition *t = NULL;
    TRY(plog_partition_get(self(e)->log, name, partition, &t, err));
    struct plog_partition_status s;
    plog_partition_status(t, &s);
    plog_partition_unref(t);
    ret->start_offset = s.start_offset;
    ret->end_offset = s.end_offset;
    ret->bytes = s.bytes;
    ret->state = s.state == PLOG_ONLINE ? "online" : "failed";
    memcpy(ret->error, s.error, sizeof(ret->error));
    return 0;
}

static int writable(struct topic_engine *e, char *ret_reason, size_t reason_len)
{
    return plog_writable(self(e)->log, ret_reason, reason_len);
}

/* ---- streams ---- */

static int stream_open(struct topic_engine *e, struct topic_stream **ret, struct err *err)
{
    struct topic_plog_stream *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a stream");
    }
    s->base.engine = e;
    *ret = &s->base;
    return 0;
}

static void stream_reset(struct topic_stream *s)
{
    plog_stream_reset(&((struct topic_plog_stream *)s)->stream);
}

static void stream_close(struct topic_stream *s)
{
    free(s);
}

/* ---- reading ---- */

struct reader {
    struct topic_reader base;
    struct plog_partition *partition;
    struct plog_watch *watch;
    void (*wake)(void *arg);
    void *arg;
    atomic_int armed; /* a read found nothing (or none was made): the next publish wakes */
};

static void reader_wake(void *arg)
{
    struct reader *r = arg;
    if (atomic_exchange(&r->armed, 0) != 0) {
        r->wake(r->arg);
    }
}

static void reader_close(struct topic_reader *reader)
{
    struct reader *r = (struct reader *)reader;
    plog_unwatch(r->watch);
    plog_partition_unref(r->partition);
    free(r);
}

static int reader_open(struct topic_engine *e, const char *topic, int32_t partition,
                       void (*wake)(void *arg), void *arg, struct topic_reader **ret,
                       struct err *err)
{
    struct reader *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a reader of %s-%d", topic, partition);
    }
    r->base.engine = e;
    r->wake = wake;
    r->arg = arg;
    atomic_init(&r->armed, 1);
    int rc = plog_partition_get(self(e)->log, topic, partition, &r->partition, err);
    if (rc == 0 && wake != NULL) {
        rc = plog_watch(r->partition, reader_wake, r, &r->watch, err);
    }
    if (rc < 0) {
        reader_close(&r->base);
        return rc;
    }
    *ret = &r->base;
    return 0;
}

static int read_batches(struct topic_reader *reader, int64_t offset, size_t max_bytes,
                        struct buf *out, struct topic_read *ret, struct err *err)
{
    struct reader *r = (struct reader *)reader;
    struct plog_read pr = {0};
    /* Armed before the look, so that a publish just behind it wakes. */
    atomic_store(&r->armed, 1);
    int rc = plog_read(r->partition, offset, max_bytes, out, &pr, err);
    if (rc == 0 && pr.bytes > 0) {
        atomic_store(&r->armed, 0);
    }
    *ret = (struct topic_read){.next_offset = pr.next_offset,
                               .start_offset = pr.start_offset,
                               .end_offset = pr.end_offset,
                               .bytes = pr.bytes};
    return rc;
}

/* ---- groups ---- */

static int member_join(struct topic_engine *e, const char *group, const char *const *topics,
                       size_t n_topics, void (*wake)(void *arg), void *arg,
                       struct topic_member **ret, struct err *err)
{
    return topic_coord_join(self(e)->coord, group, topics, n_topics, wake, arg, ret, err);
}

static int group_offset(struct topic_engine *e, const char *group, const char *topic,
                        int32_t partition, int64_t *ret, struct err *err)
{
    return topic_coord_offset(self(e)->coord, group, topic, partition, ret, err);
}

/* ---- opening ---- */

static void close_engine(struct topic_engine *engine)
{
    struct topic_plog *e = self(engine);
    topic_coord_close(e->coord);
    plog_partition_unref(e->offsets);
    mutex_destroy(&e->admin);
    free(e);
}

/* Applies every record of one batch. What cannot be read costs itself, and is said. */
static int load_batch(const struct record_batch *b, struct topic_offsets *offsets, struct err *err)
{
    struct err bad = ERR_INIT;
    struct record_iter it;
    struct record_view v;
    if (b->attributes & 0x20) { /* a transaction's marker */
        return 0;
    }
    int rc = record_iter_init(&it, b, &bad);
    while (rc == 0 && (rc = record_iter_next(&it, &v, &bad)) == 1) {
        rc = topic_offsets_apply(offsets, v.key, v.value, &bad);
        if (rc == ERR_DATA) {
            LOG_WARN("topic", TOPIC_OFFSETS_NAME "-0: record at offset %lld left out: %s",
                     (long long)v.offset, bad.msg);
            rc = 0;
        }
    }
    if (rc == ERR_NOMEM) {
        err_copy(err, &bad);
        return rc;
    }
    if (rc < 0) {
        LOG_WARN("topic", TOPIC_OFFSETS_NAME "-0: batch at offset %lld left out: %s",
                 (long long)b->base_offset, bad.msg);
    }
    return 0;
}

static int load_run(const struct buf *run, struct topic_offsets *offsets, struct err *err)
{
    for (size_t at = 0; at < run->len;) {
        struct record_batch b;
        TRY(record_batch_peek(run->data + at, run->len - at, run->len - at, &b, err));
        TRY(load_batch(&b, offsets, err));
        at += b.bytes;
    }
    return 0;
}

/* Reads __consumer_offsets to its end: the last value of a key wins. */
static int load_offsets(struct plog_partition *t, struct topic_offsets *offsets, struct err *err)
{
    struct plog_partition_status status;
    plog_partition_status(t, &status);
    struct buf run = BUF_INIT(LOAD_LIMIT);
    int rc = 0;
    for (int64_t at = status.start_offset; rc == 0 && at < status.end_offset;) {
        struct plog_read r = {0};
        buf_clear(&run);
        struct err bad = ERR_INIT;
        rc = plog_read(t, at, LOAD_BYTES, &run, &r, &bad);
        if (rc == ERR_CORRUPT && r.next_offset > at) {
            LOG_WARN("topic", "group offsets are incomplete: %s", bad.msg);
            rc = 0;
        } else if (rc == 0 && r.bytes == 0) {
            break;
        } else if (rc == 0) {
            rc = load_run(&run, offsets, err);
        } else {
            err_copy(err, &bad);
        }
        at = r.next_offset;
    }
    buf_free(&run);
    return rc;
}

/* Epochs begin with a number that no start before this one had; durable as the log's flush mode says. */
static int next_incarnation(struct topic_plog *e, struct topic_offsets *offsets, int64_t *ret,
                            struct err *err)
{
    int64_t last = 0;
    if (topic_offsets_get(offsets, INCARNATION_GROUP, INCARNATION_TOPIC, 0, &last) < 0) {
        last = 0; /* the first start of this directory */
    }
    if (last >= INT32_MAX) {
        return err_set(err, ERR_CORRUPT,
                       "the count of starts in " TOPIC_OFFSETS_NAME " is out of range: %lld",
                       (long long)last);
    }
    struct topic_group_offset o = {.topic = INCARNATION_TOPIC, .partition = 0, .offset = last + 1};
    struct buf batches = BUF_INIT(4096);
    int64_t n = 0;
    int rc = topic_offsets_encode(&batches, INCARNATION_GROUP, &o, 1, clock_wall_ms(), &n, err);
    if (rc == 0) {
        rc = commit_offsets(e, &batches, n, err);
    }
    buf_free(&batches);
    if (rc == 0) {
        rc = topic_offsets_put(offsets, INCARNATION_GROUP, INCARNATION_TOPIC, 0, o.offset);
        *ret = o.offset;
    }
    return rc;
}

static int make_internal(struct plog *log, struct err *err)
{
    static const char *const names[] = {TOPIC_OFFSETS_NAME, "connect-configs", "connect-offsets",
                                        "connect-status", "_schemas"};
    static const struct plog_config_entry compact = {"cleanup.policy", "compact"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct plog_topic_info info;
        int rc = plog_topic_info(log, names[i], &info, err);
        if (rc == ERR_NOT_FOUND) {
            rc = plog_topic_create(log, names[i], 1, &compact, 1, err);
        } else if (rc == 0 && info.partitions != 1) {
            rc = err_set(err, ERR_CONFIG, "it has %d partitions; here it must have one",
                         info.partitions);
        }
        if (rc < 0) {
            (void)err_prefix(err, "internal topic %s", names[i]);
            return rc;
        }
    }
    return 0;
}

struct learning {
    struct topic_plog *e;
    struct err *err;
    struct buf names; /* each with its NUL: the log is not asked while it lists */
};

static void add_name(void *arg, const char *name)
{
    struct learning *l = arg;
    buf_append(&l->names, name, strlen(name) + 1);
}

static int learn_all(struct topic_plog *e, struct err *err)
{
    struct learning l = {e, err, BUF_INIT(0)};
    plog_topic_list(e->log, add_name, &l);
    int rc = l.names.error != 0 ? err_set(err, l.names.error, "no memory for topic names") : 0;
    for (size_t at = 0; rc == 0 && at < l.names.len;) {
        const char *name = (const char *)l.names.data + at;
        rc = learn(e, name, err);
        at += strlen(name) + 1;
    }
    buf_free(&l.names);
    return rc;
}

static const struct topic_ops ops = {
    .close = close_engine,
    .create = create,
    .grow = grow,
    .configure = configure,
    .remove = remove_topic,
    .resolve = resolve,
    .list = list,
    .get_config = get_config,
    .partition_status = partition_status,
    .writable = writable,
    .stream_open = stream_open,
    .stream_reset = stream_reset,
    .stream_close = stream_close,
    .submit = topic_plog_submit,
    .reader_open = reader_open,
    .read = read_batches,
    .reader_close = reader_close,
    .member_join = member_join,
    .member_poll = topic_coord_poll,
    .member_revoked = topic_coord_revoked,
    .member_leave = topic_coord_leave,
    .group_offset = group_offset,
};

static int open_engine(struct topic_plog *e, struct topic_offsets **offsets, struct err *err)
{
    int64_t incarnation = 0;
    TRY(make_internal(e->log, err));
    TRY(plog_partition_get(e->log, TOPIC_OFFSETS_NAME, 0, &e->offsets, err));
    TRY(load_offsets(e->offsets, *offsets, err));
    TRY(next_incarnation(e, *offsets, &incarnation, err));
    TRY(topic_coord_open(&e->base, incarnation, offsets, &e->coord, err));
    return learn_all(e, err);
}

int topic_open_plog(const struct topic_plog_options *o, struct topic_engine **ret, struct err *err)
{
    struct topic_plog *e = calloc(1, sizeof(*e));
    struct topic_offsets *offsets = topic_offsets_new();
    int rc = 0;
    if (e == NULL || offsets == NULL) {
        free(e);
        topic_offsets_free(offsets);
        return err_set(err, ERR_NOMEM, "no memory for the topic engine");
    }
    e->base.ops = &ops;
    e->log = o->log;
    mutex_init(&e->admin);
    rc = open_engine(e, &offsets, err);
    topic_offsets_free(offsets);
    if (rc < 0) {
        close_engine(&e->base);
        return err_prefix(err, "opening topics");
    }
    *ret = &e->base;
    return 0;
}
