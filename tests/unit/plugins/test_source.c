/* FileStreamSource over real files. */
#include "harness.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

static const ctd_source *source(const struct harness *h)
{
    return (const ctd_source *)(const void *)h->class->ops;
}

static struct harness H;
static const char *pairs[16];
static char path[160];

static int setup(void **state)
{
    (void)state;
    harness_open(&H);
    (void)snprintf(path, sizeof(path), "%s", harness_path(&H, "in.txt"));
    const char *fixed[] = {"file", path, "topic", "t", "poll.interval.ms", "5", NULL};
    memcpy(pairs, fixed, sizeof(fixed));
    harness_use(&H, "FileStreamSource", pairs);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    harness_close(&H);
    return 0;
}

static void add_option(const char *key, const char *value)
{
    size_t i = 0;
    while (pairs[i] != NULL) {
        i += 2;
    }
    pairs[i] = key;
    pairs[i + 1] = value;
    pairs[i + 2] = NULL;
}

static void begin(void)
{
    assert_int_equal(harness_create(&H), CTD_OK);
    assert_int_equal(source(&H)->start(H.self, &H.err), CTD_OK);
}

/* Keeps what the batch's last record says, as a host would. */
static void keep_offset(const ctd_batch *b)
{
    for (uint64_t i = 0; i < b->n; i++) {
        const ctd_value *offset = &b->records[i].source_offset;
        assert_int_equal(offset->type, i + 1 == b->n ? CTD_MAP : CTD_NULL);
        if (offset->type == CTD_MAP) {
            assert_int_equal(offset->len, 3);
            memcpy(H.stored_items, offset->u.items, sizeof(H.stored_items));
            H.stored = ctd_v_map(H.stored_items, 3);
        }
        const ctd_value *partition = &b->records[i].source_partition;
        assert_int_equal(partition->type, offset->type);
        if (partition->type == CTD_MAP) {
            assert_true(ctd_slice_is(ctd_map_str(partition, "filename"), path));
        }
    }
}

/* Polls until idle; returns the values, each in brackets. */
static const char *drain(uint32_t timeout_ms)
{
    static char text[4096];
    size_t at = 0;
    text[0] = '\0';
    for (;;) {
        ctd_batch b = {0};
        ctd_status rc = source(&H)->poll(H.self, 1000, timeout_ms, &b, &H.err);
        if (rc != CTD_OK) {
            (void)snprintf(text + at, sizeof(text) - at, "!%d", (int)rc);
            return text;
        }
        if (b.n == 0) {
            return text;
        }
        keep_offset(&b);
        for (uint64_t i = 0; i < b.n; i++) {
            const ctd_value *v = &b.records[i].value;
            at +=
                (size_t)snprintf(text + at, sizeof(text) - at,
                                 v->type == CTD_BYTES ? "<%.*s>" : "[%.*s]", (int)v->len, v->u.str);
        }
        H.seen += b.n;
        b.release(&b);
        assert_null(b.release);
    }
}

static void test_whole_lines_only(void **state)
{
    (void)state;
    write_file(path, "one\ntwo\r\n\nthr");
    begin();
    assert_string_equal(drain(0), "[one][two][]");
    assert_int_equal(ctd_map_i64(&H.stored, "position", -1), 10);
    assert_string_equal(drain(0), "");
    write_file(path, "ee\r\r\nfour\n");
    assert_string_equal(drain(20), "[three\r][four]");
}

static void test_record_shape(void **state)
{
    (void)state;
    write_file(path, "x\n");
    begin();
    ctd_batch b = {0};
    assert_int_equal(source(&H)->poll(H.self, 10, 0, &b, &H.err), CTD_OK);
    assert_int_equal(b.n, 1);
    const ctd_record *r = b.records;
    assert_true(ctd_slice_is(r->topic, "t"));
    assert_int_equal(r->partition, -1);
    assert_true(r->timestamp_ms == INT64_MIN);
    assert_int_equal(r->key.type, CTD_NULL);
    assert_int_equal(r->value.type, CTD_STRING);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(ctd_map_i64(&r->source_offset, "inode", 0), st.st_ino);
    assert_int_equal(ctd_map_i64(&r->source_offset, "device", 0), st.st_dev);
    /* A batch outlives its source. */
    harness_destroy(&H);
    assert_memory_equal(r->value.u.str, "x", 1);
    b.release(&b);
}

