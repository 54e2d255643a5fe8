/* Shapes: from the names of a record's fields to a prepared statement; see tables.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tables_int.h"

/* SQLite's own limit of columns. */
enum { MAX_FIELDS = 2000, MAX_PARAMS = 2000 };

static uint64_t hash_bytes(uint64_t h, const void *p, size_t n)
{
    const unsigned char *s = p;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ s[i]) * 0x100000001b3u;
    }
    return (h ^ 0xff) * 0x100000001b3u; /* so that "ab","c" differs from "a","bc" */
}

static uint64_t hash_row(const struct row_in *row)
{
    uint64_t h =
        hash_bytes(0xcbf29ce484222325u + (uint64_t)row->kind, row->topic.ptr, row->topic.len);
    for (uint32_t i = 0; i < row->n_key; i++) {
        h = hash_bytes(h, row->key[i].name, row->key[i].len);
    }
    for (uint32_t i = 0; i < row->n_fields; i++) {
        const ctd_value *name = row->pairs + 2 * (size_t)i;
        if (name->type == CTD_STRING) { /* others are refused later */
            h = hash_bytes(h, name->u.str, name->len);
        }
    }
    return h;
}

static int same_cell(const struct field *f, const char *name, uint32_t len)
{
    return f->len == len && memcmp(f->name, name, len) == 0;
}

static int matches(const struct shape *s, const struct row_in *row)
{
    if (s->n_fields != row->n_fields || s->n_key != row->n_key || s->kind != row->kind ||
        s->table->topic_len != row->topic.len ||
        memcmp(s->table->topic, row->topic.ptr, row->topic.len) != 0) {
        return 0;
    }
    for (uint32_t i = 0; i < row->n_key; i++) {
        if (!same_cell(&s->fields[i], row->key[i].name, row->key[i].len)) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < row->n_fields; i++) {
        const ctd_value *name = row->pairs + 2 * (size_t)i;
        if (name->type != CTD_STRING ||
            !same_cell(&s->fields[s->n_key + i], name->u.str, name->len)) {
            return 0;
        }
    }
    return 1;
}

void tables_drop_shape(struct tables *t, struct shape *s)
{
    struct shape **at = &t->buckets[s->hash % TABLES_BUCKETS];
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    if (t->last == s) {
        t->last = NULL;
    }
    t->n_shapes--;
    (void)sqlite3_finalize(s->stmt);
    free(s);
}

static void make_room(struct tables *t)
{
    if (t->n_shapes < TABLES_MAX_SHAPES) {
        return;
    }
    struct shape *oldest = NULL;
    for (size_t i = 0; i < TABLES_BUCKETS; i++) {
        for (struct shape *s = t->buckets[i]; s != NULL; s = s->next) {
            if (oldest == NULL || s->used < oldest->used) {
                oldest = s;
            }
        }
    }
    tables_drop_shape(t, oldest);
}

/* An empty shape with the record's names copied into it; not in the cache yet. */
static struct shape *copy_names(const struct row_in *row, uint64_t hash, struct table *table)
{
    uint32_t n = row->n_key + row->n_fields;
    size_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        bytes += i < row->n_key ? row->key[i].len : tables_field(row, i - row->n_key).len;
    }
    struct shape *s = calloc(1, sizeof(*s) + n * sizeof(s->fields[0]) + bytes + 1);
    if (s == NULL) {
        return NULL;
    }
    s->hash = hash;
    s->kind = row->kind;
    s->table = table;
    s->n_key = row->n_key;
    s->n_fields = row->n_fields;
    char *names = (char *)&s->fields[n];
    for (uint32_t i = 0; i < n; i++) {
        struct cell c = i < row->n_key ? row->key[i] : tables_field(row, i - row->n_key);
        memcpy(names, c.name, c.len);
        s->fields[i] = (struct field){.name = names, .len = c.len, .pk = i < row->n_key};
        names += c.len;
    }
    return s;
}

/* A later field of the same name counts, as in most JSON readers; the key's columns win over the
 * value's. Names that differ only in case are two fields and one column: an error. */
static ctd_status drop_doubles(struct shape *s, ctd_error *err)
{
    uint32_t n = s->n_key + s->n_fields;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < i; k++) {
            struct field *a = &s->fields[k];
            struct field *b = &s->fields[i];
            if (!tables_same_name(a->name, a->len, b->name, b->len)) {
                continue;
            }
            if (k < s->n_key && i >= s->n_key) {
                b->param = -1;
            } else if (memcmp(a->name, b->name, a->len) == 0) {
                a->param = -1;
            } else {
                return ctd_fail(err, CTD_E_DATA,
                                "fields \"%.*s\" and \"%.*s\" would share a column of table %s",
                                (int)a->len, a->name, (int)b->len, b->name, s->table->name);
            }
        }
    }
    return CTD_OK;
}

