/* The SDK's helpers: errors, logs, options, values, JSON texts. */
#include "sdk_tests.h"

#include <connectd/sdk.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- errors ---- */

static void errors_are_filled(void **state)
{
    (void)state;
    ctd_error err;
    memset(&err, 0xee, sizeof(err));
    assert_int_equal(ctd_fail(&err, CTD_E_CONFIG, "%s is %d", "x", 7), CTD_E_CONFIG);
    assert_int_equal(err.status, CTD_E_CONFIG);
    assert_string_equal(err.message, "x is 7");
    assert_int_equal(err.record_index, -1);
    assert_int_equal(err.retry_after_ms, -1);
    assert_int_equal(err.sys_errno, 0);
    assert_int_equal(err.reserved[0], 0);
    assert_int_equal(ctd_fail_record(&err, 12, "bad"), CTD_E_DATA);
    assert_int_equal(err.record_index, 12);
    assert_int_equal(ctd_fail_retry(&err, 500, "later"), CTD_E_RETRIABLE);
    assert_int_equal(err.retry_after_ms, 500);
    errno = EACCES;
    assert_int_equal(ctd_fail_errno(&err, CTD_E_IO, "file"), CTD_E_IO);
    assert_string_equal(err.message, "file: Permission denied");
    assert_int_equal(err.sys_errno, EACCES);
    assert_int_equal(errno, EACCES);
    assert_int_equal(ctd_fail(NULL, CTD_E_IO, "x"), CTD_E_IO);
    assert_int_equal(ctd_fail_errno(NULL, CTD_E_IO, "x"), CTD_E_IO);
    assert_int_equal(ctd_fail_record(NULL, 1, "x"), CTD_E_DATA);
}

/* A long message ends with a whole character, whatever the cut falls on. */
static void messages_are_cut_at_characters(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t k = 0; k < 4; k++) {
        for (size_t shift = 0; shift < 4; shift++) {
            char text[2000];
            size_t n = shift;
            size_t width = strlen(characters[k]);
            ctd_error err;
            memset(text, 'a', n);
            for (; n + width < sizeof(text); n += width) {
                memcpy(text + n, characters[k], width);
            }
            text[n] = '\0';
            assert_int_equal(ctd_fail(&err, CTD_E_IO, "%s", text), CTD_E_IO);
            size_t len = strlen(err.message);
            assert_in_range(len, sizeof(err.message) - 4, sizeof(err.message) - 1);
            assert_int_equal((len - shift) % width, 0);
            assert_memory_equal(err.message, text, len);
        }
    }
}

/* ---- a host ---- */

static char logged[2048];
static int level_limit;

static int32_t log_enabled(const ctd_host *h, int32_t level)
{
    (void)h;
    return level <= level_limit;
}

static void log_line(const ctd_host *h, int32_t level, const char *message)
{
    (void)h;
    (void)level;
    assert_true(strlen(message) < sizeof(logged));
    memcpy(logged, message, strlen(message) + 1);
}

static ctd_status cfg_str(const ctd_host *h, const ctd_config *c, const char *key, ctd_slice *ret)
{
    (void)h;
    (void)c;
    if (strcmp(key, "name") != 0) {
        return CTD_E_CONFIG;
    }
    *ret = ctd_slice_of("value and more", 5);
    return CTD_OK;
}

static ctd_status cfg_i64(const ctd_host *h, const ctd_config *c, const char *key, int64_t *ret)
{
    (void)h;
    (void)c;
    if (strcmp(key, "number") != 0) {
        return CTD_E_CONFIG;
    }
    *ret = 7;
    return CTD_OK;
}

static const ctd_host host = {.struct_size = sizeof(ctd_host),
                              .log_enabled = log_enabled,
                              .log = log_line,
                              .cfg_str = cfg_str,
                              .cfg_i64 = cfg_i64};

