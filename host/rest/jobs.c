/* Jobs and the workers that run them: see rest_int.h. */
#include "rest/rest_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static void list_append(struct job_list *l, struct job *j)
{
    j->prev = l->last;
    j->next = NULL;
    if (l->last != NULL) {
        l->last->next = j;
    } else {
        l->first = j;
    }
    l->last = j;
}

static void list_remove(struct job_list *l, struct job *j)
{
    if (j->prev != NULL) {
        j->prev->next = j->next;
    } else {
        l->first = j->next;
    }
    if (j->next != NULL) {
        j->next->prev = j->prev;
    } else {
        l->last = j->prev;
    }
    j->prev = NULL;
    j->next = NULL;
}

static void enqueue(struct job *j)
{
    j->state = JOB_QUEUED;
    list_append(&j->rest->queue, j);
    cond_signal(&j->rest->work);
}

static void on_gone(void *arg)
{
    struct job *j = arg;
    mutex_lock(&j->rest->lock);
    j->gone = 1;
    mutex_unlock(&j->rest->lock);
    rest_job_wake(j);
}

void rest_job_start(struct rest *r, struct net_request *req, enum net_method method,
                    const char *const *seg, int n_seg, void (*step)(struct job *j))
{
    struct job *j = calloc(1, sizeof(*j));
    if (j == NULL) {
        net_reply_error(req, 503, "out of memory");
        return;
    }
    j->rest = r;
    j->req = req;
    j->method = method;
    for (int i = 0; i < n_seg; i++) {
        j->seg[i] = seg[i];
    }
    j->n_seg = n_seg;
    j->step = step;
    j->state = JOB_RUNNING; /* until it is queued, so that a hang-up only leaves its mark */
    net_request_on_gone(req, on_gone, j);
    mutex_lock(&r->lock);
    r->n_jobs++;
    enqueue(j);
    mutex_unlock(&r->lock);
}

void rest_job_wait(struct job *j, int64_t deadline_ms)
{
    struct rest *r = j->rest;
    mutex_lock(&r->lock);
    j->deadline_ms = deadline_ms;
    if (j->woken) {
        enqueue(j);
    } else {
        j->state = JOB_WAITING;
        list_append(&r->waiting, j);
        cond_signal(&r->work); /* a sleeping worker learns of the deadline */
    }
    mutex_unlock(&r->lock);
}

void rest_job_wake(void *job)
{
    struct job *j = job;
    struct rest *r = j->rest;
    mutex_lock(&r->lock);
    j->woken = 1;
    if (j->state == JOB_WAITING) {
        list_remove(&r->waiting, j);
        enqueue(j);
    }
    mutex_unlock(&r->lock);
}

int rest_job_is_gone(struct job *j)
{
    mutex_lock(&j->rest->lock);
    int ret = j->gone;
    mutex_unlock(&j->rest->lock);
    return ret;
}

/* Queues the jobs whose deadline has come; returns the next deadline. */
static int64_t expire(struct rest *r)
{
    int64_t now = clock_mono_ms();
    int64_t next = INT64_MAX;
    for (struct job *j = r->waiting.first; j != NULL;) {
        struct job *after = j->next;
        if (j->deadline_ms <= now) {
            list_remove(&r->waiting, j);
            enqueue(j);
        } else if (j->deadline_ms < next) {
            next = j->deadline_ms;
        }
        j = after;
    }
    return next;
}

void *rest_worker(void *arg)
{
    struct rest *r = arg;
    mutex_lock(&r->lock);
    while (!r->stopping || r->n_jobs > 0) {
        int64_t next = expire(r);
        struct job *j = r->queue.first;
        if (j == NULL && next == INT64_MAX) {
            cond_wait(&r->work, &r->lock);
        } else if (j == NULL) {
            (void)cond_wait_until(&r->work, &r->lock, next);
        } else {
            list_remove(&r->queue, j);
            j->state = JOB_RUNNING;
            j->woken = 0;
            mutex_unlock(&r->lock);
            j->step(j);
            mutex_lock(&r->lock);
        }
    }
    cond_broadcast(&r->work);
    mutex_unlock(&r->lock);
    return NULL;
}
