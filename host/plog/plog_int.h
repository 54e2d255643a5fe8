/*
 * Private to host/plog: the objects behind plog.h and what its files call of each other.
 *
 * Locks, in the order they may be taken (a later one while an earlier one is held, never back):
 *   admin_mu   topic creation, growth, configuration, deletion; held over disk work
 *   topics_mu  the map of topics and the list of partitions; short
 *   q_mu       queue, controls, journal hand-over, health; short
 *   part->mu   segments, published marks, in-memory index tails; short, no disk work
 *   watch_mu   (per partition) the watch list; held while wake() runs
 *   fd_mu      open descriptors; short (an open(2) at most)
 *
 * Owners: fields marked [committer] are touched by the committer thread alone once it runs.
 */
#ifndef PLOG_PLOG_INT_H
#define PLOG_PLOG_INT_H

#include <limits.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "base/base.h"
#include "plog/plog.h"

enum {
    PLOG_BATCH_HEAD = 61, /* a RecordBatch v2 header */
    PLOG_BATCH_CRC_FROM = 21,
    PLOG_ID_BYTES = 16,
    PLOG_MAX_FDS = 512,
    PLOG_HINTS = 8,
};
#define PLOG_GROUP_BYTES ((size_t)16 << 20) /* taken from the queue at once */
#define PLOG_STRAIGHT_BYTES                                                                        \
    ((size_t)512 << 10) /* a dirty file from which on the straight path pays */
#define PLOG_STRAIGHT_TOTAL    ((int64_t)256 << 20) /* straight bytes until a checkpoint */
#define PLOG_MAX_SEGMENT_BYTES ((int64_t)INT32_MAX)
#define PLOG_INDEX_MAX         ((int64_t)10 << 20) /* bytes of one .index, as Kafka's default */

/* ---- batches ---- */

/* A RecordBatch v2 header as found on disk, where the rest of the batch may not be at hand. */
struct plog_batch {
    int64_t base_offset;
    int64_t last_offset;
    int64_t bytes; /* whole batch */
    int64_t max_ts;
    uint32_t crc;
};
/* 0, or ERR_DATA when the 61 bytes at `p` cannot be a header (magic, length, delta). */
int plog_batch_parse(const uint8_t *p, struct plog_batch *ret) MUST_USE;
int plog_batch_crc_ok(const uint8_t *p, const struct plog_batch *b);

/* ---- segments ---- */

struct plog_index_entry {
    int32_t rel; /* last offset of the batch at pos, less the segment's base */
    int32_t pos;
};
struct plog_time_entry {
    int64_t ts;
    int32_t rel;
};

/* Where a segment stands: what the next batch's place and index decisions need. */
struct plog_mark {
    int64_t size;
    int64_t max_ts;      /* -1: none yet */
    int64_t entry_ts;    /* of the last time index entry, -1: none */
    int64_t since_entry; /* bytes since the last index entry */
    int64_t first_ts;    /* max timestamp of the first batch, -1: none; segment.ms counts from it */
    int32_t max_rel;     /* last offset of the batch that has max_ts */
};
#define PLOG_MARK_INIT                                                                             \
    {                                                                                              \
        0, -1, -1, 0, -1, 0                                                                        \
    }

struct plog_partition;

struct plog_segment {
    struct plog_partition *part; /* borrowed: a segment does not outlive its partition */
    int64_t base;
    _Atomic int refs;
    struct plog_mark w; /* [committer] written, perhaps not published */

    /* part->mu */
    struct plog_mark pub;
    int dirty;            /* published bytes that no checkpoint has synced */
    int64_t index_file_n; /* entries that stand in the files; the arrays follow them */
    int64_t time_file_n;
    struct plog_index_entry *index;
    size_t index_n, index_pub, index_cap; /* staged, of them published */
    struct plog_time_entry *times;
    size_t times_n, times_pub, times_cap;

    /* fd_mu */
    int fd; /* -1: closed */
    int pins;
    struct plog_segment *lru_prev, *lru_next;
};

