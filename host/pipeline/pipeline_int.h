/*
 * Private structures of the pipeline. Everything in here belongs to the core thread; what other
 * threads touch goes through pipeline_loop_post().
 *
 *   pipeline -- connector (one runner process: peer) -- task -- commits in flight
 *                                                         \----- parts (a sink's partitions)
 */
#ifndef PIPELINE_PIPELINE_INT_H
#define PIPELINE_PIPELINE_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/thread.h"
#include "link/link.h"
#include "pipeline/config.h"
#include "pipeline/loop.h"
#include "pipeline/peer.h"
#include "pipeline/pipeline.h"
#include "pipeline/plugins.h"
#include "topic/topic.h"

#define SOURCE_WINDOW_BYTES ((uint64_t)8 << 20) /* unacked COMMIT bytes of one source task */
#define SINK_CREDIT_BYTES   ((int64_t)4 << 20)  /* RECORDS bytes of one sink task not yet put */
#define SINK_READ_BYTES     ((size_t)512 << 10) /* of one RECORDS frame */

enum state {
    STATE_UNASSIGNED = 0,
    STATE_RUNNING,
    STATE_PAUSED,
    STATE_STOPPED,
    STATE_FAILED,
    STATE_RESTARTING
};
enum condition {
    CONDITION_NONE = 0,
    CONDITION_CRASH_LOOP,
    CONDITION_STALLED,
    CONDITION_UNRESPONSIVE
};

/* The last failure of a task or connector, as status shows it. */
struct failure {
    int present;
    char cause[24]; /* the contract's causes: "SIGSEGV", "exit 3", "data", ... */
    int stage;      /* enum link_stage */
    char message[1024];
    int64_t record_index;      /* -1: none */
    int64_t count;             /* in a row with the same cause and stage */
    int64_t first_ms, last_ms; /* wall clock */
};

/* Restart policy of one task or connector: restart.c. */
struct restart {
    int64_t backoff_ms;   /* the next wait; 0: not failed lately */
    int64_t failed_ms[5]; /* monotonic times of the last failures, oldest overwritten */
    int n_failed;
    int64_t next_wall_ms;     /* when it starts again, wall clock for status; 0: not planned */
    int64_t running_since_ms; /* monotonic; 0: not running */
};

struct connector;
struct task;

/* One COMMIT frame on its way into the topics: commit.c. */
struct commit {
    struct commit *next;
    struct task *task;
    uint64_t seq;
    uint8_t *body; /* the frame's payload: appends point into it */
    size_t bytes;
    struct arena *arena;
    struct topic_unit unit;
    struct buf state_batch; /* the source offsets' records */
    struct link_commit frame;
    struct loop_post done_post;
    enum { COMMIT_QUEUED, COMMIT_SUBMITTED, COMMIT_DONE } phase;
    int unbuildable; /* DONE before it was ever submitted: it cannot be tried again */
    struct err err;  /* when DONE: code 0 or why not */
};

/* One partition that a sink task reads: sink.c. */
struct part {
    struct task *task;
    uint32_t index; /* in the OPEN frame */
    char *topic;
    uint8_t topic_id[16];
    int32_t partition;
    int64_t epoch;
    struct topic_reader *reader; /* NULL until opened */
    int64_t next;                /* next offset to send */
    int64_t committed;           /* -1: none */
    int64_t end;                 /* of the partition when last read */
    int revoked;                 /* goes away at the next CLOSED */
    struct loop_post wake;
};

enum sink_phase { SINK_IDLE = 0, SINK_OPENING, SINK_OPEN, SINK_CLOSING };

struct task {
    struct connector *connector;
    uint32_t id;
    int state;
    int condition;
    int64_t restarts;
    struct failure failure;
    struct restart restart;
    struct loop_timer restart_timer;
    struct kv_list config; /* keys in which it differs from the connector */
    int live;              /* START was sent and neither FAILED nor STOPPED came back */
    int starting;          /* of these, STARTED has not come yet */
    int stopping;

