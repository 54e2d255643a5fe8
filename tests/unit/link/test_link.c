/*
 * link: every frame there and back, then every frame cut at each byte and with each byte changed.
 * The mutated payload lies in a heap block of exactly its size: under ASan a read beyond it ends the test.
 */
#include "link/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define S(text) slice_str(text)
static const struct slice null_slice = {NULL, 0};

/* ---- one sample of every frame ---- */

static struct link_pair sample_pairs[] = {
    {{(const uint8_t *)"file", 4}, {(const uint8_t *)"/a/b", 4}},
    {{(const uint8_t *)"empty", 5}, {(const uint8_t *)"", 0}},
    {{(const uint8_t *)"null", 4}, {NULL, 0}},
};

static void put_hello(struct buf *out)
{
    link_put_hello(out, &(struct link_hello){.version = LINK_VERSION,
                                             .max_tasks = 3,
                                             .connector = S("c1"),
                                             .plugin_path = S("/p/x.so"),
                                             .class_name = S("X"),
                                             .data_dir = S(""),
                                             .memory_limit_bytes = 1ull << 40,
                                             .hold_bytes = 7,
                                             .window_bytes = 9,
                                             .log_level = 3,
                                             .flags = LINK_HELLO_NO_SANDBOX,
                                             .config = sample_pairs,
                                             .n_config = 3});
}

static int get_hello(const struct link_frame *f, struct arena *a)
{
    struct link_hello v;
    int rc = link_get_hello(f, a, &v, NULL);
    if (rc == 0 && v.n_config == 3) {
        assert_non_null(v.config);
    }
    return rc;
}

static void put_fan_out(struct buf *out)
{
    link_put_fan_out(out, &(struct link_fan_out){.max_tasks = 12});
}

static int get_fan_out(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_fan_out v;
    return link_get_fan_out(f, &v, NULL);
}

static void put_start(struct buf *out)
{
    link_put_start(out, 2,
                   &(struct link_start){.n_tasks = 4, .config = sample_pairs, .n_config = 2});
}

static int get_start(const struct link_frame *f, struct arena *a)
{
    struct link_start v;
    return link_get_start(f, a, &v, NULL);
}

static void put_parts(struct buf *out)
{
    struct link_part parts[2] = {
        {.topic = S("t"), .topic_id = {1, 2, 16}, .partition = 0, .epoch = 5, .offset = -1},
        {.topic = S("u"), .topic_id = {9}, .partition = 7, .epoch = -6, .offset = 1ll << 50},
    };
    parts[0].topic_id[15] = 0xee;
    link_put_parts(out, LINK_OPEN, 1,
                   &(struct link_parts){.generation = 77, .parts = parts, .n_parts = 2});
}

static int get_parts(const struct link_frame *f, struct arena *a)
{
    struct link_parts v;
    return link_get_parts(f, a, &v, NULL);
}

static void put_topic(struct buf *out)
{
    link_put_topic(out, &(struct link_topic){.request = 3,
                                             .status = ERR_NOT_FOUND,
                                             .message = S("no"),
                                             .topic = S("t"),
                                             .topic_id = {4, 5},
                                             .partitions = 2,
                                             .epoch = 8,
                                             .max_batch_bytes = 1 << 20});
}

static int get_topic(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_topic v;
    return link_get_topic(f, &v, NULL);
}

static void put_offset(struct buf *out)
{
    link_put_offset(out, 0, &(struct link_offset){.request = 5, .offset = S("{\"p\":1}")});
}

static int get_offset(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_offset v;
    return link_get_offset(f, &v, NULL);
}

static void put_committed(struct buf *out)
{
    struct link_commit_result r[3] = {{10}, {-1}, {INT64_MAX}};
    link_put_committed(out, 1,
                       &(struct link_committed){.seq = 4,
                                                .status = ERR_NOSPC,
                                                .flush = 1,
                                                .message = S("full"),
                                                .results = r,
                                                .n_results = 3});
}

