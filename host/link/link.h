/*
 * link: the frames between the host and a runner process.
 *
 * A runner is started with exactly four descriptors beyond 0-2 (which are /dev/null, a log pipe or
 * /dev/null):
 *   LINK_FD_CONTROL 3  stream socket: small frames, both ways; never behind data
 *   LINK_FD_DATA    4  stream socket: COMMIT up, RECORDS down
 *   LINK_FD_SHARED  5  memory file: struct link_shared, where the runner says what it is doing
 *   LINK_FD_LOCK    6  DATA/run/NAME.lock, opened by the host: the runner takes the lock itself
 * before dlopen
 *
 * Frame, little-endian:
 *   0 u32 length of what follows the 12-byte head | 4 u16 type | 6 u16 flags (0) | 8 u32 task | 12
 * payload Payload fields in the order of the structs below; text and bytes are u32 length + bytes
 * (0xffffffff: null).
 * The host treats every frame as untrusted: decoding checks every length and leaves nothing
 * half-built.
 *
 * Ownership: decoded structs borrow from the frame's bytes (slices) or from the arena passed in
 * (arrays).
 * Threads: no state; any thread.
 */
#ifndef LINK_LINK_H
#define LINK_LINK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum { LINK_FD_CONTROL = 3, LINK_FD_DATA = 4, LINK_FD_SHARED = 5, LINK_FD_LOCK = 6 };
enum { LINK_VERSION = 1, LINK_HEAD = 12 };
#define LINK_CONTROL_MAX ((size_t)4 << 20)  /* longest control frame */
#define LINK_DATA_MAX    ((size_t)64 << 20) /* longest data frame */
#define LINK_NO_TASK     0xffffffffu        /* a frame about the connector itself */

enum link_type {
    /* host -> runner, control */
    LINK_HELLO = 1, /* struct link_hello */
    LINK_FAN_OUT,   /* struct link_fan_out: asks how many tasks and what each is given */
    LINK_START,     /* struct link_start: make and start a task */
    LINK_OPEN,      /* struct link_parts: sink: partitions to open */
    LINK_CLOSE,     /* struct link_parts: sink: flush, commit, close these, then CLOSED */
    LINK_PAUSE,     /* no payload: poll or put is not called any more */
    LINK_RESUME,
    LINK_STOP,      /* no payload: flush, commit, close, stop, destroy; then STOPPED */
    LINK_EXIT,      /* no payload: leave the process, status 0 */
    LINK_TOPIC,     /* struct link_topic: answer to RESOLVE, or news about a topic */
    LINK_OFFSET,    /* struct link_offset: answer to GET_OFFSET */
    LINK_COMMITTED, /* struct link_committed: what became of a COMMIT */
    /* runner -> host, control */
    LINK_READY = 64, /* struct link_ready: plugin loaded, class found, config validated */
    LINK_TASKS,      /* struct link_tasks: answer to FAN_OUT */
    LINK_STARTED,    /* no payload: the task's start() returned OK */
    LINK_OPENED,     /* struct link_parts: offset = where to start */
    LINK_CLOSED,     /* struct link_parts */
    LINK_STOPPED,    /* no payload */
    LINK_FAILED, /* struct link_failed: task (or connector) failed; its task is stopped and destroyed */
    LINK_RESOLVE,    /* struct link_resolve */
    LINK_GET_OFFSET, /* struct link_get_offset */
    LINK_CREDIT,     /* struct link_credit: put() took these bytes of RECORDS */
    LINK_LOG,        /* struct link_log */
    LINK_NOTE, /* struct link_failed: an error that the runner handles itself (put retried); status shows it */
    /* data */
    LINK_COMMIT = 128, /* runner -> host, struct link_commit */
    LINK_RECORDS,      /* host -> runner, struct link_records */
};

/* What a plugin was doing, as status shows it. Order and names are the contract's. */
enum link_stage {
    LINK_STAGE_NONE = 0,
    LINK_STAGE_DLOPEN,
    LINK_STAGE_MODULE,
    LINK_STAGE_INIT,
    LINK_STAGE_VALIDATE,
    LINK_STAGE_CREATE,
    LINK_STAGE_FAN_OUT,
    LINK_STAGE_START,
    LINK_STAGE_OPEN,
    LINK_STAGE_POLL,
    LINK_STAGE_PUT,
    LINK_STAGE_FLUSH,
    LINK_STAGE_ON_RESULT,
    LINK_STAGE_CANCEL,
    LINK_STAGE_CLOSE,
    LINK_STAGE_STOP,
    LINK_STAGE_ALTER_OFFSETS,
    LINK_STAGE_DESTROY,
    LINK_STAGE_CONVERT,
    LINK_STAGE_TRANSFORM,
    LINK_STAGE_PREDICATE,
    LINK_STAGE_COUNT
};
const char *link_stage_name(int stage); /* "poll"; "" for NONE or out of range */

