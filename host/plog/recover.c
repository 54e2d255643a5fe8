/*
 * Recovery, before anything else runs: the checkpoint says where every partition ended when the oldest
 * journal that counts began; the journals' frames say what was committed since; the segments are brought to
 * exactly that state.
 *
 *  - A redo frame's bytes are written to their places again (harmless if they stand there already); a
 *    marker's bytes are checked where they stand.
 *  - The first frame that is not whole ends the replay: it and what follows was never acked. Unless a
 *    later frame proves that it had been durable (each frame says up to which one its predecessors
 *    were): then the journal is damaged, which is said, and the later frames count.
 *  - Each partition is cut to the end of its last committed append. What cannot be judged that way (no
 *    checkpoint, damaged journal, a folder from elsewhere) is scanned by checksum and continuity, and only
 *    a torn tail is cut.
 *  - Where less is there than was committed, the offsets stay used: a new segment begins behind the gap.
 *
 * Threads: plog_open() only. Every step can be repeated after a crash in the middle of it.
 */
#include "plog/plog_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct replay {
    struct plog *p;
    uint64_t *generations;
    size_t n;
    uint64_t expect; /* the next frame's sequence number; 0: any */
    int damaged;
    int64_t frames, bytes;
};

/* ---- replay ---- */

static struct plog_partition *target(struct plog *p, const struct plog_frame_extent *x)
{
    struct plog_topic *t = map_get(p->topics, x->topic);
    if (t == NULL || memcmp(t->id, x->id, PLOG_ID_BYTES) != 0 || x->partition < 0 ||
        x->partition >= t->n) {
        return NULL; /* deleted since */
    }
    return t->parts[x->partition];
}

static struct plog_segment *find_segment(struct plog_partition *t, int64_t base)
{
    for (size_t i = t->n_segs; i > 0; i--) {
        if (t->segs[i - 1]->base == base) {
            return t->segs[i - 1];
        }
    }
    return NULL;
}

/* Removes segment i and its indexes. */
static int remove_segment(struct plog_partition *t, size_t i, struct err *err)
{
    struct plog_segment *s = t->segs[i];
    static const char *const exts[] = {"log", "index", "timeindex"};
    for (size_t e = 0; e < 3; e++) {
        char path[PATH_MAX];
        plog_segment_path(s, exts[e], path);
        if (unlink(path) != 0 && errno != ENOENT) {
            return err_set_errno(err, ERR_IO, "%s: unlink", path);
        }
        if (e == 0 && s->pub.size > 0) {
            LOG_INFO("plog", "%s: %lld bytes that were never acked are removed", path,
                     (long long)s->pub.size);
        }
    }
    t->n_segs--;
    for (; i < t->n_segs; i++) {
        t->segs[i] = t->segs[i + 1];
    }
    t->dir_dirty = 1;
    t->r_touched = 1;
    plog_segment_unref(s);
    return 0;
}

/* The log went from segment `from` straight to `to`: what stands between was made for a unit that failed. */
static int drop_between(struct plog_partition *t, int64_t from, int64_t to, struct err *err)
{
    for (size_t i = t->n_segs; i > 0; i--) {
        if (t->segs[i - 1]->base > from && t->segs[i - 1]->base < to) {
            TRY(remove_segment(t, i - 1, err));
        }
    }
    return 0;
}

/* An empty segment file in its place among the others. */
static int add_segment(struct plog_partition *t, int64_t base, struct plog_segment **ret,
                       struct err *err)
{
    struct plog_segment *s = NULL;
    TRY(plog_segment_create(t, base, &s, err));
    int rc = plog_partition_add_segment(t, s, err);
    if (rc < 0) {
        plog_segment_unref(s);
        return rc;
    }
    size_t i = t->n_segs - 1;
    for (; i > 0 && t->segs[i - 1]->base > base; i--) {
        t->segs[i] = t->segs[i - 1];
    }
    t->segs[i] = s;
    t->dir_dirty = 1;
    t->r_touched = 1;
    s->dirty = 1;
    *ret = s;
    return 0;
}