static void options_have_defaults(void **state)
{
    (void)state;
    assert_int_equal(ctd_cfg_i64(&host, NULL, "number", 3), 7);
    assert_int_equal(ctd_cfg_i64(&host, NULL, "other", 3), 3);
    assert_int_equal(ctd_cfg_bool(&host, NULL, "number", 0), 1);
    assert_int_equal(ctd_cfg_bool(&host, NULL, "other", 0), 0);
    assert_true(ctd_slice_is(ctd_cfg_slice(&host, NULL, "name"), "value"));
    assert_null(ctd_cfg_slice(&host, NULL, "other").ptr);
    char *text = ctd_cfg_dup(&host, NULL, "name", NULL);
    assert_string_equal(text, "value");
    free(text);
    text = ctd_cfg_dup(&host, NULL, "other", "default");
    assert_string_equal(text, "default");
    free(text);
    assert_null(ctd_cfg_dup(&host, NULL, "other", NULL));
}

static void logs_when_enabled(void **state)
{
    (void)state;
    level_limit = CTD_LOG_INFO;
    ctd_log(&host, CTD_LOG_INFO, "n=%d", 1);
    assert_string_equal(logged, "n=1");
    ctd_log(&host, CTD_LOG_DEBUG, "n=%d", 2);
    assert_string_equal(logged, "n=1");
    char big[3000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    ctd_log(&host, CTD_LOG_ERROR, "%s", big);
    assert_int_equal(strlen(logged), 1023);
}

static void probes_see_what_is_there(void **state)
{
    (void)state;
    ctd_host old = {.struct_size = offsetof(ctd_host, cfg_at), .progress = NULL, .log = log_line};
    assert_true(CTD_HAS(&old, log));
    assert_false(CTD_HAS(&old, progress));
    old.cfg_at = (ctd_status(*)(const ctd_host *, const ctd_config *, uint64_t, ctd_slice *,
                                ctd_slice *))(uintptr_t)1; /* memory behind an old host's struct */
    assert_false(CTD_HAS(&old, cfg_at));
    ctd_sink sink = {.base = {.struct_size = offsetof(ctd_sink, alter_offsets)}};
    assert_false(CTD_HAS_OP(&sink, alter_offsets));
}

/* ---- values ---- */

static void maps_are_read(void **state)
{
    (void)state;
    const ctd_value pairs[] = {ctd_v_cstr("a"), ctd_v_i64(1), ctd_v_cstr("s"), ctd_v_cstr("text"),
                               ctd_v_i64(3),    ctd_v_null(), ctd_v_cstr("a"), ctd_v_i32(2)};
    ctd_value map = ctd_v_map(pairs, 4);
    assert_ptr_equal(ctd_map_get(&map, "a"), &pairs[7]);
    assert_null(ctd_map_get(&map, "aa"));
    assert_null(ctd_map_get(&map, ""));
    assert_null(ctd_map_get(&pairs[0], "a"));
    assert_null(ctd_map_get(NULL, "a"));
    assert_int_equal(ctd_map_i64(&map, "a", -1), 2);
    assert_int_equal(ctd_map_i64(&map, "s", -1), -1);
    assert_true(ctd_slice_is(ctd_map_str(&map, "s"), "text"));
    assert_null(ctd_map_str(&map, "a").ptr);
    assert_true(ctd_v_is_null(NULL) && ctd_v_is_null(&pairs[5]) && !ctd_v_is_null(&pairs[0]));
}

static void values_compare(void **state)
{
    (void)state;
    const ctd_value one[] = {ctd_v_cstr("a"), ctd_v_i64(1), ctd_v_cstr("b"), ctd_v_null()};
    const ctd_value two[] = {ctd_v_cstr("b"), ctd_v_null(), ctd_v_cstr("a"), ctd_v_i32(1)};
    const ctd_value three[] = {ctd_v_cstr("b"), ctd_v_null(), ctd_v_cstr("a"), ctd_v_i32(2)};
    ctd_value a = ctd_v_map(one, 2);
    ctd_value b = ctd_v_map(two, 2);
    ctd_value c = ctd_v_map(three, 2);
    assert_true(ctd_v_equal(&a, &b) && ctd_v_equal(&b, &a));
    assert_false(ctd_v_equal(&a, &c));
    a = ctd_v_array(one, 4);
    b = ctd_v_array(two, 4);
    assert_false(ctd_v_equal(&a, &b));
    assert_true(ctd_v_equal(&a, &a));
    a = ctd_v_bytes("x", 1);
    b = ctd_v_string("x", 1);
    assert_false(ctd_v_equal(&a, &b));
    a = ctd_v_f64(0.5);
    b = ctd_v_f64(0.5);
    assert_true(ctd_v_equal(&a, &b));
    a = ctd_v_bool(1);
    b = ctd_v_i64(1);
    assert_false(ctd_v_equal(&a, &b));
}

/* Escapes at every place relative to the eight bytes that are looked at together. */
static void json_escapes_anywhere(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *out;
    } odd[] = {{"\"", "\\\""},      {"\\", "\\\\"},           {"\n", "\\n"},
               {"\x1f", "\\u001f"}, {"\xC3\xA9", "\xC3\xA9"}, {"\x7f", "\x7f"}};
    for (size_t k = 0; k < sizeof(odd) / sizeof(odd[0]); k++) {
        for (size_t before = 0; before < 20; before++) {
            char raw[64];
            char expected[64];
            ctd_text text = {0};
            (void)snprintf(raw, sizeof(raw), "%.*s%sbcdefghijk", (int)before,
                           "aaaaaaaaaaaaaaaaaaaa", odd[k].raw);
            (void)snprintf(expected, sizeof(expected), "\"%.*s%sbcdefghijk\"", (int)before,
                           "aaaaaaaaaaaaaaaaaaaa", odd[k].out);
            ctd_value v = ctd_v_cstr(raw);
            assert_int_equal(ctd_json_write(&text, &v, NULL), CTD_OK);
            assert_int_equal(text.len, strlen(expected));
            assert_memory_equal(text.ptr, expected, text.len);
            ctd_text_free(&text);
        }
    }
}

