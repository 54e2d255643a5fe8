/* record: JSON texts to values and back. */
#include "record_tests.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/file.h"
#include "connectd/sdk.h"
#include "record/record.h"

static int parse(struct arena *a, const char *text, ctd_value *ret, struct err *err)
{
    /* A block of exactly n bytes, freed before the tree is read. */
    size_t n = strlen(text);
    char *exact = malloc(n > 0 ? n : 1);
    assert_non_null(exact);
    memcpy(exact, text, n);
    int rc = record_json_parse(exact, n, a, ret, err);
    free(exact);
    return rc;
}

/* The text that comes back; in the arena. */
static const char *round_trip(struct arena *a, const char *text)
{
    ctd_value v;
    struct buf out = BUF_INIT(0);
    struct err err = ERR_INIT;
    if (parse(a, text, &v, &err) != 0 || record_json_write(&v, &out, &err) != 0) {
        fail_msg("%s: %s", text, err.msg);
    }
    const char *back = arena_strdup(a, buf_cstr(&out));
    buf_free(&out);
    return back;
}

static void maps_types(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    ctd_value v;
    assert_int_equal(
        parse(a, " {\"b\":[1,2.5,true,null,\"x\\u00e9\\n\"],\"a\":{},\"b\":-0} ", &v, NULL), 0);
    assert_int_equal(v.type, CTD_MAP);
    assert_int_equal(v.len, 3);
    assert_int_equal(v.u.items[0].type, CTD_STRING);
    const ctd_value *array = &v.u.items[1];
    assert_int_equal(array->type, CTD_ARRAY);
    assert_int_equal(array->len, 5);
    assert_int_equal(array->u.items[0].type, CTD_I64);
    assert_int_equal(array->u.items[0].u.i, 1);
    assert_int_equal(array->u.items[1].type, CTD_F64);
    assert_true(array->u.items[1].u.f64 > 2.4 && array->u.items[1].u.f64 < 2.6);
    assert_int_equal(array->u.items[2].type, CTD_BOOL);
    assert_int_equal(array->u.items[2].u.i, 1);
    assert_int_equal(array->u.items[3].type, CTD_NULL);
    assert_int_equal(array->u.items[4].len, 4);
    assert_memory_equal(array->u.items[4].u.str, "x\xC3\xA9\n", 4);
    assert_int_equal(ctd_map_get(&v, "a")->type, CTD_MAP);
    assert_int_equal(ctd_map_get(&v, "a")->len, 0);
    assert_int_equal(ctd_map_get(&v, "b")->type, CTD_I64); /* the last of equal keys */
    assert_null(ctd_map_get(&v, "c"));
    arena_free(a);
}

static void numbers_come_back(void **state)
{
    (void)state;
    static const char *const same[] = {
        "0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "1e999",
        "-1.5E+400",
        "0.1",
        "-0.04214",
        "1.5",
        "3.0",
        "-118.6671667",
        "0.30000000000000004",
        "1e+300",
        "5e-324",
        "1.7976931348623157e+308",
        "[1,12345678901234567890123,\"12345678901234567890123\",1e400,0.5]",
        "{\"1e999\":1e999,\"a\\\"1e999\":[{\"x\":-1e999}],\"1e999\":\"1e999\"}",
    };
    struct arena *a = arena_new(0);
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        assert_string_equal(round_trip(a, same[i]), same[i]);
    }
    ctd_value v;
    assert_int_equal(parse(a, "9223372036854775808", &v, NULL), 0);
    assert_int_equal(v.type, CTD_STRING);
    assert_int_equal(v.flags, CTD_VF_RAW_JSON);
    assert_int_equal(parse(a, "[\"1e999\",1e999]", &v, NULL), 0);
    assert_int_equal(v.u.items[0].flags, 0);
    assert_int_equal(v.u.items[1].flags, CTD_VF_RAW_JSON);
    arena_free(a);
}

static void doubles_read_back_exactly(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        double d;
        if (i % 2 == 0) {
            memcpy(&d, &seed, sizeof(d));
        } else { /* a short decimal */
            d = (double)(int64_t)(seed % 2000001 - 1000000) / (double)(1 + seed % 1000);
        }
        if (!isfinite(d)) {
            continue;
        }
        ctd_value v = ctd_v_f64(d);
        ctd_value back;
        struct buf out = BUF_INIT(0);
        assert_int_equal(record_json_write(&v, &out, NULL), 0);
        assert_int_equal(parse(a, buf_cstr(&out), &back, NULL), 0);
        assert_int_equal(back.type, CTD_F64);
        assert_memory_equal(&back.u.f64, &d, sizeof(d));
        buf_free(&out);
        arena_reset(a);
    }
    arena_free(a);
}

