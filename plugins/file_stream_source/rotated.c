/* See rotated.h. */
#include "rotated.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <connectd/sdk.h>

/* Not blocking: opening a pipe by mistake must not hang. */
enum { OPEN_FLAGS = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK };

ctd_status rotated_open(const char *path, int *ret_fd, struct stat *ret_st, ctd_error *err)
{
    int fd = open(path, OPEN_FLAGS);
    if (fd < 0 && errno == ENOENT) {
        *ret_fd = -1;
        return CTD_OK;
    }
    if (fd < 0) {
        return ctd_fail_errno(err, CTD_E_IO, "%s: open%s", path,
                              errno == EACCES ? " (let the user that runs connectd read it)" : "");
    }
    if (fstat(fd, ret_st) != 0) {
        ctd_status rc = ctd_fail_errno(err, CTD_E_IO, "%s: stat", path);
        (void)close(fd);
        return rc;
    }
    if (!S_ISREG(ret_st->st_mode)) {
        (void)close(fd);
        return ctd_fail(err, CTD_E_CONFIG,
                        "%s: not a regular file; \"file\" must name one (folders, pipes and "
                        "devices cannot be followed)",
                        path);
    }
    *ret_fd = fd;
    return CTD_OK;
}

int rotated_fits(int fd, const struct stat *st, int64_t position, int check_feed)
{
    char before = '\n';
    if (position < 0 || st->st_size < position) {
        return 0;
    }
    /* The unended last line of a file that was renamed away is handed out as well: then nothing
     * follows. */
    if (!check_feed || position == 0 || st->st_size == position) {
        return 1;
    }
    return pread(fd, &before, 1, position - 1) == 1 && before == '\n';
}

int rotated_find(const char *path, uint64_t device, uint64_t inode, int64_t position,
                 const ctd_host *host, struct stat *ret_st)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL   ? strdup(".")
                   : slash == path ? strdup("/")
                                   : strndup(path, (size_t)(slash - path));
    DIR *dir = folder == NULL ? NULL : opendir(folder);
    int found = -1;
    const struct dirent *e;
    while (dir != NULL && found < 0 && (e = readdir(dir)) != NULL) {
        struct stat st;
        if (e->d_ino != inode) {
            continue;
        }
        int fd = openat(dirfd(dir), e->d_name, OPEN_FLAGS | O_NOFOLLOW);
        if (fd < 0) {
            continue;
        }
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == inode &&
            st.st_dev == device && rotated_fits(fd, &st, position, 1)) {
            ctd_log(host, CTD_LOG_INFO,
                    "%s: was renamed to %s/%s; reading that from position %" PRId64
                    " to its end first",
                    path, folder, e->d_name, position);
            found = fd;
            *ret_st = st;
        } else {
            (void)close(fd);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    free(folder);
    return found;
}
