/* Plugins that fail, crash, hang or break the ABI: what the host hears and sees. */
#include "host.h"
#include "tests.h"

#include <signal.h>
#include <string.h>

#include "base/clock.h"

#define SOURCE FIXTURES "/fixture_source.so"

static void begin(struct host *h, const char *stage, const char *kind)
{
    host_init(h, SOURCE, "FixtureSource");
    host_set(h, "topic", "t1");
    host_set(h, "fault.stage", stage);
    host_set(h, "fault.kind", kind);
}

/* Spawns and starts; the task may fail before STARTED. */
static void start_only(struct host *h)
{
    host_spawn(h);
    (void)host_expect(h, LINK_READY);
    host_start_task(h, 0);
}

static void test_statuses(void **state)
{
    (void)state;
    static const struct {
        const char *stage, *kind;
        int where;
        int32_t status;
    } cases[] = {
        {"create", "fail-config", LINK_STAGE_CREATE, CTD_E_CONFIG},
        {"start", "fail-io", LINK_STAGE_START, CTD_E_IO},
        {"poll", "fail-fatal", LINK_STAGE_POLL, CTD_E_FATAL},
        {"poll", "fail-data", LINK_STAGE_POLL, CTD_E_DATA},
        {"poll", "fail-fenced", LINK_STAGE_POLL, CTD_E_FENCED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct host h;
        begin(&h, cases[i].stage, cases[i].kind);
        host_set(&h, "fault.times", "1");
        start_only(&h);
        struct link_failed f = host_expect_failed(&h);
        assert_int_equal(f.status, cases[i].status);
        assert_int_equal(f.stage, cases[i].where);
        assert_int_equal(f.abi, 0);
        assert_int_equal(f.record_index, cases[i].status == CTD_E_DATA ? 1 : -1);
        assert_non_null(strstr((const char *)f.message.ptr, "told to fail-"));
        /* A new instance in the same process. */
        host_start_task(&h, 0);
        struct link_frame next;
        assert_int_equal(host_next(&h, WAIT_MS, &next), 1);
        assert_int_equal(next.type,
                         strcmp(cases[i].stage, "poll") == 0 ? LINK_STARTED : LINK_FAILED);
        host_clear(&h);
    }
}

static void test_stop_fails(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "stop", "fail-io");
    host_set(&h, "count", "0");
    host_start(&h);
    host_send_empty(&h, LINK_STOP, 0);
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.stage, LINK_STAGE_STOP);
    assert_int_equal(f.status, CTD_E_IO);
    host_start_task(&h, 0); /* and it can be started again and answers the next STOP */
    (void)host_expect(&h, LINK_STARTED);
    host_clear(&h);
}

static void test_retriable(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "poll", "fail-retriable");
    host_set(&h, "fault.times", "3");
    host_start(&h);
    for (int i = 0; i < 3; i++) {
        struct link_frame f = host_expect(&h, LINK_NOTE);
        struct link_failed note;
        assert_int_equal(link_get_failed(&f, &note, NULL), 0);
        assert_int_equal(note.status, CTD_E_RETRIABLE);
        assert_int_equal(note.stage, LINK_STAGE_POLL);
        assert_int_equal(note.retry_after_ms, 1);
    }
    struct link_commit c = host_expect_commit(&h);
    assert_int_equal(c.seq, 1);
    host_clear(&h);
}

static void test_abi_breaches(void **state)
{
    (void)state;
    static const char *const kinds[] = {"abi-null-records", "abi-release", "abi-many", "abi-status",
                                        "abi-message"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct host h;
        begin(&h, "poll", kinds[i]);
        host_start(&h);
        struct link_failed f = host_expect_failed(&h);
        assert_int_equal(f.abi, 1);
        assert_int_equal(f.stage, LINK_STAGE_POLL);
        host_clear(&h);
    }
    struct host h;
    begin(&h, "", "");
    host_set(&h, "target", "99");
    host_start(&h);
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.abi, 1);
    assert_non_null(strstr((const char *)f.message.ptr, "partition 99 of topic t1, which has 2"));
    host_clear(&h);
}

static void wait_stage(const struct link_slot *slot, int stage)
{
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    while (atomic_load(&slot->stage) != stage) {
        assert_true(clock_mono_ms() < deadline);
    }
}

