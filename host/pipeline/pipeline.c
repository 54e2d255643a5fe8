/* The pipeline as a whole: opening, the core thread, questions from other threads, closing. */
#include "pipeline/pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "connectd/abi.h"
#include "pipeline/pipeline_int.h"
#include "pipeline/preflight.h"
#include "pipeline/validate.h"
#include "record/record.h"

#define WATCH_MS        500
#define UNRESPONSIVE_MS 10000
#define STALLED_MS      60000
#define STALLED_LOOK_MS 5000

/* ---- the watch: calls that take too long ---- */

static int64_t deadline_of(const struct connector *c, int stage)
{
    int64_t named = pipeline_connector_number(c, "callback.timeout.ms", 0);
    if (named > 0) {
        return named;
    }
    return stage == LINK_STAGE_PUT || stage == LINK_STAGE_FLUSH ? 300000 : 30000;
}

/* One slot of the shared page; returns 1 when the runner was killed for it. */
static int watch_slot(struct connector *c, const struct link_slot *s, int *condition)
{
    int stage = atomic_load(&s->stage);
    int64_t since = atomic_load(&s->since_ms);
    if (stage <= LINK_STAGE_NONE || stage >= LINK_STAGE_COUNT || since <= 0) {
        if (*condition == CONDITION_UNRESPONSIVE) {
            *condition = CONDITION_NONE;
        }
        return 0;
    }
    int64_t now = clock_mono_ms();
    int64_t took = since < now ? now - since : 0; /* the page is the runner's: it may lie */
    if (took >= deadline_of(c, stage)) {
        char message[256];
        (void)snprintf(
            message, sizeof(message),
            "%s made no progress for %lld ms (callback.timeout.ms); its runner was killed",
            link_stage_name(stage), (long long)took);
        pipeline_connector_kill(c, KILL_DEADLINE, stage, message);
        return 1;
    }
    if (took >= UNRESPONSIVE_MS && *condition != CONDITION_CRASH_LOOP) {
        *condition = CONDITION_UNRESPONSIVE;
    } else if (took < UNRESPONSIVE_MS && *condition == CONDITION_UNRESPONSIVE) {
        *condition = CONDITION_NONE;
    }
    return 0;
}

/* A sink for which records wait and that has moved none for a minute. */
static void watch_stalled(struct connector *c, struct task *t, const struct link_slot *s)
{
    if (c->class_->kind != CTD_KIND_SINK || t->state != STATE_RUNNING ||
        (t->condition != CONDITION_NONE && t->condition != CONDITION_STALLED)) {
        return;
    }
    int64_t moved = atomic_load(&s->moved_ms);
    int64_t since = moved > t->restart.running_since_ms ? moved : t->restart.running_since_ms;
    int stalled = clock_mono_ms() - since >= STALLED_MS && pipeline_sink_lag(t) > 0;
    t->condition = stalled ? CONDITION_STALLED : CONDITION_NONE;
}

static void watch_connector(struct connector *c)
{
    if (c->peer == NULL || c->kill_cause != KILL_NONE) {
        return;
    }
    const struct link_shared *s = pipeline_peer_shared(c->peer);
    if (watch_slot(c, &s->control, &c->condition)) {
        return;
    }
    for (size_t i = 0; i < c->n_tasks && i < pipeline_peer_slots(c->peer); i++) {
        struct task *t = c->tasks[i];
        if (watch_slot(c, &s->task[i], &t->condition)) {
            return;
        }
        if (clock_mono_ms() - c->looked_ms >= STALLED_LOOK_MS) {
            watch_stalled(c, t, &s->task[i]);
        }
        if (pipeline_restart_healthy(&t->restart) && t->condition == CONDITION_CRASH_LOOP) {
            t->condition = CONDITION_NONE;
        }
    }
    if (clock_mono_ms() - c->looked_ms >= STALLED_LOOK_MS) {
        c->looked_ms = clock_mono_ms();
    }
    if (pipeline_restart_healthy(&c->restart) && c->condition == CONDITION_CRASH_LOOP) {
        c->condition = CONDITION_NONE;
    }
}

