/* codec: .properties and Connect's JSON files. */
#include "codec_tests.h"

#include <stdlib.h>

#include "codec/codec.h"

typedef int parser(const char *text, size_t n, struct codec_yaml *ret, struct err *err);

static void parse(parser *p, const char *text, struct codec_yaml *y)
{
    struct err err = ERR_INIT;
    size_t n = strlen(text);
    char *exact = malloc(n > 0 ? n : 1);
    assert_non_null(exact);
    memcpy(exact, text, n);
    assert_int_equal(p(exact, n, y, &err), 0);
    free(exact);
}

static void expect(const struct codec_yaml *y, size_t i, const char *key, const char *text,
                   int line, int column)
{
    assert_true(i < y->n_entries);
    const struct codec_yaml_entry *e = &y->entries[i];
    assert_string_equal(e->key, key);
    if (text == NULL) {
        assert_null(e->text);
    } else {
        assert_string_equal(e->text, text);
    }
    assert_int_equal(e->line, line);
    assert_int_equal(e->column, column);
}

static void properties_as_java_reads_them(void **state)
{
    (void)state;
    struct codec_yaml y;
    parse(codec_properties_parse,
          "# words\n! more\n\n"
          "name=local-file\r\n"
          "  tasks.max : 1  \n"
          "file  a b.txt\n"
          "long=one,\\\n"
          "    two\n"
          "k\\=\\:\\ x=\\u00e9\\uD83D\\uDE00\\t\\z\n"
          "alone\n"
          "end=\\ ",
          &y);
    assert_int_equal(y.n_findings, 0);
    assert_int_equal(y.n_entries, 7);
    expect(&y, 0, "name", "local-file", 4, 1);
    expect(&y, 1, "tasks.max", "1", 5, 3);
    assert_int_equal(y.entries[1].value_column, 15);
    expect(&y, 2, "file", "a b.txt", 6, 1);
    expect(&y, 3, "long", "one,two", 7, 1);
    expect(&y, 4, "k=: x", "\xC3\xA9\xF0\x9F\x98\x80\tz", 9, 1);
    expect(&y, 5, "alone", "", 10, 1);
    expect(&y, 6, "end", " ", 11, 1);
    assert_int_equal(y.entries[0].n_parts, 1);
    codec_yaml_free(&y);
    parse(codec_properties_parse, "\xEF\xBB\xBFname=x", &y);
    expect(&y, 0, "name", "x", 1, 1);
    codec_yaml_free(&y);
}

static const struct {
    const char *text;
    int line, column;
    const char *says;
} bad_properties[] = {
    {"a=1\nb=2\na=3\n", 3, 1, "second time (first in line 1)"},
    {"a=1\n=2\n", 2, 1, "empty key"},
    {"a=x\\u12G4\n", 1, 4, "four hexadecimal digits"},
    {"a=\\uD83D\n", 1, 3, "four hexadecimal digits"},
    {"a=\\uDE00\n", 1, 3, "four hexadecimal digits"},
    {"a=\\u0000\n", 1, 3, "four hexadecimal digits"},
    {"a=\xe9\n", 1, 3, "not valid UTF-8"},
};

static void properties_refuse_with_a_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_properties) / sizeof(bad_properties[0]); i++) {
        struct codec_yaml y;
        parse(codec_properties_parse, bad_properties[i].text, &y);
        assert_int_equal(y.n_findings, 1);
        assert_int_equal(y.findings[0].line, bad_properties[i].line);
        assert_int_equal(y.findings[0].column, bad_properties[i].column);
        assert_non_null(strstr(y.findings[0].text, bad_properties[i].says));
        codec_yaml_free(&y);
    }
}

static void connect_json_with_places(void **state)
{
    (void)state;
    struct codec_yaml y;
    parse(codec_connect_json_parse,
          "{ \"name\": \"c:1\", \"tasks\": [{\"task\": 0}],\n"
          "  \"config\": {\n"
          "    \"connector.class\": \"X\", \"tasks.max\": 2,\n"
          "    \"\xC3\xA9\": \"a\\\"}{:,b\", \"on\" : true, \"gone\": null, \"f\":1.50\n"
          "  }\n"
          "}\n",
          &y);
    assert_int_equal(y.n_findings, 0);
    assert_int_equal(y.n_entries, 6);
    expect(&y, 0, "connectors.c:1.connector.class", "X", 3, 5);
    assert_int_equal(y.entries[0].n_parts, 3);
    assert_string_equal(y.entries[0].parts[1], "c:1");
    assert_string_equal(y.entries[0].parts[2], "connector.class");
    expect(&y, 1, "connectors.c:1.tasks.max", "2", 3, 29);
    assert_int_equal(y.entries[1].value_line, 3);
    assert_int_equal(y.entries[1].value_column, 42);
    expect(&y, 2, "connectors.c:1.\xC3\xA9", "a\"}{:,b", 4, 5);
    expect(&y, 3, "connectors.c:1.on", "true", 4, 22);
    expect(&y, 4, "connectors.c:1.gone", NULL, 4, 35);
    expect(&y, 5, "connectors.c:1.f", "1.50", 4, 49);
    codec_yaml_free(&y);
}

