/* A source through a real runner: what it commits, in what units, with which offsets, and how it ends. */
#include "host.h"
#include "tests.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define SOURCE FIXTURES "/fixture_source.so"

static void begin(struct host *h, const char *class_name)
{
    host_init(h, SOURCE, class_name);
    host_set(h, "topic", "t1");
    host_set(h, "value.converter", "StringConverter");
}

/* Goes through an append's records: value[i] must be the number that the source gave it. */
struct seen {
    int records;
    int64_t sum;
    int64_t last; /* per call order */
};

static void look(const struct link_append *a, struct seen *s, int keyed, int32_t partitions)
{
    const uint8_t *p = a->batches.ptr;
    size_t left = a->batches.len;
    while (left > 0) {
        struct record_batch b;
        struct record_iter it;
        struct record_view v;
        assert_int_equal(record_batch_peek(p, left, left, &b, NULL), 0);
        assert_true(record_batch_crc_ok(&b));
        assert_int_equal(record_iter_init(&it, &b, NULL), 0);
        while (record_iter_next(&it, &v, NULL) == 1) {
            char text[32] = {0};
            assert_true(v.value.len < sizeof(text));
            memcpy(text, v.value.ptr, v.value.len);
            int64_t n = 0;
            assert_int_equal(str_to_i64(text, &n), 0);
            s->records++;
            s->sum += n;
            s->last = n;
            assert_true(keyed == (v.key.ptr != NULL));
            if (keyed) {
                assert_int_equal(record_partition_for_key(v.key, partitions), a->partition);
            }
            assert_true(v.timestamp_ms > 1500000000000);
        }
        p += b.bytes;
        left -= b.bytes;
    }
}

static void stop_and_exit(struct host *h)
{
    host_send_empty(h, LINK_STOP, 0);
    (void)host_expect(h, LINK_STOPPED);
    host_send_empty(h, LINK_EXIT, LINK_NO_TASK);
    assert_int_equal(host_wait_exit(h), 0);
}

static void test_keyed(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "count", "1000");
    host_set(&h, "keys", "17");
    host_set(&h, "partitions", "3");
    h.partitions = 4;
    host_start(&h);
    struct seen s = {0};
    uint64_t seq = 1;
    char offset[64] = "";
    while (s.records < 1000) {
        struct link_commit c = host_expect_commit(&h);
        assert_int_equal(c.seq, seq++);
        assert_int_equal(c.generation, -1);
        assert_int_equal(c.n_group_offsets, 0);
        assert_int_equal(c.n_source_offsets, 3); /* one a source partition, the last wins */
        for (uint32_t i = 0; i < c.n_appends; i++) {
            look(&c.appends[i], &s, 1, 4);
        }
        for (uint32_t i = 0; i < 3; i++) {
            char want[64];
            (void)snprintf(want, sizeof(want), "{\"next\":%d}", s.records);
            if (slice_eq(c.source_offsets[i].offset, slice_str(want))) {
                (void)snprintf(offset, sizeof(offset), "%s", want);
            }
        }
        host_committed(&h, &c, 0, 500);
    }
    assert_string_equal(offset, "{\"next\":1000}");
    assert_int_equal(s.sum, 1000 * 999 / 2);
    host_send_empty(&h, LINK_STOP, 0);
    (void)host_expect(&h, LINK_STOPPED);
    assert_true(host_logged(&h, "module initialised"));
    assert_true(host_logged(&h, "stopped: durable=1000 failed=0"));
    assert_true(host_logged(&h, "destroyed"));
    assert_false(host_logged(&h, "out of order"));
    assert_int_equal(atomic_load(&h.shared->task[0].records), 1000);
    assert_true(atomic_load(&h.shared->task[0].moved_ms) > 0);
    host_send_empty(&h, LINK_EXIT, LINK_NO_TASK);
    assert_int_equal(host_wait_exit(&h), 0);
    host_clear(&h);
}

/* Keyless records of one unit go to one partition, those of the next to the next. */
static void test_keyless_sticks(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixturePlainSource");
    host_set(&h, "count", "500");
    h.partitions = 3;
    host_start(&h);
    for (int i = 0; i < 5; i++) {
        struct link_commit c = host_expect_commit(&h);
        struct seen s = {0};
        assert_int_equal(c.n_appends, 1);
        assert_int_equal(c.appends[0].partition, i % 3);
        look(&c.appends[0], &s, 0, 3);
        assert_int_equal(s.records, 100);
        assert_int_equal(s.last, i * 100 + 99);
        host_committed(&h, &c, 0, 0);
    }
    stop_and_exit(&h);
    host_clear(&h);
}

static void test_own_partition(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "keys", "5");
    host_set(&h, "target", "2");
    h.partitions = 3;
    host_start(&h);
    struct link_commit c = host_expect_commit(&h);
    assert_int_equal(c.n_appends, 1);
    assert_int_equal(c.appends[0].partition, 2);
    host_committed(&h, &c, 0, 41);
    host_wait_log(&h, "last result t1-2 at 50"); /* the tenth record of a batch at 41 */
    stop_and_exit(&h);
    host_clear(&h);
}

