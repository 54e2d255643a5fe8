/* Restart policy: doubling with jitter to a cap, crash loop after five failures, and what a failure remembers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "pipeline/pipeline_int.h"
#include "pipeline/pipeline_tests.h"

static struct connector with(const char *key, const char *value)
{
    struct connector c;
    memset(&c, 0, sizeof(c));
    struct kv kv = {.key = (char *)(uintptr_t)key, .value = (char *)(uintptr_t)value};
    assert_int_equal(pipeline_kv_add(&c.effective, &kv), 0);
    return c;
}

static void waits_double_to_the_cap(void **state)
{
    (void)state;
    struct connector c = with("restart.backoff.max.ms", "4000");
    struct restart r = {0};
    int condition = 0;
    const int64_t expected[] = {1000, 2000, 4000, 4000, 4000};
    for (int i = 0; i < 5; i++) {
        int64_t wait = pipeline_restart_failed(&r, &c, -1, &condition);
        assert_in_range(wait, expected[i] * 8 / 10, expected[i] * 12 / 10 + 1);
        assert_int_equal(condition, i == 4 ? CONDITION_CRASH_LOOP : CONDITION_NONE);
    }
    pipeline_kv_free(&c.effective);
}

static void never_means_never(void **state)
{
    (void)state;
    struct connector c = with("restart.policy", "never");
    struct restart r = {0};
    int condition = 0;
    assert_int_equal(pipeline_restart_failed(&r, &c, -1, &condition), -1);
    assert_int_equal(r.next_wall_ms, 0);
    pipeline_kv_free(&c.effective);
}

static void the_plugin_may_ask_for_a_longer_wait(void **state)
{
    (void)state;
    struct connector c = with("restart.backoff.ms", "10");
    struct restart r = {0};
    int condition = 0;
    assert_int_equal(pipeline_restart_failed(&r, &c, 5000, &condition), 5000);
    pipeline_kv_free(&c.effective);
}

static void a_failure_counts_repetitions_of_its_kind(void **state)
{
    (void)state;
    struct failure f = {0};
    pipeline_failure_set(&f, "data", LINK_STAGE_PUT, "one", 3);
    pipeline_failure_set(&f, "data", LINK_STAGE_PUT, "two", 4);
    assert_int_equal(f.count, 2);
    assert_string_equal(f.message, "two");
    pipeline_failure_set(&f, "SIGSEGV", LINK_STAGE_PUT, "three", -1);
    assert_int_equal(f.count, 1);
    assert_true(f.first_ms == f.last_ms);
}

int restart_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_to_the_cap),
        cmocka_unit_test(never_means_never),
        cmocka_unit_test(the_plugin_may_ask_for_a_longer_wait),
        cmocka_unit_test(a_failure_counts_repetitions_of_its_kind),
    };
    return cmocka_run_group_tests_name("pipeline restart", tests, NULL, NULL);
}
