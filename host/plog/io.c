/*
 * The disk calls that can fail, each behind the test's fault hook, and the helpers that sync several files
 * at once. A disk call's success means what the call means: only sync makes bytes durable.
 *
 * Threads: plog_io_* from any thread. The pool has one caller, the committer.
 */
#include "plog/plog_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int injected(struct plog *p, const char *op, const char *path, struct err *err)
{
    if (p->o.fault == NULL) {
        return 0;
    }
    int code = p->o.fault(p->o.fault_arg, op, path);
    if (code == 0) {
        return 0;
    }
    errno = code;
    return err_set_errno(err, ERR_IO, "%s: %s", path, op);
}

int plog_io_create(struct plog *p, const char *path, int *ret_fd, struct err *err)
{
    TRY(injected(p, "create", path, err));
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, "%s: create", path);
    }
    *ret_fd = fd;
    return 0;
}

int plog_io_pwritev(struct plog *p, int fd, struct iovec *iov, int n, int64_t at, const char *path,
                    struct err *err)
{
    TRY(injected(p, "write", path, err));
    return file_pwritev_full(fd, iov, n, at, path, err);
}

int plog_io_sync(struct plog *p, int fd, const char *path, struct err *err)
{
    TRY(injected(p, "sync", path, err));
    while (fdatasync(fd) != 0) {
        if (errno != EINTR) {
            return err_set_errno(err, ERR_IO, "%s: fdatasync", path);
        }
    }
    return 0;
}

int plog_io_truncate(struct plog *p, int fd, int64_t size, const char *path, struct err *err)
{
    TRY(injected(p, "truncate", path, err));
    while (ftruncate(fd, size) != 0) {
        if (errno != EINTR) {
            return err_set_errno(err, ERR_IO, "%s: truncate to %lld", path, (long long)size);
        }
    }
    return 0;
}

int plog_io_sync_dir(struct plog *p, const char *path, struct err *err)
{
    TRY(injected(p, "sync", path, err));
    return file_sync_dir(path, err);
}

int plog_io_replace(struct plog *p, const char *path, const void *data, size_t n, struct err *err)
{
    TRY(injected(p, "replace", path, err));
    return file_replace(path, data, n, err);
}

/* ---- the pool ---- */

enum { POOL_THREADS = 3 };

struct plog_sync_pool {
    struct mutex mu;
    struct cond work, idle;
    void (*job)(void *arg, size_t i);
    void *arg;
    size_t n, next, running;
    int stop;
    pthread_t threads[POOL_THREADS];
    size_t n_threads;
};

/* Takes jobs until none is left; mu held on entry and on return. */
static void work_off(struct plog_sync_pool *pool)
{
    while (pool->next < pool->n) {
        size_t i = pool->next++;
        void (*job)(void *, size_t) = pool->job;
        void *arg = pool->arg;
        pool->running++;
        mutex_unlock(&pool->mu);
        job(arg, i);
        mutex_lock(&pool->mu);
        pool->running--;
    }
    if (pool->running == 0) {
        cond_signal(&pool->idle);
    }
}

static void *pool_main(void *arg)
{
    struct plog_sync_pool *pool = arg;
    mutex_lock(&pool->mu);
    while (!pool->stop) {
        if (pool->next >= pool->n) {
            cond_wait(&pool->work, &pool->mu);
            continue;
        }
        work_off(pool);
    }
    mutex_unlock(&pool->mu);
    return NULL;
}

/* Without memory or threads there are fewer helpers, or none: the caller does the work. */
static struct plog_sync_pool *pool_new(void)
{
    struct plog_sync_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return NULL;
    }
    mutex_init(&pool->mu);
    cond_init(&pool->work);
    cond_init(&pool->idle);
    while (pool->n_threads < POOL_THREADS &&
           thread_start(&pool->threads[pool->n_threads], "plog-sync", pool_main, pool, NULL) == 0) {
        pool->n_threads++;
    }
    return pool;
}

void plog_pool_run(struct plog *p, void (*job)(void *arg, size_t i), void *arg, size_t n)
{
    if (n > 1 && p->pool == NULL) {
        p->pool = pool_new();
    }
    if (n <= 1 || p->pool == NULL) {
        for (size_t i = 0; i < n; i++) {
            job(arg, i);
        }
        return;
    }
    struct plog_sync_pool *pool = p->pool;
    mutex_lock(&pool->mu);
    pool->job = job;
    pool->arg = arg;
    pool->next = 0;
    pool->n = n;
    cond_broadcast(&pool->work);
    work_off(pool);
    while (pool->running > 0) {
        cond_wait(&pool->idle, &pool->mu);
    }
    pool->n = 0;
    pool->next = 0;
    mutex_unlock(&pool->mu);
}

void plog_pool_free(struct plog_sync_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    mutex_lock(&pool->mu);
    pool->stop = 1;
    cond_broadcast(&pool->work);
    mutex_unlock(&pool->mu);
    for (size_t i = 0; i < pool->n_threads; i++) {
        thread_join(pool->threads[i]);
    }
    cond_destroy(&pool->idle);
    cond_destroy(&pool->work);
    mutex_destroy(&pool->mu);
    free(pool);
}