/* ---- partitions and topics ---- */

struct plog_hint { /* a reader that ended here will come back */
    int64_t offset;
    int64_t segment_base;
    int64_t pos;
};

struct plog_watch {
    struct plog_partition *part;
    void (*wake)(void *arg);
    void *arg;
    struct plog_watch *next;
};

struct plog_limits { /* of one topic; read by the committer, set by plog_topic_configure() */
    _Atomic int64_t segment_bytes;
    _Atomic int64_t segment_ms;
    _Atomic int64_t index_interval_bytes;
    _Atomic int64_t max_message_bytes;
};

struct plog_partition {
    struct plog *log; /* fd_mu; NULL once the log is closed */
    _Atomic int refs;
    char *topic;
    char *dir;
    int32_t number;
    uint8_t id[PLOG_ID_BYTES];
    struct plog_limits limits;

    struct mutex mu;
    struct plog_segment **segs; /* sorted by base; never empty; the last is the active one */
    size_t n_segs, cap_segs;
    int64_t start, end;
    int deleted;
    int failed;    /* a segment's write or sync failed: no acks until it was made afresh */
    int dir_dirty; /* a segment was created since the folder was synced */
    int tail_left; /* bytes of a failed unit could not be cut off the active segment */
    char error[256];
    struct plog_hint hints[PLOG_HINTS];
    unsigned next_hint;

    struct mutex watch_mu;
    struct plog_watch *watches;

    /* [committer], of the group being written */
    int64_t w_end;
    size_t w_old_segs; /* n_segs before the group */
    struct plog_segment *w_active;
    int in_group;
    uint32_t first_extent, last_extent; /* index + 1 */

    /* recovery only */
    int r_known;   /* the checkpoint or the journal says where it ends */
    int r_touched; /* bytes were written, cut or made by recovery */
    int64_t r_segment, r_pos, r_end;
    int64_t r_checkpointed; /* the active segment at the checkpoint */

    struct plog_partition *all_prev, *all_next; /* topics_mu */
};

struct plog_topic { /* topics_mu, but for `config`: admin_mu */
    char *name;
    uint8_t id[PLOG_ID_BYTES];
    int32_t n;
    struct plog_partition **parts; /* owned references */
    struct map *config;            /* key to strdup'ed value */
};

/* ---- journal ---- */

enum plog_frame_kind {
    PLOG_FRAME_REDO = 1,   /* the batches follow in the journal */
    PLOG_FRAME_MARKER = 2, /* the batches are in the segments already */
};

struct plog_journal {
    uint64_t generation;
    int fd;
    char *path;
    int64_t len; /* of whole, good frames */
};

/* A run of batches of one unit in one segment. */
struct plog_extent {
    struct plog_partition *part;
    struct plog_segment *seg; /* NULL in replay */
    int64_t pos;
    int64_t base_offset, next_offset;
    const uint8_t *bytes;
    size_t len;
    uint32_t
        digest;    /* CRC32C over the first 21 bytes of each batch: what batch CRCs do not cover */
    uint32_t next; /* next extent of the same partition in the group, index + 1 */
};

/* ---- the log ---- */

struct plog_control { /* something the committer does between two groups, for a waiting caller */
    int (*run)(struct plog *p, void *arg, struct err *err);
    void *arg;
    int rc;
    struct err err;
    int finished;
    struct plog_control *next;
};

struct plog_commit_state; /* commit.c */
struct plog_sync_pool;    /* io.c */

struct plog {
    struct plog_options o;
    char *dir, *log_dir, *journal_dir;

    struct mutex admin_mu;
    struct mutex topics_mu;
    struct map *topics;         /* name to struct plog_topic */
    struct plog_partition *all; /* every partition that still has a reference */

