/* SqliteSink: exactly once, fencing, offsets, cancelling. */
#include "sqlite_fixture.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

static const char offsets_sql[] =
    "SELECT connector, topic, topic_id, \"partition\", epoch, \"offset\" FROM _connectd_offsets "
    "ORDER BY \"partition\"";

/* Rows that tell how often each record was written. */
static void counting_options(void)
{
    option("auto.create", "true"); /* insert, no key: a record written twice is two rows */
}

static void put_range(int64_t from, int64_t to, ctd_status want)
{
    ctd_record r[64];
    ctd_value values[64][2];
    uint64_t n = 0;
    for (int64_t i = from; i < to; i++, n++) {
        values[n][0] = S("id");
        values[n][1] = I(i);
        r[n] = record(i, NONE, ctd_v_map(values[n], 1));
    }
    assert_int_equal(put(r, n), want);
}

static void test_offsets_move_with_rows(void **state)
{
    (void)state;
    counting_options();
    begin();
    assert_string_equal(query(offsets_sql), "c1|t|01020300000000000000000000000000|0|1|0\n");
    put_range(0, 5, CTD_OK);
    assert_string_equal(query(offsets_sql), "c1|t|01020300000000000000000000000000|0|1|5\n");
    put_range(3, 8, CTD_OK); /* overlapping: what is there is left out */
    put_range(0, 8, CTD_OK);
    assert_string_equal(query("SELECT count(*), count(DISTINCT id) FROM t"), "8|8\n");
}

static void test_replay_after_crash(void **state)
{
    (void)state;
    counting_options();
    option("batch.size", "3");
    begin();
    int64_t epoch = 2;
    for (int64_t at = 0; at < 50; at += 7) {
        put_range(at < 4 ? 0 : at - 4, at + 7, CTD_OK);
        crash(); /* no flush, no close */
        assert_int_equal(make_and_start(), CTD_OK);
        /* The host knows nothing of what was written: the target does. */
        assert_int_equal(open_part(0, epoch++, 0), at + 7);
    }
    assert_string_equal(query("SELECT count(*), count(DISTINCT id), max(id) FROM t"), "56|56|55\n");
}

/* Control: without the offsets row the same redelivery makes doubles, so the test above can fail.
 */
static void test_replay_control(void **state)
{
    (void)state;
    counting_options();
    begin();
    put_range(0, 5, CTD_OK);
    crash();
    assert_string_equal(query("DELETE FROM _connectd_offsets"), "");
    assert_int_equal(make_and_start(), CTD_OK);
    assert_int_equal(open_part(0, 2, 0), 0);
    put_range(0, 5, CTD_OK);
    assert_string_equal(query("SELECT count(*), count(DISTINCT id) FROM t"), "10|5\n");
}

static void test_failed_batch_is_taken_whole_later(void **state)
{
    (void)state;
    counting_options();
    option("batch.size", "2");
    begin();
    ctd_record r[] = {record(0, NONE, MAP(S("id"), I(0))), record(1, NONE, MAP(S("id"), I(1))),
                      record(2, NONE, MAP(S("id"), I(2))), record(3, NONE, S("bad"))};
    assert_int_equal(put(r, 4), CTD_E_DATA);
    assert_int_equal(H.err.record_index, 3);
    assert_string_equal(query("SELECT id FROM t"), "0\n1\n"); /* the first chunk only */
    r[3] = record(4, NONE, MAP(S("id"), I(4)));               /* the bad one went elsewhere */
    assert_int_equal(put(r, 4), CTD_OK);
    assert_string_equal(query("SELECT id FROM t"), "0\n1\n2\n4\n");
    assert_string_equal(query("SELECT \"offset\" FROM _connectd_offsets"), "5\n");
}

static void test_fenced(void **state)
{
    (void)state;
    counting_options();
    begin();
    put_range(0, 2, CTD_OK);
    void *old = H.self;
    H.self = NULL;
    assert_int_equal(make_and_start(), CTD_OK); /* a newer owner, while the old one lives */
    assert_int_equal(open_part(0, 2, 0), 2);
    void *new = H.self;
    H.self = old;
    put_range(2, 4, CTD_E_FENCED);
    assert_non_null(strstr(H.err.message, "epoch 2"));
    assert_string_equal(query("SELECT count(*) FROM t"), "2\n"); /* its rows are undone */
    assert_int_equal(open_part(0, 1, 0), CTD_E_FENCED);
    H.self = new;
    put_range(2, 4, CTD_OK);
    assert_string_equal(query("SELECT count(*), count(DISTINCT id) FROM t"), "4|4\n");
    H.class->ops->destroy(old);
}

