/* Host config and pipeline files: precedence, places, and every kind of mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "pipeline/config.h"
#include "pipeline/pipeline_tests.h"

static char dir[64];
static char old_cwd[4096];
static struct host_config host;
static struct declared declared;
static struct findings findings;

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/ctd-config-XXXXXX");
    if (getcwd(old_cwd, sizeof(old_cwd)) == NULL || mkdtemp(dir) == NULL || chdir(dir) != 0) {
        return -1;
    }
    return mkdir("connectors.d", 0700);
}

static int teardown(void **state)
{
    (void)state;
    pipeline_findings_free(&findings);
    pipeline_declared_free(&declared);
    pipeline_config_host_free(&host);
    (void)unsetenv("CONNECTD_DATA_DIR");
    int rc = chdir(old_cwd);
    return rc != 0 ? rc : file_remove_tree(dir, NULL);
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void load(const char *const *sets, size_t n_sets)
{
    struct config_input in = {.sets = sets, .n_sets = n_sets, .bin_dir = dir};
    struct err err = ERR_INIT;
    assert_int_equal(pipeline_config_load(&in, &host, &declared, &findings, &err), 0);
    pipeline_findings_sort(&findings);
}

static void assert_finding(size_t i, const char *expected)
{
    char line[1024];
    assert_true(i < findings.n);
    pipeline_findings_format(&findings.items[i], line, sizeof(line));
    assert_string_equal(line, expected);
}

static void defaults_without_a_file(void **state)
{
    (void)state;
    load(NULL, 0);
    assert_int_equal(findings.n, 0);
    assert_string_equal(host.listen_host, "127.0.0.1");
    assert_int_equal(host.listen_port, 8083);
    char expected[128];
    (void)snprintf(expected, sizeof(expected), "%s/data", dir);
    assert_string_equal(host.data_dir, expected);
}

static void file_then_environment_then_set(void **state)
{
    (void)state;
    put("connectd.yaml", "data:\n  dir: ./from-file\nlog.flush: os\n");
    load(NULL, 0);
    assert_non_null(strstr(host.data_dir, "/from-file"));
    teardown(NULL);
    setup(NULL);
    put("connectd.yaml", "data.dir: ./from-file\n");
    assert_int_equal(setenv("CONNECTD_DATA_DIR", "./from-env", 1), 0);
    load(NULL, 0);
    assert_non_null(strstr(host.data_dir, "/from-env"));
    teardown(NULL);
    setup(NULL);
    assert_int_equal(setenv("CONNECTD_DATA_DIR", "./from-env", 1), 0);
    const char *sets[] = {"data.dir=./from-set"};
    load(sets, 1);
    assert_non_null(strstr(host.data_dir, "/from-set"));
}

static void host_mistakes_are_all_found_with_their_places(void **state)
{
    (void)state;
    put("connectd.yaml", "listenerz: http://127.0.0.1:1\n"
                         "log.flush: sometimes\n"
                         "bootstrap.servers: x:9092\n");
    load(NULL, 0);
    assert_true(pipeline_config_host_broken(&host, &findings));
    assert_int_equal(findings.n, 3);
    assert_finding(0, "connectd.yaml:1:1: listenerz: unknown key (did you mean listeners?)");
    assert_finding(1, "connectd.yaml:2:12: log.flush: must be one of always, interval, os, not "
                      "'sometimes'");
    assert_finding(2, "connectd.yaml:3:1: bootstrap.servers: bootstrap.servers is not built yet; "
                      "remove the key");
}

static void topics_and_connectors_come_from_all_files(void **state)
{
    (void)state;
    put("connectors.d/a.yaml",
        "topics:\n  t1: {partitions: 2, segment.ms: 1000}\n"
        "connectors:\n  c1:\n    connector.class: X\n    tasks:\n      max: 3\n"
        "    list: [a, b]\n    gone: null\n");
    put("connectors.d/b.json", "{\"name\":\"c2\",\"config\":{\"connector.class\":\"Y\"}}");
    put("connectors.d/c.properties", "name=c3\nconnector.class=Z\n");
    put("connectors.d/ignored.txt", "nonsense: [");
    load(NULL, 0);
    assert_int_equal(findings.n, 0);
    assert_int_equal(declared.n_topics, 1);
    assert_int_equal(declared.topics[0].partitions, 2);
    assert_string_equal(pipeline_kv_get(&declared.topics[0].config, "segment.ms"), "1000");
    assert_int_equal(declared.n_connectors, 3);
    assert_string_equal(pipeline_kv_get(&declared.connectors[0].config, "tasks.max"), "3");
    assert_string_equal(pipeline_kv_get(&declared.connectors[0].config, "list"), "a,b");
    assert_null(pipeline_kv_get(&declared.connectors[0].config, "gone"));
    assert_string_equal(declared.connectors[1].name, "c2");
    assert_string_equal(declared.connectors[2].name, "c3");
}

static void pipeline_files_refuse_what_does_not_belong(void **state)
{
    (void)state;
    put("connectors.d/a.yaml", "topics:\n  t1:\n    partitons: 2\n  t2:\n    partitions: 0\n"
                               "conectors:\n  x: 1\n");
    load(NULL, 0);
    assert_int_equal(findings.n, 3);
    assert_finding(0,
                   "./connectors.d/a.yaml:3:5: topics.t1.partitons: unknown topic config (did you "
                   "mean partitions?)");
    assert_finding(
        1, "./connectors.d/a.yaml:5:17: topics.t2.partitions: must be from 1 to 10000, not 0");
    assert_finding(2, "./connectors.d/a.yaml:6:1: conectors: a pipeline file holds topics: and "
                      "connectors: only (did you mean connectors?)");
    assert_false(pipeline_config_host_broken(&host, &findings));
}

static void the_first_file_keeps_a_name_and_the_later_is_told(void **state)
{
    (void)state;
    put("connectors.d/a.yaml",
        "connectors:\n  c1: {connector.class: A}\ntopics:\n  t: {partitions: 1}\n");
    put("connectors.d/b.yaml",
        "connectors:\n  c1: {connector.class: B}\ntopics:\n  t: {partitions: 2}\n");
    load(NULL, 0);
    assert_int_equal(declared.n_connectors, 1);
    assert_string_equal(pipeline_kv_get(&declared.connectors[0].config, "connector.class"), "A");
    assert_int_equal(declared.topics[0].partitions, 1);
    assert_int_equal(findings.n, 2);
    assert_string_equal(findings.items[0].file, "./connectors.d/b.yaml");
}

static void a_named_folder_must_be_readable(void **state)
{
    (void)state;
    const char *sets[] = {"connectors.dir=./nowhere"};
    load(sets, 1);
    assert_int_equal(findings.n, 1);
    assert_string_equal(findings.items[0].key, "connectors.dir");
}

int config_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_without_a_file, setup, teardown),
        cmocka_unit_test_setup_teardown(file_then_environment_then_set, setup, teardown),
        cmocka_unit_test_setup_teardown(host_mistakes_are_all_found_with_their_places, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(topics_and_connectors_come_from_all_files, setup, teardown),
        cmocka_unit_test_setup_teardown(pipeline_files_refuse_what_does_not_belong, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_first_file_keeps_a_name_and_the_later_is_told, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_named_folder_must_be_readable, setup, teardown),
    };
    return cmocka_run_group_tests_name("pipeline config", tests, NULL, NULL);
}
