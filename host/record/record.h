/*
 * record: Kafka's RecordBatch v2 as bytes, and the built-in converters between bytes and values.
 *
 * A batch is what travels: a runner builds it, the host stamps its base offset, the log keeps it
 * as it is, a sink's runner takes it apart. Layout (all integers big-endian; source: Apache Kafka
 * 3.9 DefaultRecordBatch, and docs/formats/record-batch.md):
 *
 *   off 0 i64 baseOffset | 8 i32 length (bytes after this field) | 12 i32 partitionLeaderEpoch
 *   16 i8 magic=2 | 17 u32 CRC32C of byte 21..end | 21 i16 attributes | 23 i32 lastOffsetDelta
 *   27 i64 baseTimestamp | 35 i64 maxTimestamp | 43 i64 producerId | 51 i16 producerEpoch
 *   53 i32 baseSequence | 57 i32 recordCount | 61 records
 *
 * The CRC does not cover baseOffset and partitionLeaderEpoch, so the host stamps both without
 * touching the rest. No function here allocates unless it says so; none keeps state.
 */
#ifndef RECORD_RECORD_H
#define RECORD_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "connectd/abi.h"

enum {
    RECORD_BATCH_OVERHEAD = 61, /* bytes before the first record */
    RECORD_LOG_OVERHEAD = 12,   /* baseOffset and length: what `length` does not count */
};
enum {
    RECORD_CODEC_NONE = 0,
    RECORD_CODEC_GZIP,
    RECORD_CODEC_SNAPPY,
    RECORD_CODEC_LZ4,
    RECORD_CODEC_ZSTD
};
#define RECORD_NO_TIMESTAMP ((int64_t)-1)

/* ---- building ---- */

struct record_header {
    struct slice name;
    struct slice value; /* ptr NULL: a null value */
};

/* Writes one uncompressed batch behind what `out` holds already. base offset 0, leader epoch 0 (the
 * log stamps both), no producer id. Errors are sticky in `out`; check at record_builder_finish().
 * */
struct record_builder {
    struct buf *out; /* borrowed */
    size_t start;    /* where in out this batch begins */
    int64_t base_timestamp_ms;
    int64_t max_timestamp_ms;
    int32_t count;
};

void record_builder_begin(struct record_builder *b, struct buf *out);
/* key.ptr NULL and value.ptr NULL are null key and value (tombstone). timestamp_ms >= 0. */
void record_builder_add(struct record_builder *b, int64_t timestamp_ms, struct slice key,
                        struct slice value, const struct record_header *headers, size_t n_headers);
/* Bytes of the batch so far, header included. */
size_t record_builder_bytes(const struct record_builder *b);
/* Upper bound of what record_builder_add() would append for these sizes. */
size_t record_size_bound(size_t key_len, size_t value_len, const struct record_header *headers,
                         size_t n_headers);
/* Fills in header and CRC. Returns the batch's bytes, or ERR_LIMIT / ERR_NOMEM, or ERR_INVAL when
 * the batch is empty (out is then as it was at begin). */
int64_t record_builder_finish(struct record_builder *b, struct err *err) MUST_USE;

/* Convenience for the host's own state topics: one record in one batch. */
int record_single(struct buf *out, int64_t timestamp_ms, struct slice key, struct slice value,
                  struct err *err) MUST_USE;

/* ---- reading ---- */

struct record_batch {
    int64_t base_offset;
    int32_t last_offset_delta;
    int32_t count;
    int32_t leader_epoch;
    int16_t attributes;
    int64_t base_timestamp_ms;
    int64_t max_timestamp_ms;
    uint32_t crc;         /* as stored */
    size_t bytes;         /* whole batch, header included */
    const uint8_t *start; /* borrowed */
};

/* Parses the header at `p`. Returns 0; ERR_LIMIT when fewer than a whole batch's bytes are there
 * (ret->bytes then holds what is needed: RECORD_BATCH_OVERHEAD or the batch's size); ERR_DATA when
 * it cannot be a v2 batch (bad magic, negative counts, length below the header or above
 * `max_bytes`). The CRC is not checked. */
