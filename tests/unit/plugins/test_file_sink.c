/* FileStreamSink into real files. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

static struct harness H;
static const char *pairs[4];
static char path[160];

static const ctd_sink *sink(void)
{
    return (const ctd_sink *)(const void *)H.class->ops;
}

static int setup(void **state)
{
    (void)state;
    harness_open(&H);
    (void)snprintf(path, sizeof(path), "%s", harness_path(&H, "out.txt"));
    pairs[0] = "file";
    pairs[1] = path;
    harness_use(&H, "FileStreamSink", pairs);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    harness_close(&H);
    return 0;
}

static ctd_status begin(void)
{
    assert_int_equal(harness_create(&H), CTD_OK);
    return sink()->start(H.self, &H.err);
}

static void nothing(ctd_batch *b)
{
    b->release = NULL;
}

static ctd_status put(const ctd_value *values, uint64_t n)
{
    ctd_record records[16] = {{.partition = 0}};
    for (uint64_t i = 0; i < n; i++) {
        records[i].value = values[i];
    }
    ctd_batch b = {.n = n, .records = records, .release = nothing};
    return sink()->put(H.self, &b, &H.err);
}

static ctd_status put_text(const char *text)
{
    ctd_value v = ctd_v_cstr(text);
    return put(&v, 1);
}

static void check_file(const char *want)
{
    char *have = read_file(path);
    assert_string_equal(have, want);
    free(have);
}

static void test_values(void **state)
{
    (void)state;
    const ctd_value items[] = {ctd_v_i64(1), ctd_v_null(), ctd_v_f64(2.5)};
    const ctd_value pairs_[] = {ctd_v_cstr("a"), ctd_v_array(items, 3), ctd_v_cstr("b\n"),
                                ctd_v_cstr("x\"y")};
    const ctd_value values[] = {ctd_v_cstr("plain \"text\""),
                                ctd_v_bytes("\x01z", 2),
                                ctd_v_map(pairs_, 2),
                                ctd_v_null(),
                                ctd_v_bool(1),
                                ctd_v_raw_json("{ \"k\":1}", 8),
                                ctd_v_cstr("")};
    assert_int_equal(begin(), CTD_OK);
    assert_int_equal(put(values, 7), CTD_OK);
    assert_int_equal(sink()->flush(H.self, NULL, 0, &H.err), CTD_OK);
    check_file("plain \"text\"\n\x01z\n{\"a\":[1,null,2.5],\"b\\n\":\"x\\\"y\"}\nnull\ntrue\n"
               "{ \"k\":1}\n\n");
}

static void test_appends(void **state)
{
    (void)state;
    write_file(path, "before\n");
    assert_int_equal(begin(), CTD_OK);
    assert_int_equal(put_text("a"), CTD_OK);
    assert_int_equal(sink()->stop(H.self, &H.err), CTD_OK);
    assert_int_equal(begin(), CTD_OK);
    assert_int_equal(put_text("b"), CTD_OK);
    check_file("before\na\nb\n");
}

static void test_torn_line_is_cut(void **state)
{
    (void)state;
    write_file(path, "whole\nto");
    assert_int_equal(begin(), CTD_OK);
    check_file("whole\n");
    assert_int_equal(harness_logged(&H, "2 bytes behind position 6 cut off"), 1);
    assert_int_equal(put_text("next"), CTD_OK);
    check_file("whole\nnext\n");
}

static void test_torn_first_line_is_cut(void **state)
{
    (void)state;
    write_file(path, "tor");
    assert_int_equal(begin(), CTD_OK);
    check_file("");
}

/* Another task died within its write while this one is running. */
static void test_torn_line_of_another_task(void **state)
{
    (void)state;
    assert_int_equal(begin(), CTD_OK);
    assert_int_equal(put_text("mine"), CTD_OK);
    write_file(path, "theirs\nto");
    assert_int_equal(put_text("more"), CTD_OK);
    check_file("mine\ntheirs\nmore\n");
}

static void test_not_lines(void **state)
{
    (void)state;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)65 << 20), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(begin(), CTD_E_CONFIG);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, (off_t)65 << 20);
}

