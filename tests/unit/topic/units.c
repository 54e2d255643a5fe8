/* Commit units and streams: for every engine. */
#include <stdio.h>
#include <string.h>

#include "suite.h"

static void unit_over_partitions(struct fixture *f)
{
    const struct rec recs[] = {{"a", "1", 1, NULL, 0}, {"b", "2", 2, NULL, 0}};
    struct buf b[4] = {BUF_INIT(4096), BUF_INIT(4096), BUF_INIT(4096), BUF_INIT(4096)};
    struct buf state_bytes = BUF_INIT(4096);
    f->kind->make_topic(f, "t", 3);
    f->kind->make_topic(f, "state", 1);
    (void)put(f, "t", 1, "before");
    struct topic_append a[4] = {
        append_of(&b[0], "t", 0, recs, 2), append_of(&b[1], "t", 1, recs, 2),
        append_of(&b[2], "t", 2, recs, 1), append_of(&b[3], "t", 1, recs, 1)};
    struct topic_append state = append_of(&state_bytes, "state", 0, recs, 1);
    struct topic_info info;
    OK(topic_resolve(f->engine, "t", &info, &err));
    a[0].topic_id = info.id;
    struct topic_unit u = {
        .appends = a, .n_appends = 4, .state = &state, .n_state = 1, .generation = -1};
    OK(topic_commit(f->engine, &u, &err));
    assert_int_equal(a[0].ret_base_offset, 0);
    assert_int_equal(a[1].ret_base_offset, 1);
    assert_int_equal(a[2].ret_base_offset, 0);
    assert_int_equal(a[3].ret_base_offset, 3); /* order within a partition */
    assert_int_equal(state.ret_base_offset, 0);
    assert_int_equal(end_offset(f, "t", 0), 2);
    assert_int_equal(end_offset(f, "t", 1), 4);
    assert_int_equal(end_offset(f, "t", 2), 1);
    assert_int_equal(end_offset(f, "state", 0), 1);
    for (int i = 0; i < 4; i++) {
        buf_free(&b[i]);
    }
    buf_free(&state_bytes);
}

static void bad_units_are_refused(struct fixture *f)
{
    struct rec r = {NULL, "v", 1, NULL, 0};
    struct buf b = BUF_INIT(4096);
    f->kind->make_topic(f, "t", 1);
    struct topic_unit u = {.generation = -1};
    assert_int_equal(topic_commit(f->engine, &u, NULL), ERR_INVAL);
    struct topic_append a = append_of(&b, "nowhere", 0, &r, 1);
    u.appends = &a;
    u.n_appends = 1;
    assert_int_equal(topic_commit(f->engine, &u, NULL), ERR_NOT_FOUND);
    a.topic = "__consumer_offsets";
    assert_int_equal(topic_commit(f->engine, &u, NULL), ERR_INVAL);
    const uint8_t other[16] = {1};
    a.topic = "t";
    a.topic_id = other;
    assert_int_equal(topic_commit(f->engine, &u, NULL), ERR_STALE);
    a.topic_id = NULL;
    OK(topic_commit(f->engine, &u, &err)); /* the control: nothing else was wrong */
    assert_int_equal(end_offset(f, "t", 0), 1);
    buf_free(&b);
}

enum { FLIGHT = 20 };
struct flight {
    struct signal done;
    struct topic_unit units[FLIGHT];
    struct topic_append appends[FLIGHT];
    struct buf bytes[FLIGHT];
    int codes[FLIGHT];
    int order[FLIGHT];
    int n_done;
};

static void landed(struct topic_unit *u, const struct err *err)
{
    struct flight *fl = u->arg;
    int i = (int)(u - fl->units);
    mutex_lock(&fl->done.lock);
    fl->codes[i] = err->code;
    fl->order[fl->n_done++] = i;
    mutex_unlock(&fl->done.lock);
    signal_raise(&fl->done);
}

