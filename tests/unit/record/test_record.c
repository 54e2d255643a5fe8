/*
 * record: batches against bytes that another encoder made, and what hostile batches do.
 *
 * The reference is a separate encoder of 20 lines (Python: struct, a bitwise CRC32C with 0x82f63b78, zig-zag by hand)
 * given the three records of `samples` below.
 */
#include "record_tests.h"

#include <stdlib.h>

#include "codec/codec.h"
#include "record/record.h"

static const char reference[] = "0000000000000000000000540000000002afa2bba10000000000020000018bcf"
                                "e568000000018bcfe568c8ffffffffffffffffffffffffffff00000003180000"
                                "00026b0a76616c7565001a00c701020100040268010002780e00900304000100";

enum { SAMPLE_BYTES = 96, SAMPLE_RECORDS = 3 };

static void build_samples(struct buf *out)
{
    const struct record_header headers[] = {
        {slice_str("h"), {NULL, 0}},
        {slice_str(""), slice_str("x")},
    };
    struct record_builder b;
    record_builder_begin(&b, out);
    record_builder_add(&b, 1700000000000, slice_str("k"), slice_str("value"), NULL, 0);
    record_builder_add(&b, 1699999999900, slice_of(NULL, 0), slice_str(""), headers, 2);
    record_builder_add(&b, 1700000000200, slice_str(""), slice_of(NULL, 0), NULL, 0);
    assert_int_equal(record_builder_bytes(&b), SAMPLE_BYTES);
    assert_int_equal(record_builder_finish(&b, NULL), SAMPLE_BYTES);
}

static void has_the_reference_bytes(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    char hex[2 * SAMPLE_BYTES + 1];
    build_samples(&out);
    assert_int_equal(out.len, SAMPLE_BYTES);
    str_hex(out.data, out.len, hex);
    assert_string_equal(hex, reference);
    buf_free(&out);
}

static void gives_back_what_it_was_given(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct record_batch b;
    struct record_iter it;
    struct record_view v;
    struct record_header h;
    struct cursor c;
    struct err err = ERR_INIT;
    build_samples(&out);
    assert_int_equal(record_batches_stamp(out.data, out.len, 1000, 7), 1003);
    assert_int_equal(record_batch_peek(out.data, out.len, 1024, &b, &err), 0);
    assert_int_equal(b.base_offset, 1000);
    assert_int_equal(b.leader_epoch, 7);
    assert_int_equal(b.last_offset_delta, 2);
    assert_int_equal(b.count, SAMPLE_RECORDS);
    assert_true(b.base_timestamp_ms == 1700000000000 && b.max_timestamp_ms == 1700000000200);
    assert_true(record_batch_crc_ok(&b));
    assert_int_equal(record_iter_init(&it, &b, &err), 0);
    assert_int_equal(record_iter_next(&it, &v, &err), 1);
    assert_int_equal(v.offset, 1000);
    assert_true(v.timestamp_ms == 1700000000000);
    assert_true(slice_eq(v.key, slice_str("k")) && slice_eq(v.value, slice_str("value")));
    assert_int_equal(v.n_headers, 0);
    assert_int_equal(record_iter_next(&it, &v, &err), 1);
    assert_true(v.timestamp_ms == 1699999999900);
    assert_true(v.key.ptr == NULL && v.value.ptr != NULL && v.value.len == 0);
    cursor_init(&c, v.headers, v.headers_len);
    assert_int_equal(record_headers_next(&c, &h), 1);
    assert_true(slice_eq(h.name, slice_str("h")) && h.value.ptr == NULL);
    assert_int_equal(record_headers_next(&c, &h), 1);
    assert_true(slice_eq(h.name, slice_str("")) && slice_eq(h.value, slice_str("x")));
    assert_int_equal(record_headers_next(&c, &h), 0);
    assert_int_equal(record_iter_next(&it, &v, &err), 1);
    assert_int_equal(v.offset, 1002);
    assert_true(v.key.ptr != NULL && v.key.len == 0 && v.value.ptr == NULL);
    assert_int_equal(record_iter_next(&it, &v, &err), 0);
    buf_free(&out);
}

