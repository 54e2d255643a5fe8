/*
 * Failing disks, by the fault hook and by a real full file system: nothing is acked that is not kept, what failed
 * for sure never comes back, reads go on, and the log takes up again by itself.
 */
#include "util.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests.h"

/* ---- a hook that fails what it is told to ---- */

struct fault {
    _Atomic int on;
    int code;
    const char *op;   /* NULL: any */
    const char *path; /* part of it; NULL: any */
    _Atomic int nth;  /* fails the nth matching call only; 0: all */
    _Atomic int hits;
    struct mutex mu;
    struct cond called; /* after each disk call began */
};

static void fault_init(struct fault *f)
{
    mutex_init(&f->mu);
    cond_init(&f->called);
}

static int fault_hook(void *arg, const char *op, const char *path)
{
    struct fault *f = arg;
    mutex_lock(&f->mu);
    cond_broadcast(&f->called);
    mutex_unlock(&f->mu);
    if (!atomic_load(&f->on) || (f->op != NULL && strcmp(f->op, op) != 0) ||
        (f->path != NULL && strstr(path, f->path) == NULL)) {
        return 0;
    }
    int hit = atomic_fetch_add(&f->hits, 1) + 1;
    int nth = atomic_load(&f->nth);
    return nth == 0 || hit == nth ? f->code : 0;
}

/* Commits until it works again; each try is an event that the committer answers. Fails after 10 s. */
static void put_until_ok(struct plog *p, struct plog_partition *t, const char *tag)
{
    int64_t deadline = clock_mono_ms() + 10000;
    while (test_put(p, t, tag, 1, 20, 1000) < 0) {
        assert_true(clock_mono_ms() < deadline);
    }
}

/* The log's own tries are disk calls, which the hook tells of; soon after one it can write. */
static void wait_writable(struct plog *p, struct fault *f)
{
    int64_t deadline = clock_mono_ms() + 10000;
    mutex_lock(&f->mu);
    while (!plog_writable(p, NULL, 0)) {
        assert_true(clock_mono_ms() < deadline);
        (void)cond_wait_until(&f->called, &f->mu, clock_mono_ms() + 10);
    }
    mutex_unlock(&f->mu);
}

static void expect_dump(struct plog_partition *t, const char *want)
{
    struct buf text = BUF_INIT(0);
    test_dump(t, 0, &text);
    assert_string_equal(buf_cstr(&text), want);
    buf_free(&text);
}

static void expect_after_crash(const char *dir, const char *want)
{
    char *copy = NULL;
    assert_true(asprintf(&copy, "%s-copy", dir) > 0);
    struct plog *q = test_crash_open(dir, copy);
    struct plog_partition *t = test_part(q, "t", 0);
    expect_dump(t, want);
    plog_partition_unref(t);
    plog_close(q);
    test_dir_drop(copy);
}

/* ---- one failure at a time ---- */

static void full_disk(const char *op, const char *path, int force_path)
{
    char *dir = test_dir();
    struct fault f = {.code = ENOSPC, .op = op, .path = path};
    fault_init(&f);
    struct plog *p = test_open_with((struct plog_options){
        .dir = dir, .fault = fault_hook, .retry_ms = 5, .fault_arg = &f, .force_path = force_path});
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    assert_int_equal(test_put(p, t, "a", 1, 20, 1000), 0);
    atomic_store(&f.on, 1);
    assert_int_equal(test_put(p, t, "b", 1, 20, 1000), ERR_NOSPC);
    char reason[200] = "";
    assert_false(plog_writable(p, reason, sizeof(reason)));
    assert_non_null(strstr(reason, "No space left"));
    expect_dump(t, "0 a:0\n"); /* reads go on */
    expect_after_crash(dir, "0 a:0\n");
    assert_int_equal(test_put(p, t, "c", 1, 20, 1000), ERR_NOSPC);
    atomic_store(&f.on, 0);
    wait_writable(p, &f); /* by itself */
    assert_int_equal(test_put(p, t, "d", 1, 20, 1000), 1);
    expect_dump(t, "0 a:0\n1 d:0\n");
    expect_after_crash(dir, "0 a:0\n1 d:0\n");
    plog_partition_unref(t);
    plog_close(p);
    test_dir_drop(dir);
}

