/* Small text helpers. No state. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Borrowed bytes; ptr NULL is "null", len 0 with a ptr is "empty". */
struct slice {
    const uint8_t *ptr;
    size_t len;
};

struct slice slice_of(const void *p, size_t n);
struct slice slice_str(const char *s); /* NULL gives a null slice */
int slice_eq(struct slice a, struct slice b);

int str_eq(const char *a, const char *b); /* NULL-safe: two NULLs are equal */
int str_starts_with(const char *s, const char *prefix);
int str_ends_with(const char *s, const char *suffix);

/* Whole-text conversions: leading blanks, trailing text or overflow are ERR_INVAL; *ret is
 * untouched then. */
int str_to_i64(const char *s, int64_t *ret) MUST_USE;
int str_to_f64(const char *s, double *ret) MUST_USE;
int str_to_bool(const char *s, int *ret) MUST_USE; /* "true" or "false", any case */

/* The candidate nearest to `word` by edit distance (at most a third of its length, at least 1 and
 * at most 3 edits), or NULL. Case counts as half an edit, so a wrong case is always near.
 * Borrowed. */
const char *str_nearest(const char *word, const char *const *candidates, size_t n);

/* 1 if the bytes are well-formed UTF-8 (RFC 3629: no surrogates, nothing overlong), else 0. */
int str_is_utf8(const void *p, size_t n);

/* Whether `name` may be a topic's or connector's name as Kafka has it for topics: 1 to 249 of
 * [a-zA-Z0-9._-], not "." or "..". */
int str_is_topic_name(const char *name);

/* Lower-case hexadecimal with a NUL; `out` holds 2n+1 bytes. */
void str_hex(const void *p, size_t n, char *out);

#endif
