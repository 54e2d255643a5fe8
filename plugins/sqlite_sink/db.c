/* See db.h. */
#include "db.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <connectd/sdk.h>

#include "base/clock.h"

enum { RETRY_MS = 500, FULL_RETRY_MS = 1000, BUSY_STEP_MS = 5 };

int db_init(struct db *d, const ctd_host *host, const char *path, int64_t busy_timeout_ms)
{
    *d = (struct db){.host = host, .path = path, .busy_timeout_ms = busy_timeout_ms};
    return pthread_mutex_init(&d->lock, NULL) == 0 ? 0 : -1;
}

void db_destroy(struct db *d)
{
    db_close(d);
    (void)pthread_mutex_destroy(&d->lock);
}

static int is_interrupted(struct db *d)
{
    (void)pthread_mutex_lock(&d->lock);
    int yes = d->interrupted;
    (void)pthread_mutex_unlock(&d->lock);
    return yes;
}

/* Somebody else has the lock: wait in small steps, so that an interrupt is seen. */
static int on_busy(void *arg, int count)
{
    struct db *d = arg;
    int64_t now = clock_mono_ms();
    if (count == 0) {
        d->busy_since_ms = now;
    }
    if (now - d->busy_since_ms >= d->busy_timeout_ms || is_interrupted(d)) {
        return 0;
    }
    const struct timespec step = {.tv_nsec = BUSY_STEP_MS * 1000000L};
    (void)nanosleep(&step, NULL);
    return 1;
}

static ctd_status busy(struct db *d, ctd_error *err)
{
    if (is_interrupted(d)) {
        return ctd_fail(err, CTD_E_CANCELLED, "cancelled while waiting for the database");
    }
    return ctd_fail_retry(err, RETRY_MS,
                          "%s: somebody else has been writing to it for more than %lld ms", d->path,
                          (long long)d->busy_timeout_ms);
}

static ctd_status io_failed(struct db *d, const char *doing, ctd_error *err)
{
    int e = sqlite3_system_errno(d->handle);
    if (e == ENOSPC || e == EDQUOT) {
        return ctd_fail_retry(err, FULL_RETRY_MS, "%s: %s: the disk is full; free some space",
                              d->path, doing);
    }
    (void)ctd_fail(err, CTD_E_IO, "%s: %s: %s", d->path, doing, sqlite3_errmsg(d->handle));
    if (err != NULL) {
        err->sys_errno = e;
    }
    return CTD_E_IO;
}

ctd_status db_fail(struct db *d, int rc, ctd_error *err, const char *doing)
{
    const char *text = d->handle != NULL ? sqlite3_errmsg(d->handle) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return busy(d, err);
    case SQLITE_SCHEMA:
        return ctd_fail_retry(err, 0, "%s: %s: %s", d->path, doing, text);
    case SQLITE_INTERRUPT:
        return ctd_fail(err, CTD_E_CANCELLED, "cancelled");
    case SQLITE_FULL:
        return ctd_fail_retry(err, FULL_RETRY_MS,
                              "%s: %s: the disk (or max_page_count) is full; free some space",
                              d->path, doing);
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
        return ctd_fail(err, CTD_E_DATA, "%s: %s", doing, text);
    case SQLITE_NOMEM:
        return ctd_fail(err, CTD_E_NOMEM, "%s: %s: out of memory", d->path, doing);
    case SQLITE_CORRUPT:
        return ctd_fail(err, CTD_E_FATAL,
                        "%s: %s: %s; restore the file from a backup, or see what sqlite3's "
                        "\".recover\" gets out of it",
                        d->path, doing, text);
    case SQLITE_NOTADB:
        return ctd_fail(err, CTD_E_FATAL,
                        "%s: not a SQLite database (or an encrypted one); name another file in "
                        "connection.url",
                        d->path);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
        (void)ctd_fail(err, CTD_E_IO,
                       "%s: %s: %s; the folder must be there, and both it and the file writable "
                       "for the user that runs connectd",
                       d->path, doing, text);
        if (err != NULL) {
            err->sys_errno = sqlite3_system_errno(d->handle);
        }
        return CTD_E_IO;
    case SQLITE_IOERR:
        return io_failed(d, doing, err);
    default:
        return ctd_fail(err, CTD_E_FATAL, "%s: %s: %s", d->path, doing, text);
    }
}

