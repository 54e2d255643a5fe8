/* See offsets.h. */
#include "offsets.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <connectd/sdk.h>

#include "base/str.h"

static const char create_sql[] =
    "CREATE TABLE IF NOT EXISTS _connectd_offsets(connector TEXT NOT NULL, topic TEXT NOT NULL, "
    "topic_id TEXT NOT NULL, \"partition\" INTEGER NOT NULL, epoch INTEGER NOT NULL, "
    "\"offset\" INTEGER NOT NULL, PRIMARY KEY(connector, topic_id, \"partition\")) WITHOUT ROWID";
static const char read_sql[] = "SELECT epoch, \"offset\" FROM _connectd_offsets "
                               "WHERE connector=?1 AND topic_id=?2 AND \"partition\"=?3";
static const char claim_sql[] =
    "INSERT INTO _connectd_offsets(connector, topic_id, \"partition\", topic, epoch, \"offset\") "
    "VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(connector, topic_id, \"partition\") DO UPDATE SET "
    "topic=excluded.topic, epoch=excluded.epoch, \"offset\"=excluded.\"offset\"";
static const char move_sql[] = "UPDATE _connectd_offsets SET \"offset\"=?4 WHERE connector=?1 AND "
                               "topic_id=?2 AND \"partition\"=?3 AND epoch=?5";
static const char alter_sql[] =
    "INSERT INTO _connectd_offsets(connector, topic_id, \"partition\", topic, epoch, \"offset\") "
    "VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(connector, topic_id, \"partition\") DO UPDATE SET "
    "topic=excluded.topic, epoch=max(epoch, excluded.epoch), \"offset\"=excluded.\"offset\"";
static const char forget_sql[] = "DELETE FROM _connectd_offsets "
                                 "WHERE connector=?1 AND topic_id=?2 AND \"partition\"=?3";

struct row {
    int found;
    int64_t epoch, offset;
};

/* Binds the first three parameters, which all statements share. */
static void bind_place(sqlite3_stmt *s, const char *connector, const char *topic_id,
                       int32_t partition)
{
    (void)sqlite3_bind_text(s, 1, connector, -1, SQLITE_STATIC);
    (void)sqlite3_bind_text(s, 2, topic_id, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int(s, 3, partition);
}

static ctd_status read_row(struct db *db, const char *connector, const char *topic_id,
                           int32_t partition, struct row *ret, ctd_error *err)
{
    sqlite3_stmt *s = NULL;
    ctd_status status = db_prepare(db, read_sql, &s, err);
    if (status != CTD_OK) {
        return status;
    }
    bind_place(s, connector, topic_id, partition);
    int rc = sqlite3_step(s);
    *ret = (struct row){.offset = -1};
    if (rc == SQLITE_ROW) {
        *ret = (struct row){1, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1)};
    } else if (rc != SQLITE_DONE) {
        status = db_fail(db, rc, err, "read _connectd_offsets");
    }
    (void)sqlite3_finalize(s);
    return status;
}

/* Runs claim, alter or forget for one partition. */
static ctd_status write_row(struct db *db, const char *sql, const char *connector,
                            const char *topic_id, const ctd_assignment *a, int64_t offset,
                            ctd_error *err)
{
    sqlite3_stmt *s = NULL;
    ctd_status status = db_prepare(db, sql, &s, err);
    if (status != CTD_OK) {
        return status;
    }
    bind_place(s, connector, topic_id, a->partition);
    if (sqlite3_bind_parameter_count(s) == 6) {
        (void)sqlite3_bind_text64(s, 4, a->topic.ptr, a->topic.len, SQLITE_STATIC, SQLITE_UTF8);
        (void)sqlite3_bind_int64(s, 5, a->epoch);
        (void)sqlite3_bind_int64(s, 6, offset);
    }
    int rc = sqlite3_step(s);
    if (rc != SQLITE_DONE) {
        status = db_fail(db, rc, err, "write _connectd_offsets");
    }
    (void)sqlite3_finalize(s);
    return status;
}

