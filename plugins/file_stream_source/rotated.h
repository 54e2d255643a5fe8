/* rotated: opening the followed file, and finding it again under another name. No state; any
 * thread. */
#ifndef FILE_STREAM_SOURCE_ROTATED_H
#define FILE_STREAM_SOURCE_ROTATED_H

#include <stdint.h>
#include <sys/stat.h>

#include "connectd/abi.h"

/* Opens `path` for reading. *ret_fd -1 with CTD_OK: nothing there. CTD_E_CONFIG for what is not a
 * regular file, CTD_E_IO with the remedy otherwise. */
ctd_status rotated_open(const char *path, int *ret_fd, struct stat *ret_st, ctd_error *err);

/* Whether reading may go on at `position`: the file reaches that far and, with `check_feed`, a line
 * ends there. An inode number alone proves little, since file systems use them again. */
int rotated_fits(int fd, const struct stat *st, int64_t position, int check_feed);

/* Looks in the folder of `path` for the file with this device and inode and opens it; -1 if it is
 * not there or does not fit `position`. */
int rotated_find(const char *path, uint64_t device, uint64_t inode, int64_t position,
                 const ctd_host *host, struct stat *ret_st);

#endif
