/*
 * The host's side of link for tests: starts a connectd-runner, sends it frames, waits for its. Every wait is for
 * an event and ends the test after WAIT_MS. Questions (RESOLVE, GET_OFFSET) are answered by themselves; log lines
 * are kept. One thread.
 */
#ifndef TEST_RUNNER_HOST_H
#define TEST_RUNNER_HOST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "link/link.h"
#include "record/record.h"

enum { WAIT_MS = 20000, MAX_PAIRS = 32 };

struct host {
    /* what the runner is given; set before host_start() */
    const char *plugin, *class_name, *data_dir;
    struct link_pair config[MAX_PAIRS];
    uint32_t n_config;
    uint64_t memory_limit, hold_bytes, window_bytes;
    uint32_t flags, version;
    uid_t uid; /* other than 0: the runner runs as that user */
    const char *runner;
    /* what the test's host knows */
    int32_t partitions; /* of every topic */
    int64_t max_batch_bytes;
    const char *stored; /* answer to GET_OFFSET, or NULL */
    int resolve_status;
    /* the process */
    char dir[64]; /* its own folder: DATA and files */
    char lock_path[128];
    int lock_fd; /* ours, when the test holds it */
    pid_t pid;
    int status; /* as waitpid() gives it, once host_wait_exit() returned */
    int control, data;
    struct link_shared *shared;
    struct buf control_in, data_in;
    size_t control_at, data_at;
    struct stashed {
        struct stashed *next;
        struct link_frame frame; /* payload in the arena */
    } * stash, **stash_end;      /* frames that host_expect() passed over, in order */
    struct buf log;              /* all log lines, "level text\n" */
    struct arena *arena;
    char *sandbox; /* of READY */
};

void host_init(struct host *h, const char *plugin, const char *class_name);
void host_set(struct host *h, const char *key, const char *value); /* borrowed texts */
void host_setf(struct host *h, const char *key, const char *fmt, ...) PRINTF_LIKE(3, 4);
void host_spawn(struct host *h); /* and HELLO */
void host_start(struct host *h); /* spawn, READY, START of task 0, STARTED */
void host_clear(struct host *h); /* kills what still lives, frees everything, removes the folder */

void host_send(struct host *h, struct buf *frame); /* control */
void host_send_empty(struct host *h, int type, uint32_t task);
void host_start_task(struct host *h, uint32_t task);
/* The next frame that is neither a question nor a log line. Its bytes live until the next call of this lane.
 * 0: nothing by the deadline (ms from now), or the runner closed. */
int host_next(struct host *h, int ms, struct link_frame *ret);
/* Waits for a frame of this type. NOTE, CREDIT and COMMIT that come before it (there are two sockets) are kept for
 * later calls; anything else fails the test. */
struct link_frame host_expect(struct host *h, int type);
struct link_failed host_expect_failed(struct host *h); /* COMMITs before it are answered */
/* Waits for the process's end and returns its exit status; 1000 + N for signal N. */
int host_wait_exit(struct host *h);
void host_wait_log(struct host *h, const char *text); /* until a line holds it */
int host_logged(const struct host *h, const char *text);

/* ---- sources ---- */
struct link_commit host_expect_commit(struct host *h);
void host_committed(struct host *h, const struct link_commit *c, int32_t status, int64_t base);

/* ---- sinks ---- */
void host_open(struct host *h, int64_t generation, const char *topic, int32_t partitions,
               int64_t offset);
/* One batch with values "<prefix><offset>", for offsets from..from+n. */
void host_batch(struct buf *out, int64_t from, int n, const char *prefix);
void host_records(struct host *h, int64_t generation, const char *topic, int32_t partition,
                  int64_t offset, int64_t next, const struct buf *batches);

#endif
