/*
 * Reading: whole batches from an offset on, each checked by checksum and by continuity with the one before,
 * and the first offset of a time. Only published bytes are looked at, which never change or move.
 *
 * A bad batch costs its own offsets: it is reported by file and place, with the offset behind it, and
 * nothing that follows is hidden.
 *
 * Threads: any number at once.
 */
#include "plog/plog_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/record.h"

/* Where a read stands. */
struct place {
    struct plog_segment *seg; /* referenced */
    int64_t size;             /* published bytes of it */
    int64_t pos;
    int64_t expect; /* the base offset that the batch at pos must have */
};

static void note_bad(struct plog_partition *t, const char *text)
{
    mutex_lock(&t->mu);
    if (!t->failed) {
        (void)snprintf(t->error, sizeof(t->error), "%s", text);
    }
    mutex_unlock(&t->mu);
}

/* Fills ret and err for bytes at `pos` that are no good batch with base offset `expect`. */
static int report_bad(struct plog_partition *t, struct plog_scan *scan, int64_t pos, int64_t expect,
                      const char *why, struct plog_read *ret, struct err *err)
{
    mutex_lock(&t->mu);
    int64_t next = plog_partition_after(t, scan->seg);
    mutex_unlock(&t->mu);
    int64_t next_pos = 0;
    int64_t base = 0;
    int rc = plog_scan_resync(scan, pos, expect + 1, next - 1, &next_pos, &base, err);
    if (rc < 0) {
        return rc;
    }
    if (rc == 1) {
        next = base;
    }
    char path[PATH_MAX];
    plog_segment_path(scan->seg, "log", path);
    struct err local = ERR_INIT;
    rc = err_set(&local, ERR_CORRUPT,
                 "%s-%d: offsets %lld to %lld cannot be read: %s at byte %lld: %s", t->topic,
                 (int)t->number, (long long)expect, (long long)next - 1, path, (long long)pos, why);
    note_bad(t, local.msg);
    err_copy(err, &local);
    ret->next_offset = next;
    return rc;
}

/* Sets *pos and *expect to a batch at or before `offset`, by the index if it tells the truth. */
static void begin_at(struct plog_scan *scan, int64_t offset, int64_t *pos, int64_t *expect)
{
    struct plog_batch b;
    int64_t last = -1;
    plog_index_find(scan->seg, offset, pos, &last);
    *expect = scan->seg->base;
    if (last < 0) {
        *pos = 0;
        return;
    }
    if (plog_scan_head(scan, *pos, &b, NULL) == 1 && b.last_offset == last) {
        *expect = b.base_offset;
        return;
    }
    char path[PATH_MAX];
    plog_segment_path(scan->seg, "index", path);
    LOG_WARN("plog", "%s: does not fit its segment at byte %lld; looking from the start", path,
             (long long)*pos);
    *pos = 0;
}

/* Finds the batch that contains `offset`. 0 with its place; ERR_CORRUPT when it is among the damaged. */
static int locate(struct plog_partition *t, struct place *at, int64_t offset, struct plog_read *ret,
                  struct err *err)
{
    struct plog_scan scan;
    TRY(plog_scan_init(&scan, at->seg, at->size, err));
    int64_t pos = 0;
    int64_t expect = 0;
    begin_at(&scan, offset, &pos, &expect);
    int rc = 0;
    for (;;) {
        struct plog_batch b;
        struct err why = ERR_INIT;
        rc = plog_scan_batch(&scan, pos, &b, NULL, &why);
        if (rc == 1 && b.base_offset != expect) {
            rc = err_set(&why, ERR_CORRUPT, "its base offset is %lld", (long long)b.base_offset);
        }
        if (rc == 1 && b.last_offset >= offset) {
            at->pos = pos;
            at->expect = expect;
            rc = 0;
            break;
        }
        if (rc == 1) {
            pos += b.bytes;
            expect = b.last_offset + 1;
            continue;
        }
        if (rc < 0 && rc != ERR_CORRUPT) {
            err_copy(err, &why);
            break;
        }
        rc = report_bad(t, &scan, pos, expect, rc == 0 ? "the segment ends" : why.msg, ret, err);
        if (rc != ERR_CORRUPT || ret->next_offset > offset ||
            plog_scan_resync(&scan, pos, expect + 1, INT64_MAX - 1, &pos, &expect, NULL) != 1) {
            break;
        }
    }
    plog_scan_free(&scan);
    return rc;
}

