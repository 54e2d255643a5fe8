/*
 * out_file: a file of lines that several tasks may append to, and that never keeps half a line.
 *
 * Threads: one at a time per handle. Several handles on one file, in one process or many, are kept
 * apart by an open-file-description lock around each write. Invariant: between writes the file is
 * empty or ends with a line feed. A writer that dies within a write leaves a torn last line; the
 * next one to take the lock cuts it off. Nothing is lost by that: what a flush confirmed ends with
 * a line feed and lies before it.
 */
#ifndef FILE_STREAM_SINK_OUT_FILE_H
#define FILE_STREAM_SINK_OUT_FILE_H

#include <stddef.h>
#include <sys/stat.h>

#include "connectd/abi.h"

struct out_file {
    const ctd_host *host; /* for the log; borrowed */
    const char *path;     /* borrowed */
    int fd;               /* -1: not open */
    int regular;          /* 0: a device such as /dev/null: no lock, repair or sync */
    int dirty;            /* written since the last sync */
    struct stat id;       /* device and inode of what is open */
    off_t end; /* the size after our last append, when a line ended there; -1: not known */
};

void out_file_init(struct out_file *f, const ctd_host *host, const char *path);
/* Opens or creates (mode 0644), and repairs a torn last line. The file's name is durable on CTD_OK.
 */
ctd_status out_file_open(struct out_file *f, ctd_error *err);
void out_file_close(struct out_file *f);

/* Appends n bytes that end with a line feed: all of them, or none. CTD_E_RETRIABLE on a full disk.
 * Not durable before out_file_sync(). */
ctd_status out_file_append(struct out_file *f, const void *p, size_t n, ctd_error *err);
/* Makes what was appended durable. A failure is final: CTD_E_IO, since the kernel may have dropped
 * what it could not write. */
ctd_status out_file_sync(struct out_file *f, ctd_error *err);
/* After a sync: when somebody has moved the file away, goes on in what has the path now, or creates
 * it. */
ctd_status out_file_follow(struct out_file *f, ctd_error *err);

#endif
