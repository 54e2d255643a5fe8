/*
 * tables: the tables that records go to, their columns, and a prepared statement for each shape of
 * record.
 *
 * A shape is what decides the statement: table, kind of write, and the names of the fields in their
 * order. Records of one stream mostly share one, so the shape used last is tried first, by
 * comparing names; others are found by hash. For each field it knows the statement's parameter, so
 * that a known record only binds and steps.
 *
 * Threads: as the connection's. All of this runs inside a transaction; columns are looked up and
 * added under its write lock, and everything is forgotten when the schema's version says that
 * somebody changed a table. Bounds: TABLES_MAX_SHAPES statements (the one unused for longest goes).
 */
#ifndef SQLITE_SINK_TABLES_H
#define SQLITE_SINK_TABLES_H

#include <stddef.h>
#include <stdint.h>

#include "db.h"
#include "settings.h"

enum { TABLES_MAX_SHAPES = 256, TABLES_BUCKETS = 64 };

/* A named value of a record: a part of its key, or a field of its value. */
struct cell {
    const char *name;
    uint32_t len;
    const ctd_value *value;
};

enum row_kind { ROW_WRITE = 0, ROW_DELETE };

/* A record as tables see it. */
struct row_in {
    enum row_kind kind;
    ctd_slice topic;
    struct cell key[SETTINGS_MAX_PK]; /* columns that come from the key or the record's place */
    uint32_t n_key;
    const ctd_value *pairs; /* the value's fields: name, value, name, value ... */
    uint32_t n_fields;
    const ctd_batch *batch; /* where it stands, to look ahead when a table is made */
    uint64_t index;
};

struct column {
    char *name;
    int numeric; /* SQLite would make a number of what is stored there */
};
struct table {
    struct table *next;
    char *topic; /* this topic's records go there */
    size_t topic_len;
    char *name;
    int exists;
    int made; /* by the open transaction */
    struct column *columns;
    size_t n_columns;
};

struct field {
    const char *name;
    uint32_t len;
    int16_t param;   /* 1 ...; 0: no column yet, so only null is possible; -1: not bound */
    uint8_t numeric; /* see struct column */
    uint8_t pk;      /* part of the primary key: null is an error */
};
struct shape {
    struct shape *next;
    struct table *table;
    sqlite3_stmt *stmt; /* NULL: nothing to set */
    uint64_t hash, used;
    enum row_kind kind;
    uint32_t n_key, n_fields;
    struct field fields[]; /* n_key, then n_fields */
};

struct tables {
    struct db *db;                     /* borrowed */
    const struct settings *settings;   /* borrowed */
    struct table *tables, *last_table; /* by topic */
    struct shape *buckets[TABLES_BUCKETS];
    struct shape *last;
    uint32_t n_shapes;
    uint64_t clock; /* counts uses, for the one unused for longest */
    int64_t schema_version;
    int changed; /* this transaction changed a table */
};

void tables_init(struct tables *t, struct db *db, const struct settings *settings);
void tables_clear(struct tables *t); /* before the connection is closed */

/* After db_begin(): forgets what is no longer so. */
ctd_status tables_begin(struct tables *t, ctd_error *err);
/* After db_commit(): tells of the tables made, which are there for good only now. */
void tables_committed(struct tables *t);
/* After a roll back, which undoes tables made and columns added. */
void tables_rolled_back(struct tables *t);

/* The shape for this record, with table and columns made when the options allow. CTD_E_DATA for a
 * field without a column, CTD_E_CONFIG for a missing table or one that does not fit the options.
 * *ret NULL with CTD_OK: there is nothing to do. */
ctd_status tables_shape(struct tables *t, const struct row_in *row, struct shape **ret,
                        ctd_error *err);
/* The shape must be made anew, since a field without a column turned out to have a value. */
void tables_drop_shape(struct tables *t, struct shape *s);

#endif
