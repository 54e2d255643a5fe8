/*
 * Everything at once, for the thread sanitizer above all: writers with streams, readers woken by watches, topics
 * made, grown and deleted, small journals so that checkpoints never rest; and the flush modes.
 */
#include "util.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests.h"

enum { N_WRITERS = 3, N_READERS = 2, UNITS = 400, PARTS = 2 };

struct stress {
    struct plog *p;
    _Atomic int writers_left;
};

static void *writer_main(void *arg)
{
    struct stress *s = arg;
    struct plog_partition *parts[PARTS];
    struct err err = ERR_INIT;
    for (int i = 0; i < PARTS; i++) {
        BUG_ON(plog_partition_get(s->p, "t", i, &parts[i], &err) != 0);
    }
    for (int n = 0; n < UNITS; n++) {
        struct plog_append a[PARTS];
        struct buf b[PARTS];
        for (int i = 0; i < PARTS; i++) {
            buf_init(&b[i], 0);
            test_batch(&b[i], "w", n % 4 + 1, (size_t)n % 300, 1000 + n);
            a[i] = (struct plog_append){.partition = parts[i],
                                        .batches = b[i].data,
                                        .len = b[i].len,
                                        .n_records = n % 4 + 1};
        }
        struct plog_stream stream = {0};
        struct plog_unit u = {.appends = a, .n_appends = PARTS, .stream = &stream};
        BUG_ON(plog_commit(s->p, &u, &err) != 0);
        for (int i = 0; i < PARTS; i++) {
            buf_free(&b[i]);
        }
    }
    for (int i = 0; i < PARTS; i++) {
        plog_partition_unref(parts[i]);
    }
    (void)atomic_fetch_sub(&s->writers_left, 1);
    return NULL;
}

struct bell {
    struct mutex mu;
    struct cond cond;
    int rung;
};

static void ring(void *arg)
{
    struct bell *b = arg;
    mutex_lock(&b->mu);
    b->rung = 1;
    cond_signal(&b->cond);
    mutex_unlock(&b->mu);
}

/* Follows a partition until all that the writers send has come. */
static void *reader_main(void *arg)
{
    struct stress *s = arg;
    struct bell bell = {.rung = 0};
    mutex_init(&bell.mu);
    cond_init(&bell.cond);
    struct err err = ERR_INIT;
    struct plog_partition *t = NULL;
    struct plog_watch *w = NULL;
    BUG_ON(plog_partition_get(s->p, "t", 1, &t, &err) != 0);
    BUG_ON(plog_watch(t, ring, &bell, &w, &err) != 0);
    struct buf in = BUF_INIT(0);
    int64_t at = 0;
    int64_t want = (int64_t)N_WRITERS * UNITS / 4 * (1 + 2 + 3 + 4);
    while (at < want) {
        struct plog_read r;
        int64_t when = 0;
        buf_clear(&in);
        BUG_ON(plog_read(t, at, 5000, &in, &r, &err) != 0);
        BUG_ON(plog_offset_for_time(t, 1000 + at % UNITS, &when, &err) != 0);
        if (r.bytes == 0) {
            mutex_lock(&bell.mu);
            while (!bell.rung) {
                cond_wait(&bell.cond, &bell.mu);
            }
            bell.rung = 0;
            mutex_unlock(&bell.mu);
        }
        at = r.next_offset;
    }
    BUG_ON(at != want);
    plog_unwatch(w);
    plog_partition_unref(t);
    buf_free(&in);
    cond_destroy(&bell.cond);
    mutex_destroy(&bell.mu);
    return NULL;
}

static void *admin_main(void *arg)
{
    struct stress *s = arg;
    struct err err = ERR_INIT;
    for (int i = 0; atomic_load(&s->writers_left) > 0; i++) {
        struct plog_partition *t = NULL;
        BUG_ON(plog_topic_create(s->p, "other", 1, NULL, 0, &err) != 0);
        BUG_ON(plog_partition_get(s->p, "other", 0, &t, &err) != 0);
        BUG_ON(test_put(s->p, t, "o", 1, 20, 1000) != 0);
        BUG_ON(plog_topic_grow(s->p, "other", 3, &err) != 0);
        BUG_ON(plog_topic_delete(s->p, "other", &err) != 0);
        plog_partition_unref(t);
        char reason[10];
        (void)plog_writable(s->p, reason, sizeof(reason));
    }
    return NULL;
}

