/* Topics, appends, reads, rolls, lookups, watches: what holds without any failure. */
#include "util.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests.h"

static void gather_name(void *arg, const char *name)
{
    buf_printf(arg, "%s ", name);
}

static void gather_config(void *arg, const char *key, const char *value)
{
    buf_printf(arg, "%s=%s ", key, value);
}

static void test_topics(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct plog *p = test_open(dir);
    test_topic(p, "b", 2, NULL);
    test_topic(p, "a-1", 1, (const char *const[]){"segment.bytes", "2000", NULL, NULL});
    assert_int_equal(plog_topic_create(p, "b", 1, NULL, 0, &test_err), ERR_EXISTS);
    assert_int_equal(plog_topic_create(p, "no/slash", 1, NULL, 0, &test_err), ERR_INVAL);
    assert_int_equal(plog_topic_create(p, "c", 0, NULL, 0, &test_err), ERR_INVAL);
    assert_int_equal(plog_topic_create(p, "c", 10001, NULL, 0, &test_err), ERR_INVAL);
    struct plog_config_entry typo = {"segment.byte", "1"};
    assert_int_equal(plog_topic_create(p, "c", 1, &typo, 1, &test_err), ERR_CONFIG);
    assert_non_null(strstr(test_err.msg, "did you mean segment.bytes?"));
    struct plog_config_entry mistyped = {"retention.ms", "a day"};
    assert_int_equal(plog_topic_create(p, "c", 1, &mistyped, 1, &test_err), ERR_CONFIG);

    struct buf text = BUF_INIT(0);
    plog_topic_list(p, gather_name, &text);
    assert_string_equal(buf_cstr(&text), "a-1 b ");

    struct plog_topic_info before;
    OK(plog_topic_info(p, "b", &before, &test_err));
    assert_int_equal(before.partitions, 2);
    assert_int_equal(before.max_batch_bytes, 8388608);
    OK(plog_topic_grow(p, "b", 4, &test_err));
    OK(plog_topic_grow(p, "b", 4, &test_err));
    assert_int_equal(plog_topic_grow(p, "b", 3, &test_err), ERR_INVAL);
    struct plog_config_entry fresh = {"max.message.bytes", "5000"};
    OK(plog_topic_configure(p, "b", &fresh, 1, &test_err));
    plog_close(p);

    p = test_open(dir);
    struct plog_topic_info after;
    OK(plog_topic_info(p, "b", &after, &test_err));
    assert_int_equal(after.partitions, 4);
    assert_int_equal(after.max_batch_bytes, 5000);
    assert_memory_equal(before.id, after.id, 16);
    buf_clear(&text);
    OK(plog_topic_config(p, "a-1", gather_config, &text, &test_err));
    assert_string_equal(buf_cstr(&text), "segment.bytes=2000 ");
    struct plog_partition *t = NULL;
    assert_int_equal(plog_partition_get(p, "b", 4, &t, &test_err), ERR_NOT_FOUND);
    assert_int_equal(plog_partition_get(p, "x", 0, &t, &test_err), ERR_NOT_FOUND);
    assert_int_equal(plog_topic_info(p, "x", &after, &test_err), ERR_NOT_FOUND);
    plog_close(p);
    buf_free(&text);
    test_dir_drop(dir);
}

static void test_append_and_read(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct plog *p = test_open(dir);
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    struct buf in = BUF_INIT(0);
    struct plog_read r;
    OK(plog_read(t, 0, 1000, &in, &r, &test_err));
    assert_int_equal(r.bytes, 0);
    assert_int_equal(r.end_offset, 0);
    assert_int_equal(test_put(p, t, "a", 3, 20, 1000), 0);
    assert_int_equal(test_put(p, t, "b", 2, 20, 1000), 3);
    OK(plog_read(t, 4, 1, &in, &r, &test_err)); /* a whole batch though one byte was asked for */
    assert_int_equal(r.next_offset, 5);
    assert_int_equal(r.end_offset, 5);
    struct record_batch rb;
    OK(record_batch_peek(in.data, in.len, in.len, &rb, &test_err));
    assert_int_equal(rb.base_offset, 3);
    assert_int_equal(rb.leader_epoch, 0);
    assert_int_equal(plog_read(t, 6, 1000, &in, &r, &test_err), ERR_LIMIT);
    assert_int_equal(r.end_offset, 5);
    assert_int_equal(plog_read(t, -1, 1000, &in, &r, &test_err), ERR_LIMIT);
    struct plog_partition_status s;
    plog_partition_status(t, &s);
    assert_int_equal(s.start_offset, 0);
    assert_int_equal(s.end_offset, 5);
    assert_int_equal(s.state, PLOG_ONLINE);
    assert_true(s.bytes > 0);
    plog_partition_unref(t);
    plog_close(p);

    p = test_open(dir);
    t = test_part(p, "t", 0);
    struct buf text = BUF_INIT(0);
    test_dump(t, 1, &text);
    assert_string_equal(buf_cstr(&text), "1 a:1\n2 a:2\n3 b:0\n4 b:1\n");
    assert_int_equal(test_put(p, t, "c", 1, 20, 1000), 5);
    plog_partition_unref(t);
    plog_close(p);
    buf_free(&text);
    buf_free(&in);
    test_dir_drop(dir);
}

