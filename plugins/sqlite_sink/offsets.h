/*
 * offsets: how far each partition has come, kept in the target itself.
 *
 *   _connectd_offsets(connector, topic, topic_id, partition, epoch, offset)
 *
 * One row a connector, topic id and partition. `offset` is the next one to take (-1: not known
 * yet), `epoch` that of the owner who claimed the partition last. It is moved in the transaction
 * that writes the rows, and only under the epoch of the mover: an owner that was replaced changes
 * nothing any more and learns that it is fenced.
 *
 * Threads: as the connection's.
 */
#ifndef SQLITE_SINK_OFFSETS_H
#define SQLITE_SINK_OFFSETS_H

#include <stddef.h>
#include <stdint.h>

#include "db.h"

struct part {
    char *topic;
    size_t topic_len;
    char topic_id[33]; /* lower-case hexadecimal */
    int32_t partition;
    int64_t epoch;
    int64_t next;    /* committed: the next offset to take; -1: whatever comes */
    int64_t pending; /* the same, with the transaction that is open */
};

struct offsets {
    struct db *db;         /* borrowed */
    const char *connector; /* borrowed */
    sqlite3_stmt *move;
    struct part *parts;
    size_t n_parts;
    size_t last; /* index found last */
    int stale;   /* a commit's outcome is unknown: read again before the next transaction */
};

/* Creates the table if it is not there. */
ctd_status offsets_start(struct offsets *o, struct db *db, const char *connector, ctd_error *err);
void offsets_stop(struct offsets *o); /* forgets all partitions; before the connection is closed */

/* Claims partitions under their epochs, durably, and says in `offset` where to start when that is
 * known here. CTD_E_FENCED when a newer epoch holds one. */
ctd_status offsets_open(struct offsets *o, ctd_assignment *inout, uint64_t n, ctd_error *err);
void offsets_close(struct offsets *o, const ctd_assignment *a, uint64_t n);

/* The partition, or NULL if it is not open. */
struct part *offsets_find(struct offsets *o, ctd_slice topic, int32_t partition);
/* Inside a transaction: moves every partition whose `pending` differs. CTD_E_FENCED. */
ctd_status offsets_move(struct offsets *o, ctd_error *err);
void offsets_committed(struct offsets *o);
void offsets_rolled_back(struct offsets *o);
/* Reads `next` again where a commit failed. */
ctd_status offsets_refresh(struct offsets *o, ctd_error *err);

/* REST set these: one transaction, durable. offset -1 removes the row. */
ctd_status offsets_alter(struct db *db, const char *connector, const ctd_assignment *a, uint64_t n,
                         ctd_error *err);

#endif