static int get_committed(const struct link_frame *f, struct arena *a)
{
    struct link_committed v;
    return link_get_committed(f, a, &v, NULL);
}

static void put_ready(struct buf *out)
{
    link_put_ready(out, &(struct link_ready){.class_version = S("1.0"),
                                             .kind = 2,
                                             .class_flags = 5,
                                             .sandbox = S("mount,seccomp")});
}

static int get_ready(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_ready v;
    return link_get_ready(f, &v, NULL);
}

static void put_tasks(struct buf *out)
{
    struct link_task_config t[3] = {{sample_pairs, 1}, {NULL, 0}, {sample_pairs, 3}};
    link_put_tasks(out, &(struct link_tasks){.tasks = t, .n_tasks = 3});
}

static int get_tasks(const struct link_frame *f, struct arena *a)
{
    struct link_tasks v;
    return link_get_tasks(f, a, &v, NULL);
}

static void put_failed(struct buf *out)
{
    link_put_failed(out, LINK_FAILED, 1,
                    &(struct link_failed){.status = -5,
                                          .stage = LINK_STAGE_PUT,
                                          .sys_errno = 13,
                                          .abi = 1,
                                          .record_index = 5,
                                          .retry_after_ms = -1,
                                          .message = S("broken")});
}

static int get_failed(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_failed v;
    return link_get_failed(f, &v, NULL);
}

static void put_resolve(struct buf *out)
{
    link_put_resolve(out, 1, &(struct link_resolve){.request = 2, .topic = S("t")});
}

static int get_resolve(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_resolve v;
    return link_get_resolve(f, &v, NULL);
}

static void put_get_offset(struct buf *out)
{
    link_put_get_offset(out, 1, &(struct link_get_offset){.request = 2, .partition = S("{}")});
}

static int get_get_offset(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_get_offset v;
    return link_get_get_offset(f, &v, NULL);
}

static void put_credit(struct buf *out)
{
    link_put_credit(out, 1, &(struct link_credit){.bytes = 12345});
}

static int get_credit(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_credit v;
    return link_get_credit(f, &v, NULL);
}

static void put_log(struct buf *out)
{
    link_put_log(out, 1, &(struct link_log){.level = 2, .text = S("a line")});
}

static int get_log(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_log v;
    return link_get_log(f, &v, NULL);
}

static void put_commit(struct buf *out)
{
    struct link_append appends[2] = {
        {.topic = S("t"),
         .topic_id = {1},
         .epoch = 2,
         .partition = 0,
         .n_records = 3,
         .batches = S("BATCH")},
        {.topic = S("t"), .topic_id = {1}, .epoch = 2, .partition = 1, .batches = S("B2")},
    };
    struct link_source_offset so[2] = {{S("{}"), S("{\"p\":2}")}, {S("{\"f\":1}"), null_slice}};
    struct link_group_offset go[1] = {{S("t"), 3, 99}};
    link_put_commit(out, 1,
                    &(struct link_commit){.seq = 8,
                                          .generation = -1,
                                          .appends = appends,
                                          .n_appends = 2,
                                          .source_offsets = so,
                                          .n_source_offsets = 2,
                                          .group_offsets = go,
                                          .n_group_offsets = 1});
}

static int get_commit(const struct link_frame *f, struct arena *a)
{
    struct link_commit v;
    return link_get_commit(f, a, &v, NULL);
}

static void put_records(struct buf *out)
{
    link_put_records_head(out, 1,
                          &(struct link_records){.generation = 6,
                                                 .part = 1,
                                                 .topic = S("t"),
                                                 .partition = 1,
                                                 .offset = 5,
                                                 .next_offset = 9,
                                                 .end_offset = 10,
                                                 .batches = {NULL, 7}});
    buf_append(out, "BATCHES", 7);
}

static int get_records(const struct link_frame *f, struct arena *a)
{
    (void)a;
    struct link_records v;
    return link_get_records(f, &v, NULL);
}

