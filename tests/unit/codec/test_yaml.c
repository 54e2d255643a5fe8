/* codec: YAML into flat entries, and every refusal with its place. */
#include "codec_tests.h"

#include <stdio.h>
#include <stdlib.h>

#include "codec/codec.h"

static void parse(const char *text, size_t n, struct codec_yaml *y)
{
    struct err err = ERR_INIT;
    /* A block of exactly n bytes: a read beyond it is seen by ASan. */
    char *exact = malloc(n > 0 ? n : 1);
    assert_non_null(exact);
    memcpy(exact, text, n);
    assert_int_equal(codec_yaml_parse(exact, n, y, &err), 0);
    free(exact);
}

static const struct codec_yaml_entry *find(const struct codec_yaml *y, const char *key)
{
    for (size_t i = 0; i < y->n_entries; i++) {
        if (strcmp(y->entries[i].key, key) == 0) {
            return &y->entries[i];
        }
    }
    return NULL;
}

static void expect(const struct codec_yaml *y, const char *key, const char *text)
{
    const struct codec_yaml_entry *e = find(y, key);
    assert_non_null(e);
    if (text == NULL) {
        assert_null(e->text);
    } else {
        assert_non_null(e->text);
        assert_string_equal(e->text, text);
    }
}

static const char pipelines[] = "# two pipelines\r\n"
                                "topics:\n"
                                "  quakes: {partitions: 2, cleanup.policy: compact}\n"
                                "connectors:\n"
                                "  quakes-in:\n"
                                "    connector.class: FileStreamSource\n"
                                "    tasks.max: 1\n"
                                "    file: 'it''s \"here\".txt'\n"
                                "    topics: [a, \"b\", c d]\n"
                                "    transforms:\n"
                                "      - x\n"
                                "      - y\n"
                                "    key.converter:\n"
                                "    nothing: ~\n"
                                "    empty: \"\"\n"
                                "    on: yes\n"
                                "    text: |\n"
                                "      two\n"
                                "      lines\n"
                                "    nested:\n"
                                "      deep: {er: 0x10}\n";

static void flattens_with_places(void **state)
{
    (void)state;
    struct codec_yaml y;
    parse(pipelines, sizeof(pipelines) - 1, &y);
    assert_int_equal(y.n_findings, 0);
    assert_int_equal(y.unparsable, 0);
    assert_int_equal(y.n_entries, 13);
    expect(&y, "topics.quakes.partitions", "2");
    expect(&y, "topics.quakes.cleanup.policy", "compact");
    expect(&y, "connectors.quakes-in.connector.class", "FileStreamSource");
    expect(&y, "connectors.quakes-in.file", "it's \"here\".txt");
    expect(&y, "connectors.quakes-in.topics", "a,b,c d");
    expect(&y, "connectors.quakes-in.transforms", "x,y");
    expect(&y, "connectors.quakes-in.key.converter", NULL);
    expect(&y, "connectors.quakes-in.nothing", NULL);
    expect(&y, "connectors.quakes-in.empty", "");
    expect(&y, "connectors.quakes-in.on", "yes");
    expect(&y, "connectors.quakes-in.text", "two\nlines\n");
    expect(&y, "connectors.quakes-in.nested.deep.er", "0x10");
    const struct codec_yaml_entry *e = find(&y, "connectors.quakes-in.tasks.max");
    assert_non_null(e);
    assert_int_equal(e->n_parts, 3);
    assert_string_equal(e->parts[1], "quakes-in");
    assert_string_equal(e->parts[2], "tasks.max");
    assert_int_equal(e->line, 7);
    assert_int_equal(e->column, 5);
    assert_int_equal(e->value_line, 7);
    assert_int_equal(e->value_column, 16);
    codec_yaml_free(&y);
    assert_int_equal(y.n_entries, 0);
}

