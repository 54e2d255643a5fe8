/* The SDK's batch builder: what it builds, how it fails, and that release() may run anywhere. */
#include "sdk_tests.h"

#include <connectd/sdk.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static void builds_and_copies(void **state)
{
    (void)state;
    ctd_builder *b = ctd_builder_new();
    ctd_batch batch;
    char text[32];
    for (int i = 0; i < 1000; i++) {
        ctd_record *r = ctd_builder_add(b);
        assert_non_null(r);
        assert_int_equal(r->partition, -1);
        assert_true(r->timestamp_ms == INT64_MIN);
        assert_int_equal(r->offset, -1);
        assert_int_equal(r->value.type, CTD_NULL);
        assert_null(r->topic.ptr);
        int n = snprintf(text, sizeof(text), "line %d", i);
        r->value = ctd_builder_string(b, text, (uint64_t)n);
        ctd_value pair[2] = {ctd_v_cstr("position"), ctd_v_i64(i)};
        ctd_value offset = ctd_v_map(pair, 1);
        r->source_offset = ctd_builder_copy(b, &offset);
    }
    assert_int_equal(ctd_builder_count(b), 1000);
    assert_int_equal(ctd_builder_finish(b, &batch, NULL), CTD_OK);
    assert_int_equal(ctd_builder_count(b), 0);
    memset(text, 0, sizeof(text));
    assert_int_equal(batch.n, 1000);
    for (int i = 0; i < 1000; i++) {
        const ctd_record *r = &batch.records[i];
        (void)snprintf(text, sizeof(text), "line %d", i);
        assert_true(ctd_slice_is(ctd_slice_of(r->value.u.str, r->value.len), text));
        assert_int_equal(ctd_map_i64(&r->source_offset, "position", -1), i);
        assert_int_equal((uintptr_t)r->source_offset.u.items % 8, 0);
    }
    batch.release(&batch);
    assert_null(batch.release);
    ctd_builder_free(b);
}

static void empty_batches_need_no_release(void **state)
{
    (void)state;
    ctd_builder *b = ctd_builder_new();
    ctd_batch batch;
    memset(&batch, 0xee, sizeof(batch));
    assert_int_equal(ctd_builder_finish(b, &batch, NULL), CTD_OK);
    assert_int_equal(batch.n, 0);
    assert_null(batch.release);
    assert_non_null(ctd_builder_add(b));
    (void)ctd_builder_string(b, "x", 1);
    ctd_builder_drop_last(b);
    ctd_builder_drop_last(b);
    assert_int_equal(ctd_builder_finish(b, &batch, NULL), CTD_OK);
    assert_null(batch.release);
    ctd_batch_free(&batch);
    ctd_builder_free(b);
    ctd_builder_free(NULL);
}

static void batches_outlive_the_builder(void **state)
{
    (void)state;
    ctd_builder *b = ctd_builder_new();
    ctd_batch one;
    ctd_batch two;
    ctd_batch moved;
    ctd_builder_add(b)->value = ctd_builder_string(b, "one", 3);
    assert_int_equal(ctd_builder_finish(b, &one, NULL), CTD_OK);
    ctd_builder_add(b)->value = ctd_builder_string(b, "two", 3);
    assert_int_equal(ctd_builder_finish(b, &two, NULL), CTD_OK);
    assert_non_null(ctd_builder_add(b)); /* unfinished: dropped */
    ctd_batch_move(&moved, &one);
    assert_null(one.release);
    ctd_builder_free(b);
    assert_memory_equal(moved.records[0].value.u.str, "one", 3);
    ctd_batch_free(&moved);
    assert_memory_equal(two.records[0].value.u.str, "two", 3);
    ctd_batch_free(&two);
}

static void memory_comes_back(void **state)
{
    (void)state;
    ctd_builder *b = ctd_builder_new();
    const ctd_record *first = NULL;
    for (int round = 0; round < 10; round++) {
        ctd_batch batch;
        assert_non_null(ctd_builder_add(b));
        assert_int_equal(ctd_builder_finish(b, &batch, NULL), CTD_OK);
        assert_true(round == 0 || batch.records == first);
        first = batch.records;
        ctd_batch_free(&batch);
    }
    ctd_builder_free(b);
}

