/*
 * config: what the user wrote. The host's settings (connectd.yaml, environment, --set) and what
 * pipeline files declare (topics, connectors), each key with its place. Reading never stops at the
 * first mistake:
 * all of them end up in findings.
 */
#ifndef PIPELINE_CONFIG_H
#define PIPELINE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "pipeline/findings.h"

struct kv {
    char *key, *value;
    int line, column; /* of the key */
    int value_line, value_column;
    int top_line, top_column; /* host keys: of the outermost key that it stands under */
};
struct kv_list {
    struct kv *items;
    size_t n, cap;
};
int pipeline_kv_add(struct kv_list *l,
                    const struct kv *kv) MUST_USE; /* copies; ERR_NOMEM; replaces the same key */
const char *pipeline_kv_get(const struct kv_list *l,
                            const char *key); /* NULL when absent; borrowed */
const struct kv *pipeline_kv_find(const struct kv_list *l, const char *key);
int pipeline_kv_copy(struct kv_list *dst, const struct kv_list *src) MUST_USE;
void pipeline_kv_free(struct kv_list *l);

struct decl_topic {
    char *name;
    char *file;
    int line, column;
    int32_t partitions;
    struct kv_list config;
};
struct decl_connector {
    char *name;
    char *file;
    int line, column;
    struct kv_list config; /* without "name" */
};
struct declared {
    struct decl_topic *topics;
    size_t n_topics;
    struct decl_connector *connectors;
    size_t n_connectors;
};
void pipeline_declared_free(struct declared *d);

struct host_config {
    char *file;          /* as given, or NULL: none */
    struct kv_list keys; /* host keys after precedence */
    /* typed and with defaults; paths absolute */
    char *data_dir;
    char *connectors_dir;
    int connectors_dir_named; /* 1: the user named it, so it must exist */
    char *listen_host;
    int listen_port;
    char **plugin_path;
    size_t n_plugin_path;
    char **env_pass;
    size_t n_env_pass;
    int flush; /* enum plog_flush */
    int64_t flush_interval_ms;
    int log_level;
    int64_t hold_bytes;
    int64_t graceful_ms;
};

struct config_input {
    const char *file;        /* -c FILE, or NULL: ./connectd.yaml if it exists */
    const char *const *sets; /* "key=value" */
    size_t n_sets;
    const char *bin_dir; /* of the running binary, for the default plugin.path */
    /* check only: read these instead of the host's connectors.dir; NULL: the host's */
    const char *const *paths;
    size_t n_paths;
};

/* Reads the host's config and everything declared. Problems go to `findings`; those without a
 * connector and outside pipeline files are the host's own and stop `run`. ERR_NOMEM only. */
int pipeline_config_load(const struct config_input *in, struct host_config *ret_host,
                         struct declared *ret_declared, struct findings *findings,
                         struct err *err) MUST_USE;
void pipeline_config_host_free(struct host_config *h);
/* 1 if any finding is about the host's own config (its file, --set, the environment). */
int pipeline_config_host_broken(const struct host_config *h, const struct findings *f);

#endif
