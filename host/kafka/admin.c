/*
 * Topics on the cluster: metadata and admin calls, each waiting for its answer.
 *
 * Threads: the caller's, or the worker. Answers come on a queue of the call's own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka/kafka_int.h"

rd_kafka_AdminOptions_t *kafka_admin_options(struct kafka *k, rd_kafka_admin_op_t op)
{
    char text[64];
    rd_kafka_AdminOptions_t *o = rd_kafka_AdminOptions_new(k->admin, op);
    (void)rd_kafka_AdminOptions_set_request_timeout(o, KAFKA_WAIT_MS, text, sizeof(text));
    return o;
}

int kafka_admin_wait(rd_kafka_queue_t *q, const char *what, rd_kafka_event_t **ret, struct err *err)
{
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, 2 * KAFKA_WAIT_MS);
    if (ev == NULL) {
        return err_set(err, ERR_RETRIABLE, "%s: the cluster did not answer", what);
    }
    rd_kafka_resp_err_t e = rd_kafka_event_error(ev);
    if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
        int rc = err_set(err, kafka_code(e), "%s: %s (Kafka's %s)", what,
                         rd_kafka_event_error_string(ev), rd_kafka_err2name(e));
        rd_kafka_event_destroy(ev);
        return rc;
    }
    *ret = ev;
    return 0;
}

/* ---- what is known to exist ---- */

int kafka_topic_known(struct kafka *k, const char *name)
{
    return map_get(k->topics, name) != NULL;
}

/* Only saves looking it up again, so no memory is no failure. */
static void know(struct kafka *k, const char *name)
{
    mutex_lock(&k->lock);
    int rc = map_put(k->topics, name, k);
    (void)rc;
    mutex_unlock(&k->lock);
}

static void unknow(struct kafka *k, const char *name)
{
    mutex_lock(&k->lock);
    (void)map_del(k->topics, name);
    mutex_unlock(&k->lock);
}

/* ---- metadata ---- */

/* One topic's metadata; *ret_topic points into *ret, to be destroyed. All topics are asked for, since
 * asking for one by name may make it (brokers' auto.create.topics.enable). */
static int fetch_topic(struct kafka *k, const char *name, const struct rd_kafka_metadata **ret,
                       const struct rd_kafka_metadata_topic **ret_topic, struct err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_resp_err_t e = rd_kafka_metadata(k->admin, 1, NULL, &md, KAFKA_WAIT_MS);
    if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return kafka_err(err, e, "asking for topic %s", name);
    }
    const struct rd_kafka_metadata_topic *mt = NULL;
    for (int i = 0; i < md->topic_cnt && mt == NULL; i++) {
        mt = strcmp(md->topics[i].topic, name) == 0 ? &md->topics[i] : NULL;
    }
    e = mt != NULL ? mt->err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (e == RD_KAFKA_RESP_ERR_NO_ERROR && mt->partition_cnt <= 0) {
        e = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    }
    if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_metadata_destroy(md);
        if (kafka_code(e) == ERR_NOT_FOUND) {
            unknow(k, name);
            return err_set(err, ERR_NOT_FOUND, "there is no topic %s", name);
        }
        return kafka_err(err, e, "topic %s", name);
    }
    know(k, name);
    *ret = md;
    *ret_topic = mt;
    return 0;
}

/* librdkafka 2.0 keeps the cluster's topic ids to itself: 16 bytes of the name stand for it, so a topic that
 * was deleted and made again is not told from the old one. FNV-1a, two seeds. */
void kafka_topic_id(const char *name, uint8_t id[16])
{
    for (int half = 0; half < 2; half++) {
        uint64_t h = 14695981039346656037u + (uint64_t)half;
        for (const char *s = name; *s != '\0'; s++) {
            h = (h ^ (unsigned char)*s) * 1099511628211u;
        }
        memcpy(id + 8 * half, &h, sizeof(h));
    }
}

int kafka_topic_info(struct kafka *k, const char *name, struct kafka_topic_info *ret,
                     struct err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    const struct rd_kafka_metadata_topic *mt = NULL;
    TRY(fetch_topic(k, name, &md, &mt, err));
    ret->partitions = mt->partition_cnt;
    ret->max_batch_bytes = KAFKA_BATCH_BYTES;
    kafka_topic_id(name, ret->id);
    rd_kafka_metadata_destroy(md);
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int kafka_topic_list(struct kafka *k, void (*each)(void *arg, const char *name), void *arg,
                     struct err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_resp_err_t e = rd_kafka_metadata(k->admin, 1, NULL, &md, KAFKA_WAIT_MS);
    if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return kafka_err(err, e, "listing topics");
    }
    size_t n = (size_t)md->topic_cnt;
    const char **names = calloc(n + 1, sizeof(*names));
    if (names == NULL) {
        rd_kafka_metadata_destroy(md);
        return err_set(err, ERR_NOMEM, "no memory for %zu topic names", n);
    }
    for (size_t i = 0; i < n; i++) {
        names[i] = md->topics[i].topic;
    }
    qsort(names, n, sizeof(*names), by_bytes);
    for (size_t i = 0; i < n; i++) {
        each(arg, names[i]);
    }
    free(names);
    rd_kafka_metadata_destroy(md);
    return 0;
}

