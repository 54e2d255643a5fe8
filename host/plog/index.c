/*
 * Offset and time indexes in Kafka's formats, big-endian, rebuildable from the .log at any time:
 *
 *   .index      8 bytes an entry:  i32 last offset of the batch at `pos`, less the base | i32 pos
 *   .timeindex 12 bytes an entry:  i64 largest timestamp so far | i32 last offset of its batch, less base
 *
 * New entries gather in memory (the "tail") and are flushed behind the file's at a checkpoint, a roll or
 * close; the files therefore never name bytes that were not published. Nothing relies on their
 * durability: what a reader takes from an index is checked against the batch it points to.
 *
 * Threads: plog_index_note() on the committer; the arrays under part->mu; file entries never change.
 */
#include "plog/plog_int.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INDEX_BYTES = 8, TIME_BYTES = 12 };

static void index_decode(const uint8_t *p, struct plog_index_entry *e)
{
    struct cursor c;
    cursor_init(&c, p, INDEX_BYTES);
    e->rel = (int32_t)cursor_be32(&c);
    e->pos = (int32_t)cursor_be32(&c);
}

static void time_decode(const uint8_t *p, struct plog_time_entry *e)
{
    struct cursor c;
    cursor_init(&c, p, TIME_BYTES);
    e->ts = (int64_t)cursor_be64(&c);
    e->rel = (int32_t)cursor_be32(&c);
}

/* ---- the tail ---- */

static int add_index(struct plog_segment *s, struct plog_index_entry e)
{
    if (s->index_n == s->index_cap) {
        size_t cap = s->index_cap * 2 + 16;
        struct plog_index_entry *grown = realloc(s->index, cap * sizeof(*grown));
        if (grown == NULL) {
            return ERR_NOMEM;
        }
        s->index = grown;
        s->index_cap = cap;
    }
    s->index[s->index_n++] = e;
    return 0;
}

static int add_time(struct plog_segment *s, struct plog_time_entry e)
{
    if (s->times_n == s->times_cap) {
        size_t cap = s->times_cap * 2 + 16;
        struct plog_time_entry *grown = realloc(s->times, cap * sizeof(*grown));
        if (grown == NULL) {
            return ERR_NOMEM;
        }
        s->times = grown;
        s->times_cap = cap;
    }
    s->times[s->times_n++] = e;
    return 0;
}

int plog_index_note(struct plog_segment *s, struct plog_mark *m, const struct plog_batch *b,
                    int64_t interval, struct err *err)
{
    int rc = 0;
    int32_t rel = (int32_t)(b->last_offset - s->base);
    if (m->size == 0) {
        m->first_ts = b->max_ts;
    }
    if (b->max_ts > m->max_ts) {
        m->max_ts = b->max_ts;
        m->max_rel = rel;
    }
    if (m->since_entry > interval) {
        mutex_lock(&s->part->mu);
        rc = add_index(s, (struct plog_index_entry){rel, (int32_t)m->size});
        if (rc == 0 && m->max_ts > m->entry_ts) {
            rc = add_time(s, (struct plog_time_entry){m->max_ts, m->max_rel});
            m->entry_ts = m->max_ts;
        }
        mutex_unlock(&s->part->mu);
        m->since_entry = 0;
    }
    m->since_entry += b->bytes;
    m->size += b->bytes;
    return rc == 0 ? 0 : err_set(err, rc, "out of memory for an index");
}

void plog_index_publish(struct plog_segment *s)
{
    s->index_pub = s->index_n;
    s->times_pub = s->times_n;
}

void plog_index_rollback(struct plog_segment *s)
{
    s->index_n = s->index_pub;
    s->times_n = s->times_pub;
}

/* ---- flushing ---- */

/* Writes `n` bytes at entry position `at` of one index file, cutting what stood behind. */
static int write_entries(struct plog_segment *s, const char *ext, const void *bytes, size_t n,
                         int64_t at, int sync, struct err *err)
{
    struct plog *p = s->part->log;
    char path[PATH_MAX];
    plog_segment_path(s, ext, path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, "%s", path);
    }
    int rc = 0;
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_size > at) {
        rc = plog_io_truncate(p, fd, at, path, err);
    }
    if (rc == 0 && n > 0) {
        struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
        rc = plog_io_pwritev(p, fd, &iov, 1, at, path, err);
    }
    if (rc == 0 && sync) {
        rc = plog_io_sync(p, fd, path, err);
    }
    (void)close(fd);
    return rc;
}

