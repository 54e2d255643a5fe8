/* Tables and their columns; see tables.h. */
#include "tables.h"

#include <stdlib.h>
#include <string.h>

#include "tables_int.h"

void tables_init(struct tables *t, struct db *db, const struct settings *settings)
{
    *t = (struct tables){.db = db, .settings = settings, .schema_version = -1};
}

static void clear_columns(struct table *table)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        free(table->columns[i].name);
    }
    free(table->columns);
    table->columns = NULL;
    table->n_columns = 0;
}

void tables_clear(struct tables *t)
{
    for (size_t i = 0; i < TABLES_BUCKETS; i++) {
        while (t->buckets[i] != NULL) {
            tables_drop_shape(t, t->buckets[i]);
        }
    }
    while (t->tables != NULL) {
        struct table *table = t->tables;
        t->tables = table->next;
        clear_columns(table);
        free(table->topic);
        free(table->name);
        free(table);
    }
    t->last_table = NULL;
    t->schema_version = -1;
}

ctd_status tables_begin(struct tables *t, ctd_error *err)
{
    int64_t now;
    ctd_status rc = db_schema_version(t->db, &now, err);
    if (rc == CTD_OK && now != t->schema_version) {
        tables_clear(t);
        t->schema_version = now;
    }
    t->changed = 0;
    return rc;
}

void tables_committed(struct tables *t)
{
    for (struct table *table = t->changed ? t->tables : NULL; table != NULL; table = table->next) {
        if (table->made) {
            ctd_log(t->db->host, CTD_LOG_INFO, "%s: made table %s", t->db->path, table->name);
            table->made = 0;
        }
    }
    t->changed = 0;
}

void tables_rolled_back(struct tables *t)
{
    if (t->changed) {
        tables_clear(t);
        t->changed = 0;
    }
}

static int lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

int tables_same_name(const char *a, uint32_t a_len, const char *b, uint32_t b_len)
{
    if (a_len != b_len) {
        return 0;
    }
    for (uint32_t i = 0; i < a_len; i++) {
        if (lower(a[i]) != lower(b[i])) {
            return 0;
        }
    }
    return 1;
}

const struct column *tables_column(const struct table *table, const char *name, uint32_t len)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        const char *have = table->columns[i].name;
        if (tables_same_name(have, (uint32_t)strlen(have), name, len)) {
            return &table->columns[i];
        }
    }
    return NULL;
}

int tables_is_pk(const struct tables *t, const struct cell *cell)
{
    for (size_t i = 0; t->settings->pk_mode == PK_RECORD_VALUE && i < t->settings->n_pk_fields;
         i++) {
        const char *pk = t->settings->pk_fields[i];
        if (tables_same_name(pk, (uint32_t)strlen(pk), cell->name, cell->len)) {
            return 1;
        }
    }
    return 0;
}

struct cell tables_field(const struct row_in *row, uint32_t i)
{
    const ctd_value *pair = row->pairs + 2 * (size_t)i;
    return (struct cell){pair[0].u.str, pair[0].len, &pair[1]};
}

void tables_text(ctd_text *sql, const char *text)
{
    ctd_text_append(sql, text, strlen(text));
}

void tables_quote(ctd_text *sql, const char *name, uint64_t len)
{
    ctd_text_append(sql, "\"", 1);
    for (uint64_t i = 0; i < len; i++) {
        if (name[i] == '"') {
            ctd_text_append(sql, "\"", 1);
        }
        ctd_text_append(sql, name + i, 1);
    }
    ctd_text_append(sql, "\"", 1);
}

/* The column type that a value asks for; NULL for a null. */
static const char *type_of(const ctd_value *v)
{
    switch (v->type) {
    case CTD_NULL:
        return NULL;
    case CTD_BOOL:
    case CTD_I8:
    case CTD_I16:
    case CTD_I32:
    case CTD_I64:
        return "INTEGER";
    case CTD_F32:
    case CTD_F64:
        return "REAL";
    case CTD_BYTES:
        return "BLOB";
    default:
        return "TEXT";
    }
}

/* SQLite's own rules for the affinity of a declared type: does it turn text into numbers? */
static int is_numeric(const char *declared)
{
    if (strcasestr(declared, "INT") != NULL) {
        return 1;
    }
    return *declared != '\0' && strcasestr(declared, "CHAR") == NULL &&
           strcasestr(declared, "CLOB") == NULL && strcasestr(declared, "TEXT") == NULL &&
           strcasestr(declared, "BLOB") == NULL;
}