static void test_no_space(void **state)
{
    (void)state;
    full_disk("write", NULL, 1);
    full_disk("write", NULL, 2);
    full_disk("write", ".journal", 1);
    full_disk("write", ".journal", 2);
    full_disk(NULL, NULL, 1);
}

/* The journal's sync fails: nothing is acked before a new generation and a checkpoint stand. */
static void test_failed_journal_sync(void **state)
{
    (void)state;
    for (int path = 1; path <= 2; path++) {
        char *dir = test_dir();
        struct fault f = {.code = EIO, .op = "sync", .path = "/journal"};
        fault_init(&f);
        struct plog *p = test_open_with((struct plog_options){
            .dir = dir, .fault = fault_hook, .retry_ms = 5, .fault_arg = &f, .force_path = path});
        test_topic(p, "t", 1, NULL);
        struct plog_partition *t = test_part(p, "t", 0);
        assert_int_equal(test_put(p, t, "a", 1, 20, 1000), 0);
        atomic_store(&f.on, 1);
        struct buf b = BUF_INIT(0);
        test_batch(&b, "b", 1, 20, 1000);
        struct plog_append a = {.partition = t, .batches = b.data, .len = b.len, .n_records = 1};
        struct plog_unit u = {.appends = &a, .n_appends = 1};
        assert_int_equal(plog_commit(p, &u, &test_err), ERR_IO);
        assert_int_equal(u.indefinite, 1);
        assert_int_equal(test_put(p, t, "c", 1, 20, 1000), ERR_IO);
        expect_dump(t, "0 a:0\n");
        atomic_store(&f.on, 0);
        wait_writable(p, &f);
        put_until_ok(p, t, "d");
        expect_dump(t, "0 a:0\n1 d:0\n");
        expect_after_crash(dir, "0 a:0\n1 d:0\n"); /* the retired generation brings nothing back */
        plog_partition_unref(t);
        plog_close(p);
        buf_free(&b);
        test_dir_drop(dir);
    }
}

/* The generation whose sync failed even once is left for good, also by a checkpoint that was under way when
 * it failed and would have made it the current one. */
struct gate {
    struct fault fault; /* first: it is the hook's argument */
    int closed, waiting;
    struct cond moved;
};

static int gate_hook(void *arg, const char *op, const char *path)
{
    struct gate *g = arg;
    if (strcmp(op, "replace") == 0 && str_ends_with(path, "/checkpoint")) {
        mutex_lock(&g->fault.mu);
        g->waiting = 1;
        cond_broadcast(&g->moved);
        while (g->closed) {
            cond_wait(&g->moved, &g->fault.mu);
        }
        g->waiting = 0;
        mutex_unlock(&g->fault.mu);
    }
    return fault_hook(&g->fault, op, path);
}

static void set_gate(struct gate *g, int closed)
{
    mutex_lock(&g->fault.mu);
    g->closed = closed;
    cond_broadcast(&g->moved);
    while (closed && !g->waiting) {
        cond_wait(&g->moved, &g->fault.mu);
    }
    mutex_unlock(&g->fault.mu);
}

