/*
 * A sink task: opens partitions, puts records, flushes, closes. Commands come before records; a batch that put()
 * wants again waits while commands go on.
 *
 * Threads: the task thread, but for runner_sink_queue() (data thread) and hold_release() (any).
 */
#include "runner_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { OVER_CAP_FLUSH_MS = 1000 };

/* ---- RECORDS in and out of the queue ---- */

static void give_credit(struct runner_task *t, uint64_t bytes)
{
    struct buf frame = BUF_INIT(64);
    link_put_credit(&frame, t->index, &(struct link_credit){.bytes = bytes});
    runner_send_control(t->runner, &frame);
    buf_free(&frame);
}

/* Not to be put: of an assignment that is over. */
static void drop_hold(struct runner_task *t, struct runner_hold *h)
{
    uint64_t bytes = h->frame.batches.len;
    runner_hold_put(t->runner, h);
    give_credit(t, bytes);
}

void runner_sink_queue(struct runner_task *t, struct runner_hold *h)
{
    mutex_lock(&t->lock);
    int queued = t->accepting;
    if (queued) {
        *t->queue_end = h;
        t->queue_end = &h->next;
        cond_broadcast(&t->wake);
    }
    mutex_unlock(&t->lock);
    if (!queued) {
        drop_hold(t, h);
    }
}

static struct runner_hold *next_hold(struct runner_task *t)
{
    mutex_lock(&t->lock);
    struct runner_hold *h = NULL;
    if (t->take_data && t->held_bytes < t->runner->hello.hold_bytes) {
        h = t->queue;
    }
    if (h != NULL) {
        t->queue = h->next;
        if (t->queue == NULL) {
            t->queue_end = &t->queue;
        }
        h->next = NULL;
    }
    mutex_unlock(&t->lock);
    return h;
}

static void drop_queue(struct runner_task *t)
{
    mutex_lock(&t->lock);
    t->accepting = 0;
    struct runner_hold *h = t->queue;
    t->queue = NULL;
    t->queue_end = &t->queue;
    mutex_unlock(&t->lock);
    while (h != NULL) {
        struct runner_hold *next = h->next;
        drop_hold(t, h);
        h = next;
    }
}

/* ---- put ---- */

/* ctd_batch.release: by the sink when it is done, or by us when it left the batch. */
static void hold_release(ctd_batch *b)
{
    struct runner_hold *h = b->priv;
    struct runner_task *t = h->task;
    b->release = NULL;
    mutex_lock(&t->lock);
    int kept = h->state == RUNNER_HOLD_KEPT;
    if (kept) {
        t->held_bytes -= h->counted;
        cond_broadcast(&t->wake);
    }
    h->state = RUNNER_HOLD_RELEASED;
    mutex_unlock(&t->lock);
    if (kept) {
        runner_hold_put(t->runner, h);
    }
}

/* put() was OK: the hold is the sink's now, or free again. */
static void settle_hold(struct runner_task *t, struct runner_hold *h)
{
    size_t counted = h->len + h->n_records * sizeof(*h->records) + arena_used(h->arena);
    mutex_lock(&t->lock);
    int ours = h->state == RUNNER_HOLD_RELEASED;
    if (!ours) {
        h->state = RUNNER_HOLD_KEPT;
        h->counted = counted;
        t->held_bytes += counted;
    }
    mutex_unlock(&t->lock);
    if (ours) {
        runner_hold_put(t->runner, h);
    }
}

/* The message says which record, where put() named one. */
static void name_record(const struct runner_hold *h, struct runner_fail *fail)
{
    const struct link_records *f = &h->frame;
    if (fail->record_index >= 0 && (uint64_t)fail->record_index < h->n_records) {
        runner_fail_prefix(fail, "%.*s-%d at offset %lld", (int)f->topic.len,
                           (const char *)f->topic.ptr, f->partition,
                           (long long)h->records[fail->record_index].offset);
    }
}