int kafka_partition_range(struct kafka *k, const char *name, int32_t partition, int64_t *ret_start,
                          int64_t *ret_end, int *ret_online, struct err *err)
{
    const struct rd_kafka_metadata *md = NULL;
    const struct rd_kafka_metadata_topic *mt = NULL;
    TRY(fetch_topic(k, name, &md, &mt, err));
    int found = 0;
    int online = 0;
    for (int i = 0; i < mt->partition_cnt; i++) {
        if (mt->partitions[i].id == partition) {
            found = 1;
            online = mt->partitions[i].leader >= 0;
        }
    }
    rd_kafka_metadata_destroy(md);
    if (!found) {
        return err_set(err, ERR_NOT_FOUND, "topic %s has no partition %d", name, partition);
    }
    int64_t lo = 0;
    int64_t hi = 0;
    if (online) {
        rd_kafka_resp_err_t e =
            rd_kafka_query_watermark_offsets(k->admin, name, partition, &lo, &hi, KAFKA_WAIT_MS);
        if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return kafka_err(err, e, "asking for the offsets of %s-%d", name, partition);
        }
    }
    *ret_start = lo;
    *ret_end = hi;
    *ret_online = online;
    return 0;
}

/* ---- admin calls ---- */

static int topic_results(const rd_kafka_topic_result_t **r, size_t n, const char *what,
                         struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t e = rd_kafka_topic_result_error(r[i]);
        if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
            const char *text = rd_kafka_topic_result_error_string(r[i]);
            return err_set(err, kafka_code(e), "%s: %s (Kafka's %s)", what,
                           text != NULL ? text : rd_kafka_err2str(e), rd_kafka_err2name(e));
        }
    }
    return 0;
}

int kafka_topic_create(struct kafka *k, const char *name, int32_t partitions,
                       const struct kafka_config *config, size_t n_config, struct err *err)
{
    char text[512];
    char what[512];
    (void)snprintf(what, sizeof(what), "creating topic %s", name);
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(name, partitions, -1, text, sizeof(text));
    if (t == NULL) {
        return err_set(err, ERR_INVAL, "%s: %s", what, text);
    }
    for (size_t i = 0; i < n_config; i++) {
        (void)rd_kafka_NewTopic_set_config(t, config[i].key, config[i].value);
    }
    rd_kafka_queue_t *q = rd_kafka_queue_new(k->admin);
    rd_kafka_AdminOptions_t *o = kafka_admin_options(k, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    (void)rd_kafka_AdminOptions_set_operation_timeout(o, KAFKA_WAIT_MS, text, sizeof(text));
    rd_kafka_CreateTopics(k->admin, &t, 1, o, q);
    rd_kafka_event_t *ev = NULL;
    int rc = kafka_admin_wait(q, what, &ev, err);
    if (rc == 0) {
        size_t n = 0;
        const rd_kafka_topic_result_t **r =
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(ev), &n);
        rc = topic_results(r, n, what, err);
        rd_kafka_event_destroy(ev);
    }
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_queue_destroy(q);
    rd_kafka_NewTopic_destroy(t);
    if (rc == 0) {
        know(k, name);
    }
    return rc;
}

int kafka_topic_grow(struct kafka *k, const char *name, int32_t partitions, struct err *err)
{
    char text[512];
    char what[512];
    struct kafka_topic_info info;
    (void)snprintf(what, sizeof(what), "growing topic %s", name);
    TRY(kafka_topic_info(k, name, &info, err));
    if (partitions == info.partitions) {
        return 0;
    }
    if (partitions < info.partitions) {
        return err_set(err, ERR_INVAL, "topic %s has %d partitions and cannot shrink to %d", name,
                       info.partitions, partitions);
    }
    rd_kafka_NewPartitions_t *p =
        rd_kafka_NewPartitions_new(name, (size_t)partitions, text, sizeof(text));
    if (p == NULL) {
        return err_set(err, ERR_INVAL, "%s: %s", what, text);
    }
    rd_kafka_queue_t *q = rd_kafka_queue_new(k->admin);
    rd_kafka_AdminOptions_t *o = kafka_admin_options(k, RD_KAFKA_ADMIN_OP_CREATEPARTITIONS);
    rd_kafka_CreatePartitions(k->admin, &p, 1, o, q);
    rd_kafka_event_t *ev = NULL;
    int rc = kafka_admin_wait(q, what, &ev, err);
    if (rc == 0) {
        size_t n = 0;
        const rd_kafka_topic_result_t **r =
            rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(ev), &n);
        rc = topic_results(r, n, what, err);
        rd_kafka_event_destroy(ev);
    }
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_queue_destroy(q);
    rd_kafka_NewPartitions_destroy(p);
    return rc;
}

