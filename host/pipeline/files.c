/* Pipeline files into declarations. */
#include "pipeline/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/str.h"
#include "codec/codec.h"
#include "pipeline/options.h"
#include "pipeline/pipeline.h"

#define FILE_LIMIT ((size_t)16 << 20)

/* ---- key = value lists ---- */

const struct kv *pipeline_kv_find(const struct kv_list *l, const char *key)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->items[i].key, key) == 0) {
            return &l->items[i];
        }
    }
    return NULL;
}

const char *pipeline_kv_get(const struct kv_list *l, const char *key)
{
    const struct kv *kv = pipeline_kv_find(l, key);
    return kv != NULL ? kv->value : NULL;
}

int pipeline_kv_add(struct kv_list *l, const struct kv *kv)
{
    struct kv copy = *kv;
    copy.key = strdup(kv->key);
    copy.value = strdup(kv->value);
    if (copy.key == NULL || copy.value == NULL) {
        goto no_memory;
    }
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->items[i].key, kv->key) == 0) {
            free(l->items[i].key);
            free(l->items[i].value);
            l->items[i] = copy;
            return 0;
        }
    }
    if (l->n == l->cap) {
        size_t cap = l->cap != 0 ? l->cap * 2 : 8;
        struct kv *items = realloc(l->items, cap * sizeof(*items));
        if (items == NULL) {
            goto no_memory;
        }
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = copy;
    return 0;

no_memory:
    free(copy.key);
    free(copy.value);
    return ERR_NOMEM;
}

int pipeline_kv_copy(struct kv_list *dst, const struct kv_list *src)
{
    for (size_t i = 0; i < src->n; i++) {
        TRY(pipeline_kv_add(dst, &src->items[i]));
    }
    return 0;
}

void pipeline_kv_free(struct kv_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].key);
        free(l->items[i].value);
    }
    free(l->items);
    memset(l, 0, sizeof(*l));
}

static void topic_clear(struct decl_topic *t)
{
    free(t->name);
    free(t->file);
    pipeline_kv_free(&t->config);
}

static void connector_clear(struct decl_connector *c)
{
    free(c->name);
    free(c->file);
    pipeline_kv_free(&c->config);
}

void pipeline_declared_free(struct declared *d)
{
    for (size_t i = 0; i < d->n_topics; i++) {
        topic_clear(&d->topics[i]);
    }
    for (size_t i = 0; i < d->n_connectors; i++) {
        connector_clear(&d->connectors[i]);
    }
    free(d->topics);
    free(d->connectors);
    memset(d, 0, sizeof(*d));
}

/* ---- one file ---- */

struct reader {
    const char *given;
    struct declared *into;
    struct kv_list *host_keys; /* NULL: not allowed here */
    struct findings *findings;
    size_t first_topic, first_connector; /* this file's declarations begin here */
    const char *misnamed;                /* the last name that was refused */
    int foreign_line;                    /* of the last section that does not belong here */
};

/* The declaration of that name made by this file, made now if it is new; NULL without memory. */
static struct decl_topic *topic_of(struct reader *r, const char *name,
                                   const struct codec_yaml_entry *e)
{
    struct declared *d = r->into;
    for (size_t i = r->first_topic; i < d->n_topics; i++) {
        if (strcmp(d->topics[i].name, name) == 0) {
            return &d->topics[i];
        }
    }
    struct decl_topic *all = realloc(d->topics, (d->n_topics + 1) * sizeof(*all));
    if (all == NULL) {
        return NULL;
    }
    d->topics = all;
    struct decl_topic t = {.name = strdup(name),
                           .file = strdup(r->given),
                           .line = e->line,
                           .column = e->column,
                           .partitions = 1};
    if (t.name == NULL || t.file == NULL) {
        topic_clear(&t);
        return NULL;
    }
    all[d->n_topics] = t;
    return &all[d->n_topics++];
}

