/* Starting a runner process. */
#include "pipeline/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <unistd.h>

#include "link/link.h"

pid_t pipeline_spawn_lock_holder(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) {
        return 0;
    }
    return lock.l_pid;
}

int pipeline_spawn_runner(const char *runner, const int fds[4], int stderr_fd, char *const *envp,
                          pid_t *ret, struct err *err)
{
    /* dup2 onto 3..6 must not hit a source that lies there: lift all sources out of the way first.
     * */
    int high[4] = {-1, -1, -1, -1};
    int rc = 0;
    for (int i = 0; i < 4; i++) {
        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 16);
        rc = high[i] < 0 ? errno : rc;
    }
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    BUG_ON(posix_spawn_file_actions_init(&actions) != 0 || posix_spawnattr_init(&attr) != 0);
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    rc = rc != 0 ? rc : posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    rc = rc != 0 ? rc : posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    if (stderr_fd >= 0) { /* first: below, 3 to 6 are overwritten */
        rc = rc != 0 ? rc : posix_spawn_file_actions_adddup2(&actions, stderr_fd, 2);
    }
    for (int i = 0; i < 4; i++) {
        rc =
            rc != 0 ? rc : posix_spawn_file_actions_adddup2(&actions, high[i], LINK_FD_CONTROL + i);
    }
    rc = rc != 0 ? rc : posix_spawn_file_actions_addclosefrom_np(&actions, LINK_FD_LOCK + 1);
    rc = rc != 0 ? rc : posix_spawnattr_setsigmask(&attr, &none);
    rc = rc != 0 ? rc : posix_spawnattr_setsigdefault(&attr, &all);
    rc = rc != 0 ? rc
                 : posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                       POSIX_SPAWN_SETSID);
    char name[] = "connectd-runner";
    char mode[] = "--run";
    char *argv[] = {name, mode, NULL};
    rc = rc != 0 ? rc : posix_spawn(ret, runner, &actions, &attr, argv, envp);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attr);
    for (int i = 0; i < 4; i++) {
        if (high[i] >= 0) {
            (void)close(high[i]);
        }
    }
    if (rc != 0) {
        errno = rc;
        return err_set_errno(err, ERR_IO, "cannot start %s", runner);
    }
    return 0;
}
