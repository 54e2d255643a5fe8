/* A sink through a real runner: RECORDS in, lines and commits out. */
#include "host.h"
#include "tests.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

#define SINK FIXTURES "/fixture_sink.so"

static void begin(struct host *h)
{
    host_init(h, SINK, "FixtureSink");
    host_set(h, "value.converter", "StringConverter");
    host_setf(h, "file", "%s/out.txt", h->dir);
}

static void start_open(struct host *h, int64_t offset)
{
    host_start(h);
    host_open(h, 1, "t1", 2, offset);
    struct link_frame f = host_expect(h, LINK_OPENED);
    struct link_parts p;
    assert_int_equal(link_get_parts(&f, h->arena, &p, NULL), 0);
    assert_int_equal(p.generation, 1);
    assert_int_equal(p.n_parts, 2);
}

/* Records [from, from + n) of t1-partition. */
static void deliver(struct host *h, int32_t partition, int64_t from, int n)
{
    struct buf batches = BUF_INIT(0);
    host_batch(&batches, from, n, "v");
    host_records(h, 1, "t1", partition, from, from + n, &batches);
    buf_free(&batches);
}

static uint64_t expect_credit(struct host *h)
{
    struct link_frame f = host_expect(h, LINK_CREDIT);
    struct link_credit credit;
    assert_int_equal(link_get_credit(&f, &credit, NULL), 0);
    return credit.bytes;
}

static const char *read_out(struct host *h)
{
    struct buf text = BUF_INIT(0);
    char *path = arena_printf(h->arena, "%s/out.txt", h->dir);
    int rc = file_read(path, 1 << 20, &text, NULL);
    char *copy = rc == 0 ? arena_strdup(h->arena, buf_cstr(&text)) : arena_strdup(h->arena, "");
    buf_free(&text);
    return copy;
}

/* Waits for a COMMIT of one group offset and answers it. */
static void expect_group(struct host *h, int32_t partition, int64_t offset)
{
    struct link_commit c = host_expect_commit(h);
    assert_int_equal(c.generation, 1);
    assert_int_equal(c.n_appends, 0);
    assert_int_equal(c.n_group_offsets, 1);
    assert_true(slice_eq(c.group_offsets[0].topic, slice_str("t1")));
    assert_int_equal(c.group_offsets[0].partition, partition);
    assert_int_equal(c.group_offsets[0].offset, offset);
    host_committed(h, &c, 0, 0);
}

static void stop_and_exit(struct host *h)
{
    host_send_empty(h, LINK_STOP, 0);
    (void)host_expect(h, LINK_STOPPED);
    host_send_empty(h, LINK_EXIT, LINK_NO_TASK);
    assert_int_equal(host_wait_exit(h), 0);
}

static void close_part(struct host *h, int32_t partition, int64_t want_next)
{
    struct link_part part = {.topic = slice_str("t1"), .partition = partition};
    struct buf out = BUF_INIT(0);
    link_put_parts(&out, LINK_CLOSE, 0, &(struct link_parts){1, &part, 1});
    host_send(h, &out);
    buf_free(&out);
    struct link_frame f = host_expect(h, LINK_CLOSED);
    struct link_parts p;
    assert_int_equal(link_get_parts(&f, h->arena, &p, NULL), 0);
    assert_int_equal(p.n_parts, 1);
    assert_int_equal(p.parts[0].partition, partition);
    assert_int_equal(p.parts[0].offset, want_next);
}

static void test_lines(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    start_open(&h, 5);
    deliver(&h, 1, 5, 3);
    struct buf batches = BUF_INIT(0);
    host_batch(&batches, 5, 3, "v");
    assert_int_equal(expect_credit(&h), batches.len);
    buf_free(&batches);
    expect_group(&h, 1, 8); /* idle: flushed and committed at once */
    assert_string_equal(read_out(&h), "t1 1 5 k0 v5\nt1 1 6 k1 v6\nt1 1 7 k2 v7\n");
    assert_int_equal(atomic_load(&h.shared->task[0].records), 3);
    deliver(&h, 0, 5, 1);
    (void)expect_credit(&h);
    expect_group(&h, 0, 6);
    close_part(&h, 1, 8);
    assert_true(host_logged(&h, "closed t1-1 at 8"));
    stop_and_exit(&h);
    assert_true(host_logged(&h, "closed t1-0 at 6"));
    assert_true(host_logged(&h, "destroyed: records=4"));
    host_clear(&h);
}

