/* Entries and findings of config texts, and freeing them. No state. */
#include "codec/entries.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum { KIND_SCALAR = 1, KIND_MAP };

struct codec_seen {
    int kind;
    int line;
};

void codec_entries_init(struct codec_entries *e, struct codec_yaml *out)
{
    memset(out, 0, sizeof(*out));
    *e = (struct codec_entries){.out = out, .seen = map_new(free)};
    e->error = e->seen == NULL ? ERR_NOMEM : 0;
}

int codec_entries_finish(struct codec_entries *e, struct err *err)
{
    map_free(e->seen);
    e->seen = NULL;
    if (e->error == 0) {
        return 0;
    }
    codec_yaml_free(e->out);
    return err_set(err, ERR_NOMEM, "no memory for a configuration text");
}

static void free_entry(struct codec_yaml_entry *entry)
{
    for (size_t i = 0; entry->parts != NULL && i < entry->n_parts; i++) {
        free(entry->parts[i]);
    }
    free(entry->parts);
    free(entry->key);
    free(entry->text);
}

void codec_yaml_free(struct codec_yaml *y)
{
    if (y == NULL) {
        return;
    }
    for (size_t i = 0; i < y->n_entries; i++) {
        free_entry(&y->entries[i]);
    }
    for (size_t i = 0; i < y->n_findings; i++) {
        free(y->findings[i].key);
        free(y->findings[i].text);
    }
    free(y->entries);
    free(y->findings);
    memset(y, 0, sizeof(*y));
}

/* Room for one more element; NULL without memory (sticky). */
static void *grow(struct codec_entries *e, void *array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) {
        return array;
    }
    size_t more = *cap != 0 ? *cap * 2 : 16;
    void *grown = reallocarray(array, more, size);
    if (grown == NULL) {
        e->error = ERR_NOMEM;
        return NULL;
    }
    *cap = more;
    return grown;
}

void codec_finding_add(struct codec_entries *e, struct codec_place at, const char *key,
                       const char *fmt, ...)
{
    if (e->error != 0) {
        return;
    }
    struct codec_yaml *y = e->out;
    struct codec_finding *findings =
        grow(e, y->findings, y->n_findings, &e->cap_findings, sizeof(*findings));
    if (findings == NULL) {
        return;
    }
    y->findings = findings;
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    char *copy = strdup(key);
    if (n < 0 || copy == NULL) {
        free(n < 0 ? NULL : text);
        free(copy);
        e->error = ERR_NOMEM;
        return;
    }
    findings[y->n_findings++] =
        (struct codec_finding){.line = at.line, .column = at.column, .key = copy, .text = text};
}

/* The parts joined with dots; malloc'ed. Inside "connectors" and "topics" the second part is a name
 * of its own, which `apart` keeps from mixing with the keys below it ("a.b" + "c" is not "a" +
 * "b.c"). */
static char *join(const char *const *parts, size_t n_parts, int apart)
{
    size_t len = 1;
    for (size_t i = 0; i < n_parts; i++) {
        len += strlen(parts[i]) + 1;
    }
    char *key = malloc(len);
    if (key == NULL) {
        return NULL;
    }
    int named = apart && n_parts > 1 &&
                (strcmp(parts[0], "connectors") == 0 || strcmp(parts[0], "topics") == 0);
    char *at = key;
    for (size_t i = 0; i < n_parts; i++) {
        size_t n = strlen(parts[i]);
        memcpy(at, parts[i], n);
        at += n;
        *at++ = named && i == 1 ? '\x01' : '.';
    }
    at[-1] = '\0';
    return key;
}

/* Notes kind and place of a name. Returns what was noted before, or NULL. */
static const struct codec_seen *note(struct codec_entries *e, const char *name, int kind, int line)
{
    const struct codec_seen *before = map_get(e->seen, name);
    if (before != NULL) {
        return before;
    }
    struct codec_seen *seen = malloc(sizeof(*seen));
    if (seen == NULL) {
        e->error = ERR_NOMEM;
        return NULL;
    }
    *seen = (struct codec_seen){.kind = kind, .line = line};
    if (map_put(e->seen, name, seen) != 0) {
        free(seen);
        e->error = ERR_NOMEM;
    }
    return NULL;
}