static void test_row_gone_is_fenced(void **state)
{
    (void)state;
    counting_options();
    begin();
    assert_string_equal(query("DELETE FROM _connectd_offsets"), "");
    put_range(0, 1, CTD_E_FENCED);
    assert_non_null(strstr(H.err.message, "is gone"));
}

static void test_flush_advances_over_dropped_records(void **state)
{
    (void)state;
    counting_options();
    begin();
    put_range(0, 3, CTD_OK);
    ctd_assignment a = {.topic = ctd_slice_str("t"), .partition = 0, .offset = 9};
    assert_int_equal(sink()->flush(H.self, &a, 1, &H.err), CTD_OK);
    assert_int_equal(a.offset, 9);
    crash();
    assert_int_equal(make_and_start(), CTD_OK);
    assert_int_equal(open_part(0, 2, 0), 9);
}

static void test_no_committed_offset(void **state)
{
    (void)state;
    counting_options();
    assert_int_equal(make_and_start(), CTD_OK);
    assert_int_equal(open_part(0, 1, -1), -1);
    assert_int_equal(open_part(0, 2, 7), 7); /* nothing stored yet: what the host says */
    put_range(7, 9, CTD_OK);
    assert_int_equal(open_part(0, 3, -1), 9);
}

static void test_partitions_and_close(void **state)
{
    (void)state;
    counting_options();
    begin();
    assert_int_equal(open_part(1, 1, 40), 40);
    ctd_record r[] = {record(0, NONE, MAP(S("id"), I(1))), record(40, NONE, MAP(S("id"), I(2)))};
    r[1].original_partition = 1;
    assert_int_equal(put(r, 2), CTD_OK);
    assert_string_equal(query("SELECT \"partition\", \"offset\" FROM _connectd_offsets ORDER BY 1"),
                        "0|1\n1|41\n");
    ctd_assignment a = {.topic = ctd_slice_str("t"), .partition = 1};
    assert_int_equal(sink()->close(H.self, &a, 1, &H.err), CTD_OK);
    r[1].offset = 41;
    assert_int_equal(put(&r[1], 1), CTD_E_FATAL);
    assert_non_null(strstr(H.err.message, "t-1"));
}

static void test_alter_offsets(void **state)
{
    (void)state;
    counting_options();
    begin();
    put_range(0, 5, CTD_OK);
    crash();
    assert_int_equal(harness_create(&H), CTD_OK); /* not started: the connector is stopped */
    ctd_assignment a = {
        .topic = ctd_slice_str("t"), .topic_id = {1, 2, 3}, .partition = 0, .offset = 2};
    assert_int_equal(sink()->alter_offsets(H.self, &a, 1, &H.err), CTD_OK);
    assert_string_equal(query("SELECT epoch, \"offset\" FROM _connectd_offsets"), "1|2\n");
    assert_int_equal(make_and_start(), CTD_OK);
    assert_int_equal(open_part(0, 2, 5), 2);
    crash();
    assert_int_equal(harness_create(&H), CTD_OK);
    a.offset = -1;
    assert_int_equal(sink()->alter_offsets(H.self, &a, 1, &H.err), CTD_OK);
    assert_string_equal(query("SELECT count(*) FROM _connectd_offsets"), "0\n");
}

/* Another process that holds the write lock. */
static sqlite3 *hold_lock(void)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

static void test_busy_is_retriable(void **state)
{
    (void)state;
    counting_options();
    option("busy.timeout.ms", "20");
    begin();
    sqlite3 *other = hold_lock();
    put_range(0, 2, CTD_E_RETRIABLE);
    assert_true(H.err.retry_after_ms > 0);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    put_range(0, 2, CTD_OK);
    assert_string_equal(query("SELECT count(*) FROM t"), "2\n");
}

static void *put_thread(void *arg)
{
    atomic_int *done = arg;
    put_range(0, 2, CTD_E_CANCELLED);
    atomic_store(done, 1);
    return NULL;
}

