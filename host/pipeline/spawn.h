/* spawn: the fork and exec of one runner with exactly the descriptors and environment that it may
 * have. */
#ifndef PIPELINE_SPAWN_H
#define PIPELINE_SPAWN_H

#include <sys/types.h>

#include "base/err.h"

/* `stderr_fd`: what becomes the runner's descriptor 2; -1: this process's own. Descriptors for LINK_FD_CONTROL, _DATA, _SHARED, _LOCK in that order. Returns 0 and the pid,
 * which is the leader of a session and process group of its own. Call from a thread that never
 * ends: the runner dies with it. */
int pipeline_spawn_runner(const char *runner, const int fds[4], int stderr_fd, char *const *envp,
                          pid_t *ret, struct err *err) MUST_USE;
/* The process that holds the run lock behind `fd`, or 0. */
pid_t pipeline_spawn_lock_holder(int fd);

#endif