    struct mutex q_mu;
    struct cond q_cond;          /* committer: something to do */
    struct cond done_cond;       /* others: a control finished */
    struct cond checkpoint_cond; /* checkpointer: wanted, or stop */
    struct plog_unit *q_head, *q_tail;
    size_t q_bytes;
    struct plog_control *controls;
    int closing;
    int writable;
    char reason[256];
    uint64_t
        dead_generation; /* its journal's sync failed: no acks until a checkpoint retired it; 0: none */
    int64_t next_probe_ms;
    int want_checkpoint;
    int checkpoint_failed; /* the last one did; journals pile up */
    char checkpoint_error[256];
    int checkpoint_stop;

    pthread_t committer, checkpointer;
    int committer_runs, checkpointer_runs;
    struct plog_commit_state *commit;
    struct plog_sync_pool *pool;

    /* [committer], but set up by plog_open() and taken over by plog_close() */
    struct plog_journal *journal;
    uint64_t next_seq;
    uint64_t durable_seq;   /* frames up to this one are synced */
    int64_t straight_bytes; /* since the last rotation */

    _Atomic int uncheckpointed;    /* something was committed since the last rotation */
    _Atomic int64_t retired_bytes; /* of journals before the current one that no checkpoint freed */

    /* checkpointer, plog_open() and plog_close() */
    uint64_t next_generation;
    uint64_t first_live; /* generations below it hold nothing that is needed */

    struct mutex fd_mu;
    struct plog_segment lru; /* list head: next is the most recently used */
    int n_fds;
};

/* ---- io.c: the calls that can fail, with the test's fault hook in front of each ---- */
int plog_io_create(struct plog *p, const char *path, int *ret_fd, struct err *err) MUST_USE;
int plog_io_pwritev(struct plog *p, int fd, struct iovec *iov, int n, int64_t at, const char *path,
                    struct err *err) MUST_USE; /* iov is consumed */
int plog_io_sync(struct plog *p, int fd, const char *path, struct err *err) MUST_USE;
int plog_io_truncate(struct plog *p, int fd, int64_t size, const char *path,
                     struct err *err) MUST_USE;
int plog_io_sync_dir(struct plog *p, const char *path, struct err *err) MUST_USE;
int plog_io_replace(struct plog *p, const char *path, const void *data, size_t n,
                    struct err *err) MUST_USE;
/* Runs job(arg, i) for i in [0, n) on the caller and a few helpers; returns when all ended. */
void plog_pool_run(struct plog *p, void (*job)(void *arg, size_t i), void *arg, size_t n);
void plog_pool_free(struct plog_sync_pool *pool);

/* ---- segment.c ---- */
void plog_segment_path(const struct plog_segment *s, const char *ext, char out[PATH_MAX]);
/* An object only; the file is opened when it is first used. Returns with one reference. */
struct plog_segment *plog_segment_new(struct plog_partition *part, int64_t base);
/* Makes the empty file too (an old one of that name is emptied). Not durable. */
int plog_segment_create(struct plog_partition *part, int64_t base, struct plog_segment **ret,
                        struct err *err) MUST_USE;
void plog_segment_ref(struct plog_segment *s);
void plog_segment_unref(struct plog_segment *s);
/* An open descriptor that stays open until unpinned. */
int plog_segment_pin(struct plog_segment *s, int *ret_fd, struct err *err) MUST_USE;
void plog_segment_unpin(struct plog_segment *s);
void plog_segment_close_fd(struct plog_segment *s); /* nobody has it pinned */
int plog_segment_sync(struct plog_segment *s, struct err *err) MUST_USE;
/* Adds the segment behind the others; takes the reference. part->mu is taken inside. */
int plog_partition_add_segment(struct plog_partition *part, struct plog_segment *s,
                               struct err *err) MUST_USE;

/* ---- index.c ---- */
/* Notes a batch of `bytes` at m->size that ends at `last_offset`: index entries where one is due, and the
 * mark behind it. The entries stay unpublished until plog_index_publish(). */
int plog_index_note(struct plog_segment *s, struct plog_mark *m, const struct plog_batch *b,
                    int64_t interval, struct err *err) MUST_USE;
