/*
 * Partitions: references, folders, status and watches.
 *
 * A partition lives while anyone holds a reference; its topic holds one until deletion, the log's close
 * takes the descriptors away from those that are still held. Lock order: see plog_int.h.
 */
#include "plog/plog_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct plog_partition *plog_partition_new(struct plog *p, const char *topic, int32_t number,
                                          const uint8_t *id)
{
    struct plog_partition *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    t->log = p;
    t->number = number;
    memcpy(t->id, id, PLOG_ID_BYTES);
    atomic_init(&t->refs, 1);
    t->topic = strdup(topic);
    if (t->topic == NULL || asprintf(&t->dir, "%s/%s-%d", p->log_dir, topic, (int)number) < 0) {
        free(t->topic);
        free(t);
        return NULL;
    }
    mutex_init(&t->mu);
    mutex_init(&t->watch_mu);
    mutex_lock(&p->topics_mu);
    t->all_next = p->all;
    if (p->all != NULL) {
        p->all->all_prev = t;
    }
    p->all = t;
    mutex_unlock(&p->topics_mu);
    return t;
}

struct plog_partition *plog_partition_ref(struct plog_partition *t)
{
    (void)atomic_fetch_add(&t->refs, 1);
    return t;
}

void plog_partition_unref(struct plog_partition *t)
{
    if (t == NULL || atomic_fetch_sub(&t->refs, 1) != 1) {
        return;
    }
    BUG_ON(t->watches != NULL);
    struct plog *p = t->log;
    if (p != NULL) {
        mutex_lock(&p->topics_mu);
        if (t->all_prev != NULL) {
            t->all_prev->all_next = t->all_next;
        } else {
            p->all = t->all_next;
        }
        if (t->all_next != NULL) {
            t->all_next->all_prev = t->all_prev;
        }
        mutex_unlock(&p->topics_mu);
    }
    for (size_t i = 0; i < t->n_segs; i++) {
        plog_segment_unref(t->segs[i]);
    }
    free(t->segs);
    mutex_destroy(&t->watch_mu);
    mutex_destroy(&t->mu);
    free(t->topic);
    free(t->dir);
    free(t);
}

/* ---- folders ---- */

/* Writes a small file and syncs it. */
static int put_file(struct plog *p, const char *dir, const char *name, const char *text,
                    struct err *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = -1;
    TRY(plog_io_create(p, path, &fd, err));
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    int rc = 0;
    if (iov.iov_len > 0) {
        rc = plog_io_pwritev(p, fd, &iov, 1, 0, path, err);
    }
    if (rc == 0) {
        rc = plog_io_sync(p, fd, path, err);
    }
    (void)close(fd);
    return rc;
}

int plog_partition_make(struct plog *p, struct plog_partition *t, struct err *err)
{
    if (mkdir(t->dir, 0700) != 0) {
        return err_set_errno(err, ERR_IO, "%s: mkdir", t->dir);
    }
    char id[23];
    char text[64];
    plog_uuid_text(t->id, id);
    (void)snprintf(text, sizeof(text), "version: 0\ntopic_id: %s\n", id);
    TRY(put_file(p, t->dir, "partition.metadata", text, err));
    TRY(put_file(p, t->dir, "leader-epoch-checkpoint", "0\n1\n0 0\n", err));
    struct plog_segment *s = NULL;
    TRY(plog_segment_create(t, 0, &s, err));
    int rc = plog_partition_add_segment(t, s, err);
    if (rc == 0) {
        rc = plog_segment_sync(s, err);
    } else {
        plog_segment_unref(s);
    }
    if (rc == 0) {
        rc = plog_index_flush(s, 0, 0, err);
    }
    if (rc == 0) {
        rc = plog_io_sync_dir(p, t->dir, err);
    }
    return rc;
}

int plog_partition_metadata_read(struct plog_partition *t, uint8_t id[PLOG_ID_BYTES],
                                 struct err *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/partition.metadata", t->dir);
    struct buf b = BUF_INIT(0);
    int rc = file_read(path, 4096, &b, err);
    if (rc == 0) {
        const char *at = strstr(buf_cstr(&b), "topic_id: ");
        char text[23] = "";
        if (at != NULL) {
            (void)sscanf(at, "topic_id: %22s", text);
        }
        if (plog_uuid_parse(text, id) != 0) {
            rc = err_set(err, ERR_CORRUPT, "%s: has no topic_id", path);
        }
    }
    buf_free(&b);
    return rc;
}

