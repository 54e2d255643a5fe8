/* What source tasks ask for: topics to write to, and stored offsets. */
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "connectd/abi.h"
#include "pipeline/pipeline_int.h"

enum { MAX_TOPICS = 10000 };

static void reply_topic(struct task *t, const struct link_topic *f)
{
    struct buf out = BUF_INIT(0);
    link_put_topic(&out, f);
    if (out.error == 0) {
        pipeline_connector_send(t->connector, &out);
    }
    buf_free(&out);
}

/* The topic's info; it is made with one partition when it does not exist (topics: declares
 * others). */
static int resolve(struct task *t, const char *topic, struct topic_info *ret, struct err *err)
{
    struct topic_engine *e = t->connector->p->engine;
    if (!str_is_topic_name(topic)) {
        return err_set(err, ERR_DATA, "'%s' is no topic name: 1 to 249 of a-z A-Z 0-9 . _ -",
                       topic);
    }
    if (topic_is_internal(topic)) {
        return err_set(err, ERR_CONFIG, "topic %s is the host's own", topic);
    }
    int rc = topic_resolve(e, topic, ret, err);
    if (rc == ERR_NOT_FOUND) {
        rc = topic_create(e, topic, 1, NULL, 0, err);
        if (rc == 0 || rc == ERR_EXISTS) {
            LOG_INFO("pipeline", "topic %s made with 1 partition for connector %s", topic,
                     t->connector->name);
            rc = topic_resolve(e, topic, ret, err);
        }
    }
    return rc;
}

/* Only sources write to topics, and no connector to more than a bounded number of them. */
static int may_ask(const struct connector *c, struct err *err)
{
    if (c->class_->kind != CTD_KIND_SOURCE) {
        return err_set(err, ERR_UNSUPPORTED, "a sink writes to no topic");
    }
    if (map_count(c->resolved) >= MAX_TOPICS) {
        return err_set(err, ERR_LIMIT, "the connector writes to %d topics already", MAX_TOPICS);
    }
    return 0;
}

void pipeline_source_resolve(struct task *t, const struct link_frame *f)
{
    struct link_resolve ask;
    struct err err = ERR_INIT;
    if (link_get_resolve(f, &ask, &err) != 0) {
        pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_NONE, err.msg);
        return;
    }
    char topic[TOPIC_NAME_MAX + 2];
    size_t n = ask.topic.len < sizeof(topic) ? ask.topic.len : sizeof(topic) - 1;
    memcpy(topic, ask.topic.ptr != NULL ? (const char *)ask.topic.ptr : "", n);
    topic[n] = '\0';
    struct topic_info info = {0};
    int rc = may_ask(t->connector, &err);
    rc = rc != 0 ? rc : resolve(t, topic, &info, &err);
    if (rc == 0 && map_put(t->connector->resolved, topic, t->connector) != 0) {
        rc = err_set(&err, ERR_NOMEM, "out of memory");
    }
    struct link_topic answer = {.request = ask.request,
                                .status = rc,
                                .message = slice_str(rc != 0 ? err.msg : NULL),
                                .topic = ask.topic,
                                .partitions = info.partitions,
                                .epoch = info.epoch,
                                .max_batch_bytes = info.max_batch_bytes};
    memcpy(answer.topic_id, info.id, sizeof(info.id));
    reply_topic(t, &answer);
}

void pipeline_source_get_offset(struct task *t, const struct link_frame *f)
{
    struct link_get_offset ask;
    struct err err = ERR_INIT;
    if (link_get_get_offset(f, &ask, &err) != 0) {
        pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_NONE, err.msg);
        return;
    }
    const char *stored = pipeline_offsets_get(t->connector->p, t->connector->name, ask.partition);
    struct link_offset answer = {.request = ask.request, .offset = slice_str(stored)};
    struct buf out = BUF_INIT(0);
    link_put_offset(&out, t->id, &answer);
    if (out.error == 0) {
        pipeline_connector_send(t->connector, &out);
    }
    buf_free(&out);
}
