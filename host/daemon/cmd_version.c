/* connectd version: what this binary is. */
#include <stdio.h>
#include <string.h>

#include "connectd/abi.h"
#include "daemon/cmd.h"
#include "daemon/version.h"

static const char help[] = "Usage: connectd version [--format text|json]\n";

int cmd_version(int argc, char **argv)
{
    int json = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(help, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--format") == 0 && i + 1 < argc &&
            (strcmp(argv[i + 1], "json") == 0 || strcmp(argv[i + 1], "text") == 0)) {
            json = strcmp(argv[++i], "json") == 0;
        } else if (strcmp(argv[i], "--format=json") == 0) {
            json = 1;
        } else {
            (void)fprintf(stderr, "connectd version: no option %s\n%s", argv[i], help);
            return 2;
        }
    }
    if (json) {
        (void)printf("{\"version\":\"%s\",\"commit\":\"%s\",\"abi\":\"draft %u\"}\n", VERSION_TEXT,
                     VERSION_COMMIT, CTD_ABI_MINOR);
    } else {
        (void)printf("connectd %s (%s), plugin ABI draft %u\n", VERSION_TEXT, VERSION_COMMIT,
                     CTD_ABI_MINOR);
    }
    return 0;
}
