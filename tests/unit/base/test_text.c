/* base: maps and texts. */
#include "base_tests.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/map.h"
#include "base/str.h"

/* ---- map ---- */

static int freed;

static void count_free(void *value)
{
    freed++;
    free(value);
}

static void maps_keep_insertion_order(void **state)
{
    (void)state;
    struct map *m = map_new(NULL);
    char key[16];
    static int values[1000];
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i * 7919 % 1000);
        assert_int_equal(map_put(m, key, &values[i]), 0);
    }
    assert_int_equal(map_count(m), 1000);
    for (int i = 0; i < 1000; i += 2) {
        (void)snprintf(key, sizeof(key), "k%d", i * 7919 % 1000);
        assert_int_equal(map_del(m, key), 1);
        assert_int_equal(map_del(m, key), 0);
        assert_null(map_get(m, key));
    }
    int expected = 1;
    const char *k;
    void *v;
    for (size_t i = 0; map_next(m, &i, &k, &v);) {
        assert_ptr_equal(v, &values[expected]);
        assert_ptr_equal(map_get(m, k), v);
        expected += 2;
    }
    assert_int_equal(expected, 1001);
    map_free(m);
    map_free(NULL);
}

static void maps_delete_and_put_in_turn(void **state)
{
    (void)state;
    struct map *m = map_new(NULL);
    char key[16];
    int value = 0;
    for (int i = 0; i < 5000; i++) { /* holes are taken back: it neither loses nor loops */
        (void)snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(map_put(m, key, &value), 0);
        if (i >= 3) {
            (void)snprintf(key, sizeof(key), "k%d", i - 3);
            assert_int_equal(map_del(m, key), 1);
        }
        assert_null(map_get(m, "absent"));
    }
    assert_int_equal(map_count(m), 3);
    const char *k;
    for (size_t i = 0; map_next(m, &i, &k, NULL);) {
        assert_int_equal(map_del(m, k), 1); /* the current one may go */
    }
    assert_int_equal(map_count(m), 0);
    map_free(m);
}

static void maps_free_what_they_own(void **state)
{
    (void)state;
    struct map *m = map_new(count_free);
    freed = 0;
    void *kept = strdup("kept");
    assert_int_equal(map_put(m, "a", strdup("1")), 0);
    assert_int_equal(map_put(m, "a", strdup("2")), 0);
    assert_int_equal(freed, 1);
    assert_int_equal(map_put(m, "b", kept), 0);
    assert_int_equal(map_put(m, "b", kept), 0);
    assert_int_equal(freed, 1);
    assert_int_equal(map_del(m, "a"), 1);
    assert_int_equal(freed, 2);
    map_free(m);
    assert_int_equal(freed, 3);
}

/* ---- str ---- */

static void slices_know_null_from_empty(void **state)
{
    (void)state;
    assert_true(slice_eq(slice_str(NULL), slice_of(NULL, 0)));
    assert_false(slice_eq(slice_str(NULL), slice_str("")));
    assert_true(slice_eq(slice_str(""), slice_of("x", 0)));
    assert_false(slice_eq(slice_str("a"), slice_str("b")));
    assert_true(str_eq(NULL, NULL));
    assert_false(str_eq("a", NULL));
    assert_true(str_starts_with("abc", "ab"));
    assert_false(str_starts_with("a", "ab"));
    assert_true(str_ends_with("abc", "bc"));
    assert_false(str_ends_with("c", "bc"));
}

