/* What tables.c (which table has which columns) and shape.c (which statement writes a record)
 * share. */
#ifndef SQLITE_SINK_TABLES_INT_H
#define SQLITE_SINK_TABLES_INT_H

#include <connectd/sdk.h>

#include "tables.h"

/* The table of this record's topic, loaded; made from this record when it is missing and
 * auto.create allows. */
ctd_status tables_table(struct tables *t, const struct row_in *row, struct table **ret,
                        ctd_error *err);
/* Reads the table's columns from the database. */
ctd_status tables_load(struct tables *t, struct table *table, ctd_error *err);
/* Adds a column of the value's type. */
ctd_status tables_add_column(struct tables *t, struct table *table, const struct cell *cell,
                             ctd_error *err);
/* Column names compare as SQLite has it: ASCII letters without case. NULL if there is none. */
const struct column *tables_column(const struct table *table, const char *name, uint32_t len);
int tables_same_name(const char *a, uint32_t a_len, const char *b, uint32_t b_len);
/* 1 if `cell` is named in pk.fields (of the record's value). */
int tables_is_pk(const struct tables *t, const struct cell *cell);
/* The i-th field of the record's value. */
struct cell tables_field(const struct row_in *row, uint32_t i);
/* Appends the name in double quotes. */
void tables_quote(ctd_text *sql, const char *name, uint64_t len);
void tables_text(ctd_text *sql, const char *text);

#endif
