/* See out_file.h. */
#include "out_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <connectd/sdk.h>

/* A torn line is no longer than what one append takes; a file without any line feed in this many
 * last bytes is not one of ours, and nothing is cut from it. */
#define TORN_MAX ((off_t)64 << 20)
enum { RETRY_MS = 1000, SCAN_BYTES = 64 * 1024 };

void out_file_init(struct out_file *f, const ctd_host *host, const char *path)
{
    *f = (struct out_file){.host = host, .path = path, .fd = -1, .end = -1};
}

void out_file_close(struct out_file *f)
{
    if (f->fd >= 0) {
        (void)close(f->fd);
        f->fd = -1;
    }
    f->dirty = 0;
    f->end = -1;
}

static ctd_status lock(const struct out_file *f, short type, ctd_error *err)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET};
    while (f->regular && fcntl(f->fd, F_OFD_SETLKW, &l) != 0) {
        if (errno != EINTR) {
            return ctd_fail_errno(err, CTD_E_IO, "%s: lock", f->path);
        }
    }
    return CTD_OK;
}

static int full(int e)
{
    return e == ENOSPC || e == EDQUOT || e == EFBIG;
}

/* Where the last line that has its line feed ends; -1 if none does within TORN_MAX, -2 with errno.
 */
static off_t last_feed(int fd, off_t size)
{
    char piece[SCAN_BYTES];
    off_t end = size;
    while (end > 0 && size - end < TORN_MAX) {
        size_t want = end < SCAN_BYTES ? (size_t)end : SCAN_BYTES;
        ssize_t n = pread(fd, piece, want, end - (off_t)want);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n != (ssize_t)want) {
            errno = n < 0 ? errno : EIO;
            return -2;
        }
        const char *feed = memrchr(piece, '\n', want);
        if (feed != NULL) {
            return end - (off_t)want + (feed - piece) + 1;
        }
        end -= (off_t)want;
    }
    return end > 0 ? -1 : 0;
}

/* The lock is held. Cuts off a last line that has no line feed; *ret_size is what remains. */
static ctd_status repair(struct out_file *f, off_t *ret_size, ctd_error *err)
{
    struct stat st;
    if (fstat(f->fd, &st) != 0) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: stat", f->path);
    }
    char last = '\n';
    if (st.st_size > 0 && st.st_size != f->end && pread(f->fd, &last, 1, st.st_size - 1) != 1) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: read", f->path);
    }
    *ret_size = st.st_size;
    if (last == '\n') {
        return CTD_OK;
    }
    off_t end = last_feed(f->fd, st.st_size);
    if (end == -2) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: read", f->path);
    }
    if (end == -1) {
        return ctd_fail(err, CTD_E_CONFIG,
                        "%s: its last %" PRId64 " MiB hold no line feed, so it is not a file of "
                        "lines; move it away or name another file",
                        f->path, (int64_t)(TORN_MAX >> 20));
    }
    ctd_log(f->host, CTD_LOG_WARN,
            "%s: its last line was torn; %" PRId64 " bytes behind position %" PRId64 " cut off",
            f->path, (int64_t)(st.st_size - end), (int64_t)end);
    if (ftruncate(f->fd, end) != 0) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: truncate", f->path);
    }
    f->dirty = 1;
    *ret_size = end;
    return CTD_OK;
}

/* fsync of the folder, so that the name of a created file survives a power cut. */
static ctd_status sync_folder(const char *path, ctd_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL   ? strdup(".")
                   : slash == path ? strdup("/")
                                   : strndup(path, (size_t)(slash - path));
    if (folder == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    ctd_status rc = CTD_OK;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        rc = ctd_fail_errno(err, CTD_E_IO, "%s: sync of the folder", folder);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    free(folder);
    return rc;
}

static ctd_status open_failed(const struct out_file *f, ctd_error *err)
{
    if (full(errno)) {
        return ctd_fail_retry(err, RETRY_MS, "%s: create: %s; free some space", f->path,
                              strerror(errno));
    }
    const char *hint = errno == ENOENT   ? " (create its folder first)"
                       : errno == EACCES ? " (let the user that runs connectd write it)"
                                         : "";
    return ctd_fail_errno(err, CTD_E_IO, "%s: open%s", f->path, hint);
}

ctd_status out_file_open(struct out_file *f, ctd_error *err)
{
    struct stat before;
    /* A pipe would block in open() until somebody reads it. */
    if (stat(f->path, &before) == 0 && !S_ISREG(before.st_mode) && !S_ISCHR(before.st_mode)) {
        return ctd_fail(err, CTD_E_CONFIG, "%s: not a regular file; \"file\" must name one",
                        f->path);
    }
    f->fd = open(f->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
    if (f->fd < 0) {
        return open_failed(f, err);
    }
    off_t size;
    ctd_status rc = CTD_OK;
    if (fstat(f->fd, &f->id) != 0) {
        rc = ctd_fail_errno(err, CTD_E_IO, "%s: stat", f->path);
    } else if ((f->regular = S_ISREG(f->id.st_mode)) != 0) {
        rc = lock(f, F_WRLCK, err);
        if (rc == CTD_OK) {
            rc = repair(f, &size, err);
            (void)lock(f, F_UNLCK, NULL);
        }
        rc = rc == CTD_OK ? sync_folder(f->path, err) : rc;
    }
    if (rc != CTD_OK) {
        out_file_close(f);
    }
    return rc;
}

/* Writes all, or says so in errno. */
static int write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            errno = done == 0 ? EIO : errno;
            return -1;
        }
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

/* The lock is held. */
static ctd_status append_locked(struct out_file *f, const void *p, size_t n, ctd_error *err)
{
    off_t size = 0;
    ctd_status rc = f->regular ? repair(f, &size, err) : CTD_OK;
    if (rc != CTD_OK) {
        return rc;
    }
    f->dirty = 1;
    f->end = -1;
    if (write_all(f->fd, p, n) == 0) {
        f->end = size + (off_t)n;
        return CTD_OK;
    }
    rc = full(errno) ? ctd_fail_retry(err, RETRY_MS, "%s: write: %s; free some space", f->path,
                                      strerror(errno))
                     : ctd_fail_errno(err, CTD_E_IO, "%s: write", f->path);
    if (f->regular && ftruncate(f->fd, size) != 0) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: truncate back after a failed write", f->path);
    }
    return rc;
}

ctd_status out_file_append(struct out_file *f, const void *p, size_t n, ctd_error *err)
{
    ctd_status rc = f->fd < 0 ? out_file_open(f, err) : CTD_OK;
    if (rc == CTD_OK) {
        rc = lock(f, F_WRLCK, err);
    }
    if (rc == CTD_OK) {
        rc = append_locked(f, p, n, err);
        (void)lock(f, F_UNLCK, NULL);
    }
    return rc;
}

ctd_status out_file_sync(struct out_file *f, ctd_error *err)
{
    if (f->dirty && f->regular && fdatasync(f->fd) != 0) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: sync", f->path);
    }
    f->dirty = 0;
    return CTD_OK;
}

ctd_status out_file_follow(struct out_file *f, ctd_error *err)
{
    struct stat st;
    if (f->fd >= 0 && (!f->regular || (stat(f->path, &st) == 0 && st.st_dev == f->id.st_dev &&
                                       st.st_ino == f->id.st_ino))) {
        return CTD_OK;
    }
    if (f->fd >= 0) {
        ctd_log(f->host, CTD_LOG_INFO, "%s: was moved away; going on in a new file", f->path);
        out_file_close(f);
    }
    return out_file_open(f, err);
}