static void failures_stick_until_finish(void **state)
{
    (void)state;
    ctd_builder *b = ctd_builder_new();
    ctd_batch batch;
    ctd_error err;
    assert_non_null(ctd_builder_add(b));
    assert_null(ctd_builder_alloc(b, UINT64_MAX, 1));
    assert_null(ctd_builder_add(b));
    assert_int_equal(ctd_builder_string(b, "x", 1).type, CTD_NULL);
    assert_int_equal(ctd_builder_finish(b, &batch, &err), CTD_E_NOMEM);
    assert_true(err.message[0] != '\0');
    assert_non_null(ctd_builder_add(b)); /* usable again */
    assert_int_equal(ctd_builder_string(b, "x", (uint64_t)UINT32_MAX + 1).type, CTD_NULL);
    ctd_builder_reset(b);
    assert_non_null(ctd_builder_add(b));
    assert_int_equal(ctd_builder_finish(b, &batch, &err), CTD_OK);
    ctd_batch_free(&batch);
    ctd_builder_free(b);
}

static void copies_whole_trees(void **state)
{
    (void)state;
    ctd_builder *b = ctd_builder_new();
    ctd_batch batch;
    char text[] = "inner";
    ctd_value inner[] = {ctd_v_cstr(text), ctd_v_bytes("\x00\x01", 2), ctd_v_f64(0.5),
                         ctd_v_raw_json("[1]", 3)};
    ctd_value pairs[] = {ctd_v_cstr("list"), ctd_v_array(inner, 4), ctd_v_cstr("none"),
                         ctd_v_map(NULL, 0)};
    ctd_value v = ctd_v_map(pairs, 2);
    ctd_record *r = ctd_builder_add(b);
    r->value = ctd_builder_copy(b, &v);
    r->key = ctd_builder_bytes(b, "k", 1);
    assert_true(ctd_v_equal(&r->value, &v));
    assert_int_equal(ctd_map_get(&r->value, "list")->u.items[3].flags, CTD_VF_RAW_JSON);
    memset(text, 'x', 5);
    assert_int_equal(ctd_builder_finish(b, &batch, NULL), CTD_OK);
    assert_memory_equal(ctd_map_get(&batch.records[0].value, "list")->u.items[0].u.str, "inner", 5);
    assert_int_equal(batch.records[0].key.type, CTD_BYTES);
    assert_int_equal(ctd_builder_raw_json(b, "{}", 2).flags, CTD_VF_RAW_JSON);
    ctd_batch_free(&batch);
    ctd_builder_free(b);
}

/* ---- one thread builds, another releases ---- */

struct belt {
    ctd_batch batches[64];
    atomic_int made;
};

static void *release_all(void *arg)
{
    struct belt *belt = arg;
    for (int i = 0; i < 64; i++) {
        while (atomic_load(&belt->made) <= i) {
        }
        ctd_batch *batch = &belt->batches[i];
        assert_int_equal(batch->n, (uint64_t)i % 5 + 1);
        assert_int_equal(batch->records[0].value.u.str[0], 'a' + i % 26);
        ctd_batch_free(batch);
    }
    return NULL;
}

static void release_runs_anywhere(void **state)
{
    (void)state;
    static struct belt belt;
    for (int round = 0; round < 20; round++) {
        ctd_builder *b = ctd_builder_new();
        pthread_t thread;
        atomic_store(&belt.made, 0);
        assert_int_equal(pthread_create(&thread, NULL, release_all, &belt), 0);
        for (int i = 0; i < 64; i++) {
            for (int k = 0; k <= i % 5; k++) {
                char c = (char)('a' + i % 26);
                ctd_record *r = ctd_builder_add(b);
                r->value = ctd_builder_string(b, &c, 1);
            }
            assert_int_equal(ctd_builder_finish(b, &belt.batches[i], NULL), CTD_OK);
            atomic_store(&belt.made, i + 1);
        }
        ctd_builder_free(b);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

int builder_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builds_and_copies),
        cmocka_unit_test(empty_batches_need_no_release),
        cmocka_unit_test(batches_outlive_the_builder),
        cmocka_unit_test(memory_comes_back),
        cmocka_unit_test(failures_stick_until_finish),
        cmocka_unit_test(copies_whole_trees),
        cmocka_unit_test(release_runs_anywhere),
    };
    return cmocka_run_group_tests_name("builder", tests, NULL, NULL);
}
