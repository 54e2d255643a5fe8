/*
 * Recovery: copies of DATA as crashes leave them, with torn, zeroed, garbled and missing parts. What was acked is
 * there, what was not is gone whole, and damage costs only its own offsets.
 */
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests.h"

static char *copy_name(const char *dir)
{
    char *copy = NULL;
    assert_true(asprintf(&copy, "%s-copy", dir) > 0);
    return copy;
}

static void expect_dump(struct plog *p, const char *topic, int32_t number, const char *want)
{
    struct plog_partition *t = test_part(p, topic, number);
    struct buf text = BUF_INIT(0);
    test_dump(t, 0, &text);
    assert_string_equal(buf_cstr(&text), want);
    buf_free(&text);
    plog_partition_unref(t);
}

/* ---- every state between two units ---- */

static void crash_after_each_unit(int path, size_t journal_bytes)
{
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open_with(
        (struct plog_options){.dir = dir, .force_path = path, .journal_bytes = journal_bytes});
    test_topic(p, "t", 3, (const char *const[]){"segment.bytes", "700", NULL, NULL});
    struct plog_partition *parts[3];
    struct buf want[3];
    for (int i = 0; i < 3; i++) {
        parts[i] = test_part(p, "t", i);
        buf_init(&want[i], 0);
    }
    for (int unit = 0; unit < 25; unit++) {
        char tag[24];
        (void)snprintf(tag, sizeof(tag), "u%d", unit);
        /* units over one, two and all partitions, in turn */
        size_t n = (size_t)(unit % 3) + 1;
        OK(test_unit(p, parts + (3 - n), n, tag, 2, 30));
        for (size_t i = 3 - n; i < 3; i++) {
            struct plog_partition_status s;
            plog_partition_status(parts[i], &s);
            buf_printf(&want[i], "%lld u%d:0\n%lld u%d:1\n", (long long)s.end_offset - 2, unit,
                       (long long)s.end_offset - 1, unit);
        }
        /* The copy is taken while nothing is written; a checkpoint may run, which is a test too. */
        if (journal_bytes != 0) {
            continue;
        }
        struct plog *q = test_crash_open(dir, copy);
        for (int i = 0; i < 3; i++) {
            expect_dump(q, "t", i, buf_cstr(&want[i]));
        }
        plog_close(q);
        OK(file_remove_tree(copy, &test_err));
    }
    for (int i = 0; i < 3; i++) {
        plog_partition_unref(parts[i]);
    }
    plog_close(p);
    p = test_open(dir);
    for (int i = 0; i < 3; i++) {
        expect_dump(p, "t", i, buf_cstr(&want[i]));
        buf_free(&want[i]);
    }
    plog_close(p);
    free(copy);
    test_dir_drop(dir);
}

static void test_crash_after_each_unit(void **state)
{
    (void)state;
    for (int path = 0; path <= 2; path++) {
        crash_after_each_unit(path, 0);
        crash_after_each_unit(path, 1); /* a checkpoint after every group */
    }
}

/* ---- a torn end ---- */

enum harm { HARM_CUT, HARM_ZERO, HARM_ONES, HARM_FLIP, N_HARMS };

/* Leaves bytes [0, keep) of the journal and harms the rest up to `size`; HARM_FLIP: only byte `keep`. Returns
 * 0 if that changed nothing. */
static int harm_journal(const char *dir, int64_t keep, int64_t size, int harm)
{
    int64_t ignored = 0;
    int changed = 1;
    char *journal = test_newest_journal(dir, &ignored);
    if (harm == HARM_CUT) {
        test_truncate(journal, keep);
    } else if (harm == HARM_FLIP) {
        changed = test_garble(journal, keep, 1, -1);
    } else {
        changed = test_garble(journal, keep, size - keep, harm == HARM_ZERO ? 0 : 0xff);
    }
    free(journal);
    return changed;
}

