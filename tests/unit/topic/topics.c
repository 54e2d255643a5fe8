/* Topics and reading: for every engine. */
#include <string.h>

#include "suite.h"

static void add_name(void *arg, const char *name)
{
    struct buf *b = arg;
    if (!topic_is_internal(name)) {
        buf_printf(b, "%s,", name);
    }
}

static void made_resolved_listed(struct fixture *f)
{
    struct topic_info info;
    struct topic_partition_status s;
    struct buf names = BUF_INIT(4096);
    assert_int_equal(topic_resolve(f->engine, "nowhere", &info, NULL), ERR_NOT_FOUND);
    assert_int_equal(topic_resolve(f->engine, "a b", &info, NULL), ERR_INVAL);
    f->kind->make_topic(f, "zeta", 1);
    f->kind->make_topic(f, "alpha", 3);
    OK(topic_resolve(f->engine, "alpha", &info, &err));
    assert_int_equal(info.partitions, 3);
    assert_true(info.max_batch_bytes > 100000);
    struct topic_info other;
    OK(topic_resolve(f->engine, "zeta", &other, &err));
    assert_memory_not_equal(info.id, other.id, sizeof(info.id));
    OK(topic_list(f->engine, add_name, &names, &err));
    assert_string_equal(buf_cstr(&names), "alpha,zeta,");
    OK(topic_partition_status(f->engine, "alpha", 2, &s, &err));
    assert_int_equal(s.start_offset, 0);
    assert_int_equal(s.end_offset, 0);
    assert_string_equal(s.state, "online");
    assert_int_equal(topic_partition_status(f->engine, "alpha", 3, &s, NULL), ERR_NOT_FOUND);
    char reason[100];
    assert_int_equal(topic_writable(f->engine, reason, sizeof(reason)), 1);
    buf_free(&names);
}

static void same(struct slice got, const char *want)
{
    if (want == NULL) {
        assert_null(got.ptr);
        return;
    }
    assert_non_null(got.ptr);
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.ptr, want, got.len);
}

static void check_records(const struct got *got, const struct rec *want, size_t n, int64_t base)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(got[i].offset, base + (int64_t)i);
        assert_int_equal(got[i].timestamp_ms, want[i].timestamp_ms);
        same(got[i].key, want[i].key);
        same(got[i].value, want[i].value);
        assert_int_equal(got[i].n_headers, (int)want[i].n_headers);
        struct cursor c;
        struct record_header h;
        cursor_init(&c, got[i].headers, got[i].headers_len);
        for (size_t j = 0; j < want[i].n_headers; j++) {
            assert_int_equal(record_headers_next(&c, &h), 1);
            assert_true(slice_eq(h.name, want[i].headers[j].name));
            assert_true(slice_eq(h.value, want[i].headers[j].value));
        }
    }
}

static void read_back_identical(struct fixture *f)
{
    const struct record_header headers[] = {{slice_str("h"), slice_of("\0\1\xff", 3)},
                                            {slice_str("none"), {NULL, 0}},
                                            {slice_str("h"), slice_str("twice")}};
    const struct rec recs[] = {
        {"key", "value", 1700000000001, NULL, 0},    {NULL, "no key", 1700000000002, NULL, 0},
        {"no value", NULL, 1600000000000, NULL, 0},  {"", "", 1700000000003, NULL, 0},
        {"headers", "x", 1700000000004, headers, 3}, {NULL, NULL, 1, NULL, 0}};
    enum { N = sizeof(recs) / sizeof(recs[0]) };
    struct buf b = BUF_INIT(1 << 20);
    f->kind->make_topic(f, "t", 2);
    for (int round = 0; round < 2; round++) {
        struct topic_append a = append_of(&b, "t", 1, recs, N);
        struct topic_unit u = {.appends = &a, .n_appends = 1, .generation = -1};
        OK(topic_commit(f->engine, &u, &err));
        assert_int_equal(a.ret_base_offset, round * N);
    }
    struct got got[2 * N];
    struct buf bytes = BUF_INIT(1 << 20);
    read_records(f, "t", 1, 0, &bytes, got, 2 * N);
    check_records(got, recs, N, 0);
    check_records(got + N, recs, N, N);
    buf_clear(&bytes);
    read_records(f, "t", 1, N + 2, &bytes, got, N - 2); /* from within a batch */
    check_records(got, recs + 2, N - 2, N + 2);
    buf_free(&bytes);
    buf_free(&b);
}