static void test_dead_generation_is_left(void **state)
{
    (void)state;
    for (int under_way = 0; under_way <= 1; under_way++) {
        char *dir = test_dir();
        struct gate g = {.fault = {.code = EIO, .op = "sync", .path = ".journal", .nth = 1}};
        fault_init(&g.fault);
        cond_init(&g.moved);
        struct plog *p = test_open_with((struct plog_options){.dir = dir,
                                                              .fault = gate_hook,
                                                              .fault_arg = &g,
                                                              .retry_ms = 5,
                                                              .force_path = 1,
                                                              .journal_bytes = 1000});
        test_topic(p, "t", 1, NULL);
        struct plog_partition *t = test_part(p, "t", 0);
        if (under_way) {
            mutex_lock(&g.fault.mu);
            g.closed = 1;
            mutex_unlock(&g.fault.mu);
            assert_int_equal(test_put(p, t, "a", 1, 1500, 1000), 0);
            set_gate(&g, 1); /* the checkpoint has rotated and waits */
        }
        int64_t size = 0;
        char *dead = test_newest_journal(dir, &size);
        atomic_store(&g.fault.on, 1);
        assert_int_equal(test_put(p, t, "b", 1, 20, 1000), ERR_IO);
        set_gate(&g, 0);
        wait_writable(p, &g.fault);
        put_until_ok(p, t, "c");
        assert_int_equal(test_size(dead), -1);
        expect_after_crash(dir, under_way ? "0 a:0\n1 c:0\n" : "0 c:0\n");
        free(dead);
        plog_partition_unref(t);
        plog_close(p);
        test_dir_drop(dir);
    }
}

/* One partition's segment fails: the others go on, units over both fail whole, and it is made afresh. */
static void test_failed_segment(void **state)
{
    (void)state;
    for (int path = 1; path <= 2; path++) {
        char *dir = test_dir();
        struct fault f = {.code = EIO, .op = path == 1 ? "write" : "sync", .path = "t-0/"};
        fault_init(&f);
        struct plog *p = test_open_with((struct plog_options){
            .dir = dir, .fault = fault_hook, .retry_ms = 5, .fault_arg = &f, .force_path = path});
        test_topic(p, "t", 2, NULL);
        struct plog_partition *parts[2] = {test_part(p, "t", 0), test_part(p, "t", 1)};
        OK(test_unit(p, parts, 2, "a", 1, 20));
        char *segment = test_path(dir, "log/t-0/00000000000000000000.log");
        struct stat old;
        assert_int_equal(stat(segment, &old), 0);
        atomic_store(&f.on, 1);
        assert_int_equal(test_put(p, parts[0], "b", 1, 20, 1000), ERR_IO);
        struct plog_partition_status s;
        plog_partition_status(parts[0], &s);
        assert_int_equal(s.state, PLOG_FAILED);
        assert_int_equal(test_unit(p, parts, 2, "c", 1, 20), ERR_IO);
        assert_int_equal(test_put(p, parts[1], "d", 1, 20, 1000), 1);
        assert_true(plog_writable(p, NULL, 0));
        expect_dump(parts[0], "0 a:0\n");
        atomic_store(&f.on, 0);
        put_until_ok(p, parts[0], "e");
        plog_partition_status(parts[0], &s);
        assert_int_equal(s.state, PLOG_ONLINE);
        assert_string_equal(s.error, "");
        struct stat fresh; /* another file, not the old one trusted again */
        assert_int_equal(stat(segment, &fresh), 0);
        assert_true(fresh.st_ino != old.st_ino);
        free(segment);
        expect_dump(parts[0], "0 a:0\n1 e:0\n");
        expect_dump(parts[1], "0 a:0\n1 d:0\n");
        expect_after_crash(dir, "0 a:0\n1 e:0\n");
        plog_partition_unref(parts[0]);
        plog_partition_unref(parts[1]);
        plog_close(p);
        test_dir_drop(dir);
    }
}