static struct decl_connector *connector_of(struct reader *r, const char *name,
                                           const struct codec_yaml_entry *e)
{
    struct declared *d = r->into;
    for (size_t i = r->first_connector; i < d->n_connectors; i++) {
        if (strcmp(d->connectors[i].name, name) == 0) {
            return &d->connectors[i];
        }
    }
    struct decl_connector *all = realloc(d->connectors, (d->n_connectors + 1) * sizeof(*all));
    if (all == NULL) {
        return NULL;
    }
    d->connectors = all;
    struct decl_connector c = {
        .name = strdup(name), .file = strdup(r->given), .line = e->line, .column = e->column};
    if (c.name == NULL || c.file == NULL) {
        connector_clear(&c);
        return NULL;
    }
    all[d->n_connectors] = c;
    return &all[d->n_connectors++];
}

/* The key behind the first `skip` parts, joined with dots; malloc'ed. */
static char *tail_key(const struct codec_yaml_entry *e, size_t skip)
{
    struct buf b = BUF_INIT(1 << 20);
    for (size_t i = skip; i < e->n_parts; i++) {
        if (i > skip) {
            buf_append_u8(&b, '.');
        }
        buf_append_str(&b, e->parts[i]);
    }
    char *key = b.error == 0 ? strdup(buf_cstr(&b)) : NULL;
    buf_free(&b);
    return key;
}

static void topic_entry(struct reader *r, const struct codec_yaml_entry *e, struct decl_topic *t,
                        const char *key)
{
    size_t n = 0;
    const struct option *table = pipeline_options_topic(&n);
    const struct option *o = pipeline_option_find(table, n, key);
    struct err err = ERR_INIT;
    if (o == NULL) {
        const char *names[32];
        for (size_t i = 0; i < n && i < 32; i++) {
            names[i] = table[i].name;
        }
        pipeline_findings_add(r->findings, r->given, e->line, e->column, NULL, e->key,
                              str_nearest(key, names, n < 32 ? n : 32), "unknown topic config");
        return;
    }
    if (pipeline_topic_config_check(key, e->text, &err) != 0) {
        pipeline_findings_add(r->findings, r->given, e->value_line, e->value_column, NULL, e->key,
                              NULL, "%s", err.msg);
        return;
    }
    int64_t v = 0;
    if (strcmp(key, "partitions") == 0 && str_to_i64(e->text, &v) == 0) {
        t->partitions = (int32_t)v;
        return;
    }
    struct kv kv = {.key = (char *)(uintptr_t)key,
                    .value = e->text,
                    .line = e->line,
                    .column = e->column,
                    .value_line = e->value_line,
                    .value_column = e->value_column};
    if (o->state != OPTION_IGNORED && pipeline_kv_add(&t->config, &kv) != 0) {
        r->findings->lost++;
    }
}

/* A key below topics.NAME. */
static int topic_key(struct reader *r, const char *name, const struct codec_yaml_entry *e)
{
    char *key = tail_key(e, 2);
    struct decl_topic *t = topic_of(r, name, e);
    if (key != NULL && t != NULL && e->text != NULL) {
        topic_entry(r, e, t, key);
    }
    int rc = key != NULL && t != NULL ? 0 : ERR_NOMEM;
    free(key);
    return rc;
}

/* A key below connectors.NAME. */
static int connector_key(struct reader *r, const char *name, const struct codec_yaml_entry *e)
{
    char *key = tail_key(e, 2);
    struct decl_connector *c = connector_of(r, name, e);
    int rc = key != NULL && c != NULL ? 0 : ERR_NOMEM;
    if (rc == 0 && e->text != NULL && strcmp(key, "name") == 0) {
        if (strcmp(e->text, name) != 0) {
            pipeline_findings_add(r->findings, r->given, e->value_line, e->value_column, name,
                                  e->key, NULL, "differs from the name that it stands under");
        }
    } else if (rc == 0 && e->text != NULL) {
        struct kv kv = {.key = key,
                        .value = e->text,
                        .line = e->line,
                        .column = e->column,
                        .value_line = e->value_line,
                        .value_column = e->value_column};
        rc = pipeline_kv_add(&c->config, &kv);
    }
    free(key);
    return rc;
}

/* Something else than topics: or connectors:, said once for all that stands under it. */
static void foreign_section(struct reader *r, const struct codec_yaml_entry *e)
{
    static const char *const sections[] = {"topics", "connectors"};
    if (r->foreign_line == e->top_line) {
        return;
    }
    r->foreign_line = e->top_line;
    pipeline_findings_add(r->findings, r->given, e->top_line, e->top_column, NULL, e->parts[0],
                          str_nearest(e->parts[0], sections, 2),
                          "a pipeline file holds topics: and connectors: only");
}

