/* One connector: its runner process from start to end, its tasks, its failures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "connectd/abi.h"
#include "pipeline/hello.h"
#include "pipeline/pipeline_int.h"
#include "pipeline/validate.h"

#define LOCK_RETRY_MS      20
#define LOG_LINES_A_SECOND 200

void pipeline_connector_start_timer(struct loop_timer *timer)
{
    struct connector *c =
        (struct connector *)(void *)((char *)timer - offsetof(struct connector, restart_timer));
    pipeline_connector_start(c);
}

struct connector *pipeline_connector_find(struct pipeline *p, const char *name)
{
    for (size_t i = 0; i < p->n_connectors; i++) {
        if (strcmp(p->connectors[i]->name, name) == 0) {
            return p->connectors[i];
        }
    }
    return NULL;
}

int64_t pipeline_connector_number(const struct connector *c, const char *key, int64_t fallback)
{
    const char *text = pipeline_kv_get(&c->effective, key);
    int64_t v = 0;
    return text != NULL && str_to_i64(text, &v) == 0 ? v : fallback;
}

static void free_tasks(struct connector *c)
{
    for (size_t i = 0; i < c->n_tasks; i++) {
        pipeline_task_free(c->tasks[i]);
    }
    free(c->tasks);
    c->tasks = NULL;
    c->n_tasks = 0;
}

void pipeline_connector_free(struct connector *c)
{
    if (c == NULL) {
        return;
    }
    pipeline_loop_timer_clear(&c->p->loop, &c->restart_timer);
    pipeline_peer_free(c->peer);
    free_tasks(c);
    map_free(c->resolved);
    pipeline_kv_free(&c->config);
    pipeline_kv_free(&c->effective);
    free(c->name);
    free(c->file);
    free(c->invalid);
    free(c);
}

/* Counts for "ready" once: it runs, or it has failed and says so. */
void pipeline_connector_settle(struct connector *c)
{
    if (c->settled) {
        return;
    }
    for (size_t i = 0; i < c->n_tasks && c->state == STATE_RUNNING; i++) {
        if (c->tasks[i]->state != STATE_RUNNING && c->tasks[i]->state != STATE_FAILED) {
            return;
        }
    }
    c->settled = 1;
    mutex_lock(&c->p->lock);
    c->p->unsettled--;
    cond_broadcast(&c->p->changed);
    mutex_unlock(&c->p->lock);
}

void pipeline_connector_send(struct connector *c, struct buf *frames)
{
    if (c->peer != NULL && c->kill_cause == KILL_NONE) {
        pipeline_peer_send_control(c->peer, frames);
    }
}

void pipeline_connector_kill(struct connector *c, int cause, int stage, const char *message)
{
    if (c->peer == NULL || c->kill_cause != KILL_NONE) {
        return;
    }
    c->kill_cause = cause;
    c->kill_stage = stage;
    (void)snprintf(c->kill_message, sizeof(c->kill_message), "%s", message);
    pipeline_peer_kill(c->peer);
}

void pipeline_connector_kill_err(struct connector *c, int stage, const struct err *err)
{
    int io = err->code == ERR_IO || err->code == ERR_NOSPC || err->code == ERR_CORRUPT;
    int cause = err->code == ERR_NOMEM ? KILL_MEMORY : io ? KILL_IO : KILL_STOP;
    pipeline_connector_kill(c, cause, stage, err->msg);
}

/* ---- failing ---- */

static void plan_restart(struct connector *c, int64_t retry_after_ms)
{
    int64_t wait = pipeline_restart_failed(&c->restart, c, retry_after_ms, &c->condition);
    if (wait >= 0 && !c->p->stopping) {
        pipeline_loop_timer_set(&c->p->loop, &c->restart_timer, wait);
    } else {
        for (size_t i = 0; i < c->n_tasks; i++) {
            pipeline_sink_leave(c->tasks[i]);
        }
    }
}

static void failed(struct connector *c, const char *cause, int stage, const char *message)
{
    c->state = STATE_FAILED;
    pipeline_failure_set(&c->failure, cause, stage, message, -1);
    for (size_t i = 0; i < c->n_tasks; i++) {
        c->tasks[i]->state = STATE_FAILED;
    }
    LOG_ERROR("pipeline", "connector %s failed in %s (%s): %s", c->name,
              stage != LINK_STAGE_NONE ? link_stage_name(stage) : "its runner", cause, message);
    plan_restart(c, -1);
    pipeline_connector_settle(c);
}

/* The first slot that says that plugin code was running, or NONE. *ret_task: whose. */
static int running_stage(struct connector *c, int64_t *ret_task)
{
    const struct link_shared *s = pipeline_peer_shared(c->peer);
    *ret_task = -1;
    for (size_t i = 0; i < c->n_tasks && i < pipeline_peer_slots(c->peer); i++) {
        int stage = atomic_load(&s->task[i].stage);
        if (stage != LINK_STAGE_NONE) {
            *ret_task = (int64_t)i;
            return stage;
        }
    }
    return atomic_load(&s->control.stage);
}