static void conversions_take_whole_texts(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    " 1", "1 ", "1x", "x", "9223372036854775808",
                                      "--1", "1.5"};
    int64_t i = 42;
    double d = 42;
    int b = 42;
    for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
        assert_int_equal(str_to_i64(bad[k], &i), ERR_INVAL);
    }
    assert_int_equal(i, 42);
    assert_int_equal(str_to_i64("-9223372036854775808", &i), 0);
    assert_true(i == INT64_MIN);
    assert_int_equal(str_to_f64("1.5e3", &d), 0);
    assert_true(d > 1499 && d < 1501);
    assert_int_equal(str_to_f64("1e999", &d), ERR_INVAL);
    assert_int_equal(str_to_f64("", &d), ERR_INVAL);
    assert_int_equal(str_to_f64("1,5", &d), ERR_INVAL);
    assert_int_equal(str_to_bool("TRUE", &b), 0);
    assert_int_equal(b, 1);
    assert_int_equal(str_to_bool("false", &b), 0);
    assert_int_equal(b, 0);
    assert_int_equal(str_to_bool("yes", &b), ERR_INVAL);
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const names[] = {"file", "topic", "batch.size", "tasks.max",
                                        "FileStreamSource"};
    static const char *const pairs[][2] = {
        {"topics", "topic"},
        {"tasks.mx", "tasks.max"},
        {"fiel", "file"},
        {"Topic", "topic"},
        {"batch.siez", "batch.size"},
        {"xyz", NULL},
        {"f", NULL},
        {"filestreamsource", "FileStreamSource"},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        const char *nearest = str_nearest(pairs[i][0], names, 5);
        if (!str_eq(nearest, pairs[i][1])) {
            print_error("%s: %s\n", pairs[i][0], nearest != NULL ? nearest : "none");
        }
        assert_true(str_eq(nearest, pairs[i][1]));
    }
}

static void utf8_to_the_letter(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int ok;
    } cases[] = {
        {"", 1},
        {"plain ascii, longer than eight", 1},
        {"\x7f", 1},
        {"\xC2\x80", 1},
        {"\xDF\xBF", 1},
        {"\xE0\xA0\x80", 1},
        {"\xED\x9F\xBF", 1},
        {"\xEE\x80\x80", 1},
        {"\xEF\xBF\xBF", 1},
        {"\xF0\x90\x80\x80", 1},
        {"\xF4\x8F\xBF\xBF", 1},
        {"12345678\xC3\xA9", 1},
        {"\x80", 0},             /* a lone continuation */
        {"\xC3", 0},             /* cut */
        {"\xE2\x82", 0},         /* cut */
        {"\xF0\x9F\x98", 0},     /* cut */
        {"\xC0\x80", 0},         /* overlong NUL */
        {"\xC1\xBF", 0},         /* overlong */
        {"\xE0\x9F\xBF", 0},     /* overlong */
        {"\xF0\x8F\xBF\xBF", 0}, /* overlong */
        {"\xED\xA0\x80", 0},     /* a surrogate */
        {"\xED\xBF\xBF", 0},     /* a surrogate */
        {"\xF4\x90\x80\x80", 0}, /* beyond U+10FFFF */
        {"\xF5\x80\x80\x80", 0},
        {"\xFF", 0},
        {"\xC3\x28", 0},
        {"1234567\xff", 0},
        {"12345678\xff", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = strlen(cases[i].text);
        char *exact = malloc(n > 0 ? n : 1);
        assert_non_null(exact);
        memcpy(exact, cases[i].text, n);
        assert_int_equal(str_is_utf8(exact, n), cases[i].ok);
        free(exact);
    }
}

static void topic_names(void **state)
{
    (void)state;
    char longest[251];
    memset(longest, 'a', sizeof(longest));
    longest[250] = '\0';
    assert_false(str_is_topic_name(longest));
    longest[249] = '\0';
    assert_true(str_is_topic_name(longest));
    assert_true(str_is_topic_name("A.z_0-9"));
    assert_true(str_is_topic_name("..."));
    static const char *const bad[] = {"", ".", "..", "a/b", "a b", "\xC3\xA9", "a\n", "a:b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(str_is_topic_name(bad[i]));
    }
    char hex[7];
    str_hex("\x00\xff\x1a", 3, hex);
    assert_string_equal(hex, "00ff1a");
}

int text_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_keep_insertion_order),
        cmocka_unit_test(maps_delete_and_put_in_turn),
        cmocka_unit_test(maps_free_what_they_own),
        cmocka_unit_test(slices_know_null_from_empty),
        cmocka_unit_test(conversions_take_whole_texts),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(utf8_to_the_letter),
        cmocka_unit_test(topic_names),
    };
    return cmocka_run_group_tests_name("texts", tests, NULL, NULL);
}
