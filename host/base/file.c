/* Files and folders. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Without O_NONBLOCK the open of a FIFO that nobody writes to would never return; for a regular file
 * the flag means nothing. */
static int open_regular(const char *path, int *ret_fd, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno != ENXIO) { /* ENXIO: a socket */
        return err_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", path);
    }
    struct stat st;
    int rc = 0;
    if (fd >= 0 && fstat(fd, &st) != 0) {
        rc = err_set_errno(err, ERR_IO, "%s", path);
    } else if (fd < 0 || !S_ISREG(st.st_mode)) {
        rc = err_set(err, ERR_IO, "%s: not a regular file", path);
    }
    if (rc == 0) {
        *ret_fd = fd;
    } else if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

int file_read(const char *path, size_t limit, struct buf *out, struct err *err)
{
    int fd = -1;
    TRY(open_regular(path, &fd, err));
    int rc = 0;
    size_t total = 0;
    for (;;) {
        uint8_t *room = buf_reserve(out, 65536);
        if (room == NULL) {
            rc = err_set(err, out->error, "%s: larger than its buffer", path);
            break;
        }
        ssize_t n = read(fd, room, 65536);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            rc = err_set_errno(err, ERR_IO, "%s", path);
            break;
        }
        if (n == 0) {
            break;
        }
        total += (size_t)n;
        if (total > limit) {
            rc = err_set(err, ERR_LIMIT, "%s: larger than %zu bytes", path, limit);
            break;
        }
        out->len += (size_t)n;
    }
    (void)close(fd);
    return rc;
}

int file_write_full(int fd, const void *p, size_t n, const char *what, struct err *err)
{
    const uint8_t *at = p;
    while (n > 0) {
        ssize_t done = write(fd, at, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return err_set_errno(err, ERR_IO, "%s: write", what);
        }
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

int file_pwrite_full(int fd, const void *p, size_t n, off_t at, const char *what, struct err *err)
{
    const uint8_t *from = p;
    while (n > 0) {
        ssize_t done = pwrite(fd, from, n, at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return err_set_errno(err, ERR_IO, "%s: write at %lld", what, (long long)at);
        }
        from += done;
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

int file_pwritev_full(int fd, struct iovec *iov, int n, off_t at, const char *what, struct err *err)
{
    while (n > 0) {
        ssize_t done = pwritev(fd, iov, n < IOV_MAX ? n : IOV_MAX, at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return err_set_errno(err, ERR_IO, "%s: write at %lld", what, (long long)at);
        }
        at += done;
        size_t left = (size_t)done;
        while (n > 0 && left >= iov->iov_len) {
            left -= iov->iov_len;
            iov++;
            n--;
        }
        if (n > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + left;
            iov->iov_len -= left;
        }
    }
    return 0;
}

int file_pread_full(int fd, void *p, size_t n, off_t at, const char *what, struct err *err)
{
    uint8_t *to = p;
    while (n > 0) {
        ssize_t done = pread(fd, to, n, at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return err_set_errno(err, ERR_IO, "%s: read at %lld", what, (long long)at);
        }
        if (done == 0) {
            return err_set(err, ERR_DATA, "%s: ends at %lld, %zu bytes early", what, (long long)at,
                           n);
        }
        to += done;
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

int file_sync_dir(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, "%s", path);
    }
    int rc = 0;
    if (fsync(fd) != 0) {
        rc = err_set_errno(err, ERR_IO, "%s: fsync", path);
    }
    (void)close(fd);
    return rc;
}

/* fsyncs the folder that holds `path`. */
static int sync_parent(const char *path, struct err *err)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return file_sync_dir(".", err);
    }
    size_t n = slash == path ? 1 : (size_t)(slash - path);
    if (n >= sizeof(dir)) {
        return err_set(err, ERR_INVAL, "%s: path too long", path);
    }
    memcpy(dir, path, n);
    dir[n] = '\0';
    return file_sync_dir(dir, err);
}

int file_replace(const char *path, const void *data, size_t n, struct err *err)
{
    char temp[PATH_MAX];
    int len = snprintf(temp, sizeof(temp), "%s.tmp", path);
    if (len < 0 || (size_t)len >= sizeof(temp)) {
        return err_set(err, ERR_INVAL, "%s: path too long", path);
    }
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, "%s", temp);
    }
    int rc = file_write_full(fd, data, n, temp, err);
    if (rc == 0 && fsync(fd) != 0) {
        rc = err_set_errno(err, ERR_IO, "%s: fsync", temp);
    }
    if (close(fd) != 0 && rc == 0) {
        rc = err_set_errno(err, ERR_IO, "%s: close", temp);
    }
    if (rc == 0 && rename(temp, path) != 0) {
        rc = err_set_errno(err, ERR_IO, "%s: rename", path);
    }
    if (rc != 0) {
        (void)unlink(temp);
        return rc;
    }
    return sync_parent(path, err);
}

int file_mkdirs(const char *path, struct err *err)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(part)) {
        return err_set(err, ERR_INVAL, "%s: bad path", path);
    }
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0') {
            continue;
        }
        char saved = part[i];
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            return err_set_errno(err, ERR_IO, "%s: mkdir", part);
        }
        part[i] = saved;
    }
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return err_set(err, ERR_IO, "%s: not a folder", path);
    }
    return 0;
}

int file_remove_tree(const char *path, struct err *err)
{
    struct stat st;
    if (lstat(path, &st) != 0 && errno == ENOENT) {
        return 0;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    char *paths[] = {copy, NULL};
    int rc = 0;
    FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (fts == NULL) {
        rc = err_set_errno(err, ERR_IO, "%s", path);
    }
    FTSENT *e = NULL;
    while (rc == 0 && (e = fts_read(fts)) != NULL) {
        if (e->fts_info == FTS_D) {
            continue;
        }
        if (remove(e->fts_accpath) != 0 && errno != ENOENT) {
            rc = err_set_errno(err, ERR_IO, "%s: remove", e->fts_accpath);
        }
    }
    if (fts != NULL) {
        (void)fts_close(fts);
    }
    free(copy);
    return rc;
}

/* Appends the parts of `path` to `out` ("/a/b" form), resolving "." and "..". */
static void append_parts(char *out, const char *path)
{
    size_t len = strlen(out);
    while (*path != '\0') {
        while (*path == '/') {
            path++;
        }
        const char *end = strchrnul(path, '/');
        size_t n = (size_t)(end - path);
        if (n == 2 && memcmp(path, "..", 2) == 0) {
            while (len > 0 && out[--len] != '/') {
            }
            out[len] = '\0';
        } else if (n > 0 && !(n == 1 && *path == '.')) {
            out[len++] = '/';
            memcpy(out + len, path, n);
            len += n;
            out[len] = '\0';
        }
        path = end;
    }
}

char *file_absolute(const char *path)
{
    char cwd[PATH_MAX] = "";
    if (path[0] != '/' && getcwd(cwd, sizeof(cwd)) == NULL) {
        return NULL;
    }
    char *out = malloc(strlen(cwd) + strlen(path) + 3);
    if (out == NULL) {
        return NULL;
    }
    out[0] = '\0';
    append_parts(out, cwd);
    append_parts(out, path);
    if (out[0] == '\0') {
        out[0] = '/';
        out[1] = '\0';
    }
    return out;
}

char *file_join(const char *a, const char *b)
{
    char *out = NULL;
    if (asprintf(&out, "%s/%s", a, b) < 0) {
        return NULL;
    }
    return out;
}