static void columns_count_characters(void **state)
{
    (void)state;
    struct codec_yaml y;
    parse("\xEF\xBB\xBF\xC3\xA9t\xC3\xA9: {\xE2\x82\xAC: 1}\n", 18, &y);
    assert_int_equal(y.n_findings, 0);
    assert_int_equal(y.n_entries, 1);
    assert_int_equal(y.entries[0].line, 1);
    assert_int_equal(y.entries[0].column, 7);
    assert_string_equal(y.entries[0].parts[1], "\xE2\x82\xAC");
    codec_yaml_free(&y);
}

static void empty_documents_are_fine(void **state)
{
    (void)state;
    static const char *const texts[] = {"",           "\n",  "# only words\n", "---\n", "~\n",
                                        "---\n...\n", "{}\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct codec_yaml y;
        parse(texts[i], strlen(texts[i]), &y);
        assert_int_equal(y.n_entries, 0);
        assert_int_equal(y.n_findings, 0);
        assert_int_equal(y.unparsable, 0);
        codec_yaml_free(&y);
    }
    struct codec_yaml y;
    assert_int_equal(codec_yaml_parse(NULL, 0, &y, NULL), 0);
    assert_int_equal(y.n_findings, 0);
    codec_yaml_free(&y);
}

static void empty_maps_keep_their_name(void **state)
{
    (void)state;
    struct codec_yaml y;
    parse("connectors:\n  a: {}\n  b:\n", 25, &y);
    assert_int_equal(y.n_findings, 0);
    expect(&y, "connectors.a", NULL);
    expect(&y, "connectors.b", NULL);
    codec_yaml_free(&y);
}

static void aliases_expand(void **state)
{
    (void)state;
    struct codec_yaml y;
    const char text[] = "base: &b {x: 1, y: [p, q]}\nmore: *b\nname: &n abc\nlist: [*n, d]\n";
    parse(text, sizeof(text) - 1, &y);
    assert_int_equal(y.n_findings, 0);
    expect(&y, "more.x", "1");
    expect(&y, "more.y", "p,q");
    expect(&y, "list", "abc,d");
    codec_yaml_free(&y);
}

/* Connect's own flat style: "transforms" and what begins with it are different keys. */
static void dotted_neighbours_are_no_clash(void **state)
{
    (void)state;
    struct codec_yaml y;
    const char text[] = "connectors:\n  a.b: {c: 1}\n  a: {b.c: 2}\n  t:\n    transforms: i\n"
                        "    transforms.i.type: X\n    transforms.i: {field: f}\n";
    parse(text, sizeof(text) - 1, &y);
    assert_int_equal(y.n_findings, 0);
    assert_int_equal(y.n_entries, 5);
    codec_yaml_free(&y);
}