/* Every offset of a log of many segments can be read, directly and in sequence, before and after a clean
 * close; likewise every time. */
static void check_all(struct plog_partition *t, int n)
{
    struct buf in = BUF_INIT(0);
    struct plog_read r;
    for (int i = 0; i < n; i++) {
        buf_clear(&in);
        OK(plog_read(t, i, 1, &in, &r, &test_err));
        struct record_batch rb;
        OK(record_batch_peek(in.data, in.len, in.len, &rb, &test_err));
        assert_true(rb.base_offset <= i && i <= rb.base_offset + rb.last_offset_delta);
        assert_int_equal(r.next_offset, rb.base_offset + rb.last_offset_delta + 1);
        int64_t at = -1;
        OK(plog_offset_for_time(t, 1000 + i, &at, &test_err));
        assert_int_equal(at, i);
    }
    int64_t at = -1;
    OK(plog_offset_for_time(t, 0, &at, &test_err));
    assert_int_equal(at, 0);
    OK(plog_offset_for_time(t, 1000 + n, &at, &test_err));
    assert_int_equal(at, n);
    buf_free(&in);
}

static int count_files(const char *dir, const char *ext)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        n += str_ends_with(e->d_name, ext);
    }
    (void)closedir(d);
    return n;
}

static void test_roll_and_lookup(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct plog *p = test_open(dir);
    test_topic(p, "t", 1,
               (const char *const[]){"segment.bytes", "60000", "index.interval.bytes", "1000", NULL,
                                     NULL});
    struct plog_partition *t = test_part(p, "t", 0);
    int n = 0;
    for (int i = 0; i < 400; i++) {
        int records = i % 7 + 1;
        assert_int_equal(test_put(p, t, "x", records, (size_t)(i % 5) * 100, 1000 + n), n);
        n += records;
    }
    check_all(t, n);
    plog_partition_unref(t);
    plog_close(p);
    char *folder = test_path(dir, "log/t-0");
    int segments = count_files(folder, ".log");
    assert_true(segments > 4);
    assert_int_equal(count_files(folder, ".index"), segments);
    assert_int_equal(count_files(folder, ".timeindex"), segments);
    char *journals = test_path(dir, "journal");
    assert_int_equal(count_files(journals, ".journal"), 0);
    for (int round = 0; round < 2; round++) {
        p = test_open(dir);
        t = test_part(p, "t", 0);
        check_all(t, n);
        plog_partition_unref(t);
        plog_close(p);
    }
    free(journals);
    free(folder);
    test_dir_drop(dir);
}

/* A unit's append is split where a segment ends, and offsets run on. */
static void test_append_over_segments(void **state)
{
    (void)state;
    char *dir = test_dir();
    for (int path = 1; path <= 2; path++) {
        struct plog *p = test_open_with((struct plog_options){.dir = dir, .force_path = path});
        char name[24];
        (void)snprintf(name, sizeof(name), "t%d", path);
        test_topic(p, name, 1, (const char *const[]){"segment.bytes", "1000", NULL, NULL});
        struct plog_partition *t = test_part(p, name, 0);
        struct buf b = BUF_INIT(0);
        for (int i = 0; i < 30; i++) {
            test_batch(&b, "x", 3, 50, 1000);
        }
        struct plog_append a = {.partition = t, .batches = b.data, .len = b.len, .n_records = 90};
        struct plog_unit u = {.appends = &a, .n_appends = 1};
        OK(plog_commit(p, &u, &test_err));
        assert_int_equal(a.ret_base_offset, 0);
        struct buf before = BUF_INIT(0);
        test_dump(t, 0, &before);
        char *copy = NULL;
        assert_true(asprintf(&copy, "%s-copy%d", dir, path) > 0);
        struct plog *q = test_crash_open(dir, copy);
        struct plog_partition *tq = test_part(q, name, 0);
        struct buf after = BUF_INIT(0);
        test_dump(tq, 0, &after);
        assert_string_equal(buf_cstr(&before), buf_cstr(&after));
        plog_partition_unref(tq);
        plog_close(q);
        test_dir_drop(copy);
        plog_partition_unref(t);
        plog_close(p);
        buf_free(&before);
        buf_free(&after);
        buf_free(&b);
    }
    test_dir_drop(dir);
}

static void test_segment_ms(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct plog *p = test_open(dir);
    test_topic(p, "t", 1, (const char *const[]){"segment.ms", "100", NULL, NULL});
    struct plog_partition *t = test_part(p, "t", 0);
    (void)test_put(p, t, "a", 1, 10, 1000);
    (void)test_put(p, t, "b", 1, 10, 1100);
    (void)test_put(p, t, "c", 1, 10, 1101);
    plog_partition_unref(t);
    plog_close(p);
    char *folder = test_path(dir, "log/t-0");
    assert_int_equal(count_files(folder, ".log"), 2);
    char *second = test_path(folder, "00000000000000000002.log");
    assert_true(test_size(second) > 0);
    free(second);
    free(folder);
    test_dir_drop(dir);
}

