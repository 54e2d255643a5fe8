/*
 * SqliteSink: records into tables of a SQLite database, exactly once.
 *
 * Threads: [task] and [ctl] calls come one at a time; cancel, from anywhere, only interrupts the
 * connection. Exactly once: a transaction writes rows and, in _connectd_offsets, how far their
 * partitions have come; open() answers with what stands there, and put() leaves out what lies below
 * it. So a batch may come any number of times, and what a crash or a power cut takes away it takes
 * away together. Invariant: between calls no transaction is open, and each part's `pending` equals
 * its `next`.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <connectd/sdk.h>

#include "db.h"
#include "offsets.h"
#include "settings.h"
#include "tables.h"

struct sink {
    const ctd_host *host;
    struct settings settings;
    struct db db;
    struct offsets offsets;
    struct tables tables;
    struct row_in row;  /* the record in hand */
    ctd_value place[3]; /* its topic, partition and offset, for pk.mode=kafka */
    ctd_text json;      /* scratch: an object or array as text */
};

static void close_all(struct sink *s)
{
    tables_clear(&s->tables);
    offsets_stop(&s->offsets);
    db_close(&s->db);
}

static void destroy(void *self)
{
    struct sink *s = self;
    if (s == NULL) {
        return;
    }
    close_all(s);
    db_destroy(&s->db);
    ctd_text_free(&s->json);
    settings_clear(&s->settings);
    free(s);
}

