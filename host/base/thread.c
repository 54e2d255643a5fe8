/* Threads and locks. */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#ifdef CONNECTD_SANITIZER
#define STACK_BYTES ((size_t)2 << 20)
#else
#define STACK_BYTES ((size_t)512 << 10)
#endif

void mutex_init(struct mutex *m)
{
    BUG_ON(pthread_mutex_init(&m->m, NULL) != 0);
}

void mutex_destroy(struct mutex *m)
{
    BUG_ON(pthread_mutex_destroy(&m->m) != 0);
}

void mutex_lock(struct mutex *m)
{
    BUG_ON(pthread_mutex_lock(&m->m) != 0);
}

void mutex_unlock(struct mutex *m)
{
    BUG_ON(pthread_mutex_unlock(&m->m) != 0);
}

void cond_init(struct cond *c)
{
    pthread_condattr_t attr;
    BUG_ON(pthread_condattr_init(&attr) != 0);
    BUG_ON(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) != 0);
    BUG_ON(pthread_cond_init(&c->c, &attr) != 0);
    BUG_ON(pthread_condattr_destroy(&attr) != 0);
}

void cond_destroy(struct cond *c)
{
    BUG_ON(pthread_cond_destroy(&c->c) != 0);
}

void cond_signal(struct cond *c)
{
    BUG_ON(pthread_cond_signal(&c->c) != 0);
}

void cond_broadcast(struct cond *c)
{
    BUG_ON(pthread_cond_broadcast(&c->c) != 0);
}

void cond_wait(struct cond *c, struct mutex *m)
{
    BUG_ON(pthread_cond_wait(&c->c, &m->m) != 0);
}

int cond_wait_until(struct cond *c, struct mutex *m, int64_t deadline_ms)
{
    struct timespec t = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    int rc = pthread_cond_timedwait(&c->c, &m->m, &t);
    BUG_ON(rc != 0 && rc != ETIMEDOUT);
    return rc == 0 ? 0 : ERR_TIMEOUT;
}

int thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg, struct err *err)
{
    pthread_attr_t attr;
    BUG_ON(pthread_attr_init(&attr) != 0);
    BUG_ON(pthread_attr_setstacksize(&attr, STACK_BYTES) != 0);
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    BUG_ON(pthread_sigmask(SIG_SETMASK, &all, &old) != 0);
    int rc = pthread_create(ret, &attr, run, arg);
    BUG_ON(pthread_sigmask(SIG_SETMASK, &old, NULL) != 0);
    BUG_ON(pthread_attr_destroy(&attr) != 0);
    if (rc != 0) {
        return err_set(err, ERR_NOMEM, "cannot start thread %s: error %d", name, rc);
    }
    (void)pthread_setname_np(*ret, name);
    return 0;
}

void thread_join(pthread_t t)
{
    BUG_ON(pthread_join(t, NULL) != 0);
}
