/*
 * Files: whole reads and writes, durable replacement, folders. EINTR and short transfers are
 * handled here once. Every path that writes says when it is durable. Thread-safe (no state).
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"

/* Reads all of `path` into `out` (appending), at most `limit` bytes: ERR_LIMIT above,
 * ERR_NOT_FOUND. ERR_IO for what is not a regular file (a FIFO, a device, a folder): it never waits
 * for a writer. */
int file_read(const char *path, size_t limit, struct buf *out, struct err *err) MUST_USE;

/* Replaces `path` by `data`: temporary file in the same folder, fsync, rename, fsync of the folder.
 * Durable on return 0; on failure the old file is untouched. Mode 0600. */
int file_replace(const char *path, const void *data, size_t n, struct err *err) MUST_USE;

/* Write or read exactly n bytes; `what` names the file in errors. Not durable by themselves.
 * file_pread_full: ERR_DATA when the file ends early. */
int file_write_full(int fd, const void *p, size_t n, const char *what, struct err *err) MUST_USE;
int file_pwrite_full(int fd, const void *p, size_t n, off_t at, const char *what,
                     struct err *err) MUST_USE;
int file_pwritev_full(int fd, struct iovec *iov, int n, off_t at, const char *what,
                      struct err *err) MUST_USE; /* iov is consumed */
int file_pread_full(int fd, void *p, size_t n, off_t at, const char *what,
                    struct err *err) MUST_USE;

/* fsync(2) of a folder, so that creations, renames and removals in it are durable. */
int file_sync_dir(const char *path, struct err *err) MUST_USE;
/* Creates the folder and its missing parents, mode 0700 for those created here. Not durable. */
int file_mkdirs(const char *path, struct err *err) MUST_USE;
/* Removes a folder and everything in it; absent is success. Not durable. Never follows links. */
int file_remove_tree(const char *path, struct err *err) MUST_USE;
/* The absolute form of `path` against the working directory ("." and ".." resolved textually; links
 * kept). Caller frees; NULL without memory. */
char *file_absolute(const char *path);
/* malloc'ed "a/b"; NULL without memory. */
char *file_join(const char *a, const char *b);

#endif
