/*
 * Commits: COMMIT frames into the topics, in order, all or nothing, answered when durable.
 *
 * A task's commits form a queue. Each is handed to the engine as soon as it arrives (so that many
 * share one sync); the engine keeps their order and, once one has failed, fails the later ones too
 * (its stream). A failure that may pass (full disk, failed write) is not told to the runner: the
 * host waits until nothing of the task is in flight,
 * then hands the same units over again in the same order, once a second. Memory is bounded by the
 * runner's window.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "pipeline/pipeline_int.h"
#include "record/record.h"

#define RETRY_MS      1000
#define QUEUE_FULL_MS 20
#define MAX_COMMITS   ((size_t)16384) /* of one task on their way; a runner keeps far below */

static void submit_queued(struct task *t);

static void commit_free(struct commit *c)
{
    if (c == NULL) {
        return;
    }
    free(c->body);
    buf_free(&c->state_batch);
    arena_free(c->arena);
    free(c);
}

/* ---- from frame to unit ---- */

static char *terminated(struct arena *a, struct slice s)
{
    return arena_strndup(a, s.ptr != NULL ? (const char *)s.ptr : "", s.len);
}

static int check_append(struct task *t, const struct link_append *a, const char *topic,
                        int64_t *ret_records, struct err *err)
{
    if (map_get(t->connector->resolved, topic) == NULL) {
        return err_set(err, ERR_INVAL, "it wrote to topic %s, which it never asked for", topic);
    }
    struct topic_info info;
    TRY(topic_resolve(t->connector->p->engine, topic, &info, err));
    if (memcmp(info.id, a->topic_id, sizeof(info.id)) != 0 || info.epoch != a->epoch) {
        return err_set(err, ERR_STALE, "topic %s changed while records were on their way", topic);
    }
    if (a->partition < 0 || a->partition >= info.partitions) {
        return err_set(err, ERR_INVAL, "topic %s has no partition %d", topic, (int)a->partition);
    }
    int64_t batches = 0;
    return record_batches_check(a->batches.ptr, a->batches.len, (size_t)info.max_batch_bytes,
                                ret_records, &batches, err);
}

static int build_appends(struct commit *c, struct err *err)
{
    const struct link_commit *f = &c->frame;
    struct topic_append *out = arena_zalloc(c->arena, (f->n_appends + 1) * sizeof(*out));
    if (out == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < f->n_appends; i++) {
        const struct link_append *a = &f->appends[i];
        const char *topic = terminated(c->arena, a->topic);
        if (topic == NULL) {
            return err_set(err, ERR_NOMEM, "out of memory");
        }
        out[i] = (struct topic_append){.topic = topic,
                                       .topic_id = a->topic_id,
                                       .partition = a->partition,
                                       .batches = (uint8_t *)(uintptr_t)a->batches.ptr,
                                       .len = a->batches.len};
        TRY(check_append(c->task, a, topic, &out[i].n_records, err));
    }
    c->unit.appends = out;
    c->unit.n_appends = f->n_appends;
    return 0;
}

