/*
 * Under TSan, C11 threads by pthreads. librdkafka uses C11's; the sanitizer knows only pthreads, so a thread made by
 * glibc's thrd_create() has no state there and dies at its first allocation. The linker prefers these,
 * and every lock of librdkafka becomes visible as one. glibc's C11 objects have the size of the pthread ones and are the
 * same inside.
 */
#ifdef __SANITIZE_THREAD__

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

#define SHOWN __attribute__((visibility("default")))

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "mtx_t is a pthread_mutex_t");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "cnd_t is a pthread_cond_t");
_Static_assert(sizeof(thrd_t) == sizeof(pthread_t), "thrd_t is a pthread_t");

/* librdkafka itself is not instrumented: its reference counts are atomics that nobody sees, so what it frees would seem to
 * be still in use. Reports with a stack inside it are not judged; our own code against our own is. */
SHOWN const char *__tsan_default_suppressions(void);
SHOWN const char *__tsan_default_suppressions(void)
{
    return "race:librdkafka.so\n";
}

struct start {
    thrd_start_t run;
    void *arg;
};

static void *start(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    return (void *)(intptr_t)s.run(s.arg);
}

SHOWN int thrd_create(thrd_t *ret, thrd_start_t run, void *arg)
{
    struct start *s = malloc(sizeof(*s));
    if (s == NULL) {
        return thrd_nomem;
    }
    *s = (struct start){run, arg};
    if (pthread_create(ret, NULL, start, s) != 0) {
        free(s);
        return thrd_error;
    }
    return thrd_success;
}

SHOWN int thrd_join(thrd_t t, int *ret)
{
    void *value = NULL;
    if (pthread_join(t, &value) != 0) {
        return thrd_error;
    }
    if (ret != NULL) {
        *ret = (int)(intptr_t)value;
    }
    return thrd_success;
}

SHOWN int mtx_init(mtx_t *m, int type)
{
    pthread_mutexattr_t attr;
    (void)pthread_mutexattr_init(&attr);
    (void)pthread_mutexattr_settype(&attr, type & mtx_recursive ? PTHREAD_MUTEX_RECURSIVE
                                                                : PTHREAD_MUTEX_NORMAL);
    int rc = pthread_mutex_init((pthread_mutex_t *)m, &attr);
    (void)pthread_mutexattr_destroy(&attr);
    return rc == 0 ? thrd_success : thrd_error;
}

SHOWN void mtx_destroy(mtx_t *m)
{
    (void)pthread_mutex_destroy((pthread_mutex_t *)m);
}

SHOWN int mtx_lock(mtx_t *m)
{
    return pthread_mutex_lock((pthread_mutex_t *)m) == 0 ? thrd_success : thrd_error;
}

SHOWN int mtx_unlock(mtx_t *m)
{
    return pthread_mutex_unlock((pthread_mutex_t *)m) == 0 ? thrd_success : thrd_error;
}

SHOWN int cnd_init(cnd_t *c)
{
    return pthread_cond_init((pthread_cond_t *)c, NULL) == 0 ? thrd_success : thrd_error;
}

SHOWN void cnd_destroy(cnd_t *c)
{
    (void)pthread_cond_destroy((pthread_cond_t *)c);
}

SHOWN int cnd_signal(cnd_t *c)
{
    return pthread_cond_signal((pthread_cond_t *)c) == 0 ? thrd_success : thrd_error;
}

SHOWN int cnd_broadcast(cnd_t *c)
{
    return pthread_cond_broadcast((pthread_cond_t *)c) == 0 ? thrd_success : thrd_error;
}

SHOWN int cnd_wait(cnd_t *c, mtx_t *m)
{
    int rc = pthread_cond_wait((pthread_cond_t *)c, (pthread_mutex_t *)m);
    return rc == 0 ? thrd_success : thrd_error;
}

SHOWN int cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *until)
{
    int rc = pthread_cond_timedwait((pthread_cond_t *)c, (pthread_mutex_t *)m, until);
    return rc == 0 ? thrd_success : rc == ETIMEDOUT ? thrd_timedout : thrd_error;
}

#else
typedef int c11_threads_unused; /* not an empty file */
#endif