void plog_index_publish(struct plog_segment *s);  /* part->mu held */
void plog_index_rollback(struct plog_segment *s); /* part->mu held */
/* Writes the published entries that are not in the files yet; `closing`: the segment is complete, its
 * last time entry too. Synced only if `sync`. */
int plog_index_flush(struct plog_segment *s, int closing, int sync, struct err *err) MUST_USE;
/* Where to begin looking for `offset`: the start of a batch at or before it. ret_last: the last offset of
 * the batch at ret_pos, -1 if not known (ret_pos is 0 then). Never fails: a missing or unreadable index
 * means looking from the segment's start. */
void plog_index_find(struct plog_segment *s, int64_t offset, int64_t *ret_pos, int64_t *ret_last);
/* At open, over pub.size good bytes: checks the index files and brings them and the marks up to the end,
 * rebuilding what does not fit. `active`: the mark matters. ret_rebuilt: entries were thrown away. */
int plog_index_load(struct plog_segment *s, int active, int64_t interval, int *ret_rebuilt,
                    struct err *err) MUST_USE;

/* ---- scan.c: reading batches out of a segment file ---- */
struct plog_scan {
    struct plog_segment *seg;
    int fd;
    int64_t limit; /* good bytes of the file */
    uint8_t *buf;  /* a window of the file */
    size_t cap, have;
    int64_t buf_at;
};
int plog_scan_init(struct plog_scan *s, struct plog_segment *seg, int64_t limit,
                   struct err *err) MUST_USE;
void plog_scan_free(struct plog_scan *s);
/* The header at `pos`. 1; 0 at the limit; ERR_CORRUPT if there is none; ERR_IO. */
int plog_scan_head(struct plog_scan *s, int64_t pos, struct plog_batch *ret,
                   struct err *err) MUST_USE;
/* As plog_scan_head(), and the whole batch is read and its CRC right; ret_bytes is borrowed until the next
 * call. */
int plog_scan_batch(struct plog_scan *s, int64_t pos, struct plog_batch *ret,
                    const uint8_t **ret_bytes, struct err *err) MUST_USE;
/* Where the log goes on behind a bad batch at `pos`: the next good batch with a base offset in
 * [min_offset, max_offset]. 1 with its place, 0 if none follows. */
int plog_scan_resync(struct plog_scan *s, int64_t pos, int64_t min_offset, int64_t max_offset,
                     int64_t *ret_pos, int64_t *ret_base, struct err *err) MUST_USE;

/* index.c: the offset from which on a record with timestamp >= ts may stand in the scan's segment. An entry
 * that does not hold means looking from the segment's start. */
int64_t plog_index_find_time(struct plog_scan *scan, int64_t ts);

/* ---- partition.c ---- */
struct plog_partition *plog_partition_new(struct plog *p, const char *topic, int32_t number,
                                          const uint8_t *id);
int plog_partition_metadata_read(struct plog_partition *t, uint8_t id[PLOG_ID_BYTES],
                                 struct err *err) MUST_USE;
/* Makes folder, metadata, epoch file and the first segment (base 0). Durable but for the parent folder. */
int plog_partition_make(struct plog *p, struct plog_partition *t, struct err *err) MUST_USE;
int plog_partition_load_segments(struct plog_partition *t, struct err *err) MUST_USE;
void plog_partition_wake(struct plog_partition *t);
void plog_partition_set_error(struct plog_partition *t, int failed, const char *text);
/* The segment that holds `offset`, referenced, and its published size; NULL below the first one.
 * part->mu held. */
struct plog_segment *plog_partition_segment(struct plog_partition *t, int64_t offset,
                                            int64_t *ret_size);
/* The base of the first segment behind `s`, or the end offset; part->mu held. */
int64_t plog_partition_after(struct plog_partition *t, const struct plog_segment *s);

