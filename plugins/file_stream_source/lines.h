/*
 * lines: the memory that batches of lines live in.
 *
 * A block is a stretch of the file; a batch is an array of records whose values point into one
 * block. Both come from a pool and go back to it, so that the steady state allocates nothing and
 * writes, per record, only where its line is: everything else in a record is the same for all and
 * is filled in once.
 *
 * Threads: blocks are filled by the task's thread only; a batch may be released by any thread, also
 * after the source itself is gone, which is why the pool counts who still needs it. Bytes of a
 * block that a record points at are never written again while that record lives.
 */
#ifndef FILE_STREAM_SOURCE_LINES_H
#define FILE_STREAM_SOURCE_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "connectd/abi.h"

struct lines_pool;

struct lines_block {
    struct lines_pool *pool;
    struct lines_block *next_free;
    uint32_t refs; /* the reader's own one and one a batch; guarded by the pool */
    size_t cap;
    size_t len;
    char data[];
};

struct lines_batch {
    struct lines_pool *pool;
    struct lines_batch *next_free;
    struct lines_block *block; /* what the records point into; one reference */
    uint64_t n;
    ctd_value offset[6]; /* position, device, inode: of the last record */
    ctd_record records[];
};

/* `topic` and `path` are copied. NULL without memory. */
struct lines_pool *lines_pool_new(const char *topic, const char *path, size_t block_bytes,
                                  uint32_t batch_records);
/* The owner lets go; what is still out keeps the pool alive. NULL-safe. */
void lines_pool_drop(struct lines_pool *p);
uint32_t lines_pool_batch_records(const struct lines_pool *p);

/* An empty block with one reference, or NULL without memory. */
struct lines_block *lines_block_get(struct lines_pool *p);
void lines_block_unref(struct lines_block *b); /* NULL-safe */
/* 1 if nobody but the reader refers to it, so that it may be filled from its start again. */
int lines_block_is_sole(struct lines_block *b);

/* An empty batch on `block` (one more reference), or NULL without memory. */
struct lines_batch *lines_batch_get(struct lines_pool *p, struct lines_block *block);
void lines_batch_put(struct lines_batch *b); /* back to the pool; NULL-safe */
/* Adds one line: a STRING, or BYTES if it is not well-formed UTF-8. The batch must have room. */
void lines_batch_add(struct lines_batch *b, const char *line, size_t len);
/* Gives the batch to the host. Only the last record says where the file has been read to: offsets
 * of one poll become durable together, so the earlier ones would be overwritten anyway. */
void lines_batch_hand_over(struct lines_batch *b, int64_t position, int64_t device, int64_t inode,
                           ctd_batch *out);

#endif