static int check_marker(struct replay *r, const struct plog_frame_extent *x)
{
    struct plog_partition *t = target(r->p, x);
    if (t == NULL || x->len == 0) {
        return 1;
    }
    struct plog_segment *s = find_segment(t, x->segment);
    uint8_t *bytes = malloc(x->len);
    int fd = -1;
    int ok = 0;
    if (s != NULL && bytes != NULL && plog_segment_pin(s, &fd, NULL) == 0) {
        ok = file_pread_full(fd, bytes, x->len, (off_t)x->pos, "segment", NULL) == 0 &&
             plog_batches_match(bytes, x->len, x->base_offset, x->next_offset, x->digest);
        plog_segment_unpin(s);
    }
    free(bytes);
    return ok;
}

static int check_markers(struct replay *r, const struct plog_frame *f)
{
    for (size_t i = 0; f->kind == PLOG_FRAME_MARKER && i < f->n_extents; i++) {
        if (!check_marker(r, &f->extents[i])) {
            return 0;
        }
    }
    return 1;
}

static int apply_extent(struct replay *r, const struct plog_frame *f,
                        const struct plog_frame_extent *x, struct err *err)
{
    struct plog_partition *t = target(r->p, x);
    if (t == NULL) {
        return 0;
    }
    int follows =
        x->base_offset == t->r_end && ((x->segment == t->r_segment && x->pos == t->r_pos) ||
                                       (x->segment == t->r_end && x->pos == 0));
    if (t->r_known && !follows && !r->damaged) {
        LOG_WARN("plog",
                 "%s: the journal goes on at offset %lld, byte %lld of segment %lld, where offset "
                 "%lld was expected",
                 t->dir, (long long)x->base_offset, (long long)x->pos, (long long)x->segment,
                 (long long)t->r_end);
    }
    if (t->r_known && follows) {
        TRY(drop_between(t, t->r_segment, x->segment, err));
    }
    struct plog_segment *s = find_segment(t, x->segment);
    if (s == NULL) {
        TRY(add_segment(t, x->segment, &s, err));
    }
    if (f->kind == PLOG_FRAME_REDO && x->len > 0) {
        int fd = -1;
        TRY(plog_segment_pin(s, &fd, err));
        char path[PATH_MAX];
        plog_segment_path(s, "log", path);
        struct iovec iov = {.iov_base = (void *)(uintptr_t)(f->body + x->body_at),
                            .iov_len = x->len};
        int rc = plog_io_pwritev(r->p, fd, &iov, 1, x->pos, path, err);
        plog_segment_unpin(s);
        TRY(rc);
        t->r_touched = 1;
        s->dirty = 1;
        if (s->pub.size < x->pos + (int64_t)x->len) {
            s->pub.size = x->pos + (int64_t)x->len;
        }
    }
    t->r_known = 1;
    t->r_segment = x->segment;
    t->r_pos = x->pos + (int64_t)x->len;
    t->r_end = x->next_offset;
    r->bytes += (int64_t)x->len;
    return 0;
}

static int apply(struct replay *r, const struct plog_frame *f, struct err *err)
{
    for (size_t i = 0; i < f->n_extents; i++) {
        TRY(apply_extent(r, f, &f->extents[i], err));
    }
    r->frames++;
    r->expect = f->seq + 1;
    return 0;
}

/* Whether some later frame, in this file or a later generation, was written when frame `expect` was known
 * to be durable. *ret_pos: where in this file, or -1 for a later one. */
static int durable_proof(struct replay *r, size_t gen, struct plog_journal_reader *j, int64_t pos,
                         int64_t *ret_pos)
{
    struct plog_frame f;
    for (int64_t at = plog_journal_search(j, pos); at >= 0; at = plog_journal_search(j, at + 1)) {
        if (plog_journal_frame(j, at, &f, NULL) == 1 && f.durable_seq >= r->expect) {
            *ret_pos = at;
            return 1;
        }
    }
    *ret_pos = -1;
    for (size_t i = gen + 1; i < r->n; i++) {
        struct plog_journal_reader later;
        if (plog_journal_reader_open(r->p, r->generations[i], &later, NULL) != 0) {
            continue;
        }
        int proof = plog_journal_frame(&later, plog_journal_first(), &f, NULL) == 1 &&
                    f.durable_seq >= r->expect;
        plog_journal_reader_close(&later);
        if (proof) {
            return 1;
        }
    }
    return 0;
}

