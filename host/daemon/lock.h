/*
 * The lock of a data directory: one process at a time writes below DATA. It is DATA/lock,
 * write-locked with fcntl and holding the owner's pid on a line, so that a refusal can name it.
 * The kernel releases it with the process.
 */
#ifndef DAEMON_LOCK_H
#define DAEMON_LOCK_H

#include "base/err.h"

struct lock {
    int fd; /* -1: not taken */
};
/* clang-format off */
#define LOCK_NONE {-1}
/* clang-format on */

/* ERR_BUSY names the holder's pid; ERR_NOT_FOUND: no such directory. */
int lock_take(const char *data_dir, struct lock *ret, struct err *err) MUST_USE;
/* Not taken: nothing. */
void lock_release(struct lock *l);

#endif
