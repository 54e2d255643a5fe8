/* One task: made, started, running, failed, started again, stopped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "connectd/abi.h"
#include "pipeline/pipeline_int.h"

static void restart_now(struct loop_timer *timer)
{
    struct task *t = (struct task *)(void *)((char *)timer - offsetof(struct task, restart_timer));
    if (!pipeline_task_is_idle(t)) {
        pipeline_loop_timer_set(&t->connector->p->loop, timer, 20);
        return;
    }
    t->restarts++;
    t->state = STATE_RESTARTING;
    pipeline_task_start(t);
}

int pipeline_task_configure(struct task *t, const struct link_task_config *config)
{
    int rc = 0;
    pipeline_kv_free(&t->config);
    for (uint32_t i = 0; rc == 0 && i < config->n_config; i++) {
        const struct link_pair *pair = &config->config[i];
        char *key =
            strndup(pair->key.ptr != NULL ? (const char *)pair->key.ptr : "", pair->key.len);
        char *value =
            strndup(pair->value.ptr != NULL ? (const char *)pair->value.ptr : "", pair->value.len);
        struct kv kv = {.key = key, .value = value};
        rc = key != NULL && value != NULL ? pipeline_kv_add(&t->config, &kv) : ERR_NOMEM;
        free(key);
        free(value);
    }
    return rc;
}

int pipeline_task_new(struct connector *c, uint32_t id, const struct link_task_config *config,
                      struct task **ret, struct err *err)
{
    struct task *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    t->connector = c;
    t->id = id;
    t->credit = SINK_CREDIT_BYTES;
    t->commits_end = &t->commits;
    t->restart_timer.fire = restart_now;
    t->failure.record_index = -1;
    int rc = topic_stream_open(c->p->engine, &t->stream, err);
    rc = rc != 0 ? rc : pipeline_task_configure(t, config);
    if (rc != 0) {
        pipeline_task_free(t);
        return err_set(err, rc, "cannot make task %u", id);
    }
    *ret = t;
    return 0;
}

void pipeline_task_free(struct task *t)
{
    if (t == NULL) {
        return;
    }
    BUG_ON(t->n_submitted != 0);
    struct loop *l = &t->connector->p->loop;
    pipeline_loop_timer_clear(l, &t->restart_timer);
    pipeline_loop_timer_clear(l, &t->retry_timer);
    pipeline_commit_drop_queued(t);
    pipeline_sink_leave(t);
    topic_stream_close(t->stream);
    pipeline_kv_free(&t->config);
    free(t);
}

int pipeline_task_is_idle(const struct task *t)
{
    return !t->live && t->n_submitted == 0;
}

/* The task's configuration: what the class's fan_out said, as pairs for the frame. */
static int put_start(struct task *t, struct buf *out)
{
    struct link_start f = {.n_tasks = (uint32_t)t->connector->n_tasks,
                           .n_config = (uint32_t)t->config.n};
    f.config = calloc(t->config.n + 1, sizeof(*f.config));
    if (f.config == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < t->config.n; i++) {
        f.config[i].key = slice_str(t->config.items[i].key);
        f.config[i].value = slice_str(t->config.items[i].value);
    }
    link_put_start(out, t->id, &f);
    free(f.config);
    return out->error;
}

void pipeline_task_start(struct task *t)
{
    BUG_ON(!pipeline_task_is_idle(t));
    pipeline_loop_timer_clear(&t->connector->p->loop, &t->restart_timer);
    pipeline_commit_drop_queued(t);
    topic_stream_reset(t->stream);
    t->next_seq = 1;
    t->refusing = 0;
    t->holding = 0;
    t->blocked = 0;
    pipeline_loop_timer_clear(&t->connector->p->loop, &t->retry_timer);
    struct buf out = BUF_INIT(0);
    if (put_start(t, &out) == 0) {
        t->live = 1;
        t->starting = 1;
        pipeline_connector_send(t->connector, &out);
    } else {
        pipeline_task_failed(t, "fatal", LINK_STAGE_CREATE, "out of memory", -1, -1);
    }
    buf_free(&out);
}

void pipeline_task_stop(struct task *t)
{
    pipeline_loop_timer_clear(&t->connector->p->loop, &t->restart_timer);
    t->stopping = 1;
    if (!t->live) {
        return;
    }
    struct buf out = BUF_INIT(0);
    link_put_empty(&out, LINK_STOP, t->id);
    if (out.error == 0) {
        pipeline_connector_send(t->connector, &out);
    }
    buf_free(&out);
}