/* One generation. *ret_stop: the replay ends in it. */
static int replay_generation(struct replay *r, size_t gen, int *ret_stop, struct err *err)
{
    struct plog_journal_reader j;
    struct err why = ERR_INIT;
    int rc = plog_journal_reader_open(r->p, r->generations[gen], &j, &why);
    if (rc < 0) {
        err_copy(err, &why);
        return rc;
    }
    if (j.bad_header &&
        j.size <= plog_journal_first()) { /* a crash while it was made: never used */
        LOG_INFO("plog", "%s: empty, without a header", j.path);
    } else if (j.bad_header) {
        LOG_ERROR("plog", "%s: its header is damaged", j.path);
        r->damaged = 1;
    }
    int fresh = 1; /* a generation may begin with any sequence number, also behind damage */
    for (int64_t pos = plog_journal_first();;) {
        struct plog_frame f;
        err_clear(&why);
        rc = plog_journal_frame(&j, pos, &f, &why);
        if (rc == 1 && (fresh || f.seq == r->expect) && check_markers(r, &f)) {
            rc = apply(r, &f, err);
            if (rc < 0) {
                break;
            }
            fresh = 0;
            pos = f.end;
            continue;
        }
        if (rc == 0) {
            break;
        }
        if (rc < 0 && rc != ERR_DATA) {
            err_copy(err, &why);
            break;
        }
        if (rc == 1) {
            (void)err_set(&why, ERR_DATA, "%s: the frame at byte %lld does not hold", j.path,
                          (long long)pos);
        }
        rc = 0;
        int64_t next = -1;
        if (!durable_proof(r, gen, &j, pos + 1, &next)) {
            LOG_INFO("plog",
                     "%s: taken as the torn end of the journal; nothing behind it was acked",
                     why.msg);
            *ret_stop = 1;
            break;
        }
        LOG_ERROR("plog",
                  "%s: but later frames show that it had been durable: the journal is damaged",
                  why.msg);
        r->damaged = 1;
        fresh = 1;
        if (next < 0) {
            break;
        }
        pos = next;
    }
    plog_journal_reader_close(&j);
    return rc;
}

static int replay(struct replay *r, struct err *err)
{
    int stop = 0;
    for (size_t i = 0; i < r->n && !stop; i++) {
        TRY(replay_generation(r, i, &stop, err));
    }
    if (r->frames > 0) {
        LOG_INFO("plog", "journal replayed: %lld units, %lld bytes", (long long)r->frames,
                 (long long)r->bytes);
    }
    return 0;
}

/* ---- settling one partition ---- */

static int cut(struct plog *p, struct plog_segment *s, int64_t size, const char *why,
               struct err *err)
{
    char path[PATH_MAX];
    plog_segment_path(s, "log", path);
    LOG_INFO("plog", "%s: cut from %lld to %lld bytes: %s", path, (long long)s->pub.size,
             (long long)size, why);
    int fd = -1;
    TRY(plog_segment_pin(s, &fd, err));
    int rc = plog_io_truncate(p, fd, size, path, err);
    plog_segment_unpin(s);
    if (rc == 0) {
        s->pub.size = size;
        s->dirty = 1;
        s->part->r_touched = 1;
    }
    return rc;
}

/* The journal knows where the partition ends: exactly there it shall end. */
static int settle_known(struct plog *p, struct plog_partition *t, struct err *err)
{
    while (t->n_segs > 0 && t->segs[t->n_segs - 1]->base > t->r_segment) {
        TRY(remove_segment(t, t->n_segs - 1, err));
    }
    struct plog_segment *s = find_segment(t, t->r_segment);
    int64_t have = s != NULL ? s->pub.size : 0;
    if (have > t->r_pos) {
        TRY(cut(p, s, t->r_pos, "what follows was never acked", err));
    }
    if (s == NULL || have < t->r_pos) {
        if (have < t->r_pos) {
            LOG_ERROR("plog",
                      "%s: segment %lld has %lld bytes where %lld were committed: records are "
                      "lost; the log goes on at offset %lld",
                      t->dir, (long long)t->r_segment, (long long)have, (long long)t->r_pos,
                      (long long)t->r_end);
        }
        TRY(add_segment(t, have < t->r_pos ? t->r_end : t->r_segment, &s, err));
    }
    t->end = t->r_end;
    return 0;
}

