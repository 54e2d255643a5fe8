/* connectd version: what this binary is. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "connectd/abi.h"
#include "daemon/cmd.h"
#include "daemon/version.h"

static const char help[] = "Usage: connectd version [--format text|json]\n";

static int wrong_usage(const char *what, const char *which)
{
    (void)fprintf(stderr, "connectd version: %s%s\n%s", what, which, help);
    return 2;
}

/* "--format V" or "--format=V" at argv[*i]. 0 or 2. */
static int parse_format(int argc, char **argv, int *i, int *ret_json)
{
    static const char option[] = "--format";
    const char *value = argv[*i] + strlen(option);
    if (!str_starts_with(argv[*i], option) || (*value != '\0' && *value != '=')) {
        return wrong_usage("no option ", argv[*i]);
    }
    if (*value == '\0' && *i + 1 == argc) {
        return wrong_usage(option, " needs a value");
    }
    value = *value == '=' ? value + 1 : argv[++*i];
    if (strcmp(value, "json") != 0 && strcmp(value, "text") != 0) {
        return wrong_usage("--format is text or json, not ", value);
    }
    *ret_json = strcmp(value, "json") == 0;
    return 0;
}

int cmd_version(int argc, char **argv)
{
    int json = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(help, stdout);
            return 0;
        }
        int rc = parse_format(argc, argv, &i, &json);
        if (rc != 0) {
            return rc;
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