static int entry(struct reader *r, const struct codec_yaml_entry *e)
{
    const char *top = e->parts[0];
    int is_topic = strcmp(top, "topics") == 0;
    int is_connector = strcmp(top, "connectors") == 0;
    if (!is_topic && !is_connector) {
        if (r->host_keys == NULL) {
            foreign_section(r, e);
            return 0;
        }
        struct kv kv = {.key = e->key,
                        .value = e->text,
                        .line = e->line,
                        .column = e->column,
                        .value_line = e->value_line,
                        .value_column = e->value_column,
                        .top_line = e->top_line,
                        .top_column = e->top_column};
        return e->text != NULL ? pipeline_kv_add(r->host_keys, &kv) : 0;
    }
    if (e->n_parts < 2) {
        if (e->text != NULL) {
            pipeline_findings_add(r->findings, r->given, e->line, e->column, NULL, e->key, NULL,
                                  "must be a map of names");
        }
        return 0;
    }
    const char *name = e->parts[1];
    if (!str_is_topic_name(name)) {
        if (r->misnamed != NULL && strcmp(r->misnamed, name) == 0) {
            return 0;
        }
        r->misnamed = name; /* the document's: it outlives the reading */
        pipeline_findings_add(r->findings, r->given, e->line, e->column, is_connector ? name : NULL,
                              e->key, NULL, "a name is 1 to 249 of a-z A-Z 0-9 . _ -");
        return 0;
    }
    if (e->n_parts == 2) {
        if (e->text != NULL) {
            pipeline_findings_add(r->findings, r->given, e->line, e->column,
                                  is_connector ? name : NULL, e->key, NULL,
                                  "must be a map of keys");
            return 0;
        }
        return (is_topic ? (void *)topic_of(r, name, e) : (void *)connector_of(r, name, e)) != NULL
                   ? 0
                   : ERR_NOMEM;
    }
    return is_topic ? topic_key(r, name, e) : connector_key(r, name, e);
}

/* A .properties file is one connector: its keys are the config, "name" names it. */
static int properties_as_connector(struct reader *r, const struct codec_yaml *y)
{
    const char *name = NULL;
    for (size_t i = 0; i < y->n_entries; i++) {
        if (strcmp(y->entries[i].key, "name") == 0) {
            name = y->entries[i].text;
        }
    }
    if (name == NULL || !str_is_topic_name(name)) {
        pipeline_findings_add(r->findings, r->given, 1, 1, NULL, "name", NULL,
                              "a .properties file is one connector and names it: name=...");
        return 0;
    }
    char *owned = strdup(name);
    int rc = owned != NULL ? 0 : ERR_NOMEM;
    for (size_t i = 0; rc == 0 && i < y->n_entries; i++) {
        struct codec_yaml_entry e = y->entries[i];
        char section[] = "connectors";
        char *parts[] = {section, owned, e.key};
        e.parts = parts;
        e.n_parts = 3;
        rc = entry(r, &e);
    }
    free(owned);
    return rc;
}

static int parse(const char *path, const char *text, size_t n, struct codec_yaml *ret,
                 struct err *err)
{
    if (str_ends_with(path, ".json")) {
        return codec_connect_json_parse(text, n, ret, err);
    }
    if (str_ends_with(path, ".properties")) {
        return codec_properties_parse(text, n, ret, err);
    }
    return codec_yaml_parse(text, n, ret, err);
}

