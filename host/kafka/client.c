/*
 * Opening and closing, configuration, errors, and the two threads.
 *
 * Threads: `kafka-events` serves every queue of librdkafka without waiting and calls all callbacks;
 * `kafka-worker` runs tasks one at a time. Lock order: lock, then kick_lock; librdkafka's queues lock
 * inside themselves and call only kafka_kick() while they do.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/kafka_int.h"

#define SERVE_MS 250 /* queues are looked at this often even without a kick: max.poll.interval.ms */

/* ---- errors ---- */

int kafka_code(rd_kafka_resp_err_t e)
{
    switch (e) {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        return ERR_NOT_FOUND;
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS:
        return ERR_EXISTS;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
        return ERR_DATA;
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
        return ERR_FENCED;
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
        return ERR_UNSUPPORTED;
    case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
    case RD_KAFKA_RESP_ERR_INVALID_PARTITIONS:
    case RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
        return ERR_CONFIG;
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        return ERR_LIMIT;
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
        return ERR_CORRUPT;
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return 0;
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
    case RD_KAFKA_RESP_ERR__STATE:
        return ERR_FATAL;
    default:
        /* Time-outs, lost connections, elections, too few replicas: the cluster comes back. */
        return ERR_RETRIABLE;
    }
}

int kafka_err(struct err *err, rd_kafka_resp_err_t e, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_set(err, kafka_code(e), "%s: %s (Kafka's %s)", text, rd_kafka_err2str(e),
                   rd_kafka_err2name(e));
}

/* ---- configuration ---- */

static void on_log(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
    int l = level <= 3 ? LOG_LEVEL_ERROR : level <= 4 ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG;
    log_write(l, "kafka", NULL, "%s %s: %s", rk != NULL ? rd_kafka_name(rk) : "", fac, text);
}

static int set(rd_kafka_conf_t *conf, const char *key, const char *value, struct err *err)
{
    char text[512];
    if (rd_kafka_conf_set(conf, key, value, text, sizeof(text)) != RD_KAFKA_CONF_OK) {
        return err_set(err, ERR_CONFIG, "Kafka client setting %s: %s", key, text);
    }
    return 0;
}

rd_kafka_conf_t *kafka_conf(struct kafka *k, const char *const *ours, struct err *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int rc = set(conf, "bootstrap.servers", k->bootstrap, err);
    if (rc == 0) {
        rc = set(conf, "log.connection.close", "false", err);
    }
    for (size_t i = 0; rc == 0 && k->config[i] != NULL; i += 2) {
        rc = set(conf, k->config[i], k->config[i + 1], err);
    }
    for (size_t i = 0; rc == 0 && ours[i] != NULL; i += 2) {
        rc = set(conf, ours[i], ours[i + 1], err);
    }
    if (rc < 0) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_log_cb(conf, on_log);
    return conf;
}

rd_kafka_t *kafka_handle(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *err)
{
    char text[512];
    rd_kafka_t *rk = rd_kafka_new(type, conf, text, sizeof(text));
    if (rk == NULL) {
        rd_kafka_conf_destroy(conf);
        (void)err_set(err, ERR_CONFIG, "Kafka client: %s", text);
    }
    return rk;
}

/* ---- threads ---- */

void kafka_kick(struct kafka *k)
{
    mutex_lock(&k->kick_lock);
    k->kick = 1;
    cond_signal(&k->kicked);
    mutex_unlock(&k->kick_lock);
}

static void on_arrival(rd_kafka_t *rk, void *opaque)
{
    (void)rk;
    kafka_kick(opaque);
}

void kafka_queue_kicks(struct kafka *k, rd_kafka_queue_t *q)
{
    rd_kafka_queue_cb_event_enable(q, on_arrival, k);
}

void kafka_task_add(struct kafka *k, struct kafka_task *t)
{
    t->next = NULL;
    *k->tasks_tail = t;
    k->tasks_tail = &t->next;
    cond_signal(&k->work);
}

static void *run_worker(void *arg)
{
    struct kafka *k = arg;
    mutex_lock(&k->lock);
    for (;;) {
        struct kafka_task *t = k->tasks;
        if (t == NULL && k->closing) {
            break;
        }
        if (t == NULL) {
            cond_wait(&k->work, &k->lock);
            continue;
        }
        k->tasks = t->next;
        if (k->tasks == NULL) {
            k->tasks_tail = &k->tasks;
        }
        mutex_unlock(&k->lock);
        t->run(k, t->arg); /* the task is its owner's again */
        mutex_lock(&k->lock);
    }
    mutex_unlock(&k->lock);
    return NULL;
}

