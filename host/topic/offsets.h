/*
 * Group offsets: the table in memory, and Kafka's bytes for __consumer_offsets.
 *
 *   key    i16 version=1 | string group | string topic | i32 partition
 *   value  i16 version=3 | i64 offset | i32 leaderEpoch | string metadata | i64 commitTimestamp
 *   string i16 length | bytes; integers big-endian; a null value forgets the key
 *
 * Threads: not thread-safe; the coordinator's lock covers the table.
 */
#ifndef TOPIC_OFFSETS_H
#define TOPIC_OFFSETS_H

#include "base/str.h"
#include "topic/topic.h"

#define TOPIC_GROUP_MAX 32767 /* bytes: what the key's i16 length can say */

struct topic_offsets;
struct topic_offsets *topic_offsets_new(void); /* NULL without memory */
void topic_offsets_free(struct topic_offsets *o);

/* ERR_NOT_FOUND when the group has none. */
int topic_offsets_get(const struct topic_offsets *o, const char *group, const char *topic,
                      int32_t partition, int64_t *ret) MUST_USE;
/* Makes room, so that a later topic_offsets_put() of the same key cannot fail. */
int topic_offsets_reserve(struct topic_offsets *o, const char *group, const char *topic,
                          int32_t partition) MUST_USE;
/* offset -1 forgets. Only ERR_NOMEM, and that only without a reserve. */
int topic_offsets_put(struct topic_offsets *o, const char *group, const char *topic,
                      int32_t partition, int64_t offset) MUST_USE;
/* Calls `each` for every offset of one topic in every group. */
void topic_offsets_of_topic(const struct topic_offsets *o, const char *topic,
                            void (*each)(void *arg, const char *group, int32_t partition),
                            void *arg);
/* Drops the topic's entries of every group. */
void topic_offsets_drop_topic(struct topic_offsets *o, const char *topic);

/* Appends batches with one record an offset; ret_records counts them. */
int topic_offsets_encode(struct buf *out, const char *group, const struct topic_group_offset *v,
                         size_t n, int64_t now_ms, int64_t *ret_records, struct err *err) MUST_USE;
/* Applies one record as stored. 0 also for what is not an offset (group metadata, newer kinds);
 * ERR_DATA when malformed, ERR_NOMEM. */
int topic_offsets_apply(struct topic_offsets *o, struct slice key, struct slice value,
                        struct err *err) MUST_USE;

#endif
