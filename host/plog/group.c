/*
 * One group of commit units on its way to disk: staged (offsets given, places in segments chosen), written
 * (segments beyond their published ends, frames into the journal), synced, and then published or
 * rolled back whole. Nothing here is visible to a reader before plog_group_publish().
 *
 * Two paths with one recovery: small groups go with their bytes into the journal (one sync, segments
 * are synced by a later checkpoint); big ones into their segments, which are synced first, and then as
 * markers into the journal. Without log.flush=always nothing is synced here, so markers are all that
 * is needed: recovery checks the bytes that they name.
 *
 * Threads: the committer's.
 */
#include "plog/plog_int.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/codec.h"
#include "record/record.h"

void plog_group_clear(struct plog_group *g)
{
    for (size_t i = 0; i < g->n_parts; i++) {
        g->parts[i]->in_group = 0;
        g->parts[i]->first_extent = g->parts[i]->last_extent = 0;
    }
    g->n_units = g->n_extents = g->n_parts = 0;
    g->bytes = 0;
    g->journal_touched = g->sync_failed = 0;
    g->journal_bytes = 0;
    g->fault_part = NULL;
    buf_clear(&g->heads);
}

void plog_group_free(struct plog_group *g)
{
    free(g->units);
    free(g->unit_extents);
    free(g->extents);
    free(g->parts);
    free(g->iov);
    buf_free(&g->heads);
}

/* ---- staging ---- */

int plog_group_admit(const struct plog_unit *u, struct err *err)
{
    for (size_t i = 0; i < u->n_appends; i++) {
        const struct plog_append *a = &u->appends[i];
        struct plog_partition *t = a->partition;
        mutex_lock(&t->mu);
        int deleted = t->deleted;
        int failed = t->failed;
        if (failed && !deleted) {
            (void)err_set(err, ERR_IO, "%s", t->error);
        }
        mutex_unlock(&t->mu);
        if (deleted) {
            return err_set(err, ERR_NOT_FOUND, "topic %s was deleted", t->topic);
        }
        if (failed) {
            return ERR_IO;
        }
        size_t at = 0;
        while (at < a->len) {
            struct plog_batch b;
            if (a->len - at < PLOG_BATCH_HEAD || plog_batch_parse(a->batches + at, &b) != 0 ||
                (uint64_t)b.bytes > a->len - at) {
                return err_set(err, ERR_INVAL, "append %zu to %s-%d: no whole batch at byte %zu", i,
                               t->topic, (int)t->number, at);
            }
            at += (size_t)b.bytes;
        }
    }
    return 0;
}

