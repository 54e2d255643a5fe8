/* Event loop of the core thread. */
#include "pipeline/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

#define MAX_DELAY_MS ((int64_t)366 * 86400 * 1000)

int pipeline_loop_init(struct loop *l, struct err *err)
{
    memset(l, 0, sizeof(*l));
    l->posts_end = &l->posts;
    mutex_init(&l->lock);
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epoll_fd < 0 || l->wake_fd < 0) {
        return err_set_errno(err, ERR_IO, "cannot make the event loop");
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = l};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &ev) != 0) {
        return err_set_errno(err, ERR_IO, "cannot make the event loop");
    }
    return 0;
}

void pipeline_loop_destroy(struct loop *l)
{
    if (l->epoll_fd > 0) {
        (void)close(l->epoll_fd);
    }
    if (l->wake_fd > 0) {
        (void)close(l->wake_fd);
    }
    mutex_destroy(&l->lock);
}

void pipeline_loop_stop(struct loop *l)
{
    l->stop = 1;
}

int pipeline_loop_add(struct loop *l, struct loop_io *io, uint32_t events, struct err *err)
{
    struct epoll_event ev = {.events = events, .data.ptr = io};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, io->fd, &ev) != 0) {
        return err_set_errno(err, ERR_IO, "cannot watch descriptor %d", io->fd);
    }
    return 0;
}

void pipeline_loop_change(struct loop *l, struct loop_io *io, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = io};
    BUG_ON(epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, io->fd, &ev) != 0);
}

void pipeline_loop_remove(struct loop *l, struct loop_io *io)
{
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
    for (int i = 0; i < l->turn_n; i++) {
        if (l->turn[i].data.ptr == io) {
            l->turn[i].data.ptr = NULL;
        }
    }
}

void pipeline_loop_timer_set(struct loop *l, struct loop_timer *t, int64_t delay_ms)
{
    pipeline_loop_timer_clear(l, t);
    delay_ms = delay_ms < 0 ? 0 : delay_ms > MAX_DELAY_MS ? MAX_DELAY_MS : delay_ms;
    t->due_ms = clock_mono_ms() + delay_ms;
    struct loop_timer **at = &l->timers;
    while (*at != NULL && (*at)->due_ms <= t->due_ms) {
        at = &(*at)->next;
    }
    t->next = *at;
    *at = t;
}

void pipeline_loop_timer_clear(struct loop *l, struct loop_timer *t)
{
    if (t->due_ms == 0) {
        return;
    }
    for (struct loop_timer **at = &l->timers; *at != NULL; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            break;
        }
    }
    t->due_ms = 0;
    t->next = NULL;
}

void pipeline_loop_post(struct loop *l, struct loop_post *p)
{
    mutex_lock(&l->lock);
    int was_empty = l->posts == NULL;
    if (!p->queued) {
        p->queued = 1;
        p->next = NULL;
        *l->posts_end = p;
        l->posts_end = &p->next;
    }
    if (was_empty) { /* within the lock: once it is released, the loop may be gone */
        uint64_t one = 1;
        ssize_t ignored = write(l->wake_fd, &one, sizeof(one));
        (void)ignored;
    }
    mutex_unlock(&l->lock);
}

void pipeline_loop_post_cancel(struct loop *l, struct loop_post *p)
{
    mutex_lock(&l->lock);
    for (struct loop_post **at = &l->posts; p->queued && *at != NULL; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            if (p->next == NULL) {
                l->posts_end = at;
            }
            p->queued = 0;
            break;
        }
    }
    mutex_unlock(&l->lock);
}

/* The oldest post, taken off the queue; NULL when there is none. */
static struct loop_post *take_post(struct loop *l)
{
    mutex_lock(&l->lock);
    struct loop_post *p = l->posts;
    if (p != NULL) {
        l->posts = p->next;
        if (l->posts == NULL) {
            l->posts_end = &l->posts;
        }
        p->queued = 0;
    }
    mutex_unlock(&l->lock);
    return p;
}

static void run_posts(struct loop *l)
{
    uint64_t count;
    ssize_t ignored = read(l->wake_fd, &count, sizeof(count));
    (void)ignored;
    struct loop_post *p;
    while ((p = take_post(l)) != NULL) {
        p->run(p);
    }
}

static void run_timers(struct loop *l)
{
    int64_t now = clock_mono_ms();
    while (l->timers != NULL && l->timers->due_ms <= now) {
        struct loop_timer *t = l->timers;
        l->timers = t->next;
        t->due_ms = 0;
        t->next = NULL;
        t->fire(t);
    }
}

void pipeline_loop_run(struct loop *l)
{
    while (!l->stop) {
        int64_t wait_ms = 1000;
        if (l->timers != NULL) {
            int64_t left = l->timers->due_ms - clock_mono_ms();
            wait_ms = left < 0 ? 0 : left < wait_ms ? left : wait_ms;
        }
        int n = epoll_wait(l->epoll_fd, l->turn, LOOP_TURN, (int)wait_ms);
        BUG_ON(n < 0 && errno != EINTR);
        l->turn_n = n > 0 ? n : 0;
        for (int i = 0; i < l->turn_n; i++) {
            void *who = l->turn[i].data.ptr;
            if (who == l) {
                run_posts(l);
            } else if (who != NULL) {
                struct loop_io *io = who;
                io->ready(io, l->turn[i].events);
            }
        }
        l->turn_n = 0;
        run_timers(l);
    }
}