/* Copies the published tail out as file bytes; part->mu held. */
static void encode_tail(struct plog_segment *s, struct buf *index, struct buf *times)
{
    for (size_t i = 0; i < s->index_pub; i++) {
        buf_append_be32(index, (uint32_t)s->index[i].rel);
        buf_append_be32(index, (uint32_t)s->index[i].pos);
    }
    for (size_t i = 0; i < s->times_pub; i++) {
        buf_append_be64(times, (uint64_t)s->times[i].ts);
        buf_append_be32(times, (uint32_t)s->times[i].rel);
    }
}

/* Forgets the first entries of the tail, which stand in the files now; part->mu held. */
static void drop_flushed(struct plog_segment *s, size_t n_index, size_t n_times)
{
    if (n_index > 0) {
        memmove(s->index, s->index + n_index, (s->index_n - n_index) * sizeof(*s->index));
    }
    s->index_n -= n_index;
    s->index_pub -= n_index;
    s->index_file_n += (int64_t)n_index;
    if (n_times > 0) {
        memmove(s->times, s->times + n_times, (s->times_n - n_times) * sizeof(*s->times));
    }
    s->times_n -= n_times;
    s->times_pub -= n_times;
    s->time_file_n += (int64_t)n_times;
}

int plog_index_flush(struct plog_segment *s, int closing, int sync, struct err *err)
{
    struct buf index = BUF_INIT(0);
    struct buf times = BUF_INIT(0);
    mutex_lock(&s->part->mu);
    int rc = 0;
    if (closing && s->pub.max_ts > s->pub.entry_ts && s->times_n == s->times_pub) {
        rc = add_time(s, (struct plog_time_entry){s->pub.max_ts, s->pub.max_rel});
        if (rc == 0) {
            s->pub.entry_ts = s->pub.max_ts;
            s->times_pub = s->times_n;
        }
    }
    size_t n_index = s->index_pub;
    size_t n_times = s->times_pub;
    int64_t index_at = s->index_file_n * INDEX_BYTES;
    int64_t times_at = s->time_file_n * TIME_BYTES;
    encode_tail(s, &index, &times);
    mutex_unlock(&s->part->mu);
    if (rc < 0 || index.error != 0 || times.error != 0) {
        rc = err_set(err, ERR_NOMEM, "out of memory for an index");
    }
    if (rc == 0) {
        rc = write_entries(s, "index", index.data, index.len, index_at, sync, err);
    }
    if (rc == 0) {
        rc = write_entries(s, "timeindex", times.data, times.len, times_at, sync, err);
    }
    if (rc == 0 && n_index + n_times > 0) {
        mutex_lock(&s->part->mu);
        drop_flushed(s, n_index, n_times);
        mutex_unlock(&s->part->mu);
    }
    buf_free(&index);
    buf_free(&times);
    return rc;
}

/* ---- looking up ---- */

