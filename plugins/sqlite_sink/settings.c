/* See settings.h. The names and defaults are those of the JDBC sinks, so that their configs carry
 * over. */
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <connectd/sdk.h>

static const char *const insert_modes[] = {"insert", "upsert", "update", NULL};
static const char *const pk_modes[] = {"none", "kafka", "record_key", "record_value", NULL};
static const char *const kafka_columns[] = {"__connect_topic", "__connect_partition",
                                            "__connect_offset"};

#define KEY_ALLOWED(key, default_value, allowed_values, text)                                      \
    {                                                                                              \
        .struct_size = sizeof(ctd_config_key), .type = CTD_CFG_STRING, .name = (key),              \
        .def = (default_value), .doc = (text), .allowed = (allowed_values), .min = 1, .max = 0     \
    }

const ctd_config_key settings_keys[SETTINGS_N_KEYS] = {
    CTD_KEY(
        "connection.url", CTD_CFG_STRING, CTD_CFGF_REQUIRED, NULL,
        "The database file: a path, sqlite:PATH or jdbc:sqlite:PATH. Created if it is not there "
        "(its folder must be). A relative path counts from the working directory of connectd."),
    CTD_KEY("table.name.format", CTD_CFG_STRING, 0, "${topic}",
            "The table of a record; ${topic} stands for its topic."),
    KEY_ALLOWED(
        "insert.mode", "insert", insert_modes,
        "insert: a row a record. upsert: INSERT ... ON CONFLICT DO UPDATE by the primary key. "
        "update: only rows that are there."),
    KEY_ALLOWED("pk.mode", "none", pk_modes,
                "Where the primary key comes from: none, kafka (topic, partition, offset), "
                "record_key, record_value."),
    CTD_KEY(
        "pk.fields", CTD_CFG_LIST, 0, "",
        "The primary key's columns. kafka: three names (default __connect_topic, "
        "__connect_partition, __connect_offset). record_key: the fields of the key (default all), "
        "or the one column that takes a primitive key. record_value: fields of the value."),
    CTD_KEY("auto.create", CTD_CFG_BOOL, 0, "false",
            "Create a missing table, its columns by the first non-null values."),
    CTD_KEY("auto.evolve", CTD_CFG_BOOL, 0, "false",
            "Add a column for a field that has none; without it such a record is a data error."),
    CTD_KEY("delete.enabled", CTD_CFG_BOOL, 0, "false",
            "A null value deletes the row; needs pk.mode=record_key."),
    CTD_KEY_RANGE("batch.size", CTD_CFG_I64, 0, "3000", 1, 1000000,
                  "Records in one transaction, at most."),
    CTD_KEY_RANGE(
        "busy.timeout.ms", CTD_CFG_DURATION_MS, 0, "5000", 0, 9000,
        "How long to wait while somebody else writes to the database, before trying again "
        "later."),
};

void settings_clear(struct settings *s)
{
    free(s->path);
    free(s->table_format);
    for (size_t i = 0; i < s->n_pk_fields; i++) {
        free(s->pk_fields[i]);
    }
    memset(s, 0, sizeof(*s));
}

/* Collects findings: into the host's list, or the first one into an error. */
struct finder {
    ctd_issues *issues;
    ctd_error *err;
    int n;
};

static void find(struct finder *f, const char *key, const char *text)
{
    if (f->issues != NULL) {
        f->issues->add(f->issues, key, text);
    }
    if (f->n++ == 0 && f->err != NULL) {
        (void)ctd_fail(f->err, CTD_E_CONFIG, "%s: %s", key, text);
    }
}

static int starts_with(ctd_slice s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && strncasecmp(s.ptr, prefix, n) == 0;
}

/* The file behind connection.url; {NULL, 0} after a finding. */
static ctd_slice url_path(ctd_slice url, struct finder *f)
{
    static const char key[] = "connection.url";
    const ctd_slice none = {NULL, 0};
    int jdbc = starts_with(url, "jdbc:");
    if (jdbc && !starts_with(url, "jdbc:sqlite:")) {
        find(f, key, "only SQLite: a path, sqlite:PATH or jdbc:sqlite:PATH");
        return none;
    }
    size_t skip = jdbc ? strlen("jdbc:sqlite:") : starts_with(url, "sqlite:") ? 7 : 0;
    ctd_slice path = ctd_slice_of((const char *)url.ptr + skip, url.len - skip);
    if (path.len == 0 || ctd_slice_is(path, ":memory:")) {
        find(f, key, "names no file: a path, sqlite:PATH or jdbc:sqlite:PATH");
        return none;
    }
    if (memchr(path.ptr, '\0', path.len) != NULL || (jdbc && memchr(path.ptr, '?', path.len))) {
        find(f, key, "parameters behind ? are not known here, only the path of the file");
        return none;
    }
    return path;
}