/* Finds, or makes, the column of one field and gives it the next parameter. */
static ctd_status place_field(struct tables *t, struct shape *s, struct field *f,
                              const struct cell *cell, int16_t *io_params, ctd_error *err)
{
    f->pk = f->pk || tables_is_pk(t, cell);
    const struct column *column = tables_column(s->table, f->name, f->len);
    if (column == NULL && cell->value->type == CTD_NULL && !f->pk) {
        return CTD_OK; /* nothing to store, and no type to go by */
    }
    if (column == NULL && (!t->settings->auto_evolve || s->kind == ROW_DELETE)) {
        return ctd_fail(err, f->pk ? CTD_E_CONFIG : CTD_E_DATA,
                        "table %s has no column for \"%.*s\": add it, or set auto.evolve to true",
                        s->table->name, (int)f->len, f->name);
    }
    if (column == NULL && f->pk) {
        return ctd_fail(
            err, CTD_E_CONFIG,
            "table %s has no column \"%.*s\" for its primary key, and auto.evolve never "
            "changes a primary key: add it by hand",
            s->table->name, (int)f->len, f->name);
    }
    if (column == NULL) {
        ctd_status rc = tables_add_column(t, s->table, cell, err);
        if (rc != CTD_OK) {
            return rc;
        }
        column = tables_column(s->table, f->name, f->len);
    }
    if (column == NULL || *io_params >= MAX_PARAMS) {
        return ctd_fail(err, CTD_E_DATA, "table %s cannot have a column for \"%.*s\"",
                        s->table->name, (int)f->len, f->name);
    }
    f->numeric = (uint8_t)column->numeric;
    f->param = ++*io_params;
    return CTD_OK;
}

static ctd_status place_fields(struct tables *t, struct shape *s, const struct row_in *row,
                               ctd_error *err)
{
    int16_t params = 0;
    ctd_status rc = drop_doubles(s, err);
    for (uint32_t i = 0; rc == CTD_OK && i < s->n_key + s->n_fields; i++) {
        struct cell cell = i < row->n_key ? row->key[i] : tables_field(row, i - row->n_key);
        if (s->fields[i].param == 0) {
            rc = place_field(t, s, &s->fields[i], &cell, &params, err);
        }
    }
    return rc;
}

/* Every column of pk.fields must come with the record. */
static ctd_status check_pk(const struct tables *t, const struct shape *s, ctd_error *err)
{
    for (size_t i = 0; t->settings->pk_mode == PK_RECORD_VALUE && i < t->settings->n_pk_fields;
         i++) {
        const char *pk = t->settings->pk_fields[i];
        int there = 0;
        for (uint32_t k = 0; k < s->n_key + s->n_fields && !there; k++) {
            const struct field *f = &s->fields[k];
            there = tables_same_name(f->name, f->len, pk, (uint32_t)strlen(pk));
        }
        if (!there) {
            return ctd_fail(err, CTD_E_DATA, "the value has no field \"%s\" (pk.fields)", pk);
        }
    }
    return CTD_OK;
}

enum list { LIST_COLUMNS, LIST_PARAMS, LIST_PK, LIST_SET_EXCLUDED, LIST_SET, LIST_WHERE };

/* Appends one list of the statement's columns; returns how many it has. */
static uint32_t put_list(ctd_text *sql, const struct shape *s, enum list what)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_key + s->n_fields; i++) {
        const struct field *f = &s->fields[i];
        int only_pk = what == LIST_PK || what == LIST_WHERE;
        int no_pk = what == LIST_SET || what == LIST_SET_EXCLUDED;
        if (f->param <= 0 || (only_pk && !f->pk) || (no_pk && f->pk)) {
            continue;
        }
        char param[16];
        (void)snprintf(param, sizeof(param), "?%d", f->param);
        tables_text(sql, n++ == 0 ? "" : what == LIST_WHERE ? " AND " : ", ");
        if (what != LIST_PARAMS) {
            tables_quote(sql, f->name, f->len);
        }
        if (what == LIST_SET_EXCLUDED) {
            tables_text(sql, "=excluded.");
            tables_quote(sql, f->name, f->len);
        } else if (what == LIST_SET || what == LIST_WHERE) {
            tables_text(sql, "=");
            tables_text(sql, param);
        } else if (what == LIST_PARAMS) {
            tables_text(sql, param);
        }
    }
    return n;
}

static void put_insert(ctd_text *sql, const struct shape *s, int upsert)
{
    ctd_text columns = {0};
    tables_text(sql, "INSERT INTO ");
    tables_quote(sql, s->table->name, strlen(s->table->name));
    uint32_t n = put_list(&columns, s, LIST_COLUMNS);
    ctd_text_free(&columns);
    if (n == 0) {
        tables_text(sql, " DEFAULT VALUES");
        return;
    }
    tables_text(sql, "(");
    (void)put_list(sql, s, LIST_COLUMNS);
    tables_text(sql, ") VALUES(");
    (void)put_list(sql, s, LIST_PARAMS);
    tables_text(sql, ")");
    if (upsert) {
        tables_text(sql, " ON CONFLICT(");
        (void)put_list(sql, s, LIST_PK);
        uint64_t before = sql->len;
        tables_text(sql, ") DO UPDATE SET ");
        if (put_list(sql, s, LIST_SET_EXCLUDED) == 0) {
            sql->len = before;
            tables_text(sql, ") DO NOTHING");
        }
    }
}