static void test_invalid_utf8_is_bytes(void **state)
{
    (void)state;
    static const char text[] = "\xc3\xa4\n\xff\n\xed\xa0\x80\nlong enough \xc3\n";
    append_file(path, text, sizeof(text) - 1);
    begin();
    ctd_batch b = {0};
    assert_int_equal(source(&H)->poll(H.self, 10, 0, &b, &H.err), CTD_OK);
    assert_int_equal(b.n, 4);
    assert_int_equal(b.records[0].value.type, CTD_STRING);
    assert_int_equal(b.records[1].value.type, CTD_BYTES);
    assert_int_equal(b.records[1].value.len, 1);
    assert_int_equal(b.records[2].value.type, CTD_BYTES);
    assert_int_equal(b.records[3].value.type, CTD_BYTES);
    b.release(&b);
}

static void test_missing_file_is_waited_for(void **state)
{
    (void)state;
    begin();
    assert_string_equal(drain(20), "");
    assert_int_equal(harness_logged(&H, "waiting for it"), 1);
    write_file(path, "a\n");
    assert_string_equal(drain(20), "[a]");
}

static void test_resume(void **state)
{
    (void)state;
    write_file(path, "a\nb\n");
    begin();
    assert_string_equal(drain(0), "[a][b]");
    write_file(path, "c\n");
    begin();
    assert_string_equal(drain(0), "[c]");
    begin();
    assert_string_equal(drain(0), "");
    /* Control: without the stored offset everything comes again. */
    H.stored = ctd_v_null();
    begin();
    assert_string_equal(drain(0), "[a][b][c]");
}

static void test_resume_from_connect(void **state)
{
    (void)state;
    write_file(path, "a\nb\nc\n");
    H.stored_items[0] = ctd_v_cstr("position");
    H.stored_items[1] = ctd_v_i64(2);
    H.stored = ctd_v_map(H.stored_items, 1);
    begin();
    assert_string_equal(drain(0), "[b][c]");
}

static void test_bad_stored_offset(void **state)
{
    (void)state;
    H.stored_items[0] = ctd_v_cstr("pos");
    H.stored_items[1] = ctd_v_i64(2);
    H.stored = ctd_v_map(H.stored_items, 1);
    assert_int_equal(harness_create(&H), CTD_OK);
    assert_int_equal(source(&H)->start(H.self, &H.err), CTD_E_CONFIG);
    assert_non_null(strstr(H.err.message, "position"));
}

static void test_rename_while_running(void **state)
{
    (void)state;
    const char *old = harness_path(&H, "in.txt.1");
    write_file(path, "a\n");
    begin();
    assert_string_equal(drain(0), "[a]");
    assert_int_equal(rename(path, old), 0);
    write_file(old, "b\n");
    assert_string_equal(drain(20), "[b]");
    write_file(path, ""); /* made anew, but the writer has not moved yet */
    write_file(old, "c\n");
    assert_string_equal(drain(20), "[c]");
    write_file(old, "d\n");
    write_file(path, "e\n");
    assert_string_equal(drain(20), "[d][e]");
    write_file(path, "f\n");
    assert_string_equal(drain(20), "[f]");
    assert_int_equal(ctd_map_i64(&H.stored, "position", -1), 4);
}

static void test_renamed_with_unended_line(void **state)
{
    (void)state;
    write_file(path, "a\nrest");
    begin();
    assert_string_equal(drain(0), "[a]");
    assert_int_equal(rename(path, harness_path(&H, "old")), 0);
    write_file(path, "b\n");
    assert_string_equal(drain(20), "[rest][b]");
    assert_int_equal(harness_logged(&H, "not ended"), 1);
}

static void test_truncated_while_running(void **state)
{
    (void)state;
    write_file(path, "a\nb\n");
    begin();
    assert_string_equal(drain(0), "[a][b]");
    assert_int_equal(truncate(path, 0), 0);
    write_file(path, "c\n");
    assert_string_equal(drain(20), "[c]");
    assert_int_equal(harness_logged(&H, "2 /"), 1); /* one warning */
    assert_int_equal(harness_logged(&H, "was cut to"), 1);
}

/* A writer that takes back its half line: what was half is not kept. */
static void test_half_line_taken_back(void **state)
{
    (void)state;
    write_file(path, "a\nhalf");
    begin();
    assert_string_equal(drain(0), "[a]");
    assert_int_equal(truncate(path, 2), 0);
    write_file(path, "whole\n");
    assert_string_equal(drain(20), "[whole]");
}