static void watch(struct loop_timer *timer)
{
    struct pipeline *p =
        (struct pipeline *)(void *)((char *)timer - offsetof(struct pipeline, watch));
    for (size_t i = 0; i < p->n_connectors; i++) {
        watch_connector(p->connectors[i]);
    }
    pipeline_loop_timer_set(&p->loop, &p->watch, WATCH_MS);
}

/* ---- questions from other threads ---- */

struct call {
    struct loop_post post;
    void (*run)(struct pipeline *p, void *arg);
    struct pipeline *p;
    void *arg;
    int done;
    struct mutex lock;
    struct cond changed;
};

static void run_call(struct loop_post *post)
{
    struct call *c = (struct call *)(void *)((char *)post - offsetof(struct call, post));
    c->run(c->p, c->arg);
    mutex_lock(&c->lock);
    c->done = 1;
    cond_signal(&c->changed);
    mutex_unlock(&c->lock);
}

/* Runs `run` on the core thread and waits for it. */
static void call_core(struct pipeline *p, void (*run)(struct pipeline *p, void *arg), void *arg)
{
    struct call c = {.post = {.run = run_call}, .run = run, .p = p, .arg = arg};
    mutex_init(&c.lock);
    cond_init(&c.changed);
    pipeline_loop_post(&p->loop, &c.post);
    mutex_lock(&c.lock);
    while (!c.done) {
        cond_wait(&c.changed, &c.lock);
    }
    mutex_unlock(&c.lock);
    mutex_destroy(&c.lock);
    cond_destroy(&c.changed);
}

enum view { VIEW_INFO, VIEW_CONFIG, VIEW_STATUS, VIEW_TASKS, VIEW_TASK_STATUS };
struct view_call {
    const char *name;
    int view;
    int task;
    json_t *ret;
    int rc;
    struct err *err;
};

static void view_on_core(struct pipeline *p, void *arg)
{
    struct view_call *v = arg;
    struct connector *c = pipeline_connector_find(p, v->name);
    if (c == NULL) {
        v->rc = err_set(v->err, ERR_NOT_FOUND,
                        v->view == VIEW_STATUS ? "No status found for connector %s"
                                               : "Connector %s not found",
                        v->name);
        return;
    }
    if (v->view == VIEW_TASK_STATUS) {
        if (v->task < 0 || (size_t)v->task >= c->n_tasks) {
            v->rc =
                err_set(v->err, ERR_NOT_FOUND, "No status found for task %s-%d", v->name, v->task);
            return;
        }
        v->ret = pipeline_status_task(c->tasks[v->task]);
    } else if (v->view == VIEW_STATUS) {
        v->ret = pipeline_status_connector(c);
    } else if (v->view == VIEW_TASKS) {
        v->ret = pipeline_status_tasks(c);
    } else {
        v->ret = pipeline_status_info(c);
        if (v->view == VIEW_CONFIG) {
            json_t *config = json_incref(json_object_get(v->ret, "config"));
            json_decref(v->ret);
            v->ret = config;
        }
    }
}

static int view(struct pipeline *p, const char *name, int which, int task, json_t **ret,
                struct err *err)
{
    struct view_call v = {.name = name, .view = which, .task = task, .err = err};
    call_core(p, view_on_core, &v);
    if (v.rc == 0) {
        *ret = v.ret;
    }
    return v.rc;
}

int pipeline_connector_info(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    return view(p, name, VIEW_INFO, -1, ret, err);
}

int pipeline_connector_config(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    return view(p, name, VIEW_CONFIG, -1, ret, err);
}

int pipeline_connector_status(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    return view(p, name, VIEW_STATUS, -1, ret, err);
}

int pipeline_connector_tasks(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    return view(p, name, VIEW_TASKS, -1, ret, err);
}

int pipeline_task_status(struct pipeline *p, const char *name, int task, json_t **ret,
                         struct err *err)
{
    return view(p, name, VIEW_TASK_STATUS, task, ret, err);
}

