/* One connector's config against its options. */
#include "pipeline/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/str.h"
#include "connectd/abi.h"
#include "pipeline/options.h"
#include "record/record.h"
#include "topic/topic.h"

enum { MAX_NAMES = 512 };

struct check {
    const struct decl_connector *c;
    const struct host_config *host;
    const struct plugins *plugins;
    const struct plugin_class *class_; /* NULL while unknown */
    struct findings *findings;
};

static void at_key(struct check *k, const struct kv *kv, const char *suggestion, const char *text)
{
    pipeline_findings_add(k->findings, k->c->file, kv->line, kv->column, k->c->name, kv->key,
                          suggestion, "%s", text);
}

static void at_value(struct check *k, const struct kv *kv, const char *text)
{
    pipeline_findings_add(k->findings, k->c->file, kv->value_line, kv->value_column, k->c->name,
                          kv->key, NULL, "%s", text);
}

static void at_connector(struct check *k, const char *key, const char *suggestion, const char *text)
{
    pipeline_findings_add(k->findings, k->c->file, k->c->line, k->c->column, k->c->name, key,
                          suggestion, "%s", text);
}

static const struct class_option *class_option_find(const struct plugin_class *class_,
                                                    const char *key)
{
    const struct class_option *prefix = NULL;
    for (size_t i = 0; class_ != NULL && i < class_->n_options; i++) {
        const struct class_option *o = &class_->options[i];
        if (strcmp(o->name, key) == 0) {
            return o;
        }
        if (o->prefix && str_starts_with(key, o->name)) {
            prefix = o;
        }
    }
    return prefix;
}

static const char *nearest_key(const struct check *k, const char *key)
{
    const char *names[MAX_NAMES];
    size_t n = 0;
    size_t n_table = 0;
    const struct option *table = pipeline_options_connector(&n_table);
    for (size_t i = 0; i < n_table && n < MAX_NAMES; i++) {
        if (!str_ends_with(table[i].name, ".")) {
            names[n++] = table[i].name;
        }
    }
    for (size_t i = 0; k->class_ != NULL && i < k->class_->n_options && n < MAX_NAMES; i++) {
        names[n++] = k->class_->options[i].name;
    }
    return str_nearest(key, names, n);
}

/* ---- converters ---- */

static int converter_type(int abi_type)
{
    switch (abi_type) {
    case CTD_CFG_BOOL:
        return OPTION_BOOL;
    case CTD_CFG_I64:
    case CTD_CFG_DURATION_MS:
    case CTD_CFG_BYTES:
        return OPTION_I64;
    case CTD_CFG_F64:
        return OPTION_F64;
    default:
        return OPTION_STRING;
    }
}

/* An option of a converter: `key` is what stands behind "value.converter.". */
static void check_converter_option(struct check *k, const struct kv *kv, const ctd_class *converter,
                                   const char *key)
{
    const char *names[64];
    size_t n = 0;
    for (uint32_t i = 0; i < converter->n_config && n < 64; i++) {
        const ctd_config_key *o =
            (const ctd_config_key *)(const void *)((const char *)converter->config +
                                                   (size_t)i * converter->config_stride);
        if (strcmp(o->name, key) != 0) {
            names[n++] = o->name;
            continue;
        }
        struct err err = ERR_INIT;
        if (pipeline_option_check(converter_type(o->type), o->min, o->max, o->allowed, kv->value,
                                  &err) != 0) {
            at_value(k, kv, err.msg);
        }
        return;
    }
    char text[256];
    (void)snprintf(text, sizeof(text), "%s has no such option", converter->name);
    at_key(k, kv, str_nearest(key, names, n), text);
}

static void check_converter(struct check *k, const char *which)
{
    const struct kv *named = pipeline_kv_find(&k->c->config, which);
    const char *name = named != NULL ? named->value : pipeline_kv_get(&k->host->keys, which);
    const char *fallback =
        strcmp(which, "key.converter") == 0 ? "StringConverter" : "JsonConverter";
    const ctd_class *converter = record_converter_find(name != NULL ? name : fallback);
    if (converter == NULL) {
        size_t n = 0;
        const ctd_class *const *all = record_converters(&n);
        const char *names[32];
        for (size_t i = 0; i < n && i < 32; i++) {
            names[i] = all[i]->name;
        }
        if (named == NULL) {
            char text[400];
            (void)snprintf(text, sizeof(text), "the host's %s '%.200s' is unknown", which, name);
            at_connector(k, which, str_nearest(name, names, n < 32 ? n : 32), text);
        } else {
            pipeline_findings_add(k->findings, k->c->file, named->value_line, named->value_column,
                                  k->c->name, which, str_nearest(name, names, n < 32 ? n : 32),
                                  "unknown converter '%s'", name);
        }
        return;
    }
    char prefix[64];
    (void)snprintf(prefix, sizeof(prefix), "%s.", which);
    for (size_t i = 0; i < k->c->config.n; i++) {
        const struct kv *kv = &k->c->config.items[i];
        if (str_starts_with(kv->key, prefix)) {
            check_converter_option(k, kv, converter, kv->key + strlen(prefix));
        }
    }
    char envelope[96];
    (void)snprintf(envelope, sizeof(envelope), "%s.schemas.enable", which);
    const char *enabled = pipeline_kv_get(&k->c->config, envelope);
    if (named == NULL && enabled == NULL) {
        enabled = pipeline_kv_get(&k->host->keys, envelope);
    }
    int is_json = strcmp(converter->name, "JsonConverter") == 0;
    int by_default = name == NULL; /* our own default has no envelope */
    if (is_json && ((enabled == NULL && !by_default) || str_eq(enabled, "true"))) {
        char text[256];
        (void)snprintf(text, sizeof(text),
                       "the JSON schema envelope is not built yet; set %s: false", envelope);
        if (named != NULL) {
            at_value(k, named, text);
        } else {
            at_connector(k, envelope, NULL, text);
        }
    }
}

