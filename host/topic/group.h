/*
 * Groups from the inside: members, partitions, events, and the assignment. Private to coord.c, group.c and
 * assign.c. Everything here is under the coordinator's lock.
 */
#ifndef TOPIC_GROUP_H
#define TOPIC_GROUP_H

#include <pthread.h>

#include "base/map.h"
#include "base/thread.h"
#include "topic/coord.h"

#define TOPIC_GROUP_SLOTS 65536

struct topic_group_part {
    struct topic_group_topic *topic;
    int32_t partition;
    struct topic_group_member *owner;  /* NULL: nobody's */
    struct topic_group_member *target; /* who shall have it */
    int64_t owner_counter;             /* of the event that gave it to owner */
    int64_t epoch;
    uint32_t in_flight; /* commit units; the next owner waits for them */
    int revoking;       /* a REVOKED event for owner exists and is not answered */
};

struct topic_group_topic {
    char *name;
    uint8_t id[16];
    struct topic_group_part **parts;
    size_t n_parts;
    int gone; /* deleted, made again, or nobody subscribes: to be taken from its owners */
};

struct topic_group_event {
    struct topic_group_event *next;
    int kind;
    int64_t counter;
    struct topic_group_part **parts;
    size_t n, cap;
    struct topic_assignment *view; /* made at poll: assignments, names behind them */
};

struct topic_group_member {
    struct topic_member base;
    struct topic_coord *coord;
    struct topic_group *group;
    struct topic_group_member *next; /* in join order */
    char **topics;
    size_t n_topics;
    void (*wake)(void *arg);
    void *arg;
    uint32_t slot;
    int known;    /* has been sent an ASSIGNED event */
    int wake_due; /* on the coordinator's thread to do */
    int waking;   /* wake() is running */
    struct topic_group_event *events, **events_tail;
    struct topic_group_event *current;    /* what the last poll returned */
    struct topic_group_event *unanswered; /* a REVOKED: no event leaves before it is answered */
    /* while assigning */
    size_t load;
    struct topic_group_event *taken, *added;
};

struct topic_group {
    char *name;
    struct map *topics; /* name -> topic_group_topic */
    struct topic_group_member *members;
    size_t n_members;
    uint32_t in_flight;
    int dirty;
};

struct topic_coord {
    struct topic_engine *engine;
    struct mutex lock;
    struct cond changed; /* for the thread: dirty or closing */
    struct cond settled; /* for waiters: a wake returned, a unit ended */
    struct map *topics;  /* name -> topic_info */
    struct map *groups;  /* name -> topic_group */
    struct topic_offsets *offsets;
    int64_t incarnation;
    int64_t counter;
    uint32_t in_flight[2]; /* units by phase; see topic_coord_topic_gone() */
    int phase;
    int dirty, closing;
    pthread_t thread;
};

/* group.c */
void topic_group_free(void *group);
struct topic_group_part *topic_group_find(const struct topic_group *g, const char *topic,
                                          int32_t partition);
void topic_group_mark(struct topic_coord *c, struct topic_group *g); /* needs an assignment */
/* Puts a part into the member's event of that kind, made when needed. ERR_NOMEM. */
int topic_group_event_add(struct topic_group_event **event, int kind, struct topic_group_part *p);
void topic_group_event_push(struct topic_group_member *m, struct topic_group_event *e);
void topic_group_event_free(struct topic_group_event *e);
int topic_group_subscribes(const struct topic_group_member *m, const char *topic);

/* assign.c: brings the group's topics up to date, computes targets, queues events. ERR_NOMEM: partly done,
 * to be called again. */
int topic_group_assign(struct topic_coord *c, struct topic_group *g) MUST_USE;

#endif