static int grow(void **p, size_t *cap, size_t want, size_t size, struct err *err)
{
    if (want <= *cap) {
        return 0;
    }
    size_t n = want * 2;
    void *grown = realloc(*p, n * size);
    if (grown == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    *p = grown;
    *cap = n;
    return 0;
}

/* Takes the partition into the group: written state = published state. */
static int touch(struct plog_group *g, struct plog_partition *t, struct err *err)
{
    if (t->in_group) {
        return 0;
    }
    TRY(grow((void **)&g->parts, &g->cap_parts, g->n_parts + 1, sizeof(*g->parts), err));
    mutex_lock(&t->mu);
    struct plog_segment *active = t->segs[t->n_segs - 1];
    active->w = active->pub;
    t->w_end = t->end;
    t->w_old_segs = t->n_segs;
    mutex_unlock(&t->mu);
    t->w_active = active;
    t->in_group = 1;
    t->first_extent = t->last_extent = 0;
    g->parts[g->n_parts++] = t;
    return 0;
}

/* Whether this batch belongs into a new segment. */
static int must_roll(struct plog_partition *t, const struct plog_batch *b)
{
    const struct plog_segment *s = t->w_active;
    const struct plog_mark *m = &s->w;
    if (m->size == 0) {
        return 0;
    }
    mutex_lock(&t->mu);
    int64_t entries = s->index_file_n + (int64_t)s->index_n;
    mutex_unlock(&t->mu);
    return m->size + b->bytes > atomic_load(&t->limits.segment_bytes) ||
           t->w_end + (b->last_offset - b->base_offset) - s->base > INT32_MAX ||
           (m->first_ts >= 0 && b->max_ts > m->first_ts &&
            b->max_ts - m->first_ts > atomic_load(&t->limits.segment_ms)) ||
           (entries + 1) * (int64_t)sizeof(struct plog_index_entry) > PLOG_INDEX_MAX;
}

static int roll(struct plog_partition *t, struct err *err)
{
    struct plog_segment *s = NULL;
    TRY(plog_segment_create(t, t->w_end, &s, err));
    int rc = plog_partition_add_segment(t, s, err);
    if (rc < 0) {
        plog_segment_unref(s);
        return rc;
    }
    t->w_active = s;
    return 0;
}

static int open_extent(struct plog_group *g, struct plog_partition *t, const uint8_t *bytes,
                       struct err *err)
{
    TRY(grow((void **)&g->extents, &g->cap_extents, g->n_extents + 1, sizeof(*g->extents), err));
    g->extents[g->n_extents++] = (struct plog_extent){
        .part = t,
        .seg = t->w_active,
        .pos = t->w_active->w.size,
        .base_offset = t->w_end,
        .next_offset = t->w_end,
        .bytes = bytes,
    };
    uint32_t number = (uint32_t)g->n_extents;
    if (t->last_extent != 0) {
        g->extents[t->last_extent - 1].next = number;
    } else {
        t->first_extent = number;
    }
    t->last_extent = number;
    return 0;
}

static int stage_append(struct plog_group *g, struct plog_append *a, struct err *err)
{
    struct plog_partition *t = a->partition;
    TRY(touch(g, t, err));
    a->ret_base_offset = t->w_end;
    int64_t interval = atomic_load(&t->limits.index_interval_bytes);
    int open = 0;
    for (size_t at = 0; at < a->len;) {
        uint8_t *bytes = a->batches + at;
        struct plog_batch b;
        TRY(plog_batch_parse(bytes, &b));
        if (must_roll(t, &b)) {
            TRY(roll(t, err));
            open = 0;
        }
        if (!open) {
            TRY(open_extent(g, t, bytes, err));
            open = 1;
        }
        int64_t next = record_batches_stamp(bytes, (size_t)b.bytes, t->w_end, 0);
        b.last_offset = next - 1;
        b.base_offset = t->w_end;
        TRY(plog_index_note(t->w_active, &t->w_active->w, &b, interval, err));
        struct plog_extent *x = &g->extents[g->n_extents - 1];
        x->digest = codec_crc32c(x->digest, bytes, PLOG_BATCH_CRC_FROM);
        x->len += (size_t)b.bytes;
        x->next_offset = next;
        t->w_end = next;
        at += (size_t)b.bytes;
    }
    g->bytes += a->len;
    return 0;
}

int plog_group_stage(struct plog_group *g, struct plog_unit *u, struct err *err)
{
    TRY(grow((void **)&g->units, &g->cap_units, g->n_units + 1, sizeof(*g->units), err));
    TRY(grow((void **)&g->unit_extents, &g->cap_unit_extents, g->n_units + 2,
             sizeof(*g->unit_extents), err));
    g->unit_extents[g->n_units] = g->n_extents;
    g->units[g->n_units++] = u;
    for (size_t i = 0; i < u->n_appends; i++) {
        TRY(stage_append(g, &u->appends[i], err));
    }
    g->unit_extents[g->n_units] = g->n_extents;
    return 0;
}

int plog_group_stage_known(struct plog_group *g, struct plog_partition **parts, size_t n,
                           struct err *err)
{
    struct plog_unit none = {0};
    TRY(plog_group_stage(g, &none, err));
    g->units[0] = NULL;
    TRY(grow((void **)&g->extents, &g->cap_extents, n, sizeof(*g->extents), err));
    for (size_t i = 0; i < n; i++) {
        mutex_lock(&parts[i]->mu);
        struct plog_segment *s = parts[i]->segs[parts[i]->n_segs - 1];
        g->extents[g->n_extents++] = (struct plog_extent){
            .part = parts[i],
            .seg = s,
            .pos = s->pub.size,
            .base_offset = parts[i]->end,
            .next_offset = parts[i]->end,
        };
        mutex_unlock(&parts[i]->mu);
    }
    g->unit_extents[1] = g->n_extents;
    return 0;
}

/* ---- writing ---- */

/* Writes one partition's extents, consecutive ones of a segment with one call. */
static int write_partition(struct plog *p, struct plog_group *g, struct plog_partition *t,
                           struct err *err)
{
    for (uint32_t i = t->first_extent; i != 0;) {
        struct plog_extent *x = &g->extents[i - 1];
        struct plog_segment *s = x->seg;
        int64_t pos = x->pos;
        int n = 0;
        for (; i != 0 && g->extents[i - 1].seg == s; i = x->next) {
            x = &g->extents[i - 1];
            g->iov[n].iov_base = (void *)(uintptr_t)x->bytes;
            g->iov[n++].iov_len = x->len;
        }
        int fd = -1;
        TRY(plog_segment_pin(s, &fd, err));
        char path[PATH_MAX];
        plog_segment_path(s, "log", path);
        int rc = plog_io_pwritev(p, fd, g->iov, n, pos, path, err);
        plog_segment_unpin(s);
        TRY(rc);
    }
    return 0;
}

static int write_segments(struct plog *p, struct plog_group *g, struct err *err)
{
    for (size_t i = 0; i < g->n_parts; i++) {
        struct err why = ERR_INIT;
        int rc = write_partition(p, g, g->parts[i], &why);
        if (rc < 0) {
            err_copy(err, &why);
            /* A full disk is everybody's; anything else is this partition's own. */
            g->fault_part = rc == ERR_NOSPC || rc == ERR_NOMEM ? NULL : g->parts[i];
            return rc;
        }
    }
    return 0;
}

struct sync_jobs {
    struct plog *p;
    struct plog_group *g;
    struct mutex mu;
    struct err err; /* the first failure */
    struct plog_partition *part;
};

/* Syncs what the group wrote of one partition: its segments, and its folder if one is new. */
static void sync_partition(void *arg, size_t i)
{
    struct sync_jobs *jobs = arg;
    struct plog_partition *t = jobs->g->parts[i];
    struct err err = ERR_INIT;
    int rc = 0;
    struct plog_segment *last = NULL;
    for (uint32_t e = t->first_extent; e != 0 && rc == 0; e = jobs->g->extents[e - 1].next) {
        struct plog_segment *s = jobs->g->extents[e - 1].seg;
        if (s != last) {
            rc = plog_segment_sync(s, &err);
            last = s;
        }
    }
    if (rc == 0 && t->n_segs > t->w_old_segs) {
        rc = plog_io_sync_dir(jobs->p, t->dir, &err);
    }
    if (rc < 0) {
        mutex_lock(&jobs->mu);
        if (jobs->err.code == 0) {
            err_copy(&jobs->err, &err);
            jobs->part = t;
        }
        mutex_unlock(&jobs->mu);
    }
}

static int sync_segments(struct plog *p, struct plog_group *g, struct err *err)
{
    struct sync_jobs jobs = {.p = p, .g = g, .err = ERR_INIT};
    mutex_init(&jobs.mu);
    plog_pool_run(p, sync_partition, &jobs, g->n_parts);
    mutex_destroy(&jobs.mu);
    if (jobs.err.code < 0) {
        g->fault_part = jobs.part;
        err_copy(err, &jobs.err);
    }
    return jobs.err.code;
}

/* One frame a unit, behind the journal's good end, in one call. */
static int write_journal(struct plog *p, struct plog_group *g, int kind, struct err *err)
{
    struct plog_journal *j = p->journal;
    g->first_seq = p->next_seq;
    buf_clear(&g->heads);
    for (size_t i = 0; i < g->n_units; i++) {
        size_t from = g->unit_extents[i];
        size_t n = g->unit_extents[i + 1] - from;
        if (n > 0) {
            plog_frame_put(&g->heads, kind, j->generation, p->next_seq++, p->durable_seq,
                           g->extents + from, n);
        }
    }
    if (g->heads.error != 0) {
        p->next_seq = g->first_seq;
        return err_set(err, g->heads.error, "journal frames of a group: too large");
    }
    int n_iov = 0;
    size_t head_at = 0;
    int64_t bytes = 0;
    for (size_t i = 0; i < g->n_units; i++) {
        size_t from = g->unit_extents[i];
        size_t to = g->unit_extents[i + 1];
        if (from == to) {
            continue;
        }
        size_t head_len = plog_frame_head_len(g->heads.data + head_at);
        g->iov[n_iov++] = (struct iovec){g->heads.data + head_at, head_len};
        head_at += head_len;
        bytes += (int64_t)head_len;
        for (size_t x = from; kind == PLOG_FRAME_REDO && x < to; x++) {
            g->iov[n_iov].iov_base = (void *)(uintptr_t)g->extents[x].bytes;
            g->iov[n_iov++].iov_len = g->extents[x].len;
            bytes += (int64_t)g->extents[x].len;
        }
    }
    g->journal_touched = 1;
    TRY(plog_io_pwritev(p, j->fd, g->iov, n_iov, j->len, j->path, err));
    g->journal_bytes = bytes;
    return 0;
}

static int goes_straight(const struct plog *p, const struct plog_group *g)
{
    if (p->o.control_ack_before_sync || p->o.force_path == 1) {
        return 0;
    }
    if (p->o.force_path == 2 || p->o.flush != PLOG_FLUSH_ALWAYS) {
        return 1;
    }
    size_t files = 0;
    const struct plog_segment *last = NULL;
    for (size_t i = 0; i < g->n_parts; i++) {
        for (uint32_t e = g->parts[i]->first_extent; e != 0; e = g->extents[e - 1].next) {
            files += g->extents[e - 1].seg != last;
            last = g->extents[e - 1].seg;
        }
    }
    return files > 0 && g->bytes / files >= PLOG_STRAIGHT_BYTES;
}

int plog_group_write(struct plog *p, struct plog_group *g, struct err *err)
{
    if (g->n_extents == 0) {
        return 0;
    }
    TRY(grow((void **)&g->iov, &g->cap_iov, g->n_extents + g->n_units, sizeof(*g->iov), err));
    int straight = goes_straight(p, g);
    TRY(write_segments(p, g, err));
    if (straight && p->o.flush == PLOG_FLUSH_ALWAYS) {
        TRY(sync_segments(p, g, err));
    }
    TRY(write_journal(p, g, straight ? PLOG_FRAME_MARKER : PLOG_FRAME_REDO, err));
    p->straight_bytes += straight ? (int64_t)g->bytes : 0;
    return 0;
}

int plog_group_sync(struct plog *p, struct plog_group *g, struct err *err)
{
    if (!g->journal_touched) {
        return 0;
    }
    int rc = plog_io_sync(p, p->journal->fd, p->journal->path, err);
    if (rc < 0) {
        g->sync_failed = 1;
        return rc;
    }
    p->durable_seq = p->next_seq - 1;
    return 0;
}

/* ---- the outcome ---- */

void plog_group_publish(struct plog *p, struct plog_group *g)
{
    p->journal->len += g->journal_bytes;
    g->journal_bytes = 0;
    g->journal_touched = 0;
    for (size_t i = 0; i < g->n_parts; i++) {
        struct plog_partition *t = g->parts[i];
        mutex_lock(&t->mu);
        for (size_t s = t->w_old_segs - 1; s < t->n_segs; s++) {
            t->segs[s]->pub = t->segs[s]->w;
            plog_index_publish(t->segs[s]);
            t->segs[s]->dirty = 1;
        }
        t->dir_dirty |= t->n_segs > t->w_old_segs;
        t->end = t->w_end;
        mutex_unlock(&t->mu);
    }
    for (size_t i = 0; i < g->n_parts; i++) {
        plog_partition_wake(g->parts[i]);
    }
}

static void rollback_partition(struct plog *p, struct plog_partition *t)
{
    mutex_lock(&t->mu);
    struct plog_segment *active = t->segs[t->w_old_segs - 1];
    size_t first_new = t->w_old_segs;
    size_t n = t->n_segs;
    t->n_segs = first_new; /* the pointers behind it are ours now */
    plog_index_rollback(active);
    active->w = active->pub;
    int64_t size = active->pub.size;
    mutex_unlock(&t->mu);
    for (size_t i = first_new; i < n; i++) {
        char path[PATH_MAX];
        plog_segment_path(t->segs[i], "log", path);
        (void)unlink(path); /* an empty leftover would be removed at the next open */
        plog_segment_unref(t->segs[i]);
    }
    /* Should this fail, the next write goes to the same place, recovery cuts there, and so does a clean
     * close. */
    char path[PATH_MAX];
    plog_segment_path(active, "log", path);
    int fd = -1;
    int rc = plog_segment_pin(active, &fd, NULL);
    if (rc == 0) {
        rc = plog_io_truncate(p, fd, size, path, NULL);
        plog_segment_unpin(active);
    }
    if (rc < 0) {
        mutex_lock(&t->mu);
        t->tail_left = 1;
        mutex_unlock(&t->mu);
    }
}

int plog_group_rollback(struct plog *p, struct plog_group *g)
{
    for (size_t i = 0; i < g->n_parts; i++) {
        rollback_partition(p, g->parts[i]);
    }
    if (!g->journal_touched) {
        return 0;
    }
    p->next_seq = g->first_seq;
    g->journal_touched = 0;
    g->journal_bytes = 0;
    /* Durable, so that no frame of a failed unit comes back after a power cut. */
    return g->sync_failed ||
           plog_io_truncate(p, p->journal->fd, p->journal->len, p->journal->path, NULL) < 0 ||
           plog_io_sync(p, p->journal->fd, p->journal->path, NULL) < 0;
}