static void checks_and_stamps_a_run(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct err err = ERR_INIT;
    int64_t records = 0;
    int64_t batches = 0;
    for (int i = 0; i < 3; i++) {
        build_samples(&out);
    }
    assert_int_equal(record_single(&out, 5, slice_of(NULL, 0), slice_str("v"), &err), 0);
    assert_int_equal(record_batches_check(out.data, out.len, 1024, &records, &batches, &err), 0);
    assert_int_equal(records, 10);
    assert_int_equal(batches, 4);
    assert_int_equal(record_batches_stamp(out.data, out.len, 40, 1), 50);
    assert_int_equal(record_batches_check(out.data, out.len, 1024, &records, &batches, &err), 0);
    size_t at = 0;
    for (int64_t next = 40; at < out.len;) {
        struct record_batch b;
        assert_int_equal(record_batch_peek(out.data + at, out.len - at, 1024, &b, &err), 0);
        assert_int_equal(b.base_offset, next);
        assert_int_equal(b.leader_epoch, 1);
        next += b.count;
        at += b.bytes;
    }
    out.data[SAMPLE_BYTES + 70] ^= 1; /* in the second batch */
    assert_int_equal(record_batches_check(out.data, out.len, 1024, &records, &batches, &err),
                     ERR_DATA);
    assert_non_null(strstr(err.msg, "batch 1 at byte 96: CRC"));
    assert_int_equal(record_batches_check(out.data, 0, 1024, &records, &batches, &err), ERR_DATA);
    buf_free(&out);
}

static void peek_says_how_much_is_missing(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct record_batch b;
    build_samples(&out);
    for (size_t n = 0; n < SAMPLE_BYTES; n++) {
        b.bytes = 0;
        assert_int_equal(record_batch_peek(out.data, n, 1024, &b, NULL), ERR_LIMIT);
        assert_int_equal(b.bytes, n < RECORD_BATCH_OVERHEAD ? RECORD_BATCH_OVERHEAD : SAMPLE_BYTES);
    }
    assert_int_equal(record_batch_peek(out.data, SAMPLE_BYTES, SAMPLE_BYTES, &b, NULL), 0);
    assert_int_equal(record_batch_peek(out.data, SAMPLE_BYTES, SAMPLE_BYTES - 1, &b, NULL),
                     ERR_DATA);
    buf_free(&out);
}

static void finish_refuses_empty_and_full(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(200);
    struct record_builder b;
    struct err err = ERR_INIT;
    uint8_t big[120] = {0};
    buf_append_str(&out, "before");
    record_builder_begin(&b, &out);
    assert_int_equal(record_builder_finish(&b, &err), ERR_INVAL);
    assert_int_equal(out.len, 6);
    record_builder_begin(&b, &out);
    record_builder_add(&b, 1, slice_str("k"), slice_str("v"), NULL, 0);
    record_builder_add(&b, 1, slice_str("k"), slice_of(big, sizeof(big)), NULL, 0);
    record_builder_add(&b, 1, slice_str("k"), slice_str("v"), NULL, 0);
    assert_int_equal(record_builder_finish(&b, &err), ERR_LIMIT);
    assert_int_equal(out.len, 6);
    buf_free(&out);
    buf_init(&out, 0);
    record_builder_begin(&b, &out);
    record_builder_add(&b, 1, slice_of(big, (size_t)INT32_MAX + 1), slice_str("v"), NULL, 0);
    assert_int_equal(record_builder_finish(&b, &err), ERR_LIMIT);
    buf_free(&out);
}

static void bound_holds(void **state)
{
    (void)state;
    static const uint8_t bytes[300];
    static const size_t sizes[] = {0, 1, 63, 64, 127, 128, 300};
    const struct record_header header = {slice_str("name"), slice_of(bytes, 200)};
    for (size_t i = 0; i < 49; i++) {
        for (size_t n_headers = 0; n_headers < 2; n_headers++) {
            struct buf out = BUF_INIT(0);
            struct record_builder b;
            size_t key = sizes[i % 7];
            size_t value = sizes[i / 7];
            record_builder_begin(&b, &out);
            record_builder_add(&b, 0, slice_str(""), slice_str(""), NULL, 0);
            size_t before = record_builder_bytes(&b);
            record_builder_add(&b, INT64_MAX, slice_of(bytes, key), slice_of(bytes, value), &header,
                               n_headers);
            assert_true(record_builder_bytes(&b) - before <=
                        record_size_bound(key, value, &header, n_headers));
            assert_true(record_builder_finish(&b, NULL) > 0);
            buf_free(&out);
        }
    }
}

/* ---- hostile batches ---- */

/* A block of exactly n bytes with a right CRC. */
static uint8_t *exact_copy(const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n);
    assert_non_null(copy);
    memcpy(copy, p, n);
    return copy;
}

static void mend_crc(uint8_t *p, size_t n)
{
    uint32_t crc = htobe32(codec_crc32c(0, p + 21, n - 21));
    memcpy(p + 17, &crc, sizeof(crc));
}