/* What CLOSE and STOP flush is committed before they are answered. */
static void test_stop_commits(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    host_set(&h, "fault.stage", "flush"); /* the first, idle flush is put off, so STOP finds work */
    host_set(&h, "fault.kind", "fail-retriable");
    host_set(&h, "fault.times", "1");
    start_open(&h, 0);
    deliver(&h, 0, 0, 10);
    (void)expect_credit(&h);
    host_send_empty(&h, LINK_STOP, 0);
    expect_group(&h, 0, 10);
    (void)host_expect(&h, LINK_STOPPED);
    host_clear(&h);
}

/* A batch may begin before the wanted offset; a generation that is over is dropped with its credit. */
static void test_skips_and_drops(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    start_open(&h, 2);
    struct buf batches = BUF_INIT(0);
    host_batch(&batches, 0, 4, "v");
    host_records(&h, 0, "t1", 0, 2, 4, &batches); /* an older generation */
    host_records(&h, 1, "t9", 0, 2, 4, &batches); /* not assigned */
    host_records(&h, 1, "t1", 0, 2, 4, &batches);
    host_records(&h, 1, "t1", 1, 9, 11, &batches); /* nothing in it is wanted, but it moves on */
    uint64_t credit = 0;
    int64_t committed[2] = {-1, -1};
    while (credit < 4 * batches.len || committed[0] < 4 || committed[1] < 11) {
        struct link_frame f;
        struct link_commit c;
        struct link_credit back;
        assert_int_equal(host_next(&h, WAIT_MS, &f), 1);
        if (f.type == LINK_CREDIT) {
            assert_int_equal(link_get_credit(&f, &back, NULL), 0);
            credit += back.bytes;
            continue;
        }
        assert_int_equal(f.type, LINK_COMMIT);
        assert_int_equal(link_get_commit(&f, h.arena, &c, NULL), 0);
        for (uint32_t i = 0; i < c.n_group_offsets; i++) {
            committed[c.group_offsets[i].partition] = c.group_offsets[i].offset;
        }
        host_committed(&h, &c, 0, 0);
    }
    assert_int_equal(credit, 4 * batches.len);
    buf_free(&batches);
    stop_and_exit(&h);
    assert_int_equal(committed[0], 4);
    assert_int_equal(committed[1], 11);
    assert_string_equal(read_out(&h), "t1 0 2 k2 v2\nt1 0 3 k0 v3\n");
    host_clear(&h);
}

static void test_retriable_put(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    host_set(&h, "fault.stage", "put");
    host_set(&h, "fault.kind", "fail-retriable");
    host_set(&h, "fault.times", "3");
    start_open(&h, 0);
    deliver(&h, 0, 0, 2);
    for (int i = 0; i < 3; i++) {
        struct link_frame f = host_expect(&h, LINK_NOTE);
        struct link_failed note;
        assert_int_equal(link_get_failed(&f, &note, NULL), 0);
        assert_int_equal(note.status, CTD_E_RETRIABLE);
        assert_int_equal(note.stage, LINK_STAGE_PUT);
    }
    (void)expect_credit(&h); /* the same batch, once */
    expect_group(&h, 0, 2);
    assert_string_equal(read_out(&h), "t1 0 0 k0 v0\nt1 0 1 k1 v1\n");
    stop_and_exit(&h);
    host_clear(&h);
}

/* A batch that is to come again waits through a pause, too. */
static void test_pause_between_tries(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    host_set(&h, "fault.stage", "put");
    host_set(&h, "fault.kind", "fail-retriable");
    start_open(&h, 0);
    deliver(&h, 0, 0, 2);
    (void)host_expect(&h, LINK_NOTE);
    host_send_empty(&h, LINK_PAUSE, 0);
    struct link_frame f;
    while (host_next(&h, 100, &f)) {
        assert_int_equal(f.type, LINK_NOTE);
    }
    host_send_empty(&h, LINK_RESUME, 0);
    (void)host_expect(&h, LINK_NOTE);
    host_send_empty(&h, LINK_STOP, 0);
    while (host_next(&h, WAIT_MS, &f) && f.type == LINK_NOTE) {
    }
    assert_int_equal(f.type, LINK_CREDIT); /* of the batch that was never taken */
    (void)host_expect(&h, LINK_STOPPED);
    host_clear(&h);
}