/* Reads up to `want` bytes at `pos` into `to`; short only at the file's end. */
static int read_some(struct place *at, uint8_t *to, size_t want, size_t *ret_n, struct err *err)
{
    int fd = -1;
    TRY(plog_segment_pin(at->seg, &fd, err));
    int rc = 0;
    size_t n = 0;
    while (n < want) {
        ssize_t got = pread(fd, to + n, want - n, (off_t)(at->pos + (int64_t)n));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            char path[PATH_MAX];
            plog_segment_path(at->seg, "log", path);
            rc = err_set_errno(err, ERR_IO, "%s: read at %lld", path, (long long)at->pos);
            break;
        }
        if (got == 0) {
            break;
        }
        n += (size_t)got;
    }
    plog_segment_unpin(at->seg);
    *ret_n = n;
    return rc;
}

/* Bytes of the good batches at the head of p[0..n), at most `max` but one; *ret_need: what one batch takes
 * if none fits; *ret_why: what is wrong with the first one that is not good. */
static size_t good_run(const uint8_t *p, size_t n, size_t max, int64_t *expect, size_t *ret_need,
                       const char **ret_why)
{
    size_t at = 0;
    while (n - at >= PLOG_BATCH_HEAD) {
        struct plog_batch b;
        if (plog_batch_parse(p + at, &b) != 0) {
            *ret_why = "not a batch header";
            break;
        }
        if (b.base_offset != *expect) {
            *ret_why = "its base offset does not continue the batch before";
            break;
        }
        if ((uint64_t)b.bytes > n - at || (at > 0 && at + (size_t)b.bytes > max)) {
            *ret_need = at == 0 ? (size_t)b.bytes : 0;
            break;
        }
        if (!plog_batch_crc_ok(p + at, &b)) {
            *ret_why = "its checksum is wrong";
            break;
        }
        at += (size_t)b.bytes;
        *expect = b.last_offset + 1;
    }
    return at;
}

static int read_at(struct plog_partition *t, struct place *at, size_t max_bytes, struct buf *out,
                   struct plog_read *ret, struct err *err)
{
    size_t left = (size_t)(at->size - at->pos);
    size_t want = max_bytes < PLOG_BATCH_HEAD ? PLOG_BATCH_HEAD : max_bytes;
    const char *why = "the file ends within it";
    for (int again = 0; again < 2; again++) {
        want = want < left ? want : left;
        uint8_t *room = buf_reserve(out, want);
        if (room == NULL) {
            return err_set(err, out->error, "no room for %zu bytes of records", want);
        }
        size_t n = 0;
        TRY(read_some(at, room, want, &n, err));
        int64_t expect = at->expect;
        size_t need = 0;
        size_t run = good_run(room, n, max_bytes, &expect, &need, &why);
        if (run > 0) {
            out->len += run;
            ret->bytes = run;
            ret->next_offset = expect;
            at->pos += (int64_t)run;
            return 0;
        }
        if (need <= want || need > left) {
            break; /* nothing good here, or its length cannot be */
        }
        want = need;
    }
    struct plog_scan scan;
    TRY(plog_scan_init(&scan, at->seg, at->size, err));
    int rc = report_bad(t, &scan, at->pos, at->expect, why, ret, err);
    plog_scan_free(&scan);
    return rc;
}

/* Where a reader that ended at `offset` left off, if it is remembered; part->mu held. */
static int recall(struct plog_partition *t, int64_t offset, int64_t segment, int64_t *ret_pos)
{
    for (size_t i = 0; i < PLOG_HINTS; i++) {
        const struct plog_hint *h = &t->hints[i];
        if (h->offset == offset && h->segment_base == segment && h->pos > 0) {
            *ret_pos = h->pos;
            return 1;
        }
    }
    return 0;
}

static void remember(struct plog_partition *t, int64_t offset, const struct place *at)
{
    mutex_lock(&t->mu);
    t->hints[t->next_hint++ % PLOG_HINTS] =
        (struct plog_hint){.offset = offset, .segment_base = at->seg->base, .pos = at->pos};
    mutex_unlock(&t->mu);
}