/* Scans one segment from `pos`, where `expect` should stand; moves both behind its last good batch. */
static int scan_segment(struct plog *p, struct plog_segment *s, int64_t pos, int64_t *expect,
                        int last, struct err *err)
{
    struct plog_scan scan;
    TRY(plog_scan_init(&scan, s, s->pub.size, err));
    int rc = 0;
    for (;;) {
        struct plog_batch b;
        struct err why = ERR_INIT;
        rc = plog_scan_batch(&scan, pos, &b, NULL, &why);
        if (rc == 1 && b.base_offset == *expect) {
            pos += b.bytes;
            *expect = b.last_offset + 1;
            continue;
        }
        if (rc == 0 || (rc < 0 && rc != ERR_CORRUPT)) {
            err_copy(err, &why);
            break;
        }
        int64_t next = 0;
        int64_t base = 0;
        rc = plog_scan_resync(&scan, pos, *expect, INT64_MAX - 1, &next, &base, err);
        if (rc <= 0) {
            break;
        }
        LOG_ERROR("plog", "%s: %lld bytes before byte %lld, offsets %lld to %lld, are damaged",
                  s->part->dir, (long long)(next - pos), (long long)next, (long long)*expect,
                  (long long)base - 1);
        pos = next;
        *expect = base;
    }
    plog_scan_free(&scan);
    if (rc == 0 && last && pos < s->pub.size) {
        rc = cut(p, s, pos, "a torn tail", err);
    }
    return rc;
}

/* Nobody knows for sure where the partition ends: what checks out counts. */
static int settle_by_scan(struct plog *p, struct plog_partition *t, struct err *err)
{
    if (t->n_segs == 0) {
        struct plog_segment *s = NULL;
        TRY(add_segment(t, t->r_known ? t->r_end : 0, &s, err));
    }
    size_t i = t->n_segs - 1;
    while (t->r_known && i > 0 && t->segs[i]->base > t->r_segment) {
        i--;
    }
    int64_t expect = t->segs[i]->base;
    int64_t pos = 0;
    if (t->r_known && t->segs[i]->base == t->r_segment && t->segs[i]->pub.size >= t->r_pos) {
        expect = t->r_end;
        pos = t->r_pos;
    }
    for (; i < t->n_segs; i++) {
        expect = t->segs[i]->base > expect ? t->segs[i]->base : expect;
        TRY(scan_segment(p, t->segs[i], pos, &expect, i == t->n_segs - 1, err));
        pos = 0;
    }
    if (t->r_known && expect < t->r_end) {
        struct plog_segment *s = NULL;
        LOG_ERROR("plog", "%s: ends at offset %lld where %lld was committed: records are lost",
                  t->dir, (long long)expect, (long long)t->r_end);
        expect = t->r_end;
        TRY(add_segment(t, expect, &s, err));
    }
    t->end = expect;
    t->r_touched = 1;
    return 0;
}

static int load_indexes(struct plog_partition *t, int clean, int by_scan, struct err *err)
{
    int64_t interval = atomic_load(&t->limits.index_interval_bytes);
    for (size_t i = 0; i < t->n_segs; i++) {
        struct plog_segment *s = t->segs[i];
        int active = i == t->n_segs - 1;
        /* Since the checkpoint this segment may have grown without its index files. */
        int grown = !clean && !by_scan && s->base >= t->r_checkpointed;
        int rebuilt = 0;
        TRY(plog_index_load(s, active || grown, interval, &rebuilt, err));
        if (rebuilt && !grown) {
            LOG_WARN("plog", "%s: the indexes of segment %lld did not fit and are made again",
                     t->dir, (long long)s->base);
        }
        if (rebuilt || (grown && !active)) {
            s->dirty = 1;
            t->r_touched = 1;
        }
    }
    return 0;
}

/* Whether more is there than a clean stop left: then a journal was lost since. */
static int is_longer(const struct plog_partition *t)
{
    const struct plog_segment *last = t->n_segs > 0 ? t->segs[t->n_segs - 1] : NULL;
    return last != NULL &&
           (last->base > t->r_segment || (last->base == t->r_segment && last->pub.size > t->r_pos));
}

static int settle(struct plog *p, struct plog_partition *t, const struct replay *r, int clean,
                  struct err *err)
{
    int by_scan = !t->r_known || r->damaged || (clean && is_longer(t));
    if (by_scan && t->n_segs > 0 && t->segs[t->n_segs - 1]->pub.size > 0) {
        LOG_WARN("plog", "%s: scanned, since %s", t->dir,
                 r->damaged    ? "the journal is damaged"
                 : !t->r_known ? "the journal does not know it"
                               : "it is longer than at the last clean stop");
    }
    TRY(by_scan ? settle_by_scan(p, t, err) : settle_known(p, t, err));
    TRY(load_indexes(t, clean, by_scan, err));
    if (t->start < 0) {
        t->start = t->segs[0]->base;
    }
    return 0;
}

