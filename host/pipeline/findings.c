/* Findings about configuration. */
#include "pipeline/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

void pipeline_findings_add(struct findings *f, const char *file, int line, int column,
                           const char *connector, const char *key, const char *suggestion,
                           const char *fmt, ...)
{
    if (f->n == f->cap) {
        size_t cap = f->cap != 0 ? f->cap * 2 : 8;
        struct finding *items = realloc(f->items, cap * sizeof(*items));
        if (items == NULL) {
            f->lost++;
            return;
        }
        f->items = items;
        f->cap = cap;
    }
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int rc = vasprintf(&text, fmt, ap);
    va_end(ap);
    struct finding item = {.file = strdup(file != NULL ? file : ""),
                           .line = line,
                           .column = column,
                           .key = strdup(key != NULL ? key : ""),
                           .text = rc >= 0 ? text : NULL,
                           .suggestion = suggestion != NULL ? strdup(suggestion) : NULL,
                           .connector = connector != NULL ? strdup(connector) : NULL};
    if (item.file == NULL || item.key == NULL || item.text == NULL) {
        free(item.file);
        free(item.key);
        free(item.text);
        free(item.suggestion);
        free(item.connector);
        f->lost++;
        return;
    }
    f->items[f->n++] = item;
}

static int compare(const void *a, const void *b)
{
    const struct finding *x = a;
    const struct finding *y = b;
    int c = strcmp(x->file, y->file);
    if (c != 0) {
        return c;
    }
    if (x->line != y->line) {
        return x->line < y->line ? -1 : 1;
    }
    if (x->column != y->column) {
        return x->column < y->column ? -1 : 1;
    }
    c = strcmp(x->key, y->key);
    return c != 0 ? c : strcmp(x->text, y->text);
}

void pipeline_findings_sort(struct findings *f)
{
    if (f->n > 1) {
        qsort(f->items, f->n, sizeof(*f->items), compare);
    }
}

void pipeline_findings_free(struct findings *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->items[i].file);
        free(f->items[i].key);
        free(f->items[i].text);
        free(f->items[i].suggestion);
        free(f->items[i].connector);
    }
    free(f->items);
    memset(f, 0, sizeof(*f));
}

void pipeline_findings_format(const struct finding *f, char *out, size_t n)
{
    int at = 0;
    if (f->line > 0) {
        at = snprintf(out, n, "%s:%d:%d: ", f->file, f->line, f->column);
    } else if (f->file[0] != '\0') {
        at = snprintf(out, n, "%s: ", f->file);
    }
    if (at < 0 || (size_t)at >= n) {
        return;
    }
    (void)snprintf(out + at, n - (size_t)at, "%s: %s%s%s%s", f->key[0] != '\0' ? f->key : "-",
                   f->text, f->suggestion != NULL ? " (did you mean " : "",
                   f->suggestion != NULL ? f->suggestion : "", f->suggestion != NULL ? "?)" : "");
}

const struct finding *pipeline_findings_of(const struct findings *f, const char *connector)
{
    for (size_t i = 0; i < f->n; i++) {
        if (str_eq(f->items[i].connector, connector)) {
            return &f->items[i];
        }
    }
    return NULL;
}