ctd_status offsets_start(struct offsets *o, struct db *db, const char *connector, ctd_error *err)
{
    *o = (struct offsets){.db = db, .connector = connector};
    ctd_status rc = db_exec(db, create_sql, err);
    return rc == CTD_OK ? db_prepare(db, move_sql, &o->move, err) : rc;
}

void offsets_stop(struct offsets *o)
{
    for (size_t i = 0; i < o->n_parts; i++) {
        free(o->parts[i].topic);
    }
    free(o->parts);
    (void)sqlite3_finalize(o->move);
    *o = (struct offsets){0};
}

struct part *offsets_find(struct offsets *o, ctd_slice topic, int32_t partition)
{
    for (size_t i = 0; i < o->n_parts; i++) {
        size_t at = (o->last + i) % o->n_parts;
        struct part *p = &o->parts[at];
        if (p->partition == partition && p->topic_len == topic.len &&
            memcmp(p->topic, topic.ptr, topic.len) == 0) {
            o->last = at;
            return p;
        }
    }
    return NULL;
}

static void remove_part(struct offsets *o, struct part *p)
{
    free(p->topic);
    *p = o->parts[--o->n_parts];
    o->last = 0;
}

void offsets_close(struct offsets *o, const ctd_assignment *a, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        struct part *p = offsets_find(o, a[i].topic, a[i].partition);
        if (p != NULL) {
            remove_part(o, p);
        }
    }
}

