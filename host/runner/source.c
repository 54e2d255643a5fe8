/*
 * A source task: poll, pack, commit; and its ack thread, which hands the results of commits to on_result().
 * What is in flight is bounded by the host's window: a unit counts until the host has answered and, where the class
 * wants results, on_result() has returned.
 *
 * Threads: the task thread, but for ack_*, which is the ack thread's.
 */
#include "runner_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { MAX_POLL_RECORDS = 1 << 24, IDLE_FIRST_MS = 10, IDLE_MAX_MS = 100 };

struct source {
    struct runner_task *t;
    const ctd_source *ops;
    struct runner_packer packer;
    uint64_t next_record; /* first_seq of the next batch */
    int64_t retry_ms;     /* of poll(); 0: the last one didn't ask for it */
    int64_t idle_ms;      /* how long to wait after a poll that came back at once with nothing */
    int paused;
    pthread_t ack;
    int has_ack;
};

/* ---- the ack thread ---- */

static void ack_unit(struct runner_task *t, const ctd_source *ops, struct runner_unit *u,
                     ctd_result *out)
{
    for (uint64_t i = 0; i < u->n_records; i++) {
        const struct runner_unit_append *a = &u->appends[u->records[i].append];
        out[i] = (ctd_result){.outcome = u->status == 0 ? CTD_DURABLE : CTD_FAILED,
                              .partition = a->partition,
                              .offset = u->status == 0 ? a->base_offset + u->records[i].index : -1,
                              .topic = {a->topic->slice.ptr, a->topic->slice.len},
                              .status = u->status == 0              ? CTD_OK
                                        : u->status >= CTD_E_FENCED ? u->status
                                                                    : CTD_E_RETRIABLE,
                              .flush = u->flush,
                              .retry_after_ms = -1};
    }
    runner_stage_enter(&t->stages, RUNNER_LANE_ACK, LINK_STAGE_ON_RESULT);
    ops->on_result(t->self, u->first_seq, out, u->n_records);
    runner_stage_leave(&t->stages, RUNNER_LANE_ACK);
}

static struct runner_unit *ack_next(struct runner_task *t)
{
    mutex_lock(&t->lock);
    while (t->acked == NULL && !t->ack_quit) {
        cond_wait(&t->wake, &t->lock);
    }
    struct runner_unit *u = t->acked;
    if (u != NULL) {
        t->acked = u->next;
        if (t->acked == NULL) {
            t->acked_end = &t->acked;
        }
    }
    mutex_unlock(&t->lock);
    return u;
}

static void *ack_thread(void *arg)
{
    struct source *s = arg;
    struct runner_task *t = s->t;
    ctd_result *results = NULL;
    uint64_t cap = 0;
    for (struct runner_unit *u = ack_next(t); u != NULL; u = ack_next(t)) {
        if (u->n_records > cap) {
            free(results);
            cap = u->n_records;
            results = malloc(cap * sizeof(*results));
        }
        if (results == NULL) {
            struct runner_fail fail;
            (void)runner_fail_set(&fail, LINK_STAGE_ON_RESULT, CTD_E_NOMEM, "out of memory");
            runner_die(t->runner, &fail);
        }
        ack_unit(t, s->ops, u, results);
        mutex_lock(&t->lock);
        t->window_used -= u->bytes;
        t->n_undone--;
        cond_broadcast(&t->wake);
        mutex_unlock(&t->lock);
        runner_unit_drop(t, u);
    }
    free(results);
    return NULL;
}

/* ---- commands ---- */

/* Handles what has arrived; 1 when the task is to stop. */
static int take_commands(struct source *s)
{
    for (;;) {
        struct runner_cmd *c = runner_task_next(s->t, 0);
        if (c == NULL) {
            return 0;
        }
        struct err err = ERR_INIT;
        int stop = c->frame.type == LINK_STOP;
        if (c->frame.type == LINK_PAUSE) {
            s->paused = 1;
        } else if (c->frame.type == LINK_RESUME) {
            s->paused = 0;
        } else if (c->frame.type == LINK_TOPIC &&
                   runner_topic_news(s->packer.topics, &c->frame, &err) != 0) {
            runner_send_log(s->t->runner, s->t->index, CTD_LOG_ERROR, err.msg);
        }
        free(c);
        if (stop) {
            return 1;
        }
    }
}

