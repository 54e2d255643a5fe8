/*
 * The journal's bytes (docs/formats/journal.md): files of one generation each, a header and then frames,
 * one frame a commit unit. All integers little-endian.
 *
 *   header   0 "CTDJRNL1" | 8 u64 generation | 16 u64 0 | 24 u32 CRC32C of 0..23 | 28 u32 0
 *   frame    0 u32 magic "CJF1" | 4 u32 head bytes | 8 u64 body bytes | 16 u64 generation
 *           24 u64 sequence | 32 u64 last sequence known to be durable | 40 u32 kind | 44 u32 extents
 *           48 extents, each: 16 bytes topic id | i32 partition | u16 name length | name
 *              | i64 segment base | i64 position | i64 first offset | i64 next offset | u64 bytes
 *              | u32 digest
 *           .. u32 CRC32C of the head so far; then, in a redo frame, the extents' bytes one after another
 *
 * A batch's own CRC covers its bytes from 21 on, the digest covers the first 21 of each batch, and the
 * head's CRC covers the digest: so every byte is covered and none is summed twice on the hot path.
 *
 * Threads: no state; a journal belongs to the committer, a reader to recovery.
 */
#include "plog/plog_int.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/codec.h"

enum { HEADER_BYTES = 32, FRAME_FIXED = 48, EXTENT_FIXED = 66, MAX_HEAD = 64 << 20 };
static const char header_magic[] = "CTDJRNL1";
static const uint32_t frame_magic = 0x31464a43; /* "CJF1" */

