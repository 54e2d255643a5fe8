/* codec, private: what the three config formats share: entries, findings and the checks of raw
 * text. */
#ifndef CODEC_ENTRIES_H
#define CODEC_ENTRIES_H

#include "base/map.h"
#include "codec/codec.h"

struct codec_place {
    int line, column; /* 1-based, columns in characters */
};

/* Collects into `out`. Memory errors are sticky in `error`: everything else is then a no-op. */
struct codec_entries {
    struct codec_yaml *out;
    size_t cap_entries, cap_findings;
    struct map *seen;       /* collision key -> struct codec_seen */
    int error;              /* 0 or ERR_NOMEM */
    struct codec_place top; /* of the outermost key that is being read; line 0: none */
};

/* Clears *out and starts. */
void codec_entries_init(struct codec_entries *e, struct codec_yaml *out);
/* Frees what is not `out`'s; on a memory error frees `out` too. Returns 0 or ERR_NOMEM. */
int codec_entries_finish(struct codec_entries *e, struct err *err) MUST_USE;

void codec_finding_add(struct codec_entries *e, struct codec_place at, const char *key,
                       const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Adds one entry; all text is copied. `text` NULL: a null value. A key seen before is a finding
 * instead. */
void codec_entry_add(struct codec_entries *e, const char *const *parts, size_t n_parts,
                     const char *text, struct codec_place at, struct codec_place value_at);
/* Notes that the name is a map's; a scalar of that name is a finding, as is the reverse in
 * codec_entry_add(). 0 when it was one. */
int codec_map_note(struct codec_entries *e, const char *const *parts, size_t n_parts,
                   struct codec_place at);

/* The place of byte `at` in the text. */
struct codec_place codec_place_of(const char *text, size_t n, size_t at);
/* 1 if the text is UTF-8 without NUL bytes; else a finding at the first bad byte, and
 * `unparsable` is set. */
int codec_text_ok(struct codec_entries *e, const char *text, size_t n);

#endif
