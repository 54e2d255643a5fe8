/*
 * One suite for every engine of topic.h. Each case says which engines it is for; the fixture hides how an
 * engine is made, how a topic comes to be on it, and how its next write is made to fail.
 *
 * Nothing here sleeps: what has to be waited for wakes a signal; a wait of 30 s fails the test.
 */
#ifndef TESTS_TOPIC_SUITE_H
#define TESTS_TOPIC_SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/thread.h"
#include "record/record.h"
#include "topic/topic.h"

enum { ON_LOG = 1, ON_KAFKA = 2, ON_ALL = 3 };

struct fixture;
struct engine_kind {
    const char *name;
    int flag;
    void (*open)(struct fixture *f);
    void (*close)(struct fixture *f); /* of the engine and what is below it */
    void (*destroy)(struct fixture *f);
    void (*make_topic)(struct fixture *f, const char *name, int32_t partitions);
    /* One write from now on fails, in a way that does not heal by itself. */
    void (*break_next)(struct fixture *f);
    void (*heal)(struct fixture *f);
};
extern const struct engine_kind engine_kinds[];
extern const size_t n_engine_kinds;

struct suite_case {
    const char *name;
    void (*run)(struct fixture *f);
    int engines;
    int slow; /* on Kafka */
};
extern const struct suite_case topic_cases[], unit_cases[], group_cases[], log_cases[],
    kafka_cases[];
extern const size_t n_topic_cases, n_unit_cases, n_group_cases, n_log_cases, n_kafka_cases;

/* The log's disk, as the tests steer it. */
struct disk {
    struct mutex lock;
    struct cond cond;
    int fail;    /* writes fail with ENOSPC */
    int hold;    /* writes wait */
    int waiting; /* how many do */
};

struct fixture {
    const struct engine_kind *kind;
    struct topic_engine *engine;
    char dir[64];
    struct plog *log;
    struct disk disk;
    void *mock_client, *mock_cluster;
    int slow; /* as the case */
};

/* ---- waiting ---- */
struct signal {
    struct mutex lock;
    struct cond cond;
    int count;
};
void signal_init(struct signal *s);
void signal_destroy(struct signal *s);
void signal_raise(void *signal); /* a wake function */
int signal_count(struct signal *s);
void signal_wait(struct signal *s, int beyond); /* until the count is above it */

void reopen(struct fixture *f);
#define OK(call)                                                                                   \
    do {                                                                                           \
        struct err err = ERR_INIT;                                                                 \
        int rc_ = (call);                                                                          \
        if (rc_ != 0) {                                                                            \
            fail_msg("%s: %d %s", #call, rc_, err.msg);                                            \
        }                                                                                          \
    } while (0)

/* ---- records ---- */
struct rec {
    const char *key, *value; /* NULL: null */
    int64_t timestamp_ms;
    const struct record_header *headers;
    size_t n_headers;
};
struct got {
    int64_t offset;
    int64_t timestamp_ms;
    struct slice key, value;
    const uint8_t *headers;
    size_t headers_len;
    int32_t n_headers;
};
/* An append of these records; its bytes are in `batches`. */
struct topic_append append_of(struct buf *batches, const char *topic, int32_t partition,
                              const struct rec *recs, size_t n);
/* Commits one record to one partition; returns its offset. */
int64_t put(struct fixture *f, const char *topic, int32_t partition, const char *value);
/* Reads records from `offset` until there are n; waits for them. The slices point into `bytes`. */
void read_records(struct fixture *f, const char *topic, int32_t partition, int64_t offset,
                  struct buf *bytes, struct got *ret, size_t n);
int64_t end_offset(struct fixture *f, const char *topic, int32_t partition);

/* ---- members ---- */
#define PARTITIONS_MAX 16
struct owners { /* who has what, as the events say: two at a time is a failure */
    struct signal signal;
    const void *owner[PARTITIONS_MAX];
    int64_t last_epoch[PARTITIONS_MAX];
};
struct sink {
    struct owners *owners;
    struct topic_member *member;
    int owned[PARTITIONS_MAX];
    int64_t committed[PARTITIONS_MAX];
    int64_t epoch[PARTITIONS_MAX];
    int n_owned;
    int assigned_events;
    int64_t generation;
    int keep;     /* don't answer a REVOKED */
    int revoking; /* one is not answered */
    int to_return[PARTITIONS_MAX];
};
void owners_init(struct owners *o);
void sink_join(struct fixture *f, struct sink *s, struct owners *o, const char *group,
               const char *const *topics, size_t n);
void sink_pump(struct sink *s);
void sink_answer(struct sink *s);
void sink_leave(struct sink *s);
/* Pumps all sinks until `until` says 1. */
void pump_until(struct owners *o, struct sink *const *sinks, size_t n, int (*until)(void *arg),
                void *arg);
int commit_offset(struct fixture *f, const char *group, int64_t generation, const char *topic,
                  int32_t partition, int64_t offset, struct err *err);

#endif
