/*
 * loop: the core thread's event loop: descriptors (epoll), timers (monotonic clock) and work
 * posted by other threads. Everything here but pipeline_loop_post() and loop_wake_* is for the
 * loop's own thread, or for whoever sets it up before the thread starts. Nothing is allocated: the
 * caller embeds the structs.
 */
#ifndef PIPELINE_LOOP_H
#define PIPELINE_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

#include "base/err.h"
#include "base/thread.h"

struct loop_io {
    int fd;
    void (*ready)(struct loop_io *io, uint32_t events); /* may remove or free itself */
};

struct loop_timer {
    int64_t due_ms; /* 0: not set */
    void (*fire)(struct loop_timer *t);
    struct loop_timer *next;
};

struct loop_post {
    void (*run)(struct loop_post *p);
    struct loop_post *next;
    int queued; /* a post that is still queued is not queued twice; guarded by the loop's lock */
};

enum { LOOP_TURN = 16 };

struct loop {
    int epoll_fd;
    int wake_fd;
    int stop;
    struct loop_timer *timers; /* sorted by due_ms */
    struct mutex lock;         /* guards posts */
    struct loop_post *posts;
    struct loop_post **posts_end;
    struct epoll_event turn[LOOP_TURN]; /* the events being handled now; removed ios are blanked */
    int turn_n;
};

int pipeline_loop_init(struct loop *l, struct err *err) MUST_USE;
void pipeline_loop_destroy(struct loop *l);
void pipeline_loop_run(struct loop *l); /* until pipeline_loop_stop() */
void pipeline_loop_stop(struct loop *l);

int pipeline_loop_add(struct loop *l, struct loop_io *io, uint32_t events,
                      struct err *err) MUST_USE;
void pipeline_loop_change(struct loop *l, struct loop_io *io, uint32_t events);
void pipeline_loop_remove(struct loop *l, struct loop_io *io); /* does not close */

void pipeline_loop_timer_set(struct loop *l, struct loop_timer *t,
                             int64_t delay_ms); /* replaces an earlier set */
void pipeline_loop_timer_clear(struct loop *l, struct loop_timer *t);

/* Any thread: runs p->run on the loop's thread soon. No effect while it is still queued. */
void pipeline_loop_post(struct loop *l, struct loop_post *p);
/* Loop thread: forgets a queued post, so that what embeds it can be freed. */
void pipeline_loop_post_cancel(struct loop *l, struct loop_post *p);

#endif