static int build_offsets(struct commit *c, struct err *err)
{
    const struct link_commit *f = &c->frame;
    if (f->n_source_offsets == 0) {
        return 0;
    }
    struct record_builder b;
    record_builder_begin(&b, &c->state_batch);
    for (uint32_t i = 0; i < f->n_source_offsets; i++) {
        TRY(pipeline_offsets_append(&b, c->task->connector->name, f->source_offsets[i].partition,
                                    f->source_offsets[i].offset, err));
    }
    int64_t bytes = record_builder_finish(&b, err);
    TRY((int)(bytes < 0 ? bytes : 0));
    struct topic_append *state = arena_zalloc(c->arena, sizeof(*state));
    if (state == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    *state = (struct topic_append){.topic = "connect-offsets",
                                   .batches = c->state_batch.data,
                                   .len = c->state_batch.len,
                                   .n_records = f->n_source_offsets};
    c->unit.state = state;
    c->unit.n_state = 1;
    return 0;
}

static int build_group(struct commit *c, struct err *err)
{
    const struct link_commit *f = &c->frame;
    struct task *t = c->task;
    if (f->n_group_offsets == 0) {
        return 0;
    }
    if (t->connector->class_->kind != CTD_KIND_SINK) {
        return err_set(err, ERR_INVAL, "a source committed a sink's offsets");
    }
    struct topic_group_offset *out = arena_zalloc(c->arena, f->n_group_offsets * sizeof(*out));
    char *group = arena_printf(c->arena, "connect-%s", t->connector->name);
    if (out == NULL || group == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < f->n_group_offsets; i++) {
        const struct link_group_offset *g = &f->group_offsets[i];
        const char *topic = terminated(c->arena, g->topic);
        const struct part *part = NULL;
        for (size_t k = 0; topic != NULL && k < t->n_parts && part == NULL; k++) {
            int same = t->parts[k]->partition == g->partition;
            part = same && strcmp(t->parts[k]->topic, topic) == 0 ? t->parts[k] : NULL;
        }
        if (part == NULL || g->offset < 0 || g->offset > part->next) {
            return err_set(err, ERR_INVAL,
                           "it committed offset %lld of %s-%d, which it was not given",
                           (long long)g->offset, topic != NULL ? topic : "?", (int)g->partition);
        }
        out[i] = (struct topic_group_offset){topic, g->partition, g->offset};
    }
    c->unit.group = group;
    c->unit.generation = t->generation;
    c->unit.group_offsets = out;
    c->unit.n_group_offsets = f->n_group_offsets;
    return 0;
}

/* ---- answers ---- */

static void answer(struct commit *c, int status, const char *message)
{
    struct task *t = c->task;
    if (t->connector->peer == NULL || !t->live) {
        return;
    }
    size_t n = c->unit.n_appends;
    struct link_committed f = {
        .seq = c->seq, .status = status, .flush = c->unit.ret_flush, .message = slice_str(message)};
    struct link_commit_result *results =
        n > 0 ? arena_alloc(c->arena, n * sizeof(*results), _Alignof(struct link_commit_result))
              : NULL;
    if (status == 0 && results != NULL) {
        for (size_t i = 0; i < n; i++) {
            results[i].base_offset = c->unit.appends[i].ret_base_offset;
        }
        f.results = results;
        f.n_results = (uint32_t)n;
    }
    struct buf out = BUF_INIT(0);
    link_put_committed(&out, t->id, &f);
    if (out.error == 0) {
        pipeline_connector_send(t->connector, &out);
    }
    buf_free(&out);
}

static struct commit *pop(struct task *t)
{
    struct commit *c = t->commits;
    t->commits = c->next;
    if (t->commits == NULL) {
        t->commits_end = &t->commits;
    }
    t->commit_bytes -= c->bytes;
    t->n_commits--;
    return c;
}

static int may_pass(int code)
{
    return code == ERR_NOSPC || code == ERR_IO || code == ERR_RETRIABLE || code == ERR_TIMEOUT;
}

/* Hands everything over again after a wait; nothing of the task is in flight then. */
static void retry(struct loop_timer *timer)
{
    struct task *t = (struct task *)(void *)((char *)timer - offsetof(struct task, retry_timer));
    t->holding = 0;
    t->blocked = 0;
    topic_stream_reset(t->stream);
    t->to_submit = t->commits;
    for (struct commit *c = t->commits; c != NULL && !c->unbuildable; c = c->next) {
        c->phase = COMMIT_QUEUED;
        err_clear(&c->err);
    }
    submit_queued(t);
}

static void hold(struct task *t, int64_t ms)
{
    t->holding = 1;
    t->retry_timer.fire = retry;
    pipeline_loop_timer_set(&t->connector->p->loop, &t->retry_timer, ms);
}

/* Finishes what is done at the head of the queue. */
static void settle(struct task *t)
{
    while (t->commits != NULL && t->commits->phase == COMMIT_DONE && !t->holding) {
        struct commit *c = t->commits;
        if (c->err.code == 0) {
            (void)pop(t);
            pipeline_offsets_committed(t->connector->p, t->connector->name, &c->frame);
            pipeline_sink_committed(t, c);
            answer(c, 0, NULL);
            commit_free(c);
            continue;
        }
        if (t->n_submitted > 0) {
            return; /* the rest of the stream fails behind it; wait for that */
        }
        if (!t->live) {
            pipeline_commit_drop_queued(t);
            topic_stream_reset(t->stream);
        } else if (may_pass(c->err.code)) {
            LOG_WARN("pipeline", "connector %s task %u: commit waits: %s", t->connector->name,
                     t->id, c->err.msg);
            hold(t, RETRY_MS);
        } else {
            int code = c->err.code == ERR_CANCELLED ? ERR_RETRIABLE : c->err.code;
            t->refusing = 1; /* what is still in the socket came after the failed one */
            answer(c, code, c->err.msg);
            pipeline_commit_drop_queued(t);
            topic_stream_reset(t->stream);
        }
    }
}

static void done_on_core(struct loop_post *post)
{
    struct commit *c = (struct commit *)(void *)((char *)post - offsetof(struct commit, done_post));
    struct task *t = c->task;
    c->phase = COMMIT_DONE;
    t->n_submitted--;
    t->blocked |= c->err.code != 0;
    settle(t);
    submit_queued(t);
    if (t->commits == NULL) {
        pipeline_sink_drained(t);
    }
    pipeline_connector_progress(t->connector);
}

/* [engine thread] */
static void done(struct topic_unit *u, const struct err *err)
{
    struct commit *c = u->arg;
    c->err = *err;
    pipeline_loop_post(&c->task->connector->p->loop, &c->done_post);
}

static void submit_queued(struct task *t)
{
    while (t->to_submit != NULL && !t->holding && !t->blocked) {
        struct commit *c = t->to_submit;
        if (c->phase == COMMIT_DONE) { /* it could not be built: told in its turn */
            t->blocked = 1;
            settle(t);
            return;
        }
        struct err err = ERR_INIT;
        c->phase = COMMIT_SUBMITTED;
        t->n_submitted++;
        int rc = topic_submit(t->connector->p->engine, &c->unit, &err);
        if (rc == 0) {
            t->to_submit = c->next;
            continue;
        }
        t->n_submitted--;
        if (rc == ERR_LIMIT) { /* the engine's queue is full: come back soon, in order */
            c->phase = COMMIT_QUEUED;
            if (t->n_submitted == 0) {
                hold(t, QUEUE_FULL_MS);
            }
            return;
        }
        t->to_submit = c->next;
        c->phase = COMMIT_DONE;
        c->err = err;
        t->blocked = 1;
        settle(t);
        return;
    }
}

/* ---- in ---- */

/* The runner, or the plugin through it, broke the rules: the process goes. */
static void reject(struct task *t, struct commit *c, const struct err *err)
{
    commit_free(c);
    if (err->code == ERR_NOMEM) {
        pipeline_connector_kill_err(t->connector, LINK_STAGE_NONE, err);
    } else {
        pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_NONE, err->msg);
    }
}

