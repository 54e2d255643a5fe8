/*
 * plog: the built-in partitioned log. Kafka's files on disk, commit units that are atomic across
 * partitions, acks that mean durable. README.md beside this file has the argument; docs/formats
 * the bytes.
 *
 * Layout below plog_options.dir (the contract's DATA):
 *   log/TOPIC-PARTITION/{%020d.log,%020d.index,%020d.timeindex,partition.metadata,leader-epoch-checkpoint}
 *   log/TOPIC-0/topic.config      "key=value" lines, written when the topic is made
 *   journal/%020d.journal         redo journal, one file a generation;  journal/checkpoint
 *
 * Threads: all functions are thread-safe. Inside: one committer (takes units in order, writes
 * segments, writes and syncs the journal, publishes, calls done), one checkpointer (syncs
 * segments, retires journals). Callbacks (done, watch) run on the committer: they must not block
 * and must not call plog_close().
 *
 * Order of a commit: segments are written past their published end (page cache), the unit goes
 * whole into the journal, the journal is synced, and only then do the ends move, are readers woken
 * and `done` called. A failed unit is cut back from every segment it touched before the next one
 * is written.
 */
#ifndef PLOG_PLOG_H
#define PLOG_PLOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct plog;
struct
    plog_partition; /* valid until its topic is deleted or the log is closed; see plog_partition_get */

enum plog_flush {
    PLOG_FLUSH_ALWAYS = 0,
    PLOG_FLUSH_INTERVAL = 1,
    PLOG_FLUSH_OS = 2
}; /* as ctd_result.flush */

struct plog_options {
    const char *dir;           /* DATA; must exist and be held by the caller's lock */
    int flush;                 /* enum plog_flush */
    int64_t flush_interval_ms; /* with PLOG_FLUSH_INTERVAL; 0: 1000 */
    size_t queue_bytes;        /* units waiting for the committer; 0: 64 MiB */
    size_t journal_bytes;      /* a journal is retired by a checkpoint beyond this; 0: 64 MiB */
    /* Test hooks, all 0 in production. They make crash tests' controls possible: with them the log
     * must be caught losing data. */
    int control_ack_before_write; /* calls done before anything is written */
    int control_ack_before_sync;  /* calls done after write, before the sync */
    int64_t retry_ms;             /* how often a log that cannot write tries by itself; 0: 500 */
    int force_path; /* 1: every group whole through the journal; 2: every group straight */
    /* Called before each disk call, on any thread: op is "create", "write", "sync", "truncate" or
     * "replace"; an errno in return makes the call fail with it. */
    int (*fault)(void *arg, const char *op, const char *path);
    void *fault_arg;
};

/* Opens or creates the log and recovers it: replays the journal, cuts torn tails, rebuilds indexes.
 * Everything recovered is durable on return. What was repaired is logged, one line each, with file
 * and offset. Blocking. */
int plog_open(const struct plog_options *options, struct plog **ret, struct err *err) MUST_USE;
/* Finishes queued units, checkpoints, empties the journal. NULL-safe. The caller has stopped
 * submitting. */
void plog_close(struct plog *p);

/* ---- topics ---- */

struct plog_config_entry {
    const char *key, *value;
};

struct plog_topic_info {
    uint8_t id[16]; /* random uuid; a topic made again under the same name has another */
    int32_t partitions;
    int64_t max_batch_bytes; /* max.message.bytes, 8 MiB by default */
};

/* Durable on return. ERR_EXISTS; ERR_INVAL for a bad name (str_is_topic_name) or partitions
 * outside 1..10000; ERR_CONFIG for an unknown or ill-typed key (known: Kafka's topic configs;
 * those that are not built yet are kept and said so in plog/README.md). */
int plog_topic_create(struct plog *p, const char *name, int32_t partitions,
                      const struct plog_config_entry *config, size_t n_config,
                      struct err *err) MUST_USE;
/* More partitions than now: new ones are made (durable on return). The same number: nothing. Fewer:
 * ERR_INVAL. */
int plog_topic_grow(struct plog *p, const char *name, int32_t partitions, struct err *err) MUST_USE;
/* Replaces the topic's stored config. Durable on return. */
int plog_topic_configure(struct plog *p, const char *name, const struct plog_config_entry *config,
                         size_t n_config, struct err *err) MUST_USE;
/* Units still queued for it fail with ERR_NOT_FOUND; open readers get ERR_NOT_FOUND. Durable on
 * return. */
int plog_topic_delete(struct plog *p, const char *name, struct err *err) MUST_USE;
int plog_topic_info(struct plog *p, const char *name, struct plog_topic_info *ret,
                    struct err *err) MUST_USE;
