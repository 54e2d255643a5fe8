/*
 * The engine over a Kafka cluster: topic.h's words for what host/kafka does.
 *
 * Threads: any; nothing is kept here but the unit's translation, from submit to done.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka/kafka.h"
#include "topic/topic_int.h"

#define PARTS_MAX ((size_t)1 << 20) /* of one kind in a unit */

struct engine {
    struct topic_engine base;
    struct kafka *k;
};
struct stream {
    struct topic_stream base;
    struct kafka_stream *s;
};
struct reader {
    struct topic_reader base;
    struct kafka_reader *r;
};
struct member {
    struct topic_member base;
    struct kafka_member *m;
    struct topic_assignment *view; /* of the last event */
};

static struct kafka *self(struct topic_engine *e)
{
    return ((struct engine *)e)->k;
}

/* ---- topics ---- */

static int convert_config(const struct topic_config *config, size_t n, struct kafka_config **ret,
                          struct err *err)
{
    struct kafka_config *c = calloc(n + 1, sizeof(*c));
    if (c == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a topic's config");
    }
    for (size_t i = 0; i < n; i++) {
        c[i] = (struct kafka_config){config[i].key, config[i].value};
    }
    *ret = c;
    return 0;
}

static int create(struct topic_engine *e, const char *name, int32_t partitions,
                  const struct topic_config *config, size_t n_config, struct err *err)
{
    struct kafka_config *c = NULL;
    TRY(convert_config(config, n_config, &c, err));
    int rc = kafka_topic_create(self(e), name, partitions, c, n_config, err);
    free(c);
    return rc;
}

static int grow(struct topic_engine *e, const char *name, int32_t partitions, struct err *err)
{
    return kafka_topic_grow(self(e), name, partitions, err);
}

static int configure(struct topic_engine *e, const char *name, const struct topic_config *config,
                     size_t n_config, struct err *err)
{
    struct kafka_config *c = NULL;
    TRY(convert_config(config, n_config, &c, err));
    int rc = kafka_topic_configure(self(e), name, c, n_config, err);
    free(c);
    return rc;
}

static int remove_topic(struct topic_engine *e, const char *name, struct err *err)
{
    return kafka_topic_delete(self(e), name, err);
}

static int resolve(struct topic_engine *e, const char *name, struct topic_info *ret,
                   struct err *err)
{
    struct kafka_topic_info info;
    TRY(kafka_topic_info(self(e), name, &info, err));
    memcpy(ret->id, info.id, sizeof(ret->id));
    ret->partitions = info.partitions;
    ret->epoch = info.partitions;
    ret->max_batch_bytes = info.max_batch_bytes;
    return 0;
}

static int list(struct topic_engine *e, void (*each)(void *arg, const char *name), void *arg,
                struct err *err)
{
    return kafka_topic_list(self(e), each, arg, err);
}

static int get_config(struct topic_engine *e, const char *name,
                      void (*each)(void *arg, const char *key, const char *value), void *arg,
                      struct err *err)
{
    return kafka_topic_config(self(e), name, each, arg, err);
}

static int partition_status(struct topic_engine *e, const char *name, int32_t partition,
                            struct topic_partition_status *ret, struct err *err)
{
    int64_t start = 0;
    int64_t end = 0;
    int online = 0;
    TRY(kafka_partition_range(self(e), name, partition, &start, &end, &online, err));
    *ret = (struct topic_partition_status){.start_offset = start,
                                           .end_offset = end,
                                           .bytes = -1,
                                           .state = online ? "online" : "failed"};
    if (!online) {
        (void)snprintf(ret->error, sizeof(ret->error), "the partition has no leader");
    }
    return 0;
}

static int writable(struct topic_engine *e, char *ret_reason, size_t reason_len)
{
    return kafka_writable(self(e), ret_reason, reason_len);
}

/* ---- units ---- */

