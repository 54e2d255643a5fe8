/*
 * topic: the one interface to topics; behind it the built-in log (topic_open_plog) or a Kafka
 * cluster (topic_open_kafka). Commit units, reads under a position, groups with generations.
 * Connectors, offsets and config stand above it and are the same code for both.
 *
 * Threads: all functions are thread-safe; callbacks (done, wake) run on an engine thread, must not
 * block and must not call back into the engine: they post to their owner.
 */
#ifndef TOPIC_TOPIC_H
#define TOPIC_TOPIC_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct topic_engine;

#define TOPIC_NAME_MAX 249

/* ---- engines ---- */
struct plog;
struct topic_plog_options {
    struct plog *log; /* borrowed; outlives the engine */
};
int topic_open_plog(const struct topic_plog_options *o, struct topic_engine **ret,
                    struct err *err) MUST_USE;
struct topic_kafka_options {
    const char *bootstrap_servers;
    const char *const *client_config; /* "key", "value", ..., NULL: librdkafka's own names */
};
int topic_open_kafka(const struct topic_kafka_options *o, struct topic_engine **ret,
                     struct err *err) MUST_USE;
/* All members, readers and units are gone before. NULL-safe. */
void topic_close(struct topic_engine *e);

/* ---- topics ---- */
struct topic_config {
    const char *key, *value;
};
struct topic_info {
    uint8_t id[16]; /* changes when a topic is deleted and made again */
    int32_t partitions;
    int64_t epoch; /* grows when the number of partitions does */
    int64_t max_batch_bytes;
};
/* Names of the host's own topics: clients neither write nor delete them. */
int topic_is_internal(const char *name);

int topic_create(struct topic_engine *e, const char *name, int32_t partitions,
                 const struct topic_config *config, size_t n_config, struct err *err) MUST_USE;
int topic_grow(struct topic_engine *e, const char *name, int32_t partitions,
               struct err *err) MUST_USE;
int topic_configure(struct topic_engine *e, const char *name, const struct topic_config *config,
                    size_t n_config, struct err *err) MUST_USE;
int topic_delete(struct topic_engine *e, const char *name, struct err *err) MUST_USE;
int topic_resolve(struct topic_engine *e, const char *name, struct topic_info *ret,
                  struct err *err) MUST_USE; /* ERR_NOT_FOUND */
int topic_list(struct topic_engine *e, void (*each)(void *arg, const char *name), void *arg,
               struct err *err) MUST_USE; /* sorted by bytes, internal ones included */
int topic_get_config(struct topic_engine *e, const char *name,
                     void (*each)(void *arg, const char *key, const char *value), void *arg,
                     struct err *err) MUST_USE;
struct topic_partition_status {
    int64_t start_offset, end_offset, bytes; /* bytes -1: not known */
    const char *state;                       /* "online" or "failed"; static */
    char error[256];
};
int topic_partition_status(struct topic_engine *e, const char *name, int32_t partition,
                           struct topic_partition_status *ret, struct err *err) MUST_USE;
/* 1 while commits work, else 0 with the reason. */
int topic_writable(struct topic_engine *e, char *ret_reason, size_t reason_len);

/* ---- commit units ---- */

/* Order fence: units of one stream become durable in submission order, and once one has failed the
 * later ones fail with ERR_CANCELLED until topic_stream_reset(). Owned by the caller, outlives its
 * units. */
struct topic_stream;
int topic_stream_open(struct topic_engine *e, struct topic_stream **ret, struct err *err) MUST_USE;
void topic_stream_reset(struct topic_stream *s); /* with none of its units in flight */
void topic_stream_close(struct topic_stream *s); /* NULL-safe; with none of its units in flight */

