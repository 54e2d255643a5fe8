/*
 * What an engine has to bring: the table behind topic.h. Every object that callers hold begins with a
 * pointer to its engine, so topic.c only looks it up and passes the call on.
 */
#ifndef TOPIC_TOPIC_INT_H
#define TOPIC_TOPIC_INT_H

#include "topic/topic.h"

/* The group offsets' topic: written by the engine alone. */
#define TOPIC_OFFSETS_NAME "__consumer_offsets"

struct topic_ops {
    void (*close)(struct topic_engine *e);
    int (*create)(struct topic_engine *e, const char *name, int32_t partitions,
                  const struct topic_config *config, size_t n_config, struct err *err);
    int (*grow)(struct topic_engine *e, const char *name, int32_t partitions, struct err *err);
    int (*configure)(struct topic_engine *e, const char *name, const struct topic_config *config,
                     size_t n_config, struct err *err);
    int (*remove)(struct topic_engine *e, const char *name, struct err *err);
    int (*resolve)(struct topic_engine *e, const char *name, struct topic_info *ret,
                   struct err *err);
    int (*list)(struct topic_engine *e, void (*each)(void *arg, const char *name), void *arg,
                struct err *err);
    int (*get_config)(struct topic_engine *e, const char *name,
                      void (*each)(void *arg, const char *key, const char *value), void *arg,
                      struct err *err);
    int (*partition_status)(struct topic_engine *e, const char *name, int32_t partition,
                            struct topic_partition_status *ret, struct err *err);
    int (*writable)(struct topic_engine *e, char *ret_reason, size_t reason_len);

    int (*stream_open)(struct topic_engine *e, struct topic_stream **ret, struct err *err);
    void (*stream_reset)(struct topic_stream *s);
    void (*stream_close)(struct topic_stream *s);
    int (*submit)(struct topic_engine *e, struct topic_unit *u, struct err *err);

    int (*reader_open)(struct topic_engine *e, const char *topic, int32_t partition,
                       void (*wake)(void *arg), void *arg, struct topic_reader **ret,
                       struct err *err);
    int (*read)(struct topic_reader *r, int64_t offset, size_t max_bytes, struct buf *out,
                struct topic_read *ret, struct err *err);
    void (*reader_close)(struct topic_reader *r);

    int (*member_join)(struct topic_engine *e, const char *group, const char *const *topics,
                       size_t n_topics, void (*wake)(void *arg), void *arg,
                       struct topic_member **ret, struct err *err);
    int (*member_poll)(struct topic_member *m, struct topic_event *ret);
    void (*member_revoked)(struct topic_member *m);
    void (*member_leave)(struct topic_member *m);
    int (*group_offset)(struct topic_engine *e, const char *group, const char *topic,
                        int32_t partition, int64_t *ret, struct err *err);
};

struct topic_engine {
    const struct topic_ops *ops;
};
struct topic_stream {
    struct topic_engine *engine;
};
struct topic_reader {
    struct topic_engine *engine;
};
struct topic_member {
    struct topic_engine *engine;
};

#endif
