/*
 * FileStreamSink: one line a record.
 *
 * Threads: all calls are [task] or [ctl], one at a time; cancel has nothing to interrupt.
 * Delivery is at least once. put() appends a batch's lines with one write, flush() syncs, and only
 * what it confirmed is committed. Whatever fails before that, the same records come again. Several
 * tasks may share the file (see out_file.h). Memory: the lines of one batch.
 */
#include <stdlib.h>
#include <string.h>

#include <connectd/sdk.h>

#include "out_file.h"

/* The lines of one batch; far above what a host delivers at once. */
#define GATHER_MAX ((uint64_t)512 << 20)

struct sink {
    const ctd_host *host;
    char *path;
    struct out_file file;
    ctd_text text; /* the lines of the batch in hand */
};

static void destroy(void *self)
{
    struct sink *s = self;
    if (s == NULL) {
        return;
    }
    out_file_close(&s->file);
    ctd_text_free(&s->text);
    free(s->path);
    free(s);
}

static ctd_status create(const ctd_host *host, const ctd_config *config, void **ret_self,
                         ctd_error *err)
{
    struct sink *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    s->host = host;
    s->text.limit = GATHER_MAX;
    s->path = ctd_cfg_dup(host, config, "file", NULL);
    out_file_init(&s->file, host, s->path);
    if (s->path == NULL || *s->path == '\0') {
        destroy(s);
        return ctd_fail(err, CTD_E_CONFIG, "\"file\" must be set");
    }
    *ret_self = s;
    return CTD_OK;
}

static ctd_status start(void *self, ctd_error *err)
{
    struct sink *s = self;
    return out_file_open(&s->file, err);
}

static ctd_status add_line(struct sink *s, const ctd_value *v, ctd_error *err)
{
    if (v->type == CTD_STRING) {
        ctd_text_append(&s->text, v->u.str, v->len);
    } else if (v->type == CTD_BYTES) {
        ctd_text_append(&s->text, v->u.bytes, v->len);
    } else {
        ctd_status rc = ctd_json_write(&s->text, v, err);
        if (rc != CTD_OK) {
            return rc;
        }
    }
    ctd_text_append(&s->text, "\n", 1);
    return s->text.status == CTD_OK ? CTD_OK
                                    : ctd_fail(err, CTD_E_NOMEM, "out of memory for lines");
}

/* All lines of the batch go out in one append, or none do: a failure leaves the batch to be
 * delivered again. */
static ctd_status put(void *self, ctd_batch *batch, ctd_error *err)
{
    struct sink *s = self;
    s->text.len = 0;
    s->text.status = CTD_OK;
    for (uint64_t i = 0; i < batch->n; i++) {
        ctd_status rc = add_line(s, &batch->records[i].value, err);
        if (rc != CTD_OK) {
            if (err != NULL) {
                err->record_index = rc == CTD_E_DATA ? (int64_t)i : -1;
            }
            return rc;
        }
    }
    return s->text.len == 0 ? CTD_OK : out_file_append(&s->file, s->text.ptr, s->text.len, err);
}

/* Durable on CTD_OK: the data is synced here, the name was when the file was opened. */
static ctd_status flush(void *self, ctd_assignment *inout, uint64_t n, ctd_error *err)
{
    struct sink *s = self;
    (void)inout;
    (void)n;
    ctd_status rc = out_file_sync(&s->file, err);
    return rc == CTD_OK ? out_file_follow(&s->file, err) : rc;
}

static ctd_status stop(void *self, ctd_error *err)
{
    struct sink *s = self;
    (void)err;
    out_file_close(&s->file);
    return CTD_OK;
}

static const ctd_config_key keys[] = {
    CTD_KEY(
        "file", CTD_CFG_STRING, CTD_CFGF_REQUIRED | CTD_CFGF_PATH, NULL,
        "The file to append to, created if it is not there (its folder must be). A relative path "
        "counts from the working directory of connectd."),
};

static const ctd_sink ops = {
    .base = {.struct_size = sizeof(ctd_sink), .create = create, .destroy = destroy},
    .start = start,
    .put = put,
    .flush = flush,
    .stop = stop,
};

static const char *const aliases[] = {"org.apache.kafka.connect.file.FileStreamSinkConnector",
                                      "FileStreamSinkConnector", NULL};

static const ctd_class classes[] = {{
    .struct_size = sizeof(ctd_class),
    .kind = CTD_KIND_SINK,
    .name = "FileStreamSink",
    .version = "0.1.0",
    .doc = "Appends each record's value to a file, one line a record.",
    .aliases = aliases,
    .config = keys,
    .n_config = sizeof(keys) / sizeof(keys[0]),
    .config_stride = sizeof(ctd_config_key),
    .ops = &ops.base,
}};

CTD_MODULE(classes, NULL)