static void json_failures_leave_the_text(void **state)
{
    (void)state;
    ctd_text text = {.limit = 10};
    ctd_error err;
    ctd_value v = ctd_v_cstr("12345");
    assert_int_equal(ctd_json_write(&text, &v, &err), CTD_OK);
    assert_int_equal(text.len, 7);
    assert_int_equal(ctd_json_write(&text, &v, &err), CTD_E_DATA);
    assert_non_null(strstr(err.message, "limit of 10 bytes"));
    assert_int_equal(text.len, 7);
    ctd_value st = ctd_v_array(&v, 1);
    st.type = CTD_STRUCT;
    text.status = CTD_OK;
    assert_int_equal(ctd_json_write(&text, &st, &err), CTD_E_UNSUPPORTED);
    st.type = 99;
    assert_int_equal(ctd_json_write(&text, &st, &err), CTD_E_DATA);
    assert_int_equal(text.len, 7);
    ctd_text_free(&text);
    assert_int_equal(text.limit, 10);
    assert_null(text.ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_filled),
        cmocka_unit_test(messages_are_cut_at_characters),
        cmocka_unit_test(options_have_defaults),
        cmocka_unit_test(logs_when_enabled),
        cmocka_unit_test(probes_see_what_is_there),
        cmocka_unit_test(maps_are_read),
        cmocka_unit_test(values_compare),
        cmocka_unit_test(json_escapes_anywhere),
        cmocka_unit_test(json_failures_leave_the_text),
    };
    int failed = cmocka_run_group_tests_name("sdk", tests, NULL, NULL);
    failed += builder_tests();
    return failed != 0;
}