/* Waits for a command, at most `ms` (INT64_MAX: for ever). It stays queued. */
static void wait_command(struct runner_task *t, int64_t ms)
{
    int64_t deadline_ms = ms == INT64_MAX ? INT64_MAX : clock_mono_ms() + ms;
    mutex_lock(&t->lock);
    while (t->cmds == NULL && t->commit_status == 0) {
        if (deadline_ms == INT64_MAX) {
            cond_wait(&t->wake, &t->lock);
        } else if (clock_mono_ms() >= deadline_ms) {
            break;
        } else {
            (void)cond_wait_until(&t->wake, &t->lock, deadline_ms);
        }
    }
    mutex_unlock(&t->lock);
}

/* Waits until another unit may be sent. 0 when a command or a failed commit came first. */
static int window_open(struct runner_task *t)
{
    mutex_lock(&t->lock);
    while (t->window_used >= t->runner->hello.window_bytes && t->n_undone > 0 && t->cmds == NULL &&
           t->commit_status == 0) {
        cond_wait(&t->wake, &t->lock);
    }
    int open = t->cmds == NULL && t->commit_status == 0;
    mutex_unlock(&t->lock);
    return open;
}

static int commit_failed(struct runner_task *t, struct runner_fail *fail)
{
    mutex_lock(&t->lock);
    int status = t->commit_status;
    if (status != 0) {
        (void)runner_fail_set(fail, LINK_STAGE_NONE, status, "records were not committed: %s",
                              t->commit_message);
    }
    mutex_unlock(&t->lock);
    return status;
}

/* ---- poll ---- */

static int check_batch(const ctd_batch *b, struct runner_fail *fail)
{
    if (b->n > 0 && (b->records == NULL || b->release == NULL)) {
        return runner_fail_abi(fail, LINK_STAGE_POLL,
                               "poll() gave %llu records with records %s and release %s",
                               (unsigned long long)b->n, b->records == NULL ? "NULL" : "set",
                               b->release == NULL ? "NULL" : "set");
    }
    if (b->n > MAX_POLL_RECORDS) {
        return runner_fail_abi(fail, LINK_STAGE_POLL, "poll() gave %llu records, at most %d",
                               (unsigned long long)b->n, MAX_POLL_RECORDS);
    }
    return 0;
}

static int take_batch(struct source *s, ctd_batch *b, struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    int rc = check_batch(b, fail);
    if (rc != 0) {
        return rc;
    }
    if (b->n > 0) {
        runner_stage_moved(&t->stages, b->n);
        b->first_seq = s->next_record;
        s->next_record += b->n;
        struct runner_unit *u = runner_unit_new(t);
        rc = u != NULL ? runner_pack(t, &s->packer, b, clock_wall_ms(), u, fail)
                       : runner_fail_set(fail, LINK_STAGE_POLL, CTD_E_NOMEM, "out of memory");
    }
    if (b->release != NULL) {
        b->release(b);
        if (b->release != NULL && rc == 0) {
            rc = runner_fail_abi(fail, LINK_STAGE_POLL,
                                 "a batch's release() did not set itself to NULL");
        }
    }
    return rc;
}

/* A source that asks for another try waits longer each time, as it says or by our own steps. */
static void back_off(struct source *s, const struct runner_fail *fail)
{
    s->retry_ms = s->retry_ms == 0 ? RUNNER_RETRY_FIRST_MS : 2 * s->retry_ms;
    s->retry_ms = s->retry_ms > RUNNER_RETRY_MAX_MS ? RUNNER_RETRY_MAX_MS : s->retry_ms;
    runner_send_fail(s->t->runner, LINK_NOTE, s->t->index, fail);
    wait_command(s->t, fail->retry_after_ms >= 0 ? fail->retry_after_ms : s->retry_ms);
}