static void put_again_later(struct runner_sink *s, struct runner_hold *h,
                            const struct runner_fail *fail)
{
    s->retry_ms = s->retry_ms == 0 ? RUNNER_RETRY_FIRST_MS : 2 * s->retry_ms;
    s->retry_ms = s->retry_ms > RUNNER_RETRY_MAX_MS ? RUNNER_RETRY_MAX_MS : s->retry_ms;
    s->retry_due_ms =
        clock_mono_ms() + (fail->retry_after_ms >= 0 ? fail->retry_after_ms : s->retry_ms);
    s->retry = h;
    runner_send_fail(s->t->runner, LINK_NOTE, s->t->index, fail);
}

static int call_put(struct runner_sink *s, struct runner_hold *h, struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    ctd_batch batch = {
        .n = h->n_records, .records = h->records, .priv = h, .release = hold_release};
    ctd_error e;
    runner_error_preset(&e);
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_PUT);
    ctd_status status = s->ops->put(t->self, &batch, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    if (status == CTD_OK) {
        runner_stage_moved(&t->stages, h->n_records);
        if (batch.release != NULL) {
            hold_release(&batch);
        }
        return 0;
    }
    int rc = runner_fail_call(fail, LINK_STAGE_PUT, status, &e);
    name_record(h, fail);
    if (batch.release == NULL) {
        rc = runner_fail_abi(fail, LINK_STAGE_PUT, "put() failed (%s) and took the batch: %s",
                             err_name(status), e.message);
    }
    return rc;
}

/* Puts a decoded frame. Takes the hold. */
static int put_hold(struct runner_sink *s, struct runner_hold *h, struct runner_fail *fail)
{
    struct runner_sink_part *part =
        runner_parts_find(&s->parts, h->frame.topic, h->frame.partition);
    if (part == NULL || part->generation != h->frame.generation) {
        drop_hold(s->t, h);
        return 0;
    }
    int rc = 0;
    if (h->n_records > 0) {
        rc = call_put(s, h, fail);
    } else {
        h->state = RUNNER_HOLD_RELEASED;
    }
    if (rc == CTD_E_RETRIABLE) {
        put_again_later(s, h, fail);
        return 0;
    }
    if (rc != 0) { /* after an ABI breach the batch may still be the plugin's: it is left to it */
        if (!fail->abi) {
            runner_hold_put(s->t->runner, h);
        }
        return rc;
    }
    uint64_t bytes = h->frame.batches.len;
    part->position = h->frame.next_offset;
    s->dirty = 1;
    s->lowered = 0;
    s->retry_ms = 0;
    settle_hold(s->t, h);
    give_credit(s->t, bytes);
    return 0;
}

static int put_next(struct runner_sink *s, struct runner_fail *fail)
{
    struct runner_hold *h = next_hold(s->t);
    if (h == NULL) {
        return 0;
    }
    const struct runner_sink_part *part =
        runner_parts_find(&s->parts, h->frame.topic, h->frame.partition);
    if (part != NULL && part->generation == h->frame.generation) {
        int rc = runner_hold_decode(s->t, h, fail);
        if (rc != 0) {
            runner_hold_put(s->t->runner, h);
            return rc;
        }
    }
    return put_hold(s, h, fail);
}

/* ---- commands ---- */

static int check_opened(const ctd_assignment *a, const ctd_assignment *before, size_t n,
                        struct runner_fail *fail)
{
    for (size_t i = 0; i < n; i++) {
        if (!runner_assignment_same(&a[i], &before[i]) || a[i].offset < -1) {
            return runner_fail_abi(fail, LINK_STAGE_OPEN,
                                   "open() answered for a partition that it was not given, or "
                                   "with offset %lld",
                                   (long long)a[i].offset);
        }
    }
    return 0;
}

