/*
 * tail: one file followed by its path, through renames and truncations, handing out whole lines.
 *
 * Threads: one at a time (the task's). Invariants: `position` is always the first byte behind the
 * last line that was handed out or skipped, so it is behind a line feed (or at the end of a file
 * that was renamed away); a line that has no line feed yet is not handed out while its file may
 * still grow.
 */
#ifndef FILE_STREAM_SOURCE_TAIL_H
#define FILE_STREAM_SOURCE_TAIL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "connectd/abi.h"
#include "lines.h"

struct tail {
    const ctd_host *host;    /* for the log; borrowed */
    const char *path;        /* borrowed */
    struct lines_pool *pool; /* borrowed */
    size_t max_line_bytes;

    int fd; /* -1: not open */
    uint64_t device, inode;
    struct lines_block *block; /* the stretch being taken apart, or NULL */
    int64_t block_at;          /* where in the file block->data begins */
    size_t next;               /* the next line begins here in block->data ... */
    size_t scanned;            /* ... and has no line feed before here */
    int skipping;              /* inside a line that is too long already */
    int64_t skip_from;
    int at_eof; /* `seen` was the file when its end was reached */
    struct stat seen;
    int draining; /* the path names another file with something in it: finish this one, then that */

    int has_resume; /* start at `resume_position` of that file, once it is found */
    int has_inode;
    int64_t resume_position;
    uint64_t resume_device, resume_inode;
    int told_missing, searched; /* once each */

    uint64_t n_too_long; /* lines skipped and not yet reported; the caller sets it to 0 */
    int64_t too_long_at, too_long_bytes; /* the first of them */
};

void tail_init(struct tail *t, const ctd_host *host, const char *path, struct lines_pool *pool,
               size_t max_line_bytes);
/* Before the first read: go on at `position` of the file with this device and inode (has_inode 0:
 * of whatever has the path). */
void tail_resume(struct tail *t, int64_t position, int has_inode, uint64_t device, uint64_t inode);
void tail_close(struct tail *t);

/* Hands out at most `max` lines that are there now; *ret NULL: none (the file may not even exist).
 * Never waits. Too long lines met on the way are passed over and counted in n_too_long. */
ctd_status tail_read(struct tail *t, uint32_t max, struct lines_batch **ret, ctd_error *err);
int64_t tail_position(const struct tail *t);

#endif