int record_batch_peek(const uint8_t *p, size_t avail, size_t max_bytes, struct record_batch *ret,
                      struct err *err) MUST_USE;
/* 1 if the stored CRC is right. */
int record_batch_crc_ok(const struct record_batch *b);

/* What a runner sends is untrusted: checks a run of whole batches in p[0..n) before they go to
 * disk: magic, CRC, length, count == lastOffsetDelta + 1, no producer id, no control or
 * transaction bits, create-time timestamps, codec in range; an uncompressed batch is walked record
 * by record (lengths, offset deltas 0,1,2..., timestamps within max). ret_records: total record
 * count; ret_batches likewise. A message names the batch's index and byte. */
int record_batches_check(const uint8_t *p, size_t n, size_t max_batch_bytes, int64_t *ret_records,
                         int64_t *ret_batches, struct err *err) MUST_USE;

/* Stamps base offset and leader epoch in place, batch after batch, over p[0..n) that passed the
 * check. Returns the offset after the last record. */
int64_t record_batches_stamp(uint8_t *p, size_t n, int64_t base_offset, int32_t leader_epoch);

struct record_view {
    int64_t offset;
    int64_t timestamp_ms;
    struct slice key, value; /* borrowed from the batch; ptr NULL: null */
    const uint8_t *headers;  /* encoded headers, for record_headers_next() */
    size_t headers_len;
    int32_t n_headers;
};

/* Walks an uncompressed batch (a compressed one is ERR_UNSUPPORTED until codecs arrive). */
struct record_iter {
    struct record_batch batch;
    struct cursor at;
    int32_t next; /* index of the next record */
};

int record_iter_init(struct record_iter *it, const struct record_batch *b,
                     struct err *err) MUST_USE;
/* 1 with a record, 0 at the end, ERR_DATA naming the record. */
int record_iter_next(struct record_iter *it, struct record_view *ret, struct err *err) MUST_USE;
/* 1 with a header, 0 at the end, ERR_DATA. `c` starts over view->headers, headers_len. */
int record_headers_next(struct cursor *c, struct record_header *ret) MUST_USE;

/* murmur2 as Kafka's Java client hashes keys (seed 0x9747b28c), and its default partitioner:
 * toPositive(murmur2(key)) % partitions. Source: org.apache.kafka.common.utils.Utils. */
uint32_t record_murmur2(const void *p, size_t n);
int32_t record_partition_for_key(struct slice key, int32_t partitions);

/* ---- converters ---- */

/* The built-in converter classes, each a ctd_class of kind CTD_KIND_CONVERTER written on the plugin
 * ABI's own structs: StringConverter, ByteArrayConverter, JsonConverter (schemas.enable=false
 * only; true is refused as not built yet). `name` is what key.converter / value.converter say: the
 * simple name or the Java class name. NULL when unknown. Static storage. */
const ctd_class *record_converter_find(const char *name);
/* All of them, for listings and for nearest-name messages. */
const ctd_class *const *record_converters(size_t *ret_n);

/* A ctd_arena over base's arena: fill `out`, pass it to encode/decode. Borrowed arena. */
struct arena;
void record_abi_arena(struct arena *a, ctd_arena *out);

/* JSON text to a schemaless value tree (objects: MAP with STRING keys in document order; integers
 * I64, others F64; a number beyond both stays a STRING with CTD_VF_RAW_JSON). Memory from `a`;
 * strings may point into `a`, never into `p`. Depth limit 64. simdjson behind it; one parser per
 * thread inside. ERR_DATA with the reason. */
int record_json_parse(const void *p, size_t n, struct arena *a, ctd_value *ret,
                      struct err *err) MUST_USE;
/* The compact JSON text of a value tree (BYTES as base64, F32/F64 shortest that reads back, NaN and
 * infinities are ERR_DATA, out's limit is ERR_LIMIT); a RAW_JSON string goes out byte for byte. */
int record_json_write(const ctd_value *v, struct buf *out, struct err *err) MUST_USE;

#endif
