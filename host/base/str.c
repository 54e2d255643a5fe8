/* Small text helpers. */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct slice slice_of(const void *p, size_t n)
{
    return (struct slice){p, n};
}

struct slice slice_str(const char *s)
{
    return (struct slice){(const uint8_t *)s, s != NULL ? strlen(s) : 0};
}

int slice_eq(struct slice a, struct slice b)
{
    if (a.ptr == NULL || b.ptr == NULL) {
        return a.ptr == b.ptr;
    }
    return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

int str_eq(const char *a, const char *b)
{
    if (a == NULL || b == NULL) {
        return a == b;
    }
    return strcmp(a, b) == 0;
}

int str_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

int str_ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s);
    size_t m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

int str_to_i64(const char *s, int64_t *ret)
{
    if (*s == '\0' || isspace((unsigned char)*s)) {
        return ERR_INVAL;
    }
    char *end = NULL;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (errno != 0 || *end != '\0') {
        return ERR_INVAL;
    }
    *ret = v;
    return 0;
}

int str_to_f64(const char *s, double *ret)
{
    if (*s == '\0' || isspace((unsigned char)*s)) {
        return ERR_INVAL;
    }
    char *end = NULL;
    errno = 0;
    double v = strtod(s, &end);
    if (errno != 0 || *end != '\0') {
        return ERR_INVAL;
    }
    *ret = v;
    return 0;
}

int str_to_bool(const char *s, int *ret)
{
    if (strcasecmp(s, "true") == 0) {
        *ret = 1;
        return 0;
    }
    if (strcasecmp(s, "false") == 0) {
        *ret = 0;
        return 0;
    }
    return ERR_INVAL;
}

/* Edit distance in half edits: a change of case costs 1; an insertion, deletion, change or swap of
 * two neighbours 2 (optimal string alignment). `limit` + 1 when longer. */
static int distance(const char *a, const char *b, int limit)
{
    enum { MAX = 64 };
    size_t n = strlen(a);
    size_t m = strlen(b);
    if (n > MAX || m > MAX) {
        return limit + 1;
    }
    int rows[3][MAX + 1]; /* of i - 2, i - 1 and i, in turn */
    for (size_t j = 0; j <= m; j++) {
        rows[0][j] = (int)j * 2;
    }
    for (size_t i = 1; i <= n; i++) {
        int *row = rows[i % 3];
        const int *above = rows[(i + 2) % 3];
        const int *two_above = rows[(i + 1) % 3];
        row[0] = (int)i * 2;
        for (size_t j = 1; j <= m; j++) {
            int same = a[i - 1] == b[j - 1];
            int alike = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            int best = above[j - 1] + (same ? 0 : alike ? 1 : 2);
            best = above[j] + 2 < best ? above[j] + 2 : best;
            best = row[j - 1] + 2 < best ? row[j - 1] + 2 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                two_above[j - 2] + 2 < best) {
                best = two_above[j - 2] + 2;
            }
            row[j] = best;
        }
    }
    int d = rows[n % 3][m];
    return d <= limit ? d : limit + 1;
}

const char *str_nearest(const char *word, const char *const *candidates, size_t n)
{
    int edits = (int)(strlen(word) / 3);
    edits = edits < 1 ? 1 : edits > 3 ? 3 : edits;
    int best = 2 * edits + 1;
    const char *nearest = NULL;
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(word, candidates[i]) == 0) {
            return candidates[i];
        }
        int d = distance(word, candidates[i], 2 * edits);
        if (d < best) {
            best = d;
            nearest = candidates[i];
        }
    }
    return nearest;
}

/* Length of the well-formed sequence that starts at p, or 0. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    unsigned char c = p[0];
    if (c < 0x80) {
        return 1;
    }
    size_t n = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    if (c < 0xC2 || c > 0xF4 || left < n) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F) || (c == 0xF0 && p[1] < 0x90) ||
        (c == 0xF4 && p[1] > 0x8F)) {
        return 0;
    }
    return n;
}

int str_is_utf8(const void *p, size_t n)
{
    const unsigned char *s = p;
    size_t i = 0;
    while (i < n) {
        /* Eight ASCII bytes at a time: most text is ASCII. */
        uint64_t word;
        if (n - i >= sizeof(word)) {
            memcpy(&word, s + i, sizeof(word));
            if ((word & 0x8080808080808080u) == 0) {
                i += sizeof(word);
                continue;
            }
        }
        size_t step = utf8_length(s + i, n - i);
        if (step == 0) {
            return 0;
        }
        i += step;
    }
    return 1;
}

int str_is_topic_name(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > 249 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-')) {
            return 0;
        }
    }
    return 1;
}

void str_hex(const void *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[b[i] >> 4];
        out[2 * i + 1] = digits[b[i] & 15];
    }
    out[2 * n] = '\0';
}