static void test_resume(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    h.stored = "{\"next\":7,\"more\":[1,null]}";
    host_start(&h);
    struct link_commit c = host_expect_commit(&h);
    struct seen s = {0};
    look(&c.appends[0], &s, 0, 2);
    assert_int_equal(s.records, 3);
    assert_int_equal(s.sum, 7 + 8 + 9);
    host_committed(&h, &c, 0, 0);
    stop_and_exit(&h);
    host_clear(&h);
}

static void check_stored(const char *kind, const char *converter, const char *want)
{
    struct host h;
    host_init(&h, SOURCE, "FixtureSource");
    host_set(&h, "topic", "t1");
    host_set(&h, "count", "1");
    host_set(&h, "value", kind);
    if (converter != NULL) {
        host_set(&h, "value.converter", converter);
    }
    host_start(&h);
    struct link_commit c = host_expect_commit(&h);
    struct record_batch b;
    struct record_iter it;
    struct record_view v;
    assert_int_equal(record_batch_peek(c.appends[0].batches.ptr, c.appends[0].batches.len,
                                       c.appends[0].batches.len, &b, NULL),
                     0);
    assert_int_equal(record_iter_init(&it, &b, NULL), 0);
    assert_int_equal(record_iter_next(&it, &v, NULL), 1);
    if (want == NULL) {
        assert_null(v.value.ptr);
    } else {
        assert_int_equal(v.value.len, strlen(want));
        assert_memory_equal(v.value.ptr, want, v.value.len);
    }
    if (strcmp(kind, "header") == 0) {
        struct cursor at;
        struct record_header header;
        cursor_init(&at, v.headers, v.headers_len);
        assert_int_equal(v.n_headers, 1);
        assert_int_equal(record_headers_next(&at, &header), 1);
        assert_true(slice_eq(header.name, slice_str("h")));
        assert_true(slice_eq(header.value, slice_str("hv")));
    }
    host_committed(&h, &c, 0, 0);
    stop_and_exit(&h);
    host_clear(&h);
}

static void test_values(void **state)
{
    (void)state;
    check_stored("json", NULL, "{\"n\":0}"); /* by default: JSON without schemas */
    check_stored("string", NULL, "\"0\"");
    check_stored("raw", NULL, "{\"raw\" : 0}"); /* byte for byte, outer blanks trimmed */
    check_stored("null", NULL, NULL);
    check_stored("header", "StringConverter", "0");
    check_stored("bytes", "ByteArrayConverter", "0");
    check_stored("string", "org.apache.kafka.connect.storage.StringConverter", "0");
}

/* Batches end at the topic's limit; a unit has as many as it needs. */
static void test_batch_limit(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "count", "100");
    host_set(&h, "pad", "20");
    h.max_batch_bytes = 300; /* host_expect_commit() holds every batch against it */
    h.partitions = 1;
    host_start(&h);
    struct link_commit c = host_expect_commit(&h);
    int64_t records = 0;
    int64_t batches = 0;
    assert_int_equal(record_batches_check(c.appends[0].batches.ptr, c.appends[0].batches.len, 300,
                                          &records, &batches, NULL),
                     0);
    assert_int_equal(records, 100);
    assert_in_range(batches, 12, 20);
    host_committed(&h, &c, 0, 0);
    stop_and_exit(&h);
    host_clear(&h);
}

static void test_record_too_large(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "pad", "500");
    h.max_batch_bytes = 300;
    host_start(&h);
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.status, CTD_E_DATA);
    assert_int_equal(f.stage, LINK_STAGE_CONVERT);
    assert_int_equal(f.record_index, 0);
    assert_non_null(strstr((const char *)f.message.ptr, "too large for topic t1"));
    assert_non_null(strstr((const char *)f.message.ptr, "300"));
    host_clear(&h);
}

/* Nothing is sent beyond the window; an answer opens it again. */
static void test_window(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "count", "1000000");
    h.window_bytes = 1; /* one unit at a time */
    host_start(&h);
    for (int i = 0; i < 3; i++) {
        struct link_commit c = host_expect_commit(&h);
        struct link_frame f;
        assert_int_equal(host_next(&h, 150, &f), 0);
        host_committed(&h, &c, 0, 0);
    }
    host_clear(&h);
    /* Control: with room for more, more come without an answer. */
    begin(&h, "FixtureSource");
    host_set(&h, "count", "1000000");
    host_start(&h);
    for (uint64_t i = 1; i <= 10; i++) {
        assert_int_equal(host_expect_commit(&h).seq, i);
    }
    host_clear(&h);
}

