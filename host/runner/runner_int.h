/*
 * What the files of the runner share. One process holds one `struct runner`: one plugin module, one class,
 * one config, and one `struct runner_task` for each task number, made when it is first started.
 *
 * Threads: the control thread (main) reads the control socket and never calls into a task's instance but
 * cancel(). The data thread reads RECORDS. Each task has its task thread, and a source whose class wants
 * results an ack thread. Each field below says whose it is.
 */
#ifndef RUNNER_RUNNER_INT_H
#define RUNNER_RUNNER_INT_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/thread.h"
#include "connectd/abi.h"
#include "link/link.h"
#include "record/record.h"

enum {
    RUNNER_POLL_RECORDS = 2000,
    RUNNER_POLL_MS = 500,
    RUNNER_RESULTS_WAIT_MS = 5000, /* how long an ending task waits for the host's answers */
    RUNNER_RETRY_FIRST_MS = 300,
    RUNNER_RETRY_MAX_MS = 60000,
    RUNNER_CANCEL_AFTER_MS = 2000, /* a sink that still works this long after STOP is cancelled */
};

#define RUNNER_UNIT_TOO_LARGE                                                                      \
    "the records of one poll don't fit into one commit of %zu bytes: poll fewer at a time"

/* ---- failures (fail.c) ---- */

/* Why something failed, as LINK_FAILED and LINK_NOTE carry it. */
struct runner_fail {
    int32_t status; /* ctd_status or ERR_*; 0: none */
    int32_t stage;  /* enum link_stage */
    int32_t sys_errno;
    uint32_t abi; /* 1: the plugin broke the ABI */
    int64_t record_index;
    int64_t retry_after_ms;
    char message[1024];
};

