/* The host's own config: file < environment < --set; then everything that pipeline files declare.
 * */
#include "pipeline/config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "pipeline/files.h"
#include "pipeline/options.h"
#include "plog/plog.h"

#define FROM_SET "--set"
#define FROM_ENV "environment"

/* ---- lists of text ---- */

static int split_list(const char *text, char ***ret, size_t *ret_n)
{
    size_t cap = 1;
    for (const char *p = text; *p != '\0'; p++) {
        cap += *p == ',';
    }
    char **items = calloc(cap, sizeof(*items));
    if (items == NULL) {
        return ERR_NOMEM;
    }
    size_t n = 0;
    while (*text != '\0') {
        const char *end = strchrnul(text, ',');
        const char *next = *end == ',' ? end + 1 : end;
        while (text < end && isspace((unsigned char)*text)) {
            text++;
        }
        while (end > text && isspace((unsigned char)end[-1])) {
            end--;
        }
        if (end > text) {
            items[n] = strndup(text, (size_t)(end - text));
            if (items[n++] == NULL) {
                return ERR_NOMEM;
            }
        }
        text = next;
    }
    *ret = items;
    *ret_n = n;
    return 0;
}

/* ---- sources of keys ---- */

static int set_key(struct kv_list *keys, const char *key, const char *value)
{
    struct kv kv = {.key = (char *)(uintptr_t)key, .value = (char *)(uintptr_t)value};
    return pipeline_kv_add(keys, &kv);
}

/* CONNECTD_DATA_DIR for data.dir, and so on for every host key. */
static int read_environment(struct kv_list *keys)
{
    size_t n = 0;
    const struct option *table = pipeline_options_host(&n);
    for (size_t i = 0; i < n; i++) {
        char name[128] = "CONNECTD_";
        size_t at = strlen(name);
        for (const char *p = table[i].name; *p != '\0' && at + 1 < sizeof(name); p++) {
            name[at++] = (char)(*p == '.' ? '_' : toupper((unsigned char)*p));
        }
        name[at] = '\0';
        const char *value = getenv(name);
        if (value != NULL && *value != '\0' && !str_ends_with(table[i].name, ".")) {
            TRY(set_key(keys, table[i].name, value));
        }
    }
    return 0;
}

static int read_sets(const struct config_input *in, struct kv_list *keys, struct findings *findings)
{
    for (size_t i = 0; i < in->n_sets; i++) {
        const char *eq = strchr(in->sets[i], '=');
        if (eq == NULL || eq == in->sets[i]) {
            pipeline_findings_add(findings, FROM_SET, 1, 1, NULL, in->sets[i], NULL,
                                  "must be key=value");
            continue;
        }
        char *key = strndup(in->sets[i], (size_t)(eq - in->sets[i]));
        int rc = key != NULL ? set_key(keys, key, eq + 1) : ERR_NOMEM;
        free(key);
        TRY(rc);
    }
    return 0;
}

/* The section that an unknown key seems to mean by its outermost name ("topic.t.partitions":
 * topics), or NULL. */
static const char *meant_section(const struct kv *kv, char *ret_top, size_t n)
{
    static const char *const sections[] = {"topics", "connectors"};
    size_t len = strcspn(kv->key, ".");
    if (kv->top_line == 0 || kv->key[len] == '\0' || len >= n) {
        return NULL;
    }
    memcpy(ret_top, kv->key, len);
    ret_top[len] = '\0';
    return str_nearest(ret_top, sections, 2);
}

static void unknown_key(const struct kv *kv, const char *where, const struct option *table,
                        size_t n, int *told_line, struct findings *findings)
{
    char top[128];
    const char *section = meant_section(kv, top, sizeof(top));
    if (section != NULL) {
        if (*told_line != kv->top_line) {
            pipeline_findings_add(findings, where, kv->top_line, kv->top_column, NULL, top, section,
                                  "unknown section");
        }
        *told_line = kv->top_line;
        return;
    }
    const char *names[128];
    for (size_t i = 0; i < n && i < 128; i++) {
        names[i] = table[i].name;
    }
    pipeline_findings_add(findings, where, kv->line > 0 ? kv->line : 1,
                          kv->column > 0 ? kv->column : 1, NULL, kv->key,
                          str_nearest(kv->key, names, n < 128 ? n : 128), "unknown key");
}

static int is_folder(const char *key)
{
    return strcmp(key, "data.dir") == 0 || strcmp(key, "connectors.dir") == 0;
}

