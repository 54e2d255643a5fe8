/*
 * pipeline: connectors, tasks, offsets, restarts, assignment. One core thread owns all of it;
 * runners, sockets, timers and commits are events on its loop. Everybody else posts to it and,
 * where an answer is needed, waits.
 *
 * Threads: the functions below are for any thread but the core's own. What they return belongs to
 * the caller (json_t: one reference).
 */
#ifndef PIPELINE_PIPELINE_H
#define PIPELINE_PIPELINE_H

#include <stdint.h>

#include "base/err.h"
#include "codec/json.h"

struct pipeline;
struct topic_engine;
struct host_config;
struct declared;
struct findings;

struct pipeline_options {
    const struct host_config *host;  /* borrowed; outlives the pipeline */
    const struct declared *declared; /* read during pipeline_open() only */
    const struct findings
        *findings;               /* of pipeline_config_load(); read during pipeline_open() only */
    struct topic_engine *engine; /* borrowed; outlives the pipeline */
    const char *runner;          /* path of connectd-runner */
    const char *worker_id;       /* REST's host:port */
};
/* Loads plugin descriptions, makes the declared topics, reads the stored offsets and starts every
 * connector on the core thread. A connector that cannot start is FAILED and says why; that is no
 * error here. */
int pipeline_open(const struct pipeline_options *o, struct pipeline **ret,
                  struct err *err) MUST_USE;
/* Waits until every connector runs or has failed once, at most until deadline_ms (monotonic). 0 or
 * ERR_TIMEOUT. */
int pipeline_wait_started(struct pipeline *p, int64_t deadline_ms);
/* The start is over, whether or not everything runs: /health stops saying "starting". */
void pipeline_set_ready(struct pipeline *p);
/* Drains for at most task.shutdown.graceful.timeout.ms, then kills; frees everything. NULL-safe. */
void pipeline_close(struct pipeline *p);
/* The same code path as run, without starting anything: validation findings are added to
 * `findings`. Loads plugin descriptions without writing anywhere, and asks each plugin about its
 * config in a runner of its own (preflight.h). */
int pipeline_check(const struct host_config *host, const struct declared *declared,
                   const char *runner, struct findings *findings, struct err *err) MUST_USE;

/* REST's errors: ERR_NOT_FOUND is 404, ERR_CONFIG and ERR_INVAL 400, ERR_EXISTS 409, else 500. */

json_t *pipeline_connector_names(struct pipeline *p); /* ["name", ...] sorted by bytes */
/* {"name":{"status":{...},"info":{...}}}, each part when asked for. */
json_t *pipeline_connectors_expanded(struct pipeline *p, int with_status, int with_info);
int pipeline_connector_info(struct pipeline *p, const char *name, json_t **ret,
                            struct err *err) MUST_USE;
int pipeline_connector_config(struct pipeline *p, const char *name, json_t **ret,
                              struct err *err) MUST_USE;
int pipeline_connector_status(struct pipeline *p, const char *name, json_t **ret,
                              struct err *err) MUST_USE;
int pipeline_connector_tasks(struct pipeline *p, const char *name, json_t **ret,
                             struct err *err) MUST_USE;
int pipeline_task_status(struct pipeline *p, const char *name, int task, json_t **ret,
                         struct err *err) MUST_USE;
/* The file that declares a connector, as the user gave it. 0 or ERR_NOT_FOUND. */
int pipeline_connector_file(struct pipeline *p, const char *name, char *ret, size_t n);
/* Checks one topic config as topics: does. ERR_CONFIG says what is wrong; unknown keys too. No state. */
int pipeline_topic_config_check(const char *key, const char *value, struct err *err) MUST_USE;
/* 1 if this config is stored but does nothing yet (retention, compaction): worth a warning. No state. */
int pipeline_topic_config_idle(const char *key, const char *value);
/* [{"class","type","version"}], connectors only or converters too. */
json_t *pipeline_plugins(struct pipeline *p, int connectors_only);
/* The body of /health: {"status","message","problems":[...]}; *ret_http: 200, 500 or 503. */
json_t *pipeline_health(struct pipeline *p, int *ret_http);

#endif