/* ---- the whole ---- */

static void take_checkpoint(struct plog *p, const struct plog_checkpoint *c)
{
    void *value = NULL;
    for (size_t i = 0; map_next(p->topics, &i, NULL, &value);) {
        struct plog_topic *t = value;
        for (int32_t n = 0; n < t->n; n++) {
            t->parts[n]->start = -1;
        }
    }
    for (size_t i = 0; i < c->n; i++) {
        const struct plog_checkpoint_entry *e = &c->entries[i];
        struct plog_topic *t = map_get(p->topics, e->topic);
        if (t == NULL || memcmp(t->id, e->id, PLOG_ID_BYTES) != 0 || e->partition < 0 ||
            e->partition >= t->n) {
            continue;
        }
        struct plog_partition *part = t->parts[e->partition];
        part->r_known = 1;
        part->r_segment = part->r_checkpointed = e->segment;
        part->r_pos = e->pos;
        part->r_end = e->end;
        part->start = e->start;
    }
}

static int settle_all(struct plog *p, const struct replay *r, int clean, int *ret_touched,
                      struct err *err)
{
    void *value = NULL;
    for (size_t i = 0; map_next(p->topics, &i, NULL, &value);) {
        struct plog_topic *t = value;
        for (int32_t n = 0; n < t->n; n++) {
            TRY(settle(p, t->parts[n], r, clean, err));
            *ret_touched |= t->parts[n]->r_touched;
        }
    }
    return 0;
}

/* Journals that a checkpoint retired are only left over. */
static void skip_retired(struct replay *r, uint64_t first_live)
{
    size_t skip = 0;
    while (skip < r->n && r->generations[skip] < first_live) {
        skip++;
    }
    r->n -= skip;
    if (r->n == 0) {
        return;
    }
    memmove(r->generations, r->generations + skip, r->n * sizeof(*r->generations));
}

/* A fresh generation, and a checkpoint if anything differs from the one on disk. */
static int begin(struct plog *p, uint64_t last_generation, int write, struct err *err)
{
    uint64_t generation = last_generation + 1;
    p->next_generation = generation + 1;
    TRY(plog_journal_create(p, generation, &p->journal, err));
    p->durable_seq = p->next_seq - 1;
    return write ? plog_checkpoint_write_now(p, generation, 0, err) : 0;
}

int plog_recover(struct plog *p, struct err *err)
{
    TRY(file_mkdirs(p->log_dir, err));
    TRY(file_mkdirs(p->journal_dir, err));
    TRY(file_sync_dir(p->dir, err));
    struct plog_checkpoint c = {0};
    struct replay r = {.p = p};
    struct err why = ERR_INIT;
    int rc = plog_checkpoint_read(p, &c, &why);
    int have = rc == 0;
    if (rc == ERR_CORRUPT) {
        LOG_ERROR("plog", "%s: every partition is scanned instead", why.msg);
    } else if (rc < 0 && rc != ERR_NOT_FOUND) {
        err_copy(err, &why);
        return rc;
    }
    rc = plog_topics_load(p, &c, err);
    if (rc == 0) {
        rc = plog_journal_list(p, &r.generations, &r.n, err);
    }
    if (rc < 0) {
        goto out;
    }
    uint64_t last = have ? c.first_live - (c.first_live > 0) : 0;
    if (r.n > 0 && r.generations[r.n - 1] > last) {
        last = r.generations[r.n - 1];
    }
    take_checkpoint(p, &c);
    skip_retired(&r, have ? c.first_live : 0);
    r.expect = have ? c.next_seq : 0;
    int clean = have && c.clean && r.n == 0;
    if (have && !c.clean && (r.n == 0 || r.generations[0] != c.first_live)) {
        LOG_ERROR("plog", "%s: generation %llu, which the checkpoint names, is missing",
                  p->journal_dir, (unsigned long long)c.first_live);
        r.damaged = 1;
    }
    rc = replay(&r, err);
    if (rc == 0) {
        p->next_seq = r.expect > 0 ? r.expect : 1;
        int touched = 0;
        rc = settle_all(p, &r, clean, &touched, err);
        if (rc == 0) {
            rc = begin(p, last, !clean || touched, err);
        }
    }
out:
    free(r.generations);
    plog_checkpoint_free(&c);
    return rc;
}
