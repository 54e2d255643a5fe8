/* Failures on their way to LINK_FAILED. No state; any thread. */
#include "runner_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int fill(struct runner_fail *f, int stage, int status, uint32_t abi)
{
    *f = (struct runner_fail){
        .status = status, .stage = stage, .abi = abi, .record_index = -1, .retry_after_ms = -1};
    return status;
}

int runner_fail_set(struct runner_fail *f, int stage, int status, const char *fmt, ...)
{
    fill(f, stage, status, 0);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(f->message, sizeof(f->message), fmt, ap);
    va_end(ap);
    return status;
}

int runner_fail_abi(struct runner_fail *f, int stage, const char *fmt, ...)
{
    fill(f, stage, CTD_E_FATAL, 1);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(f->message, sizeof(f->message), fmt, ap);
    va_end(ap);
    return f->status;
}

int runner_fail_err(struct runner_fail *f, int stage, const struct err *err)
{
    fill(f, stage, err->code != 0 ? err->code : ERR_FATAL, 0);
    f->sys_errno = err->sys_errno;
    (void)snprintf(f->message, sizeof(f->message), "%s", err->msg);
    return f->status;
}

int runner_fail_call(struct runner_fail *f, int stage, ctd_status status, const ctd_error *e)
{
    if (status > 0) {
        return runner_fail_abi(f, stage, "%s() returned %d, which is no status",
                               link_stage_name(stage), status);
    }
    if (memchr(e->message, '\0', sizeof(e->message)) == NULL) {
        return runner_fail_abi(f, stage, "%s() failed with a message that doesn't end",
                               link_stage_name(stage));
    }
    fill(f, stage, status >= CTD_E_FENCED ? status : CTD_E_FATAL, 0);
    f->sys_errno = e->sys_errno;
    f->record_index = e->record_index;
    f->retry_after_ms = e->retry_after_ms;
    if (!str_is_utf8(e->message, strlen(e->message))) {
        return runner_fail_abi(f, stage, "%s() failed with a message that isn't UTF-8",
                               link_stage_name(stage));
    }
    if (e->message[0] == '\0') {
        (void)snprintf(f->message, sizeof(f->message), "%s() failed (%s) without a message",
                       link_stage_name(stage), err_name(status));
    } else {
        (void)snprintf(f->message, sizeof(f->message), "%s", e->message);
    }
    return f->status;
}

void runner_fail_prefix(struct runner_fail *f, const char *fmt, ...)
{
    char front[512];
    char old[sizeof(f->message)];
    memcpy(old, f->message, sizeof(old));
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(front, sizeof(front), fmt, ap);
    va_end(ap);
    size_t n = strlen(front);
    memcpy(f->message, front, n);
    size_t len = strnlen(old, sizeof(f->message) - n - 3);
    memcpy(f->message + n, ": ", 2);
    memcpy(f->message + n + 2, old, len);
    f->message[n + 2 + len] = '\0';
}

void runner_error_preset(ctd_error *e)
{
    memset(e, 0, sizeof(*e));
    e->record_index = -1;
    e->retry_after_ms = -1;
}