static const struct {
    const char *text;
    int line, column;
    const char *key;
    const char *says; /* part of the finding's text */
    int unparsable;
} refusals[] = {
    {"a: 1\nb: 2\na: 3\n", 3, 1, "a", "second time (first in line 1)", 0},
    {"a: {b: 1}\na.b: 2\n", 2, 1, "a.b", "second time (first in line 1)", 0},
    {"a: 1\na: {b: 2}\n", 2, 1, "a", "a map here and a single value in line 1", 0},
    {"a: {b: 2}\na: 1\n", 2, 1, "a", "a single value here and a map in line 1", 0},
    {"a.b: 1\na: {b: {c: 2}}\n", 2, 5, "a.b", "a map here and a single value in line 1", 0},
    {"a: {b: {c: 2}}\na.b: 1\n", 2, 1, "a.b", "a single value here and a map in line 1", 0},
    {"x: &x {a: 1}\ny:\n  <<: *x\n", 3, 3, "y", "merge keys", 0},
    {"a: 1\n---\nb: 2\n", 2, 1, "", "second document", 0},
    {"a: *nope\n", 1, 4, "", "names no anchor", 0},
    {"a: &a [*a]\n", 1, 8, "", "inside of what it names", 0},
    {"? [x]\n: 1\n", 1, 3, "", "single value", 0},
    {"? {x: 1}\n: 1\n", 1, 3, "", "single value", 0},
    {"k: &k v\n*k : 1\n", 2, 1, "", "alias can't be a key", 0},
    {"a:\n  \"\": 1\n", 2, 3, "a", "empty key", 0},
    {"a: [b, [c]]\n", 1, 8, "a", "this element is a list", 0},
    {"a: [b, {c: 1}]\n", 1, 8, "a", "this element is a map", 0},
    {"a: [b, ]\nc: [~]\n", 2, 5, "c", "this element is empty", 0},
    {"a: !custom 1\n", 1, 4, "", "tag '!custom' is unknown", 0},
    {"a: !!binary AAAA\n", 1, 4, "", "is unknown here", 0},
    {"a: \"x\\0y\"\n", 1, 4, "", "NUL character", 0},
    {"- a\n- b\n", 1, 1, "", "found a list", 0},
    {"just words\n", 1, 1, "", "found a single value", 0},
    {"a:\n\tb: 1\n", 2, 1, "", "use spaces", 1},
    {"a:\n  \tb: 1\n", 2, 3, "", "use spaces", 1},
    {"a: b: c\n", 1, 5, "", "in quotes", 1},
    {"a: 1\n b: 2\n", 2, 3, "", "in quotes", 1},
    {"a: @home\n", 1, 4, "", "can't begin with '@'", 1},
    {"a: `x`\n", 1, 4, "", "can't begin with '`'", 1},
    {"a: 'open\n", 2, 1, "", "close them", 1},
    {"a: [1, 2\nb: 3\n", 2, 2, "", "',' or ']' is missing", 1},
    {"a: {b: 1\nc: 3\n", 2, 2, "", "',' or '}' is missing", 1},
    {"a: \"\\q\"\n", 1, 5, "", "single quotes", 1},
    {"a: 1\nb\n", 3, 1, "", "expected 'key: value'", 1},
    {"a: \x01\n", 1, 4, "", "control character", 1},
    {"a: 1\nb: \xff\n", 2, 4, "", "0xff is not valid UTF-8", 1},
    {"\xff\xfe"
     "a:",
     1, 1, "", "UTF-16", 1},
};

