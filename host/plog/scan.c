/*
 * Scanning: batches out of a segment file, one after the other, and finding the way on behind damage.
 * Nothing is trusted before it was checked: a length only within the file, bytes only with their CRC.
 *
 * Threads: a scan belongs to its caller; the segment's descriptor is pinned meanwhile.
 */
#include "plog/plog_int.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/codec.h"

#define WINDOW ((size_t)64 << 10)

static uint32_t be32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}

static uint64_t be64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}

int plog_batch_parse(const uint8_t *p, struct plog_batch *ret)
{
    int64_t base = (int64_t)be64_at(p);
    int64_t length = (int32_t)be32_at(p + 8);
    int64_t delta = (int32_t)be32_at(p + 23);
    if (p[16] != 2 || base < 0 || delta < 0 || base > INT64_MAX - delta - 1 ||
        length < PLOG_BATCH_HEAD - 12) {
        return ERR_DATA;
    }
    *ret = (struct plog_batch){
        .base_offset = base,
        .last_offset = base + delta,
        .bytes = length + 12,
        .max_ts = (int64_t)be64_at(p + 35),
        .crc = be32_at(p + 17),
    };
    return 0;
}

int plog_batch_crc_ok(const uint8_t *p, const struct plog_batch *b)
{
    return codec_crc32c(0, p + PLOG_BATCH_CRC_FROM, (size_t)b->bytes - PLOG_BATCH_CRC_FROM) ==
           b->crc;
}

int plog_scan_init(struct plog_scan *s, struct plog_segment *seg, int64_t limit, struct err *err)
{
    int fd = -1;
    TRY(plog_segment_pin(seg, &fd, err));
    *s = (struct plog_scan){.seg = seg, .fd = fd, .limit = limit};
    return 0;
}

void plog_scan_free(struct plog_scan *s)
{
    if (s->seg != NULL) {
        plog_segment_unpin(s->seg);
        s->seg = NULL;
    }
    free(s->buf);
    s->buf = NULL;
}

/* Makes [pos, pos+n) stand in the window, read in pieces of at least `ahead`. 1, or 0 when the file or the
 * limit ends before, or ERR_IO. */
static int fill(struct plog_scan *s, int64_t pos, size_t n, size_t ahead, struct err *err)
{
    if (s->limit - pos < (int64_t)n) {
        return 0;
    }
    if (pos >= s->buf_at && pos + (int64_t)n <= s->buf_at + (int64_t)s->have) {
        return 1;
    }
    size_t want = n > ahead ? n : ahead;
    if ((int64_t)want > s->limit - pos) {
        want = (size_t)(s->limit - pos);
    }
    if (want > s->cap) {
        size_t cap = want > WINDOW ? want : WINDOW;
        free(s->buf);
        s->have = 0;
        s->cap = 0;
        s->buf = malloc(cap);
        if (s->buf == NULL) {
            return err_set(err, ERR_NOMEM, "out of memory for %zu bytes", cap);
        }
        s->cap = cap;
    }
    s->have = 0;
    s->buf_at = pos;
    while (s->have < want) {
        ssize_t got = pread(s->fd, s->buf + s->have, want - s->have, pos + (int64_t)s->have);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            char path[PATH_MAX];
            plog_segment_path(s->seg, "log", path);
            return err_set_errno(err, ERR_IO, "%s: read at %lld", path, (long long)pos);
        }
        if (got == 0) {
            break; /* the file is shorter than it should be */
        }
        s->have += (size_t)got;
    }
    return s->have >= n;
}

static int corrupt(struct plog_scan *s, int64_t pos, const char *why, struct err *err)
{
    char path[PATH_MAX];
    plog_segment_path(s->seg, "log", path);
    return err_set(err, ERR_CORRUPT, "%s: bad batch at byte %lld: %s", path, (long long)pos, why);
}

