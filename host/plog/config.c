/*
 * Topic configs: Kafka's keys with their types and ranges, and DATA/log/TOPIC-0/topic.config ("key=value"
 * lines). All known keys are kept; those that act today are segment.bytes, segment.ms,
 * index.interval.bytes and max.message.bytes.
 *
 * Threads: the table is constant; a topic's config map belongs to admin_mu.
 */
#include "plog/plog_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kafka's default is 1048588. Here a line of FileStreamSource's default max.line.bytes (1 MiB) has to fit
 * even when JSON escapes each of its bytes as six. */
#define MAX_MESSAGE_BYTES 8388608

enum type { T_LONG, T_DOUBLE, T_BOOL, T_ENUM, T_LIST, T_TEXT };

static const struct key {
    const char *name;
    enum type type;
    int64_t min, max;
    const char *allowed; /* "|a|b|" for T_ENUM and the parts of T_LIST */
} keys[] = {
    {"cleanup.policy", T_LIST, 0, 0, "|compact|delete|"},
    {"compression.gzip.level", T_LONG, -1, 9, NULL},
    {"compression.lz4.level", T_LONG, 1, 17, NULL},
    {"compression.type", T_ENUM, 0, 0, "|uncompressed|zstd|lz4|snappy|gzip|producer|"},
    {"compression.zstd.level", T_LONG, -131072, 22, NULL},
    {"delete.retention.ms", T_LONG, 0, INT64_MAX, NULL},
    {"file.delete.delay.ms", T_LONG, 0, INT64_MAX, NULL},
    {"flush.messages", T_LONG, 1, INT64_MAX, NULL},
    {"flush.ms", T_LONG, 0, INT64_MAX, NULL},
    {"follower.replication.throttled.replicas", T_TEXT, 0, 0, NULL},
    {"index.interval.bytes", T_LONG, 0, INT32_MAX, NULL},
    {"leader.replication.throttled.replicas", T_TEXT, 0, 0, NULL},
    {"local.retention.bytes", T_LONG, -2, INT64_MAX, NULL},
    {"local.retention.ms", T_LONG, -2, INT64_MAX, NULL},
    {"max.compaction.lag.ms", T_LONG, 1, INT64_MAX, NULL},
    {"max.message.bytes", T_LONG, 0, INT32_MAX, NULL},
    {"message.downconversion.enable", T_BOOL, 0, 0, NULL},
    {"message.format.version", T_TEXT, 0, 0, NULL},
    {"message.timestamp.after.max.ms", T_LONG, 0, INT64_MAX, NULL},
    {"message.timestamp.before.max.ms", T_LONG, 0, INT64_MAX, NULL},
    {"message.timestamp.difference.max.ms", T_LONG, 0, INT64_MAX, NULL},
    {"message.timestamp.type", T_ENUM, 0, 0, "|CreateTime|LogAppendTime|"},
    {"min.cleanable.dirty.ratio", T_DOUBLE, 0, 1, NULL},
    {"min.compaction.lag.ms", T_LONG, 0, INT64_MAX, NULL},
    {"min.insync.replicas", T_LONG, 1, INT32_MAX, NULL},
    {"preallocate", T_BOOL, 0, 0, NULL},
    {"remote.log.copy.disable", T_BOOL, 0, 0, NULL},
    {"remote.log.delete.on.disable", T_BOOL, 0, 0, NULL},
    {"remote.storage.enable", T_BOOL, 0, 0, NULL},
    {"retention.bytes", T_LONG, -1, INT64_MAX, NULL},
    {"retention.ms", T_LONG, -1, INT64_MAX, NULL},
    {"segment.bytes", T_LONG, 14, INT32_MAX, NULL},
    {"segment.index.bytes", T_LONG, 4, INT32_MAX, NULL},
    {"segment.jitter.ms", T_LONG, 0, INT64_MAX, NULL},
    {"segment.ms", T_LONG, 1, INT64_MAX, NULL},
    {"unclean.leader.election.enable", T_BOOL, 0, 0, NULL},
};
enum { N_KEYS = sizeof(keys) / sizeof(keys[0]) };

static int unknown_key(const char *name, struct err *err)
{
    const char *names[N_KEYS];
    for (size_t i = 0; i < N_KEYS; i++) {
        names[i] = keys[i].name;
    }
    const char *near = str_nearest(name, names, N_KEYS);
    return near == NULL
               ? err_set(err, ERR_CONFIG, "%s: not a topic config", name)
               : err_set(err, ERR_CONFIG, "%s: not a topic config (did you mean %s?)", name, near);
}

static int is_allowed(const char *allowed, const char *word, size_t n)
{
    for (const char *at = allowed + 1; *at != '\0'; at = strchr(at, '|') + 1) {
        if ((size_t)(strchr(at, '|') - at) == n && memcmp(at, word, n) == 0) {
            return 1;
        }
    }
    return 0;
}

