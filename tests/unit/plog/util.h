/*
 * What plog's tests share: a folder of their own, a log opened in it, batches whose records say what they are,
 * and a model of what was acked to compare a log with.
 */
#ifndef TESTS_PLOG_UTIL_H
#define TESTS_PLOG_UTIL_H

/* cmocka wants these before itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "plog/plog.h"
#include "record/record.h"

#define OK(x)                                                                                      \
    do {                                                                                           \
        err_clear(&test_err);                                                                      \
        int ok_rc_ = (x);                                                                          \
        if (ok_rc_ < 0) {                                                                          \
            print_error("%s: %s\n", #x, test_err.msg);                                             \
        }                                                                                          \
        assert_true(ok_rc_ >= 0);                                                                  \
    } while (0)

extern struct err test_err;

/* A new folder for one test; removed by test_dir_drop(). In memory where the machine has /dev/shm:
 * what is tested is order and bytes, not the disk. */
char *test_dir(void);
void test_dir_drop(char *dir);
/* An exact copy of a folder as it stood at one moment, as a kill would leave it: taken again if something
 * changed meanwhile (a checkpoint may be under way). `to` must not exist. */
void test_copy(const char *from, const char *to);
/* malloc'ed "a/b". */
char *test_path(const char *a, const char *b);
int64_t test_size(const char *path);
void test_truncate(const char *path, int64_t size);
/* Overwrites [at, at+n) with `fill`, or flips every bit with fill -1. Whether that changed a byte. */
int test_garble(const char *path, int64_t at, int64_t n, int fill);

/* The malloc'ed path of the newest journal; *ret_size its size. */
char *test_newest_journal(const char *dir, int64_t *ret_size);

struct plog *test_open(const char *dir); /* default options */
struct plog *test_open_with(struct plog_options o);
struct plog_partition *test_part(struct plog *p, const char *topic, int32_t number);
void test_topic(struct plog *p, const char *name, int32_t partitions, const char *const *config);

/* One batch of `n` records with values "<tag>:<i>:<padding>" of about `size` bytes, times ts, ts+1... */
void test_batch(struct buf *out, const char *tag, int n, size_t size, int64_t ts);
/* Commits one batch; returns its base offset, or the (negative) error. */
int64_t test_put(struct plog *p, struct plog_partition *t, const char *tag, int n, size_t size,
                 int64_t ts);
/* One unit with a batch of `n` records in each of parts[0..n_parts). 0 or the error. */
int test_unit(struct plog *p, struct plog_partition **parts, size_t n_parts, const char *tag, int n,
              size_t size);

/* Reads everything from `from`: one line "offset value-up-to-second-colon" a record, and
 * "offset BAD" for a damaged stretch. Fails the test on any other error. */
void test_dump(struct plog_partition *t, int64_t from, struct buf *out);

/* Makes a plain copy of DATA as a crash (kill) would leave it, opens it and returns the log. */
struct plog *test_crash_open(const char *dir, const char *copy);

#endif