static void writes_every_type(void **state)
{
    (void)state;
    ctd_value single = ctd_v_null();
    single.type = CTD_F32;
    single.u.f32 = 0.1f;
    const ctd_value pairs[] = {ctd_v_cstr("s"), ctd_v_cstr("\"\\/\b\f\n\r\t\x01\x7f\xE2\x82\xAC"),
                               ctd_v_cstr("b"), ctd_v_bytes("\x00\xff\x10", 3),
                               ctd_v_cstr("f"), single,
                               ctd_v_cstr("n"), ctd_v_null(),
                               ctd_v_cstr("i"), ctd_v_i32(-7),
                               ctd_v_cstr("r"), ctd_v_raw_json(" {\"x\": 1e0 }\n", 13)};
    const ctd_value keyed[] = {ctd_v_i64(1), ctd_v_bool(1), ctd_v_cstr("k"), ctd_v_bool(0)};
    ctd_value v = ctd_v_map(pairs, 6);
    struct buf out = BUF_INIT(0);
    assert_int_equal(record_json_write(&v, &out, NULL), 0);
    assert_string_equal(buf_cstr(&out),
                        "{\"s\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\x7f\xE2\x82\xAC\","
                        "\"b\":\"AP8Q\",\"f\":0.1,\"n\":null,\"i\":-7,\"r\":{\"x\": 1e0 }}");
    buf_clear(&out);
    v = ctd_v_map(keyed, 2); /* keys that aren't strings: an array of pairs, as in Connect */
    assert_int_equal(record_json_write(&v, &out, NULL), 0);
    assert_string_equal(buf_cstr(&out), "[[1,true],[\"k\",false]]");
    buf_free(&out);
}

static void refuses_what_json_cannot_hold(void **state)
{
    (void)state;
    ctd_value nested[70];
    ctd_value bad[5] = {ctd_v_f64(NAN), ctd_v_f64(INFINITY), ctd_v_string("a\xff", 2), ctd_v_null(),
                        ctd_v_string("\xED\xA0\x80", 3)};
    for (size_t i = 0; i < 69; i++) {
        nested[i] = ctd_v_array(&nested[i + 1], 1);
    }
    nested[69] = ctd_v_null();
    bad[3] = nested[0];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf out = BUF_INIT(0);
        struct err err = ERR_INIT;
        buf_append_str(&out, "kept");
        assert_int_equal(record_json_write(&bad[i], &out, &err), ERR_DATA);
        assert_true(err.msg[0] != '\0');
        assert_string_equal(buf_cstr(&out), "kept");
        buf_free(&out);
    }
    struct buf small = BUF_INIT(8);
    ctd_value v = ctd_v_cstr("more than eight");
    assert_int_equal(record_json_write(&v, &small, NULL), ERR_LIMIT);
    buf_free(&small);
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",        " ",         "{",  "[1,]",     "{\"a\":}", "{\"a\" 1}", "{a:1}",
        "01",      "1.",        "+1", "nul",      "\"\x01\"", "\"a",       "\"\\x\"",
        "[1] 2",   "1e999x",    "-",  "[1e999,",  "\"\xff\"", "'a'",       "\"\\ud800\"",
        "--1e999", "1e99999 1", ".5", "[01e999]",
    };
    struct arena *a = arena_new(0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err = ERR_INIT;
        ctd_value v = ctd_v_i64(42);
        int rc = parse(a, bad[i], &v, &err);
        if (rc != ERR_DATA) {
            print_error("case %zu: %s\n", i, bad[i]);
        }
        assert_int_equal(rc, ERR_DATA);
        assert_int_equal(v.u.i, 42);
        assert_non_null(strstr(err.msg, "not a JSON text"));
    }
    arena_free(a);
}

static void depth_is_limited(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    char text[200];
    ctd_value v;
    for (int depth = 60; depth <= 70; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        assert_int_equal(parse(a, text, &v, NULL), depth <= 64 ? 0 : ERR_DATA);
    }
    char *bomb = malloc(1000001);
    assert_non_null(bomb);
    memset(bomb, '[', 1000000);
    bomb[1000000] = '\0';
    assert_int_equal(parse(a, bomb, &v, NULL), ERR_DATA);
    free(bomb);
    arena_free(a);
}

