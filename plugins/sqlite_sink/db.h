/*
 * db: one connection to the database file, its transactions, and what SQLite's errors mean to the
 * host.
 *
 * Threads: one at a time; db_interrupt() from any. Durability: a commit is atomic at once and
 * durable after db_sync() (write-ahead log, synchronous=NORMAL); where the file cannot have a
 * write-ahead log every commit is durable by itself.
 */
#ifndef SQLITE_SINK_DB_H
#define SQLITE_SINK_DB_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdint.h>

#include "connectd/abi.h"

struct db {
    const ctd_host *host; /* for the log; borrowed */
    const char *path;     /* borrowed */
    int64_t busy_timeout_ms;
    sqlite3 *handle; /* NULL: not open */
    sqlite3_stmt *begin, *commit, *rollback, *version;
    int wal;
    int dirty;             /* committed since the last sync */
    int64_t busy_since_ms; /* of the wait that is going on */

    pthread_mutex_t lock; /* guards the two below, and `handle` against a concurrent interrupt */
    int interruptible, interrupted;
};

int db_init(struct db *d, const ctd_host *host, const char *path, int64_t busy_timeout_ms);
ctd_status db_open(struct db *d, ctd_error *err);
void db_close(struct db *d); /* rolls back what is open */
void db_destroy(struct db *d);

/* Between these two db_interrupt() makes whatever runs return CTD_E_CANCELLED; elsewhere it does
 * nothing. */
void db_interruptible_begin(struct db *d);
void db_interruptible_end(struct db *d);
void db_interrupt(struct db *d);

/* Takes the write lock, waiting for it at most busy_timeout_ms. */
ctd_status db_begin(struct db *d, ctd_error *err);
ctd_status db_commit(struct db *d, ctd_error *err);
/* NULL-safe in the sense that no open transaction is fine. */
void db_rollback(struct db *d);
ctd_status db_sync(struct db *d, ctd_error *err);
/* Changes whenever anybody changes a table; read inside a transaction. */
ctd_status db_schema_version(struct db *d, int64_t *ret, ctd_error *err);

ctd_status db_exec(struct db *d, const char *sql, ctd_error *err);
ctd_status db_prepare(struct db *d, const char *sql, sqlite3_stmt **ret, ctd_error *err);
/* Fills `err` from the connection's last error; `doing` says what failed. */
ctd_status db_fail(struct db *d, int rc, ctd_error *err, const char *doing);

#endif