static ctd_status add_part(struct offsets *o, const ctd_assignment *a, const char *topic_id,
                           ctd_error *err)
{
    offsets_close(o, a, 1);
    struct part *parts = realloc(o->parts, (o->n_parts + 1) * sizeof(*parts));
    if (parts == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    o->parts = parts;
    struct part *p = &parts[o->n_parts];
    *p = (struct part){.topic = strndup(a->topic.ptr, a->topic.len),
                       .topic_len = a->topic.len,
                       .partition = a->partition,
                       .epoch = a->epoch,
                       .next = a->offset,
                       .pending = a->offset};
    if (p->topic == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    memcpy(p->topic_id, topic_id, sizeof(p->topic_id));
    o->n_parts++;
    return CTD_OK;
}

static ctd_status fenced(const char *connector, const char *topic, int32_t partition, int64_t mine,
                         const struct row *row, ctd_error *err)
{
    if (!row->found) {
        return ctd_fail(err, CTD_E_FENCED,
                        "the row of %s, %s-%" PRId32 " is gone from _connectd_offsets: somebody "
                        "reset its offset",
                        connector, topic, partition);
    }
    return ctd_fail(err, CTD_E_FENCED,
                    "a newer owner has taken %s-%" PRId32 " of %s: epoch %" PRId64
                    " is in _connectd_offsets, this task has %" PRId64,
                    topic, partition, connector, row->epoch, mine);
}

/* Inside a transaction. */
static ctd_status claim(struct offsets *o, ctd_assignment *a, const char *topic_id, ctd_error *err)
{
    struct row row;
    ctd_status rc = read_row(o->db, o->connector, topic_id, a->partition, &row, err);
    if (rc != CTD_OK) {
        return rc;
    }
    if (row.found && row.epoch > a->epoch) {
        char topic[250];
        size_t n = a->topic.len < sizeof(topic) ? a->topic.len : sizeof(topic) - 1;
        memcpy(topic, a->topic.ptr, n);
        topic[n] = '\0';
        return fenced(o->connector, topic, a->partition, a->epoch, &row, err);
    }
    if (row.offset >= 0) {
        a->offset = row.offset;
    }
    return write_row(o->db, claim_sql, o->connector, topic_id, a, a->offset, err);
}

ctd_status offsets_open(struct offsets *o, ctd_assignment *inout, uint64_t n, ctd_error *err)
{
    char topic_id[33];
    ctd_status rc = db_begin(o->db, err);
    for (uint64_t i = 0; rc == CTD_OK && i < n; i++) {
        str_hex(inout[i].topic_id, sizeof(inout[i].topic_id), topic_id);
        rc = claim(o, &inout[i], topic_id, err);
    }
    rc = rc == CTD_OK ? db_commit(o->db, err) : rc;
    db_rollback(o->db);
    rc = rc == CTD_OK ? db_sync(o->db, err) : rc;
    for (uint64_t i = 0; rc == CTD_OK && i < n; i++) {
        str_hex(inout[i].topic_id, sizeof(inout[i].topic_id), topic_id);
        rc = add_part(o, &inout[i], topic_id, err);
    }
    return rc;
}

static ctd_status move_one(struct offsets *o, const struct part *p, ctd_error *err)
{
    bind_place(o->move, o->connector, p->topic_id, p->partition);
    (void)sqlite3_bind_int64(o->move, 4, p->pending);
    (void)sqlite3_bind_int64(o->move, 5, p->epoch);
    int rc = sqlite3_step(o->move);
    ctd_status status =
        rc == SQLITE_DONE ? CTD_OK : db_fail(o->db, rc, err, "write _connectd_offsets");
    (void)sqlite3_reset(o->move);
    if (status != CTD_OK || sqlite3_changes(o->db->handle) == 1) {
        return status;
    }
    struct row row;
    status = read_row(o->db, o->connector, p->topic_id, p->partition, &row, err);
    return status == CTD_OK ? fenced(o->connector, p->topic, p->partition, p->epoch, &row, err)
                            : status;
}

ctd_status offsets_move(struct offsets *o, ctd_error *err)
{
    for (size_t i = 0; i < o->n_parts; i++) {
        if (o->parts[i].pending != o->parts[i].next) {
            ctd_status rc = move_one(o, &o->parts[i], err);
            if (rc != CTD_OK) {
                return rc;
            }
        }
    }
    return CTD_OK;
}

void offsets_committed(struct offsets *o)
{
    for (size_t i = 0; i < o->n_parts; i++) {
        o->parts[i].next = o->parts[i].pending;
    }
}

void offsets_rolled_back(struct offsets *o)
{
    for (size_t i = 0; i < o->n_parts; i++) {
        o->parts[i].pending = o->parts[i].next;
    }
}

ctd_status offsets_refresh(struct offsets *o, ctd_error *err)
{
    for (size_t i = 0; o->stale && i < o->n_parts; i++) {
        struct part *p = &o->parts[i];
        struct row row;
        ctd_status rc = read_row(o->db, o->connector, p->topic_id, p->partition, &row, err);
        if (rc != CTD_OK) {
            return rc;
        }
        if (!row.found || row.epoch != p->epoch) {
            return fenced(o->connector, p->topic, p->partition, p->epoch, &row, err);
        }
        p->next = row.offset;
        p->pending = row.offset;
    }
    o->stale = 0;
    return CTD_OK;
}

ctd_status offsets_alter(struct db *db, const char *connector, const ctd_assignment *a, uint64_t n,
                         ctd_error *err)
{
    ctd_status rc = db_exec(db, create_sql, err);
    rc = rc == CTD_OK ? db_begin(db, err) : rc;
    for (uint64_t i = 0; rc == CTD_OK && i < n; i++) {
        char topic_id[33];
        str_hex(a[i].topic_id, sizeof(a[i].topic_id), topic_id);
        const char *sql = a[i].offset < 0 ? forget_sql : alter_sql;
        rc = write_row(db, sql, connector, topic_id, &a[i], a[i].offset, err);
    }
    rc = rc == CTD_OK ? db_commit(db, err) : rc;
    db_rollback(db);
    return rc == CTD_OK ? db_sync(db, err) : rc;
}