static void test_truncated_while_down(void **state)
{
    (void)state;
    write_file(path, "aaaa\nbbbb\n");
    begin();
    assert_string_equal(drain(0), "[aaaa][bbbb]");
    assert_int_equal(truncate(path, 0), 0);
    write_file(path, "c\n");
    begin();
    assert_string_equal(drain(0), "[c]");
    assert_int_equal(harness_logged(&H, "below the stored position"), 1);
}

static void test_rewritten_while_down(void **state)
{
    (void)state;
    write_file(path, "aa\nbb\n");
    begin();
    assert_string_equal(drain(0), "[aa][bb]");
    assert_int_equal(truncate(path, 0), 0); /* the same inode, longer than before, other lines */
    write_file(path, "cccccccc\ndd\n");
    begin();
    assert_string_equal(drain(0), "[cccccccc][dd]");
}

static void test_rotated_while_down(void **state)
{
    (void)state;
    write_file(path, "a\nb\n");
    begin();
    assert_string_equal(drain(0), "[a][b]");
    harness_destroy(&H);
    write_file(path, "c\n");
    assert_int_equal(rename(path, harness_path(&H, "in.txt.1")), 0);
    write_file(path, "d\n");
    begin();
    assert_string_equal(drain(20), "[c][d]");
    assert_int_equal(harness_logged(&H, "was renamed to"), 1);
}

static void test_rotated_while_down_and_none_new(void **state)
{
    (void)state;
    write_file(path, "a\n");
    begin();
    assert_string_equal(drain(0), "[a]");
    harness_destroy(&H);
    write_file(path, "b\n");
    assert_int_equal(rename(path, harness_path(&H, "in.txt.1")), 0);
    begin();
    assert_string_equal(drain(20), "[b]");
    write_file(path, "c\n");
    assert_string_equal(drain(20), "[c]");
}

static void test_rotated_away_while_down(void **state)
{
    (void)state;
    const char *other = harness_path(&H, "other");
    write_file(path, "a\n");
    begin();
    assert_string_equal(drain(0), "[a]");
    harness_destroy(&H);
    write_file(other, "c\nd\n"); /* while the old one is there, so that the inode differs */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(other, path), 0);
    begin();
    assert_string_equal(drain(20), "[c][d]");
    assert_int_equal(harness_logged(&H, "neither at this path nor in its folder"), 1);
}

static void test_long_line(void **state)
{
    (void)state;
    add_option("max.line.bytes", "10");
    write_file(path, "a\n0123456789\r\n0123456789X\nb\n");
    begin();
    assert_string_equal(drain(0), "[a][0123456789][b]!-2");
    assert_non_null(strstr(H.err.message, "position 14 has 11 bytes"));
    assert_string_equal(drain(0), ""); /* once */
    write_file(path, "c\n");
    begin(); /* a restart goes on behind it */
    assert_string_equal(drain(0), "[c]");
}

static void test_long_line_at_the_end(void **state)
{
    (void)state;
    add_option("max.line.bytes", "10");
    write_file(path, "0123456789XYZ"); /* no line feed: may grow still, but is too long already */
    begin();
    assert_string_equal(drain(0), "");
    assert_int_equal(harness_logged(&H, "passing over it"), 1);
    write_file(path, "0123\n");
    assert_string_equal(drain(20), "!-2");
    assert_non_null(strstr(H.err.message, "position 0 has 17 bytes"));
    write_file(path, "b\n");
    assert_string_equal(drain(20), "[b]");
}

