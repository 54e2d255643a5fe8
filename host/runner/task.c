/*
 * A task's thread and what other threads hand to it: commands, answers, results of commits. The thread is made
 * at the first START and then waits for the next one; an instance lives inside one START.
 *
 * Threads: as runner_int.h says at each function. The order of locks: a task's lock is never held while a
 * frame is sent or a plugin is called.
 */
#include "runner_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static struct runner_cmd *cmd_copy(const struct link_frame *f)
{
    struct runner_cmd *c = malloc(sizeof(*c) + f->payload.len);
    if (c != NULL) {
        uint8_t *bytes = (uint8_t *)(c + 1);
        memcpy(bytes, f->payload.ptr, f->payload.len);
        c->next = NULL;
        c->frame = *f;
        c->frame.payload.ptr = bytes;
    }
    return c;
}

static _Noreturn void die_of_memory(struct runner *r)
{
    struct runner_fail fail;
    (void)runner_fail_set(&fail, LINK_STAGE_NONE, CTD_E_NOMEM, "the runner is out of memory");
    runner_die(r, &fail);
}

/* ---- to the task ---- */

struct runner_task *runner_task_get(struct runner *r, uint32_t index)
{
    if (index >= r->hello.max_tasks) {
        return NULL;
    }
    mutex_lock(&r->tasks_lock);
    struct runner_task *t = r->tasks[index];
    mutex_unlock(&r->tasks_lock);
    return t;
}

void runner_task_post(struct runner_task *t, const struct link_frame *f)
{
    struct runner_cmd *c = cmd_copy(f);
    if (c == NULL) {
        die_of_memory(t->runner);
    }
    mutex_lock(&t->lock);
    *t->cmds_end = c;
    t->cmds_end = &c->next;
    cond_broadcast(&t->wake);
    mutex_unlock(&t->lock);
}

/* Calls the instance's cancel(), unless there is none to call it on or that has been done. */
static void cancel(struct runner_task *t)
{
    struct runner *r = t->runner;
    const ctd_class_ops *ops = r->class->ops;
    mutex_lock(&t->lock);
    int go = t->cancellable && !t->cancelled;
    t->cancelled |= go;
    t->cancel_running = go;
    void *self = t->self;
    mutex_unlock(&t->lock);
    if (!go) {
        return;
    }
    runner_stage_enter(&r->stages, RUNNER_LANE_TASK, LINK_STAGE_CANCEL);
    if (r->class->kind == CTD_KIND_SOURCE) {
        ((const ctd_source *)(const void *)ops)->cancel(self);
    } else if (CTD_HAS_OP((const ctd_sink *)(const void *)ops, cancel)) {
        ((const ctd_sink *)(const void *)ops)->cancel(self);
    }
    runner_stage_leave(&r->stages, RUNNER_LANE_TASK);
    mutex_lock(&t->lock);
    t->cancel_running = 0;
    cond_broadcast(&t->wake);
    mutex_unlock(&t->lock);
}

void runner_task_stop(struct runner_task *t, const struct link_frame *f)
{
    mutex_lock(&t->lock);
    t->stopping++;
    t->stop_since_ms = clock_mono_ms();
    mutex_unlock(&t->lock);
    runner_task_post(t, f);
    if (t->runner->class->kind == CTD_KIND_SOURCE) {
        cancel(t);
    }
}

int runner_task_watch(struct runner_task *t)
{
    mutex_lock(&t->lock);
    int waits = t->stopping && t->cancellable && !t->cancelled;
    int64_t due_ms = t->stop_since_ms + RUNNER_CANCEL_AFTER_MS;
    mutex_unlock(&t->lock);
    int64_t left = due_ms - clock_mono_ms();
    if (!waits) {
        return -1;
    }
    if (left > 0) {
        return (int)left;
    }
    cancel(t);
    return -1;
}

void runner_task_answer(struct runner_task *t, uint64_t request, const struct link_frame *f)
{
    struct runner_cmd *c = cmd_copy(f);
    if (c == NULL) {
        die_of_memory(t->runner);
    }
    mutex_lock(&t->lock);
    if (request == t->answer_request && t->answer == NULL) {
        t->answer = c;
        c = NULL;
        cond_broadcast(&t->wake);
    }
    mutex_unlock(&t->lock);
    free(c); /* an answer to a question that nobody waits for any more */
}

