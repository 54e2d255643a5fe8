/*
 * The lock belongs to the open file and not to the process (F_OFD_SETLK), so closing another
 * descriptor of
 * the same file does not drop it. Children lose it with exec.
 */
#include "daemon/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

/* Who holds it, as far as the file says: "process 123", or "another process". */
static void holder(int fd, char *ret, size_t cap)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    char *end = NULL;
    long pid = n > 0 ? strtol(text, &end, 10) : 0;
    if (pid > 0 && *end == '\n') {
        (void)snprintf(ret, cap, "process %ld", pid);
    } else {
        (void)snprintf(ret, cap, "another process");
    }
}

static int write_pid(int fd, const char *path, struct err *err)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0) {
        return err_set_errno(err, ERR_IO, "%s", path);
    }
    return file_pwrite_full(fd, text, (size_t)n, 0, path, err);
}

static int take(const char *data_dir, const char *path, int *ret, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", path);
    }
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc = 0;
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0) {
        rc = write_pid(fd, path, err);
    } else if (errno == EAGAIN || errno == EACCES) {
        char who[64];
        holder(fd, who, sizeof(who));
        rc = err_set(err, ERR_BUSY, "data directory %s is in use by %s", data_dir, who);
    } else {
        rc = err_set_errno(err, ERR_IO, "%s", path);
    }
    if (rc != 0) {
        (void)close(fd);
        return rc;
    }
    *ret = fd;
    return 0;
}

int lock_take(const char *data_dir, struct lock *ret, struct err *err)
{
    char *path = file_join(data_dir, "lock");
    if (path == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    int fd = -1;
    int rc = take(data_dir, path, &fd, err);
    free(path);
    if (rc == 0) {
        ret->fd = fd;
    }
    return rc;
}

void lock_release(struct lock *l)
{
    if (l->fd >= 0) {
        (void)close(l->fd);
        l->fd = -1;
    }
}