struct counter {
    struct mutex mu;
    struct cond cond;
    int n;
};

static void count_wake(void *arg)
{
    struct counter *c = arg;
    mutex_lock(&c->mu);
    c->n++;
    cond_signal(&c->cond);
    mutex_unlock(&c->mu);
}

static void wait_for(struct counter *c, int n)
{
    mutex_lock(&c->mu);
    while (c->n < n) {
        cond_wait(&c->cond, &c->mu);
    }
    mutex_unlock(&c->mu);
}

static void test_watch_and_delete(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct plog *p = test_open(dir);
    test_topic(p, "t", 2, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    struct counter c = {.n = 0};
    mutex_init(&c.mu);
    cond_init(&c.cond);
    struct plog_watch *w = NULL;
    OK(plog_watch(t, count_wake, &c, &w, &test_err));
    (void)test_put(p, t, "a", 1, 10, 1000);
    wait_for(&c, 1);
    OK(plog_topic_delete(p, "t", &test_err));
    wait_for(&c, 2);
    struct buf in = BUF_INIT(0);
    struct plog_read r;
    assert_int_equal(plog_read(t, 0, 100, &in, &r, &test_err), ERR_NOT_FOUND);
    assert_int_equal(test_put(p, t, "b", 1, 10, 1000), ERR_NOT_FOUND);
    assert_int_equal(plog_topic_delete(p, "t", &test_err), ERR_NOT_FOUND);
    plog_unwatch(w);
    plog_partition_unref(t);

    test_topic(p, "t", 1, NULL); /* a new one under the old name starts empty */
    t = test_part(p, "t", 0);
    OK(plog_read(t, 0, 100, &in, &r, &test_err));
    assert_int_equal(r.end_offset, 0);
    assert_int_equal(test_put(p, t, "new", 1, 10, 1000), 0);
    plog_partition_unref(t);
    plog_close(p);
    p = test_open(dir);
    t = test_part(p, "t", 0);
    struct buf text = BUF_INIT(0);
    test_dump(t, 0, &text);
    assert_string_equal(buf_cstr(&text), "0 new:0\n");
    plog_partition_unref(t);
    plog_close(p);
    cond_destroy(&c.cond);
    mutex_destroy(&c.mu);
    buf_free(&text);
    buf_free(&in);
    test_dir_drop(dir);
}

/* More partitions than descriptors may be open. */
static void test_many_partitions(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct plog *p = test_open(dir);
    test_topic(p, "wide", 600, NULL);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 600; i += 1 + 6 * round) {
            struct plog_partition *t = test_part(p, "wide", i);
            assert_int_equal(test_put(p, t, "x", 1, 10, 1000), round);
            plog_partition_unref(t);
        }
    }
    DIR *d = opendir("/proc/self/fd");
    int open_fds = 0;
    while (readdir(d) != NULL) {
        open_fds++;
    }
    (void)closedir(d);
    assert_true(open_fds < 540);
    plog_close(p);
    p = test_open(dir);
    for (int i = 0; i < 600; i += 7) {
        struct plog_partition *t = test_part(p, "wide", i);
        struct buf text = BUF_INIT(0);
        test_dump(t, 0, &text);
        assert_string_equal(buf_cstr(&text), "0 x:0\n1 x:0\n");
        buf_free(&text);
        plog_partition_unref(t);
    }
    plog_close(p);
    test_dir_drop(dir);
}

static void test_queue_limit_and_closing(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct plog *p = test_open_with((struct plog_options){.dir = dir, .queue_bytes = 1});
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    struct plog_unit empty = {0};
    OK(plog_commit(p, &empty, &test_err));
    int64_t at;
    do { /* a unit leaves the queue only after its done */
        at = test_put(p, t, "a", 1, 10, 1000);
    } while (at == ERR_LIMIT);
    assert_int_equal(at, 0);
    /* Shape is checked before anything is written. */
    uint8_t junk[100] = {0};
    struct plog_append a = {.partition = t, .batches = junk, .len = sizeof(junk)};
    struct plog_unit u = {.appends = &a, .n_appends = 1};
    int rc;
    do {
        rc = plog_commit(p, &u, &test_err);
    } while (rc == ERR_LIMIT);
    assert_int_equal(rc, ERR_INVAL);
    plog_partition_unref(t);
    plog_close(p);
    test_dir_drop(dir);
}

int run_basic_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics),          cmocka_unit_test(test_append_and_read),
        cmocka_unit_test(test_roll_and_lookup), cmocka_unit_test(test_append_over_segments),
        cmocka_unit_test(test_segment_ms),      cmocka_unit_test(test_watch_and_delete),
        cmocka_unit_test(test_many_partitions), cmocka_unit_test(test_queue_limit_and_closing),
    };
    return cmocka_run_group_tests_name("plog basics", tests, NULL, NULL);
}