static void end_run(struct task *t)
{
    t->live = 0;
    t->starting = 0;
    pipeline_loop_timer_clear(&t->connector->p->loop, &t->retry_timer);
    t->holding = 0;
    pipeline_commit_drop_queued(t);
    pipeline_sink_down(t);
}

void pipeline_task_down(struct task *t)
{
    end_run(t);
    t->credit = SINK_CREDIT_BYTES; /* what was under way is gone with the process */
    t->outstanding = 0;
    t->restart.running_since_ms = 0;
    if (t->condition == CONDITION_UNRESPONSIVE) {
        t->condition = CONDITION_NONE;
    }
    pipeline_loop_timer_clear(&t->connector->p->loop, &t->restart_timer);
}

void pipeline_task_failed(struct task *t, const char *cause, int stage, const char *message,
                          int64_t record_index, int64_t retry_after_ms)
{
    struct connector *c = t->connector;
    end_run(t);
    pipeline_failure_set(&t->failure, cause, stage, message, record_index);
    t->state = STATE_FAILED;
    int64_t wait = pipeline_restart_failed(&t->restart, c, retry_after_ms, &t->condition);
    LOG_ERROR("pipeline", "connector %s task %u failed in %s (%s): %s", c->name, t->id,
              link_stage_name(stage), cause, message);
    pipeline_connector_settle(c);
    if (wait >= 0 && !t->stopping && c->phase == CONNECTOR_UP) {
        pipeline_loop_timer_set(&c->p->loop, &t->restart_timer, wait);
    } else if (wait < 0) {
        pipeline_sink_leave(t); /* it won't come back by itself: the others take its partitions */
    }
    pipeline_connector_progress(c);
}

static void started(struct task *t)
{
    if (!t->starting) {
        pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_START,
                                "a task started that was not asked to");
        return;
    }
    t->starting = 0;
    t->state = STATE_RUNNING;
    if (t->condition == CONDITION_UNRESPONSIVE) {
        t->condition = CONDITION_NONE;
    }
    pipeline_restart_running(&t->restart);
    if (t->connector->class_->kind == CTD_KIND_SINK) {
        pipeline_sink_started(t);
    }
    pipeline_connector_settle(t->connector);
}

static void got_failed(struct task *t, const struct link_frame *f)
{
    struct link_failed failed;
    struct err err = ERR_INIT;
    if (link_get_failed(f, &failed, &err) != 0) {
        pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_NONE, err.msg);
        return;
    }
    char message[1024];
    (void)snprintf(message, sizeof(message), "%.*s", (int)failed.message.len,
                   failed.message.ptr != NULL ? (const char *)failed.message.ptr : "");
    if (f->type == LINK_NOTE) {
        pipeline_failure_set(&t->failure, pipeline_cause(failed.status, failed.abi != 0),
                             failed.stage, message, failed.record_index);
        return;
    }
    if (t->stopping) {
        end_run(t);
        t->state = STATE_FAILED;
        pipeline_failure_set(&t->failure, pipeline_cause(failed.status, failed.abi != 0),
                             failed.stage, message, failed.record_index);
        pipeline_connector_progress(t->connector);
        return;
    }
    pipeline_task_failed(t, pipeline_cause(failed.status, failed.abi != 0), failed.stage, message,
                         failed.record_index, failed.retry_after_ms);
}

void pipeline_task_frame(struct task *t, const struct link_frame *f, uint8_t **body)
{
    if (!t->live && f->type != LINK_COMMIT) {
        return; /* a late word of a run that has ended */
    }
    switch (f->type) {
    case LINK_STARTED:
        started(t);
        break;
    case LINK_STOPPED:
        if (!t->stopping) {
            pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_STOP,
                                    "a task stopped that was not asked to");
            break;
        }
        end_run(t);
        t->state = STATE_UNASSIGNED;
        pipeline_connector_progress(t->connector);
        break;
    case LINK_FAILED:
    case LINK_NOTE:
        got_failed(t, f);
        break;
    case LINK_COMMIT:
        pipeline_commit_receive(t, f, body);
        break;
    case LINK_RESOLVE:
        pipeline_source_resolve(t, f);
        break;
    case LINK_GET_OFFSET:
        pipeline_source_get_offset(t, f);
        break;
    case LINK_OPENED:
        pipeline_sink_opened(t, f);
        break;
    case LINK_CLOSED:
        pipeline_sink_closed(t, f);
        break;
    case LINK_CREDIT:
        pipeline_sink_credit(t, f);
        break;
    default:
        pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_NONE, "an unknown frame came");
        break;
    }
}