static void describe_death(struct connector *c, int status, int stage, char cause[24],
                           char message[1024])
{
    static const char *const words[] = {"", "deadline", "abi", "memory", "io", "fatal"};
    const char *fault = pipeline_peer_fault(c->peer);
    const char *in = stage != LINK_STAGE_NONE ? " in " : "";
    if (c->kill_cause != KILL_NONE) {
        (void)snprintf(cause, 24, "%s", words[c->kill_cause]);
        (void)snprintf(message, 1024, "%s", c->kill_message);
    } else if (fault != NULL) {
        (void)snprintf(cause, 24, "abi");
        (void)snprintf(message, 1024, "%s", fault);
    } else if (WIFSIGNALED(status)) {
        const char *name = sigabbrev_np(WTERMSIG(status));
        (void)snprintf(cause, 24, "SIG%s", name != NULL ? name : "RT");
        (void)snprintf(message, 1024, "the runner was ended by %s%s%s", cause, in,
                       link_stage_name(stage));
    } else {
        (void)snprintf(cause, 24, "exit %d", WEXITSTATUS(status));
        (void)snprintf(message, 1024, "the runner exited with status %d%s%s", WEXITSTATUS(status),
                       in, link_stage_name(stage));
    }
}

static void dead(void *arg, int status)
{
    struct connector *c = arg;
    int64_t task = -1;
    int stage = running_stage(c, &task);
    if (c->kill_cause != KILL_NONE && c->kill_stage != LINK_STAGE_NONE) {
        stage = c->kill_stage;
    }
    char cause[24];
    char message[1024];
    describe_death(c, status, stage, cause, message);
    pipeline_peer_free(c->peer);
    c->peer = NULL;
    int was = c->phase;
    c->phase = CONNECTOR_DOWN;
    for (size_t i = 0; i < c->n_tasks; i++) {
        struct task *t = c->tasks[i];
        pipeline_task_down(t);
        if (was != CONNECTOR_STOPPING) {
            pipeline_failure_set(&t->failure, cause, stage, message, -1);
        }
    }
    if (was == CONNECTOR_STOPPING) {
        c->state = STATE_UNASSIGNED;
        pipeline_connector_progress(c);
        return;
    }
    failed(c, cause, stage, message);
}

/* ---- frames about the connector itself ---- */

static void ask_fan_out(struct connector *c)
{
    struct link_fan_out f = {.max_tasks = (uint32_t)c->tasks_max};
    struct buf out = BUF_INIT(0);
    link_put_fan_out(&out, &f);
    c->phase = CONNECTOR_FANNING;
    pipeline_connector_send(c, &out);
    buf_free(&out);
}

static int make_tasks(struct connector *c, const struct link_tasks *f, struct err *err)
{
    if (f->n_tasks > (uint32_t)c->tasks_max) {
        return err_set(err, ERR_DATA, "fan_out made %u tasks, more than tasks.max %d", f->n_tasks,
                       (int)c->tasks_max);
    }
    /* The same number as before a restart: keep the tasks, and with them counters and partitions.
     * */
    if (c->n_tasks == f->n_tasks && c->tasks != NULL) {
        for (uint32_t i = 0; i < f->n_tasks; i++) {
            if (pipeline_task_configure(c->tasks[i], &f->tasks[i]) != 0) {
                return err_set(err, ERR_NOMEM, "out of memory");
            }
        }
        return 0;
    }
    free_tasks(c);
    c->tasks = calloc(f->n_tasks + 1, sizeof(struct task *));
    if (c->tasks == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < f->n_tasks; i++) {
        TRY(pipeline_task_new(c, i, &f->tasks[i], &c->tasks[i], err));
        c->n_tasks++;
    }
    return 0;
}

static void got_tasks(struct connector *c, const struct link_frame *f)
{
    if (c->phase != CONNECTOR_FANNING) {
        pipeline_connector_kill(c, KILL_ABI, LINK_STAGE_FAN_OUT, "it sent tasks unasked for");
        return;
    }
    struct err err = ERR_INIT;
    struct arena *a = arena_new(LINK_CONTROL_MAX * 4);
    struct link_tasks tasks;
    int rc =
        a != NULL ? link_get_tasks(f, a, &tasks, &err) : err_set(&err, ERR_NOMEM, "out of memory");
    rc = rc != 0 ? rc : make_tasks(c, &tasks, &err);
    arena_free(a);
    if (rc == ERR_NOMEM) {
        pipeline_connector_kill_err(c, LINK_STAGE_FAN_OUT, &err);
        return;
    }
    if (rc != 0) {
        pipeline_connector_kill(c, KILL_ABI, LINK_STAGE_FAN_OUT, err.msg);
        return;
    }
    c->phase = CONNECTOR_UP;
    c->state = STATE_RUNNING;
    if (c->condition == CONDITION_UNRESPONSIVE) {
        c->condition = CONDITION_NONE;
    }
    pipeline_restart_running(&c->restart);
    for (size_t i = 0; i < c->n_tasks; i++) {
        pipeline_task_start(c->tasks[i]);
    }
    pipeline_connector_settle(c);
}

