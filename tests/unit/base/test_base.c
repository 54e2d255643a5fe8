/* base: errors, buffers and cursors, arenas, conditions. */
#include "base_tests.h"

#include <errno.h>
#include <stdlib.h>

#include "base/base.h"

/* ---- err ---- */

static void errors_carry_their_context(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err_set(&err, ERR_DATA, "record %d", 7), ERR_DATA);
    assert_string_equal(err.msg, "record 7");
    assert_int_equal(err_prefix(&err, "batch %d", 3), ERR_DATA);
    assert_string_equal(err.msg, "batch 3: record 7");
    struct err copy = ERR_INIT;
    err_copy(&copy, &err);
    err_clear(&err);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.msg, "");
    assert_string_equal(copy.msg, "batch 3: record 7");
}

static void full_disks_are_one_code(void **state)
{
    (void)state;
    static const int full[] = {ENOSPC, EDQUOT};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < 2; i++) {
        errno = full[i];
        assert_int_equal(err_set_errno(&err, ERR_IO, "%s", "f"), ERR_NOSPC);
        assert_int_equal(err.sys_errno, full[i]);
        assert_int_equal(errno, full[i]);
    }
    errno = EACCES;
    assert_int_equal(err_set_errno(&err, ERR_IO, "f"), ERR_IO);
    assert_string_equal(err.msg, "f: Permission denied");
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char big[3000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(err_set(&err, ERR_IO, "%s", big), ERR_IO);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    assert_int_equal(err_prefix(&err, "front"), ERR_IO);
    assert_memory_equal(err.msg, "front: xxx", 10);
    assert_true(strlen(err.msg) < sizeof(err.msg));
    assert_int_equal(err_prefix(&err, "%s", big), ERR_IO);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    errno = EIO;
    assert_int_equal(err_set_errno(&err, ERR_IO, "%s", big), ERR_IO);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
}

static void no_err_is_fine(void **state)
{
    (void)state;
    errno = ENOSPC;
    assert_int_equal(err_set(NULL, ERR_BUSY, "x"), ERR_BUSY);
    assert_int_equal(err_set_errno(NULL, ERR_IO, "x"), ERR_NOSPC);
    assert_true(err_prefix(NULL, "x") < 0);
    err_clear(NULL);
    assert_string_equal(err_name(ERR_RETRIABLE), "retriable");
    assert_string_equal(err_name(-12345), "fatal");
}

/* ---- buf ---- */

static void buffers_stop_at_their_limit(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(10);
    buf_append_str(&b, "12345");
    buf_append_str(&b, "67890");
    assert_int_equal(b.error, 0);
    buf_append_u8(&b, 'x');
    assert_int_equal(b.error, ERR_LIMIT);
    assert_int_equal(b.len, 10);
    buf_append(&b, "", 0);
    assert_null(buf_extend(&b, 0)); /* sticky */
    assert_null(buf_take(&b, NULL));
    assert_int_equal(b.error, 0); /* taken: empty and usable */
    buf_append_str(&b, "again");
    assert_string_equal(buf_cstr(&b), "again");
    assert_null(buf_reserve(&b, SIZE_MAX));
    buf_clear(&b);
    assert_int_equal(b.error, 0);
    buf_free(&b);
    buf_free(NULL);
}

static void buffers_print_and_grow(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    assert_string_equal(buf_cstr(&b), "");
    for (int i = 0; i < 2000; i++) {
        buf_printf(&b, "%d,", i);
    }
    assert_int_equal(b.error, 0);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4 + 1000 * 5);
    assert_memory_equal(b.data + b.len - 10, "1998,1999,", 10);
    size_t n = 0;
    uint8_t *data = buf_take(&b, &n);
    assert_int_equal(n, 8890);
    assert_null(b.data);
    free(data);
}

static void integers_have_their_byte_order(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x02, 0x01, 0x04, 0x03, 0x02, 0x01, 8, 7, 6, 5, 4, 3, 2, 1,
                                    0x01, 0x02, 0x01, 0x02, 0x03, 0x04, 1, 2, 3, 4, 5, 6, 7, 8};
    struct buf b = BUF_INIT(0);
    struct cursor c;
    buf_append_le16(&b, 0x0102);
    buf_append_le32(&b, 0x01020304);
    buf_append_le64(&b, 0x0102030405060708);
    buf_append_be16(&b, 0x0102);
    buf_append_be32(&b, 0x01020304);
    buf_append_be64(&b, 0x0102030405060708);
    assert_int_equal(b.len, sizeof(bytes));
    assert_memory_equal(b.data, bytes, sizeof(bytes));
    cursor_init(&c, b.data, b.len);
    assert_int_equal(cursor_le16(&c), 0x0102);
    assert_int_equal(cursor_le32(&c), 0x01020304);
    assert_true(cursor_le64(&c) == 0x0102030405060708);
    assert_int_equal(cursor_be16(&c), 0x0102);
    assert_int_equal(cursor_be32(&c), 0x01020304);
    assert_true(cursor_be64(&c) == 0x0102030405060708);
    assert_int_equal(c.left, 0);
    assert_int_equal(c.error, 0);
    buf_free(&b);
}

