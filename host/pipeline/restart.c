/* Failures and when to try again. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "pipeline/pipeline_int.h"

#define CRASH_LOOP_WINDOW_MS ((int64_t)10 * 60 * 1000)
#define HEALTHY_MS           ((int64_t)5 * 60 * 1000)
#define LONGEST_WISH_MS      ((int64_t)24 * 3600 * 1000) /* of a plugin's retry_after_ms */

/* What plugins say is shown as JSON text: bytes that are not UTF-8 become '?'. */
static void repair_utf8(char *text)
{
    for (size_t i = 0; text[i] != '\0';) {
        size_t n = 0;
        for (size_t len = 1; len <= 4 && n == 0; len++) {
            n = strnlen(text + i, len) == len && str_is_utf8(text + i, len) ? len : 0;
        }
        if (n == 0) {
            text[i] = '?';
            n = 1;
        }
        i += n;
    }
}

const char *pipeline_cause(int status, int abi)
{
    if (abi) {
        return "abi";
    }
    switch (status) {
    case ERR_CONFIG:
        return "config";
    case ERR_DATA:
    case ERR_LIMIT:
    case ERR_CORRUPT:
        return "data";
    case ERR_IO:
    case ERR_NOSPC:
        return "io";
    case ERR_RETRIABLE:
    case ERR_STALE:
    case ERR_TIMEOUT:
    case ERR_BUSY:
        return "retriable";
    case ERR_NOMEM:
        return "memory";
    case ERR_UNSUPPORTED:
        return "unsupported";
    case ERR_FENCED:
        return "fenced";
    default:
        return "fatal";
    }
}

void pipeline_failure_set(struct failure *f, const char *cause, int stage, const char *message,
                          int64_t record_index)
{
    int64_t now = clock_wall_ms();
    int again = f->present && f->stage == stage && strcmp(f->cause, cause) == 0;
    f->count = again ? f->count + 1 : 1;
    if (!again) {
        f->first_ms = now;
    }
    f->present = 1;
    f->last_ms = now;
    f->stage = stage;
    f->record_index = record_index;
    (void)snprintf(f->cause, sizeof(f->cause), "%s", cause);
    (void)snprintf(f->message, sizeof(f->message), "%s", message);
    repair_utf8(f->message);
}

/* 20 % up or down, from the low bits of the clock: nothing here has to be unpredictable. */
static int64_t jitter(int64_t ms)
{
    int64_t permille = 800 + clock_mono_ns() / 1000 % 401;
    return ms * permille / 1000;
}

int64_t pipeline_restart_failed(struct restart *r, const struct connector *c,
                                int64_t retry_after_ms, int *ret_condition)
{
    int64_t now = clock_mono_ms();
    r->running_since_ms = 0;
    int slot = r->n_failed++ % 5;
    r->failed_ms[slot] = now;
    int64_t oldest = r->failed_ms[(slot + 1) % 5];
    int looping = r->n_failed >= 5 && now - oldest <= CRASH_LOOP_WINDOW_MS;
    *ret_condition = looping ? CONDITION_CRASH_LOOP : CONDITION_NONE;
    const char *policy = pipeline_kv_get(&c->effective, "restart.policy");
    if (policy != NULL && strcmp(policy, "never") == 0) {
        r->next_wall_ms = 0;
        return -1;
    }
    int64_t first = pipeline_connector_number(c, "restart.backoff.ms", 1000);
    int64_t most = pipeline_connector_number(c, "restart.backoff.max.ms", 60000);
    int64_t wait = r->backoff_ms > 0 ? r->backoff_ms : first;
    wait = wait > most ? most : wait;
    r->backoff_ms = wait * 2 > most ? most : wait * 2;
    wait = jitter(wait);
    if (retry_after_ms > wait) {
        wait = retry_after_ms < LONGEST_WISH_MS ? retry_after_ms : LONGEST_WISH_MS;
    }
    r->next_wall_ms = clock_wall_ms() + wait;
    return wait;
}

void pipeline_restart_running(struct restart *r)
{
    r->running_since_ms = clock_mono_ms();
    r->next_wall_ms = 0;
}

int pipeline_restart_healthy(struct restart *r)
{
    if (r->n_failed == 0 || r->running_since_ms == 0 ||
        clock_mono_ms() - r->running_since_ms < HEALTHY_MS) {
        return 0;
    }
    r->n_failed = 0;
    r->backoff_ms = 0;
    return 1;
}
