/* Following one file; see tail.h. Which file is which is decided by device and inode only; times
 * never are. */
#include "tail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <connectd/sdk.h>
#include "rotated.h"

/* One read(2). Blocks are larger, so that one block serves several batches. */
enum { READ_BYTES = 256 * 1024 };

void tail_init(struct tail *t, const ctd_host *host, const char *path, struct lines_pool *pool,
               size_t max_line_bytes)
{
    *t = (struct tail){
        .host = host, .path = path, .pool = pool, .max_line_bytes = max_line_bytes, .fd = -1};
}

void tail_resume(struct tail *t, int64_t position, int has_inode, uint64_t device, uint64_t inode)
{
    t->has_resume = 1;
    t->has_inode = has_inode;
    t->resume_position = position;
    t->resume_device = device;
    t->resume_inode = inode;
}

int64_t tail_position(const struct tail *t)
{
    return t->block_at + (int64_t)t->next;
}

/* Forgets what was read; the next line begins at `position`. */
static void restart_at(struct tail *t, int64_t position)
{
    lines_block_unref(t->block);
    t->block = NULL;
    t->block_at = position;
    t->next = 0;
    t->scanned = 0;
    t->skipping = 0;
    t->at_eof = 0;
}

void tail_close(struct tail *t)
{
    restart_at(t, 0);
    if (t->fd >= 0) {
        (void)close(t->fd);
        t->fd = -1;
    }
    t->draining = 0;
}

static void use_file(struct tail *t, int fd, const struct stat *st, int64_t position)
{
    t->fd = fd;
    t->device = st->st_dev;
    t->inode = st->st_ino;
    t->has_resume = 0;
    t->told_missing = 0;
    t->draining = 0;
    restart_at(t, position);
}

/* The path is open as `fd`, and it is not the file that the stored offset speaks of, or no longer.
 */
static int64_t resume_elsewhere(struct tail *t, const struct stat *st, int *io_fd,
                                struct stat *ret_st)
{
    int same = t->has_inode && st->st_ino == t->resume_inode && st->st_dev == t->resume_device;
    if (same || !t->has_inode) {
        ctd_log(t->host, CTD_LOG_WARN,
                "%s: was cut or rewritten below the stored position %" PRId64 "; reading from 0",
                t->path, t->resume_position);
        return 0;
    }
    int old = rotated_find(t->path, t->resume_device, t->resume_inode, t->resume_position, t->host,
                           ret_st);
    if (old >= 0) {
        (void)close(*io_fd);
        *io_fd = old;
        return t->resume_position;
    }
    ctd_log(t->host, CTD_LOG_WARN,
            "%s: the file read until position %" PRId64 " (inode %" PRIu64
            ") is neither at this path nor in its folder; what it held behind that position is "
            "not read; reading the present file from 0",
            t->path, t->resume_position, t->resume_inode);
    return 0;
}

/* No file has the path (yet). Its predecessor may be there under another name, though. */
static void open_missing(struct tail *t)
{
    if (t->has_resume && t->has_inode && !t->searched) {
        struct stat st;
        t->searched = 1;
        int old = rotated_find(t->path, t->resume_device, t->resume_inode, t->resume_position,
                               t->host, &st);
        if (old >= 0) {
            use_file(t, old, &st, t->resume_position);
            return;
        }
    }
    if (!t->told_missing) {
        t->told_missing = 1;
        ctd_log(t->host, CTD_LOG_INFO, "%s: does not exist yet; waiting for it", t->path);
    }
}

/* Opens the file to read next; t->fd stays -1 while there is none. */
static ctd_status open_file(struct tail *t, ctd_error *err)
{
    int fd = -1;
    struct stat st;
    ctd_status rc = rotated_open(t->path, &fd, &st, err);
    if (rc != CTD_OK) {
        return rc;
    }
    if (fd < 0) {
        open_missing(t);
        return CTD_OK;
    }
    int64_t position = 0;
    if (t->has_resume) {
        /* A device number may change with a reboot; the inode with a line end at the right place is
         * enough. */
        int same = !t->has_inode || st.st_ino == t->resume_inode;
        position = t->resume_position;
        if (!same || !rotated_fits(fd, &st, position, t->has_inode)) {
            position = resume_elsewhere(t, &st, &fd, &st);
        }
    }
    use_file(t, fd, &st, position);
    return CTD_OK;
}