static void cursors_fail_for_good(void **state)
{
    (void)state;
    struct cursor c;
    cursor_init(&c, "abc", 3);
    assert_int_equal(cursor_u8(&c), 'a');
    assert_null(cursor_bytes(&c, 3));
    assert_int_equal(c.error, ERR_DATA);
    assert_int_equal(cursor_u8(&c), 0); /* although two bytes are left */
    assert_null(cursor_bytes(&c, 0));
    cursor_init(&c, "abc", 3);
    assert_int_equal(cursor_be32(&c), 0);
    assert_int_equal(c.error, ERR_DATA);
}

/* ---- arena ---- */

static void arenas_align_and_stay_apart(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    unsigned char *blocks[200];
    for (size_t i = 0; i < 200; i++) {
        size_t align = (size_t)1 << (i % 7);
        blocks[i] = arena_alloc(a, i * 13, align);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % align, 0);
        memset(blocks[i], (int)i, i * 13);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < i * 13; k++) {
            assert_int_equal(blocks[i][k], i);
        }
    }
    assert_int_equal(arena_used(a), 199 * 200 / 2 * 13);
    arena_reset(a);
    assert_int_equal(arena_used(a), 0);
    const char *zero = arena_zalloc(a, 100);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(zero[i], 0);
    }
    assert_string_equal(arena_strdup(a, "one"), "one");
    assert_string_equal(arena_strndup(a, "twofold", 3), "two");
    assert_string_equal(arena_printf(a, "%d-%s", 3, "x"), "3-x");
    arena_free(a);
    arena_free(NULL);
}

static void arenas_stop_at_their_limit(void **state)
{
    (void)state;
    struct arena *a = arena_new(10000);
    size_t got = 0;
    while (arena_alloc(a, 100, 8) != NULL) {
        got += 100;
        assert_true(got <= 10000);
    }
    assert_true(got > 5000);
    assert_null(arena_alloc(a, SIZE_MAX, 8));
    assert_null(arena_alloc(a, SIZE_MAX - 64, 64));
    arena_reset(a);
    assert_non_null(arena_alloc(a, 100, 8));
    arena_free(a);
}

static void arenas_reuse_after_reset(void **state)
{
    (void)state;
    struct arena *a = arena_new(0);
    void *first = NULL;
    for (int round = 0; round < 10; round++) {
        arena_reset(a);
        void *p = arena_alloc(a, 5000, 8);
        assert_true(round == 0 || p == first);
        first = p;
    }
    arena_free(a);
}

/* ---- thread ---- */

struct meeting {
    struct mutex mutex;
    struct cond cond;
    int arrived;
};

static void *arrive(void *arg)
{
    struct meeting *m = arg;
    mutex_lock(&m->mutex);
    m->arrived = 1;
    cond_signal(&m->cond);
    mutex_unlock(&m->mutex);
    return NULL;
}

static void conditions_wake_and_time_out(void **state)
{
    (void)state;
    struct meeting m = {.arrived = 0};
    pthread_t thread;
    mutex_init(&m.mutex);
    cond_init(&m.cond);
    mutex_lock(&m.mutex);
    int64_t before = clock_mono_ms();
    while (cond_wait_until(&m.cond, &m.mutex, before + 5) == 0) {
    }
    assert_true(clock_mono_ms() >= before + 5);
    assert_int_equal(cond_wait_until(&m.cond, &m.mutex, 0), ERR_TIMEOUT);
    assert_int_equal(thread_start(&thread, "arrive", arrive, &m, NULL), 0);
    while (m.arrived == 0) {
        cond_wait(&m.cond, &m.mutex);
    }
    mutex_unlock(&m.mutex);
    thread_join(thread);
    cond_destroy(&m.cond);
    mutex_destroy(&m.mutex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_carry_their_context),
        cmocka_unit_test(full_disks_are_one_code),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(no_err_is_fine),
        cmocka_unit_test(buffers_stop_at_their_limit),
        cmocka_unit_test(buffers_print_and_grow),
        cmocka_unit_test(integers_have_their_byte_order),
        cmocka_unit_test(cursors_fail_for_good),
        cmocka_unit_test(arenas_align_and_stay_apart),
        cmocka_unit_test(arenas_stop_at_their_limit),
        cmocka_unit_test(arenas_reuse_after_reset),
        cmocka_unit_test(conditions_wake_and_time_out),
    };
    int failed = cmocka_run_group_tests_name("base", tests, NULL, NULL);
    failed += text_tests();
    failed += file_tests();
    return failed != 0;
}