/* ---- units ---- */

struct runner_unit *runner_unit_new(struct runner_task *t)
{
    mutex_lock(&t->lock);
    struct runner_unit *u = t->spare;
    if (u != NULL) {
        t->spare = u->next;
    }
    mutex_unlock(&t->lock);
    if (u == NULL) {
        u = calloc(1, sizeof(*u));
    }
    if (u != NULL) {
        u->next = NULL;
        u->n_appends = 0;
        u->n_records = 0;
    }
    return u;
}

static void unit_free(struct runner_unit *u)
{
    if (u != NULL) {
        free(u->appends);
        free(u->records);
        free(u);
    }
}

void runner_unit_drop(struct runner_task *t, struct runner_unit *u)
{
    if (u == NULL) {
        return;
    }
    mutex_lock(&t->lock);
    int keep = t->spare == NULL || t->spare->next == NULL;
    if (keep) {
        u->next = t->spare;
        t->spare = u;
    }
    mutex_unlock(&t->lock);
    if (!keep) {
        unit_free(u);
    }
}

int runner_task_wants_results(const struct runner_task *t)
{
    const struct runner *r = t->runner;
    return r->class->kind == CTD_KIND_SOURCE &&
           CTD_HAS_OP((const ctd_source *)(const void *)r->class->ops, on_result);
}

static void note_answer(struct runner_unit *u, const struct link_committed *f)
{
    u->status = f->status;
    u->flush = f->flush;
    size_t n = f->n_results < u->n_appends ? f->n_results : u->n_appends;
    for (size_t i = 0; i < n; i++) {
        u->appends[i].base_offset = f->results[i].base_offset;
    }
    if (f->status == 0 && f->n_results != u->n_appends) {
        u->status = ERR_DATA;
    }
}

/* Takes the first unit in flight out: to the ack thread, or to `drop`. t->lock is held. */
static void finish_first(struct runner_task *t, int to_ack, struct runner_unit **drop)
{
    struct runner_unit *u = t->in_flight;
    t->in_flight = u->next;
    if (t->in_flight == NULL) {
        t->in_flight_end = &t->in_flight;
    }
    if (to_ack) {
        u->next = NULL;
        *t->acked_end = u;
        t->acked_end = &u->next;
        return;
    }
    t->window_used -= u->bytes;
    t->n_undone--;
    u->next = *drop;
    *drop = u;
}

void runner_task_committed(struct runner_task *t, const struct link_committed *f)
{
    int to_ack = runner_task_wants_results(t);
    struct runner_unit *drop = NULL;
    mutex_lock(&t->lock);
    struct runner_unit *u = t->in_flight;
    if (u == NULL || u->seq != f->seq) { /* of an earlier start, which has been given up */
        mutex_unlock(&t->lock);
        return;
    }
    note_answer(u, f);
    int status = u->status;
    finish_first(t, to_ack, &drop);
    if (status != 0) {
        /* The host answers the first failure only: what was sent behind it has failed too. */
        while (t->in_flight != NULL) {
            t->in_flight->status = status;
            finish_first(t, to_ack, &drop);
        }
        t->commit_status = status;
        (void)snprintf(t->commit_message, sizeof(t->commit_message), "%.*s",
                       (int)(f->message.len < 255 ? f->message.len : 255),
                       f->message.ptr != NULL ? (const char *)f->message.ptr
                                              : "the host gave no reason");
    }
    cond_broadcast(&t->wake);
    mutex_unlock(&t->lock);
    while (drop != NULL) {
        u = drop;
        drop = u->next;
        runner_unit_drop(t, u);
    }
}