int plog_read(struct plog_partition *t, int64_t offset, size_t max_bytes, struct buf *out,
              struct plog_read *ret, struct err *err)
{
    struct plog_read r = {0};
    struct place at = {0};
    int known = 0;
    mutex_lock(&t->mu);
    int deleted = t->deleted;
    r.start_offset = t->start;
    r.end_offset = t->end;
    r.next_offset = offset;
    if (!deleted && offset >= t->start && offset < t->end) {
        at.seg = plog_partition_segment(t, offset, &at.size);
        if (at.seg != NULL) {
            at.expect = offset;
            known = recall(t, offset, at.seg->base, &at.pos);
            known = known && at.pos < at.size;
        } else {
            r.next_offset = t->segs[0]->base;
        }
    }
    mutex_unlock(&t->mu);
    if (deleted) {
        return err_set(err, ERR_NOT_FOUND, "topic %s was deleted", t->topic);
    }
    int rc = 0;
    if (offset < r.start_offset || offset > r.end_offset) {
        rc = err_set(err, ERR_LIMIT, "%s-%d: offset %lld is outside %lld to %lld", t->topic,
                     (int)t->number, (long long)offset, (long long)r.start_offset,
                     (long long)r.end_offset);
    } else if (offset < r.end_offset && at.seg == NULL) {
        rc = err_set(err, ERR_CORRUPT, "%s: offsets %lld to %lld are missing: no segment has them",
                     t->dir, (long long)offset, (long long)r.next_offset - 1);
        note_bad(t, "the first segments are missing");
    } else if (at.seg != NULL) {
        if (!known) {
            rc = locate(t, &at, offset, &r, err);
        }
        if (rc == 0) {
            rc = read_at(t, &at, max_bytes, out, &r, err);
        }
        if (rc == 0) {
            remember(t, r.next_offset, &at);
        }
    }
    plog_segment_unref(at.seg);
    if (rc == 0 || rc == ERR_LIMIT || rc == ERR_CORRUPT) {
        *ret = r;
    }
    return rc;
}

/* ---- by time ---- */

/* The first record of the batch with timestamp >= ts, or -1. A batch that cannot be taken apart counts from its
 * first offset on. */
static int64_t first_in_batch(const uint8_t *bytes, size_t n, int64_t ts, int64_t base_offset)
{
    struct record_batch rb;
    struct record_iter it;
    struct record_view v;
    if (record_batch_peek(bytes, n, n, &rb, NULL) != 0 || record_iter_init(&it, &rb, NULL) != 0) {
        return base_offset;
    }
    int rc;
    while ((rc = record_iter_next(&it, &v, NULL)) == 1) {
        if (v.timestamp_ms >= ts) {
            return v.offset;
        }
    }
    return rc < 0 ? base_offset : -1;
}

/* Looks through one segment; *ret is set if the record is in it. */
static int find_in_segment(struct plog_segment *seg, int64_t size, int64_t ts, int64_t *ret,
                           struct err *err)
{
    struct plog_scan scan;
    TRY(plog_scan_init(&scan, seg, size, err));
    int64_t pos = 0;
    int64_t expect = 0;
    begin_at(&scan, plog_index_find_time(&scan, ts), &pos, &expect);
    int rc = 0;
    for (;;) {
        struct plog_batch b;
        const uint8_t *bytes = NULL;
        rc = plog_scan_batch(&scan, pos, &b, &bytes, err);
        if (rc == 1) {
            int64_t found = -1;
            if (b.max_ts >= ts) {
                found = first_in_batch(bytes, (size_t)b.bytes, ts, b.base_offset);
            }
            if (found >= 0) {
                *ret = found;
                break;
            }
            pos += b.bytes;
            continue;
        }
        if (rc == ERR_CORRUPT) { /* reading reports it; time goes on behind it */
            rc = plog_scan_resync(&scan, pos, 0, INT64_MAX - 1, &pos, &expect, err);
        }
        if (rc <= 0) {
            break;
        }
    }
    plog_scan_free(&scan);
    return rc < 0 ? rc : 0;
}

int plog_offset_for_time(struct plog_partition *t, int64_t timestamp_ms, int64_t *ret,
                         struct err *err)
{
    int64_t found = -1;
    int64_t end = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && found < 0; i++) {
        struct plog_segment *seg = NULL;
        int64_t size = 0;
        mutex_lock(&t->mu);
        end = t->end;
        int last = i >= t->n_segs;
        if (t->deleted) {
            rc = err_set(err, ERR_NOT_FOUND, "topic %s was deleted", t->topic);
        } else if (!last && t->segs[i]->pub.max_ts >= timestamp_ms) {
            seg = t->segs[i];
            plog_segment_ref(seg);
            size = seg->pub.size;
        }
        mutex_unlock(&t->mu);
        if (last) {
            break;
        }
        if (seg != NULL) {
            rc = find_in_segment(seg, size, timestamp_ms, &found, err);
            plog_segment_unref(seg);
        }
    }
    if (rc < 0) {
        return rc;
    }
    *ret = found >= 0 ? found : end;
    return 0;
}