/* A checkpoint cannot sync a segment: the journal keeps its records until a fresh copy is durable. */
static void test_failed_checkpoint(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct fault f = {.code = EIO, .op = "sync", .path = "t-0/"};
    fault_init(&f);
    struct plog *p = test_open_with((struct plog_options){.dir = dir,
                                                          .fault = fault_hook,
                                                          .retry_ms = 5,
                                                          .fault_arg = &f,
                                                          .force_path = 1,
                                                          .journal_bytes = 200});
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    atomic_store(&f.on, 1);
    struct buf want = BUF_INIT(0);
    int64_t n = 0;
    while (atomic_load(&f.hits) == 0) { /* until a checkpoint tried */
        if (test_put(p, t, "a", 1, 20, 1000) == n) {
            buf_printf(&want, "%lld a:0\n", (long long)n++);
        }
    }
    expect_dump(t, buf_cstr(&want));
    expect_after_crash(dir, buf_cstr(&want));
    atomic_store(&f.on, 0);
    put_until_ok(p, t, "b");
    buf_printf(&want, "%lld b:0\n", (long long)n);
    expect_dump(t, buf_cstr(&want));
    expect_after_crash(dir, buf_cstr(&want));
    plog_partition_unref(t);
    plog_close(p);
    buf_free(&want);
    test_dir_drop(dir);
}

/* ---- streams ---- */

enum { N_STREAM = 6 };

struct outcome {
    struct mutex mu;
    struct cond cond;
    int codes[N_STREAM];
    int order[N_STREAM];
    int n;
};
struct stream_unit {
    struct plog_unit unit;
    struct plog_append append;
    struct buf bytes;
    struct outcome *outcome;
    int i;
};

static void note_done(struct plog_unit *u, const struct err *err)
{
    struct stream_unit *s = u->arg;
    mutex_lock(&s->outcome->mu);
    s->outcome->codes[s->i] = err->code;
    s->outcome->order[s->outcome->n++] = s->i;
    cond_signal(&s->outcome->cond);
    mutex_unlock(&s->outcome->mu);
}

/* Units 0.. of one stream to t, every third of none; returns when all are done. */
static void run_stream(struct plog *p, struct plog_partition *t, struct plog_stream *stream,
                       struct stream_unit *units, struct outcome *o)
{
    o->n = 0;
    for (int i = 0; i < N_STREAM; i++) {
        struct stream_unit *s = &units[i];
        *s = (struct stream_unit){.outcome = o, .i = i};
        char tag[24];
        (void)snprintf(tag, sizeof(tag), "s%d", i);
        test_batch(&s->bytes, tag, 1, 20, 1000);
        s->append = (struct plog_append){
            .partition = t, .batches = s->bytes.data, .len = s->bytes.len, .n_records = 1};
        s->unit = (struct plog_unit){.appends = &s->append,
                                     .n_appends = 1,
                                     .stream = i % 3 == 2 ? NULL : stream,
                                     .done = note_done,
                                     .arg = s};
        OK(plog_submit(p, &s->unit, &test_err));
    }
    mutex_lock(&o->mu);
    while (o->n < N_STREAM) {
        cond_wait(&o->cond, &o->mu);
    }
    mutex_unlock(&o->mu);
    for (int i = 0; i < N_STREAM; i++) {
        assert_int_equal(o->order[i], i);
        buf_free(&units[i].bytes);
    }
}

static void test_stream_fence(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct fault f = {.code = ENOSPC, .op = "write"};
    fault_init(&f);
    struct plog *p = test_open_with((struct plog_options){
        .dir = dir, .fault = fault_hook, .retry_ms = 5, .fault_arg = &f, .force_path = 1});
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    struct outcome o = {.n = 0};
    mutex_init(&o.mu);
    cond_init(&o.cond);
    struct plog_stream stream = {0};
    struct stream_unit units[N_STREAM];
    atomic_store(&f.on, 1);
    run_stream(p, t, &stream, units, &o);
    assert_int_equal(o.codes[0], ERR_NOSPC);
    assert_int_equal(o.codes[1], ERR_CANCELLED);
    assert_int_equal(o.codes[2], ERR_NOSPC);
    assert_int_equal(o.codes[3], ERR_CANCELLED);
    atomic_store(&f.on, 0);
    run_stream(p, t, &stream, units, &o); /* not reset: still fenced, others pass */
    for (int i = 0; i < N_STREAM; i++) {
        assert_int_equal(o.codes[i], i % 3 == 2 ? 0 : ERR_CANCELLED);
    }
    plog_stream_reset(&stream);
    run_stream(p, t, &stream, units, &o);
    for (int i = 0; i < N_STREAM; i++) {
        assert_int_equal(o.codes[i], 0);
    }
    expect_dump(t, "0 s2:0\n1 s5:0\n2 s0:0\n3 s1:0\n4 s2:0\n5 s3:0\n6 s4:0\n7 s5:0\n");
    cond_destroy(&o.cond);
    mutex_destroy(&o.mu);
    plog_partition_unref(t);
    plog_close(p);
    test_dir_drop(dir);
}