static int call_open(struct runner_sink *s, const struct link_parts *f, ctd_assignment *a,
                     struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    ctd_assignment *before = arena_zalloc(t->arena, (f->n_parts + 1) * sizeof(*before));
    if (before == NULL) {
        return runner_fail_set(fail, LINK_STAGE_OPEN, CTD_E_NOMEM, "out of memory");
    }
    memcpy(before, a, f->n_parts * sizeof(*a));
    if (!CTD_HAS_OP(s->ops, open) || f->n_parts == 0) {
        return 0;
    }
    ctd_error e;
    runner_error_preset(&e);
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_OPEN);
    ctd_status status = s->ops->open(t->self, a, f->n_parts, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    return status == CTD_OK ? check_opened(a, before, f->n_parts, fail)
                            : runner_fail_call(fail, LINK_STAGE_OPEN, status, &e);
}

static void answer_parts(struct runner_task *t, int type, const struct link_parts *f)
{
    struct buf frame = BUF_INIT(LINK_CONTROL_MAX);
    link_put_parts(&frame, type, t->index, f);
    runner_send_control(t->runner, &frame);
    buf_free(&frame);
}

static int get_parts(struct runner_sink *s, const struct link_frame *frame, int stage,
                     struct link_parts *ret, struct runner_fail *fail)
{
    struct err err = ERR_INIT;
    arena_reset(s->t->arena);
    int rc = link_get_parts(frame, s->t->arena, ret, &err);
    for (uint32_t i = 0; rc == 0 && i < ret->n_parts; i++) {
        if (ret->parts[i].topic.ptr == NULL) {
            rc = err_set(&err, ERR_DATA, "a partition without a topic");
        }
    }
    return rc == 0 ? 0 : runner_fail_err(fail, stage, &err);
}

