/*
 * Reading RecordBatch v2: header, checks of what others sent, walking records. No state, no
 * allocation.
 *
 * Invariant: no length is believed before it was held against the bytes that are there, and no byte
 * outside the given range is read.
 */
#include "record/record.h"

#include <inttypes.h>

#include "codec/codec.h"
#include "record/record_int.h"

int record_batch_peek(const uint8_t *p, size_t avail, size_t max_bytes, struct record_batch *ret,
                      struct err *err)
{
    if (avail < RECORD_BATCH_OVERHEAD) {
        ret->bytes = RECORD_BATCH_OVERHEAD;
        return err_set(err, ERR_LIMIT, "batch header cut short: %zu bytes of %d", avail,
                       RECORD_BATCH_OVERHEAD);
    }
    if (p[AT_MAGIC] != BATCH_MAGIC) {
        return err_set(err, ERR_DATA, "not a v2 record batch: magic %d at byte 16, expected 2",
                       (int8_t)p[AT_MAGIC]);
    }
    int32_t length = (int32_t)get_be32(p + AT_LENGTH);
    if (length < RECORD_BATCH_OVERHEAD - RECORD_LOG_OVERHEAD) {
        return err_set(err, ERR_DATA, "batch length %" PRId32 " is below its header's size",
                       length);
    }
    size_t bytes = (size_t)length + RECORD_LOG_OVERHEAD;
    if (bytes > max_bytes) {
        return err_set(err, ERR_DATA, "batch of %zu bytes exceeds the limit of %zu", bytes,
                       max_bytes);
    }
    struct record_batch b = {
        .base_offset = (int64_t)get_be64(p + AT_BASE_OFFSET),
        .last_offset_delta = (int32_t)get_be32(p + AT_LAST_OFFSET_DELTA),
        .count = (int32_t)get_be32(p + AT_COUNT),
        .leader_epoch = (int32_t)get_be32(p + AT_LEADER_EPOCH),
        .attributes = (int16_t)get_be16(p + AT_ATTRIBUTES),
        .base_timestamp_ms = (int64_t)get_be64(p + AT_BASE_TIMESTAMP),
        .max_timestamp_ms = (int64_t)get_be64(p + AT_MAX_TIMESTAMP),
        .crc = get_be32(p + AT_CRC),
        .bytes = bytes,
        .start = p,
    };
    if (b.count < 0 || b.last_offset_delta < 0) {
        return err_set(err, ERR_DATA,
                       "negative record count %" PRId32 " or last offset delta %" PRId32, b.count,
                       b.last_offset_delta);
    }
    if (b.base_offset < 0 || b.base_offset > INT64_MAX - 1 - b.last_offset_delta) {
        return err_set(err, ERR_DATA, "base offset %" PRId64 " is out of range", b.base_offset);
    }
    if (avail < bytes) {
        ret->bytes = bytes;
        return err_set(err, ERR_LIMIT, "batch cut short: %zu bytes of %zu", avail, bytes);
    }
    *ret = b;
    return 0;
}

int record_batch_crc_ok(const struct record_batch *b)
{
    return codec_crc32c(0, b->start + AT_ATTRIBUTES, b->bytes - AT_ATTRIBUTES) == b->crc;
}

/* ---- records ---- */

static int take_varint(struct cursor *c, int32_t *ret)
{
    size_t used = codec_varint_get(c->p, c->left, ret);
    if (used == 0) {
        c->error = ERR_DATA;
        return ERR_DATA;
    }
    c->p += used;
    c->left -= used;
    return 0;
}

static int take_varlong(struct cursor *c, int64_t *ret)
{
    size_t used = codec_varlong_get(c->p, c->left, ret);
    if (used == 0) {
        c->error = ERR_DATA;
        return ERR_DATA;
    }
    c->p += used;
    c->left -= used;
    return 0;
}

/* Length -1 is null; anything else below zero, or beyond what is left, is bad. */
static int take_field(struct cursor *c, struct slice *ret)
{
    int32_t n;
    TRY(take_varint(c, &n));
    if (n < -1) {
        c->error = ERR_DATA;
        return ERR_DATA;
    }
    *ret = (struct slice){NULL, 0};
    if (n >= 0) {
        const uint8_t *p = cursor_bytes(c, (size_t)n);
        if (p == NULL) {
            return ERR_DATA;
        }
        *ret = slice_of(p, (size_t)n);
    }
    return 0;
}