static void got_failed(struct connector *c, const struct link_frame *f)
{
    struct link_failed failure;
    struct err err = ERR_INIT;
    if (link_get_failed(f, &failure, &err) != 0) {
        pipeline_connector_kill(c, KILL_ABI, LINK_STAGE_NONE, err.msg);
        return;
    }
    char message[1024];
    (void)snprintf(message, sizeof(message), "%.*s", (int)failure.message.len,
                   failure.message.ptr != NULL ? (const char *)failure.message.ptr : "");
    c->phase = CONNECTOR_DOWN;
    c->kill_cause = KILL_STOP;
    pipeline_peer_free(c->peer);
    c->peer = NULL;
    for (size_t i = 0; i < c->n_tasks; i++) {
        pipeline_task_down(c->tasks[i]);
    }
    failed(c, pipeline_cause(failure.status, failure.abi != 0), failure.stage, message);
}

/* One line of its runner's log; no more than LOG_LINES_A_SECOND, the others are counted. */
static void log_line(struct connector *c, uint32_t task, int level, const char *text, size_t n)
{
    int64_t second = clock_mono_ms() / 1000;
    if (second != c->log_second) {
        if (c->n_log_dropped > 0) {
            LOG_WARN("pipeline", "connector %s: %d of its log lines were dropped", c->name,
                     c->n_log_dropped);
        }
        c->log_second = second;
        c->n_logged = c->n_log_dropped = 0;
    }
    if (c->n_logged++ >= LOG_LINES_A_SECOND) {
        c->n_log_dropped++;
        return;
    }
    char keys[TOPIC_NAME_MAX + 64];
    int len = snprintf(keys, sizeof(keys), "connector=%s", c->name);
    if (task != LINK_NO_TASK && len > 0) {
        (void)snprintf(keys + len, sizeof(keys) - (size_t)len, " task=%u", task);
    }
    log_write(level, "plugin", keys, "%.*s", (int)n, text);
}

static void got_log(struct connector *c, const struct link_frame *f)
{
    struct link_log line;
    if (link_get_log(f, &line, NULL) != 0 || line.text.ptr == NULL) {
        return;
    }
    int level = line.level < LOG_LEVEL_ERROR   ? LOG_LEVEL_ERROR
                : line.level > LOG_LEVEL_DEBUG ? LOG_LEVEL_DEBUG
                                               : line.level;
    log_line(c, f->task, level, (const char *)line.text.ptr, line.text.len);
}

/* What the plugin printed to its standard error. */
static void said(void *arg, const char *text, size_t n)
{
    log_line(arg, LINK_NO_TASK, LOG_LEVEL_WARN, text, n);
}

static void got_ready(struct connector *c, const struct link_frame *f)
{
    struct link_ready ready;
    struct err err = ERR_INIT;
    if (link_get_ready(f, &ready, &err) != 0 || c->phase != CONNECTOR_LOADING) {
        pipeline_connector_kill(c, KILL_ABI, LINK_STAGE_NONE, "it was ready twice or not readably");
        return;
    }
    LOG_DEBUG("pipeline", "connector %s: runner pid %d ready, sandbox %.*s", c->name,
              (int)pipeline_peer_pid(c->peer), (int)ready.sandbox.len,
              ready.sandbox.ptr != NULL ? (const char *)ready.sandbox.ptr : "");
    ask_fan_out(c);
}

static void frame(void *arg, const struct link_frame *f, uint8_t **body)
{
    struct connector *c = arg;
    if (c->kill_cause != KILL_NONE) {
        return;
    }
    if (f->type == LINK_LOG) {
        got_log(c, f);
    } else if (f->task != LINK_NO_TASK) {
        if (f->task < c->n_tasks) {
            pipeline_task_frame(c->tasks[f->task], f, body);
        } else {
            pipeline_connector_kill(c, KILL_ABI, LINK_STAGE_NONE,
                                    "a frame for a task that isn't there");
        }
    } else if (f->type == LINK_READY) {
        got_ready(c, f);
    } else if (f->type == LINK_TASKS) {
        got_tasks(c, f);
    } else if (f->type == LINK_FAILED) {
        got_failed(c, f);
    } else {
        pipeline_connector_kill(c, KILL_ABI, LINK_STAGE_NONE, "an unknown frame came");
    }
}

