/*
 * Checkpoints: the moment from which on a journal is not needed any more.
 *
 *   1. a new journal generation exists durably;
 *   2. between two groups the committer moves to it, and a snapshot is taken of where every partition ends
 *      and of every segment with bytes that no checkpoint has synced;
 *   3. those segments, their indexes and folders are synced;
 *   4. DATA/journal/checkpoint (the snapshot and the new generation's number) is durable;
 *   5. older generations are unlinked.
 *
 * A crash or failure between any two steps leaves the older checkpoint with all generations that it
 * needs. A segment whose sync failed is not trusted again: it is copied, every batch checked, to a fresh
 * file that takes its name; until that worked its partition takes no records.
 *
 *   file   0 "CTDCKPT1" | 8 u64 first live generation | 16 u64 next sequence | 24 u32 clean | 28 u32 n
 *          n times: 16 bytes id | i32 partition | u16 name length | name | i64 start offset
 *          | i64 active segment | i64 end offset | i64 end position;   then u32 CRC32C of all before
 *
 * Threads: one checkpointer; plog_open() and plog_close() use the same steps without it.
 */
#include "plog/plog_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/codec.h"

static const char file_magic[] = "CTDCKPT1";

struct snap_part {
    struct plog_partition *part; /* referenced */
    int64_t start, segment, end, pos;
    int failed;   /* when the snapshot was taken: the committer keeps off it */
    int unsynced; /* a segment of it could not be synced or made afresh */
    int dir_dirty;
};
struct snap_seg {
    struct plog_segment *seg; /* referenced */
    size_t part;
    int active;
};
struct snapshot {
    struct snap_part *parts;
    size_t n_parts, cap_parts;
    struct snap_seg *segs;
    size_t n_segs, cap_segs;
    uint64_t next_seq;
};

static void snapshot_free(struct snapshot *s)
{
    for (size_t i = 0; i < s->n_segs; i++) {
        plog_segment_unref(s->segs[i].seg);
    }
    for (size_t i = 0; i < s->n_parts; i++) {
        plog_partition_unref(s->parts[i].part);
    }
    free(s->segs);
    free(s->parts);
    *s = (struct snapshot){0};
}

static int snap_segment(struct snapshot *s, struct plog_segment *seg, int active)
{
    if (s->n_segs == s->cap_segs) {
        size_t cap = s->cap_segs * 2 + 16;
        struct snap_seg *grown = realloc(s->segs, cap * sizeof(*grown));
        if (grown == NULL) {
            return ERR_NOMEM;
        }
        s->segs = grown;
        s->cap_segs = cap;
    }
    plog_segment_ref(seg);
    s->segs[s->n_segs++] = (struct snap_seg){seg, s->n_parts, active};
    return 0;
}

static int snap_partition(struct snapshot *s, struct plog_partition *t, int closing)
{
    if (s->n_parts == s->cap_parts) {
        size_t cap = s->cap_parts * 2 + 16;
        struct snap_part *grown = realloc(s->parts, cap * sizeof(*grown));
        if (grown == NULL) {
            return ERR_NOMEM;
        }
        s->parts = grown;
        s->cap_parts = cap;
    }
    int rc = 0;
    mutex_lock(&t->mu);
    struct plog_segment *last = t->segs[t->n_segs - 1];
    for (size_t i = 0; i < t->n_segs && rc == 0; i++) {
        struct plog_segment *seg = t->segs[i];
        int unfinished = closing && seg == last && seg->pub.max_ts > seg->pub.entry_ts;
        if (seg->dirty || seg->index_pub > 0 || seg->times_pub > 0 || unfinished) {
            rc = snap_segment(s, seg, seg == last);
        }
    }
    s->parts[s->n_parts++] = (struct snap_part){
        .part = plog_partition_ref(t),
        .start = t->start,
        .segment = last->base,
        .end = t->end,
        .pos = last->pub.size,
        .failed = t->failed,
        .dir_dirty = t->dir_dirty,
    };
    mutex_unlock(&t->mu);
    return rc;
}

/* What is dirty stays marked until it is synced: a failure leaves the marks for the next attempt. */
static int take_snapshot(struct plog *p, struct snapshot *s, int closing, struct err *err)
{
    int rc = 0;
    s->next_seq = p->next_seq;
    mutex_lock(&p->topics_mu);
    void *value = NULL;
    for (size_t i = 0; rc == 0 && map_next(p->topics, &i, NULL, &value);) {
        struct plog_topic *t = value;
        for (int32_t n = 0; n < t->n && rc == 0; n++) {
            rc = snap_partition(s, t->parts[n], closing);
        }
    }
    mutex_unlock(&p->topics_mu);
    return rc == 0 ? 0 : err_set(err, rc, "out of memory for a checkpoint");
}