static void refuses_with_a_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct codec_yaml y;
        parse(refusals[i].text, strlen(refusals[i].text), &y);
        int ok = y.n_findings == 1 && y.findings[0].line == refusals[i].line &&
                 y.findings[0].column == refusals[i].column &&
                 strcmp(y.findings[0].key, refusals[i].key) == 0 &&
                 strstr(y.findings[0].text, refusals[i].says) != NULL &&
                 y.unparsable == refusals[i].unparsable;
        if (!ok) {
            print_error("case %zu: %s\n", i, refusals[i].text);
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

static void nul_bytes_are_placed(void **state)
{
    (void)state;
    struct codec_yaml y;
    parse("a: 1\nb: \0 2\n", 12, &y);
    assert_int_equal(y.n_findings, 1);
    assert_int_equal(y.findings[0].line, 2);
    assert_int_equal(y.findings[0].column, 4);
    assert_int_equal(y.unparsable, 1);
    codec_yaml_free(&y);
}

static void one_pass_finds_all(void **state)
{
    (void)state;
    struct codec_yaml y;
    const char text[] = "a: 1\na: 2\n<<: {b: 1}\nc: [[1]]\nd: ok\n";
    parse(text, sizeof(text) - 1, &y);
    assert_int_equal(y.n_findings, 3);
    expect(&y, "a", "1");
    expect(&y, "d", "ok");
    codec_yaml_free(&y);
}

/* "k0: &k0 v", then maps of aliases. */
static void alias_count_is_limited(void **state)
{
    (void)state;
    for (int n = 100; n <= 101; n++) {
        struct buf text = BUF_INIT(0);
        struct codec_yaml y;
        buf_append_str(&text, "k: &k v\nlist:\n");
        for (int i = 0; i < n; i++) {
            buf_append_str(&text, "  - *k\n");
        }
        parse((const char *)text.data, text.len, &y);
        assert_int_equal(y.n_findings, n == 100 ? 0 : 1);
        if (n > 100) {
            assert_non_null(strstr(y.findings[0].text, "100 expansions"));
            assert_int_equal(y.findings[0].line, 103);
        }
        codec_yaml_free(&y);
        buf_free(&text);
    }
}

static void alias_bombs_end_early(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(0);
    struct codec_yaml y;
    buf_append_str(&text, "a0: &a0 {x: lol, y: lol}\n");
    for (int i = 1; i < 60; i++) {
        buf_printf(&text, "a%d: &a%d {x: *a%d, y: *a%d}\n", i, i, i - 1, i - 1);
    }
    parse((const char *)text.data, text.len, &y);
    assert_int_equal(y.n_findings, 1);
    assert_non_null(strstr(y.findings[0].text, "100 expansions"));
    assert_true(y.n_entries < 400);
    codec_yaml_free(&y);
    buf_clear(&text);
    buf_append_str(&text, "a: &a ");
    for (int i = 0; i < 20000; i++) {
        buf_append_u8(&text, 'x');
    }
    buf_append_str(&text, "\nb:\n");
    for (int i = 0; i < 90; i++) {
        buf_append_str(&text, "  - *a\n");
    }
    parse((const char *)text.data, text.len, &y);
    assert_int_equal(y.n_findings, 1);
    assert_non_null(strstr(y.findings[0].text, "1 MiB"));
    codec_yaml_free(&y);
    buf_free(&text);
}

static void depth_is_limited(void **state)
{
    (void)state;
    for (int depth = 64; depth <= 65; depth++) {
        struct buf text = BUF_INIT(0);
        struct codec_yaml y;
        for (int i = 0; i < depth; i++) {
            buf_append_str(&text, "{a: ");
        }
        buf_append_str(&text, "1");
        for (int i = 0; i < depth; i++) {
            buf_append_str(&text, "}");
        }
        parse((const char *)text.data, text.len, &y);
        assert_int_equal(y.n_findings, depth == 64 ? 0 : 1);
        assert_int_equal(y.n_entries, depth == 64 ? 1 : 0);
        codec_yaml_free(&y);
        buf_free(&text);
    }
    /* a bomb of brackets ends at the limit, not after a walk over all of it */
    struct codec_yaml y;
    char *bomb = malloc(1000000);
    assert_non_null(bomb);
    memset(bomb, '[', 1000000);
    parse(bomb, 1000000, &y);
    assert_int_equal(y.n_findings, 1);
    assert_non_null(strstr(y.findings[0].text, "deeper than 64"));
    codec_yaml_free(&y);
    free(bomb);
}

/* Every cut and every changed byte of a real file: no crash, no leak, and a place inside the text. */
static void survives_damage(void **state)
{
    (void)state;
    static const char garbage[] = "\0\t:-[{}]'\"&*#\xff";
    char text[sizeof(pipelines)];
    for (size_t at = 0; at < sizeof(pipelines) - 1; at++) {
        struct codec_yaml y;
        parse(pipelines, at, &y);
        codec_yaml_free(&y);
        for (size_t g = 0; g < sizeof(garbage) - 1; g++) {
            memcpy(text, pipelines, sizeof(text));
            text[at] = garbage[g];
            parse(text, sizeof(pipelines) - 1, &y);
            for (size_t k = 0; k < y.n_findings; k++) {
                assert_in_range(y.findings[k].line, 1, 23);
                assert_true(y.findings[k].column >= 1);
            }
            codec_yaml_free(&y);
        }
    }
}

int yaml_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flattens_with_places),
        cmocka_unit_test(columns_count_characters),
        cmocka_unit_test(empty_documents_are_fine),
        cmocka_unit_test(empty_maps_keep_their_name),
        cmocka_unit_test(aliases_expand),
        cmocka_unit_test(dotted_neighbours_are_no_clash),
        cmocka_unit_test(refuses_with_a_place),
        cmocka_unit_test(nul_bytes_are_placed),
        cmocka_unit_test(one_pass_finds_all),
        cmocka_unit_test(alias_count_is_limited),
        cmocka_unit_test(alias_bombs_end_early),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(survives_damage),
    };
    return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