/* ---- starting ---- */

static int put_hello(struct connector *c, struct buf *out, struct err *err)
{
    struct hello h = {.connector = c->name,
                      .class_ = c->class_,
                      .effective = &c->effective,
                      .data_dir = c->p->host->data_dir,
                      .max_tasks = c->tasks_max,
                      .memory_limit_bytes =
                          pipeline_connector_number(c, "memory.limit.bytes", (int64_t)256 << 20),
                      .hold_bytes = c->p->host->hold_bytes,
                      .window_bytes = SOURCE_WINDOW_BYTES,
                      .log_level = log_get_level()};
    return pipeline_hello_put(&h, out, err);
}

/* The data socket took all that was queued: sinks may have more. */
static void drained(void *arg)
{
    struct connector *c = arg;
    for (size_t i = 0; i < c->n_tasks; i++) {
        pipeline_sink_pump(c->tasks[i]);
    }
}

static int spawn(struct connector *c, struct err *err)
{
    char lock[4200];
    int n = snprintf(lock, sizeof(lock), "%s/%s.lock", c->p->run_dir, c->name);
    if (n < 0 || (size_t)n >= sizeof(lock)) {
        return err_set(err, ERR_CONFIG, "path of the run lock is too long");
    }
    struct peer_options o = {.runner = c->p->runner,
                             .lock_path = lock,
                             .n_slots = (uint32_t)c->tasks_max,
                             .envp = c->p->envp,
                             .frame = frame,
                             .dead = dead,
                             .said = said,
                             .drained = drained,
                             .arg = c};
    TRY(pipeline_peer_spawn(&c->p->loop, &o, &c->peer, err));
    c->kill_cause = KILL_NONE;
    c->kill_stage = LINK_STAGE_NONE;
    struct buf out = BUF_INIT(LINK_CONTROL_MAX);
    int rc = put_hello(c, &out, err);
    if (rc == 0) {
        c->phase = CONNECTOR_LOADING;
        pipeline_connector_send(c, &out);
    }
    buf_free(&out);
    return rc;
}

static int may_start(const struct connector *c)
{
    for (size_t i = 0; i < c->n_tasks; i++) {
        if (!pipeline_task_is_idle(c->tasks[i])) {
            return 0; /* what it had sent is still on its way to the disk */
        }
    }
    return c->phase == CONNECTOR_DOWN && c->peer == NULL;
}

void pipeline_connector_start(struct connector *c)
{
    if (c->invalid != NULL || c->p->stopping) {
        return;
    }
    if (!may_start(c)) {
        pipeline_loop_timer_set(&c->p->loop, &c->restart_timer, LOCK_RETRY_MS);
        return;
    }
    struct err err = ERR_INIT;
    int rc = spawn(c, &err);
    if (rc == ERR_BUSY) {
        pipeline_loop_timer_set(&c->p->loop, &c->restart_timer, LOCK_RETRY_MS);
        return;
    }
    if (rc != 0) {
        pipeline_peer_free(c->peer);
        c->peer = NULL;
        c->phase = CONNECTOR_DOWN;
        failed(c, "io", LINK_STAGE_NONE, err.msg);
        return;
    }
    int again = c->failure.present;
    c->restarts += again;
    c->state = again ? STATE_RESTARTING : STATE_UNASSIGNED;
    for (size_t i = 0; i < c->n_tasks; i++) {
        c->tasks[i]->state = STATE_RESTARTING;
        c->tasks[i]->restarts++;
    }
}

/* ---- stopping ---- */

void pipeline_connector_stop(struct connector *c)
{
    pipeline_loop_timer_clear(&c->p->loop, &c->restart_timer);
    if (c->peer == NULL) {
        return;
    }
    c->phase = CONNECTOR_STOPPING;
    for (size_t i = 0; i < c->n_tasks; i++) {
        pipeline_task_stop(c->tasks[i]);
    }
    pipeline_connector_progress(c);
}

void pipeline_connector_progress(struct connector *c)
{
    if (c->phase != CONNECTOR_STOPPING || c->peer == NULL) {
        return;
    }
    for (size_t i = 0; i < c->n_tasks; i++) {
        if (!pipeline_task_is_idle(c->tasks[i])) {
            return;
        }
    }
    struct buf out = BUF_INIT(0);
    link_put_empty(&out, LINK_EXIT, LINK_NO_TASK);
    pipeline_connector_send(c, &out);
    buf_free(&out);
}

int pipeline_connector_is_down(const struct connector *c)
{
    for (size_t i = 0; i < c->n_tasks; i++) {
        if (!pipeline_task_is_idle(c->tasks[i])) {
            return 0;
        }
    }
    return c->peer == NULL;
}