/* ---- keys ---- */

static void check_key(struct check *k, const struct kv *kv)
{
    if (str_starts_with(kv->key, "key.converter.") ||
        str_starts_with(kv->key, "value.converter.")) {
        return; /* check_converter() has them */
    }
    struct err err = ERR_INIT;
    const struct class_option *own = class_option_find(k->class_, kv->key);
    size_t n = 0;
    const struct option *table = pipeline_options_connector(&n);
    const struct option *o = pipeline_option_find(table, n, kv->key);
    if (strstr(kv->value, "${") != NULL && strchr(strstr(kv->value, "${"), ':') != NULL &&
        strchr(strstr(kv->value, "${"), '}') != NULL) {
        at_value(k, kv, "config providers (${provider:...}) are not built yet");
    } else if (own != NULL) {
        if (pipeline_option_check(own->type, own->min, own->max, own->allowed, kv->value, &err) !=
            0) {
            at_value(k, kv, err.msg);
        }
    } else if (o != NULL && o->state == OPTION_LATER) {
        char text[256];
        (void)snprintf(text, sizeof(text), "%s is not built yet; remove the key", kv->key);
        at_key(k, kv, NULL, text);
    } else if (strcmp(kv->key, "isolation") == 0 && strcmp(kv->value, "process") != 0) {
        at_value(k, kv,
                 strcmp(kv->value, "thread") == 0
                     ? "isolation: thread is not built yet; say process"
                     : "must be process or thread");
    } else if (o != NULL) {
        if (pipeline_option_check(o->type, o->min, o->max, o->allowed, kv->value, &err) != 0) {
            at_value(k, kv, err.msg);
        }
    } else if (k->class_ != NULL) {
        char text[256];
        (void)snprintf(text, sizeof(text), "unknown key for %s", k->class_->name);
        at_key(k, kv, nearest_key(k, kv->key), text);
    } else if (nearest_key(k, kv->key) != NULL) { /* whatever the class has, this looks like ours */
        at_key(k, kv, nearest_key(k, kv->key), "unknown key");
    }
}

static void check_topics(struct check *k)
{
    const struct kv *kv = pipeline_kv_find(&k->c->config, "topics");
    int is_sink = k->class_->kind == CTD_KIND_SINK;
    if (!is_sink && kv != NULL && class_option_find(k->class_, "topics") == NULL) {
        at_key(k, kv, class_option_find(k->class_, "topic") != NULL ? "topic" : NULL,
               "only sinks have topics");
    }
    if (is_sink && (kv == NULL || kv->value[strspn(kv->value, " ,")] == '\0')) {
        at_connector(k, "topics", NULL, "is missing: a sink names the topics that it reads");
    }
    const struct kv *target = pipeline_kv_find(&k->c->config, "topic");
    if (!is_sink && target != NULL && class_option_find(k->class_, "topic") != NULL) {
        if (!str_is_topic_name(target->value)) {
            at_value(k, target, "is no topic name: 1 to 249 of a-z A-Z 0-9 . _ -");
        } else if (topic_is_internal(target->value)) {
            at_value(k, target, "is one of the host's own topics; choose another name");
        }
    }
    const char *p = is_sink && kv != NULL ? kv->value : "";
    while (*p != '\0') {
        const char *end = strchrnul(p, ',');
        char name[300];
        while (p < end && *p == ' ') {
            p++;
        }
        size_t n = (size_t)(end - p);
        while (n > 0 && p[n - 1] == ' ') {
            n--;
        }
        (void)snprintf(name, sizeof(name), "%.*s", (int)(n < 299 ? n : 299), p);
        if (n > 0 && !str_is_topic_name(name)) {
            char text[400];
            (void)snprintf(text, sizeof(text),
                           "'%s' is no topic name: 1 to 249 of a-z A-Z 0-9 . _ -", name);
            at_value(k, kv, text);
        }
        p = *end == ',' ? end + 1 : end;
    }
}