int record_headers_next(struct cursor *c, struct record_header *ret)
{
    if (c->error == 0 && c->left == 0) {
        return 0;
    }
    struct record_header h;
    if (c->error != 0 || take_field(c, &h.name) != 0 || h.name.ptr == NULL ||
        take_field(c, &h.value) != 0) {
        c->error = ERR_DATA;
        return ERR_DATA;
    }
    *ret = h;
    return 1;
}

int record_iter_init(struct record_iter *it, const struct record_batch *b, struct err *err)
{
    int codec = b->attributes & ATTR_CODEC_MASK;
    if (codec != RECORD_CODEC_NONE) {
        return err_set(err, ERR_UNSUPPORTED,
                       "batch at offset %" PRId64
                       " is compressed (codec %d), which is not built yet",
                       b->base_offset, codec);
    }
    it->batch = *b;
    it->next = 0;
    cursor_init(&it->at, b->start + RECORD_BATCH_OVERHEAD, b->bytes - RECORD_BATCH_OVERHEAD);
    return 0;
}

/* What one record's bytes hold; NULL when they are fine, else what is wrong with them. */
static const char *parse_record(struct cursor *c, const struct record_batch *b,
                                struct record_view *v, int32_t *ret_delta)
{
    int64_t timestamp_delta;
    (void)cursor_u8(c);
    if (take_varlong(c, &timestamp_delta) != 0) {
        return "bad timestamp delta";
    }
    if (__builtin_add_overflow(b->base_timestamp_ms, timestamp_delta, &v->timestamp_ms)) {
        return "timestamp out of range";
    }
    if ((b->attributes & ATTR_LOG_APPEND_TIME) != 0) {
        v->timestamp_ms = b->max_timestamp_ms;
    }
    if (take_varint(c, ret_delta) != 0 || *ret_delta < 0 || *ret_delta > b->last_offset_delta) {
        return "bad offset delta";
    }
    v->offset = b->base_offset + *ret_delta;
    if (take_field(c, &v->key) != 0) {
        return "bad key length";
    }
    if (take_field(c, &v->value) != 0) {
        return "bad value length";
    }
    /* A header takes at least two bytes. */
    if (take_varint(c, &v->n_headers) != 0 || v->n_headers < 0 ||
        (size_t)v->n_headers > c->left / 2) {
        return "bad header count";
    }
    v->headers = c->p;
    v->headers_len = c->left;
    if (v->n_headers == 0 && c->left != 0) {
        return "bytes left over behind its last field";
    }
    return NULL;
}

/* As record_iter_next(), and gives the record's offset delta. */
static int iter_next(struct record_iter *it, struct record_view *ret, int32_t *ret_delta,
                     struct err *err)
{
    const struct record_batch *b = &it->batch;
    if (it->next == b->count) {
        if (it->at.left != 0) {
            return err_set(err, ERR_DATA,
                           "%zu bytes left over behind the last of %" PRId32 " records",
                           it->at.left, b->count);
        }
        return 0;
    }
    size_t at = (size_t)(it->at.p - b->start);
    const char *wrong = "bad length";
    struct record_view v;
    int32_t length;
    if (take_varint(&it->at, &length) == 0 && length > 0 && (size_t)length <= it->at.left) {
        struct cursor c;
        cursor_init(&c, cursor_bytes(&it->at, (size_t)length), (size_t)length);
        wrong = parse_record(&c, b, &v, ret_delta);
    }
    if (wrong != NULL) {
        return err_set(err, ERR_DATA, "record %" PRId32 " of %" PRId32 " at byte %zu: %s", it->next,
                       b->count, at, wrong);
    }
    it->next++;
    *ret = v;
    return 1;
}

int record_iter_next(struct record_iter *it, struct record_view *ret, struct err *err)
{
    int32_t delta;
    return iter_next(it, ret, &delta, err);
}

/* ---- what a runner sent ---- */

static int check_headers(const struct record_view *v)
{
    struct cursor c;
    struct record_header h;
    cursor_init(&c, v->headers, v->headers_len);
    int32_t n = 0;
    int rc;
    while ((rc = record_headers_next(&c, &h)) == 1) {
        n++;
    }
    return rc == 0 && n == v->n_headers ? 0 : ERR_DATA;
}

