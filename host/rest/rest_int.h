/*
 * The inside of rest. A job is one request on its way through the workers:
 *
 *   queued --worker--> running --job_wait()--> waiting --job_wake() or deadline--> queued
 *                         \--job_reply*()--> gone
 *
 * A job runs on one worker at a time, so its step functions need no lock. job_wake() may come from any
 * thread, an engine's callback included.
 */
#ifndef REST_REST_INT_H
#define REST_REST_INT_H

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>

#include "base/thread.h"
#include "net/net.h"
#include "pipeline/pipeline.h"
#include "rest/rest.h"
#include "topic/topic.h"

enum { REST_WORKERS = 2, REST_SEGMENTS = 6 };
#define REST_JSON "application/json"

enum job_state { JOB_QUEUED = 1, JOB_RUNNING, JOB_WAITING };

struct job {
    struct rest *rest;
    struct net_request *req;
    enum net_method method; /* HEAD is GET here */
    const char *seg[REST_SEGMENTS];
    int n_seg;
    void (*step)(struct job *j); /* what a worker does next */
    void *data;                  /* the step's own, freed by free_data */
    void (*free_data)(void *data);
    /* under the rest's lock */
    enum job_state state;
    int woken; /* while running */
    int gone;  /* the client hung up, or the server stops */
    int64_t deadline_ms;
    struct job *prev, *next; /* in the queue or among those that wait */
};

struct job_list {
    struct job *first, *last;
};

struct rest {
    struct net_server *server;
    char version[64], commit[64], cluster_id[64];
    pthread_t workers[REST_WORKERS];
    int n_workers;
    uint32_t sticky; /* picks the partition of keyless writes; atomic */

    struct mutex lock;
    struct cond work;
    struct job_list queue, waiting;
    size_t n_jobs;
    int stopping;
    int ready;
    char stage[64];
    struct pipeline *pipeline;
    struct topic_engine *engine;
};

/* jobs.c */
void *rest_worker(void *arg);
/* Takes req; answers 503 without memory. */
void rest_job_start(struct rest *r, struct net_request *req, enum net_method method,
                    const char *const *seg, int n_seg, void (*step)(struct job *j));
/* Ends a step: the next one runs after rest_job_wake() or at the deadline (INT64_MAX: none). */
void rest_job_wait(struct job *j, int64_t deadline_ms);
void rest_job_wake(void *job);
int rest_job_is_gone(struct job *j);

/* reply.c: each replies and frees the job, and ends the step. */
void rest_job_reply(struct job *j, int status, const char *content_type, struct buf *body);
void rest_job_reply_json(struct job *j, int status,
                         json_t *body); /* takes body; NULL: out of memory */
void rest_job_reply_error(struct job *j, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);
void rest_job_reply_err(struct job *j, const struct err *err);
/* The same for requests that never became a job. */
void rest_reply_json(struct net_request *req, int status, json_t *body);

/* connectors.c, topics.c, read.c, write.c: first steps of the routes. */
void rest_get_connectors(struct job *j);
void rest_change_connector(struct job *j);
void rest_get_connector(struct job *j);
void rest_get_plugins(struct job *j);
void rest_get_health(struct job *j);
void rest_topics(struct job *j);
void rest_topic(struct job *j);
void rest_records(struct job *j);
void rest_read_records(struct job *j);
void rest_write_records(struct job *j);

/* topics.c: what `topic describe` prints; NULL with err. */
json_t *rest_describe_topic(struct topic_engine *e, const char *name, struct err *err);

/* records.c */
void rest_json_bytes(struct buf *out, struct slice s); /* string, null or {"base64":...} */

#endif