struct sample {
    const char *name;
    int type;
    void (*put)(struct buf *);
    int (*get)(const struct link_frame *, struct arena *);
};
static const struct sample samples[] = {
    {"hello", LINK_HELLO, put_hello, get_hello},
    {"fan_out", LINK_FAN_OUT, put_fan_out, get_fan_out},
    {"start", LINK_START, put_start, get_start},
    {"parts", LINK_OPEN, put_parts, get_parts},
    {"topic", LINK_TOPIC, put_topic, get_topic},
    {"offset", LINK_OFFSET, put_offset, get_offset},
    {"committed", LINK_COMMITTED, put_committed, get_committed},
    {"ready", LINK_READY, put_ready, get_ready},
    {"tasks", LINK_TASKS, put_tasks, get_tasks},
    {"failed", LINK_FAILED, put_failed, get_failed},
    {"resolve", LINK_RESOLVE, put_resolve, get_resolve},
    {"get_offset", LINK_GET_OFFSET, put_get_offset, get_get_offset},
    {"credit", LINK_CREDIT, put_credit, get_credit},
    {"log", LINK_LOG, put_log, get_log},
    {"commit", LINK_COMMIT, put_commit, get_commit},
    {"records", LINK_RECORDS, put_records, get_records},
};
#define N_SAMPLES (sizeof(samples) / sizeof(samples[0]))

/* Encodes a sample and finds it again as a frame. */
static struct link_frame frame_of(void (*put)(struct buf *), struct buf *out)
{
    put(out);
    assert_int_equal(out->error, 0);
    struct link_frame f;
    size_t bytes = 0;
    assert_int_equal(link_frame_peek(out->data, out->len, LINK_CONTROL_MAX, &f, &bytes, NULL), 1);
    assert_int_equal(bytes, out->len);
    return f;
}

static void assert_slice(struct slice s, const char *text)
{
    if (text == NULL) {
        assert_null(s.ptr);
        return;
    }
    assert_non_null(s.ptr);
    assert_int_equal(s.len, strlen(text));
    assert_memory_equal(s.ptr, text, s.len);
}

/* ---- there and back ---- */

static void test_round_trip_connector(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct arena *a = arena_new(0);
    struct link_frame f = frame_of(put_hello, &out);
    struct link_hello h;
    assert_int_equal(f.type, LINK_HELLO);
    assert_int_equal(f.task, LINK_NO_TASK);
    assert_int_equal(link_get_hello(&f, a, &h, NULL), 0);
    assert_int_equal(h.version, LINK_VERSION);
    assert_int_equal(h.max_tasks, 3);
    assert_slice(h.connector, "c1");
    assert_slice(h.plugin_path, "/p/x.so");
    assert_slice(h.class_name, "X");
    assert_slice(h.data_dir, "");
    assert_true(h.memory_limit_bytes == 1ull << 40 && h.hold_bytes == 7 && h.window_bytes == 9);
    assert_int_equal(h.log_level, 3);
    assert_int_equal(h.flags, LINK_HELLO_NO_SANDBOX);
    assert_int_equal(h.n_config, 3);
    assert_slice(h.config[0].value, "/a/b");
    assert_slice(h.config[1].value, "");
    assert_slice(h.config[2].key, "null");
    assert_slice(h.config[2].value, NULL);

    buf_clear(&out);
    f = frame_of(put_tasks, &out);
    struct link_tasks t;
    assert_int_equal(link_get_tasks(&f, a, &t, NULL), 0);
    assert_int_equal(t.n_tasks, 3);
    assert_int_equal(t.tasks[0].n_config, 1);
    assert_int_equal(t.tasks[1].n_config, 0);
    assert_slice(t.tasks[2].config[1].key, "empty");

    buf_clear(&out);
    f = frame_of(put_ready, &out);
    struct link_ready r;
    assert_int_equal(link_get_ready(&f, &r, NULL), 0);
    assert_slice(r.class_version, "1.0");
    assert_int_equal(r.kind, 2);
    assert_int_equal(r.class_flags, 5);
    assert_slice(r.sandbox, "mount,seccomp");

    buf_clear(&out);
    f = frame_of(put_fan_out, &out);
    struct link_fan_out fo;
    assert_int_equal(link_get_fan_out(&f, &fo, NULL), 0);
    assert_int_equal(fo.max_tasks, 12);
    arena_free(a);
    buf_free(&out);
}

