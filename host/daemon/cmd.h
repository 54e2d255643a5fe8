/* cmd: the verbs of the command line, and what several of them share. argv[0] is the verb's name.
 * */
#ifndef DAEMON_CMD_H
#define DAEMON_CMD_H

#include <stddef.h>

#include "base/err.h"
#include "pipeline/config.h"

int cmd_run(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_version(int argc, char **argv);

/* Where this binary lies, and the runner: beside it, or where cmake --install puts it. */
struct cmd_paths {
    char *bin_dir;
    char *runner;
};
int cmd_paths_find(struct cmd_paths *ret, struct err *err) MUST_USE;
void cmd_paths_free(struct cmd_paths *p);

/* Takes "--set key=value" (or "--set=key=value") and "-c FILE" at argv[*i]. 1: taken, 0: something
 * else, -1: its value is missing (said on stderr). `sets` has room for argc entries. */
int cmd_config_arg(int argc, char **argv, int *i, struct config_input *in, const char **sets);

#endif