static int journal_path(const struct plog *p, uint64_t generation, char **ret, struct err *err)
{
    if (asprintf(ret, "%s/%020llu.journal", p->journal_dir, (unsigned long long)generation) < 0) {
        *ret = NULL;
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    return 0;
}

int64_t plog_journal_first(void)
{
    return HEADER_BYTES;
}

static int put_header(struct plog *p, struct plog_journal *j, struct err *err)
{
    struct buf b = BUF_INIT(0);
    buf_append(&b, header_magic, 8);
    buf_append_le64(&b, j->generation);
    buf_append_le64(&b, 0);
    buf_append_le32(&b, b.error == 0 ? codec_crc32c(0, b.data, b.len) : 0);
    buf_append_le32(&b, 0);
    int rc = b.error == 0 ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    struct iovec iov = {.iov_base = b.data, .iov_len = b.len};
    if (rc == 0) {
        rc = plog_io_pwritev(p, j->fd, &iov, 1, 0, j->path, err);
    }
    if (rc == 0) {
        rc = plog_io_sync(p, j->fd, j->path, err);
    }
    buf_free(&b);
    return rc;
}

int plog_journal_create(struct plog *p, uint64_t generation, struct plog_journal **ret,
                        struct err *err)
{
    struct plog_journal *j = calloc(1, sizeof(*j));
    if (j == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    j->generation = generation;
    j->fd = -1;
    int rc = journal_path(p, generation, &j->path, err);
    if (rc == 0) {
        rc = plog_io_create(p, j->path, &j->fd, err);
    }
    if (rc == 0) {
        rc = put_header(p, j, err);
    }
    if (rc == 0) {
        rc = plog_io_sync_dir(p, p->journal_dir, err);
    }
    if (rc < 0) {
        if (j->fd >= 0) {
            (void)unlink(j->path);
        }
        plog_journal_close(j);
        return rc;
    }
    j->len = HEADER_BYTES;
    *ret = j;
    return 0;
}

void plog_journal_close(struct plog_journal *j)
{
    if (j == NULL) {
        return;
    }
    if (j->fd >= 0) {
        (void)close(j->fd);
    }
    free(j->path);
    free(j);
}

void plog_frame_put(struct buf *out, int kind, uint64_t generation, uint64_t seq,
                    uint64_t durable_seq, const struct plog_extent *extents, size_t n)
{
    size_t head_len = FRAME_FIXED + 4;
    uint64_t body_len = 0;
    for (size_t i = 0; i < n; i++) {
        head_len += EXTENT_FIXED + strlen(extents[i].part->topic);
        body_len += kind == PLOG_FRAME_REDO ? extents[i].len : 0;
    }
    size_t start = out->len;
    buf_append_le32(out, frame_magic);
    buf_append_le32(out, (uint32_t)head_len);
    buf_append_le64(out, body_len);
    buf_append_le64(out, generation);
    buf_append_le64(out, seq);
    buf_append_le64(out, durable_seq);
    buf_append_le32(out, (uint32_t)kind);
    buf_append_le32(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        const struct plog_extent *x = &extents[i];
        size_t name_len = strlen(x->part->topic);
        buf_append(out, x->part->id, PLOG_ID_BYTES);
        buf_append_le32(out, (uint32_t)x->part->number);
        buf_append_le16(out, (uint16_t)name_len);
        buf_append(out, x->part->topic, name_len);
        buf_append_le64(out, (uint64_t)x->seg->base);
        buf_append_le64(out, (uint64_t)x->pos);
        buf_append_le64(out, (uint64_t)x->base_offset);
        buf_append_le64(out, (uint64_t)x->next_offset);
        buf_append_le64(out, x->len);
        buf_append_le32(out, x->digest);
    }
    if (out->error == 0) {
        buf_append_le32(out, codec_crc32c(0, out->data + start, out->len - start));
    }
}

size_t plog_frame_head_len(const uint8_t *p)
{
    uint32_t n;
    memcpy(&n, p + 4, sizeof(n));
    return le32toh(n);
}

/* ---- reading ---- */

static int read_at(const struct plog_journal_reader *r, void *to, size_t n, int64_t pos,
                   struct err *err)
{
    return file_pread_full(r->fd, to, n, (off_t)pos, r->path, err);
}

int plog_journal_reader_open(struct plog *p, uint64_t generation, struct plog_journal_reader *ret,
                             struct err *err)
{
    struct plog_journal_reader r = {.generation = generation, .fd = -1};
    TRY(journal_path(p, generation, &r.path, err));
    int rc = 0;
    struct stat st;
    r.fd = open(r.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (r.fd < 0 || fstat(r.fd, &st) != 0) {
        rc = err_set_errno(err, ERR_IO, "%s", r.path);
        goto out;
    }
    r.size = st.st_size;
    uint8_t raw[HEADER_BYTES] = {0};
    if (r.size >= HEADER_BYTES) {
        rc = read_at(&r, raw, sizeof(raw), 0, err);
        if (rc < 0) {
            goto out;
        }
    }
    struct cursor c;
    cursor_init(&c, raw, sizeof(raw));
    const uint8_t *magic = cursor_bytes(&c, 8);
    uint64_t stored = cursor_le64(&c);
    (void)cursor_le64(&c);
    if (memcmp(magic, header_magic, 8) != 0 || stored != generation ||
        cursor_le32(&c) != codec_crc32c(0, raw, 24)) {
        r.bad_header = 1;
    }
out:
    if (rc < 0) {
        plog_journal_reader_close(&r);
        return rc;
    }
    *ret = r;
    return 0;
}

void plog_journal_reader_close(struct plog_journal_reader *r)
{
    if (r->fd >= 0) {
        (void)close(r->fd);
    }
    free(r->path);
    free(r->head);
    free(r->body);
    free(r->names);
    free(r->extents);
    *r = (struct plog_journal_reader){.fd = -1};
}

static int grow(void **p, size_t *cap, size_t want, struct err *err)
{
    if (want <= *cap) {
        return 0;
    }
    void *grown = realloc(*p, want);
    if (grown == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory for %zu bytes", want);
    }
    *p = grown;
    *cap = want;
    return 0;
}

int plog_batches_match(const uint8_t *bytes, size_t len, int64_t base_offset, int64_t next_offset,
                       uint32_t digest)
{
    uint32_t sum = 0;
    int64_t expect = base_offset;
    size_t at = 0;
    while (at < len) {
        struct plog_batch b;
        if (len - at < PLOG_BATCH_HEAD || plog_batch_parse(bytes + at, &b) != 0 ||
            b.base_offset != expect || (uint64_t)b.bytes > len - at ||
            !plog_batch_crc_ok(bytes + at, &b)) {
            return 0;
        }
        sum = codec_crc32c(sum, bytes + at, PLOG_BATCH_CRC_FROM);
        expect = b.last_offset + 1;
        at += (size_t)b.bytes;
    }
    return expect == next_offset && sum == digest;
}

/* The extents of a head that passed its CRC. */
static int parse_extents(struct plog_journal_reader *r, size_t head_len, struct plog_frame *f,
                         struct err *err)
{
    struct cursor c;
    cursor_init(&c, r->head + FRAME_FIXED, head_len - FRAME_FIXED - 4);
    size_t names = 0;
    size_t body_at = 0;
    for (size_t i = 0; i < f->n_extents; i++) {
        struct plog_frame_extent *x = &r->extents[i];
        const uint8_t *id = cursor_bytes(&c, PLOG_ID_BYTES);
        x->partition = (int32_t)cursor_le32(&c);
        size_t name_len = cursor_le16(&c);
        const uint8_t *name = cursor_bytes(&c, name_len);
        x->segment = (int64_t)cursor_le64(&c);
        x->pos = (int64_t)cursor_le64(&c);
        x->base_offset = (int64_t)cursor_le64(&c);
        x->next_offset = (int64_t)cursor_le64(&c);
        uint64_t len = cursor_le64(&c);
        x->digest = cursor_le32(&c);
        if (c.error != 0 || name_len > 249 || x->segment < 0 || x->pos < 0 ||
            x->base_offset < x->segment || x->next_offset < x->base_offset ||
            len > (uint64_t)PLOG_MAX_SEGMENT_BYTES || x->pos > PLOG_MAX_SEGMENT_BYTES) {
            return err_set(err, ERR_DATA, "%s: extent %zu of a frame is malformed", r->path, i);
        }
        memcpy(x->id, id, PLOG_ID_BYTES);
        memcpy(r->names + names, name, name_len);
        r->names[names + name_len] = '\0';
        x->topic = r->names + names;
        names += name_len + 1;
        x->len = (size_t)len;
        x->body_at = body_at;
        body_at += f->kind == PLOG_FRAME_REDO ? x->len : 0;
    }
    if (c.left != 0 || body_at != f->body_len) {
        return err_set(err, ERR_DATA, "%s: a frame's extents do not fill it", r->path);
    }
    return 0;
}

static int check_body(struct plog_journal_reader *r, int64_t pos, struct plog_frame *f,
                      struct err *err)
{
    if (f->kind != PLOG_FRAME_REDO) {
        return 0;
    }
    TRY(grow((void **)&r->body, &r->body_cap, f->body_len, err));
    TRY(read_at(r, r->body, f->body_len, f->end - (int64_t)f->body_len, err));
    for (size_t i = 0; i < f->n_extents; i++) {
        const struct plog_frame_extent *x = &f->extents[i];
        if (!plog_batches_match(r->body + x->body_at, x->len, x->base_offset, x->next_offset,
                                x->digest)) {
            return err_set(err, ERR_DATA, "%s: the frame at byte %lld fails its checksums", r->path,
                           (long long)pos);
        }
    }
    f->body = r->body;
    return 0;
}

int plog_journal_frame(struct plog_journal_reader *r, int64_t pos, struct plog_frame *ret,
                       struct err *err)
{
    if (pos >= r->size) {
        return 0;
    }
    uint8_t fixed[FRAME_FIXED];
    if (r->size - pos < FRAME_FIXED + 4) {
        return err_set(err, ERR_DATA, "%s: ends within a frame at byte %lld", r->path,
                       (long long)pos);
    }
    TRY(read_at(r, fixed, sizeof(fixed), pos, err));
    struct cursor c;
    cursor_init(&c, fixed, sizeof(fixed));
    uint32_t magic = cursor_le32(&c);
    size_t head_len = cursor_le32(&c);
    uint64_t body_len = cursor_le64(&c);
    uint64_t generation = cursor_le64(&c);
    struct plog_frame f = {0};
    f.seq = cursor_le64(&c);
    f.durable_seq = cursor_le64(&c);
    f.kind = (int)cursor_le32(&c);
    f.n_extents = cursor_le32(&c);
    uint64_t left = (uint64_t)(r->size - pos);
    if (magic != frame_magic || generation != r->generation || head_len < FRAME_FIXED + 4 ||
        head_len > MAX_HEAD || head_len > left || body_len > left - head_len ||
        f.n_extents > head_len / EXTENT_FIXED ||
        (f.kind != PLOG_FRAME_REDO && f.kind != PLOG_FRAME_MARKER)) {
        return err_set(err, ERR_DATA, "%s: no whole frame at byte %lld", r->path, (long long)pos);
    }
    TRY(grow((void **)&r->head, &r->head_cap, head_len, err));
    TRY(grow((void **)&r->names, &r->names_cap, head_len + f.n_extents, err));
    size_t bytes = r->cap_extents * sizeof(*r->extents);
    TRY(grow((void **)&r->extents, &bytes, (f.n_extents + 1) * sizeof(*r->extents), err));
    r->cap_extents = bytes / sizeof(*r->extents);
    TRY(read_at(r, r->head, head_len, pos, err));
    uint32_t stored;
    memcpy(&stored, r->head + head_len - 4, sizeof(stored));
    if (le32toh(stored) != codec_crc32c(0, r->head, head_len - 4)) {
        return err_set(err, ERR_DATA, "%s: the frame at byte %lld has a bad head", r->path,
                       (long long)pos);
    }
    f.body_len = (size_t)body_len;
    f.end = pos + (int64_t)head_len + (int64_t)body_len;
    f.extents = r->extents;
    TRY(parse_extents(r, head_len, &f, err));
    TRY(check_body(r, pos, &f, err));
    *ret = f;
    return 1;
}

int64_t plog_journal_search(struct plog_journal_reader *r, int64_t pos)
{
    uint8_t window[16384];
    uint32_t magic = htole32(frame_magic);
    while (pos < r->size) {
        ssize_t n = pread(r->fd, window, sizeof(window), (off_t)pos);
        if (n < (ssize_t)sizeof(magic)) {
            return -1;
        }
        const uint8_t *hit = memmem(window, (size_t)n, &magic, sizeof(magic));
        if (hit != NULL) {
            return pos + (hit - window);
        }
        pos += n - 3;
    }
    return -1;
}

/* ---- files ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int plog_journal_list(struct plog *p, uint64_t **ret, size_t *ret_n, struct err *err)
{
    DIR *d = opendir(p->journal_dir);
    if (d == NULL) {
        return err_set_errno(err, ERR_IO, "%s", p->journal_dir);
    }
    uint64_t *list = NULL;
    size_t n = 0;
    int rc = 0;
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        if (strlen(e->d_name) != 28 || !str_ends_with(e->d_name, ".journal") ||
            strspn(e->d_name, "0123456789") != 20) {
            continue;
        }
        uint64_t *grown = realloc(list, (n + 1) * sizeof(*list));
        if (grown == NULL) {
            rc = err_set(err, ERR_NOMEM, "out of memory");
            break;
        }
        list = grown;
        list[n++] = strtoull(e->d_name, NULL, 10);
    }
    (void)closedir(d);
    if (rc < 0) {
        free(list);
        return rc;
    }
    if (n > 0) {
        qsort(list, n, sizeof(*list), by_number);
    }
    *ret = list;
    *ret_n = n;
    return 0;
}

int plog_journal_unlink(struct plog *p, uint64_t first_live, struct err *err)
{
    uint64_t *list = NULL;
    size_t n = 0;
    TRY(plog_journal_list(p, &list, &n, err));
    int rc = 0;
    for (size_t i = 0; i < n && list[i] < first_live && rc == 0; i++) {
        char *path = NULL;
        rc = journal_path(p, list[i], &path, err);
        if (rc == 0 && unlink(path) != 0 && errno != ENOENT) {
            rc = err_set_errno(err, ERR_IO, "%s: unlink", path);
        }
        free(path);
    }
    free(list);
    if (rc == 0) {
        rc = plog_io_sync_dir(p, p->journal_dir, err);
    }
    return rc;
}