/* Submits FLIGHT units to partitions in turn without waiting between them. */
static void fly(struct fixture *f, struct flight *fl, struct topic_stream *s)
{
    memset(fl, 0, sizeof(*fl));
    signal_init(&fl->done);
    for (int i = 0; i < FLIGHT; i++) {
        char value[20];
        (void)snprintf(value, sizeof(value), "%d", i);
        struct rec r = {NULL, value, 1, NULL, 0};
        buf_init(&fl->bytes[i], 4096);
        fl->appends[i] = append_of(&fl->bytes[i], "t", i % 3, &r, 1);
        fl->units[i] = (struct topic_unit){.appends = &fl->appends[i],
                                           .n_appends = 1,
                                           .generation = -1,
                                           .stream = s,
                                           .done = landed,
                                           .arg = fl};
        OK(topic_submit(f->engine, &fl->units[i], &err));
    }
    signal_wait(&fl->done, FLIGHT - 1);
    for (int i = 0; i < FLIGHT; i++) {
        buf_free(&fl->bytes[i]);
    }
    signal_destroy(&fl->done);
}

static void stream_keeps_order_and_fails_together(struct fixture *f)
{
    struct flight fl;
    struct topic_stream *s = NULL;
    f->kind->make_topic(f, "t", 3);
    OK(topic_stream_open(f->engine, &s, &err));
    fly(f, &fl, s); /* the control: nothing fails by itself */
    for (int i = 0; i < FLIGHT; i++) {
        assert_int_equal(fl.codes[i], 0);
        assert_int_equal(fl.order[i], i);
    }
    int64_t ends[3];
    for (int p = 0; p < 3; p++) {
        ends[p] = end_offset(f, "t", p);
    }
    assert_int_equal(ends[0] + ends[1] + ends[2], FLIGHT);

    f->kind->break_next(f);
    fly(f, &fl, s);
    f->kind->heal(f);
    assert_true(fl.codes[0] < 0 && fl.codes[0] != ERR_CANCELLED);
    for (int i = 1; i < FLIGHT; i++) {
        assert_true(fl.codes[i] < 0);
    }
    assert_int_equal(fl.codes[FLIGHT - 1], ERR_CANCELLED);
    for (int p = 0; p < 3; p++) {
        assert_int_equal(end_offset(f, "t", p), ends[p]); /* nothing of it is there */
    }
    struct rec r = {NULL, "late", 1, NULL, 0};
    struct buf b = BUF_INIT(4096);
    struct topic_append a = append_of(&b, "t", 0, &r, 1);
    struct topic_unit u = {.appends = &a, .n_appends = 1, .generation = -1, .stream = s};
    assert_int_equal(topic_commit(f->engine, &u, NULL), ERR_CANCELLED);
    topic_stream_reset(s);
    OK(topic_commit(f->engine, &u, &err));
    assert_int_equal(a.ret_base_offset, ends[0]);
    buf_free(&b);
    topic_stream_close(s);
}

static void order_within_a_partition(struct fixture *f)
{
    struct flight fl;
    f->kind->make_topic(f, "t", 3);
    fly(f, &fl, NULL); /* no stream: partitions alone keep the order */
    struct buf bytes = BUF_INIT(1 << 20);
    struct got got[FLIGHT / 3];
    read_records(f, "t", 2, 0, &bytes, got, FLIGHT / 3);
    for (int i = 0; i < FLIGHT / 3; i++) {
        char value[20];
        (void)snprintf(value, sizeof(value), "%d", 3 * i + 2);
        assert_int_equal(got[i].value.len, strlen(value));
        assert_memory_equal(got[i].value.ptr, value, strlen(value));
        assert_int_equal(fl.appends[3 * i + 2].ret_base_offset, i);
    }
    buf_free(&bytes);
}

const struct suite_case unit_cases[] = {
    {"a_unit_over_several_partitions_and_state", unit_over_partitions, ON_ALL, 0},
    {"bad_units_are_refused", bad_units_are_refused, ON_ALL, 0},
    {"a_stream_keeps_order_and_fails_together", stream_keeps_order_and_fails_together, ON_ALL, 0},
    {"partitions_keep_order_without_a_stream", order_within_a_partition, ON_ALL, 0},
};
const size_t n_unit_cases = sizeof(unit_cases) / sizeof(unit_cases[0]);