static int choice(const ctd_host *host, const ctd_config *config, const char *key,
                  const char *const *allowed, struct finder *f)
{
    ctd_slice v = ctd_cfg_slice(host, config, key);
    for (int i = 0; v.ptr != NULL && allowed[i] != NULL; i++) {
        if (ctd_slice_is(v, allowed[i])) {
            return i;
        }
    }
    if (v.ptr != NULL && f->issues == NULL) {
        char text[160];
        size_t at = 0;
        for (int i = 0; allowed[i] != NULL && at < sizeof(text); i++) {
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s",
                                   i == 0 ? "must be one of " : ", ", allowed[i]);
        }
        find(f, key, text);
    }
    return 0;
}

static void check_together(const struct settings *s, struct finder *f)
{
    if (s->insert_mode != INSERT_PLAIN && s->pk_mode == PK_NONE) {
        find(f, "pk.mode",
             "insert.mode upsert and update need a primary key: set pk.mode to record_key, "
             "record_value or kafka");
    }
    if (s->pk_mode == PK_RECORD_VALUE && s->n_pk_fields == 0) {
        find(f, "pk.fields", "pk.mode=record_value needs the fields that make up the key");
    }
    if (s->pk_mode == PK_KAFKA && s->n_pk_fields != 3) {
        find(f, "pk.fields",
             "pk.mode=kafka needs three columns (topic, partition, offset) or none at all");
    }
    if (s->pk_mode == PK_NONE && s->n_pk_fields != 0) {
        find(f, "pk.fields", "has no meaning with pk.mode=none: set pk.mode too");
    }
    if (s->delete_enabled && s->pk_mode != PK_RECORD_KEY) {
        find(f, "delete.enabled", "needs pk.mode=record_key: the key says which row to delete");
    }
    for (size_t i = 0; i < s->n_pk_fields; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcasecmp(s->pk_fields[i], s->pk_fields[k]) == 0) {
                find(f, "pk.fields", "names one column twice");
            }
        }
    }
}

static ctd_status read_pk_fields(const ctd_host *host, const ctd_config *config, struct settings *s,
                                 struct finder *f)
{
    const ctd_slice *names = NULL;
    uint64_t n = 0;
    if (host->cfg_list(host, config, "pk.fields", &names, &n) != CTD_OK) {
        n = 0;
    }
    ctd_slice defaults[3];
    if (n == 0 && s->pk_mode == PK_KAFKA) {
        for (n = 0; n < 3; n++) {
            defaults[n] = ctd_slice_str(kafka_columns[n]);
        }
        names = defaults;
    }
    if (n > SETTINGS_MAX_PK) {
        find(f, "pk.fields", "names more than 64 columns");
        return CTD_OK;
    }
    for (uint64_t i = 0; i < n; i++) {
        if (names[i].len == 0) {
            find(f, "pk.fields", "has an empty name in it");
            continue;
        }
        char *copy = strndup(names[i].ptr, names[i].len);
        if (copy == NULL) {
            return CTD_E_NOMEM;
        }
        s->pk_fields[s->n_pk_fields++] = copy;
    }
    return CTD_OK;
}

static ctd_status read_all(const ctd_host *host, const ctd_config *config, struct settings *s,
                           struct finder *f)
{
    *s = (struct settings){0};
    s->insert_mode = (enum insert_mode)choice(host, config, "insert.mode", insert_modes, f);
    s->pk_mode = (enum pk_mode)choice(host, config, "pk.mode", pk_modes, f);
    s->auto_create = ctd_cfg_bool(host, config, "auto.create", 0);
    s->auto_evolve = ctd_cfg_bool(host, config, "auto.evolve", 0);
    s->delete_enabled = ctd_cfg_bool(host, config, "delete.enabled", 0);
    s->batch_size = (uint64_t)ctd_cfg_i64(host, config, "batch.size", 3000);
    s->busy_timeout_ms = ctd_cfg_i64(host, config, "busy.timeout.ms", 5000);
    s->table_format = ctd_cfg_dup(host, config, "table.name.format", "${topic}");
    ctd_slice url = ctd_cfg_slice(host, config, "connection.url");
    if (url.ptr != NULL) {
        ctd_slice path = url_path(url, f);
        s->path = path.ptr != NULL ? strndup(path.ptr, path.len) : NULL;
        if (path.ptr != NULL && s->path == NULL) {
            return CTD_E_NOMEM;
        }
    } else if (f->issues == NULL) {
        find(f, "connection.url", "must be set: a path, sqlite:PATH or jdbc:sqlite:PATH");
    }
    if (s->table_format == NULL) {
        return CTD_E_NOMEM;
    }
    if (*s->table_format == '\0') {
        find(f, "table.name.format", "must not be empty");
    }
    ctd_status rc = read_pk_fields(host, config, s, f);
    check_together(s, f);
    return rc;
}

ctd_status settings_validate(const ctd_host *host, const ctd_config *config, ctd_issues *issues)
{
    struct settings s;
    struct finder f = {.issues = issues};
    ctd_status rc = read_all(host, config, &s, &f);
    settings_clear(&s);
    return rc;
}

ctd_status settings_read(const ctd_host *host, const ctd_config *config, struct settings *ret,
                         ctd_error *err)
{
    struct finder f = {.err = err};
    if (read_all(host, config, ret, &f) != CTD_OK) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    return f.n == 0 ? CTD_OK : CTD_E_CONFIG;
}
