/*
 * describe: what a plugin file holds, learnt from `connectd-runner --describe FILE` so that the
 * host never loads plugin code. The answer is JSON; it is untrusted and checked here.
 */
#ifndef PIPELINE_DESCRIBE_H
#define PIPELINE_DESCRIBE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/json.h"

struct class_option {
    const char *name; /* borrowed from the class's JSON, as all text here */
    int type;         /* enum option_type */
    const char *def;  /* or NULL */
    int required, prefix, path;
    int64_t min, max;
    const char **allowed; /* NULL-terminated, or NULL; owned */
};
struct plugin_class {
    const char *name, *version;
    const char **aliases; /* NULL-terminated; owned */
    int kind;             /* CTD_KIND_* */
    uint32_t flags;       /* CTD_CLASSF_* */
    struct class_option *options;
    size_t n_options;
    json_t *json; /* owned: the class's object */
    char *file;   /* the .so as found */
    char *copy;   /* the host's own copy, or the same path when there is none */
};

/* Runs the describer on `so` with a deadline. Returns its JSON text in `out`. ERR_CONFIG with the
 * plugin's own message when it is refused, ERR_TIMEOUT, ERR_IO. Blocking. */
int pipeline_describe_run(const char *runner, const char *so, int64_t deadline_ms, struct buf *out,
                          struct err *err) MUST_USE;
/* Classes of one file from that text; *ret is malloc'ed, entries are cleared by
 * pipeline_describe_clear(). */
int pipeline_describe_parse(const char *text, size_t n, const char *file, const char *copy,
                            struct plugin_class **ret, size_t *ret_n, struct err *err) MUST_USE;
void pipeline_describe_clear(struct plugin_class *c);

#endif
