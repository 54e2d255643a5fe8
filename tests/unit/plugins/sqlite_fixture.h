/* What the two files of SqliteSink tests share: one sink, its database, and records made from
 * values. */
#ifndef TESTS_PLUGINS_SQLITE_FIXTURE_H
#define TESTS_PLUGINS_SQLITE_FIXTURE_H

#include "harness.h"

#include <sqlite3.h>

extern struct harness H;
extern char db_path[160];

int sqlite_setup(void **state);
int sqlite_teardown(void **state);

/* Sets one more option (both strings are borrowed). */
void option(const char *key, const char *value);
const ctd_sink *sink(void);
ctd_status make_and_start(void);
/* Opens topic "t", partition, with this epoch; returns where to start, or the status if that is
 * negative. */
int64_t open_part(int32_t partition, int64_t epoch, int64_t offset);
/* make_and_start() and open_part(0, 1, 0). */
void begin(void);
/* The instance goes as in a crash: nothing is flushed, closed or stopped. */
void crash(void);

/* A record of topic "t", partition 0. */
ctd_record record(int64_t offset, ctd_value key, ctd_value value);
ctd_status put(const ctd_record *records, uint64_t n);
ctd_status put_value(int64_t offset, ctd_value value);

/* What a query gives, through a connection of its own: columns by |, rows by newline; NULL as
 * (null). */
const char *query(const char *sql);

#define S(text) ctd_v_cstr(text)
#define I(n)    ctd_v_i64(n)
#define MAP(...)                                                                                   \
    ctd_v_map((const ctd_value[]){__VA_ARGS__},                                                    \
              (uint32_t)(sizeof((const ctd_value[]){__VA_ARGS__}) / sizeof(ctd_value) / 2))
#define NONE ctd_v_null()

#endif
