/* What several verbs share. */
#include "daemon/cmd.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"

int cmd_paths_find(struct cmd_paths *ret, struct err *err)
{
    static const char *const places[] = {"connectd-runner",
                                         CONNECTD_LIBEXEC_FROM_BIN "/connectd-runner"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0) {
        return err_set_errno(err, ERR_IO, "/proc/self/exe");
    }
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    struct cmd_paths p = {.bin_dir = strdup(self)};
    for (size_t i = 0; i < 2 && p.bin_dir != NULL; i++) {
        char *path = file_join(p.bin_dir, places[i]);
        if (path != NULL && access(path, X_OK) == 0) {
            p.runner = file_absolute(path);
            free(path);
            break;
        }
        free(path);
    }
    if (p.bin_dir == NULL || p.runner == NULL) {
        cmd_paths_free(&p);
        return err_set(err, ERR_CONFIG,
                       "connectd-runner is neither in %s nor, seen from there, in %s", self,
                       CONNECTD_LIBEXEC_FROM_BIN);
    }
    *ret = p;
    return 0;
}

void cmd_paths_free(struct cmd_paths *p)
{
    free(p->bin_dir);
    free(p->runner);
    memset(p, 0, sizeof(*p));
}

int cmd_config_arg(int argc, char **argv, int *i, struct config_input *in, const char **sets)
{
    const char *arg = argv[*i];
    if (str_starts_with(arg, "--set=")) {
        sets[in->n_sets++] = arg + strlen("--set=");
        return 1;
    }
    int is_set = strcmp(arg, "--set") == 0;
    if (!is_set && strcmp(arg, "-c") != 0) {
        return 0;
    }
    if (*i + 1 >= argc) {
        (void)fprintf(stderr, "connectd: %s needs a value\n", arg);
        return -1;
    }
    *i += 1;
    if (is_set) {
        sets[in->n_sets++] = argv[*i];
    } else {
        in->file = argv[*i];
    }
    return 1;
}