static int check_list(const struct key *k, const char *value)
{
    for (const char *at = value;; at++) {
        size_t n = strcspn(at, ",");
        if (!is_allowed(k->allowed, at, n)) {
            return 0;
        }
        at += n;
        if (*at == '\0') {
            return 1;
        }
    }
}

static int check_value(const struct key *k, const char *value, struct err *err)
{
    int64_t n = 0;
    double f = 0;
    int flag = 0;
    switch (k->type) {
    case T_LONG:
        if (str_to_i64(value, &n) != 0 || n < k->min || n > k->max) {
            return err_set(err, ERR_CONFIG, "%s: '%.100s' is not a whole number from %lld to %lld",
                           k->name, value, (long long)k->min, (long long)k->max);
        }
        return 0;
    case T_DOUBLE:
        if (str_to_f64(value, &f) != 0 || !(f >= (double)k->min && f <= (double)k->max)) {
            return err_set(err, ERR_CONFIG, "%s: '%.100s' is not a number from %lld to %lld",
                           k->name, value, (long long)k->min, (long long)k->max);
        }
        return 0;
    case T_BOOL:
        return str_to_bool(value, &flag) == 0
                   ? 0
                   : err_set(err, ERR_CONFIG, "%s: '%.100s' is neither true nor false", k->name,
                             value);
    case T_ENUM:
    case T_LIST:
        if (k->type == T_ENUM ? !is_allowed(k->allowed, value, strlen(value))
                              : !check_list(k, value)) {
            return err_set(err, ERR_CONFIG, "%s: '%.100s' is not among %s", k->name, value,
                           k->allowed);
        }
        return 0;
    case T_TEXT:
        for (const char *c = value; *c != '\0'; c++) {
            if ((unsigned char)*c < 0x20) {
                return err_set(err, ERR_CONFIG, "%s: holds a control character", k->name);
            }
        }
        return 0;
    }
    return 0;
}

int plog_config_check(const struct plog_config_entry *config, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct key *k = NULL;
        for (size_t j = 0; j < N_KEYS && k == NULL; j++) {
            k = str_eq(keys[j].name, config[i].key) ? &keys[j] : NULL;
        }
        if (k == NULL) {
            return unknown_key(config[i].key, err);
        }
        TRY(check_value(k, config[i].value, err));
        for (size_t j = 0; j < i; j++) {
            if (str_eq(config[j].key, config[i].key)) {
                return err_set(err, ERR_CONFIG, "%s: given twice", config[i].key);
            }
        }
    }
    return 0;
}

int plog_config_write(struct plog *p, const char *dir0, const struct plog_config_entry *config,
                      size_t n, struct err *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/topic.config", dir0);
    struct buf b = BUF_INIT(0);
    for (size_t i = 0; i < n; i++) {
        buf_printf(&b, "%s=%s\n", config[i].key, config[i].value);
    }
    int rc = b.error != 0 ? err_set(err, b.error, "%s: too large", path)
                          : plog_io_replace(p, path, b.data, b.len, err);
    buf_free(&b);
    return rc;
}

int plog_config_read(const char *dir0, struct map *into, struct err *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/topic.config", dir0);
    struct buf b = BUF_INIT(0);
    int rc = file_read(path, (size_t)1 << 20, &b, err);
    if (rc == ERR_NOT_FOUND) { /* a folder that came from Kafka */
        rc = 0;
    }
    char *rest = b.len > 0 ? strdup(buf_cstr(&b)) : NULL;
    char *save = NULL;
    for (char *line = rest == NULL ? NULL : strtok_r(rest, "\n", &save); line != NULL && rc == 0;
         line = strtok_r(NULL, "\n", &save)) {
        char *eq = strchr(line, '=');
        if (eq == NULL) {
            rc = err_set(err, ERR_CORRUPT, "%s: '%.100s' is not key=value", path, line);
            break;
        }
        *eq = '\0';
        char *value = strdup(eq + 1);
        if (value == NULL || map_put(into, line, value) != 0) {
            free(value);
            rc = err_set(err, ERR_NOMEM, "out of memory");
        }
    }
    free(rest);
    buf_free(&b);
    return rc;
}

static int64_t number(const struct map *config, const char *key, int64_t fallback)
{
    const char *text = map_get(config, key);
    int64_t v = fallback;
    if (text != NULL && str_to_i64(text, &v) != 0) {
        v = fallback;
    }
    return v;
}

void plog_config_apply(struct plog_topic *t)
{
    for (int32_t i = 0; i < t->n; i++) {
        struct plog_limits *l = &t->parts[i]->limits;
        atomic_store(&l->segment_bytes, number(t->config, "segment.bytes", (int64_t)1 << 30));
        atomic_store(&l->segment_ms, number(t->config, "segment.ms", INT64_C(604800000)));
        atomic_store(&l->index_interval_bytes, number(t->config, "index.interval.bytes", 4096));
        atomic_store(&l->max_message_bytes,
                     number(t->config, "max.message.bytes", MAX_MESSAGE_BYTES));
    }
}