/* ---- config.c ---- */
int plog_config_check(const struct plog_config_entry *config, size_t n, struct err *err) MUST_USE;
int plog_config_write(struct plog *p, const char *dir0, const struct plog_config_entry *config,
                      size_t n, struct err *err) MUST_USE;
int plog_config_read(const char *dir0, struct map *into, struct err *err) MUST_USE;
void plog_config_apply(struct plog_topic *t); /* sets the limits of every partition */

/* ---- topic.c, topics_load.c ---- */
void plog_topic_free(void *topic);
struct plog_checkpoint;
int plog_topics_load(struct plog *p, const struct plog_checkpoint *c, struct err *err) MUST_USE;
void plog_uuid_text(const uint8_t id[PLOG_ID_BYTES], char out[23]);
int plog_uuid_parse(const char *text, uint8_t id[PLOG_ID_BYTES]) MUST_USE;
int plog_uuid_random(uint8_t id[PLOG_ID_BYTES], struct err *err) MUST_USE;

/* ---- journal.c ---- */
/* A new, empty generation: header and folder entry durable. */
int plog_journal_create(struct plog *p, uint64_t generation, struct plog_journal **ret,
                        struct err *err) MUST_USE;
void plog_journal_close(struct plog_journal *j); /* NULL-safe */
/* Appends a frame's head for extents[0..n) to `out`. */
void plog_frame_put(struct buf *out, int kind, uint64_t generation, uint64_t seq,
                    uint64_t durable_seq, const struct plog_extent *extents, size_t n);

/* Bytes of the head at `p`, which plog_frame_put() wrote. */
size_t plog_frame_head_len(const uint8_t *p);

struct plog_frame_extent {
    const char *topic; /* NUL-terminated, borrowed from the frame */
    uint8_t id[PLOG_ID_BYTES];
    int32_t partition;
    int64_t segment, pos, base_offset, next_offset;
    uint32_t digest;
    size_t len;
    size_t body_at; /* in the body, redo only */
};
struct plog_frame {
    int kind;
    uint64_t seq, durable_seq;
    int64_t end; /* file position behind the frame */
    struct plog_frame_extent *extents;
    size_t n_extents;
    const uint8_t *body;
    size_t body_len;
};
struct plog_journal_reader {
    uint64_t generation;
    int bad_header;
    int fd;
    char *path;
    int64_t size;
    uint8_t *head; /* memory of the frame at hand */
    size_t head_cap;
    uint8_t *body;
    size_t body_cap;
    char *names;
    size_t names_cap;
    struct plog_frame_extent *extents;
    size_t cap_extents;
};
/* A header that is not this generation's is told by bad_header: frames check out by themselves. */
int plog_journal_reader_open(struct plog *p, uint64_t generation, struct plog_journal_reader *ret,
                             struct err *err) MUST_USE;
void plog_journal_reader_close(struct plog_journal_reader *r);
/* The frame at `pos`: 1; 0 at the file's end; ERR_DATA when there is no whole frame (the reason in err);
 * ERR_IO, ERR_NOMEM. Redo bodies are read and checked against digests and batch CRCs. */
int plog_journal_frame(struct plog_journal_reader *r, int64_t pos, struct plog_frame *ret,
                       struct err *err) MUST_USE;
/* The position of the next thing that looks like a frame's head, at or behind `pos`; -1: none. */
int64_t plog_journal_search(struct plog_journal_reader *r, int64_t pos);
int64_t plog_journal_first(void); /* position of the first frame */
/* Whether bytes[0..len) are good batches that run from base_offset to next_offset with that digest. */
int plog_batches_match(const uint8_t *bytes, size_t len, int64_t base_offset, int64_t next_offset,
                       uint32_t digest);
/* Generations on disk, ascending; *ret is malloc'ed. */
int plog_journal_list(struct plog *p, uint64_t **ret, size_t *ret_n, struct err *err) MUST_USE;
/* Unlinks generations below `first_live`, and folder entries durable. */
int plog_journal_unlink(struct plog *p, uint64_t first_live, struct err *err) MUST_USE;