/* ---- the n-th disk call fails, for every n ---- */

enum { SWEEP_UNITS = 12 };

/* Whether every acked unit is there, nothing definite-failed is, units are whole, and nothing else is. */
static void check_sweep(struct plog *q, const int *outcome, int n)
{
    struct buf text[2];
    for (int i = 0; i < 2; i++) {
        struct plog_partition *t = test_part(q, "t", i);
        buf_init(&text[i], 0);
        test_dump(t, 0, &text[i]);
        assert_null(strstr(buf_cstr(&text[i]), "BAD"));
        plog_partition_unref(t);
    }
    for (int u = 0; u < n; u++) {
        char tag[24];
        (void)snprintf(tag, sizeof(tag), " u%02d:0\n", u);
        int in0 = strstr(buf_cstr(&text[0]), tag) != NULL;
        int in1 = strstr(buf_cstr(&text[1]), tag) != NULL;
        if (u % 2 == 0) {
            assert_int_equal(in0, in1);
        }
        if (outcome[u] == 0) {
            assert_true(in1);
        } else if (outcome[u] < 0) {
            assert_false(in1);
        }
    }
    buf_free(&text[0]);
    buf_free(&text[1]);
}

/* Fails the nth call with `code`; returns 0 when there were fewer calls than that. */
static int sweep_one(int nth, int code, int force_path, int all_after)
{
    char *dir = test_dir();
    char *copy = NULL;
    assert_true(asprintf(&copy, "%s-copy", dir) > 0);
    struct fault f = {.code = code, .nth = all_after ? 0 : nth};
    fault_init(&f);
    struct plog *p = test_open_with((struct plog_options){.dir = dir,
                                                          .fault = fault_hook,
                                                          .retry_ms = 5,
                                                          .fault_arg = &f,
                                                          .force_path = force_path,
                                                          .journal_bytes = 500});
    test_topic(p, "t", 2, (const char *const[]){"segment.bytes", "300", NULL, NULL});
    struct plog_partition *parts[2] = {test_part(p, "t", 0), test_part(p, "t", 1)};
    int outcome[SWEEP_UNITS]; /* 0 acked, -1 failed, 1 unknown */
    atomic_store(&f.on, !all_after);
    for (int i = 0; i < SWEEP_UNITS; i++) {
        if (all_after && i == nth) {
            atomic_store(&f.on, 1);
        }
        if (all_after && i == nth + 2) {
            atomic_store(&f.on, 0);
        }
        char tag[24];
        (void)snprintf(tag, sizeof(tag), "u%02d", i);
        struct buf b[2] = {BUF_INIT(0), BUF_INIT(0)};
        struct plog_append a[2];
        size_t n = i % 2 == 0 ? 2 : 1;
        for (size_t k = 0; k < n; k++) {
            test_batch(&b[k], tag, 1, 30, 1000);
            a[k] = (struct plog_append){.partition = parts[2 - n + k],
                                        .batches = b[k].data,
                                        .len = b[k].len,
                                        .n_records = 1};
        }
        struct plog_unit u = {.appends = a, .n_appends = n};
        int rc = plog_commit(p, &u, &test_err);
        outcome[i] = rc == 0 ? 0 : u.indefinite ? 1 : -1;
        buf_free(&b[0]);
        buf_free(&b[1]);
    }
    int hit = atomic_load(&f.hits) >= nth;
    atomic_store(&f.on, 0);
    struct plog *q = test_crash_open(dir, copy);
    check_sweep(q, outcome, SWEEP_UNITS);
    plog_close(q);
    put_until_ok(p, parts[0], "end0");
    put_until_ok(p, parts[1], "end1");
    check_sweep(p, outcome, SWEEP_UNITS);
    plog_partition_unref(parts[0]);
    plog_partition_unref(parts[1]);
    plog_close(p);
    p = test_open(dir);
    check_sweep(p, outcome, SWEEP_UNITS);
    plog_close(p);
    test_dir_drop(copy);
    test_dir_drop(dir);
    return hit;
}