int pipeline_files_read(const char *path, const char *given, struct kv_list *host_keys,
                        struct declared *into, struct findings *findings, struct err *err)
{
    struct buf text = BUF_INIT(FILE_LIMIT + 65536);
    struct err why = ERR_INIT;
    if (file_read(path, FILE_LIMIT, &text, &why) != 0) {
        pipeline_findings_add(findings, given, 1, 1, NULL, "", NULL, "cannot be read: %s",
                              why.sys_errno != 0 ? strerror(why.sys_errno) : why.msg);
        buf_free(&text);
        return 0;
    }
    struct codec_yaml y = {0};
    int rc = parse(path, (const char *)text.data, text.len, &y, err);
    struct reader r = {.given = given,
                       .into = into,
                       .host_keys = host_keys,
                       .findings = findings,
                       .first_topic = into->n_topics,
                       .first_connector = into->n_connectors};
    for (size_t i = 0; rc == 0 && i < y.n_findings; i++) {
        pipeline_findings_add(findings, given, y.findings[i].line, y.findings[i].column, NULL,
                              y.findings[i].key, NULL, "%s", y.findings[i].text);
    }
    if (rc == 0 && !y.unparsable && str_ends_with(path, ".properties")) {
        rc = properties_as_connector(&r, &y);
    } else {
        for (size_t i = 0; rc == 0 && !y.unparsable && i < y.n_entries; i++) {
            rc = entry(&r, &y.entries[i]);
        }
    }
    if (rc != 0) {
        (void)err_set(err, ERR_NOMEM, "out of memory");
    }
    codec_yaml_free(&y);
    buf_free(&text);
    return rc;
}

/* ---- a folder ---- */

static int is_pipeline_file(const struct dirent *e)
{
    return e->d_name[0] != '.' &&
           (str_ends_with(e->d_name, ".yaml") || str_ends_with(e->d_name, ".yml") ||
            str_ends_with(e->d_name, ".json") || str_ends_with(e->d_name, ".properties"));
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int pipeline_files_read_dir(const char *dir, const char *given, struct declared *into,
                            struct findings *findings, struct err *err)
{
    struct dirent **names = NULL;
    int n = scandir(dir, &names, is_pipeline_file, by_bytes);
    if (n < 0) {
        pipeline_findings_add(findings, given, 1, 1, NULL, "connectors.dir", NULL,
                              "cannot be read: %s", strerror(errno));
        return 0;
    }
    int rc = 0;
    for (int i = 0; i < n; i++) {
        char *path = file_join(dir, names[i]->d_name);
        char *shown = file_join(given, names[i]->d_name);
        if (path == NULL || shown == NULL) {
            rc = err_set(err, ERR_NOMEM, "out of memory");
        } else if (rc == 0) {
            rc = pipeline_files_read(path, shown, NULL, into, findings, err);
        }
        free(path);
        free(shown);
        free(names[i]);
    }
    free(names);
    return rc;
}

/* ---- across files ---- */

static int same_config(const struct kv_list *a, const struct kv_list *b)
{
    if (a->n != b->n) {
        return 0;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (!str_eq(a->items[i].value, pipeline_kv_get(b, a->items[i].key))) {
            return 0;
        }
    }
    return 1;
}

void pipeline_files_merge(struct declared *d, struct findings *findings)
{
    size_t kept = 0;
    for (size_t i = 0; i < d->n_topics; i++) {
        struct decl_topic *t = &d->topics[i];
        const struct decl_topic *first = NULL;
        for (size_t k = 0; k < kept && first == NULL; k++) {
            first = strcmp(d->topics[k].name, t->name) == 0 ? &d->topics[k] : NULL;
        }
        if (first == NULL) {
            d->topics[kept++] = *t;
            continue;
        }
        if (first->partitions != t->partitions || !same_config(&first->config, &t->config)) {
            pipeline_findings_add(findings, t->file, t->line, t->column, NULL, t->name, NULL,
                                  "topic %s is declared differently in %s:%d", t->name, first->file,
                                  first->line);
        }
        topic_clear(t);
    }
    d->n_topics = kept;
    kept = 0;
    for (size_t i = 0; i < d->n_connectors; i++) {
        struct decl_connector *c = &d->connectors[i];
        const struct decl_connector *first = NULL;
        for (size_t k = 0; k < kept && first == NULL; k++) {
            first = strcmp(d->connectors[k].name, c->name) == 0 ? &d->connectors[k] : NULL;
        }
        if (first == NULL) {
            d->connectors[kept++] = *c;
            continue;
        }
        pipeline_findings_add(findings, c->file, c->line, c->column, NULL, c->name, NULL,
                              "connector %s is defined already in %s:%d, which keeps the name",
                              c->name, first->file, first->line);
        connector_clear(c);
    }
    d->n_connectors = kept;
}
