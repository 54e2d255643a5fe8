/*
 * Source offsets: the topic connect-offsets in Apache Connect's own format, and a map of its
 * newest values.
 *
 * Key: JSON array ["<connector>",{source partition}]; value: JSON object, or null to forget.
 * Source: Apache Kafka Connect 3.9, KafkaOffsetBackingStore and OffsetStorageWriter. Java looks
 * keys up by their bytes; here the members' order does not matter: the map's key is the canonical
 * text (members sorted).
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/pipeline_int.h"
#include "record/record.h"

#define OFFSETS_TOPIC "connect-offsets"

/* "connector" + '\n' + canonical partition: what the map is keyed by. malloc'ed, NULL when it is
 * no object. */
static char *map_key(const char *connector, const char *partition, size_t n)
{
    struct err err = ERR_INIT;
    json_t *o = codec_json_parse(partition, n, &err);
    if (!json_is_object(o)) {
        json_decref(o);
        return NULL;
    }
    char *canonical = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    struct buf b = BUF_INIT(1 << 20);
    if (canonical != NULL) {
        buf_printf(&b, "%s\n%s", connector, canonical);
    }
    free(canonical);
    buf_append_u8(&b, 0);
    return (char *)buf_take(&b, NULL);
}

static int put(struct pipeline *p, const char *connector, struct slice partition,
               struct slice offset)
{
    char *key = map_key(connector, (const char *)partition.ptr, partition.len);
    if (key == NULL) {
        return ERR_DATA;
    }
    int rc = 0;
    if (offset.ptr == NULL) {
        (void)map_del(p->offsets, key);
    } else {
        char *copy = strndup((const char *)offset.ptr, offset.len);
        rc = copy != NULL ? map_put(p->offsets, key, copy) : ERR_NOMEM;
    }
    free(key);
    return rc;
}

/* One stored record; malformed keys are warned about and skipped, as Connect does. */
static int load_record(struct pipeline *p, const struct record_view *r)
{
    struct err err = ERR_INIT;
    json_t *key = codec_json_parse((const char *)r->key.ptr, r->key.len, &err);
    const char *connector = json_string_value(json_array_get(key, 0));
    json_t *partition = json_array_get(key, 1);
    int rc = 0;
    if (connector == NULL || !json_is_object(partition) || json_array_size(key) != 2) {
        LOG_WARN("pipeline", OFFSETS_TOPIC ": the key at offset %lld is not [connector, partition]",
                 (long long)r->offset);
    } else {
        char *text = json_dumps(partition, JSON_COMPACT);
        rc = text != NULL ? put(p, connector, slice_str(text), r->value) : ERR_NOMEM;
        free(text);
    }
    json_decref(key);
    return rc == ERR_NOMEM ? rc : 0;
}

static void ignore_wake(void *arg)
{
    (void)arg;
}

static int load_batches(struct pipeline *p, const struct buf *bytes, struct err *err)
{
    size_t at = 0;
    while (at < bytes->len) {
        struct record_batch batch;
        struct record_iter it;
        struct record_view view;
        TRY(record_batch_peek(bytes->data + at, bytes->len - at, SIZE_MAX, &batch, err));
        TRY(record_iter_init(&it, &batch, err));
        int rc;
        while ((rc = record_iter_next(&it, &view, err)) == 1) {
            if (load_record(p, &view) != 0) {
                return err_set(err, ERR_NOMEM, "out of memory");
            }
        }
        TRY(rc);
        at += batch.bytes;
    }
    return 0;
}

int pipeline_offsets_load(struct pipeline *p, struct err *err)
{
    p->offsets = map_new(free);
    if (p->offsets == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    struct topic_reader *reader = NULL;
    TRY(topic_reader_open(p->engine, OFFSETS_TOPIC, 0, ignore_wake, NULL, &reader, err));
    struct topic_partition_status st;
    int rc = topic_partition_status(p->engine, OFFSETS_TOPIC, 0, &st, err);
    int64_t offset = rc == 0 ? st.start_offset : 0;
    struct buf bytes = BUF_INIT((size_t)128 << 20);
    while (rc == 0) {
        struct topic_read read;
        buf_clear(&bytes);
        rc = topic_read(reader, offset, (size_t)1 << 20, &bytes, &read, err);
        if (rc ==
            ERR_CORRUPT) { /* named by the log; what was stored there may be older than it should */
            LOG_ERROR("pipeline", "source offsets: %s", err->msg);
            rc = 0;
        } else if (rc == 0 && read.bytes == 0) {
            break;
        } else if (rc == 0) {
            rc = load_batches(p, &bytes, err);
        }
        offset = read.next_offset;
    }
    buf_free(&bytes);
    topic_reader_close(reader);
    return rc != 0 ? err_prefix(err, OFFSETS_TOPIC) : 0;
}

const char *pipeline_offsets_get(struct pipeline *p, const char *connector, struct slice partition)
{
    char *key = map_key(connector, (const char *)partition.ptr, partition.len);
    const char *value = key != NULL ? map_get(p->offsets, key) : NULL;
    free(key);
    return value;
}

int pipeline_offsets_append(struct record_builder *b, const char *connector, struct slice partition,
                            struct slice offset, struct err *err)
{
    struct err why = ERR_INIT;
    json_t *part = codec_json_parse((const char *)partition.ptr, partition.len, &why);
    json_t *value = offset.ptr != NULL
                        ? codec_json_parse((const char *)offset.ptr, offset.len, &why)
                        : json_null();
    int ok = json_is_object(part) && (json_is_object(value) || json_is_null(value));
    json_decref(value);
    json_t *name = json_string(connector);
    struct buf key = BUF_INIT(1 << 20);
    if (ok) {
        /* The partition's own text goes out as it came, so that Java finds it under the same
         * bytes. */
        buf_append_u8(&key, '[');
        codec_json_write(name, &key);
        buf_append_u8(&key, ',');
        buf_append(&key, partition.ptr, partition.len);
        buf_append_u8(&key, ']');
    }
    json_decref(part);
    json_decref(name);
    if (!ok || key.error != 0) {
        buf_free(&key);
        return err_set(err, ERR_DATA, "a source offset is not a pair of JSON objects");
    }
    record_builder_add(b, clock_wall_ms(), slice_of(key.data, key.len), offset, NULL, 0);
    buf_free(&key);
    return 0;
}

void pipeline_offsets_committed(struct pipeline *p, const char *connector,
                                const struct link_commit *f)
{
    for (uint32_t i = 0; i < f->n_source_offsets; i++) {
        if (put(p, connector, f->source_offsets[i].partition, f->source_offsets[i].offset) != 0) {
            LOG_ERROR("pipeline", "connector %s: an offset could not be remembered", connector);
        }
    }
}