static void test_cancel_while_busy(void **state)
{
    (void)state;
    counting_options();
    option("busy.timeout.ms", "9000");
    begin();
    sqlite3 *other = hold_lock();
    pthread_t thread;
    atomic_int done = 0;
    int64_t before = clock_mono_ms();
    assert_int_equal(pthread_create(&thread, NULL, put_thread, &done), 0);
    /* A cancel before put() runs does nothing, so it is repeated until the thread is done. */
    while (!atomic_load(&done)) {
        sink()->cancel(H.self);
        (void)sched_yield();
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(clock_mono_ms() - before < 8000);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    put_range(0, 2, CTD_OK);
}

static void test_refusing_trigger(void **state)
{
    (void)state;
    counting_options();
    begin();
    put_range(0, 1, CTD_OK);
    assert_string_equal(query("CREATE TRIGGER full BEFORE INSERT ON t WHEN new.id > 5 BEGIN SELECT "
                              "RAISE(ABORT, 'no more'); END"),
                        "");
    put_range(1, 8, CTD_E_DATA);
    assert_int_equal(H.err.record_index, 5);
    assert_non_null(strstr(H.err.message, "no more"));
    put_range(1, 6, CTD_OK);
}

/* A layer under SQLite, in place of a bad disk: writes and syncs of the log fail when told to,
 * syncs are counted. The plugin uses the same libsqlite3, so it becomes its default too. */
static struct {
    sqlite3_vfs *below;
    int (*write)(sqlite3_file *, const void *, int, sqlite3_int64);
    int (*sync)(sqlite3_file *, int);
    sqlite3_io_methods methods;
    int write_result, sync_result, syncs;
} disk;

static int disk_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    return disk.write_result != SQLITE_OK ? disk.write_result : disk.write(f, p, n, at);
}

static int disk_sync(sqlite3_file *f, int flags)
{
    disk.syncs++;
    return disk.sync_result != SQLITE_OK ? disk.sync_result : disk.sync(f, flags);
}

static int disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
    (void)vfs;
    int rc = disk.below->xOpen(disk.below, name, f, flags, ret_flags);
    if (rc == SQLITE_OK && (flags & SQLITE_OPEN_WAL) != 0) {
        disk.write = f->pMethods->xWrite;
        disk.sync = f->pMethods->xSync;
        disk.methods = *f->pMethods;
        disk.methods.xWrite = disk_write;
        disk.methods.xSync = disk_sync;
        f->pMethods = &disk.methods;
    }
    return rc;
}

static sqlite3_vfs disk_vfs;

static int disk_setup(void **state)
{
    memset(&disk, 0, sizeof(disk));
    disk.below = sqlite3_vfs_find(NULL);
    disk_vfs = *disk.below;
    disk_vfs.pNext = NULL;
    disk_vfs.zName = "bad-disk";
    disk_vfs.xOpen = disk_open;
    assert_int_equal(sqlite3_vfs_register(&disk_vfs, 1), SQLITE_OK);
    return sqlite_setup(state);
}

static int disk_teardown(void **state)
{
    int rc = sqlite_teardown(state);
    assert_int_equal(sqlite3_vfs_unregister(&disk_vfs), SQLITE_OK);
    assert_int_equal(sqlite3_vfs_register(disk.below, 1), SQLITE_OK);
    return rc;
}

static void test_full_disk(void **state)
{
    (void)state;
    counting_options();
    begin();
    put_range(0, 1, CTD_OK);
    disk.write_result = SQLITE_FULL;
    put_range(1, 3, CTD_E_RETRIABLE);
    assert_non_null(strstr(H.err.message, "full"));
    assert_true(H.err.retry_after_ms > 0);
    disk.write_result = SQLITE_IOERR_WRITE;
    put_range(1, 3, CTD_E_IO);
    assert_non_null(strstr(H.err.message, db_path));
    disk.write_result = SQLITE_OK;
    put_range(1, 3, CTD_OK);
    assert_string_equal(query("SELECT id FROM t"), "0\n1\n2\n");
}

static void test_flush_syncs(void **state)
{
    (void)state;
    counting_options();
    begin(); /* a claim is durable too */
    assert_true(disk.syncs > 0);
    disk.syncs = 0;
    put_range(0, 5, CTD_OK);
    assert_int_equal(disk.syncs, 0);
    assert_int_equal(sink()->flush(H.self, NULL, 0, &H.err), CTD_OK);
    assert_int_equal(disk.syncs, 1);
    assert_int_equal(sink()->flush(H.self, NULL, 0, &H.err), CTD_OK);
    assert_int_equal(disk.syncs, 1); /* nothing new */
    put_range(5, 6, CTD_OK);
    disk.sync_result = SQLITE_IOERR_FSYNC;
    assert_int_equal(sink()->flush(H.self, NULL, 0, &H.err), CTD_E_IO);
    assert_int_equal(open_part(1, 1, 0), CTD_E_IO);
    disk.sync_result = SQLITE_OK;
}