static void check_class(struct check *k)
{
    const struct kv *kv = pipeline_kv_find(&k->c->config, "connector.class");
    if (kv == NULL) {
        at_connector(k, "connector.class", NULL, "is missing: it names the plugin class");
        return;
    }
    k->class_ = pipeline_plugins_find(k->plugins, kv->value);
    if (k->class_ == NULL) {
        char refused[512] = "";
        if (k->plugins->n_refused > 0) {
            (void)snprintf(refused, sizeof(refused), "; %zu plugin file%s refused, the first: %s",
                           k->plugins->n_refused, k->plugins->n_refused == 1 ? " was" : "s were",
                           k->plugins->refused[0].reason);
        }
        pipeline_findings_add(k->findings, k->c->file, kv->value_line, kv->value_column, k->c->name,
                              kv->key, pipeline_plugins_nearest(k->plugins, kv->value),
                              "no plugin in plugin.path has class '%s'%s", kv->value, refused);
        return;
    }
    if (k->class_->kind != CTD_KIND_SOURCE && k->class_->kind != CTD_KIND_SINK) {
        at_value(k, kv, "is neither a source nor a sink");
        k->class_ = NULL;
    }
}

size_t pipeline_validate_connector(const struct decl_connector *c, const struct host_config *host,
                                   const struct plugins *plugins, struct findings *findings)
{
    size_t before = findings->n;
    struct check k = {.c = c, .host = host, .plugins = plugins, .findings = findings};
    if (strlen(c->name) > 200) {
        at_connector(&k, "name", NULL, "is longer than 200 characters");
    }
    check_class(&k);
    for (size_t i = 0; i < c->config.n; i++) {
        check_key(&k, &c->config.items[i]);
    }
    check_converter(&k, "key.converter");
    check_converter(&k, "value.converter");
    if (k.class_ == NULL) {
        return findings->n - before;
    }
    check_topics(&k);
    for (size_t i = 0; i < k.class_->n_options; i++) {
        const struct class_option *o = &k.class_->options[i];
        const char *value = pipeline_kv_get(&c->config, o->name);
        if (o->required && (value == NULL || *value == '\0')) {
            char text[256];
            (void)snprintf(text, sizeof(text), "is missing: %s needs it", k.class_->name);
            at_connector(&k, o->name, NULL, text);
        }
    }
    return findings->n - before;
}

size_t pipeline_validate_all(const struct declared *d, const struct host_config *host,
                             const struct plugins *plugins, struct findings *findings)
{
    size_t before = findings->n;
    for (size_t i = 0; i < d->n_connectors; i++) {
        (void)pipeline_validate_connector(&d->connectors[i], host, plugins, findings);
    }
    return findings->n - before;
}

int pipeline_validate_paths(const struct plugin_class *class_, struct kv_list *config)
{
    for (size_t i = 0; class_ != NULL && i < class_->n_options; i++) {
        const struct kv *kv = pipeline_kv_find(config, class_->options[i].name);
        if (!class_->options[i].path || kv == NULL || kv->value[0] == '\0') {
            continue;
        }
        struct kv absolute = *kv;
        absolute.value = file_absolute(kv->value);
        int rc = absolute.value != NULL ? pipeline_kv_add(config, &absolute) : ERR_NOMEM;
        free(absolute.value);
        TRY(rc);
    }
    return 0;
}

static int add_pair(struct kv_list *l, const char *key, const char *value)
{
    struct kv kv = {.key = (char *)(uintptr_t)key, .value = (char *)(uintptr_t)value};
    return pipeline_kv_add(l, &kv);
}

/* The host's converter and its options, for a connector that names none. */
static int inherit_converter(const struct decl_connector *c, const struct host_config *host,
                             const char *which, struct kv_list *out)
{
    if (pipeline_kv_get(&c->config, which) != NULL) {
        return 0;
    }
    size_t n = strlen(which);
    for (size_t i = 0; i < host->keys.n; i++) {
        const struct kv *kv = &host->keys.items[i];
        if (strncmp(kv->key, which, n) == 0 && (kv->key[n] == '\0' || kv->key[n] == '.') &&
            pipeline_kv_get(out, kv->key) == NULL) {
            TRY(add_pair(out, kv->key, kv->value));
        }
    }
    return 0;
}

int pipeline_validate_effective(const struct decl_connector *c, const struct host_config *host,
                                struct kv_list *ret)
{
    struct kv_list out = {0};
    int rc = pipeline_kv_copy(&out, &c->config);
    rc = rc != 0 ? rc : add_pair(&out, "name", c->name);
    rc = rc != 0 ? rc : inherit_converter(c, host, "key.converter", &out);
    rc = rc != 0 ? rc : inherit_converter(c, host, "value.converter", &out);
    const char *interval = pipeline_kv_get(&host->keys, "offset.flush.interval.ms");
    if (rc == 0 && interval != NULL && pipeline_kv_get(&out, "offset.flush.interval.ms") == NULL) {
        rc = add_pair(&out, "offset.flush.interval.ms", interval);
    }
    if (rc != 0) {
        pipeline_kv_free(&out);
        return rc;
    }
    *ret = out;
    return 0;
}
