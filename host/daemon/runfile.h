/* DATA/run.json, {"pid","rest","version"}: how the verbs of the command line find a running host.
 * */
#ifndef DAEMON_RUNFILE_H
#define DAEMON_RUNFILE_H

#include "base/err.h"

struct runfile {
    long pid;
    char rest[256]; /* "http://127.0.0.1:8083" */
    char version[64];
};

/* With this process's pid. Durable on return. */
int runfile_write(const char *data_dir, const char *rest, const char *version,
                  struct err *err) MUST_USE;
/* ERR_NOT_FOUND: no host has run since the last clean stop. What it names may be dead, after a
 * crash. */
int runfile_read(const char *data_dir, struct runfile *ret, struct err *err) MUST_USE;
void runfile_remove(const char *data_dir);

#endif
