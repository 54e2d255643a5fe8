/*
 * Bytes into frames. The bytes are untrusted: a length or count is checked against what is there
 * before anything is reserved for it, and trailing bytes are refused. Results are written only when
 * the whole frame was good. Threads: no state; any thread.
 */
#include "link/link.h"

#include <string.h>

#define NULL_LENGTH 0xffffffffu

/* The smallest encodings of array elements: what bounds a count before memory is reserved. */
enum {
    PAIR_MIN = 8,
    PART_MIN = 4 + 16 + 4 + 8 + 8,
    RESULT_MIN = 8,
    TASK_MIN = 4,
    APPEND_MIN = 4 + 16 + 8 + 4 + 4 + 4,
    SOURCE_OFFSET_MIN = 8,
    GROUP_OFFSET_MIN = 4 + 4 + 8,
};

struct reader {
    struct cursor c;
    struct arena *arena; /* borrowed, or NULL */
    int error;           /* 0 or ERR_NOMEM: beside the cursor's own */
};

static void reader_init(struct reader *r, const struct link_frame *f, struct arena *a)
{
    cursor_init(&r->c, f->payload.ptr, f->payload.len);
    r->arena = a;
    r->error = 0;
}

/* 0 when everything was read and nothing is left. */
static int reader_end(const struct reader *r, const struct link_frame *f, struct err *err)
{
    if (r->error != 0) {
        return err_set(err, r->error, "link frame of type %u: no memory for its arrays", f->type);
    }
    if (r->c.error != 0) {
        return err_set(err, ERR_DATA, "link frame of type %u is malformed at byte %zu of %zu",
                       f->type, f->payload.len - r->c.left, f->payload.len);
    }
    if (r->c.left != 0) {
        return err_set(err, ERR_DATA, "link frame of type %u has %zu bytes too many", f->type,
                       r->c.left);
    }
    return 0;
}

static uint32_t get_u32(struct reader *r)
{
    return cursor_le32(&r->c);
}

static int32_t get_i32(struct reader *r)
{
    return (int32_t)cursor_le32(&r->c);
}

static uint64_t get_u64(struct reader *r)
{
    return cursor_le64(&r->c);
}

static int64_t get_i64(struct reader *r)
{
    return (int64_t)cursor_le64(&r->c);
}

static struct slice get_slice(struct reader *r)
{
    uint32_t n = get_u32(r);
    if (n == NULL_LENGTH) {
        return (struct slice){NULL, 0};
    }
    const uint8_t *p = cursor_bytes(&r->c, n);
    return (struct slice){p, p != NULL ? n : 0};
}

static void get_id(struct reader *r, uint8_t id[16])
{
    const uint8_t *p = cursor_bytes(&r->c, 16);
    if (p != NULL) {
        memcpy(id, p, 16);
    }
}

/* Reads a count and reserves that many elements. NULL with *ret_n 0 for none and on failure. */
static void *get_array(struct reader *r, size_t min_bytes, size_t element, uint32_t *ret_n)
{
    uint32_t n = get_u32(r);
    *ret_n = 0;
    if (n == 0 || r->error != 0) {
        return NULL;
    }
    if (n > r->c.left / min_bytes) {
        r->c.error = ERR_DATA;
        return NULL;
    }
    void *p = arena_zalloc(r->arena, (size_t)n * element);
    if (p == NULL) {
        r->error = ERR_NOMEM;
        return NULL;
    }
    *ret_n = n;
    return p;
}

static struct link_pair *get_pairs(struct reader *r, uint32_t *ret_n)
{
    struct link_pair *pairs = get_array(r, PAIR_MIN, sizeof(*pairs), ret_n);
    for (uint32_t i = 0; i < *ret_n; i++) {
        pairs[i].key = get_slice(r);
        pairs[i].value = get_slice(r);
    }
    return pairs;
}