static void wakes_on_arrival(struct fixture *f)
{
    struct signal s;
    struct topic_reader *r = NULL;
    struct topic_read tr = {0};
    struct buf out = BUF_INIT(1 << 20);
    signal_init(&s);
    f->kind->make_topic(f, "t", 1);
    OK(topic_reader_open(f->engine, "t", 0, signal_raise, &s, &r, &err));
    for (int i = 0; i < 3; i++) {
        int64_t next = i;
        int seen = signal_count(&s);
        OK(topic_read(r, next, 1 << 20, &out, &tr, &err));
        assert_int_equal(tr.bytes, 0);
        assert_int_equal(tr.next_offset, next);
        assert_int_equal(put(f, "t", 0, "hello"), i);
        while (tr.bytes == 0) {
            signal_wait(&s, seen);
            seen = signal_count(&s);
            OK(topic_read(r, next, 1 << 20, &out, &tr, &err));
        }
        assert_int_equal(tr.next_offset, i + 1);
        assert_int_equal(tr.end_offset, i + 1);
    }
    topic_reader_close(r);
    buf_free(&out);
    signal_destroy(&s);
}

static void two_readers_of_one_partition(struct fixture *f)
{
    f->kind->make_topic(f, "t", 1);
    for (int i = 0; i < 5; i++) {
        (void)put(f, "t", 0, i % 2 ? "odd" : "even");
    }
    struct signal s;
    struct topic_reader *r[2];
    struct topic_read tr = {0};
    struct buf out = BUF_INIT(1 << 20);
    int64_t at[2] = {0, 3};
    signal_init(&s);
    OK(topic_reader_open(f->engine, "t", 0, signal_raise, &s, &r[0], &err));
    OK(topic_reader_open(f->engine, "t", 0, signal_raise, &s, &r[1], &err));
    while (at[0] < 5 || at[1] < 5) {
        int seen = signal_count(&s);
        size_t bytes = 0;
        for (int i = 0; i < 2; i++) {
            OK(topic_read(r[i], at[i], 1 << 20, &out, &tr, &err));
            assert_true(tr.next_offset >= at[i] && tr.next_offset <= 5);
            at[i] = tr.next_offset;
            bytes += tr.bytes;
        }
        if (bytes == 0) {
            signal_wait(&s, seen);
        }
    }
    at[0] = 1; /* back */
    while (at[0] < 5) {
        int seen = signal_count(&s);
        buf_clear(&out);
        OK(topic_read(r[0], at[0], 1, &out, &tr, &err));
        if (tr.bytes == 0) {
            signal_wait(&s, seen);
            continue;
        }
        struct record_batch b;
        OK(record_batch_peek(out.data, out.len, out.len, &b, &err));
        assert_true(b.base_offset <= at[0] && b.base_offset + b.count > at[0]);
        at[0] = tr.next_offset;
    }
    topic_reader_close(r[0]);
    topic_reader_close(r[1]);
    buf_free(&out);
    signal_destroy(&s);
}

static void out_of_range_says_the_range(struct fixture *f)
{
    f->kind->make_topic(f, "t", 1);
    (void)put(f, "t", 0, "one");
    (void)put(f, "t", 0, "two");
    struct signal s;
    struct topic_reader *r = NULL;
    struct topic_read tr = {0};
    struct buf out = BUF_INIT(1 << 20);
    signal_init(&s);
    assert_int_equal(topic_reader_open(f->engine, "t", 1, signal_raise, &s, &r, NULL),
                     ERR_NOT_FOUND);
    OK(topic_reader_open(f->engine, "t", 0, signal_raise, &s, &r, &err));
    const int64_t wrong[] = {100, -5};
    for (int i = 0; i < 2; i++) {
        int rc = 0;
        for (;;) {
            int seen = signal_count(&s);
            rc = topic_read(r, wrong[i], 1 << 20, &out, &tr, NULL);
            assert_int_equal(tr.bytes, 0);
            if (rc != 0) {
                break;
            }
            signal_wait(&s, seen);
        }
        assert_int_equal(rc, ERR_LIMIT);
        assert_int_equal(tr.start_offset, 0);
        assert_int_equal(tr.end_offset, 2);
    }
    int64_t at = 0; /* and it goes on from a right one */
    while (at < 2) {
        int seen = signal_count(&s);
        OK(topic_read(r, at, 1 << 20, &out, &tr, &err));
        if (tr.bytes == 0) {
            signal_wait(&s, seen);
        }
        at = tr.next_offset;
    }
    topic_reader_close(r);
    buf_free(&out);
    signal_destroy(&s);
}

const struct suite_case topic_cases[] = {
    {"topics_are_made_resolved_and_listed", made_resolved_listed, ON_ALL, 0},
    {"records_come_back_identical", read_back_identical, ON_ALL, 0},
    {"a_reader_wakes_on_arrival", wakes_on_arrival, ON_ALL, 0},
    {"two_readers_of_one_partition_and_back", two_readers_of_one_partition, ON_ALL, 0},
    {"out_of_range_says_the_range", out_of_range_says_the_range, ON_ALL, 0},
};
const size_t n_topic_cases = sizeof(topic_cases) / sizeof(topic_cases[0]);
