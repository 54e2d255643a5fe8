/* Status, info and health as REST shows them: Connect's shape, and what the contract adds. */
#include <stdio.h>
#include <string.h>

#include "connectd/abi.h"
#include "pipeline/options.h"
#include "pipeline/pipeline_int.h"

const char *pipeline_state_name(int state)
{
    static const char *const names[] = {"UNASSIGNED", "RUNNING", "PAUSED",
                                        "STOPPED",    "FAILED",  "RESTARTING"};
    return names[state];
}

static json_t *condition_json(int condition)
{
    static const char *const names[] = {"", "CRASH_LOOP", "STALLED", "UNRESPONSIVE"};
    return condition == CONDITION_NONE ? json_null() : json_string(names[condition]);
}

static void put(json_t *o, const char *key, json_t *value)
{
    (void)json_object_set_new(o, key, value);
}

static json_t *failure_json(const struct failure *f, const struct restart *r)
{
    if (!f->present) {
        return json_null();
    }
    json_t *o = json_object();
    put(o, "cause", json_string(f->cause));
    const char *stage = link_stage_name(f->stage);
    put(o, "stage", stage[0] != '\0' ? json_string(stage) : json_null());
    put(o, "message", json_string(f->message));
    put(o, "record_index", f->record_index >= 0 ? json_integer(f->record_index) : json_null());
    put(o, "count", json_integer(f->count));
    put(o, "first_ms", json_integer(f->first_ms));
    put(o, "last_ms", json_integer(f->last_ms));
    put(o, "next_restart_ms", r->next_wall_ms > 0 ? json_integer(r->next_wall_ms) : json_null());
    return o;
}

/* State, worker_id, and what the contract adds to both connector and task. */
static void put_common(json_t *o, struct connector *c, int state, int condition, int64_t restarts,
                       const struct failure *f, const struct restart *r)
{
    put(o, "state", json_string(pipeline_state_name(state)));
    put(o, "worker_id", json_string(c->p->worker_id));
    if (state == STATE_FAILED) {
        char trace[1400];
        (void)snprintf(trace, sizeof(trace), "%s%s%s: %s", f->cause,
                       f->stage != LINK_STAGE_NONE ? " in " : "", link_stage_name(f->stage),
                       f->message);
        put(o, "trace", json_string(trace));
    }
    put(o, "condition", condition_json(condition));
    put(o, "restarts", json_integer(restarts));
    put(o, "error", failure_json(f, r));
}

json_t *pipeline_status_task(struct task *t)
{
    json_t *o = json_object();
    put(o, "id", json_integer(t->id));
    const struct restart *r =
        t->connector->restart.next_wall_ms > 0 ? &t->connector->restart : &t->restart;
    put_common(o, t->connector, t->state, t->condition, t->restarts, &t->failure, r);
    if (t->connector->class_ != NULL && t->connector->class_->kind == CTD_KIND_SINK) {
        int64_t lag = pipeline_sink_lag(t);
        put(o, "lag", lag >= 0 ? json_integer(lag) : json_null());
    }
    return o;
}

static const char *type_name(const struct connector *c)
{
    if (c->class_ == NULL) {
        return "unknown";
    }
    return c->class_->kind == CTD_KIND_SINK ? "sink" : "source";
}

json_t *pipeline_status_connector(struct connector *c)
{
    json_t *o = json_object();
    put(o, "name", json_string(c->name));
    json_t *connector = json_object();
    put_common(connector, c, c->state, c->condition, c->restarts, &c->failure, &c->restart);
    if (c->invalid != NULL) {
        put(connector, "config_error", json_string(c->invalid));
    }
    put(o, "connector", connector);
    json_t *tasks = json_array();
    for (size_t i = 0; i < c->n_tasks; i++) {
        (void)json_array_append_new(tasks, pipeline_status_task(c->tasks[i]));
    }
    put(o, "tasks", tasks);
    put(o, "type", json_string(type_name(c)));
    return o;
}

/* What the class calls a secret; without a known class, what sounds like one. */
static int is_secret(const struct connector *c, const char *key)
{
    static const char *const words[] = {"password", "secret", "token", "credential", "private"};
    for (size_t i = 0; c->class_ == NULL && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasestr(key, words[i]) != NULL) {
            return 1;
        }
    }
    for (size_t i = 0; c->class_ != NULL && i < c->class_->n_options; i++) {
        const struct class_option *o = &c->class_->options[i];
        int same = o->prefix ? str_starts_with(key, o->name) : strcmp(o->name, key) == 0;
        if (o->type == OPTION_SECRET && same) {
            return 1;
        }
    }
    return 0;
}