/* The last unit's bytes in one segment, as a crash may leave them. */
static void harm_segment(const char *dir, const char *name, int64_t from, int64_t to, int how)
{
    char *path = test_path(dir, name);
    if (test_size(path) > from) { /* a new segment may not be there */
        switch (how % 4) {
        case 1:
            test_truncate(path, from);
            break;
        case 2:
            test_truncate(path, from + (to - from) / 2);
            break;
        case 3:
            test_garble(path, from, to - from, 0);
            break;
        default:
            break;
        }
    }
    free(path);
}

/* Three units over two partitions; the last is taken for one that was never acked: whatever is left of its frame,
 * both partitions end before it. */
static void torn_tail(int path)
{
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open_with((struct plog_options){.dir = dir, .force_path = path});
    test_topic(p, "t", 2, NULL);
    struct plog_partition *parts[2] = {test_part(p, "t", 0), test_part(p, "t", 1)};
    OK(test_unit(p, parts, 2, "a", 1, 20));
    OK(test_unit(p, parts, 2, "b", 1, 20));
    int64_t good = 0;
    free(test_newest_journal(dir, &good));
    struct plog_partition_status before;
    plog_partition_status(parts[0], &before);
    OK(test_unit(p, parts, 2, "c", 1, 20));
    int64_t all = 0;
    free(test_newest_journal(dir, &all));
    struct plog_partition_status after;
    plog_partition_status(parts[0], &after);
    assert_true(all > good);
    int64_t cuts = 0;
    for (int64_t keep = good; keep < all; keep++) {
        for (int harm = 0; harm < N_HARMS; harm++) {
            test_copy(dir, copy);
            int changed = harm_journal(copy, keep, all, harm);
            harm_segment(copy, "log/t-0/00000000000000000000.log", before.bytes, after.bytes,
                         (int)keep);
            harm_segment(copy, "log/t-1/00000000000000000000.log", before.bytes, after.bytes,
                         (int)keep / 4);
            if (!changed) { /* zeroes over zeroes */
                OK(file_remove_tree(copy, &test_err));
                continue;
            }
            cuts++;
            struct plog *q = test_open(copy);
            expect_dump(q, "t", 0, "0 a:0\n1 b:0\n");
            expect_dump(q, "t", 1, "0 a:0\n1 b:0\n");
            struct plog_partition *t = test_part(q, "t", 0);
            struct plog_partition_status s;
            plog_partition_status(t, &s);
            assert_int_equal(s.bytes, before.bytes);
            plog_partition_unref(t);
            plog_close(q);
            OK(file_remove_tree(copy, &test_err));
        }
    }
    assert_true(cuts > 3 * (all - good));
    plog_partition_unref(parts[0]);
    plog_partition_unref(parts[1]);
    plog_close(p);
    free(copy);
    test_dir_drop(dir);
}

static void test_torn_tail_redo(void **state)
{
    (void)state;
    torn_tail(1);
}

static void test_torn_tail_straight(void **state)
{
    (void)state;
    torn_tail(2);
}

/* With a marker, the bytes are in the segments alone: a marker without its bytes is a torn end as well. */
static void test_marker_without_bytes(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open_with((struct plog_options){.dir = dir, .flush = PLOG_FLUSH_OS});
    test_topic(p, "t", 2, NULL);
    struct plog_partition *parts[2] = {test_part(p, "t", 0), test_part(p, "t", 1)};
    OK(test_unit(p, parts, 2, "a", 1, 20));
    struct plog_partition_status before;
    plog_partition_status(parts[0], &before);
    OK(test_unit(p, parts, 2, "b", 1, 20));
    OK(test_unit(p, parts, 1, "c", 1, 20));
    struct plog_partition_status after;
    plog_partition_status(parts[1], &after);
    for (int64_t at = before.bytes; at < after.bytes; at++) {
        test_copy(dir, copy);
        char *segment = test_path(copy, "log/t-1/00000000000000000000.log");
        test_garble(segment, at, 1, -1);
        struct plog *q = test_open(copy);
        /* c came after b: it is not there without it. The digest covers even the leader epoch. */
        expect_dump(q, "t", 0, "0 a:0\n");
        expect_dump(q, "t", 1, "0 a:0\n");
        plog_close(q);
        free(segment);
        OK(file_remove_tree(copy, &test_err));
    }
    plog_partition_unref(parts[0]);
    plog_partition_unref(parts[1]);
    plog_close(p);
    free(copy);
    test_dir_drop(dir);
}