    struct topic_stream *stream;
    struct commit *commits; /* oldest first */
    struct commit **commits_end;
    struct commit *to_submit; /* the first that the engine has not been given; NULL: none */
    size_t n_commits;
    int blocked; /* one has failed: nothing may overtake it */
    int n_submitted;
    size_t commit_bytes;
    uint64_t next_seq; /* of the COMMIT that is due */
    int refusing;      /* one was answered with a failure: nothing more until the next start */
    int holding;       /* a unit failed retriably: waiting for the retry timer */
    struct loop_timer retry_timer;

    /* sinks */
    struct topic_member *member;
    struct loop_post member_post;
    int phase;               /* enum sink_phase */
    int64_t generation;      /* of the member */
    int64_t link_generation; /* of OPEN frames: grows with each */
    struct part **parts;
    size_t n_parts;
    size_t next_part;    /* round robin */
    int64_t credit;      /* bytes that may be sent now */
    int64_t outstanding; /* sent and not yet credited back */
    int closed_pending;  /* CLOSED came while commits are still on their way */
    int revoke_pending;  /* topic_member_revoked() is owed at the next CLOSED */
};

enum connector_phase {
    CONNECTOR_DOWN = 0, /* no process: not started, stopped or waiting for a restart */
    CONNECTOR_LOADING,  /* HELLO sent */
    CONNECTOR_FANNING,  /* FAN_OUT sent */
    CONNECTOR_UP,       /* tasks exist */
    CONNECTOR_STOPPING,
};

struct connector {
    struct pipeline *p;
    char *name;
    char *file;            /* where it is declared */
    struct kv_list config; /* as declared */
    struct kv_list effective;
    const struct plugin_class *class_;
    int32_t tasks_max;
    int phase;
    int state;
    int condition;
    int64_t restarts;
    struct failure failure;
    struct restart restart;
    struct loop_timer restart_timer;
    int64_t looked_ms; /* monotonic time of the last look for stalled tasks */
    char *invalid;     /* config_error: why it cannot start; or NULL */
    int settled;       /* started or failed once: counts for "ready" */
    struct peer *peer;
    int kill_cause; /* why the host killed it: an enum kill_cause */
    int kill_stage;
    char kill_message[1024];
    struct task **tasks;
    size_t n_tasks;
    int64_t log_second; /* monotonic second of n_logged */
    int n_logged, n_log_dropped;
    struct map *resolved; /* topics that its runner asked for: the only ones that it may write */
};
enum kill_cause {
    KILL_NONE = 0,
    KILL_DEADLINE,
    KILL_ABI,
    KILL_MEMORY,
    KILL_IO,
    KILL_STOP, /* anything else that the connector cannot go on after */
};

struct pipeline {
    struct loop loop;
    pthread_t thread;
    const struct host_config *host; /* borrowed */
    struct plugins plugins;
    struct topic_engine *engine; /* borrowed */
    char *runner;
    char *run_dir;
    char **envp;
    char worker_id[128];
    struct connector **connectors; /* sorted by name */
    size_t n_connectors;
    struct map *offsets; /* source offsets: offsets.c */
    struct loop_timer watch;
    struct findings problems; /* of files: for /health */
    int stopping;
    struct loop_timer stop_deadline;
    int64_t stop_by_ms; /* monotonic */
    struct mutex lock;  /* guards unsettled */
    struct cond changed;
    size_t unsettled; /* connectors that neither run nor have failed yet */
    int ready;        /* the start is over */
};

/* ---- connector.c ---- */
struct connector *pipeline_connector_find(struct pipeline *p, const char *name);
void pipeline_connector_free(struct connector *c);
void pipeline_connector_start(struct connector *c);
void pipeline_connector_start_timer(struct loop_timer *timer); /* of restart_timer */
void pipeline_connector_stop(struct connector *c); /* asks; pipeline_connector_is_down() tells */
int pipeline_connector_is_down(const struct connector *c);
void pipeline_connector_settle(struct connector *c);
/* Kills the runner; what the status will say. */
void pipeline_connector_kill(struct connector *c, int cause, int stage, const char *message);
int64_t pipeline_connector_number(const struct connector *c, const char *key, int64_t fallback);
/* The same for what `err` says. */
void pipeline_connector_kill_err(struct connector *c, int stage, const struct err *err);
void pipeline_connector_send(struct connector *c, struct buf *frames);
/* Called whenever something that a stop or restart waits for may have happened. */
void pipeline_connector_progress(struct connector *c);