static int open_index(const struct plog_segment *s, const char *ext)
{
    char path[PATH_MAX];
    plog_segment_path(s, ext, path);
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static int read_index(int fd, int64_t i, struct plog_index_entry *ret)
{
    uint8_t raw[INDEX_BYTES];
    if (pread(fd, raw, sizeof(raw), i * INDEX_BYTES) != (ssize_t)sizeof(raw)) {
        return ERR_IO;
    }
    index_decode(raw, ret);
    return 0;
}

static int read_time(int fd, int64_t i, struct plog_time_entry *ret)
{
    uint8_t raw[TIME_BYTES];
    if (pread(fd, raw, sizeof(raw), i * TIME_BYTES) != (ssize_t)sizeof(raw)) {
        return ERR_IO;
    }
    time_decode(raw, ret);
    return 0;
}

/* The last of n file entries with rel <= the wanted one; 1 if there is one. */
static int search_index_file(const struct plog_segment *s, int64_t n, int32_t rel,
                             struct plog_index_entry *ret)
{
    int fd = n > 0 ? open_index(s, "index") : -1;
    if (fd < 0) {
        return 0;
    }
    int64_t low = 0; /* entries before low qualify */
    int64_t high = n;
    int found = 0;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        struct plog_index_entry e;
        if (read_index(fd, mid, &e) != 0) {
            found = 0;
            break;
        }
        if (e.rel <= rel) {
            *ret = e;
            found = 1;
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    (void)close(fd);
    return found;
}

void plog_index_find(struct plog_segment *s, int64_t offset, int64_t *ret_pos, int64_t *ret_last)
{
    int32_t rel = offset - s->base > INT32_MAX ? INT32_MAX : (int32_t)(offset - s->base);
    struct plog_index_entry e;
    int found = 0;
    mutex_lock(&s->part->mu);
    int64_t file_n = s->index_file_n;
    if (s->index_pub > 0 && s->index[0].rel <= rel) {
        size_t low = 0;
        size_t high = s->index_pub;
        while (high - low > 1) {
            size_t mid = low + (high - low) / 2;
            if (s->index[mid].rel <= rel) {
                low = mid;
            } else {
                high = mid;
            }
        }
        e = s->index[low];
        found = 1;
    }
    mutex_unlock(&s->part->mu);
    if (!found) {
        found = search_index_file(s, file_n, rel, &e);
    }
    *ret_pos = found && e.pos >= 0 ? e.pos : 0;
    *ret_last = found && e.pos >= 0 ? s->base + e.rel : -1;
}

static int search_time_file(const struct plog_segment *s, int64_t n, int64_t ts,
                            struct plog_time_entry *ret)
{
    int fd = n > 0 ? open_index(s, "timeindex") : -1;
    if (fd < 0) {
        return 0;
    }
    int64_t low = 0;
    int64_t high = n;
    int found = 0;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        struct plog_time_entry e;
        if (read_time(fd, mid, &e) != 0) {
            found = 0;
            break;
        }
        if (e.ts <= ts) {
            *ret = e;
            found = 1;
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    (void)close(fd);
    return found;
}

/* Whether the entry tells the truth: it names a batch by its last offset, and that batch's timestamp. */
static int time_entry_holds(struct plog_scan *scan, struct plog_time_entry e)
{
    struct plog_segment *s = scan->seg;
    struct plog_batch b;
    int64_t last = -1;
    int64_t pos = 0;
    if (e.rel < 0) {
        return 0;
    }
    plog_index_find(s, s->base + e.rel, &pos, &last);
    if (last >= 0 && (plog_scan_head(scan, pos, &b, NULL) != 1 || b.last_offset != last)) {
        pos = 0;
    }
    while (plog_scan_head(scan, pos, &b, NULL) == 1 && b.last_offset < s->base + e.rel) {
        pos += b.bytes;
    }
    return plog_scan_head(scan, pos, &b, NULL) == 1 && b.last_offset == s->base + e.rel &&
           b.max_ts == e.ts;
}

int64_t plog_index_find_time(struct plog_scan *scan, int64_t ts)
{
    struct plog_segment *s = scan->seg;
    struct plog_time_entry e;
    int found = 0;
    mutex_lock(&s->part->mu);
    int64_t file_n = s->time_file_n;
    for (size_t i = s->times_pub; i > 0 && !found; i--) {
        if (s->times[i - 1].ts <= ts) {
            e = s->times[i - 1];
            found = 1;
        }
    }
    mutex_unlock(&s->part->mu);
    if (!found) {
        found = search_time_file(s, file_n, ts, &e);
    }
    return found && time_entry_holds(scan, e) ? s->base + e.rel : s->base;
}

/* ---- at open ---- */

/* Whole entries in a file; *ret_ragged is set if there is more than that. */
static int64_t file_entries(int fd, int64_t entry_bytes, int *ret_ragged)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return 0;
    }
    *ret_ragged |= st.st_size % entry_bytes != 0;
    return st.st_size / entry_bytes;
}

/* How many of the offset index's entries hold, judged by the last of them: it must point to the batch
 * that it names. Trailing entries that do not are dropped; many of them mean a rebuild. */
static int64_t trusted_index(struct plog_scan *scan, int fd, int64_t n, int64_t base,
                             struct plog_index_entry *ret_last)
{
    for (int tries = 0; n > 0 && tries < 8; tries++, n--) {
        struct plog_index_entry e;
        struct plog_batch b;
        if (read_index(fd, n - 1, &e) == 0 && e.pos >= 0 && (e.pos > 0 || n == 1) &&
            plog_scan_head(scan, e.pos, &b, NULL) == 1 && b.last_offset == base + e.rel) {
            *ret_last = e;
            return n;
        }
    }
    return 0;
}

/* As trusted_index(), for the time index; n_index is in place already. */
static int64_t trusted_times(struct plog_scan *scan, int fd, int64_t n,
                             struct plog_time_entry *ret_last)
{
    struct plog_time_entry e;
    if (n == 0 || read_time(fd, n - 1, &e) != 0 || !time_entry_holds(scan, e)) {
        return 0;
    }
    *ret_last = e;
    return n;
}

/* Walks the batches from m->size to the segment's end, noting them. */
static int walk_tail(struct plog_scan *scan, struct plog_segment *s, struct plog_mark *m,
                     int64_t interval, struct err *err)
{
    int64_t expect = -1;
    for (;;) {
        struct plog_batch b;
        struct err why = ERR_INIT;
        int rc = plog_scan_head(scan, m->size, &b, &why);
        if (rc == 0) {
            return 0;
        }
        if (rc == 1 && (expect < 0 || b.base_offset == expect)) {
            TRY(plog_index_note(s, m, &b, interval, err));
            expect = b.last_offset + 1;
            continue;
        }
        if (rc < 0 && rc != ERR_CORRUPT) {
            err_copy(err, &why);
            return rc;
        }
        int64_t pos = 0;
        int64_t base = 0;
        rc = plog_scan_resync(scan, m->size, expect < 0 ? s->base : expect, INT64_MAX, &pos, &base,
                              err);
        if (rc < 0) {
            return rc;
        }
        m->size = rc == 1 ? pos : scan->limit;
        expect = rc == 1 ? base : expect;
    }
}

int plog_index_load(struct plog_segment *s, int active, int64_t interval, int *ret_rebuilt,
                    struct err *err)
{
    struct plog_scan scan;
    TRY(plog_scan_init(&scan, s, s->pub.size, err));
    int index_fd = open_index(s, "index");
    int time_fd = open_index(s, "timeindex");
    int unfit = s->pub.size > 0 && (index_fd < 0 || time_fd < 0);
    int64_t had_index = file_entries(index_fd, INDEX_BYTES, &unfit);
    int64_t had_time = file_entries(time_fd, TIME_BYTES, &unfit);
    struct plog_index_entry last = {0, 0};
    struct plog_time_entry last_time = {-1, 0};
    int64_t n_index = trusted_index(&scan, index_fd, had_index, s->base, &last);
    s->index_file_n = n_index;
    int64_t n_time = trusted_times(&scan, time_fd, had_time, &last_time);
    /* A segment with an index entry, or a finished one, has its largest timestamp in the time index. */
    unfit |= (had_index > 0 && n_index == 0) || n_time < had_time ||
             (n_time == 0 && (n_index > 0 || (!active && s->pub.size > 0)));
    if (unfit) {
        n_index = 0;
        n_time = 0;
        last = (struct plog_index_entry){0, 0};
        last_time = (struct plog_time_entry){-1, 0};
    }
    struct plog_mark m = PLOG_MARK_INIT;
    int64_t size = s->pub.size;
    struct plog_batch first;
    m.first_ts = plog_scan_head(&scan, 0, &first, NULL) == 1 ? first.max_ts : -1;
    m.max_ts = m.entry_ts = last_time.ts;
    m.max_rel = last_time.rel;
    m.size = last.pos;
    s->index_file_n = n_index;
    s->time_file_n = n_time;
    int rc = 0;
    if (active || n_index < had_index || unfit) {
        rc = walk_tail(&scan, s, &m, interval, err);
    }
    m.size = size;
    s->pub = m;
    s->w = m;
    plog_index_publish(s);
    *ret_rebuilt = size > 0 && (unfit || n_index < had_index);
    if (index_fd >= 0) {
        (void)close(index_fd);
    }
    if (time_fd >= 0) {
        (void)close(time_fd);
    }
    plog_scan_free(&scan);
    return rc;
}