static int check_records(const struct record_batch *b, struct err *err)
{
    struct record_iter it;
    struct record_view v;
    int32_t delta;
    int rc;
    int64_t newest = INT64_MIN;
    TRY(record_iter_init(&it, b, err));
    while ((rc = iter_next(&it, &v, &delta, err)) == 1) {
        int32_t index = it.next - 1;
        if (delta != index) {
            return err_set(err, ERR_DATA, "record %" PRId32 " has offset delta %" PRId32, index,
                           delta);
        }
        if (v.timestamp_ms < RECORD_NO_TIMESTAMP || v.timestamp_ms > b->max_timestamp_ms) {
            return err_set(err, ERR_DATA,
                           "record %" PRId32 " has timestamp %" PRId64 ", outside -1..%" PRId64,
                           index, v.timestamp_ms, b->max_timestamp_ms);
        }
        newest = v.timestamp_ms > newest ? v.timestamp_ms : newest;
        if (v.n_headers != 0 && check_headers(&v) != 0) {
            return err_set(err, ERR_DATA, "record %" PRId32 " has malformed headers", index);
        }
    }
    TRY(rc);
    if (newest != b->max_timestamp_ms) { /* the time index is built from it */
        return err_set(err, ERR_DATA,
                       "max timestamp %" PRId64 ", but its newest record has %" PRId64,
                       b->max_timestamp_ms, newest);
    }
    return 0;
}

static int check_batch(const struct record_batch *b, struct err *err)
{
    const uint8_t *p = b->start;
    int codec = b->attributes & ATTR_CODEC_MASK;
    if (!record_batch_crc_ok(b)) {
        return err_set(err, ERR_DATA, "CRC mismatch: stored %08" PRIx32, b->crc);
    }
    if (codec > RECORD_CODEC_ZSTD || (b->attributes & ~ATTR_CODEC_MASK) != 0) {
        return err_set(err, ERR_DATA,
                       "attributes 0x%04x: only create time, no control or transaction bits, and "
                       "codecs 0 to 4 are allowed",
                       (unsigned)(uint16_t)b->attributes);
    }
    if (get_be64(p + AT_PRODUCER_ID) != UINT64_MAX ||
        get_be16(p + AT_PRODUCER_EPOCH) != UINT16_MAX ||
        get_be32(p + AT_BASE_SEQUENCE) != UINT32_MAX) {
        return err_set(err, ERR_DATA, "a producer id, epoch or sequence is set; each must be -1");
    }
    if (b->count < 1 || b->count - 1 != b->last_offset_delta) {
        return err_set(err, ERR_DATA,
                       "record count %" PRId32 " does not fit last offset delta %" PRId32, b->count,
                       b->last_offset_delta);
    }
    if (b->base_timestamp_ms < RECORD_NO_TIMESTAMP || b->max_timestamp_ms < b->base_timestamp_ms) {
        return err_set(err, ERR_DATA, "timestamps out of range: base %" PRId64 ", max %" PRId64,
                       b->base_timestamp_ms, b->max_timestamp_ms);
    }
    return codec == RECORD_CODEC_NONE ? check_records(b, err) : 0;
}

int record_batches_check(const uint8_t *p, size_t n, size_t max_batch_bytes, int64_t *ret_records,
                         int64_t *ret_batches, struct err *err)
{
    int64_t records = 0;
    int64_t batches = 0;
    for (size_t at = 0; at < n; batches++) {
        struct record_batch b;
        int rc = record_batch_peek(p + at, n - at, max_batch_bytes, &b, err);
        if (rc == 0) {
            rc = check_batch(&b, err);
        }
        if (rc != 0) {
            err_prefix(err, "batch %" PRId64 " at byte %zu", batches, at);
            return ERR_DATA;
        }
        records += b.count;
        at += b.bytes;
    }
    if (batches == 0) {
        return err_set(err, ERR_DATA, "no batch");
    }
    *ret_records = records;
    *ret_batches = batches;
    return 0;
}

int64_t record_batches_stamp(uint8_t *p, size_t n, int64_t base_offset, int32_t leader_epoch)
{
    for (size_t at = 0; at < n;) {
        put_be64(p + at + AT_BASE_OFFSET, (uint64_t)base_offset);
        put_be32(p + at + AT_LEADER_EPOCH, (uint32_t)leader_epoch);
        base_offset += (int64_t)get_be32(p + at + AT_LAST_OFFSET_DELTA) + 1;
        at += (size_t)get_be32(p + at + AT_LENGTH) + RECORD_LOG_OVERHEAD;
    }
    return base_offset;
}