static int head_at(struct plog_scan *s, int64_t pos, size_t ahead, struct plog_batch *ret,
                   struct err *err)
{
    if (pos >= s->limit) {
        return 0;
    }
    int rc = fill(s, pos, PLOG_BATCH_HEAD, ahead, err);
    if (rc < 0) {
        return rc;
    }
    struct plog_batch b;
    if (rc == 0) {
        return corrupt(s, pos, "the file ends within its header", err);
    }
    if (plog_batch_parse(s->buf + (pos - s->buf_at), &b) != 0) {
        return corrupt(s, pos, "not a batch header", err);
    }
    if (b.bytes > s->limit - pos) {
        return corrupt(s, pos, "its length runs behind the segment's end", err);
    }
    *ret = b;
    return 1;
}

int plog_scan_head(struct plog_scan *s, int64_t pos, struct plog_batch *ret, struct err *err)
{
    return head_at(s, pos, 8192, ret, err);
}

int plog_scan_batch(struct plog_scan *s, int64_t pos, struct plog_batch *ret,
                    const uint8_t **ret_bytes, struct err *err)
{
    struct plog_batch b;
    int rc = head_at(s, pos, WINDOW, &b, err);
    if (rc <= 0) {
        return rc;
    }
    rc = fill(s, pos, (size_t)b.bytes, WINDOW, err);
    if (rc < 0) {
        return rc;
    }
    const uint8_t *at = s->buf + (pos - s->buf_at);
    if (rc == 0) {
        return corrupt(s, pos, "the file ends within it", err);
    }
    if (!plog_batch_crc_ok(at, &b)) {
        return corrupt(s, pos, "its checksum is wrong", err);
    }
    *ret = b;
    if (ret_bytes != NULL) {
        *ret_bytes = at;
    }
    return 1;
}

/* Whether a good batch within the offsets stands at `pos`. The header is looked at first, since most
 * places fail there. */
static int good_at(struct plog_scan *s, int64_t pos, int64_t min_offset, int64_t max_offset,
                   int64_t *ret_base)
{
    struct plog_batch b;
    if (pos >= s->limit || head_at(s, pos, WINDOW, &b, NULL) != 1 || b.base_offset < min_offset ||
        b.last_offset > max_offset || plog_scan_batch(s, pos, &b, NULL, NULL) != 1) {
        return 0;
    }
    *ret_base = b.base_offset;
    return 1;
}

int plog_scan_resync(struct plog_scan *s, int64_t pos, int64_t min_offset, int64_t max_offset,
                     int64_t *ret_pos, int64_t *ret_base, struct err *err)
{
    /* The stored length first: with it, nothing inside the bad batch can be taken for a batch. */
    struct plog_batch b;
    if (plog_scan_head(s, pos, &b, NULL) == 1 &&
        good_at(s, pos + b.bytes, min_offset, max_offset, ret_base)) {
        *ret_pos = pos + b.bytes;
        return 1;
    }
    for (int64_t at = pos + 1; at + PLOG_BATCH_HEAD <= s->limit; at++) {
        int rc = fill(s, at, PLOG_BATCH_HEAD, WINDOW, err);
        if (rc < 0) {
            return rc;
        }
        if (rc == 0) {
            break;
        }
        /* Cheap tests before the CRC: the magic byte, then the header's shape and offsets. */
        const uint8_t *p = s->buf + (at - s->buf_at);
        if (p[16] != 2 || plog_batch_parse(p, &b) != 0 || b.base_offset < min_offset ||
            b.last_offset > max_offset || b.bytes > s->limit - at) {
            continue;
        }
        int64_t base = 0;
        int64_t ignored = 0;
        if (!good_at(s, at, min_offset, max_offset, &base)) {
            continue;
        }
        /* A record may hold bytes that look like a batch: what is real is followed by a batch or by
         * the end. */
        if (at + b.bytes != s->limit &&
            !good_at(s, at + b.bytes, b.last_offset + 1, max_offset, &ignored)) {
            continue;
        }
        *ret_pos = at;
        *ret_base = base;
        return 1;
    }
    return 0;
}