static int segment_base(const char *name, int64_t *ret)
{
    if (strlen(name) != 24 || !str_ends_with(name, ".log")) {
        return 0;
    }
    char digits[21];
    memcpy(digits, name, 20);
    digits[20] = '\0';
    return strspn(digits, "0123456789") == 20 && str_to_i64(digits, ret) == 0;
}

static int by_base(const void *a, const void *b)
{
    const struct plog_segment *x = *(struct plog_segment *const *)a;
    const struct plog_segment *y = *(struct plog_segment *const *)b;
    return x->base < y->base ? -1 : x->base > y->base;
}

int plog_partition_load_segments(struct plog_partition *t, struct err *err)
{
    DIR *d = opendir(t->dir);
    if (d == NULL) {
        return err_set_errno(err, ERR_IO, "%s", t->dir);
    }
    int rc = 0;
    struct dirent *e;
    while (rc == 0 && (e = readdir(d)) != NULL) {
        int64_t base = 0;
        if (str_ends_with(e->d_name, ".fresh")) { /* a copy that was not finished */
            (void)unlinkat(dirfd(d), e->d_name, 0);
        }
        if (!segment_base(e->d_name, &base)) {
            continue;
        }
        struct stat st;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            rc = err_set_errno(err, ERR_IO, "%s/%s", t->dir, e->d_name);
            break;
        }
        struct plog_segment *s = plog_segment_new(t, base);
        rc = s == NULL ? err_set(err, ERR_NOMEM, "out of memory")
                       : plog_partition_add_segment(t, s, err);
        if (rc == 0) {
            s->pub.size = st.st_size;
        }
    }
    (void)closedir(d);
    if (t->n_segs > 0) {
        qsort(t->segs, t->n_segs, sizeof(struct plog_segment *), by_base);
    }
    return rc;
}

/* ---- what stands where; part->mu held ---- */

struct plog_segment *plog_partition_segment(struct plog_partition *t, int64_t offset,
                                            int64_t *ret_size)
{
    size_t low = 0;
    size_t high = t->n_segs;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (t->segs[mid]->base <= offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low == 0) {
        return NULL;
    }
    struct plog_segment *s = t->segs[low - 1];
    plog_segment_ref(s);
    *ret_size = s->pub.size;
    return s;
}

int64_t plog_partition_after(struct plog_partition *t, const struct plog_segment *s)
{
    for (size_t i = t->n_segs; i > 1; i--) {
        if (t->segs[i - 2] == s) {
            return t->segs[i - 1]->base < t->end ? t->segs[i - 1]->base : t->end;
        }
    }
    return t->end;
}

/* ---- status ---- */

void plog_partition_set_error(struct plog_partition *t, int failed, const char *text)
{
    mutex_lock(&t->mu);
    t->failed = failed;
    (void)snprintf(t->error, sizeof(t->error), "%s", text);
    mutex_unlock(&t->mu);
}

void plog_partition_status(struct plog_partition *t, struct plog_partition_status *ret)
{
    memset(ret, 0, sizeof(*ret));
    mutex_lock(&t->mu);
    ret->start_offset = t->start;
    ret->end_offset = t->end;
    for (size_t i = 0; i < t->n_segs; i++) {
        ret->bytes += t->segs[i]->pub.size;
    }
    ret->state = t->failed ? PLOG_FAILED : PLOG_ONLINE;
    memcpy(ret->error, t->error, sizeof(ret->error));
    mutex_unlock(&t->mu);
}

/* ---- watches ---- */

int plog_watch(struct plog_partition *t, void (*wake)(void *arg), void *arg,
               struct plog_watch **ret, struct err *err)
{
    struct plog_watch *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    w->part = plog_partition_ref(t);
    w->wake = wake;
    w->arg = arg;
    mutex_lock(&t->watch_mu);
    w->next = t->watches;
    t->watches = w;
    mutex_unlock(&t->watch_mu);
    *ret = w;
    return 0;
}

void plog_unwatch(struct plog_watch *w)
{
    if (w == NULL) {
        return;
    }
    struct plog_partition *t = w->part;
    mutex_lock(&t->watch_mu);
    struct plog_watch **at = &t->watches;
    while (*at != w) {
        at = &(*at)->next;
    }
    *at = w->next;
    mutex_unlock(&t->watch_mu);
    free(w);
    plog_partition_unref(t);
}

void plog_partition_wake(struct plog_partition *t)
{
    mutex_lock(&t->watch_mu);
    for (struct plog_watch *w = t->watches; w != NULL; w = w->next) {
        w->wake(w->arg);
    }
    mutex_unlock(&t->watch_mu);
}
