/*
 * A sink's flush and the commit of its offsets. Nothing waits here for the host's answer: closing and stopping
 * do. The task thread alone.
 */
#include "runner_int.h"

#include <string.h>

#include "base/clock.h"

enum { IDLE_FLUSH_MS = 100, MAX_UNANSWERED = 8, UNANSWERED_WAIT_MS = 500 };

static int too_many_unanswered(struct runner_task *t)
{
    mutex_lock(&t->lock);
    int many = t->n_undone >= MAX_UNANSWERED;
    mutex_unlock(&t->lock);
    return many;
}

int64_t runner_flush_due(const struct runner_sink *s, int idle)
{
    if (!s->dirty) {
        return INT64_MAX;
    }
    if (too_many_unanswered(s->t)) {
        return clock_mono_ms() + UNANSWERED_WAIT_MS;
    }
    int64_t wait_ms = idle && !s->lowered ? IDLE_FLUSH_MS : s->interval_ms;
    wait_ms = wait_ms < s->interval_ms ? wait_ms : s->interval_ms;
    int64_t due_ms = s->flushed_ms + wait_ms;
    return due_ms > s->not_before_ms ? due_ms : s->not_before_ms;
}

/* Sends what has moved since the last COMMIT. a[i] belongs to the partition parts.part[of[i]]. */
static int commit(struct runner_sink *s, const ctd_assignment *a, const size_t *of, size_t n,
                  struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    struct link_commit c = {.generation = s->generation};
    c.group_offsets = arena_zalloc(t->arena, (n + 1) * sizeof(*c.group_offsets));
    struct runner_unit *u = c.group_offsets != NULL ? runner_unit_new(t) : NULL;
    if (u == NULL) {
        return runner_fail_set(fail, LINK_STAGE_FLUSH, CTD_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        struct runner_sink_part *part = &s->parts.part[of[i]];
        if (a[i].offset >= 0 && a[i].offset != part->sent) {
            c.group_offsets[c.n_group_offsets++] = (struct link_group_offset){
                .topic = part->topic, .partition = part->partition, .offset = a[i].offset};
            part->sent = a[i].offset;
        }
    }
    if (c.n_group_offsets == 0) {
        runner_unit_drop(t, u);
        return 0;
    }
    return runner_task_commit(t, &c, u, fail);
}

static int check_flushed(const ctd_assignment *a, const ctd_assignment *before, size_t n,
                         int *ret_lowered, struct runner_fail *fail)
{
    *ret_lowered = 0;
    for (size_t i = 0; i < n; i++) {
        if (!runner_assignment_same(&a[i], &before[i])) {
            return runner_fail_abi(fail, LINK_STAGE_FLUSH,
                                   "flush() changed which partition an offset is for");
        }
        if (a[i].offset > before[i].offset || a[i].offset < -1) {
            return runner_fail_abi(fail, LINK_STAGE_FLUSH,
                                   "flush() says that %.*s-%d is durable to offset %lld; it was "
                                   "given records to %lld",
                                   (int)a[i].topic.len, (const char *)a[i].topic.ptr,
                                   a[i].partition, (long long)a[i].offset,
                                   (long long)before[i].offset);
        }
        *ret_lowered |= a[i].offset < before[i].offset;
    }
    return 0;
}

/* A flush that failed but may work later. */
static void schedule_again(struct runner_sink *s, const struct runner_fail *fail)
{
    s->flush_retry_ms = s->flush_retry_ms == 0 ? RUNNER_RETRY_FIRST_MS : 2 * s->flush_retry_ms;
    if (s->flush_retry_ms > RUNNER_RETRY_MAX_MS) {
        s->flush_retry_ms = RUNNER_RETRY_MAX_MS;
    }
    int64_t wait_ms = fail->retry_after_ms >= 0 ? fail->retry_after_ms : s->flush_retry_ms;
    s->not_before_ms = clock_mono_ms() + wait_ms;
    runner_send_fail(s->t->runner, LINK_NOTE, s->t->index, fail);
}

static int call_flush(struct runner_sink *s, ctd_assignment *a, size_t n, int last,
                      struct runner_fail *fail)
{
    if (!CTD_HAS_OP(s->ops, flush)) {
        return 0;
    }
    struct runner_task *t = s->t;
    ctd_error e;
    runner_error_preset(&e);
    runner_stage_enter(&t->stages, RUNNER_LANE_TASK, LINK_STAGE_FLUSH);
    ctd_status status = s->ops->flush(t->self, a, n, &e);
    runner_stage_leave(&t->stages, RUNNER_LANE_TASK);
    if (status == CTD_OK) {
        s->flush_retry_ms = 0;
        return 0;
    }
    int rc = runner_fail_call(fail, LINK_STAGE_FLUSH, status, &e);
    if (rc == CTD_E_RETRIABLE || (last && rc == CTD_E_CANCELLED)) {
        schedule_again(s, fail);
        return 1;
    }
    return rc;
}

int runner_flush(struct runner_sink *s, int last, struct runner_fail *fail)
{
    arena_reset(s->t->arena);
    size_t room = s->parts.n + 1;
    ctd_assignment *a = arena_zalloc(s->t->arena, 2 * room * sizeof(*a));
    size_t *of = arena_zalloc(s->t->arena, room * sizeof(*of));
    if (a == NULL || of == NULL) {
        return runner_fail_set(fail, LINK_STAGE_FLUSH, CTD_E_NOMEM, "out of memory");
    }
    ctd_assignment *before = a + room;
    size_t n = 0;
    for (size_t i = 0; i < s->parts.n; i++) {
        if (s->parts.part[i].position >= 0) {
            runner_part_assignment(&s->parts.part[i], s->parts.part[i].position, &a[n]);
            of[n++] = i;
        }
    }
    memcpy(before, a, n * sizeof(*a));
    int rc = call_flush(s, a, n, last, fail);
    s->flushed_ms = clock_mono_ms();
    if (rc != 0) {
        return rc > 0 ? 0 : rc;
    }
    rc = check_flushed(a, before, n, &s->lowered, fail);
    if (rc == 0) {
        s->dirty = s->lowered;
        rc = commit(s, a, of, n, fail);
    }
    return rc;
}

int runner_flush_answers(struct runner_sink *s, struct runner_fail *fail)
{
    struct runner_task *t = s->t;
    mutex_lock(&t->lock);
    int status = t->commit_status;
    if (status != 0) {
        (void)runner_fail_set(fail, LINK_STAGE_FLUSH, status, "offsets were not committed: %s",
                              t->commit_message);
    }
    mutex_unlock(&t->lock);
    return status;
}