/* 0: there is nothing that an UPDATE could set. */
static int put_update(ctd_text *sql, const struct shape *s)
{
    tables_text(sql, "UPDATE ");
    tables_quote(sql, s->table->name, strlen(s->table->name));
    tables_text(sql, " SET ");
    uint32_t n = put_list(sql, s, LIST_SET);
    tables_text(sql, " WHERE ");
    (void)put_list(sql, s, LIST_WHERE);
    return n > 0;
}

static ctd_status prepare(struct tables *t, struct shape *s, ctd_error *err)
{
    ctd_text sql = {0};
    int something = 1;
    if (s->kind == ROW_DELETE) {
        tables_text(&sql, "DELETE FROM ");
        tables_quote(&sql, s->table->name, strlen(s->table->name));
        tables_text(&sql, " WHERE ");
        (void)put_list(&sql, s, LIST_WHERE);
    } else if (t->settings->insert_mode == INSERT_UPDATE) {
        something = put_update(&sql, s);
    } else {
        put_insert(&sql, s, t->settings->insert_mode == INSERT_UPSERT);
    }
    ctd_text_append(&sql, "", 1);
    ctd_status status = CTD_OK;
    if (sql.status != CTD_OK) {
        status = ctd_fail(err, CTD_E_NOMEM, "out of memory");
    } else if (something) {
        int rc = sqlite3_prepare_v3(t->db->handle, sql.ptr, -1, SQLITE_PREPARE_PERSISTENT, &s->stmt,
                                    NULL);
        if (rc == SQLITE_ERROR) {
            status =
                ctd_fail(err, CTD_E_CONFIG,
                         "table %s does not fit the options: %s (upsert needs a primary key or "
                         "unique index on exactly the key's columns)",
                         s->table->name, sqlite3_errmsg(t->db->handle));
        } else if (rc != SQLITE_OK) {
            status = db_fail(t->db, rc, err, sql.ptr);
        }
    }
    ctd_text_free(&sql);
    return status;
}

static ctd_status check_names(const struct row_in *row, ctd_error *err)
{
    if (row->n_fields > MAX_FIELDS) {
        return ctd_fail(err, CTD_E_DATA, "the value has %u fields; at most %d fit a table",
                        row->n_fields, MAX_FIELDS);
    }
    for (uint32_t i = 0; i < row->n_fields; i++) {
        const ctd_value *name = row->pairs + 2 * (size_t)i;
        if (name->type != CTD_STRING || memchr(name->u.str, '\0', name->len) != NULL) {
            return ctd_fail(err, CTD_E_DATA, "the name of field %u cannot be a column's", i);
        }
    }
    return CTD_OK;
}

static ctd_status make_shape(struct tables *t, const struct row_in *row, uint64_t hash,
                             struct shape **ret, ctd_error *err)
{
    struct table *table = NULL;
    ctd_status rc = check_names(row, err);
    rc = rc == CTD_OK ? tables_table(t, row, &table, err) : rc;
    if (rc != CTD_OK || (row->kind == ROW_DELETE && !table->exists)) {
        *ret = NULL; /* without a table there is nothing to delete; it may be made any moment */
        return rc;
    }
    make_room(t);
    struct shape *s = copy_names(row, hash, table);
    if (s == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    s->next = t->buckets[hash % TABLES_BUCKETS];
    t->buckets[hash % TABLES_BUCKETS] = s;
    t->n_shapes++;
    rc = place_fields(t, s, row, err);
    rc = rc == CTD_OK && row->kind == ROW_WRITE ? check_pk(t, s, err) : rc;
    rc = rc == CTD_OK ? prepare(t, s, err) : rc;
    if (rc != CTD_OK) {
        tables_drop_shape(t, s);
        return rc;
    }
    *ret = s;
    return CTD_OK;
}

ctd_status tables_shape(struct tables *t, const struct row_in *row, struct shape **ret,
                        ctd_error *err)
{
    struct shape *s = t->last;
    if (s == NULL || !matches(s, row)) {
        uint64_t hash = hash_row(row);
        s = t->buckets[hash % TABLES_BUCKETS];
        while (s != NULL && (s->hash != hash || !matches(s, row))) {
            s = s->next;
        }
        ctd_status rc = s == NULL ? make_shape(t, row, hash, &s, err) : CTD_OK;
        if (rc != CTD_OK || s == NULL) {
            *ret = NULL;
            return rc;
        }
    }
    s->used = ++t->clock;
    t->last = s;
    *ret = s;
    return CTD_OK;
}