static void test_failing_put(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    host_set(&h, "fault.stage", "put");
    host_set(&h, "fault.kind", "fail-data");
    start_open(&h, 0);
    deliver(&h, 1, 40, 3);
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.status, CTD_E_DATA);
    assert_int_equal(f.stage, LINK_STAGE_PUT);
    assert_int_equal(f.record_index, 1);
    assert_string_equal((const char *)f.message.ptr, "t1-1 at offset 41: told to fail-data");
    assert_true(host_logged(&h, "destroyed"));
    host_clear(&h);
}

static void expect_breach(const char *stage, const char *kind, int where)
{
    struct host h;
    begin(&h);
    host_set(&h, "fault.stage", stage);
    host_set(&h, "fault.kind", kind);
    host_start(&h);
    host_open(&h, 1, "t1", 1, 0);
    if (where != LINK_STAGE_OPEN) {
        (void)host_expect(&h, LINK_OPENED);
        deliver(&h, 0, 0, 3);
    }
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.abi, 1);
    assert_int_equal(f.stage, where);
    host_clear(&h);
}

static void test_abi_breaches(void **state)
{
    (void)state;
    expect_breach("open", "abi-foreign", LINK_STAGE_OPEN);
    expect_breach("put", "abi-take", LINK_STAGE_PUT);
    expect_breach("flush", "abi-raise", LINK_STAGE_FLUSH);
}

/* flush() says that less is durable: the lower offset is what is committed. */
static void test_lowered(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    host_set(&h, "lower", "4");
    start_open(&h, 0);
    deliver(&h, 0, 0, 10);
    (void)expect_credit(&h);
    expect_group(&h, 0, 6);
    deliver(&h, 0, 10, 10);
    (void)expect_credit(&h);
    expect_group(&h, 0, 16);
    stop_and_exit(&h);
    host_clear(&h);
}

static void test_own_offsets(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    host_set(&h, "start.at", "17");
    host_start(&h);
    host_open(&h, 1, "t1", 1, 3);
    struct link_frame f = host_expect(&h, LINK_OPENED);
    struct link_parts p;
    assert_int_equal(link_get_parts(&f, h.arena, &p, NULL), 0);
    assert_int_equal(p.parts[0].offset, 17);
    expect_group(&h, 0, 17); /* the host's own offset follows the target's */
    stop_and_exit(&h);
    host_clear(&h);
}

/* A sink that keeps batches: their memory stays until it lets go. */
static void test_keeps(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    host_set(&h, "keep", "true");
    start_open(&h, 0);
    for (int i = 0; i < 20; i++) {
        deliver(&h, 0, i * 100, 100);
    }
    for (int i = 0; i < 20; i++) {
        (void)expect_credit(&h);
    }
    host_send_empty(&h, LINK_STOP, 0);
    struct link_frame f;
    int64_t last = 0;
    while (host_next(&h, WAIT_MS, &f) && f.type != LINK_STOPPED) {
        struct link_commit c;
        assert_int_equal(f.type, LINK_COMMIT);
        assert_int_equal(link_get_commit(&f, h.arena, &c, NULL), 0);
        last = c.group_offsets[0].offset;
        host_committed(&h, &c, 0, 0);
    }
    assert_int_equal(last, 2000);
    host_clear(&h);
}

/* At task.hold.bytes it is flushed, and given nothing more while it lets go of nothing. */
static void test_hold_cap(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    host_set(&h, "hoard", "true");
    h.hold_bytes = 50000; /* one batch with its records is more */
    start_open(&h, 0);
    deliver(&h, 0, 0, 1000);
    deliver(&h, 0, 1000, 1000);
    (void)expect_credit(&h);
    struct link_frame f;
    int64_t committed = -1;
    int noted = 0;
    while (committed < 0 || !noted) { /* on two sockets, so in any order */
        struct link_commit c;
        struct link_failed note;
        assert_int_equal(host_next(&h, WAIT_MS, &f), 1);
        if (f.type == LINK_COMMIT) {
            assert_int_equal(link_get_commit(&f, h.arena, &c, NULL), 0);
            committed = c.group_offsets[0].offset;
            host_committed(&h, &c, 0, 0);
        } else {
            assert_int_equal(f.type, LINK_NOTE);
            assert_int_equal(link_get_failed(&f, &note, NULL), 0);
            noted = memmem(note.message.ptr, note.message.len, "task.hold.bytes 50000", 21) != NULL;
        }
    }
    assert_int_equal(committed, 1000);
    assert_int_equal(host_next(&h, 150, &f), 0); /* the second batch waits */
    assert_int_equal(atomic_load(&h.shared->task[0].records), 1000);
    stop_and_exit(&h);
    host_clear(&h);
    /* Control: with room it is put at once. */
    begin(&h);
    host_set(&h, "hoard", "true");
    start_open(&h, 0);
    deliver(&h, 0, 0, 1000);
    deliver(&h, 0, 1000, 1000);
    (void)expect_credit(&h);
    (void)expect_credit(&h);
    host_clear(&h);
}