static int handle_open(struct runner_sink *s, const struct link_frame *frame,
                       struct runner_fail *fail)
{
    struct link_parts f;
    int rc = get_parts(s, frame, LINK_STAGE_OPEN, &f, fail);
    if (rc != 0) {
        return rc;
    }
    ctd_assignment *a = arena_zalloc(s->t->arena, (f.n_parts + 1) * sizeof(*a));
    if (a == NULL) {
        return runner_fail_set(fail, LINK_STAGE_OPEN, CTD_E_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < f.n_parts; i++) {
        const struct link_part *p = &f.parts[i];
        a[i] = (ctd_assignment){.topic = {p->topic.ptr, p->topic.len},
                                .partition = p->partition,
                                .epoch = p->epoch,
                                .offset = p->offset};
        memcpy(a[i].topic_id, p->topic_id, sizeof(p->topic_id));
    }
    rc = call_open(s, &f, a, fail);
    if (rc != 0) {
        return rc;
    }
    s->generation = f.generation;
    for (uint32_t i = 0; i < f.n_parts; i++) {
        if (runner_parts_add(&s->parts, &f.parts[i], f.generation, a[i].offset) != 0) {
            return runner_fail_set(fail, LINK_STAGE_OPEN, CTD_E_NOMEM, "out of memory");
        }
        s->dirty |= a[i].offset >= 0 && a[i].offset != f.parts[i].offset;
        f.parts[i].offset = a[i].offset;
    }
    answer_parts(s->t, LINK_OPENED, &f);
    return 0;
}

static int call_close(struct runner_sink *s, const ctd_assignment *a, size_t n,
                      struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    if (!CTD_HAS_OP(s->ops, close) || n == 0) {
        return 0;
    }
    ctd_error e;
    runner_error_preset(&e);
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_CLOSE);
    ctd_status status = s->ops->close(t->self, a, n, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    return status == CTD_OK ? 0 : runner_fail_call(fail, LINK_STAGE_CLOSE, status, &e);
}

/* Flush, commit, wait for the host's answer: what comes before partitions are given away. */
static int flush_for_good(struct runner_sink *s, struct runner_fail *fail)
{
    int rc = 0;
    if (s->dirty) {
        rc = runner_flush(s, 1, fail);
    }
    if (rc == 0) {
        (void)runner_task_settle(s->t, RUNNER_RESULTS_WAIT_MS);
        rc = runner_flush_answers(s, fail);
    }
    return rc;
}

static int handle_close(struct runner_sink *s, const struct link_frame *frame,
                        struct runner_fail *fail)
{
    struct link_parts f;
    int rc = flush_for_good(s, fail);
    if (rc == 0) {
        rc = get_parts(s, frame, LINK_STAGE_CLOSE, &f, fail);
    }
    if (rc != 0) {
        return rc;
    }
    ctd_assignment *a = arena_zalloc(s->t->arena, (f.n_parts + 1) * sizeof(*a));
    if (a == NULL) {
        return runner_fail_set(fail, LINK_STAGE_CLOSE, CTD_E_NOMEM, "out of memory");
    }
    size_t n = 0;
    for (uint32_t i = 0; i < f.n_parts; i++) {
        struct link_part *p = &f.parts[i];
        struct runner_sink_part *part = runner_parts_find(&s->parts, p->topic, p->partition);
        p->offset = part != NULL ? part->position : -1;
        if (part != NULL) {
            runner_part_assignment(part, part->position, &a[n]);
            a[n++].topic.ptr = p->topic.ptr; /* the part's own name goes with it */
            runner_parts_remove(&s->parts, part);
        }
    }
    rc = call_close(s, a, n, fail);
    if (rc == 0) {
        answer_parts(s->t, LINK_CLOSED, &f);
    }
    return rc;
}

/* 0, a failure, or 1 when the task is to stop. */
static int handle(struct runner_sink *s, const struct link_frame *f, struct runner_fail *fail)
{
    switch (f->type) {
    case LINK_OPEN:
        return handle_open(s, f, fail);
    case LINK_CLOSE:
        return handle_close(s, f, fail);
    case LINK_PAUSE:
        s->paused = 1;
        return 0;
    case LINK_RESUME:
        s->paused = 0;
        return 0;
    case LINK_STOP:
        return 1;
    default:
        return 0;
    }
}

/* ---- the loop ---- */

/* What the sink keeps has reached task.hold.bytes: flushed at once, and said when that freed nothing. */
static int mind_cap(struct runner_sink *s, int64_t now_ms, int64_t *ret_due_ms,
                    struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    mutex_lock(&t->lock);
    size_t held = t->held_bytes;
    mutex_unlock(&t->lock);
    if (held < t->runner->hello.hold_bytes) {
        s->over_cap_said = 0;
        return 0;
    }
    int64_t due_ms = s->over_cap_said ? s->flushed_ms + OVER_CAP_FLUSH_MS : now_ms;
    if (now_ms < due_ms || now_ms < s->not_before_ms) {
        due_ms = due_ms > s->not_before_ms ? due_ms : s->not_before_ms;
        *ret_due_ms = due_ms < *ret_due_ms ? due_ms : *ret_due_ms;
        return 0;
    }
    int rc = runner_flush(s, 0, fail);
    mutex_lock(&t->lock);
    held = t->held_bytes;
    mutex_unlock(&t->lock);
    if (rc == 0 && held >= t->runner->hello.hold_bytes && !s->over_cap_said) {
        struct runner_fail note;
        (void)runner_fail_set(&note, LINK_STAGE_FLUSH, CTD_E_RETRIABLE,
                              "the sink keeps %zu bytes after a flush (task.hold.bytes %llu): it "
                              "is given nothing until it lets go of some",
                              held, (unsigned long long)t->runner->hello.hold_bytes);
        runner_send_fail(t->runner, LINK_NOTE, t->index, &note);
        s->over_cap_said = 1;
    }
    *ret_due_ms = now_ms;
    return rc;
}

/* Does what is due. *ret_due_ms: when to look again; not later than now when something was done. */
static int do_due(struct runner_sink *s, int64_t *ret_due_ms, struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    int64_t now_ms = clock_mono_ms();
    *ret_due_ms = INT64_MAX;
    int rc = runner_flush_answers(s, fail);
    rc = rc != 0 ? rc : mind_cap(s, now_ms, ret_due_ms, fail);
    if (rc != 0 || *ret_due_ms <= now_ms) {
        return rc;
    }
    int retry = s->retry != NULL && !s->paused;
    if (retry && now_ms >= s->retry_due_ms) {
        struct runner_hold *h = s->retry;
        s->retry = NULL;
        *ret_due_ms = now_ms;
        return put_hold(s, h, fail);
    }
    mutex_lock(&t->lock);
    t->take_data = !s->paused && s->retry == NULL;
    int idle = t->queue == NULL || !t->take_data;
    mutex_unlock(&t->lock);
    int64_t due_ms = runner_flush_due(s, idle);
    if (due_ms <= now_ms) {
        *ret_due_ms = now_ms;
        return runner_flush(s, 0, fail);
    }
    due_ms = retry && s->retry_due_ms < due_ms ? s->retry_due_ms : due_ms;
    *ret_due_ms = due_ms < *ret_due_ms ? due_ms : *ret_due_ms;
    return 0;
}

/* 0: stopped as asked. */
static int sink_loop(struct runner_sink *s, struct runner_fail *fail)
{
    for (;;) {
        int64_t due_ms = 0;
        int rc = do_due(s, &due_ms, fail);
        if (rc != 0) {
            return rc;
        }
        struct runner_cmd *c = runner_task_next(s->t, due_ms <= clock_mono_ms() ? 0 : due_ms);
        if (c != NULL) {
            rc = handle(s, &c->frame, fail);
            free(c);
            if (rc > 0) {
                return 0;
            }
        } else {
            rc = put_next(s, fail);
        }
        if (rc != 0) {
            return rc;
        }
    }
}

/* ---- from start to stop ---- */

static int start(struct runner_sink *s, struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    int64_t ms = 0;
    const char *text = runner_config_text(t->config, "offset.flush.interval.ms");
    s->interval_ms = text != NULL && str_to_i64(text, &ms) == 0 && ms > 0 ? ms : 60000;
    ctd_error e;
    runner_error_preset(&e);
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_START);
    ctd_status status = s->ops->start(t->self, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    if (status != CTD_OK) {
        return runner_fail_call(fail, LINK_STAGE_START, status, &e);
    }
    mutex_lock(&t->lock);
    t->accepting = 1;
    t->take_data = 1;
    mutex_unlock(&t->lock);
    runner_send_empty(t->runner, LINK_STARTED, t->index);
    return 0;
}

static int close_all(struct runner_sink *s, struct runner_fail *fail)
{
    arena_reset(s->t->arena);
    ctd_assignment *a = arena_zalloc(s->t->arena, (s->parts.n + 1) * sizeof(*a));
    if (a == NULL) {
        return runner_fail_set(fail, LINK_STAGE_CLOSE, CTD_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < s->parts.n; i++) {
        runner_part_assignment(&s->parts.part[i], s->parts.part[i].position, &a[i]);
    }
    return call_close(s, a, s->parts.n, fail);
}

/* Flush, commit and close after a good end; stop() in any case. */
static int finish(struct runner_sink *s, int rc, struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    drop_queue(t);
    if (s->retry != NULL) {
        drop_hold(t, s->retry);
    }
    rc = rc != 0 ? rc : flush_for_good(s, fail);
    rc = rc != 0 ? rc : close_all(s, fail);
    ctd_error e;
    runner_error_preset(&e);
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_STOP);
    ctd_status status = s->ops->stop(t->self, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    if (rc == 0 && status != CTD_OK) {
        rc = runner_fail_call(fail, LINK_STAGE_STOP, status, &e);
    }
    (void)runner_task_settle(t, RUNNER_RESULTS_WAIT_MS);
    return rc;
}

int runner_sink_run(struct runner_task *t, struct runner_fail *fail)
{
    struct runner_sink s = {.t = t, .generation = -1};
    s.ops = (const ctd_sink *)(const void *)t->runner->class->ops;
    int rc = start(&s, fail);
    if (rc == 0) {
        rc = finish(&s, sink_loop(&s, fail), fail);
    }
    runner_parts_free(&s.parts);
    return rc;
}