/* ---- commit.c ---- */
int plog_committer_start(struct plog *p, struct err *err) MUST_USE;
void plog_committer_stop(struct plog *p); /* after the queue is empty */
/* Runs `run` on the committer, between two groups, and waits. ERR_CANCELLED when closing. */
int plog_control_run(struct plog *p, int (*run)(struct plog *p, void *arg, struct err *err),
                     void *arg, struct err *err) MUST_USE;
/* Writes and syncs a frame that makes partitions known, with no bytes. [committer] or before it starts. */
int plog_commit_known(struct plog *p, struct plog_partition **parts, size_t n,
                      struct err *err) MUST_USE;
void plog_health_set(struct plog *p, int writable, const char *reason);

/* ---- group.c: one group on its way to disk [committer] ---- */
struct plog_group {
    struct plog_unit **units;
    size_t n_units, cap_units;
    size_t *unit_extents; /* first extent of each unit, n_units + 1 of them */
    size_t cap_unit_extents;
    struct plog_extent *extents;
    size_t n_extents, cap_extents;
    struct plog_partition **parts;
    size_t n_parts, cap_parts;
    struct iovec *iov;
    size_t cap_iov;
    struct buf heads;
    size_t bytes;
    uint64_t first_seq;
    int64_t journal_bytes; /* of the frames written behind journal->len */
    int journal_touched;
    int sync_failed;                   /* the journal's sync did */
    struct plog_partition *fault_part; /* whose fault the failure was, or NULL: everybody's */
};
void plog_group_clear(struct plog_group *g);
void plog_group_free(struct plog_group *g);
/* Whether the unit can be staged at all: ERR_NOT_FOUND, ERR_IO (failed partition), ERR_INVAL. */
int plog_group_admit(const struct plog_unit *u, struct err *err) MUST_USE;
/* Gives the unit its offsets and places. On failure the whole group must be rolled back. */
int plog_group_stage(struct plog_group *g, struct plog_unit *u, struct err *err) MUST_USE;
/* Instead of units: a frame that says where these partitions end, so that recovery knows them. */
int plog_group_stage_known(struct plog_group *g, struct plog_partition **parts, size_t n,
                           struct err *err) MUST_USE;
/* Segments and journal, by the path that fits; of the straight path the segments' sync too. */
int plog_group_write(struct plog *p, struct plog_group *g, struct err *err) MUST_USE;
/* The journal's sync: durable on return. */
int plog_group_sync(struct plog *p, struct plog_group *g, struct err *err) MUST_USE;
/* Moves the ends and wakes the watchers. */
void plog_group_publish(struct plog *p, struct plog_group *g);
/* Back to the published state; returns 1 if the journal could not be cut durably (it is dead then). */
int plog_group_rollback(struct plog *p, struct plog_group *g);

/* ---- checkpoint.c ---- */
struct plog_checkpoint_entry {
    char *topic;
    uint8_t id[PLOG_ID_BYTES];
    int32_t partition;
    int64_t start, segment, end, pos;
};
struct plog_checkpoint {
    uint64_t first_live, next_seq;
    int clean;
    struct plog_checkpoint_entry *entries;
    size_t n;
};
int plog_checkpoint_read(struct plog *p, struct plog_checkpoint *ret, struct err *err) MUST_USE;
void plog_checkpoint_free(struct plog_checkpoint *c);
/* Syncs all that is dirty and writes the state of all partitions as it stands, then unlinks generations
 * below first_live; nothing commits meanwhile. `clean`: indexes get their closing entries. */
int plog_checkpoint_write_now(struct plog *p, uint64_t first_live, int clean,
                              struct err *err) MUST_USE;
int plog_checkpointer_start(struct plog *p, struct err *err) MUST_USE;
void plog_checkpointer_stop(struct plog *p);
void plog_checkpoint_request(struct plog *p); /* takes q_mu */

/* ---- recover.c ---- */
int plog_recover(struct plog *p, struct err *err) MUST_USE;

#endif