static void small_arenas_run_out(void **state)
{
    (void)state;
    struct arena *a = arena_new(4096);
    struct buf text = BUF_INIT(0);
    ctd_value v = ctd_v_i64(42);
    buf_append_str(&text, "[0");
    for (int i = 0; i < 2000; i++) {
        buf_append_str(&text, ",1");
    }
    buf_append_str(&text, "]");
    assert_int_equal(record_json_parse(text.data, text.len, a, &v, NULL), ERR_NOMEM);
    assert_int_equal(v.u.i, 42);
    buf_free(&text);
    arena_free(a);
}

/* Larger than what the parser keeps, then small again, then with numbers beyond: each gives the right tree. */
static void large_texts(void **state)
{
    (void)state;
    struct arena *a = arena_new((size_t)256 << 20);
    struct buf text = BUF_INIT(0);
    ctd_value v;
    for (int round = 0; round < 2; round++) {
        buf_clear(&text);
        buf_append_str(&text, "[");
        for (int i = 0; i < 300000; i++) {
            buf_printf(&text, "%d,", i);
        }
        buf_append_str(&text, round == 0 ? "\"end\"]" : "1e999]");
        assert_int_equal(record_json_parse(text.data, text.len, a, &v, NULL), 0);
        assert_int_equal(v.len, 300001);
        assert_int_equal(v.u.items[299999].u.i, 299999);
        assert_int_equal(v.u.items[300000].flags, round == 0 ? 0 : CTD_VF_RAW_JSON);
        assert_string_equal(round_trip(a, "[1]"), "[1]");
    }
    buf_free(&text);
    arena_free(a);
}

/* Real lines: those with plain numbers come back byte for byte. */
static size_t round_trip_lines(const char *path, size_t *ret_same)
{
    struct arena *a = arena_new(0);
    struct buf file = BUF_INIT(0);
    struct err err = ERR_INIT;
    size_t n = 0;
    *ret_same = 0;
    if (file_read(path, 4 << 20, &file, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    for (char *line = (char *)file.data, *end = line + file.len; line < end; n++) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t len = (size_t)((newline != NULL ? newline : end) - line);
        ctd_value first;
        ctd_value second;
        struct buf out = BUF_INIT(0);
        assert_int_equal(record_json_parse(line, len, a, &first, &err), 0);
        assert_int_equal(record_json_write(&first, &out, &err), 0);
        assert_int_equal(record_json_parse(out.data, out.len, a, &second, &err), 0);
        assert_true(ctd_v_equal(&first, &second));
        *ret_same += out.len == len && memcmp(out.data, line, len) == 0;
        buf_free(&out);
        arena_reset(a);
        line += len + 1;
    }
    buf_free(&file);
    arena_free(a);
    return n;
}

static void real_lines_come_back(void **state)
{
    (void)state;
    size_t same;
    assert_int_equal(round_trip_lines(SOURCE_DIR "/tests/data/flights.jsonl", &same), 2000);
    assert_int_equal(same, 2000);
    assert_int_equal(round_trip_lines(SOURCE_DIR "/demo/earthquakes.jsonl", &same), 500);
    assert_int_equal(same, 500);
}

static void *parse_in_a_thread(void *failed)
{
    struct arena *a = arena_new(0);
    for (int i = 0; i < 2000; i++) {
        ctd_value v;
        char text[64];
        (void)snprintf(text, sizeof(text), "{\"i\":%d,\"big\":1e%d}", i, 300 + i % 20);
        *(int *)failed |= record_json_parse(text, strlen(text), a, &v, NULL) != 0 ||
                          ctd_map_i64(&v, "i", -1) != i;
        arena_reset(a);
    }
    arena_free(a);
    return NULL;
}

static void threads_have_parsers_of_their_own(void **state)
{
    (void)state;
    pthread_t threads[3];
    int failed[3] = {0, 0, 0};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, parse_in_a_thread, &failed[i]), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(failed[i], 0);
    }
}

int json_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_types),
        cmocka_unit_test(numbers_come_back),
        cmocka_unit_test(doubles_read_back_exactly),
        cmocka_unit_test(writes_every_type),
        cmocka_unit_test(refuses_what_json_cannot_hold),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(small_arenas_run_out),
        cmocka_unit_test(large_texts),
        cmocka_unit_test(real_lines_come_back),
        cmocka_unit_test(threads_have_parsers_of_their_own),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