struct file_call {
    const char *name;
    char *ret;
    size_t n;
    int rc;
};

static void file_on_core(struct pipeline *p, void *arg)
{
    struct file_call *f = arg;
    const struct connector *c = pipeline_connector_find(p, f->name);
    f->rc = c != NULL ? 0 : ERR_NOT_FOUND;
    (void)snprintf(f->ret, f->n, "%s", c != NULL ? c->file : "");
}

int pipeline_connector_file(struct pipeline *p, const char *name, char *ret, size_t n)
{
    struct file_call f = {.name = name, .ret = ret, .n = n};
    call_core(p, file_on_core, &f);
    return f.rc;
}

struct list_call {
    int with_status, with_info, expanded;
    json_t *ret;
    int http;
};

static void list_on_core(struct pipeline *p, void *arg)
{
    struct list_call *l = arg;
    l->ret = l->expanded ? json_object() : json_array();
    for (size_t i = 0; i < p->n_connectors; i++) {
        struct connector *c = p->connectors[i];
        if (!l->expanded) {
            (void)json_array_append_new(l->ret, json_string(c->name));
            continue;
        }
        json_t *o = json_object();
        if (l->with_status) {
            (void)json_object_set_new(o, "status", pipeline_status_connector(c));
        }
        if (l->with_info) {
            (void)json_object_set_new(o, "info", pipeline_status_info(c));
        }
        (void)json_object_set_new(l->ret, c->name, o);
    }
}

json_t *pipeline_connector_names(struct pipeline *p)
{
    struct list_call l = {0};
    call_core(p, list_on_core, &l);
    return l.ret;
}

json_t *pipeline_connectors_expanded(struct pipeline *p, int with_status, int with_info)
{
    struct list_call l = {.with_status = with_status, .with_info = with_info, .expanded = 1};
    call_core(p, list_on_core, &l);
    return l.ret;
}

static void health_on_core(struct pipeline *p, void *arg)
{
    struct list_call *l = arg;
    l->ret = pipeline_status_health(p, &l->http);
}

json_t *pipeline_health(struct pipeline *p, int *ret_http)
{
    struct list_call l = {0};
    call_core(p, health_on_core, &l);
    *ret_http = l.http;
    return l.ret;
}

static json_t *plugin_json(const char *name, const char *type, const char *version)
{
    json_t *o = json_object();
    (void)json_object_set_new(o, "class", json_string(name));
    (void)json_object_set_new(o, "type", json_string(type));
    (void)json_object_set_new(o, "version", json_string(version != NULL ? version : ""));
    return o;
}

json_t *pipeline_plugins(struct pipeline *p, int connectors_only)
{
    static const char *const types[] = {"",          "source",         "sink",
                                        "converter", "transformation", "predicate"};
    json_t *list = json_array(); /* plugins are read once, before the core thread starts */
    for (size_t i = 0; i < p->plugins.n_classes; i++) {
        const struct plugin_class *c = &p->plugins.classes[i];
        if (!connectors_only || c->kind == CTD_KIND_SOURCE || c->kind == CTD_KIND_SINK) {
            (void)json_array_append_new(list, plugin_json(c->name, types[c->kind], c->version));
        }
    }
    size_t n = 0;
    const ctd_class *const *built_in = record_converters(&n);
    for (size_t i = 0; i < n && !connectors_only; i++) {
        (void)json_array_append_new(
            list, plugin_json(built_in[i]->name, "converter", built_in[i]->version));
    }
    return list;
}

/* ---- opening ---- */