/* Each fills `f` and returns its (negative) status. */
int runner_fail_set(struct runner_fail *f, int stage, int status, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
int runner_fail_abi(struct runner_fail *f, int stage, const char *fmt, ...) PRINTF_LIKE(3, 4);
int runner_fail_err(struct runner_fail *f, int stage, const struct err *err);
/* What a plugin call gave back: `status` is not CTD_OK. */
int runner_fail_call(struct runner_fail *f, int stage, ctd_status status, const ctd_error *e);
/* Puts "<fmt>: " in front of the message. */
void runner_fail_prefix(struct runner_fail *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "No error", as the ABI wants it preset. */
void runner_error_preset(ctd_error *e);

/* ---- the plugin file (load.c) ---- */

struct runner_module {
    const ctd_module *module; /* borrowed from the plugin; never unloaded */
};

/* Opens the file for loading: it must be a regular file with an ELF head. Returns the descriptor. */
int runner_module_open(const char *path, struct runner_fail *fail) MUST_USE;
/* dlopen()s that descriptor and checks what ctd_module_v1() returns. `path` is for messages; `stage` is told
 * of each step. */
int runner_module_load(int fd, const char *path, void (*stage)(void *arg, int stage), void *arg,
                       struct runner_module *ret, struct runner_fail *fail) MUST_USE;
const ctd_class *runner_module_class(const struct runner_module *m, uint32_t i);
const ctd_class *runner_module_find(const struct runner_module *m, const char *name);
const ctd_config_key *runner_class_key(const ctd_class *c, uint32_t i);
const char *runner_kind_name(int32_t kind); /* "source"; NULL when unknown */

/* ---- config (config.c) ---- */

/* `ctd_config` of the ABI: keys and texts, and the class whose table types them. */
struct ctd_config;

/* `extra` wins over `base`. Copies everything. NULL without memory. */
struct ctd_config *runner_config_new(const ctd_class *class, const struct link_pair *base,
                                     uint32_t n_base, const struct link_pair *extra,
                                     uint32_t n_extra);
/* The keys of `from` that begin with `prefix`, without it, for `class`. */
struct ctd_config *runner_config_sub(const struct ctd_config *from, const char *prefix,
                                     const ctd_class *class);
void runner_config_free(struct ctd_config *c); /* NULL-safe */
/* The text as set, or NULL. Borrowed. */
const char *runner_config_text(const struct ctd_config *c, const char *key);
/* Sets a key that is not set. 0 or ERR_NOMEM. */
int runner_config_default(struct ctd_config *c, const char *key, const char *value) MUST_USE;
/* Checks the values against the table, then asks the class's validate(). All findings in one message. */
int runner_config_check(const struct ctd_config *c, const ctd_host *host,
                        struct runner_fail *fail) MUST_USE;
/* Fills the cfg_ functions of a host table. */
void runner_config_accessors(ctd_host *host);

/* ---- sockets and the shared page (io.c) ---- */

struct runner;
struct runner_task;

/* Blocking writes of whole frames; a host that is gone ends the process. The buffer is emptied. */
void runner_send_control(struct runner *r, struct buf *frame);
void runner_send_data(struct runner *r, struct buf *frame);
/* Reads exactly n bytes; ends the process when the host is gone. */
void runner_read_full(int fd, void *p, size_t n);
void runner_send_empty(struct runner *r, int type, uint32_t task);
void runner_send_fail(struct runner *r, int type, uint32_t task, const struct runner_fail *f);
void runner_send_log(struct runner *r, uint32_t task, int level, const char *text);
/* The connector itself failed: tells the host and ends the process with status 1. */
_Noreturn void runner_die(struct runner *r, const struct runner_fail *f);

/* What the shared page shows of one slot: the longest-running call of the threads that share it. */
enum runner_lane { RUNNER_LANE_TASK = 0, RUNNER_LANE_ACK, RUNNER_LANES };
struct runner_stages {
    struct mutex lock;
    struct link_slot *slot; /* in the shared page */
    int stage[RUNNER_LANES];
    int64_t since_ms[RUNNER_LANES];
};
void runner_stages_init(struct runner_stages *s, struct link_slot *slot);
void runner_stage_enter(struct runner_stages *s, enum runner_lane lane, int stage);
void runner_stage_leave(struct runner_stages *s, enum runner_lane lane);
/* host->progress(): the calls that run now start their deadlines anew. */
void runner_stage_progress(struct runner_stages *s);
void runner_stage_moved(struct runner_stages *s, uint64_t records);

/* ---- the host as a plugin sees it (host_api.c) ---- */

struct runner_host {
    ctd_host api;             /* priv points back here */
    struct runner *runner;    /* NULL: --describe */
    struct runner_task *task; /* NULL: an instance for validation or fan-out */
};
void runner_host_init(struct runner_host *h, struct runner *r, struct runner_task *t,
                      int32_t n_tasks);

/* ---- converters (convert.c) ---- */

struct runner_converter {
    const ctd_converter *ops;
    void *self;
    struct ctd_config *config;
};
/* Makes the connector's "key.converter" or "value.converter". */
int runner_converter_make(struct runner_converter *c, const struct ctd_config *config,
                          const ctd_host *host, int is_key, struct runner_fail *fail) MUST_USE;
void runner_converter_free(struct runner_converter *c);
/* A header's stored bytes: strings and bytes as they are, others as JSON text in `a`. */
int runner_header_encode(const ctd_value *v, struct arena *a, struct slice *ret,
                         struct err *err) MUST_USE;

/* ---- tasks ---- */

/* A control frame for a task, copied. */
struct runner_cmd {
    struct runner_cmd *next;
    struct link_frame frame; /* payload points behind this struct */
};

/* One COMMIT that the host has not answered yet. */
struct runner_unit {
    struct runner_unit *next;
    uint64_t seq;
    size_t bytes;
    uint64_t first_seq;
    uint64_t n_records;
    struct runner_unit_append {
        const struct runner_topic *topic;
        int32_t partition;
        int64_t base_offset;
    } * appends; /* owned */
    size_t n_appends, cap_appends;
    struct runner_unit_record {
        uint32_t append, index;
    } * records; /* owned; only where the class has on_result() */
    size_t cap_records;
    int32_t status, flush; /* the host's answer */
};

enum runner_hold_state { RUNNER_HOLD_OURS = 0, RUNNER_HOLD_KEPT, RUNNER_HOLD_RELEASED };
/* One RECORDS frame and what was decoded from it: the memory behind a batch given to put(). */
struct runner_hold {
    struct runner_hold *next;
    struct runner_task *task;
    uint8_t *bytes; /* the frame's payload; owned */
    size_t cap, len;
    struct link_records frame;
    ctd_record *records; /* owned */
    size_t cap_records, n_records;
    struct arena *arena;
    int state;      /* enum runner_hold_state; guarded by the task's lock */
    size_t counted; /* bytes of held_bytes while it is kept */
};

struct runner_topic;

struct runner_task {
    struct runner *runner;
    uint32_t index;
    pthread_t thread;
    struct runner_stages stages;

    struct mutex lock;
    struct cond wake; /* anything below changed */
    /* guarded by lock */
    struct runner_cmd *cmds, **cmds_end;
    int stopping; /* STOPs that arrived and are not answered yet */
    int64_t stop_since_ms;
    int cancellable;    /* `self` may be cancelled */
    int cancel_running; /* the control thread is inside cancel() */
    int cancelled;
    uint64_t answer_request; /* of the frame below */
    struct runner_cmd *answer;
    struct runner_unit *in_flight, **in_flight_end; /* sent, not answered; in order of seq */
    struct runner_unit *acked, **acked_end;         /* answered, for the ack thread */
    struct runner_unit *spare;
    size_t window_used;    /* bytes of units not done yet */
    size_t n_undone;       /* units in flight, acked or inside on_result() */
    int32_t commit_status; /* first COMMITTED that was not 0 since the start */
    char commit_message[256];
    int ack_quit;
    struct runner_hold *queue, **queue_end; /* RECORDS waiting for put() */
    int accepting;                          /* a sink runs: RECORDS are queued, else dropped */
    int take_data;                          /* the sink may be given RECORDS now */
    size_t held_bytes;                      /* in batches that the sink keeps */

    /* the task thread's own */
    int stop_taken; /* the STOP to be answered was taken from the commands */
    struct runner_host host;
    struct ctd_config *config;
    void *self;
    int started;
    struct runner_converter key, value;
    uint64_t next_seq; /* of COMMIT */
    uint64_t next_request;
    struct arena *arena;        /* scratch of one batch */
    struct arena *offset_arena; /* the answer of the last ctd_offsets.get() */
    struct buf frame;           /* being encoded */
};

struct runner {
    int control_fd, data_fd;
    struct mutex control_lock, data_lock; /* each held over one whole frame */
    struct link_shared *shared;
    struct runner_stages stages; /* of the control slot */
    /* set before any other thread starts */
    struct arena *arena; /* what `hello` borrows from */
    struct link_hello hello;
    char *connector; /* NUL-terminated */
    int log_level;
    struct runner_module module;
    const ctd_class *class;
    struct ctd_config *config;  /* of the connector */
    struct runner_host host;    /* for init, validate and fan_out */
    struct runner_task **tasks; /* max_tasks; entries made by the control thread under tasks_lock */
    struct mutex tasks_lock;
    struct mutex log_lock; /* guards the three below */
    int64_t log_second;
    uint32_t log_lines, log_dropped;
    struct mutex hold_lock; /* guards the two below */
    struct runner_hold *hold_spare;
    uint32_t n_hold_spare;
};

/* task.c */
struct runner_task *runner_task_get(struct runner *r, uint32_t index); /* NULL: not made yet */
/* [control thread] Makes the task's struct and thread at the first START. */
int runner_task_make(struct runner *r, uint32_t index, struct err *err) MUST_USE;
void runner_task_post(struct runner_task *t, const struct link_frame *f); /* copies */
/* [control thread] STOP: posts it and cancels a source's poll. */
void runner_task_stop(struct runner_task *t, const struct link_frame *f);
/* [control thread] Cancels sinks that still work long after STOP. Returns ms until the next look, or -1. */
int runner_task_watch(struct runner_task *t);
void runner_task_answer(struct runner_task *t, uint64_t request, const struct link_frame *f);
void runner_task_committed(struct runner_task *t, const struct link_committed *f);
/* [task thread] Takes the next command, or NULL when there is none by deadline_ms (0: doesn't wait; INT64_MAX:
 * for ever), when RECORDS may be put, or when a commit was refused. Caller frees. */
struct runner_cmd *runner_task_next(struct runner_task *t, int64_t deadline_ms);
/* [task thread] Sends a question and waits for its answer; NULL when the task was stopped meanwhile.
 * Caller frees. */
struct runner_cmd *runner_task_ask(struct runner_task *t, uint64_t request, struct buf *question);
/* [task thread] Sends a COMMIT; the unit is queued before the bytes leave. */
struct runner_unit *runner_unit_new(struct runner_task *t); /* NULL without memory */
void runner_unit_drop(struct runner_task *t, struct runner_unit *u);
int runner_task_commit(struct runner_task *t, struct link_commit *c, struct runner_unit *u,
                       struct runner_fail *fail) MUST_USE;
int runner_task_wants_results(const struct runner_task *t); /* a source with on_result() */
/* [task thread] Waits until nothing is undone, at most this long. 1 if so. */
int runner_task_settle(struct runner_task *t, int64_t wait_ms);

/* source.c and sink.c: from START to the end of that instance. 0: stopped as asked. The instance is
 * destroyed on return in every case. */
int runner_source_run(struct runner_task *t, struct runner_fail *fail) MUST_USE;
int runner_sink_run(struct runner_task *t, struct runner_fail *fail) MUST_USE;
void runner_sink_queue(struct runner_task *t, struct runner_hold *h); /* [data thread] */

/* topics.c: topics as a source task knows them. */
struct runner_topic {
    struct runner_topic *next;
    char *name; /* owned; also `slice` */
    struct slice slice;
    uint8_t id[16];
    int32_t partitions;
    int64_t epoch;
    int64_t max_batch_bytes;
    int32_t sticky;            /* partition of keyless records in this unit */
    int sticky_used;           /* in this unit */
    struct runner_part *parts; /* `partitions` of them; owned */
};
struct runner_part { /* batches being built for one partition */
    struct buf bytes;
    struct record_builder builder;
    int open;           /* the builder has begun */
    uint32_t n_records; /* in this unit; 0: not part of it */
    uint32_t append;    /* index among the unit's appends */
};
int runner_topic_get(struct runner_task *t, struct runner_topic **list, struct slice name,
                     struct runner_topic **ret, struct runner_fail *fail) MUST_USE;
int runner_topic_news(struct runner_topic *list, const struct link_frame *f,
                      struct err *err) MUST_USE;
void runner_topics_free(struct runner_topic *list);

/* unit.c: a poll's records into one COMMIT. */
struct runner_packer {
    struct runner_topic *topics;
    struct runner_topic *last;      /* of the record before */
    struct runner_topic **topic_of; /* by append; grows */
    int32_t *partition_of;
    size_t n_appends, cap_appends;
    struct buf offsets; /* JSON texts of the unit's source offsets */
};
int runner_pack(struct runner_task *t, struct runner_packer *p, const ctd_batch *batch,
                int64_t now_ms, struct runner_unit *unit, struct runner_fail *fail) MUST_USE;
void runner_packer_free(struct runner_packer *p);
/* offsets.c: the distinct source partitions of a batch with their last offsets. */
int runner_source_offsets(const ctd_batch *batch, struct arena *a, struct buf *text,
                          struct link_source_offset **ret, uint32_t *ret_n,
                          struct err *err) MUST_USE;

/* parts.c: the partitions of a sink task. */
struct runner_sink_part {
    char *name; /* owned; also `topic` */
    struct slice topic;
    uint8_t topic_id[16];
    int32_t partition;
    int64_t epoch;
    int64_t generation;
    int64_t position; /* behind the last record put; -1: none, and no place to start from */
    int64_t sent;     /* last offset given to COMMIT, or the host's own; -1: none */
};
struct runner_parts {
    struct runner_sink_part *part; /* owned */
    size_t n;
};
struct runner_sink_part *runner_parts_find(struct runner_parts *p, struct slice topic,
                                           int32_t partition);
/* Adds it, or gives it a new start. `from->offset` is what the host has committed. 0 or ERR_NOMEM. */
int runner_parts_add(struct runner_parts *p, const struct link_part *from, int64_t generation,
                     int64_t position) MUST_USE;
void runner_parts_remove(struct runner_parts *p, struct runner_sink_part *part);
void runner_parts_free(struct runner_parts *p);
void runner_part_assignment(const struct runner_sink_part *part, int64_t offset,
                            ctd_assignment *out);
int runner_assignment_same(const ctd_assignment *a, const ctd_assignment *b);

/* flush.c: what of a sink's records is durable. */
struct runner_sink {
    struct runner_task *t;
    const ctd_sink *ops;
    struct runner_parts parts;
    int64_t generation;    /* of the last OPEN */
    int64_t interval_ms;   /* longest time between two flushes of a busy sink */
    int64_t flushed_ms;    /* when the last flush ended */
    int64_t not_before_ms; /* a flush that failed isn't tried again before */
    int64_t flush_retry_ms;
    int dirty;   /* something was put, or opened elsewhere than committed, since the last flush */
    int lowered; /* the last flush said that not all is durable */
    int paused;
    struct runner_hold *retry; /* a batch that put() asked to have again */
    int64_t retry_ms, retry_due_ms;
    int over_cap_said; /* the note about task.hold.bytes */
};
/* When a flush is due, or INT64_MAX. `idle`: nothing waits to be put. */
int64_t runner_flush_due(const struct runner_sink *s, int idle);
/* flush() and the COMMIT of what it says. A retriable failure is noted and scheduled again (returns 0);
 * `last`: there is no again. */
int runner_flush(struct runner_sink *s, int last, struct runner_fail *fail) MUST_USE;
/* 0, or why the task must fail: a commit of its offsets was refused. */
int runner_flush_answers(struct runner_sink *s, struct runner_fail *fail) MUST_USE;

/* hold.c */
struct runner_hold *runner_hold_get(struct runner *r, size_t bytes); /* NULL without memory */
void runner_hold_put(struct runner *r, struct runner_hold *h);
/* Batches of the frame into ctd_records from frame.offset on. */
int runner_hold_decode(struct runner_task *t, struct runner_hold *h,
                       struct runner_fail *fail) MUST_USE;
void *runner_data_thread(void *runner);

/* ---- the sandbox (sandbox.c, seccomp.c) ---- */

/* First thing: die with the parent, no core files, no descriptors beyond `keep`. */
void runner_sandbox_begin(unsigned keep);
/* The rest, before any plugin code: memory limit (0: none), DATA hidden ("" or NULL: nothing to hide),
 * capabilities, system calls. `ret_holds`: what holds, separated by commas. Only what was meant to hold
 * and failed in an unforeseen way is an error. */
int runner_sandbox_enter(uint64_t memory_bytes, const char *data_dir, struct buf *ret_holds,
                         struct err *err) MUST_USE;
int runner_seccomp_load(struct err *err) MUST_USE;

#endif