static ctd_status append_column(struct table *table, const char *name, const char *declared,
                                ctd_error *err)
{
    struct column *more = realloc(table->columns, (table->n_columns + 1) * sizeof(*table->columns));
    if (more == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    table->columns = more;
    struct column *c = &more[table->n_columns];
    *c = (struct column){strdup(name), is_numeric(declared)};
    if (c->name == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    table->n_columns++;
    return CTD_OK;
}

ctd_status tables_load(struct tables *t, struct table *table, ctd_error *err)
{
    clear_columns(table);
    sqlite3_stmt *s = NULL;
    ctd_status status = db_prepare(t->db, "SELECT name, type FROM pragma_table_info(?1)", &s, err);
    if (status != CTD_OK) {
        return status;
    }
    (void)sqlite3_bind_text(s, 1, table->name, -1, SQLITE_STATIC);
    int rc;
    while (status == CTD_OK && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW) {
            status = db_fail(t->db, rc, err, "read a table's columns");
            break;
        }
        const char *name = (const char *)sqlite3_column_text(s, 0);
        const char *type = (const char *)sqlite3_column_text(s, 1);
        status = append_column(table, name != NULL ? name : "", type != NULL ? type : "", err);
    }
    (void)sqlite3_finalize(s);
    table->exists = table->n_columns > 0;
    return status;
}

/* Runs a statement that changes a table. */
static ctd_status change(struct tables *t, ctd_text *sql, ctd_error *err)
{
    ctd_text_append(sql, "", 1);
    if (sql->status != CTD_OK) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    t->changed = 1;
    int rc = sqlite3_exec(t->db->handle, sql->ptr, NULL, NULL, NULL);
    if (rc == SQLITE_ERROR) { /* a name or number of columns that SQLite refuses */
        return ctd_fail(err, CTD_E_DATA, "%.200s: %s", sql->ptr, sqlite3_errmsg(t->db->handle));
    }
    if (rc != SQLITE_OK) {
        return db_fail(t->db, rc, err, sql->ptr);
    }
    return db_schema_version(t->db, &t->schema_version, err);
}

ctd_status tables_add_column(struct tables *t, struct table *table, const struct cell *cell,
                             ctd_error *err)
{
    ctd_text sql = {0};
    tables_text(&sql, "ALTER TABLE ");
    tables_quote(&sql, table->name, strlen(table->name));
    tables_text(&sql, " ADD COLUMN ");
    tables_quote(&sql, cell->name, cell->len);
    tables_text(&sql, " ");
    tables_text(&sql, type_of(cell->value));
    ctd_status rc = change(t, &sql, err);
    ctd_text_free(&sql);
    return rc == CTD_OK ? tables_load(t, table, err) : rc;
}

/* The first non-null value of this field in the records that follow for the same topic, or NULL. */
static const ctd_value *look_ahead(const struct row_in *row, const struct cell *cell)
{
    for (uint64_t i = row->index + 1; i < row->batch->n; i++) {
        const ctd_record *r = &row->batch->records[i];
        if (r->value.type != CTD_MAP || r->topic.len != row->topic.len ||
            memcmp(r->topic.ptr, row->topic.ptr, row->topic.len) != 0) {
            continue;
        }
        for (uint32_t k = 0; k < r->value.len; k++) {
            const ctd_value *pair = r->value.u.items + 2 * (size_t)k;
            if (pair[0].type == CTD_STRING && pair[1].type != CTD_NULL &&
                tables_same_name(pair[0].u.str, pair[0].len, cell->name, cell->len)) {
                return &pair[1];
            }
        }
    }
    return NULL;
}

/* Adds one column to CREATE TABLE. One that only ever was null is left for auto.evolve to add;
 * without that it is made here, of no type if need be, since nobody could add it later. */
static void create_column(struct tables *t, ctd_text *sql, ctd_text *pk, const struct row_in *row,
                          const struct cell *cell, int is_pk)
{
    const ctd_value *v = cell->value;
    if (v->type == CTD_NULL && t->settings->auto_evolve && !is_pk) {
        return;
    }
    if (v->type == CTD_NULL) {
        const ctd_value *later = look_ahead(row, cell);
        v = later != NULL ? later : v;
    }
    const char *type = type_of(v);
    tables_text(sql, sql->ptr[sql->len - 1] == '(' ? "" : ", ");
    tables_quote(sql, cell->name, cell->len);
    tables_text(sql, type != NULL ? " " : "");
    tables_text(sql, type != NULL ? type : "");
    if (is_pk) {
        tables_text(sql, " NOT NULL");
        tables_text(pk, pk->len == 0 ? ", PRIMARY KEY(" : ", ");
        tables_quote(pk, cell->name, cell->len);
    }
}

/* 1 if an earlier column of the record has the same name. */
static int seen_before(const struct row_in *row, const struct cell *cell, uint32_t n_fields)
{
    for (uint32_t i = 0; i < row->n_key; i++) {
        if (tables_same_name(row->key[i].name, row->key[i].len, cell->name, cell->len)) {
            return 1;
        }
    }
    for (uint32_t i = 0; i < n_fields; i++) {
        struct cell other = tables_field(row, i);
        if (tables_same_name(other.name, other.len, cell->name, cell->len)) {
            return 1;
        }
    }
    return 0;
}

static ctd_status create_table(struct tables *t, struct table *table, const struct row_in *row,
                               ctd_error *err)
{
    ctd_text sql = {0};
    ctd_text pk = {0};
    tables_text(&sql, "CREATE TABLE ");
    tables_quote(&sql, table->name, strlen(table->name));
    tables_text(&sql, "(");
    for (uint32_t i = 0; sql.status == CTD_OK && i < row->n_key; i++) {
        create_column(t, &sql, &pk, row, &row->key[i], 1);
    }
    for (uint32_t i = 0; sql.status == CTD_OK && i < row->n_fields; i++) {
        struct cell cell = tables_field(row, i);
        if (!seen_before(row, &cell, i)) {
            create_column(t, &sql, &pk, row, &cell, tables_is_pk(t, &cell));
        }
    }
    ctd_status rc;
    if (sql.status == CTD_OK && sql.ptr[sql.len - 1] == '(') {
        rc = ctd_fail(err, CTD_E_DATA, "table %s cannot be made from a record without any value",
                      table->name);
    } else {
        if (pk.len > 0) {
            ctd_text_append(&sql, pk.ptr, pk.len);
            tables_text(&sql, ")");
        }
        tables_text(&sql, ")");
        rc = change(t, &sql, err);
    }
    ctd_text_free(&pk);
    ctd_text_free(&sql);
    if (rc == CTD_OK) {
        table->made = 1;
        rc = tables_load(t, table, err);
    }
    return rc;
}

/* table.name.format with the topic put in. NULL without memory. */
static char *table_name(const char *format, ctd_slice topic)
{
    ctd_text name = {0};
    const char *at;
    while ((at = strstr(format, "${topic}")) != NULL) {
        ctd_text_append(&name, format, (uint64_t)(at - format));
        ctd_text_append(&name, topic.ptr, topic.len);
        format = at + strlen("${topic}");
    }
    ctd_text_append(&name, format, strlen(format) + 1);
    if (name.status != CTD_OK) {
        ctd_text_free(&name);
        return NULL;
    }
    return name.ptr;
}

static ctd_status new_table(struct tables *t, ctd_slice topic, struct table **ret, ctd_error *err)
{
    struct table *table = calloc(1, sizeof(*table));
    if (table == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    table->name = table_name(t->settings->table_format, topic);
    table->topic = malloc(topic.len + 1);
    if (table->name == NULL || table->topic == NULL) {
        free(table->name);
        free(table->topic);
        free(table);
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    memcpy(table->topic, topic.ptr, topic.len);
    table->topic_len = topic.len;
    table->next = t->tables;
    t->tables = table;
    *ret = table;
    if (strcasecmp(table->name, "_connectd_offsets") == 0 ||
        strncasecmp(table->name, "sqlite_", 7) == 0) {
        return ctd_fail(err, CTD_E_CONFIG,
                        "table %s is not for records; set table.name.format to something else",
                        table->name);
    }
    return tables_load(t, table, err);
}

static int is_table_of(const struct table *table, ctd_slice topic)
{
    return table != NULL && table->topic_len == topic.len &&
           memcmp(table->topic, topic.ptr, topic.len) == 0;
}

ctd_status tables_table(struct tables *t, const struct row_in *row, struct table **ret,
                        ctd_error *err)
{
    struct table *table = t->last_table;
    if (!is_table_of(table, row->topic)) {
        table = t->tables;
        while (table != NULL && !is_table_of(table, row->topic)) {
            table = table->next;
        }
    }
    ctd_status rc = table == NULL ? new_table(t, row->topic, &table, err) : CTD_OK;
    if (rc == CTD_OK && !table->exists) {
        rc = tables_load(t, table, err); /* another topic's records may go to the same table */
    }
    if (rc == CTD_OK && !table->exists && row->kind == ROW_WRITE) {
        rc = t->settings->auto_create
                 ? create_table(t, table, row, err)
                 : ctd_fail(err, CTD_E_CONFIG,
                            "%s has no table %s: create it, or set auto.create to true",
                            t->db->path, table->name);
    }
    if (rc == CTD_OK) {
        t->last_table = table;
        *ret = table;
    }
    return rc;
}