/* Checks names and values of host keys; a key without a line came from --set or the environment. */
static void check_keys(const struct kv_list *keys, const char *file, struct findings *findings)
{
    size_t n = 0;
    const struct option *table = pipeline_options_host(&n);
    int told_line = 0;
    for (size_t i = 0; i < keys->n; i++) {
        const struct kv *kv = &keys->items[i];
        const char *where = kv->line > 0 ? file : FROM_SET;
        int line = kv->line > 0 ? kv->line : 1;
        int column = kv->column > 0 ? kv->column : 1;
        const struct option *o = pipeline_option_find(table, n, kv->key);
        struct err err = ERR_INIT;
        if (o == NULL) {
            unknown_key(kv, where, table, n, &told_line, findings);
        } else if (o->state == OPTION_LATER) {
            pipeline_findings_add(findings, where, line, column, NULL, kv->key, NULL,
                                  "%s is not built yet; remove the key", kv->key);
        } else if (kv->value[0] == '\0' && is_folder(kv->key)) {
            pipeline_findings_add(findings, where, line, column, NULL, kv->key, NULL,
                                  "is empty; name a folder");
        } else if (pipeline_option_check(o->type, o->min, o->max, o->allowed, kv->value, &err) !=
                   0) {
            pipeline_findings_add(findings, where, kv->value_line > 0 ? kv->value_line : line,
                                  kv->value_column > 0 ? kv->value_column : column, NULL, kv->key,
                                  NULL, "%s", err.msg);
        }
    }
}

/* ---- typed values ---- */

static const char *value_of(const struct kv_list *keys, const char *key)
{
    const char *v = pipeline_kv_get(keys, key);
    if (v != NULL) {
        return v;
    }
    size_t n = 0;
    const struct option *table = pipeline_options_host(&n);
    const struct option *o = pipeline_option_find(table, n, key);
    return o != NULL && o->def != NULL ? o->def : "";
}

/* Numbers were checked before; a bad one keeps the default. */
static int64_t number_of(const struct kv_list *keys, const char *key)
{
    int64_t v = 0;
    if (str_to_i64(value_of(keys, key), &v) != 0) {
        size_t n = 0;
        const struct option *table = pipeline_options_host(&n);
        const struct option *o = pipeline_option_find(table, n, key);
        BUG_ON(o == NULL || o->def == NULL || str_to_i64(o->def, &v) != 0);
    }
    return v;
}

static int parse_listener(struct host_config *h, struct findings *findings)
{
    const char *text = value_of(&h->keys, "listeners");
    const struct kv *kv = pipeline_kv_find(&h->keys, "listeners");
    const char *rest = str_starts_with(text, "http://") ? text + 7 : NULL;
    const char *colon = rest != NULL ? strrchr(rest, ':') : NULL;
    int64_t port = -1;
    if (colon == NULL || str_to_i64(colon + 1, &port) != 0 || port < 0 || port > 65535 ||
        colon == rest) {
        pipeline_findings_add(findings, kv != NULL && kv->line > 0 ? h->file : FROM_SET,
                              kv != NULL && kv->line > 0 ? kv->value_line : 1,
                              kv != NULL && kv->line > 0 ? kv->value_column : 1, NULL, "listeners",
                              NULL, "must be http://HOST:PORT, not '%s'", text);
        h->listen_host = strdup("127.0.0.1");
        return h->listen_host != NULL ? 0 : ERR_NOMEM;
    }
    h->listen_host = strndup(rest, (size_t)(colon - rest));
    h->listen_port = (int)port;
    if (h->listen_host == NULL) {
        return ERR_NOMEM;
    }
    if (strcmp(h->listen_host, "127.0.0.1") != 0 && strcmp(h->listen_host, "localhost") != 0) {
        pipeline_findings_add(
            findings, kv->line > 0 ? h->file : FROM_SET, kv->line > 0 ? kv->value_line : 1,
            kv->line > 0 ? kv->value_column : 1, NULL, "listeners", NULL,
            "REST has no authentication yet, so it listens on 127.0.0.1 only, not on %s",
            h->listen_host);
    }
    return 0;
}

static int default_plugin_path(const char *bin_dir, struct host_config *h)
{
    h->plugin_path = calloc(2, sizeof(*h->plugin_path));
    if (h->plugin_path == NULL) {
        return ERR_NOMEM;
    }
    static const char *const below[] = {"../plugins", CONNECTD_LIB_FROM_BIN "/connectd/plugins"};
    for (size_t i = 0; i < 2; i++) {
        char *joined = file_join(bin_dir, below[i]);
        char *path = joined != NULL ? file_absolute(joined) : NULL;
        free(joined);
        if (path == NULL) {
            return ERR_NOMEM;
        }
        struct stat st;
        if (stat(path, &st) == 0) {
            h->plugin_path[h->n_plugin_path++] = path;
        } else {
            free(path);
        }
    }
    return 0;
}

static int plugin_path(const struct config_input *in, struct host_config *h)
{
    const char *named = pipeline_kv_get(&h->keys, "plugin.path");
    if (named == NULL) {
        return default_plugin_path(in->bin_dir, h);
    }
    TRY(split_list(named, &h->plugin_path, &h->n_plugin_path));
    for (size_t i = 0; i < h->n_plugin_path; i++) {
        char *path = file_absolute(h->plugin_path[i]);
        if (path == NULL) {
            return ERR_NOMEM;
        }
        free(h->plugin_path[i]);
        h->plugin_path[i] = path;
    }
    return 0;
}

