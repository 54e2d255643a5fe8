/*
 * What holds a plugin inside its process: its parent's death ends it, no core files, no foreign
 * descriptors, a memory limit, DATA hidden by an empty mount, no capabilities beyond those for files, no
 * new privileges, and the system calls of seccomp.c.
 *
 * DATA is hidden by a mount namespace and not by landlock: landlock's rules allow subtrees, so a sink that
 * writes beside DATA would have to be given DATA too.
 * Threads: called before there are others.
 */
#include "runner_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_FILES = 4096 };

static void limit(int what, rlim_t most)
{
    struct rlimit l;
    if (getrlimit(what, &l) == 0 && (l.rlim_max == RLIM_INFINITY || l.rlim_max > most)) {
        l.rlim_max = most;
        l.rlim_cur = most;
        (void)setrlimit(what, &l);
    }
}

void runner_sandbox_begin(unsigned keep)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* A host that died before the line above has closed its end of the socket. */
    char byte;
    if (keep >= LINK_FD_CONTROL && recv(LINK_FD_CONTROL, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
        _exit(0);
    }
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)close_range(keep + 1, ~0u, 0);
    (void)umask(022);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, MAX_FILES);
#ifndef CONNECTD_SANITIZER
    (void)mallopt(M_ARENA_MAX, 2);
#endif
}

/* ---- hiding DATA ---- */

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t n = write(fd, text, strlen(text));
    (void)close(fd);
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* A mount namespace of our own: with the right to make one, or in a user namespace where every id stays what
 * it is. 0 if there is one. */
static int enter_mounts(void)
{
    if (unshare(CLONE_NEWNS) == 0) {
        return 0;
    }
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
        return -1;
    }
    char map[64];
    (void)write_text("/proc/self/setgroups", "deny");
    (void)snprintf(map, sizeof(map), "%u %u 1", uid, uid);
    if (write_text("/proc/self/uid_map", map) != 0) {
        return -1;
    }
    (void)snprintf(map, sizeof(map), "%u %u 1", gid, gid);
    return write_text("/proc/self/gid_map", map);
}

/* Mounts an empty, read-only file system over `dir`. The working directory is entered anew by its name, so
 * that one inside `dir` doesn't stay a way in. */
static int hide(const char *dir)
{
    char cwd[PATH_MAX];
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("connectd-hidden", dir, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "size=4k,nr_inodes=2,mode=0555") != 0) {
        return -1;
    }
    if (getcwd(cwd, sizeof(cwd)) == NULL || chdir(cwd) != 0) {
        return chdir("/");
    }
    return 0;
}

/* ---- capabilities ---- */

/* Those that let root's own files work; a runner of another user has none to begin with. */
#define KEPT_CAPS                                                                                  \
    (1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_DAC_READ_SEARCH |                  \
     1ull << CAP_FOWNER | 1ull << CAP_FSETID | 1ull << CAP_LEASE | 1ull << CAP_NET_BIND_SERVICE)

static int drop_capabilities(struct err *err)
{
    for (int cap = 0; cap <= 63; cap++) {
        if ((KEPT_CAPS >> cap & 1) == 0 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1) {
            (void)prctl(PR_CAPBSET_DROP, cap, 0, 0,
                        0); /* needs CAP_SETPCAP; the sets below don't */
        }
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct sets[2] = {{0}};
    if (syscall(SYS_capget, &head, sets) != 0) {
        return err_set_errno(err, ERR_IO, "cannot read capabilities");
    }
    for (int i = 0; i < 2; i++) {
        uint32_t kept = (uint32_t)(KEPT_CAPS >> (32 * i));
        sets[i].effective &= kept;
        sets[i].permitted &= kept;
        sets[i].inheritable = 0;
    }
    if (syscall(SYS_capset, &head, sets) != 0) {
        return err_set_errno(err, ERR_IO, "cannot drop capabilities");
    }
    return 0;
}

static void say(struct buf *holds, const char *what)
{
    buf_printf(holds, "%s%s", holds->len > 0 ? "," : "", what);
}

int runner_sandbox_enter(uint64_t memory_bytes, const char *data_dir, struct buf *ret_holds,
                         struct err *err)
{
    if (data_dir != NULL && data_dir[0] != '\0') {
        say(ret_holds, enter_mounts() == 0 && hide(data_dir) == 0 ? "mount" : "data-visible");
    }
    TRY(drop_capabilities(err));
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a new user namespace may have cleared it */
    if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return err_set_errno(err, ERR_IO, "prctl");
    }
    TRY(runner_seccomp_load(err));
    say(ret_holds, "capabilities,seccomp,rlimits");
#ifdef CONNECTD_SANITIZER
    (void)memory_bytes; /* a sanitizer's shadow memory is beyond any limit */
    say(ret_holds, "memory-unlimited");
#else
    if (memory_bytes != 0) {
        limit(RLIMIT_DATA, memory_bytes);
    } else {
        say(ret_holds, "memory-unlimited");
    }
#endif
    return 0;
}