static void connect_json_bare_and_empty(void **state)
{
    (void)state;
    struct codec_yaml y;
    parse(codec_connect_json_parse, "{\"name\":\"c\",\"connector.class\":\"X\"}", &y);
    assert_int_equal(y.n_findings, 0);
    expect(&y, 0, "connectors.c.name", "c", 1, 2);
    expect(&y, 1, "connectors.c.connector.class", "X", 1, 13);
    codec_yaml_free(&y);
    parse(codec_connect_json_parse, "{\"name\":\"c\",\"config\":{}}", &y);
    assert_int_equal(y.n_findings, 0);
    expect(&y, 0, "connectors.c", NULL, 1, 1);
    codec_yaml_free(&y);
}

static const struct {
    const char *text;
    int line, column;
    const char *key;
    const char *says;
    int unparsable;
} bad_json[] = {
    {"", 1, 1, "", "is empty", 1},
    {"[]", 1, 1, "", "expected an object", 0},
    {"{\"config\":{}}", 1, 1, "name", "is missing", 0},
    {"{\"name\":\"\",\"config\":{}}", 1, 1, "name", "is missing", 0},
    {"{\"name\":\"c\"}", 1, 1, "config", "is missing", 0},
    {"{\"name\":\"c\",\"config\":[]}", 1, 1, "config", "is missing or no object", 0},
    {"{\"name\":\"c\",\"config\":{\"a\":{\"b\":1}}}", 1, 27, "a", "an object", 0},
    {"{\"name\":\"c\",\n\"config\":{\"a\": [1]}}", 2, 16, "a", "an array", 0},
    {"{\"name\":\"c\",\"config\":{\"name\":\"d\"}}", 1, 30, "name", "named 'c'", 0},
    {"{\"name\":\"c\",\"confg\":{},\"config\":{\"a\":\"1\"}}", 1, 13, "confg", "unknown", 0},
    {"{\"name\":\"c\",\"config\":{\"a\":\"x\\u0000\"}}", 1, 27, "a", "NUL", 0},
    {"{\"name\":\"c\",\n \"config\":{\"a\":1,\"a\":2}}", 2, 20, "", "not JSON: duplicate", 1},
    {"{\"name\" \"c\"}", 1, 11, "", "not JSON", 1},
    {"{\"name\":\"\xff\"}", 1, 10, "", "not valid UTF-8", 1},
};

static void connect_json_refuses_with_a_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_json) / sizeof(bad_json[0]); i++) {
        struct codec_yaml y;
        parse(codec_connect_json_parse, bad_json[i].text, &y);
        int ok = y.n_findings == 1 && y.findings[0].line == bad_json[i].line &&
                 y.findings[0].column == bad_json[i].column &&
                 strcmp(y.findings[0].key, bad_json[i].key) == 0 &&
                 strstr(y.findings[0].text, bad_json[i].says) != NULL &&
                 y.unparsable == bad_json[i].unparsable;
        if (!ok) {
            print_error("case %zu: %s\n", i, bad_json[i].text);
            for (size_t k = 0; k < y.n_findings; k++) {
                print_error("  %d:%d: %s: %s (unparsable %d)\n", y.findings[k].line,
                            y.findings[k].column, y.findings[k].key, y.findings[k].text,
                            y.unparsable);
            }
        }
        assert_true(ok);
        codec_yaml_free(&y);
    }
}

/* Cut anywhere: no crash, no leak. */
static void survives_cuts(void **state)
{
    (void)state;
    static const char json[] = "{\"name\":\"c\",\"config\":{\"a\":\"\\u00e9\",\"b\":[1]}}";
    static const char properties[] = "a\\=b=c\\u00e9\\\n  d\n#x\ne:f\\\\";
    for (size_t n = 0; n < sizeof(json); n++) {
        struct codec_yaml y;
        char *exact = malloc(n > 0 ? n : 1);
        assert_non_null(exact);
        memcpy(exact, json, n);
        assert_int_equal(codec_connect_json_parse(exact, n, &y, NULL), 0);
        codec_yaml_free(&y);
        if (n < sizeof(properties)) {
            memcpy(exact, properties, n);
            assert_int_equal(codec_properties_parse(exact, n, &y, NULL), 0);
            codec_yaml_free(&y);
        }
        free(exact);
    }
}

int text_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties_as_java_reads_them),
        cmocka_unit_test(properties_refuse_with_a_place),
        cmocka_unit_test(connect_json_with_places),
        cmocka_unit_test(connect_json_bare_and_empty),
        cmocka_unit_test(connect_json_refuses_with_a_place),
        cmocka_unit_test(survives_cuts),
    };
    return cmocka_run_group_tests_name("config texts", tests, NULL, NULL);
}