static void *run_events(void *arg)
{
    struct kafka *k = arg;
    int closing = 0;
    while (closing < 2) {
        mutex_lock(&k->kick_lock);
        int64_t deadline = clock_mono_ms() + SERVE_MS;
        while (!k->kick && cond_wait_until(&k->kicked, &k->kick_lock, deadline) == 0) {
        }
        k->kick = 0;
        mutex_unlock(&k->kick_lock);
        kafka_producer_serve(k);
        kafka_members_serve(k);
        kafka_readers_serve(k);
        mutex_lock(&k->lock);
        closing = k->closing;
        mutex_unlock(&k->lock);
    }
    return NULL;
}

/* ---- opening ---- */

static int copy_options(struct kafka *k, const struct kafka_options *o, struct err *err)
{
    size_t n = 0;
    while (o->client_config != NULL && o->client_config[n] != NULL) {
        n++;
    }
    if (n % 2 != 0) {
        return err_set(err, ERR_INVAL, "Kafka client settings come as key and value");
    }
    k->bootstrap = strdup(o->bootstrap_servers);
    k->config = calloc(n + 1, sizeof(char *));
    int ok = k->bootstrap != NULL && k->config != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        k->config[i] = strdup(o->client_config[i]);
        ok = k->config[i] != NULL;
    }
    return ok ? 0 : err_set(err, ERR_NOMEM, "no memory for the Kafka client");
}

static void kafka_free(struct kafka *k)
{
    for (size_t i = 0; k->config != NULL && k->config[i] != NULL; i++) {
        free(k->config[i]);
    }
    kafka_fetchers_free(k);
    kafka_producer_stop(k);
    if (k->admin_queue != NULL) {
        rd_kafka_queue_cb_event_enable(k->admin_queue, NULL, NULL);
        rd_kafka_queue_destroy(k->admin_queue);
    }
    if (k->admin != NULL) {
        rd_kafka_destroy(k->admin);
    }
    map_free(k->topics);
    free(k->config);
    free(k->bootstrap);
    cond_destroy(&k->work);
    cond_destroy(&k->settled);
    cond_destroy(&k->kicked);
    mutex_destroy(&k->kick_lock);
    mutex_destroy(&k->lock);
    free(k);
}

static int start(struct kafka *k, struct err *err)
{
    static const char *const ours[] = {"allow.auto.create.topics", "false", NULL};
    k->topics = map_new(NULL);
    if (k->topics == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for the Kafka client");
    }
    rd_kafka_conf_t *conf = kafka_conf(k, ours, err);
    k->admin = conf != NULL ? kafka_handle(RD_KAFKA_CONSUMER, conf, err) : NULL;
    if (k->admin == NULL) {
        return ERR_CONFIG;
    }
    k->admin_queue = rd_kafka_queue_new(k->admin);
    kafka_queue_kicks(k, k->admin_queue);
    TRY(kafka_producer_start(k, err));
    TRY(thread_start(&k->worker, "kafka-worker", run_worker, k, err));
    int rc = thread_start(&k->events, "kafka-events", run_events, k, err);
    if (rc < 0) {
        mutex_lock(&k->lock);
        k->closing = 1;
        cond_signal(&k->work);
        mutex_unlock(&k->lock);
        thread_join(k->worker);
    }
    return rc;
}

int kafka_open(const struct kafka_options *o, struct kafka **ret, struct err *err)
{
    if (o->bootstrap_servers == NULL || o->bootstrap_servers[0] == '\0') {
        return err_set(err, ERR_CONFIG, "bootstrap.servers is empty: name at least one HOST:PORT");
    }
    struct kafka *k = calloc(1, sizeof(*k));
    if (k == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for the Kafka client");
    }
    mutex_init(&k->lock);
    mutex_init(&k->kick_lock);
    cond_init(&k->settled);
    cond_init(&k->kicked);
    cond_init(&k->work);
    k->tasks_tail = &k->tasks;
    int rc = copy_options(k, o, err);
    if (rc == 0) {
        rc = start(k, err);
    }
    if (rc < 0) {
        kafka_free(k);
        return rc;
    }
    *ret = k;
    return 0;
}

void kafka_close(struct kafka *k)
{
    if (k == NULL) {
        return;
    }
    mutex_lock(&k->lock);
    k->closing = 1;
    cond_signal(&k->work);
    mutex_unlock(&k->lock);
    thread_join(k->worker);
    mutex_lock(&k->lock);
    k->closing = 2;
    mutex_unlock(&k->lock);
    kafka_kick(k);
    thread_join(k->events);
    kafka_free(k);
}

int kafka_writable(struct kafka *k, char *ret_reason, size_t reason_len)
{
    mutex_lock(&k->lock);
    int ok = !k->broken && !k->down;
    if (!ok && reason_len > 0) {
        (void)snprintf(ret_reason, reason_len, "%s", k->reason);
    }
    mutex_unlock(&k->lock);
    return ok;
}
