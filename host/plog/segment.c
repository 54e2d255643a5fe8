/*
 * Segments: one .log file each with its two indexes, found by base offset. Descriptors are opened on use
 * and kept in a list by last use, at most PLOG_MAX_FDS of them (more only while all are pinned).
 *
 * Threads: any. fd fields under log->fd_mu; the reference count is atomic.
 */
#include "plog/plog_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void plog_segment_path(const struct plog_segment *s, const char *ext, char out[PATH_MAX])
{
    /* Folder names are bounded by what plog_open() and topic names allow. */
    (void)snprintf(out, PATH_MAX, "%s/%020lld.%s", s->part->dir, (long long)s->base, ext);
}

struct plog_segment *plog_segment_new(struct plog_partition *part, int64_t base)
{
    struct plog_segment *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->part = part;
    s->base = base;
    s->pub = (struct plog_mark)PLOG_MARK_INIT;
    s->w = s->pub;
    s->fd = -1;
    atomic_init(&s->refs, 1);
    return s;
}

static void lru_unlink(struct plog_segment *s)
{
    s->lru_prev->lru_next = s->lru_next;
    s->lru_next->lru_prev = s->lru_prev;
    s->lru_prev = s->lru_next = NULL;
}

static void lru_front(struct plog *p, struct plog_segment *s)
{
    s->lru_prev = &p->lru;
    s->lru_next = p->lru.lru_next;
    s->lru_next->lru_prev = s;
    p->lru.lru_next = s;
}

/* Closes the least recently used descriptors that nobody needs; fd_mu held. */
static void lru_trim(struct plog *p)
{
    struct plog_segment *s = p->lru.lru_prev;
    while (p->n_fds > PLOG_MAX_FDS && s != &p->lru) {
        struct plog_segment *prev = s->lru_prev;
        if (s->pins == 0) {
            lru_unlink(s);
            (void)close(s->fd);
            s->fd = -1;
            p->n_fds--;
        }
        s = prev;
    }
}

int plog_segment_create(struct plog_partition *part, int64_t base, struct plog_segment **ret,
                        struct err *err)
{
    struct plog *p = part->log;
    struct plog_segment *s = plog_segment_new(part, base);
    if (s == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    char path[PATH_MAX];
    plog_segment_path(s, "log", path);
    int rc = plog_io_create(p, path, &s->fd, err);
    if (rc < 0) {
        plog_segment_unref(s);
        return rc;
    }
    mutex_lock(&p->fd_mu);
    lru_front(p, s);
    p->n_fds++;
    lru_trim(p);
    mutex_unlock(&p->fd_mu);
    *ret = s;
    return 0;
}

void plog_segment_ref(struct plog_segment *s)
{
    (void)atomic_fetch_add(&s->refs, 1);
}

void plog_segment_unref(struct plog_segment *s)
{
    if (s == NULL || atomic_fetch_sub(&s->refs, 1) != 1) {
        return;
    }
    plog_segment_close_fd(s);
    free(s->index);
    free(s->times);
    free(s);
}

int plog_segment_pin(struct plog_segment *s, int *ret_fd, struct err *err)
{
    struct plog *p = s->part->log;
    mutex_lock(&p->fd_mu);
    if (s->fd < 0) {
        char path[PATH_MAX];
        plog_segment_path(s, "log", path);
        int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) {
            int rc = err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", path);
            mutex_unlock(&p->fd_mu);
            return rc;
        }
        s->fd = fd;
        p->n_fds++;
        s->pins++;
        lru_front(p, s);
        lru_trim(p);
    } else {
        s->pins++;
        lru_unlink(s);
        lru_front(p, s);
    }
    *ret_fd = s->fd;
    mutex_unlock(&p->fd_mu);
    return 0;
}

void plog_segment_unpin(struct plog_segment *s)
{
    struct plog *p = s->part->log;
    mutex_lock(&p->fd_mu);
    s->pins--;
    lru_trim(p);
    mutex_unlock(&p->fd_mu);
}

void plog_segment_close_fd(struct plog_segment *s)
{
    struct plog *p = s->part->log;
    if (p == NULL || s->fd < 0) { /* a closed log has closed every descriptor */
        return;
    }
    mutex_lock(&p->fd_mu);
    lru_unlink(s);
    (void)close(s->fd);
    s->fd = -1;
    p->n_fds--;
    mutex_unlock(&p->fd_mu);
}

int plog_segment_sync(struct plog_segment *s, struct err *err)
{
    int fd = -1;
    TRY(plog_segment_pin(s, &fd, err));
    char path[PATH_MAX];
    plog_segment_path(s, "log", path);
    int rc = plog_io_sync(s->part->log, fd, path, err);
    plog_segment_unpin(s);
    return rc;
}

int plog_partition_add_segment(struct plog_partition *part, struct plog_segment *s, struct err *err)
{
    int rc = 0;
    mutex_lock(&part->mu);
    if (part->n_segs == part->cap_segs) {
        size_t cap = part->cap_segs * 2 + 4;
        struct plog_segment **segs = realloc(part->segs, cap * sizeof(struct plog_segment *));
        if (segs == NULL) {
            rc = err_set(err, ERR_NOMEM, "out of memory");
        } else {
            part->segs = segs;
            part->cap_segs = cap;
        }
    }
    if (rc == 0) {
        part->segs[part->n_segs++] = s;
    }
    mutex_unlock(&part->mu);
    return rc;
}
