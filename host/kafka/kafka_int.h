/* The client from the inside: one lock over all shared state, two threads, and who runs on which. */
#ifndef KAFKA_KAFKA_INT_H
#define KAFKA_KAFKA_INT_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include "base/map.h"
#include "base/thread.h"
#include "kafka/kafka.h"

#define KAFKA_WAIT_MS         15000
#define KAFKA_IN_FLIGHT_BYTES ((size_t)64 << 20)
#define KAFKA_IN_FLIGHT_MSGS  500000
#define KAFKA_BATCH_BYTES     1000000 /* librdkafka's message.max.bytes */

struct kafka_job;

/* Something for the worker: it waits for the network, so nobody else should. */
struct kafka_task {
    struct kafka_task *next;
    void (*run)(struct kafka *k, void *arg);
    void *arg;
};

struct kafka_job_list {
    struct kafka_job *head, *tail;
};

struct kafka {
    char *bootstrap;
    char **config; /* key, value, ..., NULL */
    struct mutex lock;
    struct cond settled; /* wakes returned, tasks ended */

    /* The event thread sleeps on these two. A lock of their own, taken last: librdkafka kicks from within its
     * queues. */
    struct mutex kick_lock;
    struct cond kicked;
    int kick;

    struct cond work;
    struct kafka_task *tasks, **tasks_tail;
    int closing; /* 1: the worker ends when idle; 2: the event thread too */
    pthread_t events, worker;

    rd_kafka_t *admin; /* a consumer without a group: metadata, admin calls, watermarks */
    rd_kafka_queue_t *admin_queue; /* answers to commits outside a member */
    struct map *topics;            /* names known to exist; the values say nothing */

    /* producing */
    rd_kafka_t *producer;
    rd_kafka_queue_t *producer_queue;
    size_t in_flight_bytes, in_flight_msgs;
    uint32_t deferred;  /* jobs that wait for the worker to look a topic up */
    size_t outstanding; /* messages that librdkafka has not reported on */
    uint32_t producing; /* threads inside produce calls: the producer stays */
    struct kafka_job_list finished;
    struct kafka_job_list again; /* commits to be repeated */
    int broken;                  /* the producer met a fatal error and is to be replaced */
    int down;                    /* no broker answers */
    char reason[256];

    struct kafka_member *members;
    struct kafka_reader *readers;
    struct kafka_fetcher *fetchers;
    int64_t counter; /* of generations */
};

/* client.c */
void kafka_kick(struct kafka *k);
void kafka_queue_kicks(struct kafka *k, rd_kafka_queue_t *q); /* the queue's arrivals kick */
void kafka_task_add(struct kafka *k, struct kafka_task *t);   /* @locks lock */
/* A conf with bootstrap.servers and the user's settings, then key, value, ..., NULL of ours. */
rd_kafka_conf_t *kafka_conf(struct kafka *k, const char *const *ours, struct err *err);
rd_kafka_t *kafka_handle(rd_kafka_type_t type, rd_kafka_conf_t *conf,
                         struct err *err); /* takes conf */
/* ERR_* of a librdkafka code. */
int kafka_code(rd_kafka_resp_err_t e);
int kafka_err(struct err *err, rd_kafka_resp_err_t e, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* produce.c; the event thread's part */
int kafka_producer_start(struct kafka *k, struct err *err) MUST_USE;
void kafka_producer_stop(struct kafka *k);
void kafka_producer_serve(struct kafka *k);
void kafka_job_committed(struct kafka_job *j, const struct err *err); /* offsets done or failed */
/* The group was rebalancing: the commit is tried again soon, for KAFKA_WAIT_MS; then it fails with err. */
void kafka_job_commit_again(struct kafka_job *j, const struct err *err);

/* read.c */
void kafka_readers_serve(struct kafka *k);
void kafka_fetchers_free(struct kafka *k);

/* member.c */
void kafka_members_serve(struct kafka *k);
/* Whether the unit may commit; ERR_FENCED. @locks lock */
int kafka_members_check(struct kafka *k, const struct kafka_unit *u, struct err *err) MUST_USE;
/* Commits a job's offsets; kafka_job_committed() follows, from the event thread. */
void kafka_offsets_commit(struct kafka *k, struct kafka_job *j, const struct kafka_unit *u);

/* admin.c */
/* Waits for an admin call's answer, an event to be destroyed. */
int kafka_admin_wait(rd_kafka_queue_t *q, const char *what, rd_kafka_event_t **ret,
                     struct err *err) MUST_USE;
rd_kafka_AdminOptions_t *kafka_admin_options(struct kafka *k, rd_kafka_admin_op_t op);
int kafka_topic_known(struct kafka *k, const char *name); /* @locks lock */

#endif