static int fill_typed(const struct config_input *in, struct host_config *h,
                      struct findings *findings)
{
    h->data_dir = file_absolute(value_of(&h->keys, "data.dir"));
    h->connectors_dir = file_absolute(value_of(&h->keys, "connectors.dir"));
    h->connectors_dir_named = pipeline_kv_get(&h->keys, "connectors.dir") != NULL;
    if (h->data_dir == NULL || h->connectors_dir == NULL) {
        return ERR_NOMEM;
    }
    TRY(parse_listener(h, findings));
    TRY(plugin_path(in, h));
    TRY(split_list(value_of(&h->keys, "env.pass"), &h->env_pass, &h->n_env_pass));
    const char *flush = value_of(&h->keys, "log.flush");
    h->flush = strcmp(flush, "interval") == 0 ? PLOG_FLUSH_INTERVAL
               : strcmp(flush, "os") == 0     ? PLOG_FLUSH_OS
                                              : PLOG_FLUSH_ALWAYS;
    h->flush_interval_ms = number_of(&h->keys, "log.flush.interval.ms");
    h->hold_bytes = number_of(&h->keys, "task.hold.bytes");
    h->graceful_ms = number_of(&h->keys, "task.shutdown.graceful.timeout.ms");
    if (log_level_parse(value_of(&h->keys, "log.level"), &h->log_level) != 0) {
        h->log_level = LOG_LEVEL_INFO;
    }
    return 0;
}

/* ---- everything ---- */

static int read_paths(const struct config_input *in, struct kv_list *keys, struct declared *d,
                      struct findings *findings, struct err *err)
{
    for (size_t i = 0; i < in->n_paths; i++) {
        struct stat st;
        if (stat(in->paths[i], &st) == 0 && S_ISDIR(st.st_mode)) {
            TRY(pipeline_files_read_dir(in->paths[i], in->paths[i], d, findings, err));
            continue;
        }
        struct kv_list here = {0};
        int rc = pipeline_files_read(in->paths[i], in->paths[i], &here, d, findings, err);
        check_keys(&here, in->paths[i], findings);
        if (rc == 0 && pipeline_kv_copy(keys, &here) != 0) {
            rc = err_set(err, ERR_NOMEM, "out of memory");
        }
        pipeline_kv_free(&here);
        TRY(rc);
    }
    return 0;
}

static int load(const struct config_input *in, struct host_config *h, struct declared *d,
                struct findings *findings, struct err *err)
{
    const char *file = in->file;
    if (file == NULL && in->paths == NULL && access("connectd.yaml", F_OK) == 0) {
        file = "connectd.yaml";
    }
    if (file != NULL) {
        h->file = strdup(file);
        TRY(pipeline_files_read(file, file, &h->keys, d, findings, err));
    }
    check_keys(&h->keys, h->file != NULL ? h->file : "", findings);
    if (in->paths != NULL) {
        TRY(read_paths(in, &h->keys, d, findings, err));
    }
    struct kv_list over = {0};
    int rc = read_environment(&over);
    if (rc == 0) {
        rc = read_sets(in, &over, findings);
    }
    check_keys(&over, FROM_ENV, findings);
    if (rc == 0) {
        rc = pipeline_kv_copy(&h->keys, &over);
    }
    pipeline_kv_free(&over);
    if (rc == 0) {
        rc = fill_typed(in, h, findings);
    }
    if (rc != 0) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    struct stat st;
    if (in->paths == NULL && (h->connectors_dir_named || stat(h->connectors_dir, &st) == 0)) {
        TRY(pipeline_files_read_dir(h->connectors_dir, value_of(&h->keys, "connectors.dir"), d,
                                    findings, err));
    }
    pipeline_files_merge(d, findings);
    return 0;
}

int pipeline_config_load(const struct config_input *in, struct host_config *ret_host,
                         struct declared *ret_declared, struct findings *findings, struct err *err)
{
    struct host_config h = {0};
    struct declared d = {0};
    int rc = load(in, &h, &d, findings, err);
    if (rc != 0) {
        pipeline_config_host_free(&h);
        pipeline_declared_free(&d);
        return rc;
    }
    *ret_host = h;
    *ret_declared = d;
    return 0;
}

void pipeline_config_host_free(struct host_config *h)
{
    free(h->file);
    pipeline_kv_free(&h->keys);
    free(h->data_dir);
    free(h->connectors_dir);
    free(h->listen_host);
    for (size_t i = 0; i < h->n_plugin_path; i++) {
        free(h->plugin_path[i]);
    }
    free(h->plugin_path);
    for (size_t i = 0; i < h->n_env_pass; i++) {
        free(h->env_pass[i]);
    }
    free(h->env_pass);
    memset(h, 0, sizeof(*h));
}

int pipeline_config_host_broken(const struct host_config *h, const struct findings *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct finding *x = &f->items[i];
        if (x->connector == NULL &&
            (strcmp(x->file, FROM_SET) == 0 || strcmp(x->file, FROM_ENV) == 0 ||
             (h->file != NULL && strcmp(x->file, h->file) == 0))) {
            return 1;
        }
    }
    return 0;
}
