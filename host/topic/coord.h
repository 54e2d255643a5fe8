/*
 * The coordinator of the log's engine: which topics there are, who owns which partition in which
 * group, who may commit, and the groups' offsets. All in this process, behind one lock.
 *
 * Ownership: a partition of a group has at most one owner. Its next owner gets it when the old one has
 * answered the revocation (or left) and the old one's commit units in flight are done, so `committed`
 * in the event is exact.
 *
 * Generations: every event of an engine takes the next value of one counter; a generation is
 * counter << 16 | slot of the member in its group. A unit's generation is right for a partition when
 * its slot is the owner's and its counter is not below that of the event that gave the partition.
 * An earlier owner of the slot has only lower counters, so slots may be used again.
 *
 * Threads: all functions are thread-safe but the ones that say so. One thread, `topic-groups`, computes
 * assignments and calls the members' wake functions, without the lock.
 */
#ifndef TOPIC_COORD_H
#define TOPIC_COORD_H

#include "topic/offsets.h"
#include "topic/topic_int.h"

struct topic_coord;
struct topic_group_part;

/* Takes *offsets over (NULLs it). `engine` is what members point at. */
int topic_coord_open(struct topic_engine *engine, int64_t incarnation,
                     struct topic_offsets **offsets, struct topic_coord **ret,
                     struct err *err) MUST_USE;
/* No members, no units in flight. NULL-safe. */
void topic_coord_close(struct topic_coord *c);

/* ---- topics as the engine knows them ---- */
int topic_coord_topic_set(struct topic_coord *c, const char *name, const struct topic_info *info,
                          struct err *err) MUST_USE;
/* After it, no unit brings offsets of the topic; waits until those that did are done. */
void topic_coord_topic_gone(struct topic_coord *c, const char *name);
int topic_coord_topic_get(struct topic_coord *c, const char *name, struct topic_info *ret,
                          struct err *err) MUST_USE; /* ERR_NOT_FOUND */
/* Offsets that groups hold for the topic: `each` runs under the lock. */
void topic_coord_topic_offsets(struct topic_coord *c, const char *name,
                               void (*each)(void *arg, const char *group, int32_t partition),
                               void *arg);
void topic_coord_topic_forget(struct topic_coord *c, const char *name); /* the table's entries */

/* ---- units with group offsets ---- */
struct topic_ticket {
    const char *group; /* borrowed from the unit */
    struct topic_group_offset
        *kept; /* caller's array, as long as the unit's: what is to be written */
    size_t n_kept;
    struct topic_group_part **parts; /* caller's array, as long as the unit's */
    size_t n_parts;
    int phase;
};
/* Checks the unit's right to commit: ERR_FENCED, ERR_NOT_FOUND (an unchecked offset of no topic).
 * Offsets of a topic that is gone are left out. On 0 topic_coord_end() must follow. */
int topic_coord_begin(struct topic_coord *c, const struct topic_unit *u, struct topic_ticket *ret,
                      struct err *err) MUST_USE;
void topic_coord_end(struct topic_coord *c, struct topic_ticket *t, int committed);
int topic_coord_offset(struct topic_coord *c, const char *group, const char *topic,
                       int32_t partition, int64_t *ret, struct err *err) MUST_USE;

/* ---- members ---- */
int topic_coord_join(struct topic_coord *c, const char *group, const char *const *topics,
                     size_t n_topics, void (*wake)(void *arg), void *arg, struct topic_member **ret,
                     struct err *err) MUST_USE;
int topic_coord_poll(struct topic_member *m, struct topic_event *ret);
void topic_coord_revoked(struct topic_member *m);
void topic_coord_leave(struct topic_member *m);

#endif