static int make_topics(struct pipeline *p, const struct declared *d, struct err *err)
{
    for (size_t i = 0; i < d->n_topics; i++) {
        const struct decl_topic *t = &d->topics[i];
        struct topic_config *config = calloc(t->config.n + 1, sizeof(*config));
        if (config == NULL) {
            return err_set(err, ERR_NOMEM, "out of memory");
        }
        for (size_t k = 0; k < t->config.n; k++) {
            if (pipeline_topic_config_idle(t->config.items[k].key, t->config.items[k].value)) {
                LOG_WARN("pipeline",
                         "%s:%d: topic %s: %s is kept but does nothing yet: the topic "
                         "keeps everything",
                         t->file, t->line, t->name, t->config.items[k].key);
            }
            config[k] = (struct topic_config){t->config.items[k].key, t->config.items[k].value};
        }
        struct topic_info info;
        struct err why = ERR_INIT;
        int rc = topic_resolve(p->engine, t->name, &info, &why);
        if (rc == ERR_NOT_FOUND) {
            rc = topic_create(p->engine, t->name, t->partitions, config, t->config.n, &why);
        } else if (rc == 0 && info.partitions > t->partitions) {
            rc =
                err_set(&why, ERR_CONFIG,
                        "it has %d partitions, and partitions cannot be taken away: say %d or more",
                        (int)info.partitions, (int)info.partitions);
        } else if (rc == 0) {
            rc = topic_grow(p->engine, t->name, t->partitions, &why);
            rc = rc != 0 ? rc : topic_configure(p->engine, t->name, config, t->config.n, &why);
        }
        free(config);
        if (rc != 0) {
            pipeline_findings_add(&p->problems, t->file, t->line, t->column, NULL, t->name, NULL,
                                  "%s", why.msg);
            LOG_ERROR("pipeline", "%s:%d: topic %s: %s", t->file, t->line, t->name, why.msg);
        }
    }
    return 0;
}

static void mark_invalid(struct connector *c, const struct findings *f)
{
    struct buf text = BUF_INIT(1 << 20);
    for (size_t i = 0; i < f->n; i++) {
        if (str_eq(f->items[i].connector, c->name)) {
            char line[1400];
            pipeline_findings_format(&f->items[i], line, sizeof(line));
            buf_printf(&text, "%s%s", text.len > 0 ? "\n" : "", line);
        }
    }
    c->invalid = strdup(buf_cstr(&text));
    c->state = STATE_FAILED;
    pipeline_failure_set(&c->failure, "config", LINK_STAGE_VALIDATE,
                         c->invalid != NULL ? c->invalid : "out of memory", -1);
    LOG_ERROR("pipeline", "connector %s: %s", c->name, c->failure.message);
    c->settled = 1;
    buf_free(&text);
}

