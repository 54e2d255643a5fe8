/*
 * options: the host's and the framework's own option tables, and the check of one value against one
 * option. Plugin classes bring tables of their own (describe.h); both are checked by
 * pipeline_option_check().
 */
#ifndef PIPELINE_OPTIONS_H
#define PIPELINE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum option_type {
    OPTION_STRING = 1,
    OPTION_BOOL,
    OPTION_I64,
    OPTION_F64,
    OPTION_LIST,
    OPTION_SECRET,
    OPTION_MS,
    OPTION_BYTES,
};
enum option_state {
    OPTION_BUILT = 0,
    OPTION_IGNORED, /* a Connect key that is accepted and means nothing here */
    OPTION_LATER,   /* a Connect feature that is not built yet: an error that says so */
    OPTION_KEPT,    /* a topic config that is stored and does nothing yet: a warning that says so */
};
struct option {
    const char *name; /* a name that ends in "." stands for every key that begins with it */
    int type;
    int state;
    const char *def;            /* NULL: none */
    int64_t min, max;           /* numbers; min > max: unbounded */
    const char *const *allowed; /* NULL-terminated, or NULL */
    const char *doc;
};

const struct option *pipeline_options_host(size_t *ret_n);
const struct option *pipeline_options_connector(size_t *ret_n);
const struct option *
pipeline_options_topic(size_t *ret_n); /* "partitions" and Kafka's topic configs */

/* The option that `key` names (prefix entries included), or NULL. */
const struct option *pipeline_option_find(const struct option *table, size_t n, const char *key);

/* Checks one value; on ERR_CONFIG err->msg says what was expected and what was given. */
int pipeline_option_check(int type, int64_t min, int64_t max, const char *const *allowed,
                          const char *value, struct err *err) MUST_USE;
/* Bytes and milliseconds: a whole number (units are Connect's: bytes, ms). */
int pipeline_option_number(const char *value, int64_t *ret) MUST_USE;

#endif