/* ---- a segment that could not be synced ---- */

static int copy_batches(struct plog *p, struct plog_segment *s, int64_t size, int to,
                        const char *path, struct err *err)
{
    struct plog_scan scan;
    TRY(plog_scan_init(&scan, s, size, err));
    int rc = 0;
    for (int64_t pos = 0; pos < size;) {
        struct plog_batch b;
        const uint8_t *bytes = NULL;
        rc = plog_scan_batch(&scan, pos, &b, &bytes, err);
        if (rc != 1) {
            break;
        }
        struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = (size_t)b.bytes};
        rc = plog_io_pwritev(p, to, &iov, 1, pos, path, err);
        if (rc < 0) {
            break;
        }
        pos += b.bytes;
        rc = 1;
    }
    plog_scan_free(&scan);
    return rc < 0 ? rc : 0;
}

/* A copy under the same base offset takes the segment's place in the partition; readers that use the old
 * object keep its open file. */
static int swap_segment(struct plog_segment *old, struct plog_segment *fresh)
{
    struct plog_partition *t = old->part;
    int swapped = 0;
    mutex_lock(&t->mu);
    fresh->pub = old->pub;
    fresh->w = old->pub;
    fresh->index_file_n = old->index_file_n;
    fresh->time_file_n = old->time_file_n;
    fresh->index = old->index;
    fresh->index_n = fresh->index_pub = old->index_pub;
    fresh->index_cap = old->index_cap;
    fresh->times = old->times;
    fresh->times_n = fresh->times_pub = old->times_pub;
    fresh->times_cap = old->times_cap;
    old->index = NULL;
    old->times = NULL;
    old->index_n = old->index_pub = old->index_cap = 0;
    old->times_n = old->times_pub = old->times_cap = 0;
    for (size_t i = 0; i < t->n_segs; i++) {
        if (t->segs[i] == old) {
            t->segs[i] = fresh;
            swapped = 1;
        }
    }
    mutex_unlock(&t->mu);
    BUG_ON(!swapped);
    return 0;
}

/* Makes `s` afresh from what can still be read of it. The committer does not touch it: its partition is
 * marked failed, and was when the snapshot was taken. ret: the new object, with a reference. */
static int remake_segment(struct plog *p, struct plog_segment *s, struct plog_segment **ret,
                          struct err *err)
{
    char path[PATH_MAX];
    char temp[PATH_MAX];
    plog_segment_path(s, "log", path);
    plog_segment_path(s, "log.fresh", temp);
    mutex_lock(&s->part->mu);
    int64_t size = s->pub.size;
    mutex_unlock(&s->part->mu);
    int fd = -1;
    TRY(plog_io_create(p, temp, &fd, err));
    struct plog_segment *fresh = NULL;
    int rc = copy_batches(p, s, size, fd, temp, err);
    if (rc == 0) {
        rc = plog_io_sync(p, fd, temp, err);
    }
    (void)close(fd);
    if (rc == 0 && (fresh = plog_segment_new(s->part, s->base)) == NULL) {
        rc = err_set(err, ERR_NOMEM, "out of memory");
    }
    if (rc == 0 && rename(temp, path) != 0) {
        rc = err_set_errno(err, ERR_IO, "%s: rename", path);
    }
    if (rc == 0) {
        rc = plog_io_sync_dir(p, s->part->dir, err);
    }
    if (rc < 0) {
        (void)unlink(temp);
        plog_segment_unref(fresh);
        return rc;
    }
    plog_segment_ref(fresh);
    (void)swap_segment(s, fresh);
    *ret = fresh;
    LOG_INFO("plog", "%s: made afresh and checked, after a failed write or sync", path);
    return 0;
}

/* ---- the steps ---- */

static int is_deleted(struct plog_partition *t)
{
    mutex_lock(&t->mu);
    int deleted = t->deleted;
    mutex_unlock(&t->mu);
    return deleted;
}

/* A full disk is not the partition's fault; a failed sync is, and what it covered is not trusted again. */
static void note_failure(struct plog_partition *t, int rc, const struct err *err)
{
    if (rc == ERR_IO) {
        plog_partition_set_error(t, 1, err->msg);
    }
}