/* A segment that an unacked unit began is removed again. */
static void test_unacked_segment(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open_with((struct plog_options){.dir = dir, .force_path = 1});
    test_topic(p, "t", 1, (const char *const[]){"segment.bytes", "150", NULL, NULL});
    struct plog_partition *t = test_part(p, "t", 0);
    (void)test_put(p, t, "a", 1, 20, 1000);
    int64_t good = 0;
    free(test_newest_journal(dir, &good));
    (void)test_put(p, t, "b", 1, 20, 1000);
    test_copy(dir, copy);
    char *second = test_path(copy, "log/t-0/00000000000000000001.log");
    assert_true(test_size(second) > 0);
    (void)harm_journal(copy, good, good, HARM_CUT);
    struct plog *q = test_open(copy);
    assert_int_equal(test_size(second), -1);
    expect_dump(q, "t", 0, "0 a:0\n");
    struct plog_partition *tq = test_part(q, "t", 0);
    assert_int_equal(test_put(q, tq, "z", 1, 20, 1000), 1);
    plog_partition_unref(tq);
    expect_dump(q, "t", 0, "0 a:0\n1 z:0\n");
    plog_close(q);
    free(second);
    test_dir_drop(copy);
    plog_partition_unref(t);
    plog_close(p);
    test_dir_drop(dir);
}

/* A segment that a failed unit began and whose removal a power cut undid, in the midst of others. */
static void test_ghost_segment(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open_with((struct plog_options){.dir = dir, .force_path = 1});
    test_topic(p, "t", 1, (const char *const[]){"segment.bytes", "250", NULL, NULL});
    struct plog_partition *t = test_part(p, "t", 0);
    (void)test_put(p, t, "a", 1, 20, 1000);
    (void)test_put(p, t, "b", 1, 20, 1000);
    (void)test_put(p, t, "c", 1, 20, 1000);
    test_copy(dir, copy);
    char *ghost = test_path(copy, "log/t-0/00000000000000000001.log");
    assert_int_equal(test_size(ghost), -1);
    OK(file_replace(ghost, "ghost", 5, &test_err));
    struct plog *q = test_open(copy);
    expect_dump(q, "t", 0, "0 a:0\n1 b:0\n2 c:0\n");
    assert_int_equal(test_size(ghost), -1);
    plog_close(q);
    free(ghost);
    test_dir_drop(copy);
    plog_partition_unref(t);
    plog_close(p);
    test_dir_drop(dir);
}

/* A whole frame of the same generation at the journal's end whose sequence number is an old one's. */
static void test_stale_frame(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open_with((struct plog_options){.dir = dir, .force_path = 1});
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    int64_t from = 0;
    int64_t to = 0;
    free(test_newest_journal(dir, &from));
    (void)test_put(p, t, "a", 1, 20, 1000);
    free(test_newest_journal(dir, &to));
    (void)test_put(p, t, "b", 1, 20, 1000);
    (void)test_put(p, t, "c", 1, 20, 1000);
    test_copy(dir, copy);
    int64_t size = 0;
    char *journal = test_newest_journal(copy, &size);
    struct buf bytes = BUF_INIT(0);
    OK(file_read(journal, (size_t)1 << 20, &bytes, &test_err));
    buf_append(&bytes, bytes.data + from, (size_t)(to - from));
    assert_int_equal(bytes.error, 0);
    OK(file_replace(journal, bytes.data, bytes.len, &test_err));
    struct plog *q = test_open(copy);
    expect_dump(q, "t", 0, "0 a:0\n1 b:0\n2 c:0\n");
    plog_close(q);
    buf_free(&bytes);
    free(journal);
    test_dir_drop(copy);
    plog_partition_unref(t);
    plog_close(p);
    test_dir_drop(dir);
}

