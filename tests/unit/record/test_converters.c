/* record: the built-in converters, called as the runner calls any plugin's. */
#include "record_tests.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "connectd/sdk.h"
#include "record/record.h"

/* ---- a host with a config of at most one key ---- */

struct config {
    const char *key, *value;
};

static ctd_status cfg_str(const ctd_host *h, const ctd_config *c, const char *key, ctd_slice *ret)
{
    const struct config *config = (const void *)c;
    (void)h;
    if (config->key == NULL || strcmp(config->key, key) != 0) {
        return CTD_E_CONFIG;
    }
    *ret = ctd_slice_str(config->value);
    return CTD_OK;
}

static ctd_status cfg_i64(const ctd_host *h, const ctd_config *c, const char *key, int64_t *ret)
{
    ctd_slice text;
    if (cfg_str(h, c, key, &text) != CTD_OK) {
        return CTD_E_CONFIG;
    }
    *ret = ctd_slice_is(text, "true");
    return CTD_OK;
}

static const ctd_host host = {
    .struct_size = sizeof(ctd_host), .cfg_str = cfg_str, .cfg_i64 = cfg_i64};

struct fixture {
    const ctd_converter *ops;
    void *self;
    struct arena *arena;
    ctd_arena abi;
    ctd_error err;
};

static void open_converter(struct fixture *f, const char *name, struct config config)
{
    const ctd_class *class = record_converter_find(name);
    assert_non_null(class);
    assert_int_equal(class->kind, CTD_KIND_CONVERTER);
    f->ops = (const ctd_converter *)(const void *)class->ops;
    f->arena = arena_new(0);
    record_abi_arena(f->arena, &f->abi);
    assert_int_equal(f->ops->base.create(&host, (const ctd_config *)&config, &f->self, &f->err), 0);
}

static void close_converter(struct fixture *f)
{
    f->ops->base.destroy(f->self);
    f->ops->base.destroy(NULL);
    arena_free(f->arena);
}

static void expect_text(struct fixture *f, ctd_value v, const char *text)
{
    ctd_slice out;
    ctd_status rc = f->ops->encode(f->self, &f->abi, 0, NULL, NULL, &v, &out, &f->err);
    assert_int_equal(rc, CTD_OK);
    if (text == NULL) {
        assert_null(out.ptr);
        return;
    }
    if (!ctd_slice_is(out, text)) {
        print_error("'%.*s' instead of '%s'\n", (int)out.len, (const char *)out.ptr, text);
    }
    assert_true(ctd_slice_is(out, text));
}

static const struct config none = {NULL, NULL};

/* ---- tests ---- */

static void found_by_every_name(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"StringConverter", "org.apache.kafka.connect.storage.StringConverter"},
        {"ByteArrayConverter", "org.apache.kafka.connect.converters.ByteArrayConverter"},
        {"JsonConverter", "org.apache.kafka.connect.json.JsonConverter"},
    };
    size_t n;
    const ctd_class *const *all = record_converters(&n);
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(record_converter_find(names[i][0]), all[i]);
        assert_ptr_equal(record_converter_find(names[i][1]), all[i]);
        for (uint32_t k = 0; k < all[i]->n_config; k++) {
            assert_int_equal(all[i]->config[k].struct_size, all[i]->config_stride);
            assert_non_null(all[i]->config[k].doc);
        }
    }
    assert_null(record_converter_find("stringconverter"));
    assert_null(record_converter_find(""));
}