/* ---- the shared page: written by the runner only, read by the host at any time, never trusted
 * ---- */
struct link_slot {
    _Atomic int32_t stage; /* enum link_stage: the plugin function now running, or NONE */
    _Atomic int32_t reserved;
    _Atomic int64_t since_ms; /* clock_mono_ms() at entry, or at the last host->progress() */
    _Atomic int64_t records;  /* polled or put so far */
    _Atomic int64_t moved_ms; /* clock_mono_ms() of the last record that moved */
    _Atomic int64_t spare[4];
};
struct link_shared {
    _Atomic uint32_t n_slots;
    uint32_t reserved[15];
    struct link_slot control; /* dlopen, module, init, validate, fan_out */
    struct link_slot task[];  /* one a task: stages of [task] and [ctl] calls */
};
size_t link_shared_bytes(uint32_t n_tasks);

/* ---- payloads ---- */
struct link_pair {
    struct slice key, value;
};
struct link_hello {
    uint32_t version;         /* LINK_VERSION */
    uint32_t max_tasks;       /* slots in the shared page */
    struct slice connector;   /* its name */
    struct slice plugin_path; /* the .so to dlopen: the host's own copy */
    struct slice class_name;
    struct slice data_dir;       /* hidden from plugins; "" hides nothing */
    uint64_t memory_limit_bytes; /* 0: none */
    uint64_t hold_bytes;         /* task.hold.bytes */
    uint64_t window_bytes;       /* unacked COMMIT bytes a source task may have in flight */
    uint32_t log_level;          /* enum log_level */
    uint32_t flags;              /* LINK_HELLO_NO_SANDBOX */
    struct link_pair *config;    /* the connector's whole config, resolved */
    uint32_t n_config;
};
enum { LINK_HELLO_NO_SANDBOX = 1 };
struct link_fan_out {
    uint32_t max_tasks;
};
struct link_start {
    uint32_t n_tasks;
    struct link_pair *config; /* keys in which this task differs */
    uint32_t n_config;
};
struct link_part {
    struct slice topic;
    uint8_t topic_id[16];
    int32_t partition;
    int64_t epoch;
    int64_t
        offset; /* OPEN: where the host would start (-1: none committed); OPENED: where to start; CLOSED: next */
};
struct link_parts {
    int64_t generation;
    struct link_part *parts;
    uint32_t n_parts;
};
struct link_topic {
    uint64_t request; /* of the RESOLVE; 0: news */
    int32_t status;   /* 0 or an ERR_* */
    struct slice message;
    struct slice topic;
    uint8_t topic_id[16];
    int32_t partitions;
    int64_t epoch;
    int64_t max_batch_bytes;
};
struct link_offset {
    uint64_t request;
    int32_t status;
    struct slice offset; /* JSON object text, or null */
};
struct link_commit_result { /* one of a COMMIT's appends */
    int64_t base_offset;
};
struct link_committed {
    uint64_t seq;   /* of the COMMIT; results come in order of seq per task */
    int32_t status; /* 0: durable */
    int32_t flush;  /* 0 always, 1 interval, 2 os */
    struct slice message;
    struct link_commit_result *results;
    uint32_t n_results;
};
struct link_ready {
    struct slice class_version;
    uint32_t kind; /* CTD_KIND_SOURCE or CTD_KIND_SINK */
    uint32_t class_flags;
    struct slice sandbox; /* what holds, for the log: "mount,seccomp,rlimits" */
};
struct link_task_config {
    struct link_pair *config;
    uint32_t n_config;
};
struct link_tasks {
    struct link_task_config *tasks;
    uint32_t n_tasks;
};
struct link_failed {
    int32_t status; /* the ctd_status, or an ERR_* of the runner's own */
    int32_t stage;  /* enum link_stage */
    int32_t sys_errno;
    uint32_t abi; /* 1: the plugin broke the ABI (cause "abi") */
    int64_t record_index;
    int64_t retry_after_ms;
    struct slice message;
};
struct link_resolve {
    uint64_t request;
    struct slice topic;
};
struct link_get_offset {
    uint64_t request;
    struct slice partition; /* JSON object text */
};
struct link_credit {
    uint64_t bytes;
};
struct link_log {
    int32_t level;
    struct slice text;
};
struct link_append {
    struct slice topic;
    uint8_t topic_id[16];
    int64_t epoch;
    int32_t partition;
    uint32_t n_records;
    struct slice batches; /* borrowed from the frame; writable there: the host stamps in place */
};
struct link_source_offset {
    struct slice partition, offset; /* JSON object texts; offset null: forget */
};
struct link_group_offset {
    struct slice topic;
    int32_t partition;
    int64_t offset;
};
struct link_commit {    /* one commit unit, whatever the role */
    uint64_t seq;       /* 1, 2, 3 ... per task start */
    int64_t generation; /* sinks: of the assignment; sources: -1 */
    struct link_append *appends;
    uint32_t n_appends;
    struct link_source_offset *source_offsets;
    uint32_t n_source_offsets;
    struct link_group_offset *group_offsets;
    uint32_t n_group_offsets;
};
struct link_records { /* whole batches of one partition; the first may begin before `offset` */
    int64_t generation;
    uint32_t part; /* index into the parts of the task's assignment: see link_part order in OPEN */
    struct slice topic;
    int32_t partition;
    int64_t offset; /* deliver records from here on */
    int64_t next_offset;
    int64_t
        end_offset; /* of the partition when read: equal to next_offset when this is the newest */
    struct slice batches;
};