int runner_task_commit(struct runner_task *t, struct link_commit *c, struct runner_unit *u,
                       struct runner_fail *fail)
{
    u->seq = c->seq = t->next_seq++;
    u->status = 0;
    t->frame.limit = LINK_DATA_MAX;
    link_put_commit(&t->frame, t->index, c);
    if (t->frame.error != 0) {
        int status = t->frame.error == ERR_NOMEM ? CTD_E_NOMEM : CTD_E_DATA;
        buf_clear(&t->frame);
        runner_unit_drop(t, u);
        return runner_fail_set(fail, LINK_STAGE_CONVERT, status, RUNNER_UNIT_TOO_LARGE,
                               LINK_DATA_MAX);
    }
    u->bytes = t->frame.len;
    mutex_lock(&t->lock);
    *t->in_flight_end = u;
    t->in_flight_end = &u->next;
    t->window_used += u->bytes;
    t->n_undone++;
    mutex_unlock(&t->lock);
    runner_send_data(t->runner, &t->frame);
    return 0;
}

int runner_task_settle(struct runner_task *t, int64_t wait_ms)
{
    int64_t deadline_ms = clock_mono_ms() + wait_ms;
    mutex_lock(&t->lock);
    while (t->n_undone > 0 && clock_mono_ms() < deadline_ms) {
        (void)cond_wait_until(&t->wake, &t->lock, deadline_ms);
    }
    int settled = t->n_undone == 0;
    mutex_unlock(&t->lock);
    return settled;
}

/* ---- from the task ---- */

/* RECORDS wait, and the sink may be given them. */
static int data_ready(const struct runner_task *t)
{
    return t->queue != NULL && t->take_data && t->held_bytes < t->runner->hello.hold_bytes;
}

struct runner_cmd *runner_task_next(struct runner_task *t, int64_t deadline_ms)
{
    mutex_lock(&t->lock);
    while (t->cmds == NULL && !data_ready(t) && t->commit_status == 0) {
        if (deadline_ms == INT64_MAX) {
            cond_wait(&t->wake, &t->lock);
        } else if (deadline_ms == 0 || clock_mono_ms() >= deadline_ms) {
            break;
        } else {
            (void)cond_wait_until(&t->wake, &t->lock, deadline_ms);
        }
    }
    struct runner_cmd *c = t->cmds;
    if (c != NULL) {
        t->cmds = c->next;
        if (t->cmds == NULL) {
            t->cmds_end = &t->cmds;
        }
        t->stop_taken |= c->frame.type == LINK_STOP;
    }
    mutex_unlock(&t->lock);
    return c;
}

struct runner_cmd *runner_task_ask(struct runner_task *t, uint64_t request, struct buf *question)
{
    mutex_lock(&t->lock);
    t->answer_request = request;
    mutex_unlock(&t->lock);
    runner_send_control(t->runner, question);
    mutex_lock(&t->lock);
    while (t->answer == NULL && !t->stopping) {
        cond_wait(&t->wake, &t->lock);
    }
    struct runner_cmd *c = t->answer;
    t->answer = NULL;
    t->answer_request = 0;
    mutex_unlock(&t->lock);
    return c;
}

/* ---- the task thread ---- */

/* Config, converters, instance. The task's resources are freed by task_teardown(), also after a failure. */
static int task_setup(struct runner_task *t, const struct link_frame *f, struct runner_fail *fail)
{
    struct runner *r = t->runner;
    struct err err = ERR_INIT;
    struct link_start start;
    t->next_seq = 1;
    int rc = link_get_start(f, t->arena, &start, &err);
    if (rc != 0) {
        return runner_fail_err(fail, LINK_STAGE_CREATE, &err);
    }
    t->config = runner_config_new(r->class, r->hello.config, r->hello.n_config, start.config,
                                  start.n_config);
    if (t->config == NULL) {
        return runner_fail_set(fail, LINK_STAGE_CREATE, CTD_E_NOMEM, "out of memory");
    }
    runner_host_init(&t->host, r, t, (int32_t)start.n_tasks);
    rc = runner_converter_make(&t->key, t->config, &t->host.api, 1, fail);
    if (rc == 0) {
        rc = runner_converter_make(&t->value, t->config, &t->host.api, 0, fail);
    }
    if (rc != 0) {
        return rc;
    }
    ctd_error e;
    runner_error_preset(&e);
    void *self = NULL;
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_CREATE);
    ctd_status status = r->class->ops->create(&t->host.api, t->config, &self, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    if (status != CTD_OK) {
        return runner_fail_call(fail, LINK_STAGE_CREATE, status, &e);
    }
    mutex_lock(&t->lock);
    t->self = self;
    t->started = 1; /* there is an instance to destroy */
    t->cancelled = 0;
    t->cancellable = 1;
    mutex_unlock(&t->lock);
    return 0;
}

