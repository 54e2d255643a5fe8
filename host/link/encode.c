/*
 * Frames into bytes. Every function appends one whole frame; what cannot be appended leaves the
 * buffer's sticky error, and the caller drops the buffer's contents then.
 * Threads: no state; any thread.
 */
#include "link/link.h"

#include <endian.h>
#include <string.h>

#define NULL_LENGTH 0xffffffffu

/* Appends a head with length 0 and returns where the frame starts. */
static size_t begin(struct buf *out, int type, uint32_t task)
{
    size_t at = out->len;
    buf_append_le32(out, 0);
    buf_append_le16(out, (uint16_t)type);
    buf_append_le16(out, 0);
    buf_append_le32(out, task);
    return at;
}

/* Writes the frame's length; `behind` counts payload bytes that the caller appends afterwards. */
static void end(struct buf *out, size_t at, size_t behind)
{
    if (out->error != 0) {
        return;
    }
    size_t len = out->len - at - LINK_HEAD;
    if (len > UINT32_MAX || behind > UINT32_MAX - len) {
        out->error = ERR_LIMIT;
        return;
    }
    uint32_t v = htole32((uint32_t)(len + behind));
    memcpy(out->data + at, &v, sizeof(v));
}

static void put_slice(struct buf *out, struct slice s)
{
    if (s.ptr == NULL) {
        buf_append_le32(out, NULL_LENGTH);
        return;
    }
    if (s.len >= NULL_LENGTH) {
        out->error = ERR_LIMIT;
        return;
    }
    buf_append_le32(out, (uint32_t)s.len);
    buf_append(out, s.ptr, s.len);
}

static void put_i32(struct buf *out, int32_t v)
{
    buf_append_le32(out, (uint32_t)v);
}

static void put_i64(struct buf *out, int64_t v)
{
    buf_append_le64(out, (uint64_t)v);
}

static void put_pairs(struct buf *out, const struct link_pair *pairs, uint32_t n)
{
    buf_append_le32(out, n);
    for (uint32_t i = 0; i < n; i++) {
        put_slice(out, pairs[i].key);
        put_slice(out, pairs[i].value);
    }
}

void link_put_empty(struct buf *out, int type, uint32_t task)
{
    end(out, begin(out, type, task), 0);
}

void link_put_hello(struct buf *out, const struct link_hello *f)
{
    size_t at = begin(out, LINK_HELLO, LINK_NO_TASK);
    buf_append_le32(out, f->version);
    buf_append_le32(out, f->max_tasks);
    put_slice(out, f->connector);
    put_slice(out, f->plugin_path);
    put_slice(out, f->class_name);
    put_slice(out, f->data_dir);
    buf_append_le64(out, f->memory_limit_bytes);
    buf_append_le64(out, f->hold_bytes);
    buf_append_le64(out, f->window_bytes);
    buf_append_le32(out, f->log_level);
    buf_append_le32(out, f->flags);
    put_pairs(out, f->config, f->n_config);
    end(out, at, 0);
}

void link_put_fan_out(struct buf *out, const struct link_fan_out *f)
{
    size_t at = begin(out, LINK_FAN_OUT, LINK_NO_TASK);
    buf_append_le32(out, f->max_tasks);
    end(out, at, 0);
}

void link_put_start(struct buf *out, uint32_t task, const struct link_start *f)
{
    size_t at = begin(out, LINK_START, task);
    buf_append_le32(out, f->n_tasks);
    put_pairs(out, f->config, f->n_config);
    end(out, at, 0);
}

void link_put_parts(struct buf *out, int type, uint32_t task, const struct link_parts *f)
{
    size_t at = begin(out, type, task);
    put_i64(out, f->generation);
    buf_append_le32(out, f->n_parts);
    for (uint32_t i = 0; i < f->n_parts; i++) {
        const struct link_part *p = &f->parts[i];
        put_slice(out, p->topic);
        buf_append(out, p->topic_id, sizeof(p->topic_id));
        put_i32(out, p->partition);
        put_i64(out, p->epoch);
        put_i64(out, p->offset);
    }
    end(out, at, 0);
}

void link_put_topic(struct buf *out, const struct link_topic *f)
{
    size_t at = begin(out, LINK_TOPIC, LINK_NO_TASK);
    buf_append_le64(out, f->request);
    put_i32(out, f->status);
    put_slice(out, f->message);
    put_slice(out, f->topic);
    buf_append(out, f->topic_id, sizeof(f->topic_id));
    put_i32(out, f->partitions);
    put_i64(out, f->epoch);
    put_i64(out, f->max_batch_bytes);
    end(out, at, 0);
}