/* ---- encoding: appends one whole frame; errors are sticky in `out` ---- */
void link_put_empty(struct buf *out, int type, uint32_t task);
void link_put_hello(struct buf *out, const struct link_hello *f);
void link_put_fan_out(struct buf *out, const struct link_fan_out *f);
void link_put_start(struct buf *out, uint32_t task, const struct link_start *f);
void link_put_parts(struct buf *out, int type, uint32_t task, const struct link_parts *f);
void link_put_topic(struct buf *out, const struct link_topic *f);
void link_put_offset(struct buf *out, uint32_t task, const struct link_offset *f);
void link_put_committed(struct buf *out, uint32_t task, const struct link_committed *f);
void link_put_ready(struct buf *out, const struct link_ready *f);
void link_put_tasks(struct buf *out, const struct link_tasks *f);
void link_put_failed(struct buf *out, int type, uint32_t task, const struct link_failed *f);
void link_put_resolve(struct buf *out, uint32_t task, const struct link_resolve *f);
void link_put_get_offset(struct buf *out, uint32_t task, const struct link_get_offset *f);
void link_put_credit(struct buf *out, uint32_t task, const struct link_credit *f);
void link_put_log(struct buf *out, uint32_t task, const struct link_log *f);
void link_put_commit(struct buf *out, uint32_t task, const struct link_commit *f);
/* Everything of a RECORDS frame but the batches' bytes, which the caller appends behind it:
 * `batches.len` must be right, `batches.ptr` is ignored. */
void link_put_records_head(struct buf *out, uint32_t task, const struct link_records *f);

/* ---- decoding ---- */
struct link_frame {
    uint16_t type;
    uint32_t task;
    struct slice payload; /* borrowed */
};
/* Looks at the front of p[0..n). 1: a whole frame, *ret_bytes long. 0: more bytes are needed
 * (*ret_bytes: how many the whole frame has, or LINK_HEAD if even the head is short). ERR_DATA:
 * length above `max`, unknown flags. */
int link_frame_peek(const uint8_t *p, size_t n, size_t max, struct link_frame *ret,
                    size_t *ret_bytes, struct err *err) MUST_USE;
/* Each: 0, ERR_DATA (short, trailing bytes, counts that cannot be) or ERR_NOMEM (arena limit). */
int link_get_hello(const struct link_frame *f, struct arena *a, struct link_hello *ret,
                   struct err *err) MUST_USE;
int link_get_fan_out(const struct link_frame *f, struct link_fan_out *ret,
                     struct err *err) MUST_USE;
int link_get_start(const struct link_frame *f, struct arena *a, struct link_start *ret,
                   struct err *err) MUST_USE;
int link_get_parts(const struct link_frame *f, struct arena *a, struct link_parts *ret,
                   struct err *err) MUST_USE;
int link_get_topic(const struct link_frame *f, struct link_topic *ret, struct err *err) MUST_USE;
int link_get_offset(const struct link_frame *f, struct link_offset *ret, struct err *err) MUST_USE;
int link_get_committed(const struct link_frame *f, struct arena *a, struct link_committed *ret,
                       struct err *err) MUST_USE;
int link_get_ready(const struct link_frame *f, struct link_ready *ret, struct err *err) MUST_USE;
int link_get_tasks(const struct link_frame *f, struct arena *a, struct link_tasks *ret,
                   struct err *err) MUST_USE;
int link_get_failed(const struct link_frame *f, struct link_failed *ret, struct err *err) MUST_USE;
int link_get_resolve(const struct link_frame *f, struct link_resolve *ret,
                     struct err *err) MUST_USE;
int link_get_get_offset(const struct link_frame *f, struct link_get_offset *ret,
                        struct err *err) MUST_USE;
int link_get_credit(const struct link_frame *f, struct link_credit *ret, struct err *err) MUST_USE;
int link_get_log(const struct link_frame *f, struct link_log *ret, struct err *err) MUST_USE;
int link_get_commit(const struct link_frame *f, struct arena *a, struct link_commit *ret,
                    struct err *err) MUST_USE;
int link_get_records(const struct link_frame *f, struct link_records *ret,
                     struct err *err) MUST_USE;

#endif
