/* codec: checksums, varints, SHA-256, base64, jansson's wrapper. */
#include "codec_tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/codec.h"
#include "codec/json.h"

static void crc_is_castagnoli(void **state)
{
    (void)state;
    assert_int_equal(codec_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(codec_crc32c(0, "", 0), 0);
    /* RFC 3720, B.4: 32 bytes of zero, of ones, ascending */
    uint8_t block[32];
    memset(block, 0, sizeof(block));
    assert_int_equal(codec_crc32c(0, block, 32), 0x8a9136aa);
    memset(block, 0xff, sizeof(block));
    assert_int_equal(codec_crc32c(0, block, 32), 0x62a8ab43);
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = (uint8_t)i;
    }
    assert_int_equal(codec_crc32c(0, block, 32), 0x46dd794e);
}

static void crc_goes_on_at_any_cut(void **state)
{
    (void)state;
    uint8_t block[300];
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = (uint8_t)(i * 7);
    }
    uint32_t whole = codec_crc32c(0, block, sizeof(block));
    for (size_t cut = 0; cut <= sizeof(block); cut++) {
        uint32_t crc = codec_crc32c(0, block, cut);
        assert_int_equal(codec_crc32c(crc, block + cut, sizeof(block) - cut), whole);
    }
    block[150] ^= 1;
    assert_int_not_equal(codec_crc32c(0, block, sizeof(block)), whole);
}

static void varints_have_kafkas_bytes(void **state)
{
    (void)state;
    /* zig-zag by hand: n >= 0 is 2n, n < 0 is -2n-1 */
    static const struct {
        int64_t v;
        size_t n;
        uint8_t bytes[10];
    } cases[] = {
        {0, 1, {0x00}},
        {-1, 1, {0x01}},
        {1, 1, {0x02}},
        {63, 1, {0x7e}},
        {-64, 1, {0x7f}},
        {64, 2, {0x80, 0x01}},
        {-65, 2, {0x81, 0x01}},
        {8191, 2, {0xfe, 0x7f}},
        {8192, 3, {0x80, 0x80, 0x01}},
        {INT32_MAX, 5, {0xfe, 0xff, 0xff, 0xff, 0x0f}},
        {INT32_MIN, 5, {0xff, 0xff, 0xff, 0xff, 0x0f}},
        {INT64_MAX, 10, {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
        {INT64_MIN, 10, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t out[10];
        int64_t back;
        assert_int_equal(codec_varlong_put(out, cases[i].v), cases[i].n);
        assert_memory_equal(out, cases[i].bytes, cases[i].n);
        assert_int_equal(codec_varlong_size(cases[i].v), cases[i].n);
        assert_int_equal(codec_varlong_get(out, sizeof(out), &back), cases[i].n);
        assert_true(back == cases[i].v);
        if (cases[i].v < INT32_MIN || cases[i].v > INT32_MAX) {
            continue;
        }
        int32_t small;
        assert_int_equal(codec_varint_put(out, (int32_t)cases[i].v), cases[i].n);
        assert_memory_equal(out, cases[i].bytes, cases[i].n);
        assert_int_equal(codec_varint_size((int32_t)cases[i].v), cases[i].n);
        assert_int_equal(codec_varint_get(out, cases[i].n, &small), cases[i].n);
        assert_int_equal(small, cases[i].v);
    }
}

static void varints_refuse_short_and_long(void **state)
{
    (void)state;
    const uint8_t endless[11] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    const uint8_t wide[] = {0xff, 0xff, 0xff, 0xff, 0x10}; /* bit 32 */
    const uint8_t wider[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                             0xff, 0xff, 0xff, 0xff, 0x02}; /* bit 64 */
    int32_t v = 42;
    int64_t w = 42;
    for (size_t n = 0; n < 5; n++) {
        assert_int_equal(codec_varint_get(endless, n, &v), 0);
    }
    assert_int_equal(codec_varint_get(endless, sizeof(endless), &v), 0);
    assert_int_equal(codec_varlong_get(endless, sizeof(endless), &w), 0);
    assert_int_equal(codec_varint_get(wide, sizeof(wide), &v), 0);
    assert_int_equal(codec_varlong_get(wider, sizeof(wider), &w), 0);
    assert_int_equal(v, 42);
    assert_true(w == 42);
}

static void sha256_of_a_file(void **state)
{
    (void)state;
    char path[] = "/tmp/test_codec_XXXXXX";
    int fd = mkstemp(path);
    char hex[65];
    struct err err = ERR_INIT;
    assert_true(fd >= 0);
    assert_int_equal(codec_sha256_file(path, hex, &err), 0);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(file_write_full(fd, "abc", 3, path, &err), 0);
    assert_int_equal(codec_sha256_file(path, hex, &err), 0);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(codec_sha256_file(path, hex, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(codec_sha256_file("/tmp", hex, &err), ERR_IO);
}

static void base64_of_rfc4648(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct buf text = BUF_INIT(0);
        struct buf back = BUF_INIT(0);
        codec_base64_put(&text, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(buf_cstr(&text), pairs[i][1]);
        assert_int_equal(codec_base64_get(pairs[i][1], strlen(pairs[i][1]), &back, NULL), 0);
        assert_string_equal(buf_cstr(&back), pairs[i][0]);
        buf_free(&text);
        buf_free(&back);
    }
}

static void base64_refuses_the_rest(void **state)
{
    (void)state;
    static const char *const bad[] = {"Z",    "Zg",   "Zg=",  "Zg==\n",   "Z===",     "====",
                                      "Zm9=", "Zh==", "Z g=", "Zg==Zg==", "Zm9v!AAA", "-_-_"};
    struct buf out = BUF_INIT(0);
    buf_append_str(&out, "kept");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(codec_base64_get(bad[i], strlen(bad[i]), &out, &err), ERR_DATA);
        assert_string_equal(buf_cstr(&out), "kept");
    }
    buf_free(&out);
}

static void json_keeps_order_and_refuses_twice(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    const char text[] = "{\"z\":1,\"a\":[true,null,\"\xc3\xa9\"]}";
    json_t *v = codec_json_parse(text, sizeof(text) - 1, &err);
    struct buf out = BUF_INIT(0);
    assert_non_null(v);
    codec_json_write(v, &out);
    assert_string_equal(buf_cstr(&out), text);
    json_decref(v);
    buf_free(&out);
    assert_null(codec_json_parse("{\"a\":1,\"a\":2}", 13, &err));
    assert_int_equal(err.code, ERR_DATA);
    assert_null(codec_json_parse("{\n \"a\" 1}", 9, &err));
    assert_non_null(strstr(err.msg, "line 2"));
    assert_null(codec_json_parse("", 0, &err));
    v = codec_json_parse("7", 1, &err);
    assert_int_equal(json_integer_value(v), 7);
    json_decref(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_is_castagnoli),
        cmocka_unit_test(crc_goes_on_at_any_cut),
        cmocka_unit_test(varints_have_kafkas_bytes),
        cmocka_unit_test(varints_refuse_short_and_long),
        cmocka_unit_test(sha256_of_a_file),
        cmocka_unit_test(base64_of_rfc4648),
        cmocka_unit_test(base64_refuses_the_rest),
        cmocka_unit_test(json_keeps_order_and_refuses_twice),
    };
    int failed = cmocka_run_group_tests_name("codec", tests, NULL, NULL);
    failed += yaml_tests();
    failed += text_tests();
    return failed != 0;
}
