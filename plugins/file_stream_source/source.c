/*
 * FileStreamSource: the lines of one file as records.
 *
 * Threads: start, poll and stop run one at a time ([task]); cancel may come from anywhere: it sets
 * a flag under `lock` and wakes a poll that waits.
 *
 * Invariant: the offset that goes with a batch is the position behind everything that was consumed
 * for it, so a restart neither repeats nor leaves out a line. Lines that are too long are passed
 * over and reported as a data error by the poll after the batch that they stand in (at once when
 * nothing else is there): the host settles what it has before it fails the task, and so the offset
 * stored by then keeps the restarted task from meeting them again.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <connectd/sdk.h>

#include "base/clock.h"
#include "lines.h"
#include "tail.h"

/* A block holds several batches of common lines, and always one of the longest lines with CR and
 * LF. */
#define BLOCK_BYTES ((size_t)1 << 20)

struct source {
    const ctd_host *host;
    char *path, *topic;
    uint32_t batch_records;
    int64_t max_line_bytes;
    int64_t interval_ms;
    struct lines_pool *pool;
    struct tail tail;
    int report; /* lines were too long: the next poll says so */

    pthread_mutex_t lock;
    pthread_cond_t wake;
    int cancelled; /* poll returns CTD_E_CANCELLED */
};

static void destroy(void *self)
{
    struct source *s = self;
    if (s == NULL) {
        return;
    }
    tail_close(&s->tail);
    lines_pool_drop(s->pool);
    (void)pthread_cond_destroy(&s->wake);
    (void)pthread_mutex_destroy(&s->lock);
    free(s->path);
    free(s->topic);
    free(s);
}

static int init_wake(struct source *s)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0) {
        return -1;
    }
    int rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = rc == 0 ? pthread_cond_init(&s->wake, &attr) : rc;
    (void)pthread_condattr_destroy(&attr);
    return rc == 0 ? 0 : -1;
}

static ctd_status create(const ctd_host *host, const ctd_config *config, void **ret_self,
                         ctd_error *err)
{
    struct source *s = calloc(1, sizeof(*s));
    if (s == NULL || pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s);
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    if (init_wake(s) != 0) {
        (void)pthread_mutex_destroy(&s->lock);
        free(s);
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    s->host = host;
    s->path = ctd_cfg_dup(host, config, "file", NULL);
    s->topic = ctd_cfg_dup(host, config, "topic", NULL);
    s->batch_records = (uint32_t)ctd_cfg_i64(host, config, "batch.size", 2000);
    s->max_line_bytes = ctd_cfg_i64(host, config, "max.line.bytes", 1 << 20);
    s->interval_ms = ctd_cfg_i64(host, config, "poll.interval.ms", 100);
    tail_init(&s->tail, host, s->path, NULL, 0);
    if (s->path == NULL || s->topic == NULL || *s->path == '\0' || *s->topic == '\0') {
        destroy(s);
        return ctd_fail(err, CTD_E_CONFIG, "\"file\" and \"topic\" must both be set");
    }
    *ret_self = s;
    return CTD_OK;
}

/* Where the host says that reading should go on. Connect's own offsets have a position only. */
static ctd_status resume(struct source *s, ctd_error *err)
{
    const ctd_offsets *offsets = s->host->extension(s->host, CTD_EXT_OFFSETS);
    if (offsets == NULL) {
        ctd_log(s->host, CTD_LOG_WARN, "%s: the host keeps no offsets; reading from 0", s->path);
        return CTD_OK;
    }
    const ctd_value pair[2] = {ctd_v_cstr("filename"), ctd_v_cstr(s->path)};
    const ctd_value partition = ctd_v_map(pair, 1);
    ctd_value stored = ctd_v_null();
    ctd_status rc = offsets->get(s->host, &partition, &stored, err);
    if (rc != CTD_OK) {
        return rc;
    }
    if (ctd_v_is_null(&stored)) {
        return CTD_OK;
    }
    int64_t position = ctd_map_i64(&stored, "position", -1);
    if (position < 0) {
        return ctd_fail(
            err, CTD_E_CONFIG,
            "the stored offset of %s has no \"position\" of 0 or more; set it anew with "
            "the connector's offsets, for instance {\"position\":0}",
            s->path);
    }
    const ctd_value *inode = ctd_map_get(&stored, "inode");
    tail_resume(&s->tail, position, !ctd_v_is_null(inode),
                (uint64_t)ctd_map_i64(&stored, "device", 0),
                (uint64_t)ctd_map_i64(&stored, "inode", 0));
    return CTD_OK;
}

static ctd_status start(void *self, ctd_error *err)
{
    struct source *s = self;
    size_t longest = (size_t)s->max_line_bytes + 2;
    s->pool = lines_pool_new(s->topic, s->path, longest > BLOCK_BYTES ? longest : BLOCK_BYTES,
                             s->batch_records);
    if (s->pool == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "out of memory");
    }
    tail_init(&s->tail, s->host, s->path, s->pool, (size_t)s->max_line_bytes);
    return resume(s, err);
}