static int sync_segment(struct plog *p, struct snapshot *s, struct snap_seg *x, int closing,
                        struct err *err)
{
    struct plog_partition *t = x->seg->part;
    mutex_lock(&t->mu);
    int was_dirty = x->seg->dirty;
    x->seg->dirty = 0; /* what is published from here on sets it again */
    mutex_unlock(&t->mu);
    int rc = 0;
    if (s->parts[x->part].failed) {
        struct plog_segment *fresh = NULL;
        rc = remake_segment(p, x->seg, &fresh, err);
        if (rc == 0) {
            plog_segment_unref(x->seg); /* the snapshot's reference */
            plog_segment_unref(x->seg); /* the partition's */
            x->seg = fresh;
        }
    } else if (was_dirty) {
        rc = plog_segment_sync(x->seg, err);
        note_failure(t, rc, err);
    }
    if (rc == 0) {
        rc = plog_index_flush(x->seg, closing || !x->active, closing, err);
    }
    if (rc < 0) {
        mutex_lock(&t->mu);
        x->seg->dirty = 1;
        mutex_unlock(&t->mu);
    }
    return rc;
}

static int sync_snapshot(struct plog *p, struct snapshot *s, int closing, struct err *err)
{
    int first_rc = 0;
    for (size_t i = 0; i < s->n_segs; i++) {
        struct plog_partition *t = s->parts[s->segs[i].part].part;
        struct err why = ERR_INIT;
        int rc = is_deleted(t) ? 0 : sync_segment(p, s, &s->segs[i], closing, &why);
        if (rc < 0 && !is_deleted(t)) {
            s->parts[s->segs[i].part].unsynced = 1;
            if (first_rc == 0) {
                first_rc = rc;
                err_copy(err, &why);
            }
        }
    }
    for (size_t i = 0; i < s->n_parts; i++) {
        struct snap_part *x = &s->parts[i];
        if (is_deleted(x->part)) {
            continue;
        }
        if (x->dir_dirty && first_rc == 0) {
            mutex_lock(&x->part->mu);
            x->part->dir_dirty = 0;
            mutex_unlock(&x->part->mu);
            first_rc = plog_io_sync_dir(p, x->part->dir, err);
            if (first_rc < 0) {
                mutex_lock(&x->part->mu);
                x->part->dir_dirty = 1;
                mutex_unlock(&x->part->mu);
            }
        }
        if (x->failed && !x->unsynced) {
            LOG_INFO("plog", "%s: takes records again", x->part->dir);
            plog_partition_set_error(x->part, 0, "");
        }
    }
    return first_rc;
}

static int write_file(struct plog *p, const struct snapshot *s, uint64_t first_live, int clean,
                      struct err *err)
{
    struct buf b = BUF_INIT(0);
    buf_append(&b, file_magic, 8);
    buf_append_le64(&b, first_live);
    buf_append_le64(&b, s->next_seq);
    buf_append_le32(&b, (uint32_t)clean);
    buf_append_le32(&b, (uint32_t)s->n_parts);
    for (size_t i = 0; i < s->n_parts; i++) {
        const struct snap_part *x = &s->parts[i];
        size_t n = strlen(x->part->topic);
        buf_append(&b, x->part->id, PLOG_ID_BYTES);
        buf_append_le32(&b, (uint32_t)x->part->number);
        buf_append_le16(&b, (uint16_t)n);
        buf_append(&b, x->part->topic, n);
        buf_append_le64(&b, (uint64_t)x->start);
        buf_append_le64(&b, (uint64_t)x->segment);
        buf_append_le64(&b, (uint64_t)x->end);
        buf_append_le64(&b, (uint64_t)x->pos);
    }
    if (b.error == 0) {
        buf_append_le32(&b, codec_crc32c(0, b.data, b.len));
    }
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/checkpoint", p->journal_dir);
    int rc = b.error != 0 ? err_set(err, b.error, "%s: too large", path)
                          : plog_io_replace(p, path, b.data, b.len, err);
    buf_free(&b);
    return rc;
}

/* What a failed unit left behind the end, and could not be cut off then, at a clean stop. */
static int cut_tails(struct plog *p, struct snapshot *s, struct err *err)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        struct plog_partition *t = s->parts[i].part;
        if (!t->tail_left) {
            continue;
        }
        struct plog_segment *last = t->segs[t->n_segs - 1];
        char path[PATH_MAX];
        plog_segment_path(last, "log", path);
        int fd = -1;
        TRY(plog_segment_pin(last, &fd, err));
        int rc = plog_io_truncate(p, fd, last->pub.size, path, err);
        if (rc == 0) {
            rc = plog_io_sync(p, fd, path, err);
        }
        plog_segment_unpin(last);
        TRY(rc);
        t->tail_left = 0;
    }
    return 0;
}