static void test_round_trip_task(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct arena *a = arena_new(0);
    struct link_frame f = frame_of(put_start, &out);
    struct link_start s;
    assert_int_equal(f.task, 2);
    assert_int_equal(link_get_start(&f, a, &s, NULL), 0);
    assert_int_equal(s.n_tasks, 4);
    assert_int_equal(s.n_config, 2);
    assert_slice(s.config[0].key, "file");

    buf_clear(&out);
    f = frame_of(put_parts, &out);
    struct link_parts p;
    assert_int_equal(link_get_parts(&f, a, &p, NULL), 0);
    assert_int_equal(p.generation, 77);
    assert_int_equal(p.n_parts, 2);
    assert_slice(p.parts[0].topic, "t");
    assert_int_equal(p.parts[0].topic_id[15], 0xee);
    assert_int_equal(p.parts[0].offset, -1);
    assert_int_equal(p.parts[1].partition, 7);
    assert_int_equal(p.parts[1].epoch, -6);
    assert_true(p.parts[1].offset == 1ll << 50);

    buf_clear(&out);
    f = frame_of(put_failed, &out);
    struct link_failed x;
    assert_int_equal(link_get_failed(&f, &x, NULL), 0);
    assert_int_equal(x.status, -5);
    assert_int_equal(x.stage, LINK_STAGE_PUT);
    assert_int_equal(x.sys_errno, 13);
    assert_int_equal(x.abi, 1);
    assert_int_equal(x.record_index, 5);
    assert_int_equal(x.retry_after_ms, -1);
    assert_slice(x.message, "broken");

    buf_clear(&out);
    f = frame_of(put_log, &out);
    struct link_log l;
    assert_int_equal(link_get_log(&f, &l, NULL), 0);
    assert_int_equal(l.level, 2);
    assert_slice(l.text, "a line");

    buf_clear(&out);
    link_put_empty(&out, LINK_STOP, 3);
    size_t bytes;
    assert_int_equal(link_frame_peek(out.data, out.len, LINK_HEAD, &f, &bytes, NULL), 1);
    assert_int_equal(f.type, LINK_STOP);
    assert_int_equal(f.task, 3);
    assert_int_equal(f.payload.len, 0);
    arena_free(a);
    buf_free(&out);
}

static void test_round_trip_questions(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct link_frame f = frame_of(put_topic, &out);
    struct link_topic t;
    assert_int_equal(link_get_topic(&f, &t, NULL), 0);
    assert_int_equal(t.request, 3);
    assert_int_equal(t.status, ERR_NOT_FOUND);
    assert_slice(t.message, "no");
    assert_slice(t.topic, "t");
    assert_int_equal(t.topic_id[1], 5);
    assert_int_equal(t.partitions, 2);
    assert_int_equal(t.epoch, 8);
    assert_int_equal(t.max_batch_bytes, 1 << 20);

    buf_clear(&out);
    f = frame_of(put_offset, &out);
    struct link_offset o;
    assert_int_equal(link_get_offset(&f, &o, NULL), 0);
    assert_int_equal(o.request, 5);
    assert_slice(o.offset, "{\"p\":1}");

    buf_clear(&out);
    f = frame_of(put_resolve, &out);
    struct link_resolve r;
    assert_int_equal(link_get_resolve(&f, &r, NULL), 0);
    assert_int_equal(r.request, 2);
    assert_slice(r.topic, "t");

    buf_clear(&out);
    f = frame_of(put_get_offset, &out);
    struct link_get_offset g;
    assert_int_equal(link_get_get_offset(&f, &g, NULL), 0);
    assert_int_equal(g.request, 2);
    assert_slice(g.partition, "{}");

    buf_clear(&out);
    f = frame_of(put_credit, &out);
    struct link_credit c;
    assert_int_equal(link_get_credit(&f, &c, NULL), 0);
    assert_int_equal(c.bytes, 12345);
    buf_free(&out);
}

