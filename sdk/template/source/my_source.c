/*
 * MySource: gives one record a poll, "message" and a number, up to "count" of them, and goes on
 * after a restart where it stopped. Copy this folder and rename MySource to start a source of your own.
 *
 * Threads: one task, no threads of its own. cancel() comes from any thread, hence the atomic.
 */
#include <connectd/sdk.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct my_source {
    const ctd_host *host;
    char *topic;
    char *message;
    int64_t count;
    int64_t next; /* the number of the next record */
    ctd_builder *builder;
    atomic_int cancelled;
};

static const ctd_config_key keys[] = {
    CTD_KEY("topic", CTD_CFG_STRING, CTD_CFGF_REQUIRED, NULL, "The topic to write to."),
    CTD_KEY("message", CTD_CFG_STRING, 0, "hello", "What each record says before its number."),
    CTD_KEY_RANGE("count", CTD_CFG_I64, 0, "10", 0, 1000000000, "How many records to make."),
};

static void destroy(void *self)
{
    struct my_source *s = self;
    if (s == NULL) {
        return;
    }
    ctd_builder_free(s->builder);
    free(s->topic);
    free(s->message);
    free(s);
}

static ctd_status create(const ctd_host *host, const ctd_config *config, void **ret_self,
                         ctd_error *err)
{
    struct my_source *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "no memory");
    }
    s->host = host;
    s->topic = ctd_cfg_dup(host, config, "topic", NULL);
    s->message = ctd_cfg_dup(host, config, "message", NULL);
    s->count = ctd_cfg_i64(host, config, "count", 10);
    s->builder = ctd_builder_new();
    atomic_init(&s->cancelled, 0);
    if (s->topic == NULL || s->message == NULL || s->builder == NULL) {
        destroy(s);
        return ctd_fail(err, CTD_E_NOMEM, "no memory");
    }
    *ret_self = s;
    return CTD_OK;
}

/* Source partition and offset say where to go on: {"message": ...} -> {"next": N}. */
static ctd_value partition_of(const struct my_source *s, ctd_value pair[2])
{
    pair[0] = ctd_v_cstr("message");
    pair[1] = ctd_v_cstr(s->message);
    return ctd_v_map(pair, 1);
}

static ctd_status start(void *self, ctd_error *err)
{
    struct my_source *s = self;
    const ctd_offsets *offsets = s->host->extension(s->host, CTD_EXT_OFFSETS);
    if (offsets != NULL) {
        ctd_value pair[2];
        ctd_value partition = partition_of(s, pair);
        ctd_value stored;
        ctd_status rc = offsets->get(s->host, &partition, &stored, err);
        if (rc != CTD_OK) {
            return rc;
        }
        s->next = ctd_map_i64(&stored, "next", 0);
    }
    ctd_log(s->host, CTD_LOG_INFO, "starts at record %lld", (long long)s->next);
    return CTD_OK;
}

static ctd_status poll(void *self, uint32_t max_records, uint32_t timeout_ms, ctd_batch *out,
                       ctd_error *err)
{
    struct my_source *s = self;
    (void)max_records; /* one at a time is never too many */
    (void)timeout_ms;  /* nothing to wait for: when all is given, say "idle" at once */
    if (atomic_load(&s->cancelled)) {
        return ctd_fail(err, CTD_E_CANCELLED, "cancelled");
    }
    if (s->next < s->count) {
        ctd_record *r = ctd_builder_add(s->builder);
        if (r != NULL) {
            char text[256];
            int n = snprintf(text, sizeof(text), "%.200s %lld", s->message, (long long)s->next);
            ctd_value pair[2];
            ctd_value partition = partition_of(s, pair);
            ctd_value offset_pair[2] = {ctd_v_cstr("next"), ctd_v_i64(s->next + 1)};
            ctd_value offset = ctd_v_map(offset_pair, 1);
            r->topic = ctd_builder_slice(s->builder, s->topic, strlen(s->topic));
            r->value = ctd_builder_string(s->builder, text, (uint64_t)n);
            r->source_partition = ctd_builder_copy(s->builder, &partition);
            r->source_offset = ctd_builder_copy(s->builder, &offset);
        }
    }
    uint64_t n = ctd_builder_count(s->builder);
    ctd_status rc = ctd_builder_finish(s->builder, out, err);
    if (rc == CTD_OK) {
        s->next += (int64_t)n;
    }
    return rc;
}

static void cancel(void *self)
{
    struct my_source *s = self;
    atomic_store(&s->cancelled, 1);
}

static ctd_status stop(void *self, ctd_error *err)
{
    (void)self;
    (void)err;
    return CTD_OK;
}

static const ctd_source source = {
    .base = {.struct_size = sizeof(ctd_source), .create = create, .destroy = destroy},
    .start = start,
    .poll = poll,
    .cancel = cancel,
    .stop = stop,
};

static const ctd_class classes[] = {
    {
        .struct_size = sizeof(ctd_class),
        .kind = CTD_KIND_SOURCE,
        .name = "MySource",
        .version = "0.1.0",
        .doc = "Counts, and says so.",
        .config = keys,
        .n_config = sizeof(keys) / sizeof(keys[0]),
        .config_stride = sizeof(keys[0]),
        .flags = CTD_CLASSF_SINGLE_TASK,
        .ops = &source.base,
    },
};

CTD_MODULE(classes, NULL)