/* Right sides as JDK 17 and 21 print them (both, where they differ from each other they are left out). */
static void strings_as_java_prints(void **state)
{
    (void)state;
    struct fixture f;
    open_converter(&f, "StringConverter", none);
    expect_text(&f, ctd_v_cstr("a line"), "a line");
    expect_text(&f, ctd_v_cstr(""), "");
    expect_text(&f, ctd_v_null(), NULL);
    expect_text(&f, ctd_v_i64(INT64_MIN), "-9223372036854775808");
    expect_text(&f, ctd_v_int(CTD_I8, -3), "-3");
    expect_text(&f, ctd_v_bool(1), "true");
    expect_text(&f, ctd_v_f64(1), "1.0");
    expect_text(&f, ctd_v_f64(-0.0), "-0.0");
    expect_text(&f, ctd_v_f64(100), "100.0");
    expect_text(&f, ctd_v_f64(123456.789), "123456.789");
    expect_text(&f, ctd_v_f64(9999999), "9999999.0");
    expect_text(&f, ctd_v_f64(1e7), "1.0E7");
    expect_text(&f, ctd_v_f64(1.25e-4), "1.25E-4");
    expect_text(&f, ctd_v_f64(0.001), "0.001");
    expect_text(&f, ctd_v_f64(0.0123), "0.0123");
    expect_text(&f, ctd_v_f64(0.1 + 0.2), "0.30000000000000004");
    expect_text(&f, ctd_v_f64(DBL_MAX), "1.7976931348623157E308");
    expect_text(&f, ctd_v_f64(4.9e-324), "4.9E-324");
    expect_text(&f, ctd_v_f64(NAN), "NaN");
    expect_text(&f, ctd_v_f64(-INFINITY), "-Infinity");
    ctd_value single = ctd_v_null();
    single.type = CTD_F32;
    single.u.f32 = 0.1f;
    expect_text(&f, single, "0.1");
    single.u.f32 = FLT_MAX;
    expect_text(&f, single, "3.4028235E38");
    const ctd_value items[] = {ctd_v_cstr("a"), ctd_v_null(), ctd_v_cstr("b"), ctd_v_i64(2)};
    expect_text(&f, ctd_v_map(items, 2), "{a=null, b=2}");
    expect_text(&f, ctd_v_array(items, 4), "[a, null, b, 2]");
    expect_text(&f, ctd_v_raw_json(" {\"a\":1}\r\n", 10), "{\"a\":1}");
    ctd_value bytes = ctd_v_bytes("x", 1);
    ctd_slice out;
    assert_int_equal(f.ops->encode(f.self, &f.abi, 0, NULL, NULL, &bytes, &out, &f.err),
                     CTD_E_DATA);
    assert_non_null(strstr(f.err.message, "ByteArrayConverter"));
    close_converter(&f);
}

/* Earlier results stay while later ones are made: a batch is converted before it is written. */
static void results_live_until_the_arena_is_reset(void **state)
{
    (void)state;
    struct fixture f;
    ctd_slice out[50];
    open_converter(&f, "StringConverter", none);
    for (int i = 0; i < 50; i++) {
        ctd_value v = ctd_v_i64(i);
        assert_int_equal(f.ops->encode(f.self, &f.abi, 0, NULL, NULL, &v, &out[i], &f.err), CTD_OK);
    }
    assert_true(ctd_slice_is(out[0], "0") && ctd_slice_is(out[49], "49"));
    close_converter(&f);
}

static void strings_decode_any_bytes(void **state)
{
    (void)state;
    struct fixture f;
    const ctd_schema *schema;
    ctd_value v;
    open_converter(&f, "StringConverter", none);
    assert_int_equal(
        f.ops->decode(f.self, &f.abi, 0, NULL, ctd_slice_of("a\xff", 2), &schema, &v, &f.err), 0);
    assert_int_equal(v.type, CTD_STRING);
    assert_int_equal(v.len, 2);
    assert_null(schema);
    assert_int_equal(
        f.ops->decode(f.self, &f.abi, 0, NULL, ctd_slice_of(NULL, 0), &schema, &v, &f.err), 0);
    assert_int_equal(v.type, CTD_NULL);
    assert_int_equal(
        f.ops->decode(f.self, &f.abi, 0, NULL, ctd_slice_of("", 0), &schema, &v, &f.err), 0);
    assert_int_equal(v.type, CTD_STRING);
    close_converter(&f);
}

struct found {
    char key[64];
    char message[300];
};

static void add_issue(ctd_issues *issues, const char *key, const char *message)
{
    struct found *found = issues->priv;
    (void)snprintf(found->key, sizeof(found->key), "%s", key);
    (void)snprintf(found->message, sizeof(found->message), "%s", message);
}