/* ---- damage in the journal's middle ---- */

static void test_damaged_journal(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open_with((struct plog_options){.dir = dir, .force_path = 1});
    test_topic(p, "t", 1, NULL);
    test_topic(p, "other", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    struct plog_partition *o = test_part(p, "other", 0);
    (void)test_put(p, t, "a", 1, 20, 1000);
    struct plog_partition_status s;
    plog_partition_status(t, &s);
    int64_t from = 0;
    int64_t to = 0;
    free(test_newest_journal(dir, &from));
    (void)test_put(p, t, "b", 1, 20, 1000);
    free(test_newest_journal(dir, &to));
    (void)test_put(p, o, "c", 1, 20, 1000);
    (void)test_put(p, o, "d", 1, 20, 1000);
    for (int64_t at = from; at < to; at++) {
        test_copy(dir, copy);
        (void)harm_journal(copy, at, at, HARM_FLIP);
        struct plog *q = test_open(copy);
        expect_dump(q, "t", 0, "0 a:0\n1 b:0\n"); /* its bytes stand in the segment */
        expect_dump(q, "other", 0, "0 c:0\n1 d:0\n");
        plog_close(q);
        OK(file_remove_tree(copy, &test_err));
    }
    /* Without its bytes in the segment it is lost, and only it. */
    (void)test_put(p, t, "e", 1, 20, 1000);
    (void)test_put(p, t, "f", 1, 20, 1000);
    test_copy(dir, copy);
    (void)harm_journal(copy, from + 60, 0, HARM_FLIP);
    char *segment = test_path(copy, "log/t-0/00000000000000000000.log");
    test_garble(segment, s.bytes, s.bytes, 0);
    struct plog *q = test_open(copy);
    expect_dump(q, "t", 0, "0 a:0\n1 BAD\n2 e:0\n3 f:0\n");
    plog_close(q);
    free(segment);
    test_dir_drop(copy);
    plog_partition_unref(t);
    plog_partition_unref(o);
    plog_close(p);
    test_dir_drop(dir);
}

/* A journal that is missing or has a bad header is no reason to cut what is in the segments. */
static void test_lost_journal(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    /* Round 1 runs on the checkpoint of a clean stop. */
    const char *want[2] = {"0 a:0\n1 b:0\n", "0 a:0\n1 b:0\n2 a:0\n3 b:0\n"};
    for (int round = 0; round < 2; round++) {
        struct plog *p = test_open_with((struct plog_options){.dir = dir, .force_path = 1});
        if (round == 0) {
            test_topic(p, "t", 1, NULL);
        }
        struct plog_partition *t = test_part(p, "t", 0);
        (void)test_put(p, t, "a", 1, 20, 1000);
        (void)test_put(p, t, "b", 1, 20, 1000);
        for (int how = 0; how < 3; how++) {
            test_copy(dir, copy);
            int64_t ignored = 0;
            char *journal = test_newest_journal(copy, &ignored);
            if (how == 0) {
                assert_int_equal(unlink(journal), 0);
            } else if (how == 1) {
                (void)test_garble(journal, 3, 1, -1);
            } else {
                test_truncate(journal, 32);
                (void)test_garble(journal, 3, 1, -1);
            }
            struct plog *q = test_open(copy);
            /* An emptied one is what a crash leaves of a new one: then nothing was acked in it. */
            if (how < 2) {
                expect_dump(q, "t", 0, want[round]);
            }
            plog_close(q);
            free(journal);
            OK(file_remove_tree(copy, &test_err));
        }
        plog_partition_unref(t);
        plog_close(p);
    }
    free(copy);
    test_dir_drop(dir);
}

/* ---- a lost or damaged checkpoint ---- */

static void test_lost_checkpoint(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    for (int clean = 0; clean <= 1; clean++) {
        for (int how = 0; how < 3; how++) {
            struct plog *p = test_open(dir);
            if (clean == 0 && how == 0) {
                test_topic(p, "t", 2, (const char *const[]){"segment.bytes", "300", NULL, NULL});
                struct plog_partition *parts[2] = {test_part(p, "t", 0), test_part(p, "t", 1)};
                OK(test_unit(p, parts, 2, "a", 1, 20));
                OK(test_unit(p, parts, 1, "b", 3, 20));
                OK(test_unit(p, parts, 1, "c", 3, 20));
                OK(test_unit(p, parts + 1, 1, "d", 1, 20));
                plog_partition_unref(parts[0]);
                plog_partition_unref(parts[1]);
            }
            if (clean) {
                plog_close(p);
            }
            test_copy(dir, copy);
            if (!clean) {
                plog_close(p);
            }
            char *path = test_path(copy, "journal/checkpoint");
            if (how == 0) {
                assert_int_equal(unlink(path), 0);
            } else if (how == 1) {
                test_garble(path, test_size(path) / 2, 1, -1);
            } else {
                test_truncate(path, 0);
            }
            struct plog *q = test_open(copy);
            expect_dump(q, "t", 0, "0 a:0\n1 b:0\n2 b:1\n3 b:2\n4 c:0\n5 c:1\n6 c:2\n");
            expect_dump(q, "t", 1, "0 a:0\n1 d:0\n");
            plog_close(q);
            free(path);
            OK(file_remove_tree(copy, &test_err));
        }
    }
    free(copy);
    test_dir_drop(dir);
}

/* A torn tail is cut also where only scanning can find it; a bad batch in the middle never. */
static void test_scan_without_checkpoint(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open(dir);
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    (void)test_put(p, t, "a", 1, 20, 1000);
    (void)test_put(p, t, "b", 1, 20, 1000);
    (void)test_put(p, t, "c", 1, 20, 1000);
    struct plog_partition_status s;
    plog_partition_status(t, &s);
    plog_partition_unref(t);
    plog_close(p);
    int64_t batch = s.bytes / 3;
    for (int64_t cut = 1; cut <= batch; cut++) {
        test_copy(dir, copy);
        char *checkpoint = test_path(copy, "journal/checkpoint");
        char *segment = test_path(copy, "log/t-0/00000000000000000000.log");
        assert_int_equal(unlink(checkpoint), 0);
        test_truncate(segment, s.bytes - cut);
        struct plog *q = test_open(copy);
        expect_dump(q, "t", 0, "0 a:0\n1 b:0\n");
        assert_int_equal(test_size(segment), 2 * batch);
        plog_close(q);
        free(checkpoint);
        free(segment);
        OK(file_remove_tree(copy, &test_err));
    }
    test_copy(dir, copy);
    char *checkpoint = test_path(copy, "journal/checkpoint");
    char *segment = test_path(copy, "log/t-0/00000000000000000000.log");
    assert_int_equal(unlink(checkpoint), 0);
    test_garble(segment, batch + 30, 1, -1);
    struct plog *q = test_open(copy);
    expect_dump(q, "t", 0, "0 a:0\n1 BAD\n2 c:0\n");
    assert_int_equal(test_size(segment), s.bytes);
    plog_close(q);
    free(checkpoint);
    free(segment);
    test_dir_drop(copy);
    test_dir_drop(dir);
}

/* ---- damaged segments ---- */

/* Any byte of a batch in the middle: only its offset is lost, after a clean stop and after a crash. */
static void test_bad_batch(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open(dir);
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    (void)test_put(p, t, "a", 1, 20, 1000);
    (void)test_put(p, t, "b", 1, 20, 1000);
    (void)test_put(p, t, "c", 1, 20, 1000);
    struct plog_partition_status s;
    plog_partition_status(t, &s);
    plog_partition_unref(t);
    plog_close(p);
    int64_t batch = s.bytes / 3;
    for (int64_t at = batch; at < 2 * batch; at++) {
        for (int fill = -1; fill <= 0xff; fill += 0x100) {
            test_copy(dir, copy);
            char *segment = test_path(copy, "log/t-0/00000000000000000000.log");
            int changed = test_garble(segment, at, 1, fill);
            struct plog *q = test_open(copy);
            int epoch =
                at - batch >= 12 && at - batch < 16; /* nothing covers it, nothing uses it */
            if (epoch || !changed) {
                expect_dump(q, "t", 0, "0 a:0\n1 b:0\n2 c:0\n");
            } else {
                expect_dump(q, "t", 0, "0 a:0\n1 BAD\n2 c:0\n");
                struct plog_partition *tq = test_part(q, "t", 0);
                struct plog_partition_status sq;
                plog_partition_status(tq, &sq);
                assert_int_equal(sq.state, PLOG_ONLINE);
                assert_non_null(strstr(sq.error, "offsets 1 to 1"));
                assert_non_null(strstr(sq.error, "00000000000000000000.log"));
                plog_partition_unref(tq);
            }
            assert_int_equal(test_size(segment), s.bytes);
            plog_close(q);
            free(segment);
            OK(file_remove_tree(copy, &test_err));
        }
    }
    free(copy);
    test_dir_drop(dir);
}

/* Acked bytes that are missing from a segment's end: their offsets are not given out again. */
static void test_lost_tail(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct plog *p = test_open(dir);
    test_topic(p, "t", 1, NULL);
    struct plog_partition *t = test_part(p, "t", 0);
    (void)test_put(p, t, "a", 1, 20, 1000);
    (void)test_put(p, t, "b", 2, 20, 1000);
    plog_partition_unref(t);
    plog_close(p);
    char *segment = test_path(dir, "log/t-0/00000000000000000000.log");
    test_truncate(segment, test_size(segment) - 1);
    for (int round = 0; round < 2; round++) {
        p = test_open(dir);
        t = test_part(p, "t", 0);
        if (round == 0) {
            expect_dump(p, "t", 0, "0 a:0\n1 BAD\n");
            assert_int_equal(test_put(p, t, "c", 1, 20, 1000), 3);
        }
        expect_dump(p, "t", 0, "0 a:0\n1 BAD\n3 c:0\n");
        plog_partition_unref(t);
        plog_close(p);
    }
    assert_int_equal(unlink(segment), 0);
    p = test_open(dir);
    expect_dump(p, "t", 0, "0 BAD\n3 c:0\n");
    plog_close(p);
    free(segment);
    test_dir_drop(dir);
}

static void test_bad_indexes(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open(dir);
    test_topic(
        p, "t", 1,
        (const char *const[]){"segment.bytes", "3000", "index.interval.bytes", "200", NULL, NULL});
    struct plog_partition *t = test_part(p, "t", 0);
    for (int i = 0; i < 40; i++) {
        (void)test_put(p, t, "x", 1, 80, 1000 + i);
    }
    plog_partition_unref(t);
    plog_close(p);
    static const char *const names[] = {"log/t-0/00000000000000000000.index",
                                        "log/t-0/00000000000000000000.timeindex"};
    for (int how = 0; how < 5; how++) {
        for (int which = 0; which < 2; which++) {
            test_copy(dir, copy);
            char *path = test_path(copy, names[which]);
            int64_t size = test_size(path);
            assert_true(size > 16);
            switch (how) {
            case 0:
                assert_int_equal(unlink(path), 0);
                break;
            case 1:
                test_truncate(path, 5);
                break;
            case 2:
                test_garble(path, 0, size, 0);
                break;
            case 3:
                test_garble(path, 0, size, 0xff);
                break;
            default:
                test_garble(path, 8, 4, -1);
                break;
            }
            p = test_open(copy);
            t = test_part(p, "t", 0);
            for (int i = 0; i < 40; i++) {
                struct buf in = BUF_INIT(0);
                struct plog_read r;
                OK(plog_read(t, i, 1, &in, &r, &test_err));
                assert_int_equal(r.next_offset, i + 1);
                int64_t at = -1;
                OK(plog_offset_for_time(t, 1000 + i, &at, &test_err));
                assert_int_equal(at, i);
                buf_free(&in);
            }
            plog_partition_unref(t);
            plog_close(p);
            free(path);
            OK(file_remove_tree(copy, &test_err));
        }
    }
    free(copy);
    test_dir_drop(dir);
}

/* ---- topics ---- */

static void test_recreated_topic(void **state)
{
    (void)state;
    for (int path = 1; path <= 2; path++) {
        char *dir = test_dir();
        char *copy = copy_name(dir);
        struct plog *p = test_open_with((struct plog_options){.dir = dir, .force_path = path});
        test_topic(p, "t", 2, NULL);
        struct plog_partition *parts[2] = {test_part(p, "t", 0), test_part(p, "t", 1)};
        OK(test_unit(p, parts, 2, "old", 5, 20));
        plog_partition_unref(parts[0]);
        plog_partition_unref(parts[1]);
        OK(plog_topic_delete(p, "t", &test_err));
        test_copy(dir, copy);
        struct plog *q = test_open(copy);
        struct plog_topic_info info;
        assert_int_equal(plog_topic_info(q, "t", &info, &test_err), ERR_NOT_FOUND);
        plog_close(q);
        OK(file_remove_tree(copy, &test_err));

        test_topic(p, "t", 2, NULL);
        q = test_crash_open(dir, copy);
        expect_dump(q, "t", 0, "");
        plog_close(q);
        OK(file_remove_tree(copy, &test_err));

        parts[0] = test_part(p, "t", 0);
        (void)test_put(p, parts[0], "new", 1, 20, 1000);
        plog_partition_unref(parts[0]);
        q = test_crash_open(dir, copy);
        expect_dump(q, "t", 0, "0 new:0\n");
        expect_dump(q, "t", 1, "");
        plog_close(q);
        test_dir_drop(copy);
        plog_close(p);
        test_dir_drop(dir);
    }
}

static void put_file(const char *dir, const char *name, const char *text)
{
    char *path = test_path(dir, name);
    OK(file_replace(path, text, strlen(text), &test_err));
    free(path);
}

static int exists(const char *dir, const char *name)
{
    char *path = test_path(dir, name);
    int yes = access(path, F_OK) == 0;
    free(path);
    return yes;
}

static void test_leftovers(void **state)
{
    (void)state;
    char *dir = test_dir();
    struct plog *p = test_open(dir);
    test_topic(p, "t", 3, NULL);
    struct plog_partition *t = test_part(p, "t", 2);
    (void)test_put(p, t, "kept", 1, 20, 1000);
    plog_partition_unref(t);
    plog_close(p);
    char *log = test_path(dir, "log");
    static const char *const dirs[] = {"made-1", "made-0.AAAA-new", "gone-1", "gone-0.BBBB-delete",
                                       "lost-1"};
    for (size_t i = 0; i < 5; i++) {
        char *path = test_path(log, dirs[i]);
        assert_int_equal(mkdir(path, 0700), 0);
        free(path);
    }
    put_file(log, "made-1/00000000000000000000.log", "");
    put_file(log, "gone-1/00000000000000000000.log", "records");
    put_file(log, "gone-0.BBBB-delete/00000000000000000000.log", "records");
    put_file(log, "lost-1/00000000000000000000.log", "records");
    put_file(log, "t-1/partition.metadata", "nonsense");
    p = test_open(dir);
    for (size_t i = 0; i < 5; i++) {
        assert_false(exists(log, dirs[i]));
    }
    struct plog_topic_info info;
    OK(plog_topic_info(p, "t", &info, &test_err));
    assert_int_equal(info.partitions, 3);
    expect_dump(p, "t", 2, "0 kept:0\n");
    plog_close(p);
    /* What held records and belongs to no topic is kept under another name. */
    DIR *d = opendir(log);
    int strays = 0;
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        strays += str_starts_with(e->d_name, "lost-1.") && str_ends_with(e->d_name, "-stray");
    }
    (void)closedir(d);
    assert_int_equal(strays, 1);
    /* A partition's folder that vanished: the others stay, and its offsets are not given out again. */
    char *victim = test_path(log, "t-1");
    OK(file_remove_tree(victim, &test_err));
    p = test_open(dir);
    expect_dump(p, "t", 1, "");
    expect_dump(p, "t", 2, "0 kept:0\n");
    plog_close(p);
    free(victim);
    free(log);
    test_dir_drop(dir);
}

