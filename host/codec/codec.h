/*
 * codec: text and byte formats. Foreign libraries behind it: libyaml (yaml.c), ISA-L (crc32c.c),
 * jansson (json.h, for REST and config only: records go through record_json_*), OpenSSL's libcrypto
 * (sha256.c).
 * No state; any thread.
 */
#ifndef CODEC_CODEC_H
#define CODEC_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* ---- CRC32C (Castagnoli), as Kafka's batches and our journal carry it ---- */
/* crc of p[0..n) continuing from `crc` (0 to start). codec_crc32c(0, "123456789", 9) ==
 * 0xe3069283. */
uint32_t codec_crc32c(uint32_t crc, const void *p, size_t n);

/* ---- varints, zig-zag, as Kafka's records have them ---- */
/* Returns the bytes written to out (at most 5 and 10). */
size_t codec_varint_put(uint8_t *out, int32_t v);
size_t codec_varlong_put(uint8_t *out, int64_t v);
size_t codec_varint_size(int32_t v);
size_t codec_varlong_size(int64_t v);
/* Bytes consumed, or 0 when short or too long. */
size_t codec_varint_get(const uint8_t *p, size_t n, int32_t *ret);
size_t codec_varlong_get(const uint8_t *p, size_t n, int64_t *ret);

/* ---- SHA-256 of a file, lower-case hexadecimal ---- */
int codec_sha256_file(const char *path, char ret_hex[65], struct err *err) MUST_USE;

/* ---- base64, RFC 4648 with padding ---- */
void codec_base64_put(struct buf *out, const void *p, size_t n);
int codec_base64_get(const char *text, size_t n, struct buf *out, struct err *err) MUST_USE;

/* ---- YAML: a document as flat key = text pairs with their places ---- */

/* One scalar. `key` is the path with dots ("connectors.c1.tasks.max"); `parts` are its map keys,
 * undivided, since a key may itself hold dots ("connectors", "c1", "tasks.max"). A sequence joins
 * with commas. A null value has text NULL ("key absent"). */
struct codec_yaml_entry {
    char *key;
    char **parts;
    size_t n_parts;
    char *text;
    int line, column; /* of the key, 1-based, columns in characters */
    int value_line, value_column;
    int top_line, top_column; /* of parts[0], where that is a line of its own */
};
struct codec_finding { /* something wrong at a place */
    int line, column;
    char *key;  /* or "" */
    char *text; /* what is wrong and what to do */
};
struct codec_yaml {
    struct codec_yaml_entry *entries; /* in document order */
    size_t n_entries;
    struct codec_finding *findings; /* all problems of the one pass */
    size_t n_findings;
    int unparsable; /* 1: not YAML at all, entries are incomplete */
};
/* Findings (never a return code): not YAML, duplicate keys (after flattening too), a scalar and a
 * map under one name, merge keys, second document, anchors beyond 100 expansions or 1 MiB, depth
 * above 64, non-scalar keys, NUL bytes or invalid UTF-8, tabs. An empty document is fine.
 * ERR_NOMEM only. Free with codec_yaml_free(). */
int codec_yaml_parse(const char *text, size_t n, struct codec_yaml *ret, struct err *err) MUST_USE;
void codec_yaml_free(struct codec_yaml *y);

/* Java .properties text ("key=value", "#" comments, backslash escapes and continuation) into the
 * same shape (each key one part). */
int codec_properties_parse(const char *text, size_t n, struct codec_yaml *ret,
                           struct err *err) MUST_USE;
/* Connect's {"name","config":{...}} JSON into the same shape: entries have parts {"connectors",
 * NAME, KEY}. Places are line and column where the parser knows them, else 1:1. */
int codec_connect_json_parse(const char *text, size_t n, struct codec_yaml *ret,
                             struct err *err) MUST_USE;

#endif