/* Calls `each` with every topic's name, sorted by bytes; a snapshot. */
void plog_topic_list(struct plog *p, void (*each)(void *arg, const char *name), void *arg);
/* Calls `each` with every stored config entry. */
int plog_topic_config(struct plog *p, const char *name,
                      void (*each)(void *arg, const char *key, const char *value), void *arg,
                      struct err *err) MUST_USE;

/* A counted reference: release with plog_partition_unref(). ERR_NOT_FOUND. */
int plog_partition_get(struct plog *p, const char *topic, int32_t partition,
                       struct plog_partition **ret, struct err *err) MUST_USE;
struct plog_partition *plog_partition_ref(struct plog_partition *t);
void plog_partition_unref(struct plog_partition *t); /* NULL-safe */

enum plog_state { PLOG_ONLINE = 0, PLOG_FAILED = 1 /* a write or sync failed: no acks */ };
struct plog_partition_status {
    int64_t start_offset; /* of the first record still kept */
    int64_t end_offset;   /* after the last durable record */
    int64_t bytes;        /* of all segments, indexes not counted */
    int state;
    char error[256]; /* why not online, or about a bad batch; "" if none */
};
void plog_partition_status(struct plog_partition *t, struct plog_partition_status *ret);

/* ---- commit units ---- */

/* Units of one stream fail together: once one has failed, those behind it fail with ERR_CANCELLED
 * until plog_stream_reset(), so that what a task sent later never becomes durable before what it
 * sent earlier. Zero-initialised, owned by the caller, outlives its units. */
struct plog_stream {
    int failed; /* written by the committer only */
};

struct plog_append {
    struct plog_partition *partition; /* borrowed: the caller holds a reference until done */
    uint8_t *batches;                 /* borrowed until done; base offsets are stamped in place */
    size_t len;
    int64_t n_records;       /* as record_batches_check() counted */
    int64_t ret_base_offset; /* set before done(0) */
};

struct plog_unit {
    struct plog_append *appends; /* any number of partitions; order within a partition is kept */
    size_t n_appends;
    struct plog_stream *stream; /* or NULL */
    /* Called once, on the committer thread, units in the order of plog_submit(): err->code 0 when
     * durable as `ret_flush` says. ERR_NOSPC, ERR_IO: retriable later (after plog_stream_reset());
     * nothing of the unit is or will become visible... unless the journal's sync itself failed:
     * then `indefinite` is 1 and the unit may reappear whole after a crash, never in part. */
    void (*done)(struct plog_unit *u, const struct err *err);
    void *arg;
    int ret_flush;
    int indefinite;
    /* the log's own */
    struct plog_unit *next_;
    size_t bytes_;
};

/* Queues the unit; never blocks on the disk. ERR_LIMIT when queue_bytes are waiting (try again
 * later), ERR_CANCELLED when closing. On return 0 `done` will be called exactly once. */
int plog_submit(struct plog *p, struct plog_unit *u, struct err *err) MUST_USE;
/* Allows the stream again. Call with none of its units in flight. */
void plog_stream_reset(struct plog_stream *s);
/* Submits and waits for done; not on the committer thread. */
int plog_commit(struct plog *p, struct plog_unit *u, struct err *err) MUST_USE;

/* 1 while commits work; 0 with the reason while the log cannot write (ENOSPC, EIO). It tries again
 * by itself at least once a second, so that acks resume when space returns. */
int plog_writable(struct plog *p, char *ret_reason, size_t reason_len);

/* ---- reading ---- */

struct plog_read {
    int64_t next_offset; /* where to read on; after ERR_CORRUPT: behind the bad batch */
    int64_t start_offset;
    int64_t end_offset;
    size_t bytes; /* appended to out */
};

/* Appends whole batches to `out`, from the one that contains `offset` (whose first records may lie
 * before it), at most max_bytes but at least one batch; 0 with bytes 0 at the end. Only durable
 * records. Every batch's CRC is checked. ERR_LIMIT: offset below start or above end (ret has
 * both); ERR_CORRUPT names file and offset (good batches before it were returned by the call
 * before); ERR_NOT_FOUND: topic deleted. Thread-safe, many at once. */
int plog_read(struct plog_partition *t, int64_t offset, size_t max_bytes, struct buf *out,
              struct plog_read *ret, struct err *err) MUST_USE;

/* The offset of the first record with timestamp >= timestamp_ms, or the end offset. */
int plog_offset_for_time(struct plog_partition *t, int64_t timestamp_ms, int64_t *ret,
                         struct err *err) MUST_USE;

/* Calls wake(arg) on the committer thread after each publish to the partition (and once when its
 * topic is deleted), until unwatched. After plog_unwatch() returns, wake is not running and will
 * not run. */
struct plog_watch;
int plog_watch(struct plog_partition *t, void (*wake)(void *arg), void *arg,
               struct plog_watch **ret, struct err *err) MUST_USE;
void plog_unwatch(struct plog_watch *w); /* NULL-safe; not from within wake */

#endif