int link_get_hello(const struct link_frame *f, struct arena *a, struct link_hello *ret,
                   struct err *err)
{
    struct reader r;
    reader_init(&r, f, a);
    struct link_hello v = {0};
    v.version = get_u32(&r);
    v.max_tasks = get_u32(&r);
    v.connector = get_slice(&r);
    v.plugin_path = get_slice(&r);
    v.class_name = get_slice(&r);
    v.data_dir = get_slice(&r);
    v.memory_limit_bytes = get_u64(&r);
    v.hold_bytes = get_u64(&r);
    v.window_bytes = get_u64(&r);
    v.log_level = get_u32(&r);
    v.flags = get_u32(&r);
    v.config = get_pairs(&r, &v.n_config);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_fan_out(const struct link_frame *f, struct link_fan_out *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_fan_out v = {.max_tasks = get_u32(&r)};
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_start(const struct link_frame *f, struct arena *a, struct link_start *ret,
                   struct err *err)
{
    struct reader r;
    reader_init(&r, f, a);
    struct link_start v = {.n_tasks = get_u32(&r)};
    v.config = get_pairs(&r, &v.n_config);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_parts(const struct link_frame *f, struct arena *a, struct link_parts *ret,
                   struct err *err)
{
    struct reader r;
    reader_init(&r, f, a);
    struct link_parts v = {.generation = get_i64(&r)};
    v.parts = get_array(&r, PART_MIN, sizeof(*v.parts), &v.n_parts);
    for (uint32_t i = 0; i < v.n_parts; i++) {
        struct link_part *p = &v.parts[i];
        p->topic = get_slice(&r);
        get_id(&r, p->topic_id);
        p->partition = get_i32(&r);
        p->epoch = get_i64(&r);
        p->offset = get_i64(&r);
    }
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_topic(const struct link_frame *f, struct link_topic *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_topic v = {0};
    v.request = get_u64(&r);
    v.status = get_i32(&r);
    v.message = get_slice(&r);
    v.topic = get_slice(&r);
    get_id(&r, v.topic_id);
    v.partitions = get_i32(&r);
    v.epoch = get_i64(&r);
    v.max_batch_bytes = get_i64(&r);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_offset(const struct link_frame *f, struct link_offset *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_offset v = {0};
    v.request = get_u64(&r);
    v.status = get_i32(&r);
    v.offset = get_slice(&r);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_committed(const struct link_frame *f, struct arena *a, struct link_committed *ret,
                       struct err *err)
{
    struct reader r;
    reader_init(&r, f, a);
    struct link_committed v = {0};
    v.seq = get_u64(&r);
    v.status = get_i32(&r);
    v.flush = get_i32(&r);
    v.message = get_slice(&r);
    v.results = get_array(&r, RESULT_MIN, sizeof(*v.results), &v.n_results);
    for (uint32_t i = 0; i < v.n_results; i++) {
        v.results[i].base_offset = get_i64(&r);
    }
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_ready(const struct link_frame *f, struct link_ready *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_ready v = {0};
    v.class_version = get_slice(&r);
    v.kind = get_u32(&r);
    v.class_flags = get_u32(&r);
    v.sandbox = get_slice(&r);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_tasks(const struct link_frame *f, struct arena *a, struct link_tasks *ret,
                   struct err *err)
{
    struct reader r;
    reader_init(&r, f, a);
    struct link_tasks v = {0};
    v.tasks = get_array(&r, TASK_MIN, sizeof(*v.tasks), &v.n_tasks);
    for (uint32_t i = 0; i < v.n_tasks; i++) {
        v.tasks[i].config = get_pairs(&r, &v.tasks[i].n_config);
    }
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_failed(const struct link_frame *f, struct link_failed *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_failed v = {0};
    v.status = get_i32(&r);
    v.stage = get_i32(&r);
    v.sys_errno = get_i32(&r);
    v.abi = get_u32(&r);
    v.record_index = get_i64(&r);
    v.retry_after_ms = get_i64(&r);
    v.message = get_slice(&r);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_resolve(const struct link_frame *f, struct link_resolve *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_resolve v = {.request = get_u64(&r)};
    v.topic = get_slice(&r);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_get_offset(const struct link_frame *f, struct link_get_offset *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_get_offset v = {.request = get_u64(&r)};
    v.partition = get_slice(&r);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_credit(const struct link_frame *f, struct link_credit *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_credit v = {.bytes = get_u64(&r)};
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_log(const struct link_frame *f, struct link_log *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_log v = {.level = get_i32(&r)};
    v.text = get_slice(&r);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_commit(const struct link_frame *f, struct arena *a, struct link_commit *ret,
                    struct err *err)
{
    struct reader r;
    reader_init(&r, f, a);
    struct link_commit v = {.seq = get_u64(&r)};
    v.generation = get_i64(&r);
    v.appends = get_array(&r, APPEND_MIN, sizeof(*v.appends), &v.n_appends);
    for (uint32_t i = 0; i < v.n_appends; i++) {
        struct link_append *p = &v.appends[i];
        p->topic = get_slice(&r);
        get_id(&r, p->topic_id);
        p->epoch = get_i64(&r);
        p->partition = get_i32(&r);
        p->n_records = get_u32(&r);
        p->batches = get_slice(&r);
    }
    v.source_offsets =
        get_array(&r, SOURCE_OFFSET_MIN, sizeof(*v.source_offsets), &v.n_source_offsets);
    for (uint32_t i = 0; i < v.n_source_offsets; i++) {
        v.source_offsets[i].partition = get_slice(&r);
        v.source_offsets[i].offset = get_slice(&r);
    }
    v.group_offsets = get_array(&r, GROUP_OFFSET_MIN, sizeof(*v.group_offsets), &v.n_group_offsets);
    for (uint32_t i = 0; i < v.n_group_offsets; i++) {
        v.group_offsets[i].topic = get_slice(&r);
        v.group_offsets[i].partition = get_i32(&r);
        v.group_offsets[i].offset = get_i64(&r);
    }
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}

int link_get_records(const struct link_frame *f, struct link_records *ret, struct err *err)
{
    struct reader r;
    reader_init(&r, f, NULL);
    struct link_records v = {.generation = get_i64(&r)};
    v.part = get_u32(&r);
    v.topic = get_slice(&r);
    v.partition = get_i32(&r);
    v.offset = get_i64(&r);
    v.next_offset = get_i64(&r);
    v.end_offset = get_i64(&r);
    v.batches = get_slice(&r);
    TRY(reader_end(&r, f, err));
    *ret = v;
    return 0;
}