struct topic_append {
    const char *topic; /* borrowed until done */
    const uint8_t
        *topic_id; /* 16 bytes, or NULL: whatever has the name. Another topic has it: ERR_STALE */
    int32_t partition;
    uint8_t
        *batches; /* RecordBatch v2, checked; borrowed until done; base offsets stamped in place */
    size_t len;
    int64_t n_records;
    int64_t ret_base_offset; /* when done with 0; -1 if the engine does not know */
};
struct topic_group_offset {
    const char *topic;
    int32_t partition;
    int64_t offset; /* the next to read; -1: forget (tombstone) */
};
struct topic_unit {
    struct topic_append *appends;
    size_t n_appends;
    /* The host's own records (source offsets): never visible without the appends. The log commits
     * both together; Kafka's engine produces them after the appends' acks. */
    struct topic_append *state;
    size_t n_state;
    const char *group; /* or NULL */
    int64_t
        generation; /* of the member that read; an older one than now: ERR_FENCED. -1: not checked */
    const struct topic_group_offset *group_offsets;
    size_t n_group_offsets;
    struct topic_stream *stream;
    /* Called once. err->code 0: durable as ret_flush says (0 always, 1 interval, 2 os). */
    void (*done)(struct topic_unit *u, const struct err *err);
    void *arg;
    int ret_flush;
    void *engine_; /* the engine's own */
};
/* ERR_LIMIT when the engine's queue is full (try again later); ERR_STALE, ERR_NOT_FOUND,
 * ERR_FENCED found at once; on 0 `done` comes exactly once. Never blocks on disk or network. */
int topic_submit(struct topic_engine *e, struct topic_unit *u, struct err *err) MUST_USE;
/* topic_submit() and wait; not from a callback. */
int topic_commit(struct topic_engine *e, struct topic_unit *u, struct err *err) MUST_USE;

/* ---- reading ---- */
struct topic_reader;
struct topic_read {
    int64_t next_offset, start_offset, end_offset;
    size_t bytes;
};
/* A reader of one partition; wake(arg) is called when something may have arrived after a read
 * returned nothing. offset as topic_read. */
int topic_reader_open(struct topic_engine *e, const char *topic, int32_t partition,
                      void (*wake)(void *arg), void *arg, struct topic_reader **ret,
                      struct err *err) MUST_USE;
/* Appends whole batches from the one that contains `offset`, about max_bytes, at least one batch;
 * bytes 0: nothing now. Committed records only. ERR_LIMIT: out of range (ret says the range);
 * ERR_CORRUPT: named by file and offset, ret->next_offset is behind it; ERR_NOT_FOUND: topic gone.
 * Does not wait for the network. */
int topic_read(struct topic_reader *r, int64_t offset, size_t max_bytes, struct buf *out,
               struct topic_read *ret, struct err *err) MUST_USE;
void topic_reader_close(struct topic_reader *r); /* NULL-safe; wake does not run afterwards */

/* ---- groups ---- */
struct topic_member;
struct topic_assignment {
    const char *topic; /* borrowed from the event, until the next poll */
    uint8_t topic_id[16];
    int32_t partition;
    int64_t epoch;     /* grows with every owner of this partition in this group */
    int64_t committed; /* the group's offset, or -1 */
};
enum topic_event_kind { TOPIC_EVENT_ASSIGNED = 1, TOPIC_EVENT_REVOKED = 2 };
struct topic_event {
    int kind;
    int64_t generation;
    const struct topic_assignment *partitions; /* ASSIGNED: all added now; REVOKED: all taken now */
    size_t n;
};
/* Joins `group` as one of its members (a sink task). Partitions move only when they must: a join,
 * a leave, a topic that grows. wake(arg): topic_member_poll() has something. */
int topic_member_join(struct topic_engine *e, const char *group, const char *const *topics,
                      size_t n_topics, void (*wake)(void *arg), void *arg,
                      struct topic_member **ret, struct err *err) MUST_USE;
/* 1 with an event, 0 none. After REVOKED the partitions stay this member's until
 * topic_member_revoked(): flush and commit first. No other event comes before that answer. */
int topic_member_poll(struct topic_member *m, struct topic_event *ret);
void topic_member_revoked(struct topic_member *m);
/* Leaves at once: its partitions go to the others. NULL-safe. */
void topic_member_leave(struct topic_member *m);

/* The group's committed offset of one partition; ERR_NOT_FOUND if none. May wait for the network.
 * */
int topic_group_offset(struct topic_engine *e, const char *group, const char *topic,
                       int32_t partition, int64_t *ret, struct err *err) MUST_USE;

#endif