/* A value that may be a secret is never shown. */
static json_t *shown(const struct connector *c, const struct kv *kv)
{
    return json_string(is_secret(c, kv->key) ? "********" : kv->value);
}

json_t *pipeline_status_tasks(struct connector *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_tasks; i++) {
        json_t *info = pipeline_status_info(c);
        json_t *config = json_object_get(info, "config");
        for (size_t k = 0; k < c->tasks[i]->config.n; k++) {
            const struct kv *kv = &c->tasks[i]->config.items[k];
            put(config, kv->key, shown(c, kv));
        }
        json_t *id = json_object();
        put(id, "connector", json_string(c->name));
        put(id, "task", json_integer((json_int_t)i));
        json_t *task = json_object();
        put(task, "id", id);
        put(task, "config", json_incref(config));
        (void)json_array_append_new(list, task);
        json_decref(info);
    }
    return list;
}

json_t *pipeline_status_info(struct connector *c)
{
    json_t *o = json_object();
    put(o, "name", json_string(c->name));
    json_t *config = json_object();
    put(config, "name", json_string(c->name));
    for (size_t i = 0; i < c->config.n; i++) {
        put(config, c->config.items[i].key, shown(c, &c->config.items[i]));
    }
    put(o, "config", config);
    json_t *tasks = json_array();
    for (size_t i = 0; i < c->n_tasks; i++) {
        json_t *id = json_object();
        put(id, "connector", json_string(c->name));
        put(id, "task", json_integer(c->tasks[i]->id));
        (void)json_array_append_new(tasks, id);
    }
    put(o, "tasks", tasks);
    put(o, "type", json_string(type_name(c)));
    return o;
}

/* ---- health ---- */

static void add_problem(json_t *list, const char *connector, int64_t task, int condition,
                        const char *reason)
{
    json_t *o = json_object();
    put(o, "connector", connector != NULL ? json_string(connector) : json_null());
    put(o, "task", task >= 0 ? json_integer(task) : json_null());
    put(o, "condition", condition_json(condition));
    put(o, "reason", json_string(reason));
    (void)json_array_append_new(list, o);
}

static void connector_problems(json_t *list, const struct connector *c)
{
    if (c->state == STATE_FAILED) {
        add_problem(list, c->name, -1, c->condition, c->failure.message);
    }
    for (size_t i = 0; i < c->n_tasks; i++) {
        const struct task *t = c->tasks[i];
        if (t->state == STATE_FAILED || t->condition != CONDITION_NONE) {
            add_problem(list, c->name, t->id, t->condition, t->failure.message);
        }
    }
}

json_t *pipeline_status_health(struct pipeline *p, int *ret_http)
{
    json_t *o = json_object();
    json_t *problems = json_array();
    char reason[256] = "";
    int writable = topic_writable(p->engine, reason, sizeof(reason));
    if (!writable) {
        add_problem(problems, NULL, -1, CONDITION_NONE, reason);
    }
    for (size_t i = 0; i < p->problems.n; i++) {
        char line[1024];
        pipeline_findings_format(&p->problems.items[i], line, sizeof(line));
        add_problem(problems, NULL, -1, CONDITION_NONE, line);
    }
    for (size_t i = 0; i < p->n_connectors; i++) {
        connector_problems(problems, p->connectors[i]);
    }
    size_t n = json_array_size(problems);
    char message[320];
    if (!writable) {
        (void)snprintf(message, sizeof(message), "the log cannot write: %s", reason);
    } else {
        (void)snprintf(message, sizeof(message), "%zu problem%s", n, n == 1 ? "" : "s");
    }
    mutex_lock(&p->lock);
    int starting = p->unsettled > 0 && !p->ready;
    mutex_unlock(&p->lock);
    if (starting && writable) {
        (void)snprintf(message, sizeof(message), "connectors are starting");
    }
    put(o, "status",
        json_string(!writable  ? "unhealthy"
                    : starting ? "starting"
                    : n > 0    ? "degraded"
                               : "healthy"));
    put(o, "message", json_string(message));
    put(o, "problems", problems);
    *ret_http = !writable ? 500 : starting ? 503 : 200;
    return o;
}