static void test_bad_value_leaves_nothing(void **state)
{
    (void)state;
    const ctd_value values[] = {ctd_v_cstr("good"), ctd_v_f64(0.0 / 0.0)};
    assert_int_equal(begin(), CTD_OK);
    assert_int_equal(put(values, 2), CTD_E_DATA);
    assert_int_equal(H.err.record_index, 1);
    assert_int_equal(put(values, 1), CTD_OK);
    check_file("good\n");
}

static void test_moved_away(void **state)
{
    (void)state;
    const char *old = harness_path(&H, "old");
    assert_int_equal(begin(), CTD_OK);
    assert_int_equal(put_text("a"), CTD_OK);
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(sink()->flush(H.self, NULL, 0, &H.err), CTD_OK);
    assert_int_equal(put_text("b"), CTD_OK);
    check_file("b\n");
    char *have = read_file(old);
    assert_string_equal(have, "a\n");
    free(have);
}

/* A size limit stands for a full disk: the write stops in the middle of a line. */
static void test_full_disk(void **state)
{
    (void)state;
    struct rlimit before, small;
    assert_int_equal(begin(), CTD_OK);
    assert_int_equal(put_text("0123456789"), CTD_OK);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 15;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    ctd_status rc = put_text("abcdefghij");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(rc, CTD_E_RETRIABLE);
    assert_true(H.err.retry_after_ms > 0);
    check_file("0123456789\n"); /* nothing half-written */
    assert_int_equal(put_text("abcdefghij"), CTD_OK);
    check_file("0123456789\nabcdefghij\n");
}

static void test_device_full(void **state)
{
    (void)state;
    pairs[1] = "/dev/full";
    assert_int_equal(begin(), CTD_OK);
    assert_int_equal(put_text("x"), CTD_E_RETRIABLE);
    assert_non_null(strstr(H.err.message, "/dev/full"));
}

static void test_no_folder(void **state)
{
    (void)state;
    pairs[1] = harness_path(&H, "none/out.txt");
    assert_int_equal(begin(), CTD_E_IO);
    assert_int_equal(H.err.sys_errno, 2);
    assert_non_null(strstr(H.err.message, "create its folder first"));
    pairs[1] = H.folder;
    assert_int_equal(begin(), CTD_E_CONFIG);
}

/* Two tasks on one file, each with its own lines: none is torn or lost. */
struct writer {
    pthread_t thread;
    void *self;
    char letter;
};

static void *write_thread(void *arg)
{
    struct writer *w = arg;
    char line[101];
    memset(line, w->letter, 100);
    line[100] = '\0';
    ctd_record r = {.value = ctd_v_cstr(line)};
    for (int i = 0; i < 300; i++) {
        ctd_batch b = {.n = 1, .records = &r, .release = nothing};
        ctd_error err;
        if (sink()->put(w->self, &b, &err) != CTD_OK) {
            return w;
        }
    }
    return NULL;
}

static void test_two_tasks(void **state)
{
    (void)state;
    struct writer w[2] = {{.letter = 'a'}, {.letter = 'b'}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(H.class->ops->create(&H.host, NULL, &w[i].self, &H.err), CTD_OK);
        assert_int_equal(sink()->start(w[i].self, &H.err), CTD_OK);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_thread, &w[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(w[i].thread, &failed), 0);
        assert_null(failed);
        H.class->ops->destroy(w[i].self);
    }
    char *have = read_file(path);
    assert_int_equal(strlen(have), 2 * 300 * 101);
    for (int i = 0; i < 600; i++) {
        assert_int_equal(strspn(have + i * 101, have[i * 101] == 'a' ? "a" : "b"), 100);
        assert_int_equal(have[i * 101 + 100], '\n');
    }
    free(have);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int file_sink_tests(void)
{
    const struct CMUnitTest tests[] = {
        T(test_values),
        T(test_appends),
        T(test_torn_line_is_cut),
        T(test_torn_first_line_is_cut),
        T(test_torn_line_of_another_task),
        T(test_not_lines),
        T(test_bad_value_leaves_nothing),
        T(test_moved_away),
        T(test_full_disk),
        T(test_device_full),
        T(test_no_folder),
        T(test_two_tasks),
    };
    return cmocka_run_group_tests_name("FileStreamSink", tests, NULL, NULL);
}