static int stream_open(struct topic_engine *e, struct topic_stream **ret, struct err *err)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a stream");
    }
    int rc = kafka_stream_open(self(e), &s->s, err);
    if (rc < 0) {
        free(s);
        return rc;
    }
    s->base.engine = e;
    *ret = &s->base;
    return 0;
}

static void stream_reset(struct topic_stream *s)
{
    kafka_stream_reset(((struct stream *)s)->s);
}

static void stream_close(struct topic_stream *s)
{
    kafka_stream_close(((struct stream *)s)->s);
    free(s);
}

struct job {
    struct kafka_unit unit;
    struct topic_unit *u;
    struct kafka_append appends[]; /* appends, then state, then the offsets */
};

static void job_done(struct kafka_unit *unit, const struct err *err)
{
    struct job *j = unit->arg;
    struct topic_unit *u = j->u;
    if (err->code == 0) {
        for (size_t i = 0; i < u->n_appends; i++) {
            u->appends[i].ret_base_offset = j->appends[i].ret_base_offset;
        }
        for (size_t i = 0; i < u->n_state; i++) {
            u->state[i].ret_base_offset = j->appends[u->n_appends + i].ret_base_offset;
        }
        u->ret_flush = 0;
    }
    u->engine_ = NULL;
    free(j);
    u->done(u, err);
}

static int convert_appends(const struct topic_append *a, size_t n, struct kafka_append *out,
                           struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t id[16];
        kafka_topic_id(a[i].topic, id);
        if (a[i].topic_id != NULL && memcmp(a[i].topic_id, id, sizeof(id)) != 0) {
            return err_set(err, ERR_STALE, "topic %s is another one now: resolve it anew",
                           a[i].topic);
        }
        out[i] = (struct kafka_append){.topic = a[i].topic,
                                       .partition = a[i].partition,
                                       .batches = a[i].batches,
                                       .len = a[i].len,
                                       .ret_base_offset = -1};
    }
    return 0;
}

static int submit(struct topic_engine *e, struct topic_unit *u, struct err *err)
{
    if (u->n_appends > PARTS_MAX || u->n_state > PARTS_MAX || u->n_group_offsets > PARTS_MAX) {
        return err_set(err, ERR_INVAL, "a commit unit with too many parts");
    }
    size_t n = u->n_appends + u->n_state;
    struct job *j = calloc(1, sizeof(*j) + n * sizeof(struct kafka_append) +
                                  u->n_group_offsets * sizeof(struct kafka_offset));
    if (j == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a commit unit");
    }
    struct kafka_offset *offsets = (struct kafka_offset *)(void *)(j->appends + n);
    for (size_t i = 0; i < u->n_group_offsets; i++) {
        const struct topic_group_offset *o = &u->group_offsets[i];
        offsets[i] = (struct kafka_offset){o->topic, o->partition, o->offset};
    }
    j->u = u;
    j->unit = (struct kafka_unit){
        .appends = j->appends,
        .n_appends = u->n_appends,
        .state = j->appends + u->n_appends,
        .n_state = u->n_state,
        .group = u->group,
        .generation = u->generation,
        .offsets = offsets,
        .n_offsets = u->n_group_offsets,
        .stream = u->stream != NULL ? ((struct stream *)u->stream)->s : NULL,
        .done = job_done,
        .arg = j,
    };
    u->engine_ = j;
    int rc = convert_appends(u->appends, u->n_appends, j->appends, err);
    if (rc == 0) {
        rc = convert_appends(u->state, u->n_state, j->appends + u->n_appends, err);
    }
    if (rc == 0) {
        rc = kafka_submit(self(e), &j->unit, err);
    }
    if (rc < 0) {
        u->engine_ = NULL;
        free(j);
    }
    return rc;
}

/* ---- reading ---- */