/* Lines far longer than a block, and lines that straddle blocks. */
static void test_blocks(void **state)
{
    (void)state;
    enum { BIG = 3 << 20, LINES = 60000 };
    char *big = malloc(BIG + 1);
    assert_non_null(big);
    memset(big, 'x', BIG);
    big[BIG] = '\n';
    append_file(path, big, BIG + 1);
    free(big);
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    uint64_t sum = 0;
    for (unsigned i = 0; i < LINES; i++) {
        (void)fprintf(
            f, "%u %.*s\n", i, (int)(i % 80),
            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz0123");
        sum += i;
    }
    assert_int_equal(fclose(f), 0);
    begin();
    uint64_t n = 0;
    int errors = 0;
    ctd_batch held[4] = {{0}};
    for (;;) {
        ctd_batch b = {0};
        ctd_status rc = source(&H)->poll(H.self, 1000000, 0, &b, &H.err);
        if (rc == CTD_E_DATA) {
            errors++;
            continue;
        }
        assert_int_equal(rc, CTD_OK);
        if (b.n == 0) {
            break;
        }
        assert_true(b.n <= 2000);
        /* Batches stay out for a while, and go back in another order. */
        ctd_batch *slot = &held[(n / 2000) % 4];
        for (uint64_t i = 0; slot->release != NULL && i < slot->n; i++) {
            sum -= strtoull(slot->records[i].value.u.str, NULL, 10);
        }
        if (slot->release != NULL) {
            slot->release(slot);
        }
        n += b.n;
        ctd_batch_move(slot, &b);
    }
    for (int k = 3; k >= 0; k--) {
        for (uint64_t i = 0; held[k].release != NULL && i < held[k].n; i++) {
            sum -= strtoull(held[k].records[i].value.u.str, NULL, 10);
        }
        ctd_batch_free(&held[k]);
    }
    assert_int_equal(n, LINES);
    assert_int_equal(errors, 1);
    assert_int_equal(sum, 0);
}

static void test_batch_size(void **state)
{
    (void)state;
    add_option("batch.size", "2");
    write_file(path, "a\nb\nc\n");
    begin();
    ctd_batch b = {0};
    assert_int_equal(source(&H)->poll(H.self, 10, 0, &b, &H.err), CTD_OK);
    assert_int_equal(b.n, 2);
    b.release(&b);
    assert_int_equal(source(&H)->poll(H.self, 1, 0, &b, &H.err), CTD_OK);
    assert_int_equal(b.n, 1);
    b.release(&b);
}

struct poller {
    pthread_t thread;
    ctd_status rc;
    uint64_t n;
    uint32_t timeout_ms;
};

static void *poll_thread(void *arg)
{
    struct poller *p = arg;
    ctd_batch b = {0};
    p->rc = source(&H)->poll(H.self, 10, p->timeout_ms, &b, &H.err);
    p->n = b.n;
    ctd_batch_free(&b);
    return NULL;
}

static void test_cancel_wakes(void **state)
{
    (void)state;
    begin();
    struct poller p = {.timeout_ms = 60000};
    int64_t before = clock_mono_ms();
    assert_int_equal(pthread_create(&p.thread, NULL, poll_thread, &p), 0);
    source(&H)->cancel(H.self);
    assert_int_equal(pthread_join(p.thread, NULL), 0);
    assert_int_equal(p.rc, CTD_E_CANCELLED);
    assert_true(clock_mono_ms() - before < 30000);
    ctd_batch b = {0};
    assert_int_equal(source(&H)->poll(H.self, 10, 60000, &b, &H.err), CTD_E_CANCELLED);
}

static void test_poll_waits_for_lines(void **state)
{
    (void)state;
    begin();
    struct poller p = {.timeout_ms = 60000};
    assert_int_equal(pthread_create(&p.thread, NULL, poll_thread, &p), 0);
    write_file(path, "late\n");
    assert_int_equal(pthread_join(p.thread, NULL), 0);
    assert_int_equal(p.rc, CTD_OK);
    assert_int_equal(p.n, 1);
}

static void test_not_a_file(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    begin();
    assert_string_equal(drain(0), "!-1");
    assert_non_null(strstr(H.err.message, "not a regular file"));
}

static void test_class(void **state)
{
    (void)state;
    assert_string_equal(H.class->name, "FileStreamSource");
    assert_int_equal(H.class->flags, CTD_CLASSF_SINGLE_TASK);
    assert_string_equal(H.class->aliases[0],
                        "org.apache.kafka.connect.file.FileStreamSourceConnector");
    H.class->ops->destroy(NULL);
    pairs[1] = "";
    assert_int_equal(harness_create(&H), CTD_E_CONFIG);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int source_tests(void)
{
    const struct CMUnitTest tests[] = {
        T(test_whole_lines_only),
        T(test_record_shape),
        T(test_invalid_utf8_is_bytes),
        T(test_missing_file_is_waited_for),
        T(test_resume),
        T(test_resume_from_connect),
        T(test_bad_stored_offset),
        T(test_rename_while_running),
        T(test_renamed_with_unended_line),
        T(test_truncated_while_running),
        T(test_half_line_taken_back),
        T(test_truncated_while_down),
        T(test_rewritten_while_down),
        T(test_rotated_while_down),
        T(test_rotated_while_down_and_none_new),
        T(test_rotated_away_while_down),
        T(test_long_line),
        T(test_long_line_at_the_end),
        T(test_blocks),
        T(test_batch_size),
        T(test_cancel_wakes),
        T(test_poll_waits_for_lines),
        T(test_not_a_file),
        T(test_class),
    };
    return cmocka_run_group_tests_name("FileStreamSource", tests, NULL, NULL);
}
