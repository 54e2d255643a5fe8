/* One connector's config against class and framework, and descriptions of plugins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "connectd/abi.h"
#include "pipeline/pipeline_tests.h"
#include "pipeline/validate.h"

static const char description[] =
    "{\"classes\":[{\"name\":\"DemoSink\",\"aliases\":[\"org.demo.DemoSinkConnector\"],\"kind\":"
    "\"sink\","
    "\"version\":\"1\",\"flags\":0,\"config\":["
    "{\"name\":\"file\",\"type\":\"STRING\",\"required\":true,\"default\":null},"
    "{\"name\":\"batch.size\",\"type\":\"LONG\",\"min\":1,\"max\":100,\"default\":\"10\"},"
    "{\"name\":\"mode\",\"type\":\"STRING\",\"allowed\":[\"insert\",\"upsert\"]},"
    "{\"name\":\"connection.\",\"type\":\"STRING\",\"prefix\":true}]}]}";

static struct plugins plugins;
static struct host_config host;
static struct decl_connector connector;
static struct findings findings;

static int setup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    memset(&plugins, 0, sizeof(plugins));
    memset(&connector, 0, sizeof(connector));
    connector.name = strdup("c1");
    connector.file = strdup("f.yaml");
    connector.line = 2;
    connector.column = 3;
    return pipeline_describe_parse(description, strlen(description), "/p/demo.so", "/d/demo.so",
                                   &plugins.classes, &plugins.n_classes, &err);
}

static int teardown(void **state)
{
    (void)state;
    pipeline_plugins_free(&plugins);
    pipeline_findings_free(&findings);
    pipeline_kv_free(&connector.config);
    free(connector.name);
    free(connector.file);
    return 0;
}

static void set(const char *key, const char *value)
{
    struct kv kv = {.key = (char *)(uintptr_t)key,
                    .value = (char *)(uintptr_t)value,
                    .line = 10,
                    .column = 5,
                    .value_line = 10,
                    .value_column = 20};
    assert_int_equal(pipeline_kv_add(&connector.config, &kv), 0);
}

static void set_good(void)
{
    set("connector.class", "DemoSink");
    set("topics", "a, b");
    set("file", "x");
}

static void assert_one(const char *expected)
{
    (void)pipeline_validate_connector(&connector, &host, &plugins, &findings);
    assert_int_equal(findings.n, 1);
    char line[1024];
    pipeline_findings_format(&findings.items[0], line, sizeof(line));
    assert_string_equal(line, expected);
    assert_string_equal(findings.items[0].connector, "c1");
}

static void a_good_one_has_no_findings(void **state)
{
    (void)state;
    set_good();
    set("tasks.max", "2");
    set("connection.url", "anything");
    set("value.converter", "org.apache.kafka.connect.storage.StringConverter");
    set("exactly.once.support", "required");
    assert_int_equal(pipeline_validate_connector(&connector, &host, &plugins, &findings), 0);
    assert_ptr_equal(pipeline_plugins_find(&plugins, "org.demo.DemoSinkConnector"),
                     &plugins.classes[0]);
}

static void an_unknown_class_names_the_nearest(void **state)
{
    (void)state;
    set("connector.class", "DemoSnik");
    assert_one(
        "f.yaml:10:20: connector.class: no plugin in plugin.path has class 'DemoSnik' (did you "
        "mean DemoSink?)");
}

static void a_missing_class_is_told_at_the_connector(void **state)
{
    (void)state;
    assert_one("f.yaml:2:3: connector.class: is missing: it names the plugin class");
}

static void an_unknown_key_names_the_nearest(void **state)
{
    (void)state;
    set_good();
    set("batch.sise", "3");
    assert_one("f.yaml:10:5: batch.sise: unknown key for DemoSink (did you mean batch.size?)");
}

static void a_required_key_is_missed(void **state)
{
    (void)state;
    set("connector.class", "DemoSink");
    set("topics", "a");
    assert_one("f.yaml:2:3: file: is missing: DemoSink needs it");
}

static void numbers_and_choices_are_checked(void **state)
{
    (void)state;
    set_good();
    set("batch.size", "101");
    set("mode", "delete");
    set("tasks.max", "many");
    assert_int_equal(pipeline_validate_connector(&connector, &host, &plugins, &findings), 3);
}

static void a_sink_needs_topics_with_good_names(void **state)
{
    (void)state;
    set_good();
    set("topics", "ok, not/ok");
    assert_one("f.yaml:10:20: topics: 'not/ok' is no topic name: 1 to 249 of a-z A-Z 0-9 . _ -");
}

static void what_is_not_built_yet_says_so(void **state)
{
    (void)state;
    set_good();
    set("transforms", "x");
    assert_one("f.yaml:10:5: transforms: transforms is not built yet; remove the key");
}

static void config_providers_are_refused_but_templates_are_not(void **state)
{
    (void)state;
    set_good();
    set("connection.table", "${topic}");
    set("connection.password", "${file:/x:y}");
    assert_one(
        "f.yaml:10:20: connection.password: config providers (${provider:...}) are not built yet");
}

static void the_json_envelope_is_refused_where_connect_would_use_it(void **state)
{
    (void)state;
    set_good();
    set("value.converter", "JsonConverter");
    assert_one("f.yaml:10:20: value.converter: the JSON schema envelope is not built yet; set "
               "value.converter.schemas.enable: false");
}

static void converter_options_are_checked(void **state)
{
    (void)state;
    set_good();
    set("value.converter", "JsonConverter");
    set("value.converter.schemas.enable", "false");
    set("value.converter.schemas.enabel", "false");
    assert_one(
        "f.yaml:10:5: value.converter.schemas.enabel: JsonConverter has no such option (did you "
        "mean schemas.enable?)");
}

static void the_host_lends_its_converters(void **state)
{
    (void)state;
    set_good();
    struct kv kv = {.key = (char *)(uintptr_t) "value.converter",
                    .value = (char *)(uintptr_t) "StringConverter"};
    assert_int_equal(pipeline_kv_add(&host.keys, &kv), 0);
    struct kv_list effective = {0};
    assert_int_equal(pipeline_validate_effective(&connector, &host, &effective), 0);
    assert_string_equal(pipeline_kv_get(&effective, "value.converter"), "StringConverter");
    assert_string_equal(pipeline_kv_get(&effective, "name"), "c1");
    pipeline_kv_free(&effective);
    pipeline_kv_free(&host.keys);
}

static void a_bad_description_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct plugin_class *c = NULL;
    size_t n = 0;
    assert_int_not_equal(pipeline_describe_parse("{", 1, "f", "f", &c, &n, &err), 0);
    static const char nameless[] = "{\"classes\":[{\"kind\":\"sink\"}]}";
    assert_int_equal(pipeline_describe_parse(nameless, strlen(nameless), "f", "f", &c, &n, &err),
                     ERR_DATA);
}

int validate_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_good_one_has_no_findings, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_class_names_the_nearest, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_class_is_told_at_the_connector, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_key_names_the_nearest, setup, teardown),
        cmocka_unit_test_setup_teardown(a_required_key_is_missed, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_and_choices_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sink_needs_topics_with_good_names, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_built_yet_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(config_providers_are_refused_but_templates_are_not, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_json_envelope_is_refused_where_connect_would_use_it,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(converter_options_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(the_host_lends_its_converters, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_description_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests_name("pipeline validate", tests, NULL, NULL);
}