/* The shared page says where it was when it died. */
static void test_crashes(void **state)
{
    (void)state;
    static const struct {
        const char *stage, *kind;
        int where, status;
    } cases[] = {
        {"poll", "segv", LINK_STAGE_POLL, 1000 + SIGSEGV},
        {"start", "abort", LINK_STAGE_START, 1000 + SIGABRT},
        {"create", "exit", LINK_STAGE_CREATE, 7},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct host h;
        begin(&h, cases[i].stage, cases[i].kind);
        start_only(&h);
        int status = host_wait_exit(&h);
#ifdef CONNECTD_SANITIZER /* its signal handlers turn a SIGSEGV into an exit with a report */
        assert_int_not_equal(status, 0);
#else
        assert_int_equal(status, cases[i].status);
#endif
        assert_int_equal(atomic_load(&h.shared->task[0].stage), cases[i].where);
        host_clear(&h);
    }
}

/* A hanging call is seen in the page with its age; progress() renews it. */
static void test_hangs(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "poll", "hang");
    host_start(&h);
    const struct link_slot *slot = &h.shared->task[0];
    wait_stage(slot, LINK_STAGE_POLL);
    int64_t since = atomic_load(&slot->since_ms);
    struct link_frame f;
    assert_int_equal(host_next(&h, 200, &f), 0);
    assert_int_equal(atomic_load(&slot->stage), LINK_STAGE_POLL);
    assert_int_equal(atomic_load(&slot->since_ms), since);
    host_clear(&h);

    begin(&h, "poll", "hang-progress");
    host_start(&h);
    slot = &h.shared->task[0];
    wait_stage(slot, LINK_STAGE_POLL);
    since = atomic_load(&slot->since_ms);
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    while (atomic_load(&slot->since_ms) < since + 50) {
        assert_true(clock_mono_ms() < deadline);
    }
    assert_int_equal(atomic_load(&slot->stage), LINK_STAGE_POLL);
    host_clear(&h);
}

/* on_result() that hangs is seen although poll() goes on; cancel() that hangs in the control slot. */
static void test_hangs_elsewhere(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "on_result", "hang");
    host_set(&h, "count", "1000000");
    host_start(&h);
    struct link_commit c = host_expect_commit(&h);
    host_committed(&h, &c, 0, 0);
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    struct link_frame f;
    while (atomic_load(&h.shared->task[0].stage) != LINK_STAGE_ON_RESULT) {
        assert_true(clock_mono_ms() < deadline);
        (void)host_next(&h, 1, &f);
    }
    int64_t since = atomic_load(&h.shared->task[0].since_ms);
    (void)host_next(&h, 100, &f);
    assert_int_equal(atomic_load(&h.shared->task[0].since_ms), since);
    host_clear(&h);

    begin(&h, "cancel", "hang");
    host_set(&h, "count", "0");
    host_start(&h);
    wait_stage(&h.shared->task[0], LINK_STAGE_POLL);
    host_send_empty(&h, LINK_STOP, 0);
    wait_stage(&h.shared->control, LINK_STAGE_CANCEL);
    host_clear(&h);
}

/* More log lines than a runner may send: the rest is counted, and control goes on. */
static void test_log_is_bounded(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "", "");
    host_set(&h, "count", "1000000000"); /* until the next second, when the count is told */
    host_set(&h, "batch", "1");          /* a result line each */
    host_start(&h);
    struct arena *scratch = arena_new(0);
    struct link_frame f;
    int commits = 0;
    int64_t began = clock_mono_ms();
    while (!host_logged(&h, "log lines were dropped") && clock_mono_ms() - began < WAIT_MS) {
        int got = host_next(&h, 100, &f);
        if (got && f.type == LINK_FAILED) {
            struct link_failed x;
            assert_int_equal(link_get_failed(&f, &x, NULL), 0);
            fail_msg("%.*s", (int)x.message.len, (const char *)x.message.ptr);
        }
        if (got && f.type == LINK_COMMIT) {
            struct link_commit c;
            arena_reset(scratch);
            assert_int_equal(link_get_commit(&f, scratch, &c, NULL), 0);
            host_committed(&h, &c, 0, commits++);
        }
    }
    assert_true(commits > 200);
    assert_true(host_logged(&h, "log lines were dropped"));
    arena_free(scratch);
    host_clear(&h);
}

int test_fault(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses),        cmocka_unit_test(test_stop_fails),
        cmocka_unit_test(test_retriable),       cmocka_unit_test(test_abi_breaches),
        cmocka_unit_test(test_crashes),         cmocka_unit_test(test_hangs),
        cmocka_unit_test(test_hangs_elsewhere), cmocka_unit_test(test_log_is_bounded),
    };
    return cmocka_run_group_tests_name("runner: faults", tests, NULL, NULL);
}
