/* Option tables of the host and of the framework. */
#include "pipeline/options.h"

#include "pipeline/pipeline.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define ANY      1, 0 /* min > max: unbounded */
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const flush_modes[] = {"always", "interval", "os", NULL};
static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const restart_policies[] = {"on-failure", "never", NULL};
static const char *const offset_resets[] = {"earliest", "latest", NULL};

static const struct option host_options[] = {
    {"listeners", OPTION_STRING, OPTION_BUILT, "http://127.0.0.1:8083", ANY, NULL,
     "Where REST listens; port 0 takes a free one."},
    {"plugin.path", OPTION_LIST, OPTION_BUILT, NULL, ANY, NULL, "Folders that hold plugins."},
    {"data.dir", OPTION_STRING, OPTION_BUILT, "./data", ANY, NULL, "The log, offsets and config."},
    {"connectors.dir", OPTION_STRING, OPTION_BUILT, "./connectors.d", ANY, NULL,
     "Folder of pipeline files."},
    {"log.flush", OPTION_STRING, OPTION_BUILT, "always", ANY, flush_modes,
     "When an ack means durable: always, interval or os."},
    {"log.flush.interval.ms", OPTION_MS, OPTION_BUILT, "1000", 1, 3600000, NULL,
     "With log.flush interval: how often the log is synced."},
    {"log.level", OPTION_STRING, OPTION_BUILT, "info", ANY, log_levels, "How much is logged."},
    {"env.pass", OPTION_LIST, OPTION_BUILT, "", ANY, NULL,
     "Names of environment variables that runners see."},
    {"key.converter", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL,
     "Key converter of connectors that name none."},
    {"value.converter", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL,
     "Value converter of connectors that name none."},
    {"key.converter.", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL, "Options of key.converter."},
    {"value.converter.", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL,
     "Options of value.converter."},
    {"task.hold.bytes", OPTION_BYTES, OPTION_BUILT, "67108864", 65536, (int64_t)1 << 32, NULL,
     "Bytes that a sink may keep before it is flushed."},
    {"task.shutdown.graceful.timeout.ms", OPTION_MS, OPTION_BUILT, "5000", 0, 600000, NULL,
     "How long a task may take to stop."},
    {"offset.flush.interval.ms", OPTION_MS, OPTION_BUILT, "60000", 1, 86400000, NULL,
     "Longest time between two flushes of a busy sink."},
    {"bootstrap.servers", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, "A Kafka cluster."},
    {"group.id", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, "One host needs no group."},
    {"config.storage.topic", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"offset.storage.topic", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"status.storage.topic", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"config.storage.replication.factor", OPTION_I64, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"offset.storage.replication.factor", OPTION_I64, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"status.storage.replication.factor", OPTION_I64, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"offset.storage.partitions", OPTION_I64, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"status.storage.partitions", OPTION_I64, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"offset.flush.timeout.ms", OPTION_MS, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"plugin.discovery", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"header.converter", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"config.providers", OPTION_LIST, OPTION_LATER, NULL, ANY, NULL, ""},
    {"config.providers.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"admin.listeners", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"topic.creation.enable", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"client.id", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"heartbeat.interval.ms", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"session.timeout.ms", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"rebalance.timeout.ms", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"worker.sync.timeout.ms", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"worker.unsync.backoff.ms", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"scheduled.rebalance.max.delay.ms", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"connect.protocol", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"rest.advertised.host.name", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"rest.advertised.port", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"rest.advertised.listener", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"access.control.allow.origin", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"access.control.allow.methods", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"offset.storage.file.filename", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"internal.key.converter", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"internal.value.converter", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"internal.key.converter.", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"internal.value.converter.", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"metric.reporters", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"metrics.", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"topic.tracking.", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"inter.worker.", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"producer.", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"consumer.", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"admin.", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"security.protocol", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"ssl.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"sasl.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"connector.client.config.override.policy", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"rest.extension.classes", OPTION_LIST, OPTION_LATER, NULL, ANY, NULL, ""},
    {"exactly.once.source.support", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
};

static const struct option connector_options[] = {
    {"name", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL, "The connector's name."},
    {"connector.class", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL, "The plugin class."},
    {"tasks.max", OPTION_I64, OPTION_BUILT, "1", 1, 1000, NULL, "Most tasks to run."},
    {"topics", OPTION_LIST, OPTION_BUILT, NULL, ANY, NULL, "Sinks: topics to read."},
    {"key.converter", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL, "Converter of keys."},
    {"value.converter", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL, "Converter of values."},
    {"key.converter.", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL, "Options of key.converter."},
    {"value.converter.", OPTION_STRING, OPTION_BUILT, NULL, ANY, NULL,
     "Options of value.converter."},
    {"restart.policy", OPTION_STRING, OPTION_BUILT, "on-failure", ANY, restart_policies,
     "Whether a failed task starts again by itself."},
    {"restart.backoff.ms", OPTION_MS, OPTION_BUILT, "1000", 1, 3600000, NULL,
     "First wait before a restart; it doubles."},
    {"restart.backoff.max.ms", OPTION_MS, OPTION_BUILT, "60000", 1, 86400000, NULL,
     "Longest wait before a restart."},
    {"callback.timeout.ms", OPTION_MS, OPTION_BUILT, NULL, 100, 86400000, NULL,
     "Longest time in one plugin call; put and flush 300000, others 30000."},
    {"memory.limit.bytes", OPTION_BYTES, OPTION_BUILT, "268435456", 16777216, (int64_t)1 << 40,
     NULL, "Memory that the connector's runner may use."},
    {"offset.flush.interval.ms", OPTION_MS, OPTION_BUILT, NULL, 1, 86400000, NULL,
     "Longest time between two flushes of a busy sink."},
    {"isolation", OPTION_STRING, OPTION_BUILT, "process", ANY, NULL,
     "process: a runner process of its own."},
    {"strict", OPTION_BOOL, OPTION_BUILT, "true", ANY, NULL, "Unknown keys are errors."},
    {"consumer.override.auto.offset.reset", OPTION_STRING, OPTION_BUILT, "earliest", ANY,
     offset_resets, "Where a sink starts in a topic that it has no offset for."},
    {"header.converter", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"header.converter.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"topics.regex", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"transforms", OPTION_LIST, OPTION_LATER, NULL, ANY, NULL, ""},
    {"transforms.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"predicates", OPTION_LIST, OPTION_LATER, NULL, ANY, NULL, ""},
    {"predicates.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"errors.tolerance", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"errors.retry.timeout", OPTION_MS, OPTION_LATER, NULL, ANY, NULL, ""},
    {"errors.retry.delay.max.ms", OPTION_MS, OPTION_LATER, NULL, ANY, NULL, ""},
    {"errors.log.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"errors.deadletterqueue.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"topic.creation.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"consumer.override.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"producer.override.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"admin.override.", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"config.action.reload", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"tasks.max.enforce", OPTION_BOOL, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"exactly.once.support", OPTION_STRING, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"transaction.boundary", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
    {"transaction.boundary.interval.ms", OPTION_MS, OPTION_LATER, NULL, ANY, NULL, ""},
    {"offsets.storage.topic", OPTION_STRING, OPTION_LATER, NULL, ANY, NULL, ""},
};

static const char *const compressions[] = {"producer", "uncompressed", "none", NULL};
static const char *const timestamp_types[] = {"CreateTime", NULL};

static const char *const cleanup_policies[] = {"delete", "compact", "compact,delete",
                                               "delete,compact", NULL};

/* Retention and compaction are not built yet: a topic keeps everything, and says so when it is made. */
static const struct option topic_options[] = {
    {"partitions", OPTION_I64, OPTION_BUILT, "1", 1, 10000, NULL, "Partitions of the topic."},
    {"replication.factor", OPTION_I64, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"min.insync.replicas", OPTION_I64, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"segment.bytes", OPTION_BYTES, OPTION_BUILT, "1073741824", 14, 2147483647, NULL, ""},
    {"segment.ms", OPTION_MS, OPTION_BUILT, "604800000", 1, INT64_MAX, NULL, ""},
    {"max.message.bytes", OPTION_BYTES, OPTION_BUILT, "8388608", 61, 33554432, NULL, ""},
    {"index.interval.bytes", OPTION_BYTES, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"cleanup.policy", OPTION_STRING, OPTION_KEPT, "delete", ANY, cleanup_policies, ""},
    {"retention.ms", OPTION_MS, OPTION_KEPT, "-1", -1, INT64_MAX, NULL, ""},
    {"retention.bytes", OPTION_BYTES, OPTION_KEPT, "-1", -1, INT64_MAX, NULL, ""},
    {"delete.retention.ms", OPTION_MS, OPTION_KEPT, NULL, 0, INT64_MAX, NULL, ""},
    {"min.compaction.lag.ms", OPTION_MS, OPTION_KEPT, NULL, 0, INT64_MAX, NULL, ""},
    {"max.compaction.lag.ms", OPTION_MS, OPTION_KEPT, NULL, 1, INT64_MAX, NULL, ""},
    {"min.cleanable.dirty.ratio", OPTION_F64, OPTION_KEPT, NULL, ANY, NULL, ""},
    {"compression.type", OPTION_STRING, OPTION_BUILT, "producer", ANY, compressions, ""},
    {"message.timestamp.type", OPTION_STRING, OPTION_BUILT, "CreateTime", ANY, timestamp_types, ""},
    {"flush.messages", OPTION_I64, OPTION_IGNORED, NULL, ANY, NULL, ""},
    {"flush.ms", OPTION_MS, OPTION_IGNORED, NULL, ANY, NULL, ""},
};

const struct option *pipeline_options_topic(size_t *ret_n)
{
    *ret_n = COUNT(topic_options);
    return topic_options;
}

const struct option *pipeline_options_host(size_t *ret_n)
{
    *ret_n = COUNT(host_options);
    return host_options;
}

const struct option *pipeline_options_connector(size_t *ret_n)
{
    *ret_n = COUNT(connector_options);
    return connector_options;
}

const struct option *pipeline_option_find(const struct option *table, size_t n, const char *key)
{
    const struct option *prefix = NULL;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].name, key) == 0) {
            return &table[i];
        }
        if (str_ends_with(table[i].name, ".") && str_starts_with(key, table[i].name)) {
            prefix = &table[i];
        }
    }
    return prefix;
}

int pipeline_topic_config_check(const char *key, const char *value, struct err *err)
{
    const struct option *o = pipeline_option_find(topic_options, COUNT(topic_options), key);
    if (o == NULL) {
        const char *names[COUNT(topic_options)];
        for (size_t i = 0; i < COUNT(topic_options); i++) {
            names[i] = topic_options[i].name;
        }
        const char *near = str_nearest(key, names, COUNT(topic_options));
        return err_set(err, ERR_CONFIG, "unknown topic config%s%s%s",
                       near != NULL ? " (did you mean " : "", near != NULL ? near : "",
                       near != NULL ? "?)" : "");
    }
    return pipeline_option_check(o->type, o->min, o->max, o->allowed, value, err);
}

int pipeline_topic_config_idle(const char *key, const char *value)
{
    const struct option *o = pipeline_option_find(topic_options, COUNT(topic_options), key);
    return o != NULL && o->state == OPTION_KEPT && !str_eq(o->def, value);
}

int pipeline_option_number(const char *value, int64_t *ret)
{
    return str_to_i64(value, ret);
}

static int check_allowed(const char *const *allowed, const char *value, struct err *err)
{
    char list[256] = "";
    size_t n = 0;
    for (size_t i = 0; allowed[i] != NULL; i++) {
        if (strcmp(allowed[i], value) == 0) {
            return 0;
        }
        int len = snprintf(list + n, sizeof(list) - n, "%s%s", i > 0 ? ", " : "", allowed[i]);
        n += len > 0 && (size_t)len < sizeof(list) - n ? (size_t)len : 0;
    }
    return err_set(err, ERR_CONFIG, "must be one of %s, not '%s'", list, value);
}

static int check_number(const char *what, int64_t min, int64_t max, const char *value,
                        struct err *err)
{
    int64_t v = 0;
    if (str_to_i64(value, &v) != 0) {
        return err_set(err, ERR_CONFIG, "must be %s, not '%s'", what, value);
    }
    if (min <= max && (v < min || v > max)) {
        return err_set(err, ERR_CONFIG, "must be from %lld to %lld, not %s", (long long)min,
                       (long long)max, value);
    }
    return 0;
}

int pipeline_option_check(int type, int64_t min, int64_t max, const char *const *allowed,
                          const char *value, struct err *err)
{
    double f = 0;
    int b = 0;
    if (allowed != NULL && allowed[0] != NULL && type != OPTION_LIST) {
        return check_allowed(allowed, value, err);
    }
    switch (type) {
    case OPTION_I64:
        return check_number("a whole number", min, max, value, err);
    case OPTION_MS:
        return check_number("a whole number of milliseconds", min, max, value, err);
    case OPTION_BYTES:
        return check_number("a whole number of bytes", min, max, value, err);
    case OPTION_BOOL:
        if (str_to_bool(value, &b) != 0) {
            return err_set(err, ERR_CONFIG, "must be true or false, not '%s'", value);
        }
        return 0;
    case OPTION_F64:
        if (str_to_f64(value, &f) != 0) {
            return err_set(err, ERR_CONFIG, "must be a number, not '%s'", value);
        }
        return 0;
    default:
        return 0;
    }
}