static void task_teardown(struct runner_task *t)
{
    mutex_lock(&t->lock);
    t->cancellable = 0;
    while (t->cancel_running) {
        cond_wait(&t->wake, &t->lock);
    }
    mutex_unlock(&t->lock);
    if (t->started) {
        runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_DESTROY);
        t->runner->class->ops->destroy(t->self);
        runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    }
    t->started = 0;
    t->self = NULL;
    runner_converter_free(&t->key);
    runner_converter_free(&t->value);
    runner_config_free(t->config);
    t->config = NULL;
    buf_free(&t->frame);
    arena_reset(t->arena);
    arena_reset(t->offset_arena);
}

/* Forgets what the host hasn't answered. Its answers, if they still come, come before the next START. */
static void forget_units(struct runner_task *t)
{
    mutex_lock(&t->lock);
    struct runner_unit *u = t->in_flight;
    t->in_flight = NULL;
    t->in_flight_end = &t->in_flight;
    t->window_used = 0;
    t->n_undone = 0;
    t->commit_status = 0;
    mutex_unlock(&t->lock);
    while (u != NULL) {
        struct runner_unit *next = u->next;
        unit_free(u);
        u = next;
    }
}

static void run_once(struct runner_task *t, const struct link_frame *start)
{
    struct runner *r = t->runner;
    struct runner_fail fail = {0};
    int rc = task_setup(t, start, &fail);
    if (rc == 0) {
        rc = r->class->kind == CTD_KIND_SOURCE ? runner_source_run(t, &fail)
                                               : runner_sink_run(t, &fail);
    }
    task_teardown(t);
    forget_units(t);
    mutex_lock(&t->lock);
    int stopped = t->stopping > 0 && (rc == 0 || rc == CTD_E_CANCELLED);
    t->stopping -= t->stop_taken;
    mutex_unlock(&t->lock);
    if (!stopped) {
        runner_send_fail(r, LINK_FAILED, t->index, &fail);
    } else if (t->stop_taken) {
        runner_send_empty(r, LINK_STOPPED, t->index);
    } /* else the STOP is still among the commands: task_thread() answers it */
    t->stop_taken = 0;
}

static void *task_thread(void *arg)
{
    struct runner_task *t = arg;
    for (;;) {
        struct runner_cmd *c = runner_task_next(t, INT64_MAX);
        if (c->frame.type == LINK_START) {
            run_once(t, &c->frame);
        } else if (c->frame.type == LINK_STOP) { /* crossed with a failure, or never started */
            mutex_lock(&t->lock);
            t->stopping--;
            mutex_unlock(&t->lock);
            runner_send_empty(t->runner, LINK_STOPPED, t->index);
            t->stop_taken = 0;
        }
        free(c);
    }
    return NULL;
}

int runner_task_make(struct runner *r, uint32_t index, struct err *err)
{
    struct runner_task *t = calloc(1, sizeof(*t));
    struct arena *a = arena_new((size_t)512 << 20);
    struct arena *b = arena_new(0);
    if (t == NULL || a == NULL || b == NULL) {
        free(t);
        arena_free(a);
        arena_free(b);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    t->runner = r;
    t->index = index;
    t->arena = a;
    t->offset_arena = b;
    t->cmds_end = &t->cmds;
    t->in_flight_end = &t->in_flight;
    t->acked_end = &t->acked;
    t->queue_end = &t->queue;
    runner_stages_init(&t->stages, &r->shared->task[index]);
    mutex_init(&t->lock);
    cond_init(&t->wake);
    mutex_lock(&r->tasks_lock);
    r->tasks[index] = t;
    mutex_unlock(&r->tasks_lock);
    char name[16];
    (void)snprintf(name, sizeof(name), "task-%u", index % 100000000u);
    return thread_start(&t->thread, name, task_thread, t, err);
}