int codec_map_note(struct codec_entries *e, const char *const *parts, size_t n_parts,
                   struct codec_place at)
{
    char *name = e->error == 0 ? join(parts, n_parts, 1) : NULL;
    char *key = e->error == 0 ? join(parts, n_parts, 0) : NULL;
    int rc = 0;
    if (name == NULL || key == NULL) {
        e->error = ERR_NOMEM;
    } else {
        const struct codec_seen *before = note(e, name, KIND_MAP, at.line);
        if (before != NULL && before->kind != KIND_MAP) {
            codec_finding_add(e, at, key,
                              "is a map here and a single value in line %d: keep one of the two",
                              before->line);
            rc = ERR_EXISTS;
        }
    }
    free(name);
    free(key);
    return rc;
}

/* 1 when the name is free for a scalar; else a finding. */
static int scalar_is_new(struct codec_entries *e, const char *const *parts, size_t n_parts,
                         const char *key, struct codec_place at)
{
    char *name = join(parts, n_parts, 1);
    if (name == NULL) {
        e->error = ERR_NOMEM;
        return 0;
    }
    const struct codec_seen *before = note(e, name, KIND_SCALAR, at.line);
    if (before != NULL && before->kind == KIND_MAP) {
        codec_finding_add(e, at, key,
                          "is a single value here and a map in line %d: keep one of the two",
                          before->line);
    } else if (before != NULL) {
        codec_finding_add(e, at, key,
                          "is set a second time (first in line %d): remove one of the two",
                          before->line);
    }
    free(name);
    return before == NULL && e->error == 0;
}

void codec_entry_add(struct codec_entries *e, const char *const *parts, size_t n_parts,
                     const char *text, struct codec_place at, struct codec_place value_at)
{
    if (e->error != 0) {
        return;
    }
    struct codec_yaml *y = e->out;
    struct codec_yaml_entry entry = {
        .key = join(parts, n_parts, 0),
        .parts = calloc(n_parts, sizeof(char *)),
        .n_parts = n_parts,
        .text = text != NULL ? strdup(text) : NULL,
        .line = at.line,
        .column = at.column,
        .value_line = value_at.line,
        .value_column = value_at.column,
        .top_line = e->top.line > 0 ? e->top.line : at.line,
        .top_column = e->top.line > 0 ? e->top.column : at.column,
    };
    int ok = entry.key != NULL && entry.parts != NULL && (text == NULL || entry.text != NULL);
    for (size_t i = 0; ok && i < n_parts; i++) {
        entry.parts[i] = strdup(parts[i]);
        ok = entry.parts[i] != NULL;
    }
    struct codec_yaml_entry *entries =
        grow(e, y->entries, y->n_entries, &e->cap_entries, sizeof(*entries));
    if (entries != NULL) {
        y->entries = entries;
    }
    if (!ok || entries == NULL) {
        e->error = ERR_NOMEM;
    } else if (scalar_is_new(e, parts, n_parts, entry.key, at)) {
        entries[y->n_entries++] = entry;
        return;
    }
    free_entry(&entry);
}

struct codec_place codec_place_of(const char *text, size_t n, size_t at)
{
    struct codec_place p = {1, 1};
    size_t i = n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0
                   ? 3
                   : 0; /* a byte order mark has no column */
    for (; i < at && i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n' || (c == '\r' && (i + 1 == n || text[i + 1] != '\n'))) {
            p.line++;
            p.column = 1;
        } else if ((c & 0xC0) != 0x80) {
            p.column++;
        }
    }
    return p;
}

/* Length of the longest start of the text that is UTF-8. */
static size_t utf8_prefix(const char *text, size_t n)
{
    size_t low = 0;
    while (low < n) {
        size_t step = n - low < 4096 ? n - low : 4096;
        while (step > 0 && !str_is_utf8(text + low, step)) {
            step = step > 8 ? step / 2 : step - 1;
        }
        if (step == 0) {
            return low;
        }
        low += step;
    }
    return n;
}

int codec_text_ok(struct codec_entries *e, const char *text, size_t n)
{
    const char *nul = n > 0 ? memchr(text, '\0', n) : NULL;
    int utf8 = str_is_utf8(text, n);
    if (nul == NULL && utf8) {
        return 1;
    }
    size_t bad = utf8 ? n : utf8_prefix(text, n);
    if (n >= 2 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0)) {
        codec_finding_add(e, (struct codec_place){1, 1}, "",
                          "the text is UTF-16: save the file as UTF-8");
    } else if (nul != NULL && (size_t)(nul - text) < bad) {
        codec_finding_add(e, codec_place_of(text, n, (size_t)(nul - text)), "",
                          "a NUL byte: this is not a text file, or it is damaged; remove the byte");
    } else {
        codec_finding_add(e, codec_place_of(text, n, bad), "",
                          "byte 0x%02x is not valid UTF-8: save the file as UTF-8",
                          (unsigned char)text[bad]);
    }
    e->out->unparsable = 1;
    return 0;
}