void pipeline_commit_receive(struct task *t, const struct link_frame *f, uint8_t **body)
{
    struct err err = ERR_INIT;
    struct commit *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        err_set(&err, ERR_NOMEM, "out of memory");
        reject(t, NULL, &err);
        return;
    }
    c->task = t;
    c->body = *body;
    *body = NULL;
    c->bytes = f->payload.len;
    c->done_post.run = done_on_core;
    buf_init(&c->state_batch, LINK_DATA_MAX);
    c->arena = arena_new(LINK_CONTROL_MAX * 4);
    int rc = c->arena != NULL ? link_get_commit(f, c->arena, &c->frame, &err)
                              : err_set(&err, ERR_NOMEM, "out of memory");
    if (!t->live || t->refusing) { /* of a task that has failed meanwhile */
        commit_free(c);
        return;
    }
    if (rc == 0 && c->frame.seq != t->next_seq) {
        rc = err_set(&err, ERR_INVAL, "its commit %llu came where %llu was due",
                     (unsigned long long)c->frame.seq, (unsigned long long)t->next_seq);
    }
    if (rc == 0 &&
        (t->commit_bytes > SOURCE_WINDOW_BYTES + LINK_DATA_MAX || t->n_commits >= MAX_COMMITS)) {
        rc = err_set(&err, ERR_LIMIT, "it sent more than its window allows");
    }
    if (rc != 0) {
        reject(t, c, &err);
        return;
    }
    c->seq = t->next_seq++;
    c->unit.stream = t->stream;
    c->unit.generation = -1;
    c->unit.done = done;
    c->unit.arg = c;
    rc = build_appends(c, &err);
    rc = rc != 0 ? rc : build_offsets(c, &err);
    rc = rc != 0 ? rc : build_group(c, &err);
    if (rc == ERR_INVAL || rc == ERR_DATA || rc == ERR_LIMIT) {
        reject(t, c, &err);
        return;
    }
    *t->commits_end = c;
    t->commits_end = &c->next;
    t->commit_bytes += c->bytes;
    t->n_commits++;
    if (t->to_submit == NULL) {
        t->to_submit = c;
    }
    if (rc != 0) { /* stale topic and the like: told in its turn */
        c->phase = COMMIT_DONE;
        c->unbuildable = 1;
        c->err = err;
    }
    submit_queued(t);
}

void pipeline_commit_drop_queued(struct task *t)
{
    struct commit **at = &t->commits;
    while (*at != NULL) {
        struct commit *c = *at;
        if (c->phase == COMMIT_SUBMITTED) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        t->commit_bytes -= c->bytes;
        t->n_commits--;
        pipeline_loop_post_cancel(&t->connector->p->loop, &c->done_post);
        commit_free(c);
    }
    t->commits_end = at;
    t->to_submit = NULL;
}
