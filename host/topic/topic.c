/*
 * The interface itself: checks that hold for every engine, then the engine's own function.
 *
 * Threads: no state here.
 */
#include "topic/topic.h"

#include "base/str.h"
#include "base/thread.h"
#include "topic/topic_int.h"

int topic_is_internal(const char *name)
{
    static const char *const names[] = {TOPIC_OFFSETS_NAME, "connect-configs", "connect-offsets",
                                        "connect-status", "_schemas"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (str_eq(name, names[i])) {
            return 1;
        }
    }
    return 0;
}

void topic_close(struct topic_engine *e)
{
    if (e != NULL) {
        e->ops->close(e);
    }
}

/* ---- topics ---- */

static int check_name(const char *name, struct err *err)
{
    if (name == NULL || !str_is_topic_name(name)) {
        return err_set(err, ERR_INVAL,
                       "topic name \"%.300s\" is not valid: use 1 to 249 of a-z A-Z 0-9 . _ -",
                       name != NULL ? name : "");
    }
    return 0;
}

int topic_create(struct topic_engine *e, const char *name, int32_t partitions,
                 const struct topic_config *config, size_t n_config, struct err *err)
{
    TRY(check_name(name, err));
    return e->ops->create(e, name, partitions, config, n_config, err);
}

int topic_grow(struct topic_engine *e, const char *name, int32_t partitions, struct err *err)
{
    TRY(check_name(name, err));
    if (topic_is_internal(name)) {
        return err_set(err, ERR_INVAL, "topic %s is internal and keeps its one partition", name);
    }
    return e->ops->grow(e, name, partitions, err);
}

int topic_configure(struct topic_engine *e, const char *name, const struct topic_config *config,
                    size_t n_config, struct err *err)
{
    TRY(check_name(name, err));
    return e->ops->configure(e, name, config, n_config, err);
}

int topic_delete(struct topic_engine *e, const char *name, struct err *err)
{
    TRY(check_name(name, err));
    if (topic_is_internal(name)) {
        return err_set(err, ERR_INVAL, "topic %s is internal and cannot be deleted", name);
    }
    return e->ops->remove(e, name, err);
}

int topic_resolve(struct topic_engine *e, const char *name, struct topic_info *ret, struct err *err)
{
    TRY(check_name(name, err));
    return e->ops->resolve(e, name, ret, err);
}

int topic_list(struct topic_engine *e, void (*each)(void *arg, const char *name), void *arg,
               struct err *err)
{
    return e->ops->list(e, each, arg, err);
}

int topic_get_config(struct topic_engine *e, const char *name,
                     void (*each)(void *arg, const char *key, const char *value), void *arg,
                     struct err *err)
{
    TRY(check_name(name, err));
    return e->ops->get_config(e, name, each, arg, err);
}

int topic_partition_status(struct topic_engine *e, const char *name, int32_t partition,
                           struct topic_partition_status *ret, struct err *err)
{
    TRY(check_name(name, err));
    return e->ops->partition_status(e, name, partition, ret, err);
}

int topic_writable(struct topic_engine *e, char *ret_reason, size_t reason_len)
{
    return e->ops->writable(e, ret_reason, reason_len);
}

/* ---- units ---- */

int topic_stream_open(struct topic_engine *e, struct topic_stream **ret, struct err *err)
{
    return e->ops->stream_open(e, ret, err);
}

void topic_stream_reset(struct topic_stream *s)
{
    s->engine->ops->stream_reset(s);
}

void topic_stream_close(struct topic_stream *s)
{
    if (s != NULL) {
        s->engine->ops->stream_close(s);
    }
}

static int check_appends(const struct topic_append *a, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        TRY(check_name(a[i].topic, err));
        if (a[i].len == 0 || a[i].n_records <= 0) {
            return err_set(err, ERR_INVAL, "append %zu to %s-%d holds no records", i, a[i].topic,
                           a[i].partition);
        }
        if (str_eq(a[i].topic, TOPIC_OFFSETS_NAME)) {
            return err_set(err, ERR_INVAL,
                           "append %zu: " TOPIC_OFFSETS_NAME " is written by the engine alone", i);
        }
    }
    return 0;
}