/* Waits for one interval, at most until the deadline, or until cancel(). */
static void wait_a_little(struct source *s, int64_t deadline_ms)
{
    int64_t until = clock_mono_ms() + s->interval_ms;
    if (until > deadline_ms) {
        until = deadline_ms;
    }
    const struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    (void)pthread_mutex_lock(&s->lock);
    while (!s->cancelled) {
        if (pthread_cond_timedwait(&s->wake, &s->lock, &at) == ETIMEDOUT) {
            break;
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
}

static int is_cancelled(struct source *s)
{
    (void)pthread_mutex_lock(&s->lock);
    int cancelled = s->cancelled;
    (void)pthread_mutex_unlock(&s->lock);
    return cancelled;
}

static ctd_status report_too_long(struct source *s, ctd_error *err)
{
    uint64_t n = s->tail.n_too_long;
    s->tail.n_too_long = 0;
    s->report = 0;
    char others[64] = "";
    if (n > 1) {
        (void)snprintf(others, sizeof(others), " (and %" PRIu64 " more after it)", n - 1);
    }
    return ctd_fail(
        err, CTD_E_DATA,
        "%s: the line at position %" PRId64 "%s has %" PRId64 " bytes, max.line.bytes is %" PRId64
        "; it is left out and reading goes on behind it (raise max.line.bytes and set "
        "the offset back to read it)",
        s->path, s->tail.too_long_at, others, s->tail.too_long_bytes, s->max_line_bytes);
}

static void hand_over(struct source *s, struct lines_batch *batch, ctd_batch *out)
{
    lines_batch_hand_over(batch, tail_position(&s->tail), (int64_t)s->tail.device,
                          (int64_t)s->tail.inode, out);
    s->report = s->tail.n_too_long > 0;
}

static ctd_status poll(void *self, uint32_t max_records, uint32_t timeout_ms, ctd_batch *out,
                       ctd_error *err)
{
    struct source *s = self;
    int64_t deadline = clock_mono_ms() + timeout_ms;
    uint32_t max = max_records < s->batch_records ? max_records : s->batch_records;
    *out = (ctd_batch){.n = 0};
    for (;;) {
        if (is_cancelled(s)) {
            return CTD_E_CANCELLED;
        }
        if (s->report) {
            return report_too_long(s, err);
        }
        struct lines_batch *batch = NULL;
        ctd_status rc = tail_read(&s->tail, max, &batch, err);
        if (rc != CTD_OK) {
            return rc;
        }
        if (batch != NULL) {
            hand_over(s, batch, out);
            return CTD_OK;
        }
        if (s->tail.n_too_long > 0) {
            return report_too_long(s, err); /* nothing follows that could carry the offset */
        }
        if (clock_mono_ms() >= deadline) {
            return CTD_OK;
        }
        wait_a_little(s, deadline);
    }
}

static void cancel(void *self)
{
    struct source *s = self;
    (void)pthread_mutex_lock(&s->lock);
    s->cancelled = 1;
    (void)pthread_cond_broadcast(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
}

static ctd_status stop(void *self, ctd_error *err)
{
    struct source *s = self;
    (void)err;
    tail_close(&s->tail);
    return CTD_OK;
}

static const ctd_config_key keys[] = {
    CTD_KEY("file", CTD_CFG_STRING, CTD_CFGF_REQUIRED | CTD_CFGF_PATH, NULL,
            "The file to read. It need not exist yet. A relative path counts from the working "
            "directory of connectd."),
    CTD_KEY("topic", CTD_CFG_STRING, CTD_CFGF_REQUIRED, NULL, "The topic that the lines go to."),
    CTD_KEY_RANGE("batch.size", CTD_CFG_I64, 0, "2000", 1, 100000,
                  "Lines that become durable together, at most."),
    CTD_KEY_RANGE("max.line.bytes", CTD_CFG_BYTES, 0, "1048576", 1, 33554432,
                  "The longest line. A longer one is left out and reported as a data error."),
    CTD_KEY_RANGE("poll.interval.ms", CTD_CFG_DURATION_MS, 0, "100", 1, 60000,
                  "How often the file is looked at while it has nothing new."),
};

static const ctd_source ops = {
    .base = {.struct_size = sizeof(ctd_source), .create = create, .destroy = destroy},
    .start = start,
    .poll = poll,
    .cancel = cancel,
    .stop = stop,
};

static const char *const aliases[] = {"org.apache.kafka.connect.file.FileStreamSourceConnector",
                                      "FileStreamSourceConnector", NULL};

static const ctd_class classes[] = {{
    .struct_size = sizeof(ctd_class),
    .kind = CTD_KIND_SOURCE,
    .name = "FileStreamSource",
    .version = "0.1.0",
    .doc = "Follows a text file: each line becomes a record, through renames and truncations.",
    .aliases = aliases,
    .config = keys,
    .n_config = sizeof(keys) / sizeof(keys[0]),
    .config_stride = sizeof(ctd_config_key),
    .flags = CTD_CLASSF_SINGLE_TASK,
    .ops = &ops.base,
}};

CTD_MODULE(classes, NULL)