static void test_corrupt_database(void **state)
{
    (void)state;
    counting_options();
    begin();
    put_range(0, 20, CTD_OK);
    assert_int_equal(sink()->stop(H.self, &H.err), CTD_OK);
    crash();
    FILE *f = fopen(db_path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, 4096, SEEK_SET), 0);
    char junk[4096];
    memset(junk, 0x5a, sizeof(junk));
    assert_int_equal(fwrite(junk, 1, sizeof(junk), f), sizeof(junk));
    assert_int_equal(fclose(f), 0);
    ctd_status rc = make_and_start();
    int64_t at = rc == CTD_OK ? open_part(0, 2, 0) : rc;
    assert_int_equal(at, CTD_E_FATAL);
    assert_non_null(strstr(H.err.message, ".recover"));
}

/* Two tasks on one database, each with its partition. */
struct task {
    pthread_t thread;
    void *self;
    int32_t partition;
};

static void *task_thread(void *arg)
{
    struct task *t = arg;
    for (int64_t i = 0; i < 200; i++) {
        ctd_record r = record(i, NONE, MAP(S("id"), I(i), S("p"), I(t->partition)));
        r.original_partition = t->partition;
        ctd_batch b = {.n = 1, .records = &r};
        ctd_error err;
        ctd_status rc = sink()->put(t->self, &b, &err);
        if (rc != CTD_OK) {
            return t;
        }
    }
    return NULL;
}

static void test_two_tasks(void **state)
{
    (void)state;
    counting_options();
    struct task tasks[2] = {{.partition = 0}, {.partition = 1}};
    for (int i = 0; i < 2; i++) {
        H.self = NULL;
        assert_int_equal(make_and_start(), CTD_OK);
        assert_int_equal(open_part(i, 1, 0), 0);
        tasks[i].self = H.self;
    }
    H.self = NULL;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&tasks[i].thread, NULL, task_thread, &tasks[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(tasks[i].thread, &failed), 0);
        assert_null(failed);
        H.class->ops->destroy(tasks[i].self);
    }
    assert_string_equal(
        query("SELECT p, count(DISTINCT id), count(*) FROM t GROUP BY p ORDER BY p"),
        "0|200|200\n1|200|200\n");
    assert_string_equal(query("SELECT \"offset\" FROM _connectd_offsets"), "200\n200\n");
}

static void test_class(void **state)
{
    (void)state;
    assert_string_equal(H.class->name, "SqliteSink");
    assert_int_equal(H.class->flags, CTD_CLASSF_OFFSETS_IN_TARGET);
    H.class->ops->destroy(NULL);
    assert_int_equal(harness_create(&H), CTD_OK);
    struct stat st;
    assert_int_not_equal(stat(db_path, &st), 0); /* create() touches nothing */
    assert_int_equal(sink()->stop(H.self, &H.err), CTD_OK);
}

#define D(f) cmocka_unit_test_setup_teardown(f, disk_setup, disk_teardown)
#define T(f) cmocka_unit_test_setup_teardown(f, sqlite_setup, sqlite_teardown)
int sqlite_offset_tests(void)
{
    const struct CMUnitTest tests[] = {
        T(test_offsets_move_with_rows),
        T(test_replay_after_crash),
        T(test_replay_control),
        T(test_failed_batch_is_taken_whole_later),
        T(test_fenced),
        T(test_row_gone_is_fenced),
        T(test_flush_advances_over_dropped_records),
        T(test_no_committed_offset),
        T(test_partitions_and_close),
        T(test_alter_offsets),
        T(test_busy_is_retriable),
        T(test_cancel_while_busy),
        T(test_refusing_trigger),
        D(test_full_disk),
        D(test_flush_syncs),
        T(test_corrupt_database),
        T(test_two_tasks),
        T(test_class),
    };
    return cmocka_run_group_tests_name("SqliteSink offsets", tests, NULL, NULL);
}