static void expect_bad(struct host *h, const struct buf *batches, const char *message)
{
    start_open(h, 0);
    host_records(h, 1, "t1", 0, 0, 3, batches);
    struct link_failed f = host_expect_failed(h);
    assert_int_equal(f.stage, LINK_STAGE_CONVERT);
    if (strstr((const char *)f.message.ptr, message) == NULL) {
        fail_msg("'%s' lacks '%s'", (const char *)f.message.ptr, message);
    }
    assert_string_equal(read_out(h), "");
    host_clear(h);
}

static void test_bad_batches(void **state)
{
    (void)state;
    struct host h;
    struct buf batches = BUF_INIT(0);
    host_batch(&batches, 0, 3, "v");
    batches.data[batches.len - 1] ^= 1;
    begin(&h);
    expect_bad(&h, &batches, "t1-0: the batch at offset 0: its checksum is wrong");
    batches.data[16] = 1; /* magic */
    begin(&h);
    expect_bad(&h, &batches, "t1-0");
    buf_clear(&batches);
    host_batch(&batches, 0, 2, "\"ok\"//"); /* not JSON */
    host_init(&h, SINK, "FixtureSink");
    host_setf(&h, "file", "%s/out.txt", h.dir);
    expect_bad(&h, &batches, "t1-0 at offset 0");
    buf_clear(&batches);
    host_batch(&batches, 0, 3, "v");
    batches.len -= 5; /* torn */
    begin(&h);
    expect_bad(&h, &batches, "t1-0");
    buf_free(&batches);
}

static void test_pause(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    start_open(&h, 0);
    host_send_empty(&h, LINK_PAUSE, 0);
    host_open(&h, 1, "t2", 1, 0); /* commands go on in a pause, and this one came after it */
    (void)host_expect(&h, LINK_OPENED);
    deliver(&h, 0, 0, 3);
    struct link_frame f;
    assert_int_equal(host_next(&h, 100, &f), 0);
    host_send_empty(&h, LINK_RESUME, 0);
    (void)expect_credit(&h);
    expect_group(&h, 0, 3);
    stop_and_exit(&h);
    host_clear(&h);
}

/* A refused commit of offsets ends the task: the host has another generation. */
static void test_commit_refused(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    start_open(&h, 0);
    deliver(&h, 0, 0, 3);
    struct link_commit c = host_expect_commit(&h);
    host_committed(&h, &c, ERR_STALE, 0);
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.status, ERR_STALE);
    assert_int_equal(f.stage, LINK_STAGE_FLUSH);
    host_start_task(&h, 0);
    (void)host_expect(&h, LINK_STARTED);
    host_clear(&h);
}

static void test_headers(void **state)
{
    (void)state;
    struct host h;
    begin(&h);
    start_open(&h, 0);
    struct buf out = BUF_INIT(0);
    struct record_builder b;
    struct record_header headers[2] = {{slice_str("h"), slice_str("hv")},
                                       {slice_str("b"), {(const uint8_t *)"\xff\x00", 2}}};
    record_builder_begin(&b, &out);
    record_builder_add(&b, 1000, (struct slice){NULL, 0}, slice_str("v"), headers, 1);
    assert_true(record_builder_finish(&b, NULL) > 0);
    host_records(&h, 1, "t1", 0, 0, 1, &out);
    (void)expect_credit(&h);
    assert_string_equal(read_out(&h), "t1 0 0 null v hv\n");
    buf_free(&out);
    host_clear(&h);
}

int test_sink(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_stop_commits),
        cmocka_unit_test(test_skips_and_drops),
        cmocka_unit_test(test_retriable_put),
        cmocka_unit_test(test_pause_between_tries),
        cmocka_unit_test(test_failing_put),
        cmocka_unit_test(test_abi_breaches),
        cmocka_unit_test(test_lowered),
        cmocka_unit_test(test_own_offsets),
        cmocka_unit_test(test_keeps),
        cmocka_unit_test(test_hold_cap),
        cmocka_unit_test(test_bad_batches),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_commit_refused),
        cmocka_unit_test(test_headers),
    };
    return cmocka_run_group_tests_name("runner: sink", tests, NULL, NULL);
}
