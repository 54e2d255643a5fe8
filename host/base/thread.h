/*
 * Threads, mutexes and condition variables that cannot fail in ways a caller could handle: a
 * failing lock is a bug and stops the process. Waits with a deadline use the monotonic clock.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stdint.h>

#include "base/err.h"

struct mutex {
    pthread_mutex_t m;
};

struct cond {
    pthread_cond_t c;
};

void mutex_init(struct mutex *m);
void mutex_destroy(struct mutex *m);
void mutex_lock(struct mutex *m);
void mutex_unlock(struct mutex *m);

void cond_init(struct cond *c); /* on the monotonic clock */
void cond_destroy(struct cond *c);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);
void cond_wait(struct cond *c, struct mutex *m);
/* Waits until signalled or clock_mono_ms() >= deadline_ms. Returns 0, or ERR_TIMEOUT. May wake
 * early. */
int cond_wait_until(struct cond *c, struct mutex *m, int64_t deadline_ms);

/* Starts a joinable thread with all signals blocked and a 512 KiB stack (2 MiB in sanitizer
 * builds). `name` is at most 15 bytes. Returns 0 or ERR_NOMEM. */
int thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg,
                 struct err *err) MUST_USE;
void thread_join(pthread_t t);

#endif