static void too_long(struct tail *t, int64_t at, int64_t bytes)
{
    if (t->n_too_long++ == 0) {
        t->too_long_at = at;
        t->too_long_bytes = bytes;
    }
}

static void start_skipping(struct tail *t)
{
    if (!t->skipping) {
        t->skipping = 1;
        t->skip_from = tail_position(t);
        ctd_log(t->host, CTD_LOG_WARN,
                "%s: the line at position %" PRId64
                " is longer than max.line.bytes (%zu); passing over it",
                t->path, t->skip_from, t->max_line_bytes);
    }
}

/* Takes the line that ends before block->data[end] (`feed` 1: a line feed stands there). */
static void take_line(struct tail *t, struct lines_batch *batch, size_t end, int feed)
{
    const char *line = t->block->data + t->next;
    size_t len = end - t->next;
    if (feed && len > 0 && line[len - 1] == '\r') {
        len--;
    }
    if (t->skipping) {
        t->skipping = 0;
        too_long(t, t->skip_from, t->block_at + (int64_t)end - t->skip_from);
    } else if (len > t->max_line_bytes) {
        start_skipping(t);
        t->skipping = 0;
        too_long(t, tail_position(t), (int64_t)len);
    } else {
        lines_batch_add(batch, line, len);
    }
    t->next = end + (size_t)feed;
    t->scanned = t->next;
}

/* Sees to it that the block has room for more or lines left. */
static ctd_status make_room(struct tail *t, ctd_error *err)
{
    struct lines_block *b = t->block;
    if (b != NULL && t->next == b->len && lines_block_is_sole(b)) {
        t->block_at += (int64_t)b->len;
        b->len = 0;
        t->next = 0;
        t->scanned = 0;
        return CTD_OK;
    }
    if (b != NULL && (b->len < b->cap || t->scanned < b->len)) {
        return CTD_OK;
    }
    size_t left = 0;
    if (b != NULL) {
        /* Full, and no line ends in it any more. A block holds a line of the longest length. */
        if (b->len - t->next == b->cap) {
            start_skipping(t);
        }
        if (t->skipping) {
            t->next = b->len;
        }
        left = b->len - t->next;
    }
    struct lines_block *fresh = lines_block_get(t->pool);
    if (fresh == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory for a block of lines");
    }
    if (b != NULL) {
        memcpy(fresh->data, b->data + t->next, left);
        t->block_at += (int64_t)t->next;
        lines_block_unref(b);
    }
    fresh->len = left;
    t->block = fresh;
    t->next = 0;
    t->scanned = left;
    return CTD_OK;
}

static int same_state(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Appends what the file has behind the block's last byte; *ret_got 0: nothing. The file's state is
 * taken before the read, so that whatever is written after it counts as a change. */
static ctd_status read_some(struct tail *t, int *ret_got, ctd_error *err)
{
    struct lines_block *b = t->block;
    struct stat st;
    if (fstat(t->fd, &st) != 0) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: stat", t->path);
    }
    *ret_got = 0;
    if (t->at_eof && same_state(&st, &t->seen)) {
        return CTD_OK;
    }
    size_t room = b->cap - b->len;
    ssize_t n;
    do {
        n = pread(t->fd, b->data + b->len, room < READ_BYTES ? room : READ_BYTES,
                  t->block_at + (int64_t)b->len);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: read at position %" PRId64, t->path,
                              t->block_at + (int64_t)b->len);
    }
    t->at_eof = n == 0;
    t->seen = st;
    b->len += (size_t)n;
    *ret_got = n > 0;
    return CTD_OK;
}

/* The file ends within a line. It is read again from its beginning once the file has changed, since
 * a writer that repairs its own torn line may have cut it back by then. */
