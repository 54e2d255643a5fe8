/* connectd: the verbs. Each verb is one file here; this one only picks it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "daemon/cmd.h"
#include "daemon/cmd_topic.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *doc; /* NULL: not built yet */
} verbs[] = {
    {"run", cmd_run, "Run the host: the log, REST and every pipeline."},
    {"check", cmd_check, "Check the host's config and pipeline files; print what is wrong."},
    {"topic", cmd_topic, "Read, write, create, delete, list and describe topics."},
    {"version", cmd_version, "Print the version."},
    {"plan", NULL, NULL},
    {"plugins", NULL, NULL},
    {"plugin-check", NULL, NULL},
    {"status", NULL, NULL},
    {"log", NULL, NULL},
    {"offsets", NULL, NULL},
    {"dlq", NULL, NULL},
    {"tap", NULL, NULL},
    {"test", NULL, NULL},
};
enum { N_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void usage(FILE *out)
{
    (void)fputs("Usage: connectd VERB [options]\n\n", out);
    for (size_t i = 0; i < N_VERBS; i++) {
        if (verbs[i].doc != NULL) {
            (void)fprintf(out, "  %-8s  %s\n", verbs[i].name, verbs[i].doc);
        }
    }
    (void)fputs("\nconnectd VERB --help tells more. Exits: 0 ok, 1 failed, 2 wrong usage.\n", out);
}

static int wrong_verb(const char *word)
{
    const char *names[N_VERBS];
    for (size_t i = 0; i < N_VERBS; i++) {
        names[i] = verbs[i].name;
    }
    const char *near = str_nearest(word, names, N_VERBS);
    (void)fprintf(stderr, "connectd: no verb '%s'%s%s%s\n", word,
                  near != NULL ? " (did you mean " : "", near != NULL ? near : "",
                  near != NULL ? "?)" : "");
    usage(stderr);
    return 2;
}

int main(int argc, char **argv)
{
    /* A reader that goes away or a file at its size limit is an error to handle, not a death. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        return cmd_version(1, argv + 1);
    }
    for (size_t i = 0; i < N_VERBS; i++) {
        if (strcmp(argv[1], verbs[i].name) == 0) {
            if (verbs[i].run == NULL) {
                (void)fprintf(stderr, "connectd: %s is not built yet\n", argv[1]);
                return 2;
            }
            return verbs[i].run(argc - 1, argv + 1);
        }
    }
    return wrong_verb(argv[1]);
}