void link_put_offset(struct buf *out, uint32_t task, const struct link_offset *f)
{
    size_t at = begin(out, LINK_OFFSET, task);
    buf_append_le64(out, f->request);
    put_i32(out, f->status);
    put_slice(out, f->offset);
    end(out, at, 0);
}

void link_put_committed(struct buf *out, uint32_t task, const struct link_committed *f)
{
    size_t at = begin(out, LINK_COMMITTED, task);
    buf_append_le64(out, f->seq);
    put_i32(out, f->status);
    put_i32(out, f->flush);
    put_slice(out, f->message);
    buf_append_le32(out, f->n_results);
    for (uint32_t i = 0; i < f->n_results; i++) {
        put_i64(out, f->results[i].base_offset);
    }
    end(out, at, 0);
}

void link_put_ready(struct buf *out, const struct link_ready *f)
{
    size_t at = begin(out, LINK_READY, LINK_NO_TASK);
    put_slice(out, f->class_version);
    buf_append_le32(out, f->kind);
    buf_append_le32(out, f->class_flags);
    put_slice(out, f->sandbox);
    end(out, at, 0);
}

void link_put_tasks(struct buf *out, const struct link_tasks *f)
{
    size_t at = begin(out, LINK_TASKS, LINK_NO_TASK);
    buf_append_le32(out, f->n_tasks);
    for (uint32_t i = 0; i < f->n_tasks; i++) {
        put_pairs(out, f->tasks[i].config, f->tasks[i].n_config);
    }
    end(out, at, 0);
}

void link_put_failed(struct buf *out, int type, uint32_t task, const struct link_failed *f)
{
    size_t at = begin(out, type, task);
    put_i32(out, f->status);
    put_i32(out, f->stage);
    put_i32(out, f->sys_errno);
    buf_append_le32(out, f->abi);
    put_i64(out, f->record_index);
    put_i64(out, f->retry_after_ms);
    put_slice(out, f->message);
    end(out, at, 0);
}

void link_put_resolve(struct buf *out, uint32_t task, const struct link_resolve *f)
{
    size_t at = begin(out, LINK_RESOLVE, task);
    buf_append_le64(out, f->request);
    put_slice(out, f->topic);
    end(out, at, 0);
}

void link_put_get_offset(struct buf *out, uint32_t task, const struct link_get_offset *f)
{
    size_t at = begin(out, LINK_GET_OFFSET, task);
    buf_append_le64(out, f->request);
    put_slice(out, f->partition);
    end(out, at, 0);
}

void link_put_credit(struct buf *out, uint32_t task, const struct link_credit *f)
{
    size_t at = begin(out, LINK_CREDIT, task);
    buf_append_le64(out, f->bytes);
    end(out, at, 0);
}

void link_put_log(struct buf *out, uint32_t task, const struct link_log *f)
{
    size_t at = begin(out, LINK_LOG, task);
    put_i32(out, f->level);
    put_slice(out, f->text);
    end(out, at, 0);
}

void link_put_commit(struct buf *out, uint32_t task, const struct link_commit *f)
{
    size_t at = begin(out, LINK_COMMIT, task);
    buf_append_le64(out, f->seq);
    put_i64(out, f->generation);
    buf_append_le32(out, f->n_appends);
    for (uint32_t i = 0; i < f->n_appends; i++) {
        const struct link_append *a = &f->appends[i];
        put_slice(out, a->topic);
        buf_append(out, a->topic_id, sizeof(a->topic_id));
        put_i64(out, a->epoch);
        put_i32(out, a->partition);
        buf_append_le32(out, a->n_records);
        put_slice(out, a->batches);
    }
    buf_append_le32(out, f->n_source_offsets);
    for (uint32_t i = 0; i < f->n_source_offsets; i++) {
        put_slice(out, f->source_offsets[i].partition);
        put_slice(out, f->source_offsets[i].offset);
    }
    buf_append_le32(out, f->n_group_offsets);
    for (uint32_t i = 0; i < f->n_group_offsets; i++) {
        put_slice(out, f->group_offsets[i].topic);
        put_i32(out, f->group_offsets[i].partition);
        put_i64(out, f->group_offsets[i].offset);
    }
    end(out, at, 0);
}

void link_put_records_head(struct buf *out, uint32_t task, const struct link_records *f)
{
    size_t at = begin(out, LINK_RECORDS, task);
    put_i64(out, f->generation);
    buf_append_le32(out, f->part);
    put_slice(out, f->topic);
    put_i32(out, f->partition);
    put_i64(out, f->offset);
    put_i64(out, f->next_offset);
    put_i64(out, f->end_offset);
    if (f->batches.len >= NULL_LENGTH) {
        out->error = ERR_LIMIT;
        return;
    }
    buf_append_le32(out, (uint32_t)f->batches.len);
    end(out, at, f->batches.len);
}