static void test_round_trip_data(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct arena *a = arena_new(0);
    struct link_frame f = frame_of(put_commit, &out);
    struct link_commit c;
    assert_int_equal(link_get_commit(&f, a, &c, NULL), 0);
    assert_int_equal(c.seq, 8);
    assert_int_equal(c.generation, -1);
    assert_int_equal(c.n_appends, 2);
    assert_slice(c.appends[0].topic, "t");
    assert_int_equal(c.appends[0].epoch, 2);
    assert_int_equal(c.appends[0].n_records, 3);
    assert_slice(c.appends[0].batches, "BATCH");
    assert_int_equal(c.appends[1].partition, 1);
    assert_slice(c.appends[1].batches, "B2");
    assert_int_equal(c.n_source_offsets, 2);
    assert_slice(c.source_offsets[0].offset, "{\"p\":2}");
    assert_slice(c.source_offsets[1].offset, NULL);
    assert_int_equal(c.n_group_offsets, 1);
    assert_int_equal(c.group_offsets[0].partition, 3);
    assert_int_equal(c.group_offsets[0].offset, 99);

    buf_clear(&out);
    f = frame_of(put_records, &out);
    struct link_records r;
    assert_int_equal(link_get_records(&f, &r, NULL), 0);
    assert_int_equal(r.generation, 6);
    assert_int_equal(r.part, 1);
    assert_int_equal(r.partition, 1);
    assert_int_equal(r.offset, 5);
    assert_int_equal(r.next_offset, 9);
    assert_int_equal(r.end_offset, 10);
    assert_slice(r.batches, "BATCHES");

    buf_clear(&out);
    f = frame_of(put_committed, &out);
    struct link_committed d;
    assert_int_equal(link_get_committed(&f, a, &d, NULL), 0);
    assert_int_equal(d.seq, 4);
    assert_int_equal(d.status, ERR_NOSPC);
    assert_int_equal(d.flush, 1);
    assert_slice(d.message, "full");
    assert_int_equal(d.n_results, 3);
    assert_int_equal(d.results[0].base_offset, 10);
    assert_true(d.results[2].base_offset == INT64_MAX);
    arena_free(a);
    buf_free(&out);
}

/* ---- hostile ---- */

/* Decodes p[0..n) from a heap block of exactly n bytes. */
static int decode_exact(const struct sample *s, const uint8_t *p, size_t n, struct arena *a)
{
    uint8_t *copy = malloc(n != 0 ? n : 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    struct link_frame f = {.type = (uint16_t)s->type, .task = 0, .payload = {copy, n}};
    arena_reset(a);
    int rc = s->get(&f, a);
    free(copy);
    return rc;
}

static void test_truncations(void **state)
{
    (void)state;
    struct arena *a = arena_new(1 << 20);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        struct buf out = BUF_INIT(0);
        struct link_frame f = frame_of(samples[i].put, &out);
        for (size_t n = 0; n < f.payload.len; n++) {
            if (decode_exact(&samples[i], f.payload.ptr, n, a) != ERR_DATA) {
                fail_msg("%s cut at %zu of %zu was taken", samples[i].name, n, f.payload.len);
            }
        }
        assert_int_equal(decode_exact(&samples[i], f.payload.ptr, f.payload.len, a), 0);
        buf_append_u8(&out, 0); /* a byte too many */
        assert_int_equal(decode_exact(&samples[i], out.data + LINK_HEAD, out.len - LINK_HEAD, a),
                         ERR_DATA);
        buf_free(&out);
    }
    arena_free(a);
}