static void test_everything_at_once(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct stress s = {.writers_left = N_WRITERS};
    s.p = test_open_with((struct plog_options){.dir = dir, .journal_bytes = 20000});
    test_topic(
        s.p, "t", PARTS,
        (const char *const[]){"segment.bytes", "30000", "index.interval.bytes", "500", NULL, NULL});
    pthread_t threads[N_WRITERS + N_READERS + 1];
    int n = 0;
    for (int i = 0; i < N_WRITERS; i++) {
        OK(thread_start(&threads[n++], "writer", writer_main, &s, &test_err));
    }
    for (int i = 0; i < N_READERS; i++) {
        OK(thread_start(&threads[n++], "reader", reader_main, &s, &test_err));
    }
    OK(thread_start(&threads[n++], "admin", admin_main, &s, &test_err));
    while (n > 0) {
        thread_join(threads[--n]);
    }
    plog_close(s.p);
    s.p = test_open(dir);
    struct plog_partition *t = test_part(s.p, "t", 0);
    struct plog_partition_status status;
    plog_partition_status(t, &status);
    assert_int_equal(status.end_offset, N_WRITERS * UNITS / 4 * 10);
    plog_partition_unref(t);
    plog_close(s.p);
    test_dir_drop(dir);
}

/* ---- flush modes ---- */

struct syncs {
    struct mutex mu;
    struct cond cond;
    int journal; /* syncs of a journal that holds frames */
    int checkpoints;
};

static int count_syncs(void *arg, const char *op, const char *path)
{
    struct syncs *s = arg;
    mutex_lock(&s->mu);
    s->journal +=
        strcmp(op, "sync") == 0 && str_ends_with(path, ".journal") && test_size(path) > 32;
    s->checkpoints += strcmp(op, "replace") == 0 && str_ends_with(path, "/checkpoint");
    cond_signal(&s->cond);
    mutex_unlock(&s->mu);
    return 0;
}

static void flush_mode(int flush, int64_t interval_ms, int syncs_a_unit)
{
    char *dir = test_dir();
    struct syncs s = {.journal = 0};
    mutex_init(&s.mu);
    cond_init(&s.cond);
    struct plog *p = test_open_with((struct plog_options){.dir = dir,
                                                          .flush = flush,
                                                          .flush_interval_ms = interval_ms,
                                                          .fault = count_syncs,
                                                          .fault_arg = &s});
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    mutex_lock(&s.mu);
    s.journal = s.checkpoints = 0;
    mutex_unlock(&s.mu);
    struct buf b = BUF_INIT(0);
    test_batch(&b, "a", 1, 20, 1000);
    struct plog_append a = {.partition = t, .batches = b.data, .len = b.len, .n_records = 1};
    struct plog_unit u = {.appends = &a, .n_appends = 1};
    OK(plog_commit(p, &u, &test_err));
    assert_int_equal(u.ret_flush, flush);
    mutex_lock(&s.mu);
    assert_int_equal(s.journal, syncs_a_unit);
    while (flush == PLOG_FLUSH_INTERVAL && s.checkpoints == 0) { /* comes by itself */
        cond_wait(&s.cond, &s.mu);
    }
    mutex_unlock(&s.mu);
    plog_partition_unref(t);
    plog_close(p);
    p = test_open(dir);
    t = test_part(p, "t", 0);
    struct buf text = BUF_INIT(0);
    test_dump(t, 0, &text);
    assert_string_equal(buf_cstr(&text), "0 a:0\n");
    plog_partition_unref(t);
    plog_close(p);
    buf_free(&text);
    buf_free(&b);
    cond_destroy(&s.cond);
    mutex_destroy(&s.mu);
    test_dir_drop(dir);
}

static void test_flush_modes(void **state)
{
    (void)state;
    flush_mode(PLOG_FLUSH_ALWAYS, 0, 1);
    flush_mode(PLOG_FLUSH_INTERVAL, 200, 0);
    flush_mode(PLOG_FLUSH_OS, 0, 0);
}

int run_stress_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_at_once),
        cmocka_unit_test(test_flush_modes),
    };
    return cmocka_run_group_tests_name("plog stress", tests, NULL, NULL);
}