static void test_sweep(void **state)
{
    (void)state;
    for (int path = 1; path <= 2; path++) {
        for (int n = 1; sweep_one(n, n % 2 ? EIO : ENOSPC, path, 0); n++) {
            assert_true(n < 2000);
        }
        for (int from = 0; from < SWEEP_UNITS - 3; from++) {
            (void)sweep_one(from, EIO, path, 1);
            (void)sweep_one(from, ENOSPC, path, 1);
        }
    }
}

/* ---- a file system that is really full ---- */

static void test_full_disk_tmpfs(void **state)
{
    (void)state;
    char *dir = test_dir();
    if (geteuid() != 0 || mount("none", dir, "tmpfs", 0, "size=4m") != 0) {
        test_dir_drop(dir);
        print_message("needs root to mount a tmpfs\n");
        skip();
    }
    struct plog *p = test_open(dir);
    test_topic(p, "t", 2, NULL);
    struct plog_partition *parts[2] = {test_part(p, "t", 0), test_part(p, "t", 1)};
    int64_t n = 0;
    int rc = 0;
    int64_t good = 0;
    char *journal = test_newest_journal(dir, &good);
    while ((rc = test_unit(p, parts, 2, "a", 1, 30000)) == 0) {
        n++;
        good = test_size(journal);
        assert_true(n < 200);
    }
    assert_int_equal(rc, ERR_NOSPC);
    assert_true(test_size(journal) <= good); /* cut back, or retired meanwhile */
    free(journal);
    assert_true(n > 5);
    struct plog_read r;
    struct buf in = BUF_INIT(0);
    OK(plog_read(parts[0], n - 1, 1, &in, &r, &test_err));
    assert_int_equal(r.end_offset, n);
    /* Space returns: the file system grows, as if somebody had cleaned up. */
    assert_int_equal(mount("none", dir, "tmpfs", MS_REMOUNT, "size=64m"), 0);
    int64_t deadline = clock_mono_ms() + 10000;
    while ((rc = test_unit(p, parts, 2, "b", 1, 30000)) != 0) {
        assert_true(clock_mono_ms() < deadline);
    }
    for (int i = 0; i < 2; i++) {
        struct plog_partition_status s;
        plog_partition_status(parts[i], &s);
        assert_int_equal(s.end_offset, n + 1);
        plog_partition_unref(parts[i]);
    }
    plog_close(p);
    p = test_open(dir);
    parts[1] = test_part(p, "t", 1);
    buf_clear(&in);
    OK(plog_read(parts[1], n, 1, &in, &r, &test_err));
    assert_int_equal(r.next_offset, n + 1);
    plog_partition_unref(parts[1]);
    plog_close(p);
    buf_free(&in);
    assert_int_equal(umount(dir), 0);
    test_dir_drop(dir);
}

int run_fault_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_space),
        cmocka_unit_test(test_failed_journal_sync),
        cmocka_unit_test(test_dead_generation_is_left),
        cmocka_unit_test(test_failed_segment),
        cmocka_unit_test(test_failed_checkpoint),
        cmocka_unit_test(test_stream_fence),
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_full_disk_tmpfs),
    };
    return cmocka_run_group_tests_name("plog faults", tests, NULL, NULL);
}