/* ---- failures during recovery ---- */

struct nth {
    _Atomic int left;
};

static int fail_nth(void *arg, const char *op, const char *path)
{
    (void)op;
    (void)path;
    struct nth *n = arg;
    return --n->left == 0 ? EIO : 0;
}

static void test_failing_recovery(void **state)
{
    (void)state;
    char *dir = test_dir();
    char *copy = copy_name(dir);
    struct plog *p = test_open_with((struct plog_options){.dir = dir, .force_path = 1});
    test_topic(p, "t", 2, (const char *const[]){"segment.bytes", "200", NULL, NULL});
    struct plog_partition *parts[2] = {test_part(p, "t", 0), test_part(p, "t", 1)};
    for (int i = 0; i < 4; i++) {
        OK(test_unit(p, parts, 2, "a", 1, 20));
    }
    int64_t good = 0;
    free(test_newest_journal(dir, &good));
    OK(test_unit(p, parts, 2, "b", 1, 20));
    int failed = 1;
    for (int k = 1; failed; k++) {
        test_copy(dir, copy);
        (void)harm_journal(copy, good + 10, 0, HARM_CUT);
        struct nth nth = {k};
        struct plog *q = NULL;
        struct plog_options o = {.dir = copy, .fault = fail_nth, .fault_arg = &nth};
        int rc = plog_open(&o, &q, &test_err);
        failed = rc < 0;
        assert_int_equal(failed, rc == ERR_IO);
        if (rc == 0) {
            atomic_store(&nth.left, 0);
            plog_close(q);
        }
        q = test_open(copy);
        expect_dump(q, "t", 0, "0 a:0\n1 a:0\n2 a:0\n3 a:0\n");
        expect_dump(q, "t", 1, "0 a:0\n1 a:0\n2 a:0\n3 a:0\n");
        plog_close(q);
        OK(file_remove_tree(copy, &test_err));
        assert_true(k < 1000);
    }
    plog_partition_unref(parts[0]);
    plog_partition_unref(parts[1]);
    plog_close(p);
    free(copy);
    test_dir_drop(dir);
}

int run_recover_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_after_each_unit),
        cmocka_unit_test(test_torn_tail_redo),
        cmocka_unit_test(test_torn_tail_straight),
        cmocka_unit_test(test_marker_without_bytes),
        cmocka_unit_test(test_unacked_segment),
        cmocka_unit_test(test_ghost_segment),
        cmocka_unit_test(test_stale_frame),
        cmocka_unit_test(test_damaged_journal),
        cmocka_unit_test(test_lost_journal),
        cmocka_unit_test(test_lost_checkpoint),
        cmocka_unit_test(test_scan_without_checkpoint),
        cmocka_unit_test(test_bad_batch),
        cmocka_unit_test(test_lost_tail),
        cmocka_unit_test(test_bad_indexes),
        cmocka_unit_test(test_recreated_topic),
        cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_failing_recovery),
    };
    return cmocka_run_group_tests_name("plog recovery", tests, NULL, NULL);
}