static void test_pause(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "count", "1000000");
    host_set(&h, "pause.ms", "5");
    host_start(&h);
    struct link_commit c = host_expect_commit(&h);
    host_committed(&h, &c, 0, 0);
    host_send_empty(&h, LINK_PAUSE, 0);
    struct link_frame f;
    while (host_next(&h, 200, &f)) { /* what was under way ends */
        assert_int_equal(f.type, LINK_COMMIT);
        assert_int_equal(link_get_commit(&f, h.arena, &c, NULL), 0);
        host_committed(&h, &c, 0, 0);
    }
    int64_t polled = atomic_load(&h.shared->task[0].records);
    assert_int_equal(atomic_load(&h.shared->task[0].stage), LINK_STAGE_NONE);
    host_send_empty(&h, LINK_RESUME, 0);
    c = host_expect_commit(&h);
    host_committed(&h, &c, 0, 0);
    assert_true(atomic_load(&h.shared->task[0].records) > polled);
    host_send_empty(&h, LINK_PAUSE, 0); /* stops in a pause, too */
    host_send_empty(&h, LINK_STOP, 0);
    while (host_next(&h, WAIT_MS, &f) && f.type == LINK_COMMIT) {
        assert_int_equal(link_get_commit(&f, h.arena, &c, NULL), 0);
        host_committed(&h, &c, 0, 0);
    }
    assert_int_equal(f.type, LINK_STOPPED);
    host_clear(&h);
}

/* A refused commit fails the task; the plugin hears of each record; it can be started again. */
static void test_commit_fails(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "count", "300");
    host_start(&h);
    struct link_commit first = host_expect_commit(&h);
    (void)host_expect_commit(&h);
    (void)host_expect_commit(&h);
    host_committed(&h, &first, ERR_STALE, 0); /* the others are not answered any more */
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.status, ERR_STALE);
    assert_non_null(strstr((const char *)f.message.ptr, "not committed: full"));
    assert_true(host_logged(&h, "stopped: durable=0 failed=300"));
    assert_true(host_logged(&h, "destroyed"));
    host_start_task(&h, 0);
    (void)host_expect(&h, LINK_STARTED);
    struct link_commit again = host_expect_commit(&h);
    assert_int_equal(again.seq, 1);
    struct seen s = {0};
    look(&again.appends[0], &s, 0, 2);
    assert_int_equal(s.last, 99);
    host_clear(&h);
}

static void test_resolve_fails(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    h.resolve_status = ERR_CONFIG;
    host_start(&h);
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.status, ERR_CONFIG);
    assert_string_equal((const char *)f.message.ptr, "topic t1: no such luck");
    host_clear(&h);
}

/* An idle source costs next to nothing and is stopped in the middle of its wait. */
static void test_stop_while_idle(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "count", "0");
    host_start(&h);
    while (atomic_load(&h.shared->task[0].stage) != LINK_STAGE_POLL) {
    }
    int64_t began = clock_mono_ms();
    stop_and_exit(&h);
    assert_true(clock_mono_ms() - began < WAIT_MS / 4);
    host_clear(&h);
}

static void test_host_goes(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "fault.stage", "poll");
    host_set(&h, "fault.kind", "hang");
    host_start(&h);
    (void)close(h.control);
    h.control = -1;
    assert_int_equal(host_wait_exit(&h), 0);
    host_clear(&h);
}

static void test_two_tasks(void **state)
{
    (void)state;
    struct host h;
    begin(&h, "FixtureSource");
    host_set(&h, "fan", "3");
    host_spawn(&h);
    (void)host_expect(&h, LINK_READY);
    struct buf out = BUF_INIT(0);
    link_put_fan_out(&out, &(struct link_fan_out){.max_tasks = 2});
    host_send(&h, &out);
    struct link_frame f = host_expect(&h, LINK_TASKS);
    struct link_tasks tasks;
    assert_int_equal(link_get_tasks(&f, h.arena, &tasks, NULL), 0);
    assert_int_equal(tasks.n_tasks, 2);
    assert_int_equal(tasks.tasks[1].n_config, 1);
    assert_true(slice_eq(tasks.tasks[1].config[0].key, slice_str("fixture.task")));
    assert_true(slice_eq(tasks.tasks[1].config[0].value, slice_str("1")));
    host_start_task(&h, 0);
    host_start_task(&h, 1);
    (void)host_expect(&h, LINK_STARTED);
    int commits[2] = {0, 0};
    int started = 1;
    while (commits[0] + commits[1] < 2 || started < 2) {
        assert_int_equal(host_next(&h, WAIT_MS, &f), 1);
        assert_true(f.task < 2);
        commits[f.task] += f.type == LINK_COMMIT;
        started += f.type == LINK_STARTED;
    }
    assert_int_equal(commits[0], 1);
    assert_int_equal(commits[1], 1);
    buf_free(&out);
    host_clear(&h);
}

int test_source(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keyed),
        cmocka_unit_test(test_keyless_sticks),
        cmocka_unit_test(test_own_partition),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_batch_limit),
        cmocka_unit_test(test_record_too_large),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_commit_fails),
        cmocka_unit_test(test_resolve_fails),
        cmocka_unit_test(test_stop_while_idle),
        cmocka_unit_test(test_host_goes),
        cmocka_unit_test(test_two_tasks),
    };
    return cmocka_run_group_tests_name("runner: source", tests, NULL, NULL);
}
