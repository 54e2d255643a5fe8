/* Findings: everything wrong with configuration, each at its place. Not thread-safe. */
#ifndef PIPELINE_FINDINGS_H
#define PIPELINE_FINDINGS_H

#include <stddef.h>

#include "base/err.h"

struct finding {
    char *file;       /* as the user gave it, or "" */
    int line, column; /* 1-based; 0: the file as a whole */
    char *key;        /* or "" */
    char *text;
    char *suggestion; /* nearest name, or NULL */
    char *connector;  /* whose finding it is, or NULL: the file's or the host's */
};

struct findings {
    struct finding *items;
    size_t n, cap;
    int lost; /* findings that memory had no room for */
};

/* `suggestion` and `connector` may be NULL; everything is copied. */
void pipeline_findings_add(struct findings *f, const char *file, int line, int column,
                           const char *connector, const char *key, const char *suggestion,
                           const char *fmt, ...) PRINTF_LIKE(8, 9);
/* By file (order of first appearance is the caller's: byte order here), line, column. */
void pipeline_findings_sort(struct findings *f);
void pipeline_findings_free(struct findings *f);
/* "FILE:LINE:COL: KEY: text (did you mean X?)" into out, cut at n bytes. */
void pipeline_findings_format(const struct finding *f, char *out, size_t n);
/* The first finding of that connector (NULL name: any of no connector), or NULL. */
const struct finding *pipeline_findings_of(const struct findings *f, const char *connector);

#endif