static void expect_refused(const char *name, struct config config, const char *key,
                           const char *says)
{
    const ctd_class_ops *ops = record_converter_find(name)->ops;
    struct found found = {"", ""};
    ctd_issues issues = {.struct_size = sizeof(issues), .priv = &found, .add = add_issue};
    ctd_error err;
    void *self = NULL;
    assert_int_equal(ops->create(&host, (const ctd_config *)&config, &self, &err),
                     CTD_E_UNSUPPORTED);
    assert_null(self);
    assert_non_null(strstr(err.message, says));
    assert_int_equal(ops->validate(&host, (const ctd_config *)&config, &issues), CTD_OK);
    assert_string_equal(found.key, key);
    assert_non_null(strstr(found.message, says));
}

static void refuses_what_is_not_built(void **state)
{
    (void)state;
    expect_refused("StringConverter", (struct config){"converter.encoding", "ISO-8859-1"},
                   "converter.encoding", "only UTF-8");
    expect_refused("JsonConverter", none, "schemas.enable",
                   "value.converter.schemas.enable: false");
    expect_refused("JsonConverter", (struct config){"schemas.enable", "true"}, "schemas.enable",
                   "value.converter.schemas.enable: false");
    struct fixture f;
    open_converter(&f, "StringConverter", (struct config){"converter.encoding", "utf8"});
    close_converter(&f);
}

static void bytes_pass_as_they_are(void **state)
{
    (void)state;
    struct fixture f;
    const ctd_schema *schema;
    ctd_value v;
    ctd_slice out;
    open_converter(&f, "ByteArrayConverter", none);
    expect_text(&f, ctd_v_bytes("ab", 2), "ab");
    expect_text(&f, ctd_v_null(), NULL);
    assert_int_equal(
        f.ops->decode(f.self, &f.abi, 0, NULL, ctd_slice_of("ab", 2), &schema, &v, &f.err), 0);
    assert_int_equal(v.type, CTD_BYTES);
    assert_int_equal(v.len, 2);
    v = ctd_v_cstr("text");
    assert_int_equal(f.ops->encode(f.self, &f.abi, 1, NULL, NULL, &v, &out, &f.err), CTD_E_DATA);
    assert_non_null(strstr(f.err.message, "key is of type string"));
    close_converter(&f);
}

static void json_both_ways(void **state)
{
    (void)state;
    struct fixture f;
    const ctd_schema *schema;
    ctd_value v;
    ctd_slice out;
    open_converter(&f, "JsonConverter", (struct config){"schemas.enable", "false"});
    expect_text(&f, ctd_v_null(), NULL);
    expect_text(&f, ctd_v_cstr("a \"line\""), "\"a \\\"line\\\"\"");
    expect_text(&f, ctd_v_raw_json("\t{\"b\" : 1.0e0}\n", 15), "{\"b\" : 1.0e0}");
    ctd_slice text = ctd_slice_str("{\"z\":[1,null],\"a\":0.25}");
    assert_int_equal(f.ops->decode(f.self, &f.abi, 0, NULL, text, &schema, &v, &f.err), CTD_OK);
    expect_text(&f, v, "{\"z\":[1,null],\"a\":0.25}");
    assert_int_equal(
        f.ops->decode(f.self, &f.abi, 0, NULL, ctd_slice_of(NULL, 0), &schema, &v, &f.err), 0);
    assert_int_equal(v.type, CTD_NULL);
    assert_int_equal(
        f.ops->decode(f.self, &f.abi, 0, NULL, ctd_slice_str("{"), &schema, &v, &f.err),
        CTD_E_DATA);
    v = ctd_v_f64(NAN);
    assert_int_equal(f.ops->encode(f.self, &f.abi, 0, NULL, NULL, &v, &out, &f.err), CTD_E_DATA);
    expect_text(&f, ctd_v_i64(1), "1"); /* a failure leaves nothing behind */
    close_converter(&f);
}

int converter_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_by_every_name),
        cmocka_unit_test(strings_as_java_prints),
        cmocka_unit_test(results_live_until_the_arena_is_reset),
        cmocka_unit_test(strings_decode_any_bytes),
        cmocka_unit_test(refuses_what_is_not_built),
        cmocka_unit_test(bytes_pass_as_they_are),
        cmocka_unit_test(json_both_ways),
    };
    return cmocka_run_group_tests_name("converters", tests, NULL, NULL);
}