static int by_name(const void *a, const void *b)
{
    const struct connector *const *x = a;
    const struct connector *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int make_connector(struct pipeline *p, const struct decl_connector *d,
                          const struct findings *findings, struct err *err)
{
    struct connector *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    p->connectors[p->n_connectors++] = c;
    c->p = p;
    c->failure.record_index = -1;
    c->restart_timer.fire = pipeline_connector_start_timer;
    c->name = strdup(d->name);
    c->file = strdup(d->file);
    c->resolved = map_new(NULL);
    if (c->name == NULL || c->file == NULL || c->resolved == NULL ||
        pipeline_kv_copy(&c->config, &d->config) != 0 ||
        pipeline_validate_effective(d, p->host, &c->effective) != 0) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    const char *class_ = pipeline_kv_get(&d->config, "connector.class");
    c->class_ = class_ != NULL ? pipeline_plugins_find(&p->plugins, class_) : NULL;
    if (pipeline_validate_paths(c->class_, &c->config) != 0 ||
        pipeline_validate_paths(c->class_, &c->effective) != 0) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    c->tasks_max = (int32_t)pipeline_connector_number(c, "tasks.max", 1);
    if (pipeline_findings_of(findings, c->name) != NULL) {
        mark_invalid(c, findings);
    } else {
        p->unsettled++;
    }
    return 0;
}

static int make_environment(struct pipeline *p)
{
    static const char *const always[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
                                         "LSAN_OPTIONS"};
    size_t n_always = 0;
#ifdef CONNECTD_SANITIZER
    n_always = sizeof(always) / sizeof(always[0]);
#endif
    p->envp = calloc(p->host->n_env_pass + n_always + 1, sizeof(*p->envp));
    if (p->envp == NULL) {
        return ERR_NOMEM;
    }
    size_t n = 0;
    for (size_t i = 0; i < p->host->n_env_pass + n_always; i++) {
        const char *name =
            i < p->host->n_env_pass ? p->host->env_pass[i] : always[i - p->host->n_env_pass];
        const char *value = getenv(name);
        if (value != NULL && asprintf(&p->envp[n++], "%s=%s", name, value) < 0) {
            return ERR_NOMEM;
        }
    }
    return 0;
}

/* Those of connectors, or all others. */
static void copy_findings(const struct findings *from, int of_connectors, struct findings *to)
{
    for (size_t i = 0; i < from->n; i++) {
        const struct finding *f = &from->items[i];
        if ((f->connector != NULL) == of_connectors) {
            pipeline_findings_add(to, f->file, f->line, f->column, f->connector, f->key,
                                  f->suggestion, "%s", f->text);
        }
    }
}

static int prepare(struct pipeline *p, const struct pipeline_options *o, struct err *err)
{
    TRY(pipeline_loop_init(&p->loop, err));
    p->run_dir = file_join(p->host->data_dir, "run");
    p->runner = strdup(o->runner);
    if (p->run_dir == NULL || p->runner == NULL || make_environment(p) != 0) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    TRY(file_mkdirs(p->run_dir, err));
    TRY(pipeline_plugins_load(p->host, o->runner, p->host->data_dir, &p->plugins, err));
    for (size_t i = 0; i < p->plugins.n_refused; i++) {
        LOG_WARN("pipeline", "plugin refused: %s: %s", p->plugins.refused[i].file,
                 p->plugins.refused[i].reason);
    }
    TRY(make_topics(p, o->declared, err));
    TRY(pipeline_offsets_load(p, err));
    struct findings findings = {0};
    copy_findings(o->findings, 1, &findings);
    (void)pipeline_validate_all(o->declared, p->host, &p->plugins, &findings);
    p->connectors = calloc(o->declared->n_connectors + 1, sizeof(struct connector *));
    int rc = p->connectors != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; rc == 0 && i < o->declared->n_connectors; i++) {
        rc = make_connector(p, &o->declared->connectors[i], &findings, err);
    }
    pipeline_findings_free(&findings);
    TRY(rc);
    qsort(p->connectors, p->n_connectors, sizeof(struct connector *), by_name);
    copy_findings(o->findings, 0, &p->problems);
    return 0;
}

static void start_all(struct loop_timer *timer)
{
    struct pipeline *p =
        (struct pipeline *)(void *)((char *)timer - offsetof(struct pipeline, watch));
    for (size_t i = 0; i < p->n_connectors; i++) {
        pipeline_connector_start(p->connectors[i]);
    }
    p->watch.fire = watch;
    pipeline_loop_timer_set(&p->loop, &p->watch, WATCH_MS);
}

/* The core thread: it starts every runner and ends after the last of them, so that "the runner
 * dies with the thread that started it" never hits a running pipeline. */
static void *core(void *arg)
{
    struct pipeline *p = arg;
    pipeline_loop_run(&p->loop);
    return NULL;
}

static void destroy(struct pipeline *p)
{
    for (size_t i = 0; i < p->n_connectors; i++) {
        pipeline_connector_free(p->connectors[i]);
    }
    free(p->connectors);
    map_free(p->offsets);
    pipeline_plugins_free(&p->plugins);
    pipeline_findings_free(&p->problems);
    for (size_t i = 0; p->envp != NULL && p->envp[i] != NULL; i++) {
        free(p->envp[i]);
    }
    free(p->envp);
    free(p->runner);
    free(p->run_dir);
    pipeline_loop_destroy(&p->loop);
    mutex_destroy(&p->lock);
    cond_destroy(&p->changed);
    free(p);
}