/* Every byte set to every value: any answer is right but a crash, a read outside, or a large allocation. */
static void test_mutations(void **state)
{
    (void)state;
    struct arena *a = arena_new(1 << 20);
    size_t refused = 0;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        struct buf out = BUF_INIT(0);
        struct link_frame f = frame_of(samples[i].put, &out);
        uint8_t *payload = out.data + LINK_HEAD;
        for (size_t at = 0; at < f.payload.len; at++) {
            uint8_t was = payload[at];
            for (int v = 0; v < 256; v++) {
                payload[at] = (uint8_t)v;
                int rc = decode_exact(&samples[i], payload, f.payload.len, a);
                assert_true(rc == 0 || rc == ERR_DATA); /* never ERR_NOMEM: counts are bounded */
                refused += rc != 0;
            }
            payload[at] = was;
        }
        buf_free(&out);
    }
    assert_true(refused > 1000);
    arena_free(a);
}

static void test_peek(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    put_credit(&out);
    struct link_frame f = {0};
    size_t bytes = 0;
    struct err err = ERR_INIT;
    for (size_t n = 0; n < out.len; n++) {
        assert_int_equal(link_frame_peek(out.data, n, 100, &f, &bytes, &err), 0);
        assert_int_equal(bytes, n < LINK_HEAD ? LINK_HEAD : out.len);
    }
    assert_int_equal(link_frame_peek(out.data, out.len, out.len, &f, &bytes, &err), 1);
    assert_int_equal(link_frame_peek(out.data, out.len, out.len - 1, &f, &bytes, &err), ERR_DATA);
    assert_non_null(strstr(err.msg, "at most 19"));
    out.data[6] = 1;
    assert_int_equal(link_frame_peek(out.data, out.len, 100, &f, &bytes, &err), ERR_DATA);
    assert_non_null(strstr(err.msg, "unknown flags"));
    out.data[6] = 0;
    memset(out.data, 0xff, 4);
    assert_int_equal(link_frame_peek(out.data, out.len, LINK_DATA_MAX, &f, &bytes, &err), ERR_DATA);
    buf_free(&out);
}

static void test_full_buffer(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        struct buf whole = BUF_INIT(0);
        samples[i].put(&whole);
        for (size_t limit = 1; limit < whole.len; limit++) {
            struct buf out = BUF_INIT(limit);
            samples[i].put(&out);
            assert_int_equal(out.error, ERR_LIMIT);
            buf_free(&out);
        }
        buf_free(&whole);
    }
}

static void test_arena_limit(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct link_frame f = frame_of(put_commit, &out);
    struct arena *a = arena_new(64);
    struct link_commit c;
    assert_int_equal(link_get_commit(&f, a, &c, NULL), ERR_NOMEM);
    arena_free(a);
    buf_free(&out);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(link_stage_name(LINK_STAGE_POLL), "poll");
    assert_string_equal(link_stage_name(LINK_STAGE_ALTER_OFFSETS), "alter_offsets");
    assert_string_equal(link_stage_name(LINK_STAGE_PREDICATE), "predicate");
    assert_string_equal(link_stage_name(LINK_STAGE_NONE), "");
    assert_string_equal(link_stage_name(-1), "");
    assert_string_equal(link_stage_name(LINK_STAGE_COUNT), "");
    for (int i = 1; i < LINK_STAGE_COUNT; i++) {
        assert_true(link_stage_name(i)[0] != '\0');
    }
    assert_int_equal(link_shared_bytes(2), 128 + 2 * 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_connector),
        cmocka_unit_test(test_round_trip_task),
        cmocka_unit_test(test_round_trip_questions),
        cmocka_unit_test(test_round_trip_data),
        cmocka_unit_test(test_truncations),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_peek),
        cmocka_unit_test(test_full_buffer),
        cmocka_unit_test(test_arena_limit),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
