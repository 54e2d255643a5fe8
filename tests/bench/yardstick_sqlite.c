/*
 * yardstick_sqlite DB ROWS PER_TRANSACTION JOURNAL_MODE SYNCHRONOUS: a bare prepared-statement upsert of
 * ROWS rows (id INTEGER PRIMARY KEY, name TEXT, value REAL, flag INTEGER), the rows that bench.py writes,
 * in transactions of the size that SqliteSink uses, and with its pragmas. One thread.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static sqlite3 *db;

static void check(int rc, const char *what)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE) {
        (void)fprintf(stderr, "%s: %s\n", what, sqlite3_errmsg(db));
        exit(1);
    }
}

static void run(const char *sql)
{
    check(sqlite3_exec(db, sql, NULL, NULL, NULL), sql);
}

static void pragma(const char *name, const char *value)
{
    char sql[128];
    (void)snprintf(sql, sizeof(sql), "PRAGMA %s=%s", name, value);
    run(sql);
}

static void upsert(sqlite3_stmt *statement, long i)
{
    char name[32];
    int len = snprintf(name, sizeof(name), "name-%ld", i);
    check(sqlite3_bind_int64(statement, 1, i), "bind");
    check(sqlite3_bind_text(statement, 2, name, len, SQLITE_STATIC), "bind");
    check(sqlite3_bind_double(statement, 3, (double)i / 8), "bind");
    check(sqlite3_bind_int64(statement, 4, i % 2), "bind");
    check(sqlite3_step(statement), "step");
    check(sqlite3_reset(statement), "reset");
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        (void)fprintf(stderr,
                      "usage: yardstick_sqlite DB ROWS PER_TRANSACTION JOURNAL_MODE SYNCHRONOUS\n");
        return 2;
    }
    long rows = strtol(argv[2], NULL, 10);
    long per_transaction = strtol(argv[3], NULL, 10);
    check(sqlite3_open(argv[1], &db), argv[1]);
    pragma("journal_mode", argv[4]);
    pragma("synchronous", argv[5]);
    pragma("temp_store", "MEMORY");
    pragma("cache_size", "-16000");
    run("CREATE TABLE rows (id INTEGER, name TEXT, value REAL, flag INTEGER, PRIMARY KEY (id))");
    sqlite3_stmt *statement = NULL;
    check(sqlite3_prepare_v2(db,
                             "INSERT INTO rows VALUES (?,?,?,?) ON CONFLICT (id) DO UPDATE SET "
                             "name=excluded.name, value=excluded.value, flag=excluded.flag",
                             -1, &statement, NULL),
          "prepare");
    for (long i = 0; i < rows; i++) {
        if (i % per_transaction == 0) {
            run("BEGIN");
        }
        upsert(statement, i);
        if ((i + 1) % per_transaction == 0 || i + 1 == rows) {
            run("COMMIT");
        }
    }
    check(sqlite3_finalize(statement), "finalize");
    check(sqlite3_close(db), "close");
    return 0;
}