/* Checks a damaged batch, and walks it without the check, as a reader of a damaged log would. */
static int judge(const uint8_t *p, size_t n, struct err *err)
{
    int64_t records = -1;
    int64_t batches = -1;
    int rc = record_batches_check(p, n, 1 << 20, &records, &batches, err);
    assert_true(rc == 0 || (rc == ERR_DATA && records == -1 && batches == -1));
    struct record_batch b;
    struct record_iter it;
    struct record_view v;
    int64_t walked = 0;
    if (record_batch_peek(p, n, 1 << 20, &b, NULL) != 0 || record_iter_init(&it, &b, NULL) != 0) {
        assert_true(rc != 0 || (b.attributes & 7) != 0);
        return rc;
    }
    int more;
    while ((more = record_iter_next(&it, &v, NULL)) == 1) {
        struct cursor c;
        struct record_header h;
        cursor_init(&c, v.headers, v.headers_len);
        while (record_headers_next(&c, &h) == 1) {
            assert_true(h.value.len <= n);
        }
        assert_true(v.key.len <= n && v.value.len <= n);
        walked++;
    }
    assert_true(rc != 0 || (more == 0 && walked == records));
    return rc;
}

static void every_byte_changed(void **state)
{
    (void)state;
    static const uint8_t values[] = {0x00, 0x01, 0x02, 0x03, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff};
    struct buf out = BUF_INIT(0);
    int taken = 0;
    build_samples(&out);
    for (size_t at = 0; at < SAMPLE_BYTES; at++) {
        for (size_t i = 0; i < sizeof(values) + 8; i++) {
            uint8_t *p = exact_copy(out.data, SAMPLE_BYTES);
            unsigned value = i < sizeof(values) ? values[i] : p[at] ^ 1u << (i - sizeof(values));
            p[at] = (uint8_t)value;
            if (p[at] == out.data[at]) {
                free(p);
                continue;
            }
            /* Not mended: only what the CRC doesn't cover may pass: base offset and epoch. */
            int rc = judge(p, SAMPLE_BYTES, NULL);
            assert_true(rc == ERR_DATA || at < 8 || (at >= 12 && at < 16));
            mend_crc(p, SAMPLE_BYTES);
            taken += judge(p, SAMPLE_BYTES, NULL) == 0;
            free(p);
        }
    }
    assert_true(taken > 0); /* keys, values: the walk was reached */
    buf_free(&out);
}

static void every_cut_and_every_varint(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    build_samples(&out);
    for (size_t n = 1; n < SAMPLE_BYTES; n++) {
        uint8_t *p = exact_copy(out.data, n);
        assert_int_equal(judge(p, n, NULL), ERR_DATA);
        free(p);
        if (n < RECORD_BATCH_OVERHEAD) {
            continue;
        }
        p = exact_copy(out.data, n); /* the length says so, too */
        uint32_t length = htobe32((uint32_t)(n - RECORD_LOG_OVERHEAD));
        memcpy(p + 8, &length, sizeof(length));
        mend_crc(p, n);
        assert_int_equal(judge(p, n, NULL), ERR_DATA);
        free(p);
        p = exact_copy(out.data, SAMPLE_BYTES); /* a varint that means nearly 2^31 */
        for (size_t i = 0; i < 5 && n + i < SAMPLE_BYTES; i++) {
            p[n + i] = i < 4 ? 0xfe : 0x0f;
        }
        mend_crc(p, SAMPLE_BYTES);
        (void)judge(p, SAMPLE_BYTES, NULL);
        free(p);
    }
    buf_free(&out);
}

