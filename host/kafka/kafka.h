/*
 * kafka: topics on a Kafka cluster through librdkafka, the only user of its headers. host/topic
 * adapts what is here to topic.h; README.md says where a cluster differs from the built-in log.
 *
 * librdkafka takes and gives single messages: units are taken apart into messages and built into
 * batches again on the way back, so bytes of keys, values, headers and timestamps survive, batch
 * borders don't.
 *
 * Threads: all functions are thread-safe. Inside: `kafka-events` (delivery reports, rebalances, all
 * callbacks) and `kafka-worker` (calls that wait for the network), beside librdkafka's own.
 * Callbacks must not block and must not call back in here.
 */
#ifndef KAFKA_KAFKA_H
#define KAFKA_KAFKA_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct kafka;

struct kafka_options {
    const char *bootstrap_servers;
    const char *const
        *client_config; /* "key", "value", ..., NULL: librdkafka's own names; or NULL */
};
/* ERR_CONFIG for what librdkafka refuses. Does not wait for the cluster to be there. */
int kafka_open(const struct kafka_options *o, struct kafka **ret, struct err *err) MUST_USE;
/* All members, readers and units are gone before; waits for consumers that are still leaving.
 * NULL-safe. */
void kafka_close(struct kafka *k);
int kafka_writable(struct kafka *k, char *ret_reason, size_t reason_len);

/* ---- topics: these wait for the network, at most 15 s: ERR_RETRIABLE then ---- */
struct kafka_config {
    const char *key, *value;
};
int kafka_topic_create(struct kafka *k, const char *name, int32_t partitions,
                       const struct kafka_config *config, size_t n_config,
                       struct err *err) MUST_USE;
int kafka_topic_grow(struct kafka *k, const char *name, int32_t partitions,
                     struct err *err) MUST_USE;
int kafka_topic_configure(struct kafka *k, const char *name, const struct kafka_config *config,
                          size_t n_config, struct err *err) MUST_USE;
int kafka_topic_delete(struct kafka *k, const char *name, struct err *err) MUST_USE;
struct kafka_topic_info {
    uint8_t id[16]; /* as kafka_topic_id() */
    int32_t partitions;
    int64_t max_batch_bytes;
};
int kafka_topic_info(struct kafka *k, const char *name, struct kafka_topic_info *ret,
                     struct err *err) MUST_USE; /* ERR_NOT_FOUND */
/* Made from the name: librdkafka 2.0 does not tell the cluster's. */
void kafka_topic_id(const char *name, uint8_t id[16]);
int kafka_topic_list(struct kafka *k, void (*each)(void *arg, const char *name), void *arg,
                     struct err *err) MUST_USE; /* sorted by bytes */
/* Entries that differ from the cluster's defaults. */
int kafka_topic_config(struct kafka *k, const char *name,
                       void (*each)(void *arg, const char *key, const char *value), void *arg,
                       struct err *err) MUST_USE;
/* First and next offset; *ret_online 0 while the partition has no leader. */
int kafka_partition_range(struct kafka *k, const char *name, int32_t partition, int64_t *ret_start,
                          int64_t *ret_end, int *ret_online, struct err *err) MUST_USE;

/* ---- units ---- */
struct kafka_stream;
int kafka_stream_open(struct kafka *k, struct kafka_stream **ret, struct err *err) MUST_USE;
void kafka_stream_reset(struct kafka_stream *s);
void kafka_stream_close(struct kafka_stream *s);

struct kafka_append {
    const char *topic;
    int32_t partition;
    const uint8_t *batches; /* uncompressed; borrowed until done */
    size_t len;
    int64_t ret_base_offset; /* of the first record; later ones may not follow it without gaps */
};
struct kafka_offset {
    const char *topic;
    int32_t partition;
    int64_t offset; /* -1: forget */
};
/* Three steps: appends are acked by all in-sync replicas, then `state` is, then the offsets are
 * committed. A failure ends the unit there; what was done before stays (at least once). */
struct kafka_unit {
    struct kafka_append *appends;
    size_t n_appends;
    struct kafka_append *state;
    size_t n_state;
    const char *group;
    int64_t generation;
    const struct kafka_offset *offsets;
    size_t n_offsets;
    struct kafka_stream *stream; /* or NULL */
    void (*done)(struct kafka_unit *u, const struct err *err);
    void *arg;
};
/* ERR_LIMIT: 64 MiB or 500,000 records are on the way; ERR_FENCED; ERR_DATA, ERR_UNSUPPORTED:
 * batches that cannot be taken apart. Units of a stream are sent one after another. */
int kafka_submit(struct kafka *k, struct kafka_unit *u, struct err *err) MUST_USE;

/* ---- reading ---- */
struct kafka_reader;
struct kafka_read {
    int64_t next_offset, start_offset, end_offset; /* start and end as last heard */
    size_t bytes;
};
int kafka_reader_open(struct kafka *k, const char *topic, int32_t partition,
                      void (*wake)(void *arg), void *arg, struct kafka_reader **ret,
                      struct err *err) MUST_USE;
/* As topic_read(): never waits for the network. */
int kafka_read(struct kafka_reader *r, int64_t offset, size_t max_bytes, struct buf *out,
               struct kafka_read *ret, struct err *err) MUST_USE;
void kafka_reader_close(struct kafka_reader *r);

/* ---- groups ---- */
struct kafka_member;
struct kafka_assignment {
    const char *topic; /* borrowed until the next poll */
    int32_t partition;
    int64_t epoch; /* the group's generation on the cluster */
    int64_t committed;
};
struct kafka_event {
    int assigned; /* 1: all added now; 0: all taken now */
    int64_t generation;
    const struct kafka_assignment *partitions;
    size_t n;
};
int kafka_member_join(struct kafka *k, const char *group, const char *const *topics,
                      size_t n_topics, void (*wake)(void *arg), void *arg,
                      struct kafka_member **ret, struct err *err) MUST_USE;
int kafka_member_poll(struct kafka_member *m, struct kafka_event *ret);
void kafka_member_revoked(struct kafka_member *m);
void kafka_member_leave(struct kafka_member *m);
int kafka_group_offset(struct kafka *k, const char *group, const char *topic, int32_t partition,
                       int64_t *ret, struct err *err) MUST_USE;

#endif