static ctd_status create(const ctd_host *host, const ctd_config *config, void **ret_self,
                         ctd_error *err)
{
    struct sink *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    s->host = host;
    ctd_status rc = settings_read(host, config, &s->settings, err);
    if (rc == CTD_OK && db_init(&s->db, host, s->settings.path, s->settings.busy_timeout_ms) != 0) {
        rc = ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    if (rc != CTD_OK) {
        settings_clear(&s->settings);
        free(s);
        return rc;
    }
    tables_init(&s->tables, &s->db, &s->settings);
    *ret_self = s;
    return CTD_OK;
}

static ctd_status start(void *self, ctd_error *err)
{
    struct sink *s = self;
    ctd_status rc = db_open(&s->db, err);
    if (rc == CTD_OK) {
        rc = offsets_start(&s->offsets, &s->db, s->host->connector, err);
    }
    if (rc != CTD_OK) {
        close_all(s);
    }
    return rc;
}

static ctd_status open_parts(void *self, ctd_assignment *inout, uint64_t n, ctd_error *err)
{
    struct sink *s = self;
    return offsets_open(&s->offsets, inout, n, err);
}

static ctd_status close_parts(void *self, const ctd_assignment *a, uint64_t n, ctd_error *err)
{
    struct sink *s = self;
    (void)err;
    offsets_close(&s->offsets, a, n);
    return CTD_OK;
}

/* ---- from a record to a row ---- */

/* The value of the key's field `name`, or NULL. */
static const ctd_value *key_field(const ctd_value *key, const char *name)
{
    return ctd_map_get(key, name);
}

/* The columns that come from the record's key. */
static ctd_status take_key(struct sink *s, const ctd_record *r, ctd_error *err)
{
    static const ctd_value null_value = {.type = CTD_NULL};
    const struct settings *set = &s->settings;
    struct row_in *row = &s->row;
    if (r->key.type != CTD_MAP) {
        if (set->n_pk_fields != 1) {
            return ctd_fail(err, CTD_E_CONFIG,
                            "the key is not an object: pk.fields must name the one column that it "
                            "goes to");
        }
        const char *name = set->pk_fields[0];
        row->key[0] = (struct cell){name, (uint32_t)strlen(name), &r->key};
        row->n_key = 1;
        return CTD_OK;
    }
    for (size_t i = 0; i < set->n_pk_fields; i++) {
        const char *name = set->pk_fields[i];
        const ctd_value *v = key_field(&r->key, name);
        row->key[i] = (struct cell){name, (uint32_t)strlen(name), v != NULL ? v : &null_value};
    }
    row->n_key = (uint32_t)set->n_pk_fields;
    if (row->n_key > 0) {
        return CTD_OK;
    }
    if (r->key.len == 0 || r->key.len > SETTINGS_MAX_PK) {
        return ctd_fail(err, CTD_E_DATA, "the key has %u fields; 1 to %d can make a primary key",
                        r->key.len, SETTINGS_MAX_PK);
    }
    for (uint32_t i = 0; i < r->key.len; i++) {
        const ctd_value *pair = r->key.u.items + 2 * (size_t)i;
        if (pair[0].type != CTD_STRING || memchr(pair[0].u.str, '\0', pair[0].len) != NULL) {
            return ctd_fail(err, CTD_E_DATA, "the name of the key's field %u cannot be a column's",
                            i);
        }
        row->key[i] = (struct cell){pair[0].u.str, pair[0].len, &pair[1]};
    }
    row->n_key = r->key.len;
    return CTD_OK;
}

/* Where the record came from, whatever transforms made of it since. */
static ctd_slice origin_topic(const ctd_record *r)
{
    return r->original_topic.ptr != NULL ? r->original_topic : r->topic;
}

static int32_t origin_partition(const ctd_record *r)
{
    return r->original_topic.ptr != NULL ? r->original_partition : r->partition;
}

static void take_place(struct sink *s, const ctd_record *r)
{
    ctd_slice topic = origin_topic(r);
    s->place[0] = ctd_v_string(topic.ptr, (uint32_t)topic.len);
    s->place[1] = ctd_v_i32(origin_partition(r));
    s->place[2] = ctd_v_i64(r->offset);
    for (uint32_t i = 0; i < 3; i++) {
        const char *name = s->settings.pk_fields[i];
        s->row.key[i] = (struct cell){name, (uint32_t)strlen(name), &s->place[i]};
    }
    s->row.n_key = 3;
}

/* What a user would call this value. A JSON text that was left unparsed is a number beyond 64 bits. */
static const char *kind_of(const ctd_value *v)
{
    switch (v->type) {
    case CTD_BOOL:
        return "a boolean";
    case CTD_STRING:
        return (v->flags & CTD_VF_RAW_JSON) != 0 ? "a number" : "a string";
    case CTD_BYTES:
        return "bytes";
    case CTD_ARRAY:
        return "an array";
    case CTD_STRUCT:
        return "a struct";
    default:
        return "a number";
    }
}

static ctd_status take_record(struct sink *s, const ctd_batch *batch, uint64_t index,
                              ctd_error *err)
{
    const ctd_record *r = &batch->records[index];
    struct row_in *row = &s->row;
    row->kind = ROW_WRITE;
    row->topic = r->topic;
    row->n_key = 0;
    row->n_fields = 0;
    row->batch = batch;
    row->index = index;
    if (r->value.type == CTD_MAP) {
        row->pairs = r->value.u.items;
        row->n_fields = r->value.len;
    } else if (r->value.type != CTD_NULL) {
        return ctd_fail(err, CTD_E_DATA,
                        "the value is %s; a row is made from a JSON object, whose fields are its "
                        "columns",
                        kind_of(&r->value));
    } else if (!s->settings.delete_enabled) {
        return ctd_fail(err, CTD_E_DATA,
                        "the value is null; with delete.enabled=true it would delete its row");
    } else {
        row->kind = ROW_DELETE;
    }
    if (s->settings.pk_mode == PK_RECORD_KEY) {
        return take_key(s, r, err);
    }
    if (s->settings.pk_mode == PK_KAFKA) {
        take_place(s, r);
    }
    return CTD_OK;
}

static ctd_status bind_json(struct sink *s, sqlite3_stmt *stmt, int at, const ctd_value *v,
                            int *ret_rc, ctd_error *err)
{
    s->json.len = 0;
    s->json.status = CTD_OK;
    ctd_status status = ctd_json_write(&s->json, v, err);
    if (status == CTD_OK) {
        *ret_rc =
            sqlite3_bind_text64(stmt, at, s->json.ptr, s->json.len, SQLITE_TRANSIENT, SQLITE_UTF8);
    }
    return status;
}

static ctd_status bind_value(struct sink *s, sqlite3_stmt *stmt, const struct field *f,
                             const ctd_value *v, ctd_error *err)
{
    int at = f->param;
    int rc = SQLITE_OK;
    switch (v->type) {
    case CTD_BOOL:
    case CTD_I8:
    case CTD_I16:
    case CTD_I32:
    case CTD_I64:
        rc = sqlite3_bind_int64(stmt, at, v->u.i);
        break;
    case CTD_STRING:
        if (f->numeric && (v->flags & CTD_VF_RAW_JSON) != 0) {
            return ctd_fail(err, CTD_E_DATA,
                            "field \"%.*s\": the number %.*s is beyond 64 bits, and its column is "
                            "for numbers",
                            (int)f->len, f->name, v->len > 64 ? 64 : (int)v->len, v->u.str);
        }
        rc = sqlite3_bind_text64(stmt, at, v->u.str != NULL ? v->u.str : "", v->len, SQLITE_STATIC,
                                 SQLITE_UTF8);
        break;
    case CTD_F32:
    case CTD_F64: {
        double d = v->type == CTD_F32 ? (double)v->u.f32 : v->u.f64;
        if (isnan(d)) {
            return ctd_fail(err, CTD_E_DATA, "field \"%.*s\" is not a number (NaN)", (int)f->len,
                            f->name);
        }
        rc = sqlite3_bind_double(stmt, at, d);
        break;
    }
    case CTD_NULL:
        if (f->pk) {
            return ctd_fail(err, CTD_E_DATA,
                            "\"%.*s\", part of the primary key, is null or missing", (int)f->len,
                            f->name);
        }
        rc = sqlite3_bind_null(stmt, at);
        break;
    case CTD_BYTES:
        rc = v->len == 0 ? sqlite3_bind_zeroblob(stmt, at, 0)
                         : sqlite3_bind_blob64(stmt, at, v->u.bytes, v->len, SQLITE_STATIC);
        break;
    default: {
        ctd_status status = bind_json(s, stmt, at, v, &rc, err);
        if (status != CTD_OK) {
            return status;
        }
        break;
    }
    }
    return rc == SQLITE_OK ? CTD_OK : db_fail(&s->db, rc, err, "bind a value");
}

/* A field without a column has got a value by now: its column must be made, or the record refused.
 */
static int outgrown(const struct shape *shape, const struct row_in *row)
{
    for (uint32_t i = 0; i < row->n_fields; i++) {
        if (shape->fields[shape->n_key + i].param == 0 &&
            row->pairs[2 * (size_t)i + 1].type != CTD_NULL) {
            return 1;
        }
    }
    return 0;
}

static ctd_status bind_row(struct sink *s, const struct shape *shape, ctd_error *err)
{
    const struct row_in *row = &s->row;
    for (uint32_t i = 0; i < row->n_key + row->n_fields; i++) {
        const struct field *f = &shape->fields[i];
        if (f->param <= 0) {
            continue;
        }
        const ctd_value *v =
            i < row->n_key ? row->key[i].value : &row->pairs[2 * (size_t)(i - row->n_key) + 1];
        ctd_status rc = bind_value(s, shape->stmt, f, v, err);
        if (rc != CTD_OK) {
            return rc;
        }
    }
    return CTD_OK;
}

static ctd_status write_record(struct sink *s, const ctd_batch *batch, uint64_t index,
                               ctd_error *err)
{
    struct shape *shape = NULL;
    ctd_status status = take_record(s, batch, index, err);
    status = status == CTD_OK ? tables_shape(&s->tables, &s->row, &shape, err) : status;
    if (status == CTD_OK && shape != NULL && outgrown(shape, &s->row)) {
        tables_drop_shape(&s->tables, shape);
        status = tables_shape(&s->tables, &s->row, &shape, err);
    }
    if (status != CTD_OK || shape == NULL || shape->stmt == NULL) {
        return status;
    }
    status = bind_row(s, shape, err);
    if (status != CTD_OK) {
        return status;
    }
    int rc = sqlite3_step(shape->stmt);
    if (rc == SQLITE_ERROR) { /* a trigger or a generated column that cannot take this row */
        status = ctd_fail(err, CTD_E_DATA, "table %s: %s", shape->table->name,
                          sqlite3_errmsg(s->db.handle));
    } else if (rc != SQLITE_DONE) {
        status = db_fail(&s->db, rc, err, shape->table->name);
    }
    (void)sqlite3_reset(shape->stmt);
    return status;
}

/* ---- transactions ---- */

static ctd_status begin(struct sink *s, ctd_error *err)
{
    ctd_status rc = db_begin(&s->db, err);
    rc = rc == CTD_OK ? offsets_refresh(&s->offsets, err) : rc;
    return rc == CTD_OK ? tables_begin(&s->tables, err) : rc;
}

static void roll_back(struct sink *s)
{
    db_rollback(&s->db);
    tables_rolled_back(&s->tables);
    offsets_rolled_back(&s->offsets);
}

static ctd_status commit(struct sink *s, ctd_error *err)
{
    ctd_status rc = offsets_move(&s->offsets, err);
    if (rc != CTD_OK) {
        return rc;
    }
    rc = db_commit(&s->db, err);
    if (rc == CTD_OK) {
        offsets_committed(&s->offsets);
        tables_committed(&s->tables);
    } else {
        s->offsets.stale = 1; /* what the file holds now is not known */
    }
    return rc;
}

/* Writes records from..to-1 inside the open transaction. */
static ctd_status write_records(struct sink *s, const ctd_batch *batch, uint64_t from, uint64_t to,
                                ctd_error *err)
{
    for (uint64_t i = from; i < to; i++) {
        const ctd_record *r = &batch->records[i];
        struct part *p = offsets_find(&s->offsets, origin_topic(r), origin_partition(r));
        if (p == NULL) {
            ctd_slice topic = origin_topic(r);
            return ctd_fail(err, CTD_E_FATAL, "a record of %.*s-%d came, which is not open",
                            (int)topic.len, (const char *)topic.ptr, origin_partition(r));
        }
        if (r->offset < p->pending) {
            continue; /* it is in the table already */
        }
        ctd_status rc = write_record(s, batch, i, err);
        if (rc != CTD_OK) {
            if (rc == CTD_E_DATA && err != NULL) {
                err->record_index = (int64_t)i;
            }
            return rc;
        }
        p->pending = r->offset + 1;
    }
    return CTD_OK;
}

static ctd_status put(void *self, ctd_batch *batch, ctd_error *err)
{
    struct sink *s = self;
    ctd_status rc = CTD_OK;
    db_interruptible_begin(&s->db);
    for (uint64_t from = 0; rc == CTD_OK && from < batch->n; from += s->settings.batch_size) {
        uint64_t left = batch->n - from;
        uint64_t to = left < s->settings.batch_size ? batch->n : from + s->settings.batch_size;
        rc = begin(s, err);
        rc = rc == CTD_OK ? write_records(s, batch, from, to, err) : rc;
        rc = rc == CTD_OK ? commit(s, err) : rc;
        if (rc != CTD_OK) {
            roll_back(s);
        } else if (to < batch->n) {
            s->host->progress(s->host);
        }
    }
    db_interruptible_end(&s->db);
    return rc;
}

/* Records that never reached put(), since a transform dropped them or they were bad, still move the
 * offsets. */
static int advance(struct sink *s, const ctd_assignment *a, uint64_t n)
{
    int moved = 0;
    for (uint64_t i = 0; i < n; i++) {
        struct part *p = offsets_find(&s->offsets, a[i].topic, a[i].partition);
        if (p != NULL && a[i].offset > p->next) {
            p->pending = a[i].offset;
            moved = 1;
        }
    }
    return moved;
}

/* Durable on CTD_OK: rows and offsets. */
static ctd_status flush(void *self, ctd_assignment *inout, uint64_t n, ctd_error *err)
{
    struct sink *s = self;
    if (advance(s, inout, n)) {
        ctd_status rc = db_begin(&s->db, err);
        rc = rc == CTD_OK ? commit(s, err) : rc;
        if (rc != CTD_OK) {
            roll_back(s);
            return rc;
        }
    }
    return db_sync(&s->db, err);
}

static void cancel(void *self)
{
    struct sink *s = self;
    db_interrupt(&s->db);
}

static ctd_status stop(void *self, ctd_error *err)
{
    struct sink *s = self;
    (void)err;
    close_all(s);
    return CTD_OK;
}

static ctd_status alter_offsets(void *self, const ctd_assignment *a, uint64_t n, ctd_error *err)
{
    struct sink *s = self;
    int opened = s->db.handle == NULL;
    ctd_status rc = opened ? db_open(&s->db, err) : CTD_OK;
    if (rc == CTD_OK) {
        rc = offsets_alter(&s->db, s->host->connector, a, n, err);
    }
    if (opened) {
        db_close(&s->db);
    }
    return rc;
}

static const ctd_sink ops = {
    .base = {.struct_size = sizeof(ctd_sink),
             .validate = settings_validate,
             .create = create,
             .destroy = destroy},
    .start = start,
    .open = open_parts,
    .put = put,
    .flush = flush,
    .close = close_parts,
    .cancel = cancel,
    .stop = stop,
    .alter_offsets = alter_offsets,
};

static const char *const aliases[] = {"SqliteSinkConnector", NULL};

static const ctd_class classes[] = {{
    .struct_size = sizeof(ctd_class),
    .kind = CTD_KIND_SINK,
    .name = "SqliteSink",
    .version = "0.1.0",
    .doc = "Writes records to tables of a SQLite database, exactly once.",
    .aliases = aliases,
    .config = settings_keys,
    .n_config = SETTINGS_N_KEYS,
    .config_stride = sizeof(ctd_config_key),
    .flags = CTD_CLASSF_OFFSETS_IN_TARGET,
    .ops = &ops.base,
}};

CTD_MODULE(classes, NULL)