/* An idle source may return at once: it isn't asked again at once then. */
static void rest(struct source *s, int64_t took_ms)
{
    if (took_ms >= IDLE_FIRST_MS) {
        s->idle_ms = 0;
        return;
    }
    s->idle_ms = s->idle_ms == 0 ? IDLE_FIRST_MS : 2 * s->idle_ms;
    s->idle_ms = s->idle_ms > IDLE_MAX_MS ? IDLE_MAX_MS : s->idle_ms;
    wait_command(s->t, s->idle_ms);
}

static int poll_once(struct source *s, struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    ctd_batch batch;
    ctd_error e;
    memset(&batch, 0, sizeof(batch));
    runner_error_preset(&e);
    int64_t began_ms = clock_mono_ms();
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_POLL);
    ctd_status status = s->ops->poll(t->self, RUNNER_POLL_RECORDS, RUNNER_POLL_MS, &batch, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    if (status == CTD_OK) {
        s->retry_ms = 0;
        int idle = batch.n == 0; /* release() may clear it */
        int rc = take_batch(s, &batch, fail);
        if (rc == 0 && idle) {
            rest(s, clock_mono_ms() - began_ms);
        } else {
            s->idle_ms = 0;
        }
        return rc;
    }
    int rc = runner_fail_call(fail, LINK_STAGE_POLL, status, &e);
    if (rc == CTD_E_RETRIABLE) {
        back_off(s, fail);
        return 0;
    }
    return rc;
}

static int is_stopping(struct runner_task *t)
{
    mutex_lock(&t->lock);
    int stopping = t->stopping > 0;
    mutex_unlock(&t->lock);
    return stopping;
}

/* 0: stopped as asked. */
static int poll_loop(struct source *s, struct runner_fail *fail)
{
    for (;;) {
        if (take_commands(s)) {
            return 0;
        }
        int rc = commit_failed(s->t, fail);
        if (rc != 0) {
            return rc;
        }
        if (s->paused) {
            wait_command(s->t, INT64_MAX);
        } else if (window_open(s->t)) {
            rc = poll_once(s, fail);
        }
        if (rc == CTD_E_CANCELLED && is_stopping(s->t)) {
            s->paused = 1; /* the STOP is among the commands, or just about to be */
        } else if (rc != 0) {
            return rc;
        }
    }
}

/* ---- from start to stop ---- */

static int start(struct source *s, struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    ctd_error e;
    runner_error_preset(&e);
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_START);
    ctd_status status = s->ops->start(t->self, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    if (status != CTD_OK) {
        return runner_fail_call(fail, LINK_STAGE_START, status, &e);
    }
    if (runner_task_wants_results(t)) {
        struct err err = ERR_INIT;
        t->ack_quit = 0;
        int rc = thread_start(&s->ack, "ack", ack_thread, s, &err);
        if (rc != 0) {
            return runner_fail_err(fail, LINK_STAGE_START, &err);
        }
        s->has_ack = 1;
    }
    runner_send_empty(t->runner, LINK_STARTED, t->index);
    return 0;
}

/* Waits for results, ends the ack thread, then stop(). Returns `rc`, or what stop() failed with. */
static int finish(struct source *s, int rc, struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    (void)runner_task_settle(t, RUNNER_RESULTS_WAIT_MS);
    if (s->has_ack) {
        mutex_lock(&t->lock);
        t->ack_quit = 1;
        cond_broadcast(&t->wake);
        mutex_unlock(&t->lock);
        thread_join(s->ack);
    }
    if (rc == 0) {
        rc = commit_failed(t, fail);
    }
    ctd_error e;
    runner_error_preset(&e);
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_STOP);
    ctd_status status = s->ops->stop(t->self, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    if (rc == 0 && status != CTD_OK) {
        rc = runner_fail_call(fail, LINK_STAGE_STOP, status, &e);
    }
    return rc;
}

int runner_source_run(struct runner_task *t, struct runner_fail *fail)
{
    struct source s = {.t = t};
    s.ops = (const ctd_source *)(const void *)t->runner->class->ops;
    s.packer.offsets.limit = LINK_DATA_MAX;
    int rc = start(&s, fail);
    if (rc == 0) {
        rc = finish(&s, poll_loop(&s, fail), fail);
    }
    runner_packer_free(&s.packer);
    return rc;
}