int plog_checkpoint_write_now(struct plog *p, uint64_t first_live, int clean, struct err *err)
{
    struct snapshot s = {0};
    int rc = take_snapshot(p, &s, clean, err);
    if (rc == 0) {
        rc = cut_tails(p, &s, err);
    }
    if (rc == 0) {
        rc = sync_snapshot(p, &s, clean, err);
    }
    if (rc == 0) {
        rc = write_file(p, &s, first_live, clean, err);
    }
    snapshot_free(&s);
    if (rc == 0) {
        p->first_live = first_live;
        p->durable_seq = p->next_seq - 1;
        rc = plog_journal_unlink(p, first_live, err);
    }
    return rc;
}

/* ---- reading the file ---- */

void plog_checkpoint_free(struct plog_checkpoint *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->entries[i].topic);
    }
    free(c->entries);
    *c = (struct plog_checkpoint){0};
}

static int parse(struct cursor *c, struct plog_checkpoint *ret)
{
    const uint8_t *magic = cursor_bytes(c, 8);
    if (magic == NULL || memcmp(magic, file_magic, 8) != 0) {
        return ERR_CORRUPT;
    }
    ret->first_live = cursor_le64(c);
    ret->next_seq = cursor_le64(c);
    ret->clean = (int)cursor_le32(c);
    size_t n = cursor_le32(c);
    if (n > c->left / 54 + 1) {
        return ERR_CORRUPT;
    }
    ret->entries = calloc(n + 1, sizeof(*ret->entries));
    if (ret->entries == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        struct plog_checkpoint_entry *e = &ret->entries[i];
        const uint8_t *id = cursor_bytes(c, PLOG_ID_BYTES);
        e->partition = (int32_t)cursor_le32(c);
        size_t len = cursor_le16(c);
        const uint8_t *name = cursor_bytes(c, len);
        e->start = (int64_t)cursor_le64(c);
        e->segment = (int64_t)cursor_le64(c);
        e->end = (int64_t)cursor_le64(c);
        e->pos = (int64_t)cursor_le64(c);
        if (c->error != 0 || e->segment < 0 || e->end < e->segment || e->pos < 0 ||
            e->pos > PLOG_MAX_SEGMENT_BYTES) {
            return ERR_CORRUPT;
        }
        memcpy(e->id, id, PLOG_ID_BYTES);
        e->topic = strndup((const char *)name, len);
        ret->n = i + 1;
        if (e->topic == NULL) {
            return ERR_NOMEM;
        }
    }
    return c->left == 0 ? 0 : ERR_CORRUPT;
}

int plog_checkpoint_read(struct plog *p, struct plog_checkpoint *ret, struct err *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/checkpoint", p->journal_dir);
    struct buf b = BUF_INIT(0);
    int rc = file_read(path, (size_t)64 << 20, &b, err);
    if (rc < 0) {
        buf_free(&b);
        return rc;
    }
    struct cursor c;
    cursor_init(&c, b.data, b.len >= 4 ? b.len - 4 : 0);
    struct cursor tail;
    cursor_init(&tail, b.len >= 4 ? b.data + b.len - 4 : b.data, b.len >= 4 ? 4 : 0);
    rc = ERR_CORRUPT;
    if (b.len >= 36 && cursor_le32(&tail) == codec_crc32c(0, b.data, b.len - 4)) {
        rc = parse(&c, ret);
    }
    if (rc < 0) {
        plog_checkpoint_free(ret);
        rc = err_set(err, rc, "%s: %s", path,
                     rc == ERR_NOMEM ? "out of memory" : "damaged or not a checkpoint");
    }
    buf_free(&b);
    return rc;
}

/* ---- the thread ---- */

struct rotation {
    struct plog_journal *next; /* NULL once it is the log's */
    uint64_t generation;       /* that counts from here on */
    struct snapshot snap;
};

/* On the committer, between two groups. */
static int rotate(struct plog *p, void *arg, struct err *err)
{
    struct rotation *r = arg;
    TRY(take_snapshot(p, &r->snap, 0, err));
    int64_t used = p->journal->len - plog_journal_first();
    if (used == 0 && p->dead_generation == 0) { /* nothing is in it: it may as well go on */
        r->generation = p->journal->generation;
        return 0;
    }
    plog_journal_close(p->journal);
    r->generation = r->next->generation;
    p->journal = r->next;
    r->next = NULL;
    (void)atomic_fetch_add(&p->retired_bytes, used);
    p->straight_bytes = 0;
    atomic_store(&p->uncheckpointed, 0);
    return 0;
}