static void end_reached(struct tail *t, struct lines_batch *batch)
{
    size_t left = t->block->len - t->next;
    if (left == 0) {
        return;
    }
    if (t->draining) {
        ctd_log(t->host, CTD_LOG_WARN,
                "%s: was renamed with its last line, at position %" PRId64
                ", not ended; taking its %zu bytes as a line",
                t->path, tail_position(t), left);
        take_line(t, batch, t->block->len, 0);
        return;
    }
    if (left > t->max_line_bytes + 1) {
        start_skipping(t);
    }
    if (t->skipping) {
        t->next = t->block->len;
    } else {
        t->block->len = t->next;
    }
    t->scanned = t->next;
}

/* Fills the batch from the block, reading on while the block has room. */
static ctd_status take_lines(struct tail *t, struct lines_batch *batch, uint32_t max,
                             ctd_error *err)
{
    struct lines_block *b = t->block;
    while (batch->n < max) {
        const char *from = b->data + t->scanned;
        const char *feed = memchr(from, '\n', b->len - t->scanned);
        if (feed != NULL) {
            take_line(t, batch, (size_t)(feed - b->data), 1);
            continue;
        }
        t->scanned = b->len;
        if (b->len == b->cap) {
            break;
        }
        int got = 0;
        ctd_status rc = read_some(t, &got, err);
        if (rc != CTD_OK) {
            return rc;
        }
        if (!got) {
            end_reached(t, batch);
            break;
        }
    }
    return CTD_OK;
}

/* At the end of the file: has it been cut, has it grown, has the path moved on? *ret_changed 1:
 * read again. */
static ctd_status look(struct tail *t, int *ret_changed, ctd_error *err)
{
    struct stat st, now;
    *ret_changed = 1;
    if (fstat(t->fd, &st) != 0) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: stat", t->path);
    }
    if (st.st_size < tail_position(t)) {
        ctd_log(t->host, CTD_LOG_WARN,
                "%s: was cut to %" PRId64 " bytes, below position %" PRId64 "; reading from 0",
                t->path, (int64_t)st.st_size, tail_position(t));
        restart_at(t, 0);
        return CTD_OK;
    }
    if (!t->at_eof || !same_state(&st, &t->seen)) {
        return CTD_OK;
    }
    *ret_changed = 0;
    if (stat(t->path, &now) != 0 || (now.st_dev == st.st_dev && now.st_ino == st.st_ino)) {
        t->draining = 0; /* renamed away and nothing new yet, or not renamed at all */
        return CTD_OK;
    }
    if (!S_ISREG(now.st_mode) || now.st_size == 0) {
        return CTD_OK; /* until the writer has moved, what it writes still comes here */
    }
    *ret_changed = 1;
    if (!t->draining) {
        t->draining = 1;
        t->at_eof = 0; /* what came in before the writer moved is there now: read once more */
        return CTD_OK;
    }
    ctd_log(t->host, CTD_LOG_INFO,
            "%s: was renamed and is read to its end; going on with the new one", t->path);
    tail_close(t);
    return CTD_OK;
}

ctd_status tail_read(struct tail *t, uint32_t max, struct lines_batch **ret, ctd_error *err)
{
    *ret = NULL;
    for (;;) {
        ctd_status rc = t->fd < 0 ? open_file(t, err) : CTD_OK;
        if (rc != CTD_OK || t->fd < 0 || (rc = make_room(t, err)) != CTD_OK) {
            return rc;
        }
        struct lines_batch *batch = lines_batch_get(t->pool, t->block);
        if (batch == NULL) {
            return ctd_fail(err, CTD_E_NOMEM, "out of memory for a batch of lines");
        }
        rc = take_lines(t, batch, max, err);
        if (rc == CTD_OK && batch->n > 0) {
            *ret = batch;
            return CTD_OK;
        }
        lines_batch_put(batch);
        if (rc != CTD_OK) {
            return rc;
        }
        if (t->block->len == t->block->cap) {
            continue;
        }
        int changed = 0;
        rc = look(t, &changed, err);
        if (rc != CTD_OK || !changed) {
            return rc;
        }
    }
}
