/* jansson for the host's own JSON (REST, config, offsets), with this project's helpers. Not linked
 * into runners. */
#ifndef CODEC_JSON_H
#define CODEC_JSON_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

/* Parses one JSON text (any value; duplicate keys refused; depth limited by jansson). NULL with
 * err. Owned. */
json_t *codec_json_parse(const char *text, size_t n, struct err *err);
/* Compact text appended to `out`, keys in insertion order. */
void codec_json_write(const json_t *v, struct buf *out);

#endif