/* One checkpoint. *ret_generation: the one that counts from it on. */
static int checkpoint(struct plog *p, uint64_t *ret_generation, struct err *err)
{
    struct rotation r = {0};
    TRY(plog_journal_create(p, p->next_generation++, &r.next, err));
    int rc = plog_control_run(p, rotate, &r, err);
    if (r.next != NULL) {
        (void)unlink(r.next->path);
        plog_journal_close(r.next);
    }
    if (rc == 0) {
        *ret_generation = r.generation;
        rc = sync_snapshot(p, &r.snap, 0, err);
        if (rc == 0) {
            rc = write_file(p, &r.snap, r.generation, 0, err);
        }
        if (rc < 0) {
            atomic_store(&p->uncheckpointed, 1);
        }
    }
    snapshot_free(&r.snap);
    if (rc < 0) {
        return rc;
    }
    p->first_live = r.generation;
    atomic_store(&p->retired_bytes, 0);
    struct err why = ERR_INIT;
    if (plog_journal_unlink(p, r.generation, &why) < 0) { /* the next open removes them */
        LOG_WARN("plog", "%s", why.msg);
    }
    return 0;
}

/* Notes the outcome of the checkpoint that began `generation`; q_mu held. Returns 1 if it retired a dead
 * journal: not if the dead one is the very generation that it began. */
static int note_outcome(struct plog *p, uint64_t generation, int rc, const struct err *err)
{
    p->checkpoint_failed = rc < 0;
    (void)snprintf(p->checkpoint_error, sizeof(p->checkpoint_error), "%.250s", err->msg);
    int revived = rc == 0 && p->dead_generation != 0 && p->dead_generation < generation;
    if (revived) {
        p->dead_generation = 0;
    }
    cond_broadcast(&p->q_cond);
    return revived;
}

static void *checkpointer_main(void *arg)
{
    struct plog *p = arg;
    int interval = p->o.flush == PLOG_FLUSH_INTERVAL;
    int64_t next_ms = clock_mono_ms() + p->o.flush_interval_ms;
    mutex_lock(&p->q_mu);
    while (!p->checkpoint_stop) {
        int64_t now = clock_mono_ms();
        int due = interval && now >= next_ms && atomic_load(&p->uncheckpointed);
        if (!p->want_checkpoint && !due) {
            if (interval) {
                next_ms = now >= next_ms ? now + p->o.flush_interval_ms : next_ms;
                (void)cond_wait_until(&p->checkpoint_cond, &p->q_mu, next_ms);
            } else {
                cond_wait(&p->checkpoint_cond, &p->q_mu);
            }
            continue;
        }
        p->want_checkpoint = 0;
        int failed_before = p->checkpoint_failed;
        mutex_unlock(&p->q_mu);
        struct err err = ERR_INIT;
        uint64_t generation = 0;
        int rc = checkpoint(p, &generation, &err);
        next_ms = clock_mono_ms() + p->o.flush_interval_ms;
        if (rc < 0 && rc != ERR_CANCELLED && !failed_before) {
            LOG_ERROR("plog", "checkpoint failed, to be tried again: %s", err.msg);
        }
        mutex_lock(&p->q_mu);
        int revived = note_outcome(p, generation, rc, &err);
        if (revived) {
            mutex_unlock(&p->q_mu);
            plog_health_set(p, 1, "");
            mutex_lock(&p->q_mu);
        }
        if (rc < 0 && !p->checkpoint_stop) {
            p->want_checkpoint = 1;
            int64_t until = clock_mono_ms() + p->o.retry_ms;
            while (!p->checkpoint_stop && clock_mono_ms() < until) {
                (void)cond_wait_until(&p->checkpoint_cond, &p->q_mu, until);
            }
        }
    }
    mutex_unlock(&p->q_mu);
    return NULL;
}

void plog_checkpoint_request(struct plog *p)
{
    mutex_lock(&p->q_mu);
    p->want_checkpoint = 1;
    cond_signal(&p->checkpoint_cond);
    mutex_unlock(&p->q_mu);
}

int plog_checkpointer_start(struct plog *p, struct err *err)
{
    TRY(thread_start(&p->checkpointer, "plog-ckpt", checkpointer_main, p, err));
    mutex_lock(&p->q_mu);
    p->checkpointer_runs = 1;
    mutex_unlock(&p->q_mu);
    return 0;
}

void plog_checkpointer_stop(struct plog *p)
{
    mutex_lock(&p->q_mu);
    int runs = p->checkpointer_runs;
    p->checkpoint_stop = 1;
    p->checkpointer_runs = 0;
    cond_broadcast(&p->checkpoint_cond);
    cond_broadcast(&p->q_cond);
    mutex_unlock(&p->q_mu);
    if (runs) {
        thread_join(p->checkpointer);
    }
}