static void refuses_by_name(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t bytes[6];
        size_t n;
        const char *says;
    } cases[] = {
        {0, {0xff}, 1, "base offset"},
        {8, {0xff, 0xff, 0xff, 0xff}, 4, "length -1"},
        {8, {0, 0, 0, 48}, 4, "below its header"},
        {8, {0x7f, 0xff, 0xff, 0xff}, 4, "exceeds the limit"},
        {8, {0, 0, 0, 83}, 4, ""},
        {16, {1}, 1, "magic 1"},
        {22, {5}, 1, "attributes 0x0005"},
        {22, {8}, 1, "attributes 0x0008"},
        {22, {0x10}, 1, "attributes 0x0010"},
        {22, {0x20}, 1, "attributes 0x0020"},
        {22, {0x40}, 1, "attributes 0x0040"},
        {21, {0x80}, 1, "attributes 0x8000"},
        {26, {1}, 1, "does not fit last offset delta 1"},
        {23, {0x80}, 1, "negative"},
        {27, {0x80}, 1, "timestamps out of range"},
        {42, {0xc9}, 1, "but its newest record has"},
        {42, {0xc7}, 1, "outside -1..1700000000199"},
        {43, {0}, 1, "producer id"},
        {52, {0}, 1, "producer id"},
        {56, {0}, 1, "producer id"},
        {60, {0}, 1, "does not fit"},
        {60, {2}, 1, "does not fit"},
        {57, {0x80}, 1, "negative"},
        {61, {0x16}, 1, "record 0 of 3 at byte 61: bad header count"},
        {61, {0x01}, 1, "record 0 of 3 at byte 61: bad length"},
        {64, {0x02}, 1, "record 0 has offset delta 1"},
        {64, {0x01}, 1, "bad offset delta"},
        {65, {0x03}, 1, "bad key length"},
        {67, {0x08, 0x76, 0x61, 0x6c, 0x75, 0}, 6, "bytes left over"},
        {73, {0x08}, 1, "bad header count"},
        {73, {0x01}, 1, "bad header count"},
        {80, {0x02}, 1, "malformed headers"},
        {81, {0x02}, 1, "malformed headers"},
        {82, {0x01}, 1, "malformed headers"},
        {86, {0x08}, 1, "malformed headers"},
    };
    struct buf out = BUF_INIT(0);
    build_samples(&out);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = ERR_INIT;
        uint8_t *p = exact_copy(out.data, SAMPLE_BYTES);
        memcpy(p + cases[i].at, cases[i].bytes, cases[i].n);
        mend_crc(p, SAMPLE_BYTES);
        assert_int_equal(judge(p, SAMPLE_BYTES, &err), ERR_DATA);
        if (strstr(err.msg, cases[i].says) == NULL) {
            print_error("case %zu: %s\n", i, err.msg);
        }
        assert_non_null(strstr(err.msg, cases[i].says));
        assert_non_null(strstr(err.msg, "batch 0 at byte 0"));
        free(p);
    }
    buf_free(&out);
}

/* A compressed batch stays opaque to the check and is refused by the walk. */
static void compressed_is_opaque(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct err err = ERR_INIT;
    struct record_batch b;
    struct record_iter it;
    int64_t records;
    int64_t batches;
    build_samples(&out);
    out.data[22] = RECORD_CODEC_ZSTD;
    memset(out.data + 61, 0xee, SAMPLE_BYTES - 61);
    mend_crc(out.data, SAMPLE_BYTES);
    assert_int_equal(record_batches_check(out.data, out.len, 1024, &records, &batches, &err), 0);
    assert_int_equal(records, 3);
    assert_int_equal(record_batch_peek(out.data, out.len, 1024, &b, &err), 0);
    assert_int_equal(record_iter_init(&it, &b, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "codec 4"));
    buf_free(&out);
}

static void log_append_time_is_the_batchs(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct record_batch b;
    struct record_iter it;
    struct record_view v;
    build_samples(&out);
    out.data[22] = 8;
    assert_int_equal(record_batch_peek(out.data, out.len, 1024, &b, NULL), 0);
    assert_int_equal(record_iter_init(&it, &b, NULL), 0);
    assert_int_equal(record_iter_next(&it, &v, NULL), 1);
    assert_true(v.timestamp_ms == 1700000000200);
    buf_free(&out);
}

/* The vectors of Kafka's own UtilsTest. */
static void murmur2_is_kafkas(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int32_t hash;
    } cases[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t hash = record_murmur2(cases[i].key, strlen(cases[i].key));
        assert_int_equal((int32_t)hash, cases[i].hash);
        int32_t p = record_partition_for_key(slice_str(cases[i].key), 7);
        assert_int_equal(p, (cases[i].hash & INT32_MAX) % 7);
    }
    assert_int_equal(record_partition_for_key(slice_str(""), 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_the_reference_bytes),
        cmocka_unit_test(gives_back_what_it_was_given),
        cmocka_unit_test(checks_and_stamps_a_run),
        cmocka_unit_test(peek_says_how_much_is_missing),
        cmocka_unit_test(finish_refuses_empty_and_full),
        cmocka_unit_test(bound_holds),
        cmocka_unit_test(every_byte_changed),
        cmocka_unit_test(every_cut_and_every_varint),
        cmocka_unit_test(refuses_by_name),
        cmocka_unit_test(compressed_is_opaque),
        cmocka_unit_test(log_append_time_is_the_batchs),
        cmocka_unit_test(murmur2_is_kafkas),
    };
    int failed = cmocka_run_group_tests_name("record", tests, NULL, NULL);
    failed += json_tests();
    failed += converter_tests();
    return failed != 0;
}