int topic_submit(struct topic_engine *e, struct topic_unit *u, struct err *err)
{
    if (u->n_appends + u->n_state + u->n_group_offsets == 0) {
        return err_set(err, ERR_INVAL, "an empty commit unit");
    }
    if (u->n_group_offsets > 0 && u->group == NULL) {
        return err_set(err, ERR_INVAL, "group offsets without a group");
    }
    TRY(check_appends(u->appends, u->n_appends, err));
    TRY(check_appends(u->state, u->n_state, err));
    for (size_t i = 0; i < u->n_group_offsets; i++) {
        TRY(check_name(u->group_offsets[i].topic, err));
        if (u->group_offsets[i].partition < 0 || u->group_offsets[i].offset < -1) {
            return err_set(err, ERR_INVAL, "group offset %zu: partition or offset out of range", i);
        }
    }
    return e->ops->submit(e, u, err);
}

struct waiter {
    struct mutex lock;
    struct cond cond;
    int done;
    struct err err;
};

static void waiter_done(struct topic_unit *u, const struct err *err)
{
    struct waiter *w = u->arg;
    mutex_lock(&w->lock);
    err_copy(&w->err, err);
    w->done = 1;
    cond_signal(&w->cond);
    mutex_unlock(&w->lock);
}

int topic_commit(struct topic_engine *e, struct topic_unit *u, struct err *err)
{
    struct waiter w = {.err = ERR_INIT};
    void (*done)(struct topic_unit *, const struct err *) = u->done;
    void *arg = u->arg;
    mutex_init(&w.lock);
    cond_init(&w.cond);
    u->done = waiter_done;
    u->arg = &w;
    int rc = topic_submit(e, u, err);
    if (rc == 0) {
        mutex_lock(&w.lock);
        while (!w.done) {
            cond_wait(&w.cond, &w.lock);
        }
        mutex_unlock(&w.lock);
        rc = w.err.code;
        if (rc != 0) {
            err_copy(err, &w.err);
        }
    }
    u->done = done;
    u->arg = arg;
    cond_destroy(&w.cond);
    mutex_destroy(&w.lock);
    return rc;
}

/* ---- reading ---- */

int topic_reader_open(struct topic_engine *e, const char *topic, int32_t partition,
                      void (*wake)(void *arg), void *arg, struct topic_reader **ret,
                      struct err *err)
{
    TRY(check_name(topic, err));
    return e->ops->reader_open(e, topic, partition, wake, arg, ret, err);
}

int topic_read(struct topic_reader *r, int64_t offset, size_t max_bytes, struct buf *out,
               struct topic_read *ret, struct err *err)
{
    return r->engine->ops->read(r, offset, max_bytes, out, ret, err);
}

void topic_reader_close(struct topic_reader *r)
{
    if (r != NULL) {
        r->engine->ops->reader_close(r);
    }
}

/* ---- groups ---- */

int topic_member_join(struct topic_engine *e, const char *group, const char *const *topics,
                      size_t n_topics, void (*wake)(void *arg), void *arg,
                      struct topic_member **ret, struct err *err)
{
    if (group == NULL || group[0] == '\0') {
        return err_set(err, ERR_INVAL, "a group needs a name");
    }
    for (size_t i = 0; i < n_topics; i++) {
        TRY(check_name(topics[i], err));
    }
    return e->ops->member_join(e, group, topics, n_topics, wake, arg, ret, err);
}

int topic_member_poll(struct topic_member *m, struct topic_event *ret)
{
    return m->engine->ops->member_poll(m, ret);
}

void topic_member_revoked(struct topic_member *m)
{
    m->engine->ops->member_revoked(m);
}

void topic_member_leave(struct topic_member *m)
{
    if (m != NULL) {
        m->engine->ops->member_leave(m);
    }
}

int topic_group_offset(struct topic_engine *e, const char *group, const char *topic,
                       int32_t partition, int64_t *ret, struct err *err)
{
    TRY(check_name(topic, err));
    return e->ops->group_offset(e, group, topic, partition, ret, err);
}
