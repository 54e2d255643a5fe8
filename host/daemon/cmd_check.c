/* connectd check: all findings about configuration in one pass. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cmd.h"
#include "pipeline/pipeline.h"

static const char help[] =
    "Usage: connectd check [-c FILE] [--set key=value]... [PATH...]\n\n"
    "Prints what is wrong, one finding a line: FILE:LINE:COL: KEY: text (did you mean X?).\n"
    "Without PATH it looks at the host's config and its connectors.dir, else at those files and\n"
    "folders. Exit 1 if there is any finding.\n";

/* The verb's work once the arguments are known; returns the exit code. */
static int check(const struct config_input *in)
{
    struct err err = ERR_INIT;
    struct cmd_paths paths = {0};
    struct host_config host = {0};
    struct declared declared = {0};
    struct findings findings = {0};
    struct config_input full = *in;
    int rc = cmd_paths_find(&paths, &err);
    if (rc == 0) {
        full.bin_dir = paths.bin_dir;
        rc = pipeline_config_load(&full, &host, &declared, &findings, &err);
    }
    if (rc == 0) {
        rc = pipeline_check(&host, &declared, paths.runner, &findings, &err);
    }
    pipeline_findings_sort(&findings);
    for (size_t i = 0; i < findings.n; i++) {
        char line[4096];
        pipeline_findings_format(&findings.items[i], line, sizeof(line));
        (void)printf("%s\n", line);
    }
    if (rc != 0) {
        (void)fprintf(stderr, "connectd check: %s\n", err.msg);
    }
    int code = rc != 0 || findings.n > 0 || findings.lost > 0 ? 1 : 0;
    pipeline_findings_free(&findings);
    pipeline_declared_free(&declared);
    pipeline_config_host_free(&host);
    cmd_paths_free(&paths);
    return code;
}

int cmd_check(int argc, char **argv)
{
    struct config_input in = {0};
    const char **sets = calloc((size_t)argc + 1, sizeof(*sets));
    const char **names = calloc((size_t)argc + 1, sizeof(*names));
    int code = sets == NULL || names == NULL ? 1 : -1;
    in.sets = sets;
    for (int i = 1; i < argc && code < 0; i++) {
        int took = cmd_config_arg(argc, argv, &i, &in, sets);
        if (took < 0) {
            code = 2;
        } else if (took == 0 && strcmp(argv[i], "--help") == 0) {
            (void)fputs(help, stdout);
            code = 0;
        } else if (took == 0 && argv[i][0] == '-') {
            (void)fprintf(stderr, "connectd check: no option %s\n%s", argv[i], help);
            code = 2;
        } else if (took == 0) {
            names[in.n_paths++] = argv[i];
        }
    }
    if (code < 0) {
        in.paths = in.n_paths > 0 ? names : NULL;
        code = check(&in);
    }
    free(sets);
    free(names);
    return code;
}