static int reader_open(struct topic_engine *e, const char *topic, int32_t partition,
                       void (*wake)(void *arg), void *arg, struct topic_reader **ret,
                       struct err *err)
{
    struct reader *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a reader of %s-%d", topic, partition);
    }
    int rc = kafka_reader_open(self(e), topic, partition, wake, arg, &r->r, err);
    if (rc < 0) {
        free(r);
        return rc;
    }
    r->base.engine = e;
    *ret = &r->base;
    return 0;
}

static int read_batches(struct topic_reader *r, int64_t offset, size_t max_bytes, struct buf *out,
                        struct topic_read *ret, struct err *err)
{
    struct kafka_read kr = {0};
    int rc = kafka_read(((struct reader *)r)->r, offset, max_bytes, out, &kr, err);
    *ret = (struct topic_read){.next_offset = kr.next_offset,
                               .start_offset = kr.start_offset,
                               .end_offset = kr.end_offset,
                               .bytes = kr.bytes};
    return rc;
}

static void reader_close(struct topic_reader *r)
{
    kafka_reader_close(((struct reader *)r)->r);
    free(r);
}

/* ---- groups ---- */

static int member_join(struct topic_engine *e, const char *group, const char *const *topics,
                       size_t n_topics, void (*wake)(void *arg), void *arg,
                       struct topic_member **ret, struct err *err)
{
    struct member *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a member of group %.200s", group);
    }
    m->base.engine = e;
    int rc = kafka_member_join(self(e), group, topics, n_topics, wake, arg, &m->m, err);
    if (rc < 0) {
        free(m);
        return rc;
    }
    *ret = &m->base;
    return 0;
}

static int member_poll(struct topic_member *member, struct topic_event *ret)
{
    struct member *m = (struct member *)member;
    struct kafka_event e;
    if (!kafka_member_poll(m->m, &e)) {
        return 0;
    }
    free(m->view);
    m->view = calloc(e.n + 1, sizeof(*m->view));
    BUG_ON(m->view == NULL); /* librdkafka stops the process without memory as well */
    for (size_t i = 0; i < e.n; i++) {
        m->view[i] = (struct topic_assignment){.topic = e.partitions[i].topic,
                                               .partition = e.partitions[i].partition,
                                               .epoch = e.partitions[i].epoch,
                                               .committed = e.partitions[i].committed};
        kafka_topic_id(e.partitions[i].topic, m->view[i].topic_id);
    }
    *ret = (struct topic_event){.kind = e.assigned ? TOPIC_EVENT_ASSIGNED : TOPIC_EVENT_REVOKED,
                                .generation = e.generation,
                                .partitions = m->view,
                                .n = e.n};
    return 1;
}

static void member_revoked(struct topic_member *m)
{
    kafka_member_revoked(((struct member *)m)->m);
}

static void member_leave(struct topic_member *member)
{
    struct member *m = (struct member *)member;
    kafka_member_leave(m->m);
    free(m->view);
    free(m);
}

static int group_offset(struct topic_engine *e, const char *group, const char *topic,
                        int32_t partition, int64_t *ret, struct err *err)
{
    return kafka_group_offset(self(e), group, topic, partition, ret, err);
}

/* ---- opening ---- */

static void close_engine(struct topic_engine *e)
{
    kafka_close(self(e));
    free(e);
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
    .submit = submit,
    .reader_open = reader_open,
    .read = read_batches,
    .reader_close = reader_close,
    .member_join = member_join,
    .member_poll = member_poll,
    .member_revoked = member_revoked,
    .member_leave = member_leave,
    .group_offset = group_offset,
};

int topic_open_kafka(const struct topic_kafka_options *o, struct topic_engine **ret,
                     struct err *err)
{
    struct engine *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for the topic engine");
    }
    struct kafka_options ko = {o->bootstrap_servers, o->client_config};
    e->base.ops = &ops;
    int rc = kafka_open(&ko, &e->k, err);
    if (rc < 0) {
        free(e);
        return rc;
    }
    *ret = &e->base;
    return 0;
}
