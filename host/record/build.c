/*
 * Building RecordBatch v2. No state beyond the caller's builder.
 *
 * Invariant: until record_builder_finish() the header's 61 bytes are reserved but not written; a
 * failed append is sticky in the output buffer, and finish puts the buffer back to where the batch
 * began.
 */
#include "record/record.h"

#include <limits.h>

#include "codec/codec.h"
#include "record/record_int.h"

enum { VARINT_MAX = 5, VARLONG_MAX = 10 };

void record_builder_begin(struct record_builder *b, struct buf *out)
{
    *b = (struct record_builder){.out = out, .start = out->len};
    (void)buf_extend(out, RECORD_BATCH_OVERHEAD);
}

size_t record_builder_bytes(const struct record_builder *b)
{
    return b->out->len - b->start;
}

size_t record_size_bound(size_t key_len, size_t value_len, const struct record_header *headers,
                         size_t n_headers)
{
    /* length, attributes, timestamp delta, offset delta, key and value lengths, header count */
    size_t n = VARINT_MAX + 1 + VARLONG_MAX + 4 * VARINT_MAX + key_len + value_len;
    for (size_t i = 0; i < n_headers; i++) {
        n += 2 * VARINT_MAX + headers[i].name.len + headers[i].value.len;
    }
    return n;
}

/* Bytes of a nullable byte field, its length included. */
static size_t field_size(struct slice s)
{
    return s.ptr == NULL ? 1 : codec_varint_size((int32_t)s.len) + s.len;
}

static uint8_t *put_field(uint8_t *p, struct slice s)
{
    if (s.ptr == NULL) {
        return p + codec_varint_put(p, -1);
    }
    p += codec_varint_put(p, (int32_t)s.len);
    memcpy(p, s.ptr, s.len);
    return p + s.len;
}

/* 1 when every length, and their sum, fits the format's int32. */
static int fits(struct slice key, struct slice value, const struct record_header *headers,
                size_t n_headers)
{
    size_t left = INT32_MAX / 2;
    if (key.len > left || value.len > left - key.len || n_headers > left / 16) {
        return 0;
    }
    left -= key.len + value.len;
    for (size_t i = 0; i < n_headers; i++) {
        size_t name = headers[i].name.len;
        size_t bytes = headers[i].value.len;
        if (name > left || bytes > left - name || left - name - bytes < 2 * VARINT_MAX) {
            return 0;
        }
        left -= name + bytes + 2 * VARINT_MAX;
    }
    return 1;
}

void record_builder_add(struct record_builder *b, int64_t timestamp_ms, struct slice key,
                        struct slice value, const struct record_header *headers, size_t n_headers)
{
    struct buf *out = b->out;
    if (out->error == 0 && (b->count == INT32_MAX || !fits(key, value, headers, n_headers))) {
        out->error = ERR_LIMIT;
    }
    uint8_t *room = buf_reserve(out, record_size_bound(key.len, value.len, headers, n_headers));
    if (room == NULL) {
        return;
    }
    if (b->count == 0) {
        b->base_timestamp_ms = timestamp_ms;
        b->max_timestamp_ms = timestamp_ms;
    } else if (timestamp_ms > b->max_timestamp_ms) {
        b->max_timestamp_ms = timestamp_ms;
    }
    int64_t delta = timestamp_ms - b->base_timestamp_ms;
    size_t body = 1 + codec_varlong_size(delta) + codec_varint_size(b->count) + field_size(key) +
                  field_size(value) + codec_varint_size((int32_t)n_headers);
    for (size_t i = 0; i < n_headers; i++) {
        body += field_size(headers[i].name) + field_size(headers[i].value);
    }
    uint8_t *p = room;
    p += codec_varint_put(p, (int32_t)body);
    *p++ = 0; /* attributes: none are defined */
    p += codec_varlong_put(p, delta);
    p += codec_varint_put(p, b->count);
    p = put_field(p, key);
    p = put_field(p, value);
    p += codec_varint_put(p, (int32_t)n_headers);
    for (size_t i = 0; i < n_headers; i++) {
        /* A name is never null in the format: no name is the empty one. */
        struct slice name = headers[i].name;
        p = put_field(p, name.ptr != NULL ? name : slice_of("", 0));
        p = put_field(p, headers[i].value);
    }
    out->len += (size_t)(p - room);
    b->count++;
}

int64_t record_builder_finish(struct record_builder *b, struct err *err)
{
    struct buf *out = b->out;
    size_t bytes = out->len - b->start;
    int rc = 0;
    if (out->error == ERR_NOMEM) {
        rc = err_set(err, ERR_NOMEM, "no memory for a batch of %d records", b->count);
    } else if (out->error != 0) {
        rc = err_set(err, ERR_LIMIT, "a batch of %d records and one more exceeds its limit",
                     b->count);
    } else if (b->count == 0) {
        rc = err_set(err, ERR_INVAL, "a batch without a record");
    } else if (bytes > INT32_MAX) {
        rc =
            err_set(err, ERR_LIMIT, "a batch of %zu bytes is larger than the format allows", bytes);
    }
    if (rc != 0) {
        if (out->len > b->start) {
            out->len = b->start;
        }
        return rc;
    }
    uint8_t *p = out->data + b->start;
    put_be64(p + AT_BASE_OFFSET, 0);
    put_be32(p + AT_LENGTH, (uint32_t)(bytes - RECORD_LOG_OVERHEAD));
    put_be32(p + AT_LEADER_EPOCH, 0);
    p[AT_MAGIC] = BATCH_MAGIC;
    put_be16(p + AT_ATTRIBUTES, 0);
    put_be32(p + AT_LAST_OFFSET_DELTA, (uint32_t)(b->count - 1));
    put_be64(p + AT_BASE_TIMESTAMP, (uint64_t)b->base_timestamp_ms);
    put_be64(p + AT_MAX_TIMESTAMP, (uint64_t)b->max_timestamp_ms);
    put_be64(p + AT_PRODUCER_ID, UINT64_MAX); /* -1: no idempotent producer */
    put_be16(p + AT_PRODUCER_EPOCH, UINT16_MAX);
    put_be32(p + AT_BASE_SEQUENCE, UINT32_MAX);
    put_be32(p + AT_COUNT, (uint32_t)b->count);
    put_be32(p + AT_CRC, codec_crc32c(0, p + AT_ATTRIBUTES, bytes - AT_ATTRIBUTES));
    return (int64_t)bytes;
}

int record_single(struct buf *out, int64_t timestamp_ms, struct slice key, struct slice value,
                  struct err *err)
{
    struct record_builder b;
    record_builder_begin(&b, out);
    record_builder_add(&b, timestamp_ms, key, value, NULL, 0);
    int64_t bytes = record_builder_finish(&b, err);
    return bytes < 0 ? (int)bytes : 0;
}
