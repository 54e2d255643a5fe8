/*
 * MySink: logs each record's value as JSON, and counts. Copy this folder and rename MySink to start a sink of
 * your own.
 *
 * Threads: one task, no threads of its own.
 */
#include <connectd/sdk.h>

#include <stdlib.h>

struct my_sink {
    const ctd_host *host;
    char *prefix;
    uint64_t total;
    ctd_text text; /* reused from record to record */
};

static const ctd_config_key keys[] = {
    CTD_KEY("prefix", CTD_CFG_STRING, 0, "record", "What each line begins with."),
};

static void destroy(void *self)
{
    struct my_sink *s = self;
    if (s == NULL) {
        return;
    }
    ctd_text_free(&s->text);
    free(s->prefix);
    free(s);
}

static ctd_status create(const ctd_host *host, const ctd_config *config, void **ret_self,
                         ctd_error *err)
{
    struct my_sink *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "no memory");
    }
    s->host = host;
    s->prefix = ctd_cfg_dup(host, config, "prefix", NULL);
    if (s->prefix == NULL) {
        destroy(s);
        return ctd_fail(err, CTD_E_NOMEM, "no memory");
    }
    *ret_self = s;
    return CTD_OK;
}

static ctd_status start(void *self, ctd_error *err)
{
    (void)self;
    (void)err;
    return CTD_OK;
}

/* What is logged is as done as it gets, so nothing is kept, and flush() isn't needed. */
static ctd_status put(void *self, ctd_batch *batch, ctd_error *err)
{
    struct my_sink *s = self;
    for (uint64_t i = 0; i < batch->n; i++) {
        s->text.len = 0;
        ctd_status rc = ctd_json_write(&s->text, &batch->records[i].value, err);
        if (rc != CTD_OK) {
            err->record_index = (int64_t)i;
            return rc;
        }
        ctd_log(s->host, CTD_LOG_INFO, "%s %.*s", s->prefix, (int)s->text.len, s->text.ptr);
    }
    s->total += batch->n;
    return CTD_OK;
}

static void cancel(void *self)
{
    (void)self; /* put() never waits */
}

static ctd_status stop(void *self, ctd_error *err)
{
    struct my_sink *s = self;
    (void)err;
    ctd_log(s->host, CTD_LOG_INFO, "%llu records", (unsigned long long)s->total);
    return CTD_OK;
}

static const ctd_sink sink = {
    .base = {.struct_size = sizeof(ctd_sink), .create = create, .destroy = destroy},
    .start = start,
    .put = put,
    .cancel = cancel,
    .stop = stop,
};

static const ctd_class classes[] = {
    {
        .struct_size = sizeof(ctd_class),
        .kind = CTD_KIND_SINK,
        .name = "MySink",
        .version = "0.1.0",
        .doc = "Logs what it is given.",
        .config = keys,
        .n_config = sizeof(keys) / sizeof(keys[0]),
        .config_stride = sizeof(keys[0]),
        .ops = &sink.base,
    },
};

CTD_MODULE(classes, NULL)