int kafka_topic_delete(struct kafka *k, const char *name, struct err *err)
{
    char what[512];
    (void)snprintf(what, sizeof(what), "deleting topic %s", name);
    rd_kafka_DeleteTopic_t *t = rd_kafka_DeleteTopic_new(name);
    rd_kafka_queue_t *q = rd_kafka_queue_new(k->admin);
    rd_kafka_AdminOptions_t *o = kafka_admin_options(k, RD_KAFKA_ADMIN_OP_DELETETOPICS);
    rd_kafka_DeleteTopics(k->admin, &t, 1, o, q);
    rd_kafka_event_t *ev = NULL;
    int rc = kafka_admin_wait(q, what, &ev, err);
    if (rc == 0) {
        size_t n = 0;
        const rd_kafka_topic_result_t **r =
            rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(ev), &n);
        rc = topic_results(r, n, what, err);
        rd_kafka_event_destroy(ev);
    }
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_queue_destroy(q);
    rd_kafka_DeleteTopic_destroy(t);
    if (rc == 0) {
        unknow(k, name);
    }
    return rc;
}

/* Errors of one resource's result. */
static int resource_results(const rd_kafka_ConfigResource_t **r, size_t n, const char *what,
                            struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t e = rd_kafka_ConfigResource_error(r[i]);
        if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
            const char *text = rd_kafka_ConfigResource_error_string(r[i]);
            return err_set(err, kafka_code(e), "%s: %s (Kafka's %s)", what,
                           text != NULL ? text : rd_kafka_err2str(e), rd_kafka_err2name(e));
        }
    }
    return 0;
}

int kafka_topic_configure(struct kafka *k, const char *name, const struct kafka_config *config,
                          size_t n_config, struct err *err)
{
    char what[512];
    (void)snprintf(what, sizeof(what), "configuring topic %s", name);
    rd_kafka_ConfigResource_t *res = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
    for (size_t i = 0; i < n_config; i++) {
        (void)rd_kafka_ConfigResource_set_config(res, config[i].key, config[i].value);
    }
    rd_kafka_queue_t *q = rd_kafka_queue_new(k->admin);
    rd_kafka_AdminOptions_t *o = kafka_admin_options(k, RD_KAFKA_ADMIN_OP_ALTERCONFIGS);
    rd_kafka_AlterConfigs(k->admin, &res, 1, o, q);
    rd_kafka_event_t *ev = NULL;
    int rc = kafka_admin_wait(q, what, &ev, err);
    if (rc == 0) {
        size_t n = 0;
        const rd_kafka_ConfigResource_t **r =
            rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(ev), &n);
        rc = resource_results(r, n, what, err);
        rd_kafka_event_destroy(ev);
    }
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_queue_destroy(q);
    rd_kafka_ConfigResource_destroy(res);
    return rc;
}

int kafka_topic_config(struct kafka *k, const char *name,
                       void (*each)(void *arg, const char *key, const char *value), void *arg,
                       struct err *err)
{
    char what[512];
    (void)snprintf(what, sizeof(what), "asking for the config of topic %s", name);
    rd_kafka_ConfigResource_t *res = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
    rd_kafka_queue_t *q = rd_kafka_queue_new(k->admin);
    rd_kafka_AdminOptions_t *o = kafka_admin_options(k, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_DescribeConfigs(k->admin, &res, 1, o, q);
    rd_kafka_event_t *ev = NULL;
    int rc = kafka_admin_wait(q, what, &ev, err);
    if (rc == 0) {
        size_t n = 0;
        const rd_kafka_ConfigResource_t **r = rd_kafka_DescribeConfigs_result_resources(
            rd_kafka_event_DescribeConfigs_result(ev), &n);
        rc = resource_results(r, n, what, err);
        for (size_t i = 0; rc == 0 && i < n; i++) {
            size_t m = 0;
            const rd_kafka_ConfigEntry_t **c = rd_kafka_ConfigResource_configs(r[i], &m);
            for (size_t j = 0; j < m; j++) {
                const char *value = rd_kafka_ConfigEntry_value(c[j]);
                if (value != NULL && !rd_kafka_ConfigEntry_is_default(c[j])) {
                    each(arg, rd_kafka_ConfigEntry_name(c[j]), value);
                }
            }
        }
        rd_kafka_event_destroy(ev);
    }
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_queue_destroy(q);
    rd_kafka_ConfigResource_destroy(res);
    return rc;
}