ctd_status db_exec(struct db *d, const char *sql, ctd_error *err)
{
    int rc = sqlite3_exec(d->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? CTD_OK : db_fail(d, rc, err, sql);
}

ctd_status db_prepare(struct db *d, const char *sql, sqlite3_stmt **ret, ctd_error *err)
{
    int rc = sqlite3_prepare_v3(d->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
    return rc == SQLITE_OK ? CTD_OK : db_fail(d, rc, err, sql);
}

/* Switching to the write-ahead log needs the file for a moment alone, and SQLite does not wait for
 * that. */
static ctd_status use_wal(struct db *d, ctd_error *err)
{
    for (int count = 0;; count++) {
        sqlite3_stmt *stmt = NULL;
        ctd_status status = db_prepare(d, "PRAGMA journal_mode=WAL", &stmt, err);
        if (status != CTD_OK) {
            return status;
        }
        int rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW) {
            const char *mode = (const char *)sqlite3_column_text(stmt, 0);
            d->wal = mode != NULL && strcmp(mode, "wal") == 0;
            rc = sqlite3_step(stmt);
        }
        (void)sqlite3_finalize(stmt);
        if (rc == SQLITE_DONE) {
            break;
        }
        if ((rc & 0xff) != SQLITE_BUSY || !on_busy(d, count)) {
            return db_fail(d, rc, err, "switch to the write-ahead log");
        }
    }
    if (!d->wal) {
        ctd_log(d->host, CTD_LOG_WARN,
                "%s: cannot have a write-ahead log here; every transaction is synced instead",
                d->path);
    }
    return db_exec(d, d->wal ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL", err);
}

static ctd_status prepare_all(struct db *d, ctd_error *err)
{
    ctd_status rc = use_wal(d, err);
    if (rc == CTD_OK) {
        rc = db_exec(d, "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16000", err);
    }
    if (rc == CTD_OK) {
        rc = db_prepare(d, "BEGIN IMMEDIATE", &d->begin, err);
    }
    if (rc == CTD_OK) {
        rc = db_prepare(d, "COMMIT", &d->commit, err);
    }
    if (rc == CTD_OK) {
        rc = db_prepare(d, "ROLLBACK", &d->rollback, err);
    }
    return rc == CTD_OK ? db_prepare(d, "PRAGMA schema_version", &d->version, err) : rc;
}

ctd_status db_open(struct db *d, ctd_error *err)
{
    sqlite3 *handle = NULL;
    int rc = sqlite3_open_v2(d->path, &handle,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                 SQLITE_OPEN_EXRESCODE,
                             NULL);
    (void)pthread_mutex_lock(&d->lock);
    d->handle = handle;
    (void)pthread_mutex_unlock(&d->lock);
    ctd_status status;
    if (handle == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    if (rc != SQLITE_OK) {
        status = db_fail(d, rc, err, "open");
    } else {
        (void)sqlite3_busy_handler(handle, on_busy, d);
        status = prepare_all(d, err);
    }
    if (status != CTD_OK) {
        db_close(d);
    }
    return status;
}

void db_close(struct db *d)
{
    db_rollback(d);
    sqlite3_stmt **all[] = {&d->begin, &d->commit, &d->rollback, &d->version};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        (void)sqlite3_finalize(*all[i]);
        *all[i] = NULL;
    }
    (void)pthread_mutex_lock(&d->lock);
    sqlite3 *handle = d->handle;
    d->handle = NULL;
    (void)pthread_mutex_unlock(&d->lock);
    (void)sqlite3_close_v2(handle);
    d->dirty = 0;
}

void db_interruptible_begin(struct db *d)
{
    (void)pthread_mutex_lock(&d->lock);
    d->interruptible = 1;
    d->interrupted = 0;
    (void)pthread_mutex_unlock(&d->lock);
}

void db_interruptible_end(struct db *d)
{
    (void)pthread_mutex_lock(&d->lock);
    d->interruptible = 0;
    d->interrupted = 0;
    (void)pthread_mutex_unlock(&d->lock);
}

void db_interrupt(struct db *d)
{
    (void)pthread_mutex_lock(&d->lock);
    if (d->interruptible && d->handle != NULL) {
        d->interrupted = 1;
        sqlite3_interrupt(d->handle);
    }
    (void)pthread_mutex_unlock(&d->lock);
}

static ctd_status step_once(struct db *d, sqlite3_stmt *stmt, const char *doing, ctd_error *err)
{
    int rc = sqlite3_step(stmt);
    ctd_status status = rc == SQLITE_DONE ? CTD_OK : db_fail(d, rc, err, doing);
    (void)sqlite3_reset(stmt);
    return status;
}

ctd_status db_begin(struct db *d, ctd_error *err)
{
    return step_once(d, d->begin, "begin a transaction", err);
}

ctd_status db_commit(struct db *d, ctd_error *err)
{
    d->dirty = 1;
    return step_once(d, d->commit, "commit", err);
}

void db_rollback(struct db *d)
{
    if (d->handle != NULL && !sqlite3_get_autocommit(d->handle)) {
        (void)step_once(d, d->rollback, "roll back", NULL);
    }
}

/* The commits so far lie in the write-ahead log; syncing that one file makes them durable, and with
 * its first sync SQLite syncs the folder too. */
ctd_status db_sync(struct db *d, ctd_error *err)
{
    if (!d->dirty) {
        return CTD_OK;
    }
    sqlite3_file *log = NULL;
    if (d->wal) {
        int rc = sqlite3_file_control(d->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
        if (rc == SQLITE_OK && log != NULL && log->pMethods != NULL) {
            rc = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
        }
        if (rc != SQLITE_OK) {
            return ctd_fail(err, CTD_E_IO, "%s: sync of the write-ahead log: %s", d->path,
                            sqlite3_errstr(rc));
        }
    }
    d->dirty = 0;
    return CTD_OK;
}

ctd_status db_schema_version(struct db *d, int64_t *ret, ctd_error *err)
{
    int rc = sqlite3_step(d->version);
    ctd_status status = CTD_OK;
    if (rc == SQLITE_ROW) {
        *ret = sqlite3_column_int64(d->version, 0);
    } else {
        status = db_fail(d, rc, err, "read the schema's version");
    }
    (void)sqlite3_reset(d->version);
    return status;
}