/* ---- task.c ---- */
int pipeline_task_new(struct connector *c, uint32_t id, const struct link_task_config *config,
                      struct task **ret, struct err *err) MUST_USE;
/* Replaces what fan_out gave it. ERR_NOMEM. */
int pipeline_task_configure(struct task *t, const struct link_task_config *config) MUST_USE;
void pipeline_task_free(struct task *t); /* with nothing in flight */
void pipeline_task_start(struct task *t);
void pipeline_task_frame(struct task *t, const struct link_frame *f, uint8_t **body);
void pipeline_task_stop(struct task *t);
/* It runs no more: failed by itself, or its process died. */
void pipeline_task_failed(struct task *t, const char *cause, int stage, const char *message,
                          int64_t record_index, int64_t retry_after_ms);
void pipeline_task_down(struct task *t); /* its process is gone: forget what was under way */
int pipeline_task_is_idle(const struct task *t); /* not live and nothing in flight */

/* ---- commit.c ---- */
void pipeline_commit_receive(struct task *t, const struct link_frame *f, uint8_t **body);
void pipeline_commit_drop_queued(struct task *t); /* forgets what the engine does not have yet */

/* ---- source.c ---- */
void pipeline_source_resolve(struct task *t, const struct link_frame *f);
void pipeline_source_get_offset(struct task *t, const struct link_frame *f);

/* ---- sink.c ---- */
int pipeline_sink_join(struct task *t, struct err *err) MUST_USE;
void pipeline_sink_started(struct task *t);
void pipeline_sink_opened(struct task *t, const struct link_frame *f);
void pipeline_sink_closed(struct task *t, const struct link_frame *f);
void pipeline_sink_credit(struct task *t, const struct link_frame *f);
void pipeline_sink_down(struct task *t);  /* the task runs no more; membership stays */
void pipeline_sink_leave(struct task *t); /* gives its partitions back and frees them */
void pipeline_sink_committed(struct task *t, const struct commit *c);
void pipeline_sink_drained(struct task *t); /* no commit of the task is on its way any more */
void pipeline_sink_pump(struct task *t);    /* there may be room for more records */
/* Records between committed offsets and ends; -1 while it has no partitions to know them by. */
int64_t pipeline_sink_lag(struct task *t);

/* ---- offsets.c ---- */
int pipeline_offsets_load(struct pipeline *p, struct err *err) MUST_USE;
/* The stored offset (JSON text) of a connector's source partition (JSON text), or NULL. Borrowed.
 * */
const char *pipeline_offsets_get(struct pipeline *p, const char *connector, struct slice partition);
/* One record of connect-offsets appended to `batch` by `b`'s builder: key
 * ["connector",{partition}]. */
struct record_builder;
int pipeline_offsets_append(struct record_builder *b, const char *connector, struct slice partition,
                            struct slice offset, struct err *err) MUST_USE;
void pipeline_offsets_committed(struct pipeline *p, const char *connector,
                                const struct link_commit *f);

/* ---- restart.c ---- */
/* The contract's word for what a ctd_status or ERR_* means. */
const char *pipeline_cause(int status, int abi);
void pipeline_failure_set(struct failure *f, const char *cause, int stage, const char *message,
                          int64_t record_index);
/* Notes a failure; returns the wait before the next start, or -1: never. *ret_condition:
 * CRASH_LOOP or NONE. */
int64_t pipeline_restart_failed(struct restart *r, const struct connector *c,
                                int64_t retry_after_ms, int *ret_condition);
void pipeline_restart_running(struct restart *r);
/* Called now and then: after five healthy minutes the past is forgotten. 1 if it just was. */
int pipeline_restart_healthy(struct restart *r);

/* ---- status.c ---- */
const char *pipeline_state_name(int state);
json_t *pipeline_status_connector(struct connector *c);
json_t *pipeline_status_task(struct task *t);
json_t *pipeline_status_info(struct connector *c);
json_t *pipeline_status_tasks(struct connector *c);
json_t *pipeline_status_health(struct pipeline *p, int *ret_http);

#endif