int pipeline_open(const struct pipeline_options *o, struct pipeline **ret, struct err *err)
{
    struct pipeline *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    mutex_init(&p->lock);
    cond_init(&p->changed);
    p->host = o->host;
    p->engine = o->engine;
    (void)snprintf(p->worker_id, sizeof(p->worker_id), "%s", o->worker_id);
    int rc = prepare(p, o, err);
    if (rc == 0) {
        p->watch.fire = start_all;
        pipeline_loop_timer_set(&p->loop, &p->watch, 0);
        rc = thread_start(&p->thread, "core", core, p, err);
    }
    if (rc != 0) {
        destroy(p);
        return rc;
    }
    *ret = p;
    return 0;
}

int pipeline_wait_started(struct pipeline *p, int64_t deadline_ms)
{
    int rc = 0;
    mutex_lock(&p->lock);
    while (p->unsettled > 0 && rc == 0) {
        rc = cond_wait_until(&p->changed, &p->lock, deadline_ms);
    }
    rc = p->unsettled > 0 ? ERR_TIMEOUT : 0;
    p->ready |= rc == 0;
    mutex_unlock(&p->lock);
    return rc;
}

void pipeline_set_ready(struct pipeline *p)
{
    mutex_lock(&p->lock);
    p->ready = 1;
    mutex_unlock(&p->lock);
}

/* ---- closing ---- */

static void check_down(struct loop_timer *timer)
{
    struct pipeline *p =
        (struct pipeline *)(void *)((char *)timer - offsetof(struct pipeline, stop_deadline));
    int late = clock_mono_ms() >= p->stop_by_ms;
    int down = 1;
    for (size_t i = 0; i < p->n_connectors; i++) {
        struct connector *c = p->connectors[i];
        if (late && c->peer != NULL && c->kill_cause == KILL_NONE) {
            LOG_WARN("pipeline", "connector %s did not stop in time; its runner is killed",
                     c->name);
            pipeline_connector_kill(c, KILL_STOP, LINK_STAGE_STOP, "it did not stop in time");
        }
        down = down && pipeline_connector_is_down(c);
    }
    if (down) {
        pipeline_loop_stop(&p->loop);
    } else {
        pipeline_loop_timer_set(&p->loop, timer, 5);
    }
}

static void stop_on_core(struct pipeline *p, void *arg)
{
    (void)arg;
    p->stopping = 1;
    p->stop_by_ms = clock_mono_ms() + p->host->graceful_ms;
    for (size_t i = 0; i < p->n_connectors; i++) {
        pipeline_connector_stop(p->connectors[i]);
    }
    p->stop_deadline.fire = check_down;
    pipeline_loop_timer_set(&p->loop, &p->stop_deadline, 0);
}

void pipeline_close(struct pipeline *p)
{
    if (p == NULL) {
        return;
    }
    call_core(p, stop_on_core, NULL);
    thread_join(p->thread);
    destroy(p);
}

/* ---- check ---- */

/* A folder of plugin.path that cannot be read is the user's mistake in that key. */
static void add_refusal(const struct host_config *host, const struct plugin_refusal *r,
                        struct findings *findings)
{
    const struct kv *kv = pipeline_kv_find(&host->keys, "plugin.path");
    for (size_t i = 0; kv != NULL && i < host->n_plugin_path; i++) {
        if (strcmp(host->plugin_path[i], r->file) == 0) {
            pipeline_findings_add(findings, kv->line > 0 ? host->file : "--set",
                                  kv->line > 0 ? kv->value_line : 1,
                                  kv->line > 0 ? kv->value_column : 1, NULL, "plugin.path", NULL,
                                  "%s: %s", r->file, r->reason);
        }
    }
}

int pipeline_check(const struct host_config *host, const struct declared *declared,
                   const char *runner, struct findings *findings, struct err *err)
{
    struct plugins plugins;
    TRY(pipeline_plugins_load(host, runner, NULL, &plugins, err));
    (void)pipeline_validate_all(declared, host, &plugins, findings);
    for (size_t i = 0; i < plugins.n_refused; i++) {
        add_refusal(host, &plugins.refused[i], findings);
    }
    int rc = pipeline_preflight_all(declared, host, &plugins, runner, findings, err);
    pipeline_plugins_free(&plugins);
    return rc;
}
